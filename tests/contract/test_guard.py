"""Verifiers that hang, raise, die or talk cost one verdict each, and the child never outlives its parent."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task, Text, Verdict
from pilotage.worlds.guard import Child
from pilotage.worlds.text import TextWorld

WORLDS = '''
"""Worlds whose verifier does what the answer says."""

import os, re, signal, sys, time

from pilotage.data.tasks import Task, Text, Verdict
from pilotage.worlds.text import TextWorld


class Obedient(TextWorld):
    observation = Text(5, "0123456789=")
    action = Text(4, "0123456789")

    def __init__(self, *, bonus=0.0, **rest):
        super().__init__(**rest)
        self.bonus = bonus

    def make(self, rng):
        number = str(rng.integers(1000))
        return Task(prompt=f"{number}=", answer=number, payload={"twice": [int(number)] * 2})

    def verify(self, task, answer):
        if answer == "hang":
            while True:
                pass
        if answer == "hang in C":
            re.match(r"(a+)+$", "a" * 60 + "b")
        if answer == "sleep through alarms":
            signal.setitimer(signal.ITIMER_REAL, 0)
            time.sleep(600)
        if answer == "raise":
            raise ValueError("what is this?")
        if answer == "exit":
            sys.exit(3)
        if answer == "die":
            os._exit(3)
        if answer == "shoot":
            os.kill(os.getpid(), signal.SIGSEGV)
        if answer == "eat":
            bytearray(10**12)
        if answer == "recurse":
            return self.verify(task, answer)
        if answer == "print":
            print("chatter" * 100)
            sys.stdout.flush()
            os.write(1, b"[0.5, null]\\n")
        if answer == "read":
            return float(len(sys.stdin.read()))
        if answer == "torch":
            return float("torch" in sys.modules)
        if answer == "payload":
            return float(task.payload["twice"] == [int(task.answer)] * 2)
        special = {"nan": float("nan"), "inf": float("inf"), "none": None, "text": "five", "verdict": Verdict(0.25),
                   "nan verdict": Verdict(float("nan")), "invalid": Verdict.invalid("cannot say")}
        return special[answer] if answer in special else float(answer == task.answer) + self.bonus


class Careless(Obedient):
    """Whose __init__ calls no other."""

    def __init__(self, *, bonus=0.0):
        self.bonus = bonus


class Broken(Obedient):
    def __init__(self, *, fails_in=0):
        if os.getpid() != fails_in:
            raise RuntimeError("no such file")


class Slow(Obedient):
    def __init__(self, *, parent=0):
        super().__init__()
        if os.getpid() != parent:
            time.sleep(30)
'''


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("worlds")
    (folder / "guarded_worlds.py").write_text(WORLDS)
    sys.path.append(str(folder))
    yield importlib.import_module("guarded_worlds")
    sys.path.remove(str(folder))
    del sys.modules["guarded_worlds"]


def judge(world: Any, *answers: str) -> list[Verdict]:
    tasks = [world.task(index, "train") for index in range(len(answers))]
    found: list[Verdict] = world.judge(list(zip(tasks, answers, strict=True)))
    return found


@pytest.fixture
def world(worlds: ModuleType) -> Iterator[Any]:
    made = worlds.Obedient(time_limit=1.0)
    yield made
    made.close()


def test_right_and_wrong(world: Any) -> None:
    tasks = [world.task(index, "train") for index in range(50)]
    answers = [task.answer if index % 2 else "wrong" for index, task in enumerate(tasks)]
    world.reset(tasks, range(50))
    outcome = world.step(answers, range(50))
    assert outcome.reward.tolist() == [0.0, 1.0] * 25
    assert outcome.terminated.all()
    assert not outcome.truncated.any()
    assert outcome.invalid == {}
    assert judge(world, "torch", "payload", "verdict") == [Verdict(0.0), Verdict(1.0), Verdict(0.25)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("raise", "raised ValueError: what is this?"),
        ("exit", "raised SystemExit: 3"),
        ("eat", "raised MemoryError"),
        ("recurse", "raised RecursionError"),
        ("nan", "returned nan"),
        ("inf", "returned inf"),
        ("nan verdict", "returned nan"),
        ("none", "raised TypeError"),
        ("text", "raised ValueError"),
        ("invalid", "cannot say"),
        ("die", "died (exit status 3)"),
        ("shoot", "died (SIGSEGV)"),
        ("hang", "timed out after 1 s"),
        ("hang in C", "timed out after 1 s"),
        ("sleep through alarms", "timed out after 1 s"),
    ],
)
def test_one_bad_answer_costs_one_verdict(world: Any, answer: str, reason: str) -> None:
    started = time.monotonic()
    first, bad, last = judge(world, "x", answer, "y")
    assert time.monotonic() - started < 6
    assert first == last == Verdict(0.0)
    assert not bad.valid
    assert reason in bad.reason


def test_several_bad_answers_in_one_message(world: Any) -> None:
    tasks = [world.task(index, "train") for index in range(8)]
    answers = ["hang", tasks[1].answer, "die", "hang", tasks[4].answer, "die", "raise", tasks[7].answer]
    world.reset(tasks, range(8))
    outcome = world.step(answers, range(8))
    assert sorted(outcome.invalid) == [0, 2, 3, 5, 6]
    assert outcome.reward.tolist() == [0, 1, 0, 0, 1, 0, 0, 1]
    assert outcome.terminated.all()


def test_what_a_verifier_prints_is_no_verdict_and_it_has_nothing_to_read(world: Any) -> None:
    assert judge(world, "print", "read", "x") == [Verdict(0.0)] * 3


def test_long_and_odd_answers_arrive(world: Any) -> None:
    task = Task(prompt="", answer="\ud800\0\n\r\u2028" + "9" * 1_000_000)
    assert world.judge([(task, task.answer), (task, "no"), (task, task.answer)]) == [
        Verdict(1.0),
        Verdict(0.0),
        Verdict(1.0),
    ]


def test_settings_reach_the_child_also_past_a_careless_init(worlds: ModuleType) -> None:
    for kind in (worlds.Obedient, worlds.Careless):
        world = kind(bonus=0.5)
        assert judge(world, "wrong") == [Verdict(0.5)]
        world.close()


def test_a_killed_child_is_replaced(world: Any) -> None:
    judge(world, "x")
    child = world._guard._child.process
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert judge(world, "x", "y") == [Verdict(0.0)] * 2


def test_an_interrupted_batch_leaves_no_verdicts_behind(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hear, heard = Child.hear, []

    def interrupted(child: Child, seconds: float) -> Any:
        heard.append(hear(child, seconds))
        if len(heard) == 3:
            raise KeyboardInterrupt
        return heard[-1]

    monkeypatch.setattr(Child, "hear", interrupted)
    tasks = [world.task(index, "train") for index in range(4)]
    with pytest.raises(KeyboardInterrupt):
        world.judge([(task, "wrong") for task in tasks])
    assert world.judge([(task, task.answer) for task in tasks]) == [Verdict(1.0)] * 4


def own_children() -> set[str]:
    """Processes that this thread started and has not waited for."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_no_zombies_and_no_open_pipes(worlds: ModuleType) -> None:
    before, children = set(os.listdir("/proc/self/fd")), own_children()
    world = worlds.Obedient(time_limit=0.3)
    judge(world, "hang", "die", "x", "hang")
    world.close()
    judge(world, "x")  # closed worlds start again
    child = world._guard._child.process
    del world
    gc.collect()
    assert child.returncode is not None  # waited for when the world went
    assert set(os.listdir("/proc/self/fd")) <= before
    assert own_children() <= children  # zombies are children too; a helper of multiprocessing may have been there


