"""Preference files from the command line: one line for each mistake, status 2, and a run where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = json.dumps({"prompt": "1+1=", "chosen": "2", "rejected": "3"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "pairs.jsonl holds no pair: each line is an object with prompt, chosen, rejected"),
        ("\n\n", "holds no pair"),
        (GOOD + "\n{'prompt': 1}\n", "pairs.jsonl, line 2: not JSON"),
        (GOOD + "\n\n" + GOOD[:-1] + "\n", "pairs.jsonl, line 3: not JSON"),
        ("[1, 2]", "line 1: an object with prompt, chosen, rejected is needed, not list"),
        (json.dumps({"prompt": "a", "chosen": "b"}), "line 1: 'rejected' is missing"),
        (json.dumps({"promt": "a", "chosen": "b", "rejected": "c"}), "'prompt' is missing; did you mean 'promt'?"),
        (json.dumps({"prompt": "a", "chosen": "b", "rejected": "b"}), "line 1: chosen and rejected are the same"),
        (
            json.dumps({"prompt": "a", "chosen": 2, "rejected": "b"}),
            "line 1: 'chosen' is a text or a list of one message",
        ),
        (json.dumps({"prompt": "a", "chosen": [], "rejected": "b"}), "'chosen' is a text or a list of one message"),
    ],
)
def test_one_line_and_status_2(pilotage: Callable, own_folder: Path, text: str, said: str) -> None:
    (own_folder / "pairs.jsonl").write_text(text)
    found = pilotage("train", "dpo", "--world", "pairs:pairs.jsonl", "--out", "run")
    assert (found.status, found.out) == (2, "")
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert [path.name for path in own_folder.iterdir()] == ["pairs.jsonl"]


def test_bytes_that_are_no_text(pilotage: Callable, own_folder: Path) -> None:
    (own_folder / "pairs.jsonl").write_bytes(b"\xff\xfe\x00")
    found = pilotage("train", "dpo", "--world", "pairs:pairs.jsonl")
    assert (found.status, "is not UTF-8" in found.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--world", "pairs:none.jsonl"], "cannot read none.jsonl: No such file or directory"),
        (["--world", "pairs"], "which one? for example pairs:FILE.jsonl"),
        (["--world", "game:bloto"], "there is no game 'bloto'; did you mean 'blotto'?"),
        (["--world", "gym:CartPole-v1"], "dpo is for worlds of kind text"),
        (["--world", "reasoning:chain_sum", "--set", "credit.pairs.rule=best"], "rule 'best' is not one of random"),
        (["--world", "reasoning:chain_sum", "--set", "terms.policy.unit=pair"], "unit is group, or empty"),
        (["--world", "reasoning:chain_sum", "--set", "rollout.tasks=0"], "tasks is at least 1, not 0"),
        (
            ["--world", "reasoning:chain_sum", "--set", "rollout=pilotage.rollouts.pairs:Given", "--set", "start=none"],
            "ReasoningWorld has no pairs of answers",
        ),
    ],
)
def test_mistakes_of_the_family(pilotage: Callable, own_folder: Path, arguments: list[str], said: str) -> None:
    found = pilotage("train", "dpo", *arguments, "--out", "run")
    assert found.status == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not (own_folder / "run").exists()


def test_a_file_is_trained_on(pilotage: Callable, own_folder: Path) -> None:
    lines = [json.dumps({"prompt": f"{i}=", "chosen": str(i), "rejected": str(i + 1)}) for i in range(60)]
    (own_folder / "pairs.jsonl").write_text("\n".join(lines))
    small = ("start=none", "hidden=16", "layers=1", "heads=2", "prompts_per_step=8", "evaluation.tasks=2")
    settings = [part for setting in small for part in ("--set", setting)]
    found = pilotage("train", "dpo", "--world", "pairs:pairs.jsonl", "--steps", "3", *settings, "--out", "run")
    assert found.status == 0, found.err
    records = [json.loads(line) for line in (own_folder / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [record for record in records if record["kind"] == "train"]
    assert [record["labels/made"] for record in trained] == [8.0] * 3
    judged = [record for record in records if record["kind"] == "eval"]
    assert 0 < judged[0]["pairs/count"] < 60
    assert judged[0]["pairs/preferred"] == 0.0  # nothing has moved yet
    (own_folder / "pairs.jsonl").write_text(lines[0])
    again = pilotage("resume", "run")
    assert again.status == 2
    assert "is not the file this recipe was made with" in again.err
