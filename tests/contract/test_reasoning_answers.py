"""What is accepted and what is not, for every data set that this repository trains on, through the verifier process."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pilotage.data.tasks import Task
from pilotage.worlds.reasoning import SHORT, ReasoningWorld

ROOT = Path(__file__).parents[2]
SECONDS = 6.0  # for an answer; those that hang take all of it, so there are few


@dataclass(frozen=True)
class Answers:
    """For a problem whose answer is `right`: what is accepted beside it, what is rejected, and what tries to cheat."""

    right: str
    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    tricks: tuple[str, ...] = ()
    hanging: tuple[str, ...] = ()  # the verifier has to be stopped: invalid, which is worth nothing
    options: dict[str, Any] = field(default_factory=dict)


def number(right: str, *, near: tuple[str, ...]) -> Answers:
    """Of a data set whose answers are whole numbers, worked before `;`."""
    return Answers(
        right,
        accepted=(f"1;2;{right}", f";{right}", f" {right} ", f"{right};{right}"),
        rejected=(*near, f"{right};", f"-{right}", f"{right}{right}", f"{right} {right}", f"{right}=", f"={right}"),
        tricks=(
            f"{right};0", f"{right} or 0", f"0 {right} 1", f"{right}+0", f"({right})", f"[{right}]", f"{{{right}}}",
            f"{right}e0e0", f"{right}/1", f"the answer is {right}", f"<answer>{right}</answer>", f"\\boxed{{{right}}}",
            f"{right}\n0", f"{right}\0", f"{right}\u200b", "".join(chr(0x660 + int(d)) for d in right if d.isdigit()),
        ),
    )  # fmt: skip


TABLES = {
    "chain_sum": number("8", near=("7", "9", "08x")),
    "chain_sum-chat": Answers(
        "12",
        accepted=("5 + 7 = 12", "= 12", "12", "I say 3. 5 + 7 =12 "),
        rejected=("5 + 7 = 13", "12 =", "5 + 7 = 12 = 13", "5 + 7 is 12.", "= 1 2"),
        tricks=("= 12 or 13", "= [12]", "= 10+2", "= 12\n= 13", "=" * 9999, "= 0xC", "= 12\u0301"),
        options={"dataset": "chain_sum", "prompt_style": "chat", "settings": {"max_digits": 1}},
    ),
    "chain_sum-scratch": Answers(
        "8",
        accepted=("3;8=8", "=8", "1;1;1=8"),
        rejected=("3;8", "3;8=9", "8=", "8=9", "=8=9"),
        tricks=("8=;8;", "=8;8", "=[8]"),
        options={"dataset": "chain_sum", "marker": "="},
    ),
    "basic_arithmetic": number("8", near=("7", "9", "8.5")),
    "gcd": number("2", near=("1", "3", "4")),
    "lcm": number("60", near=("30", "120", "59")),
    "products": number("3663", near=("3664", "366", "3663.5")),
    "spell_backward": Answers(
        "",
        rejected=("abc", "zzzz", "=", ";"),
        tricks=(".*", "[a-z]+", "%s", "a" * 9999, "\0"),
    ),
    "letter_counting": Answers(  # judged whole: it has no marker
        "2",
        rejected=("3", "02", "2.0", " 2 ", "two", "2;", "1;2", "=2", "2 2"),
        tricks=("2 or 3", "[2]", "(2)", "{2}", "+2", "2e0", "2_0", "0x2", "٢", "2\u200b", "\\boxed{2}"),
    ),
    "countdown": Answers(
        "",
        rejected=("1", "0", "1 + 1", "no way", "="),
        tricks=(
            "x", "1/0", "(" * 200, ")" * 200, "[" * 90 + "]" * 90, "+".join(["1"] * 500), "lambda: 1", "1;1", "nan",
            "oo", "zoo", "1e999", "__import__('os').getpid()", "().__class__.__bases__[0]", "print(1)", "1 if 1 else 2",
        ),
        hanging=("9**9**9**9",),
    ),
}  # fmt: skip
# for all of them
ANYWHERE = (
    "", " ", "\n", "nan", "inf", "-inf", "1e9999", "-1e9999", "1e999999999999999999", "9" * 5000, "0" * 5000,
    "((((((((((1))))))))))", "(" * 100_000, "[" * 100_000, "{" * 3_999, "<" * 9_999, "a" * 1_000_000,
    "12" * 500_000, "; " * 500_000, "= " * 500_000, "(a+)+" * 30 + "!", "a" * 40 + "!", " " * 3_990 + "x",
    "٤١", "４１", "四十一", "\ud800", "\0", "None", "True", "[]", "{}", "%(answer)s", "{answer}", "${answer}",
    "../../etc/passwd", "'; --", "\x1e", "<think>", "\\boxed{}", "answer",
)  # fmt: skip


def used() -> set[str]:
    """The data sets that documents, experiments, benchmarks and sources name."""
    files = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("experiments/*.py")]
    files += [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("src/pilotage/**/*.py")]
    found = {name for path in files for name in re.findall(r"\breasoning:([a-z_]+)", path.read_text(encoding="utf-8"))}
    return found - {"nothing"}  # of an example that is refused


def test_every_data_set_that_is_used_has_its_table() -> None:
    assert used() | set(SHORT) <= {name.partition("-")[0] for name in TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_answers(name: str) -> None:
    table = TABLES[name]
    world = ReasoningWorld(**{"dataset": name, **table.options}, time_limit=SECONDS)
    tasks = (world.task(index, "train") for index in range(5000))
    task = next(task for task in tasks if not table.right or task.answer == table.right)
    right = (task.answer, *table.accepted)
    wrong = (*table.rejected, *table.tricks, *(f"{one}{task.answer[:-1]}" for one in ("~", "+ ")), *ANYWHERE)
    began = time.monotonic()
    verdicts = world.judge([(task, answer) for answer in (*right, *wrong)])
    accepted, rest = verdicts[: len(right)], verdicts[len(right) :]
    assert [verdict.reward for verdict in accepted] == [1.0] * len(right), list(zip(right, accepted, strict=True))
    paid = [answer[:60] for answer, verdict in zip(wrong, rest, strict=True) if verdict.reward]
    assert paid == []
    slow = [answer[:60] for answer, verdict in zip(wrong, rest, strict=True) if "timed out" in verdict.reason]
    assert slow == []
    assert stopped(world, task, table.hanging)
    assert time.monotonic() - began < SECONDS * (len(right) + len(wrong))
    assert world.judge([(task, task.answer)])[0].reward == 1.0  # and goes on after all that
    world.close()


def stopped(world: ReasoningWorld, task: Task, hanging: tuple[str, ...]) -> bool:
    """Whether all of these are invalid for want of time."""
    return all("timed out" in world.judge([(task, answer)])[0].reason for answer in hanging)


def test_long_answers_are_wrong_without_being_read_unless_the_right_one_is_long() -> None:
    world = ReasoningWorld(dataset="countdown", time_limit=None)
    task = world.task(0, "train")
    world._data.score_answer = None  # would raise if it were asked
    assert world.verify(task, "1" * 4_001) == 0.0
    assert world.judge([(task, "1")])[0].reason
