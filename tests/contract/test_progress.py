"""Progress: a pace from what was seen, lines without a terminal, bars with one, other processes through their files."""

import io

from rich.console import Console

from pilotage.run.log import RunLog
from pilotage.run.progress import Follower, Progress, follow


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def shown(runs, *, terminal=False):
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None, legacy_windows=False)
    return out, clock, Progress(runs, console=console, clock=clock)


def test_a_line_every_ten_seconds():
    out, clock, progress = shown({"nft seed 0": 100})
    with progress:
        watch = progress.watch("nft seed 0")
        watch(0, {"eval/accuracy": 0.123, "eval/low": 0.1})
        for step in range(1, 41):
            clock.now += 1
            watch(step, {"train/reward": -0.5})
    lines = out.getvalue().splitlines()
    assert lines[0] == "nft seed 0 10/100 (reward −0.5, held-out accuracy 12.3 %) · 90 s left"
    assert len(lines) == 5  # after 10, 20, 30 and 40 seconds, and at the end


def test_a_resumed_run_is_timed_from_where_it_began():
    _, clock, progress = shown({"a": 100})
    progress.update("a", 90, {})
    assert progress.meters["a"].left(0.0) is None
    clock.now = 10
    progress.update("a", 92, {})
    assert progress.meters["a"].left(clock.now) == 40  # 5 s a step, 8 steps
    progress.update("a", 100, {})
    assert progress.meters["a"].left(clock.now) == 0


def test_bars_in_a_terminal():
    out, clock, progress = shown({"nft [0]": 10, "grpo [0]": 10}, terminal=True)
    with progress:
        progress.update("nft [0]", 1, {})
        clock.now += 3
        progress.update("nft [0]", 4, {"eval/return": 12.5})
        progress.update("grpo [0]", 10, {"train/reward": None})
    text = out.getvalue()
    assert "nft [0]" in text
    assert "6 s left" in text
    assert "held-out return 12.5" in text
    assert "finished" in text


def test_runs_of_other_processes_are_followed(tmp_path):
    out, _, progress = shown({"a": 10, "b": 10})
    follower = Follower(progress, {"a": tmp_path / "a", "b": tmp_path / "b"})
    follower.poll()  # neither has begun
    with RunLog.create(tmp_path / "a", {}) as log:
        log.record(3, "train", {"train/reward": 1.0})
        follower.poll()
        assert progress.meters["a"].step == 3
        log.stream.write('{"step": 4, "kind"')
        log.stream.flush()
        follower.poll()
        assert progress.meters["a"].step == 3
        log.stream.write(': "train"}\nnot json\n[1]\n')
        log.stream.flush()
        follower.poll()
        assert progress.meters["a"].step == 4
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 5}\n')  # cut back
    follower.poll()
    assert progress.meters["a"].step == 5
    assert progress.meters["b"].since is None
    progress.__exit__()
    assert out.getvalue() == "0 of 2 runs finished · a 5/10 (reward 1)\n"


def test_following_ends_with_the_runs(tmp_path):
    with RunLog.create(tmp_path / "a", {}) as log:
        log.record(2, "train", {})
    answers = iter([True, True, False])
    out = io.StringIO()
    follow({"a": tmp_path / "a"}, {"a": 2}, lambda: next(answers), console=Console(file=out), interval=0.01)
    assert out.getvalue() == "a 2/2\n"


def test_the_time_left_counts_runs_that_wait():
    out, clock, progress = shown({"a": 10, "b": 10})
    progress.update("a", 0, {})
    clock.now += 5
    progress.update("a", 5, {})
    assert progress.left(clock.now) == 15  # 5 of 20 steps took 5 seconds
    clock.now += 5
    progress.update("a", 10, {"train/reward": 0.5})
    assert out.getvalue() == "1 of 2 runs finished · 10 s left\n"


def test_a_run_without_steps_has_ended_once_it_is_judged():
    out, clock, progress = shown({"a": 0, "b": 0})
    with progress:
        clock.now += 11
        progress.update("a", 0, {"eval/success": 1.0})
    assert not progress.meters["b"].ended
    assert out.getvalue().splitlines()[0].startswith("1 of 2 runs finished")
