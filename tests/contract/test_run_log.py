"""Run folders: whole after a kill, cut back on resume, and read with clear complaints."""

import json
import subprocess

import numpy as np
import pytest
import torch

from pilotage.data.piece import UsageError
from pilotage.run.log import (
    RunLog,
    curve,
    read_manifest,
    read_metrics,
    read_recipe,
    read_transcripts,
)
from pilotage.run.provenance import command_line, git_commit


def written(folder, steps=5):
    with RunLog.create(folder, {"method": "grpo", "seed": 1}) as log:
        for step in range(steps + 1):
            log.record(step, "eval", {"eval/accuracy": step / 10, "eval/items": np.array([0.0, 1.0])})
            log.record(step, "train", {"train/reward": torch.tensor(float(step)), "seconds": 0.5 * step})
            log.transcripts(step, [{"prompt": "1+1=", "answer": "2", "reward": 1.0, "stop": "terminated"}])
    return folder


def test_what_is_written_is_read(tmp_path):
    folder = written(tmp_path / "run")
    assert read_recipe(folder) == {"method": "grpo", "seed": 1}
    records = read_metrics(folder)
    assert records[2] == {"step": 1, "kind": "eval", "eval/accuracy": 0.1, "eval/items": [0.0, 1.0]}
    steps, values = curve(folder, "eval/accuracy")
    assert steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.allclose(values, steps / 10)
    seconds, rewards = curve(folder, "train/reward", x="seconds")
    assert (seconds * 2 == rewards).all()
    assert [t["step"] for t in read_transcripts(folder)] == [0, 1, 2, 3, 4, 5]
    assert read_transcripts(folder, 3)[0]["answer"] == "2"


def test_each_line_is_there_at_once(tmp_path):
    log = RunLog.create(tmp_path / "run", {})
    log.record(1, "train", {"x": 1.0})
    assert len(read_metrics(tmp_path / "run")) == 1
    log.close()
    log.close()


def test_numbers_that_are_not_finite_become_null_with_a_flag(tmp_path):
    with RunLog.create(tmp_path / "run", {}) as log:
        values = {
            "a": float("nan"),
            "b": torch.tensor([1.0, float("inf")]),
            "c": np.float32("-inf"),
            "d": 1.0,
            "e": None,
        }
        log.record(1, "train", values)
    line = (tmp_path / "run" / "metrics.jsonl").read_text()
    record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert record["not_finite"] == {"a": "nan", "b/1": "inf", "c": "-inf"}
    assert (record["a"], record["b"], record["c"], record["d"], record["e"]) == (None, [1.0, None], None, 1.0, None)
    assert np.isnan(curve(tmp_path / "run", "a")[1]).all()


def test_resume_drops_later_records_and_transcripts(tmp_path):
    folder = written(tmp_path / "run")
    with RunLog.resume(folder, 2) as log:
        log.record(3, "train", {"train/reward": -1.0})
    assert curve(folder, "train/reward")[1].tolist() == [0, 1, 2, -1]
    assert [t["step"] for t in read_transcripts(folder)] == [0, 1, 2]
    assert [entry["step"] for entry in read_manifest(folder)["resumed"]] == [2]


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    folder = written(tmp_path / "run")
    RunLog.resume(folder, None).close()
    assert read_metrics(folder) == []
    assert read_transcripts(folder) == []


@pytest.mark.parametrize("torn", [b'{"step": 6, "kind": "tr', b'{"step"', "é".encode()[:1], b"\0" * 50])
def test_a_torn_last_line_is_left_out_and_then_removed(tmp_path, torn):
    folder = written(tmp_path / "run")
    whole = (folder / "metrics.jsonl").read_bytes()
    for tail in (torn, torn + b"\n"):
        (folder / "metrics.jsonl").write_bytes(whole + tail)
        assert len(read_metrics(folder)) == 12
    RunLog.resume(folder, 5).close()
    assert (folder / "metrics.jsonl").read_bytes() == whole


def test_a_whole_record_without_its_newline_was_never_finished(tmp_path):
    folder = written(tmp_path / "run")
    (folder / "metrics.jsonl").write_bytes((folder / "metrics.jsonl").read_bytes() + b'{"step": 1}')
    assert len(read_metrics(folder)) == 12


def test_damage_in_the_middle_is_named(tmp_path):
    folder = written(tmp_path / "run")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[3] = lines[3][:10]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"metrics\.jsonl is damaged at line 4"):
        read_metrics(folder)


def test_line_separators_inside_text_do_not_split_a_record(tmp_path):
    with RunLog.create(tmp_path / "run", {}) as log:
        log.transcripts(1, [{"prompt": "a\u2028b\n\x85", "answer": "\ud83d", "reward": 0.0, "stop": "length"}])
    assert read_transcripts(tmp_path / "run")[0]["prompt"] == "a\u2028b\n\x85"


def test_used_folders_are_refused(tmp_path):
    folder = written(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"`pilotage resume {folder}`, or choose another --out"):
        RunLog.create(folder, {})
    (tmp_path / "mine").mkdir()
    RunLog.create(tmp_path / "mine", {}).close()  # empty: fine
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not empty; choose another --out"):
        RunLog.create(tmp_path / "other", {})
    with pytest.raises(UsageError, match="is a file"):
        RunLog.create(tmp_path / "other" / "thesis.tex", {})


def test_complaints_of_the_reader(tmp_path):
    folder = written(tmp_path / "run")
    with pytest.raises(UsageError, match="has no metric 'eval/acuracy'; did you mean 'eval/accuracy'"):
        curve(folder, "eval/acuracy")
    for reader in (read_metrics, read_recipe, read_manifest):
        with pytest.raises(UsageError, match="is not a run folder"):
            reader(tmp_path)
    (folder / "recipe.json").write_text("{")
    with pytest.raises(UsageError, match=r"recipe\.json is damaged"):
        read_recipe(folder)
    (folder / "manifest.json").write_text('{"schema": 2}')
    with pytest.raises(UsageError, match="newer pilotage"):
        read_manifest(folder)


def test_the_manifest_says_where_the_run_came_from(tmp_path):
    manifest = read_manifest(written(tmp_path / "run"))
    assert {"schema", "command", "commit", "versions", "platform", "started"} <= set(manifest)
    assert {"python", "torch", "numpy", "pilotage"} <= set(manifest["versions"])


def test_secrets_and_names_of_machines_stay_out(tmp_path, monkeypatch):
    import platform
    from pathlib import Path

    command = ["/home/me/bin/pilotage", "train", "--api-key", "abc1", "--hub-token=abc2", "--password", "abc3"]
    command += ["--set", "max_tokens=64", "--tokens-per-step", "8", "--url", "https://me:abc4@host/x"]
    command += [f"--out={Path.home()}/runs", "AUTH=abc5"]
    monkeypatch.setattr("sys.argv", command)
    shown = " ".join(command_line())
    assert "abc" not in shown
    assert shown.startswith("pilotage train --api-key (hidden) --hub-token=(hidden)")
    assert "max_tokens=64 --tokens-per-step 8" in shown
    assert "--out=~/runs" in shown
    text = json.dumps(read_manifest(written(tmp_path / "run")))
    assert "abc" not in text
    assert len(platform.node()) < 4 or platform.node() not in text


def test_git_commit(tmp_path):
    assert git_commit(tmp_path / "missing") is None
    if git_commit(tmp_path) is not None:
        pytest.skip("the temporary folder is inside a repository")

    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-modified"