def test_start_up_failures_say_what_went_wrong(worlds: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="could not make the world: RuntimeError: no such file"):
        judge(worlds.Broken(fails_in=os.getpid()), "x")
    monkeypatch.setattr("pilotage.worlds.guard.START_SECONDS", 1.0)
    with pytest.raises(UsageError, match="did not start within 1 s"):
        judge(worlds.Slow(parent=os.getpid()), "x")
    world = worlds.Obedient(bonus=object())
    with pytest.raises(UsageError, match="have to be JSON"):
        judge(world, "x")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # where there is no init to wait for orphans, a zombie is dead enough


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize("busy", ["", "hang", "hang in C"])
def test_the_child_does_not_outlive_a_killed_parent(worlds: ModuleType, busy: str) -> None:
    script = f"""
        import guarded_worlds, threading
        world = guarded_worlds.Obedient(time_limit=1.5)
        task = world.task(0, "train")
        world.judge([(task, "x")])
        print(world._guard._child.process.pid, flush=True)
        world.judge([(task, {busy!r})]) if {busy!r} else None
        input()
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(str(worlds.__file__)).parent)])}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    assert alive(child)
    parent.kill()
    parent.communicate()
    assert gone_within(child, 8)


class Here(TextWorld):
    observation = action = Text()

    def make(self, rng: Any) -> Task:
        return Task(prompt=str(rng.integers(100)))

    def verify(self, task: Task, answer: str) -> float:
        if answer == "raise":
            raise ValueError("here")
        return float(os.getpid())


def test_a_class_no_other_process_can_import_is_verified_here_with_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Here, "__module__", "__main__")
    world = Here()
    with caplog.at_level(logging.WARNING):
        verdicts = judge(world, "x", "raise")
        judge(world, "x")
    assert verdicts[0].reward == os.getpid()
    assert verdicts[1].reason == "the verifier raised ValueError: here"
    assert [r.message for r in caplog.records if "without a time limit" in r.message] == [caplog.records[0].message]


def test_without_a_limit_there_is_no_process(worlds: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    world = worlds.Obedient(time_limit=None)
    assert judge(world, "nan", "x")[1] == Verdict(0.0)
    assert world._guard._child is None
    assert not caplog.records
