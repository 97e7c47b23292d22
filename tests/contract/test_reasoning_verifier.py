"""What reasoning-gym's verifiers accept through us, what they reject, and what tries to cheat them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task
from pilotage.worlds.arithmetic import terms_of
from pilotage.worlds.reasoning import SHORT, ReasoningWorld, _running_totals


@pytest.fixture(scope="module")
def sums() -> Iterator[ReasoningWorld]:
    world = ReasoningWorld(level=2, time_limit=2.0)
    yield world
    world.close()


def problem(world: ReasoningWorld, answer: str) -> Task:
    """A problem with this answer."""
    tasks = (world.task(index, "train") for index in range(5000))
    return next(task for task in tasks if task.answer == answer)


ACCEPTED = ["41", " 41 ", "041", "+41", "41.0", "46;41", "1;2;3;41", ";41", "46; 41"]
REJECTED = [
    "",
    ";",
    "40",
    "42",
    "-41",
    "41;",
    "41;46",
    "414",
    "4 1",
    "41 42",
    "41=",
    "=41",
    "46,41x",
    "forty-one",
    "41;;",
]
ADVERSARIAL = [
    "1e9999", "-1e9999", "1e-9999", "Infinity", "nan", "sNaN", "41e1e1",
    "9" * 5000, "1e999999999999999999",
    " ".join(str(n) for n in range(100)), "40 41 42", "41 or 42", "The answer is 41", "41\n42",
    "٤١", "４１", "四十一", "४१", "4\u200b1", "41\u0301",
    "((((((((((41))))))))))", "(" * 100_000, "[41]", "{41}", "<answer>41</answer>", "\\boxed{41}",
    "0x29", "40+1", "__import__('os').getpid()", "lambda: 41", "{}.__class__", "%s", "%(answer)s", "{answer}", "None",
    "a" * 1_000_000, "41" * 500_000, "0" * 1_000_000 + "4", "a" * 40 + "!", "\0", "\ud800", "41\0", ";" * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize("answer", ACCEPTED)
def test_accepted(sums: ReasoningWorld, answer: str) -> None:
    (verdict,) = sums.judge([(problem(sums, "41"), answer)])
    assert verdict.valid
    assert verdict.reward == 1.0


@pytest.mark.parametrize("answer", REJECTED)
def test_rejected(sums: ReasoningWorld, answer: str) -> None:
    (verdict,) = sums.judge([(problem(sums, "41"), answer)])
    assert verdict.valid
    assert verdict.reward == 0.0


def test_adversarial_answers_earn_nothing_within_the_limit(sums: ReasoningWorld) -> None:
    task = problem(sums, "41")
    started = time.monotonic()
    verdicts = sums.judge([(task, answer) for answer in ADVERSARIAL])
    paid = [answer[:50] for answer, verdict in zip(ADVERSARIAL, verdicts, strict=True) if verdict.reward]
    assert paid == []
    assert time.monotonic() - started < 2.0 * len(ADVERSARIAL)
    assert sums.judge([(task, "41")])[0].reward == 1.0


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_text_is_paid_but_a_spelling_of_the_number(answer: str) -> None:
    world = IN_PROCESS
    (verdict,) = world.judge([(problem(world, "41"), answer)])
    if verdict.reward:
        assert float(answer.rpartition(";")[2].replace(",", "")) == 41


IN_PROCESS = ReasoningWorld(level=2, time_limit=None)


@given(st.lists(st.integers(-999, 999), min_size=1, max_size=12), st.integers(0, 2**32))
@settings(deadline=None)
def test_running_totals(terms: list[int], seed: int) -> None:
    prompt = "+".join(str(term) for term in terms) + "="
    assert terms_of(prompt.removesuffix("=")) == terms
    worked = _running_totals(prompt, None)
    assert len(worked) == max(len(terms) - 1, 1)
    assert int(worked[-1]) == sum(terms)
    assert int(_running_totals(prompt, np.random.default_rng(seed))[-1]) != sum(terms)


@pytest.mark.parametrize("options", [{}, {"allow_negation": True}])
@pytest.mark.parametrize("level", [0, 3, 10])
def test_worked_sums_are_right_fit_the_budget_and_use_the_alphabet(level: int, options: dict[str, bool]) -> None:
    world = ReasoningWorld(level=level, settings=options, time_limit=None)
    tasks = [world.task(index, "train") for index in range(300)]
    answers = [world.demonstrate(task, np.random.default_rng(task.key)) for task in tasks]
    assert all(verdict.reward == 1.0 for verdict in world.judge(list(zip(tasks, answers, strict=True))))
    assert max(len(answer) for answer in answers) <= world.action.max_tokens
    assert max(len(task.prompt) for task in tasks) <= world.observation.max_tokens
    assert set("".join(answers)) <= set(world.action.alphabet)
    assert set("".join(task.prompt for task in tasks)) <= set(world.observation.alphabet)


def test_wrong_share_is_the_share_of_wrong_demonstrations() -> None:
    world = ReasoningWorld(level=1, wrong_share=0.6, time_limit=None)
    tasks = [world.task(index, "train") for index in range(1000)]
    judged = world.judge([(task, world.demonstrate(task, np.random.default_rng(task.key))) for task in tasks])
    assert 0.34 < np.mean([verdict.reward for verdict in judged]) < 0.46


@pytest.mark.parametrize("dataset", sorted(SHORT))
def test_short_styles_cover_their_problems(dataset: str) -> None:
    world = ReasoningWorld(dataset=dataset, time_limit=None)
    tasks = [world.task(index, "train") for index in range(300)]
    answers = [world.demonstrate(task, np.random.default_rng(0)) for task in tasks]
    assert set("".join(answers) + "".join(task.prompt for task in tasks)) <= set(world.action.alphabet)
    assert {verdict.reward for verdict in world.judge(list(zip(tasks, answers, strict=True)))} == {1.0}
    wrong = [(task, "x;9" + task.answer) for task in tasks]
    assert {verdict.reward for verdict in world.judge(wrong)} == {0.0}


# a family each, and those whose entries do not survive JSON (arc_1d, rearc), list their problems (gsm_symbolic), or
# store no answer (rush_hour)
@pytest.mark.parametrize(
    "dataset",
    [
        "arc_1d",
        "rearc",
        "gsm_symbolic",
        "countdown",
        "maze",
        "syllogism",
        "caesar_cipher",
        "family_relationships",
        "dice",
    ],
)
def test_stored_answers_are_right_in_the_verifier_process(dataset: str) -> None:
    world = ReasoningWorld(dataset=dataset, seed=3, time_limit=20.0)
    tasks = [world.task(index, "held_out") for index in range(3)]
    assert all(json.loads(json.dumps(task.payload)) == task.payload for task in tasks)
    assert [v.reward for v in world.judge([(task, task.answer) for task in tasks])] == [1.0] * 3
    assert [v.reward for v in world.judge([(task, "certainly not") for task in tasks])] == [0.0] * 3
    world.close()


def test_part_marks_only_when_asked_for() -> None:
    strict, lenient = (ReasoningWorld(level=2, partial_credit=part, time_limit=None) for part in (False, True))
    task = problem(strict, "41")
    assert strict.judge([(task, "41 42")])[0].reward == 0.0
    assert lenient.judge([(task, "41 42")])[0].reward == pytest.approx(2 / 5)


def test_a_problem_that_cannot_be_made_again_is_invalid() -> None:
    (verdict,) = IN_PROCESS.judge([(Task(prompt="1+1=", payload={"index": 5}), "2")])
    assert not verdict.valid
    assert "not reproducible" in verdict.reason


def test_full_style_is_the_original_question() -> None:
    world = ReasoningWorld(prompt_style="full", time_limit=None)
    task = world.task(0, "train")
    assert task.prompt.startswith("State the final answer")
    assert set(task.prompt) <= set(world.observation.alphabet)
    assert world.judge([(task, task.answer)])[0].reward == 1.0
    marked = ReasoningWorld(prompt_style="full", marker="Answer:", time_limit=None)
    assert marked.judge([(task, f"I think 5. Answer: {task.answer}")])[0].reward == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "chain_sun"}, "did you mean 'chain_sum'"),
        ({"settings": {"max_term": 3}}, "did you mean 'max_terms'"),
        ({"settings": {"max_terms": 0}}, "max_terms must be"),
        ({"level": 11}, "go from 0 to 10"),
        ({"dataset": "maze", "prompt_style": "short"}, "no short style"),
        ({"prompt_style": "tiny"}, "auto, short, full or chat"),
        ({"wrong_share": 1.5}, "wrong_share"),
        ({"dataset": "composite"}, "at least one dataset"),
    ],
)
def test_mistakes(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ReasoningWorld(**options)  # type: ignore[arg-type]


def test_a_data_set_without_answers_cannot_demonstrate() -> None:
    world = ReasoningWorld(dataset="rush_hour", time_limit=None)
    with pytest.raises(UsageError, match="stores no answers"):
        world.demonstrate(world.task(0, "train"), np.random.default_rng(0))
