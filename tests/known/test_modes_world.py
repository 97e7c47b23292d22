"""Sums in three modes: what is worth what, what has which form, and calls that end."""

import time

import numpy as np
import pytest

from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task
from pilotage.worlds.modes import LONGEST_CALL, Sums, calculate

FINE = {"fails": [False, False]}
TASK = Task(prompt="3+4-5=", answer="2", category="3 terms", payload=FINE)


@pytest.fixture
def world() -> Sums:
    return Sums(time_limit=None)


def test_a_problem_says_its_length_and_its_calls_that_fail(world):
    tasks = [world.task(i, "train") for i in range(400)]
    assert {task.category for task in tasks} == {f"{n} terms" for n in (2, 3, 4, 5)}
    for task in tasks:
        assert calculate(task.prompt.removesuffix("=")) == int(task.answer)
        assert len(task.prompt.replace("-", "+").split("+")) == int(task.category[0])
    failed = np.mean([task.payload["fails"] for task in tasks])
    assert 0.02 < failed < 0.09
    assert not any(any(Sums(failing=0.0, time_limit=None).task(i, "train").payload["fails"]) for i in range(50))


@pytest.mark.parametrize("answer", ["I2", "R3;7;2", "2", "T2", "R2", "I9;2", ";2"])
def test_the_right_number_last_is_right(world, answer):
    assert world.verify(TASK, answer) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "", "I", "I3", "R3;7", "2;", "I02", "I+2", "I2.0", "I2 ", " 2", "I-2", "I2;2;3", "2\n", "٢", "\uff12", "I²",
        "2e0", "II2", "RI2", "[2]", "T[3+4-5]", "T[[2]]", "I" + "2" * 5000, "[" * 10**5, "R" + "1;" * 10**5, "I2\x00",
        "nan", "-0", "I2I",
    ],
)  # fmt: skip
def test_anything_else_is_wrong(world, answer):
    assert world.verify(TASK, answer) == 0.0


def test_a_megabyte_is_judged_in_no_time():
    world = Sums()
    began = time.perf_counter()
    texts = ["9" * 10**6, "[" * 10**6, "R" + "1;" * (5 * 10**5), "T[" + "1+" * (5 * 10**5) + "1]", "I" * 10**6]
    for text in texts:
        assert world.verify(TASK, text) == 0.0
        assert world.reply(TASK, [text]) in (None, "?")
        assert not any(world.obeys(mode, messages) for mode in world.modes for messages in ([text], [text, "2"]))
    assert time.perf_counter() - began < 1.0
    assert [v.reward for v in world.judge([(TASK, text) for text in texts])] == [0.0] * len(texts)  # and elsewhere
    world.close()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3+4-5", 2), ("-3+4", 1), ("+7", 7), ("007", 7), ("0-0", 0), ("999999999+1", 10**9), ("", None), ("3+", None),
        ("3++4", None), ("3--4", None), ("1e9", None), ("2**99", None), ("(1)", None), ("1 + 1", None), ("1+1\n", None),
        ("__import__", None), ("1234567890", None), ("٣+1", None), ("1+" * 40 + "1", None), ("0x10", None),
        ("1_0", None),
    ],
)  # fmt: skip
def test_the_tool_adds_and_nothing_more(expression, value):
    assert calculate(expression) == value


def test_the_tool_reads_no_more_than_it_says():
    longest = "1+" * (LONGEST_CALL // 2 - 1) + "10"
    assert len(longest) == LONGEST_CALL
    assert calculate(longest) == LONGEST_CALL // 2 + 9
    assert calculate(longest + "0") is None


@pytest.mark.parametrize(
    ("mode", "messages", "kept"),
    [
        ("instant", ["I2"], True), ("instant", ["I-12"], True), ("instant", ["I"], False), ("instant", ["R2"], False),
        ("instant", ["I3;2"], False), ("instant", ["2"], False), ("instant", ["I[3+4]", "2"], False),
        ("reasoning", ["R3;7;2"], True), ("reasoning", ["R-3;2"], True), ("reasoning", ["R2"], False),
        ("reasoning", ["R3;"], False), ("reasoning", ["I3;7"], False), ("reasoning", ["R3;7", "2"], False),
        ("tool", ["T[3+4-5]", "2"], True), ("tool", ["T[3+4]", "[3+4]", "7"], True), ("tool", ["T[3]", "R2"], False),
        ("tool", ["T2"], False), ("tool", ["T[3+4-5]"], False), ("tool", ["[3+4]", "2"], False),
        ("tool", ["T[3+4]", "T[3+4]", "2"], False), ("tool", ["T[]", "2"], False), ("tool", ["T[3+4]\n2"], False),
        ("tool", ["T[3+4]", "3;7"], False), ("tool", ["I[3+4]", "7"], False), ("tool", ["TI[3+4]", "7"], False),
        ("instant", [""], False), ("reasoning", [""], False), ("tool", ["", ""], False),
    ],
)  # fmt: skip
def test_forms(world, mode, messages, kept):
    assert world.obeys(mode, messages) is kept


def test_the_mode_is_how_the_first_message_begins(world):
    assert [world.mode_of(text) for text in ("I2", "R", "T[3]", "2", "", "i2", "2I")] == [
        "instant", "reasoning", "tool", "", "", "", "",
    ]  # fmt: skip


def said(world, task, messages):
    """Replies and rewards of an episode with these messages; None once it is over."""
    world.reset([task], [7])
    found = []
    for message in messages:
        outcome = world.step([message], [7])
        assert not outcome.truncated[0]
        over = bool(outcome.terminated[0])
        assert over or outcome.reward[0] == 0.0
        found.append((None if over else outcome.observation[0], float(outcome.reward[0])))
    return found


def test_a_call_ends_a_message_and_is_replied_to(world):
    assert said(world, TASK, ["T[3+4-5]", "2"]) == [("2", 0.0), (None, 1.0)]
    assert said(world, TASK, ["T[9-9-9]", "-9"]) == [("-9", 0.0), (None, 0.0)]  # what is asked is up to the policy
    assert said(world, TASK, ["R3;7;2"]) == [(None, 1.0)]
    assert said(world, TASK, ["T[3+4-5"]) == [(None, 0.0)]
    assert said(world, TASK, ["I[3+4-5]", "I2"]) == [("2", 0.0), (None, 1.0)]  # accuracy asks nothing about forms


def test_calls_fail_as_the_problem_says_and_are_no_more_than_allowed(world):
    task = Task(prompt="3+4-5=", answer="2", payload={"fails": [True, False]})
    assert said(world, task, ["T[3+4-5]", "[3+4-5]", "2"]) == [("?", 0.0), ("2", 0.0), (None, 1.0)]
    assert said(world, TASK, ["T[x]", "[1]", "[1]"]) == [("?", 0.0), ("1", 0.0), (None, 0.0)]  # one too many: the end
    few = Sums(max_calls=1, time_limit=None)
    assert said(few, TASK, ["T[3+4-5]", "[3+4-5]"]) == [("2", 0.0), (None, 0.0)]


def test_lanes_are_apart_and_have_to_be_reset(world):
    other = Task(prompt="1+1=", answer="2", payload=FINE)
    world.reset([TASK, other], [3, 5])
    outcome = world.step(["T[3+4-5]", "I2"], [3, 5])
    assert outcome.observation == ["2", ""]
    assert outcome.terminated.tolist() == [False, True]
    assert outcome.reward.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="lane 5 has no running episode"):
        world.step(["I2"], [5])
    assert world.step(["2"], [3]).reward.tolist() == [1.0]
    with pytest.raises(ValueError, match="lane 3 has no running episode"):
        world.step(["2"], [3])
    world.reset([TASK], [3])  # an episode that was left is forgotten
    world.step(["T[1]"], [3])
    world.reset([TASK], [3])
    assert [world.step(["T[1]"], [3]).observation[0] for _ in range(2)] == ["1", "1"]


def test_worked_solutions_are_right_and_of_their_form(world):
    fails = ([False, False], [True, False], [True, True])
    for payload in fails:
        task = Task(prompt="3-4-5=", answer="-6", payload={"fails": payload})
        for mode in world.modes:
            worked = world.worked(task, mode)
            messages, replies = worked[::2], worked[1::2]
            assert world.obeys(mode, messages)
            assert world.mode_of(messages[0]) == mode
            heard = said(world, task, messages)
            assert [reply for reply, _ in heard[:-1]] == replies
            assert heard[-1] == (None, 1.0)
    assert world.worked(TASK, "reasoning") == ["R3;7;2"]
    assert world.worked(TASK, "tool") == ["T[3+4-5]", "2", "2"]
    drawn = [world.mode_of(world.demonstrate(TASK, np.random.default_rng(i))[0]) for i in range(300)]
    assert all(70 < drawn.count(mode) < 130 for mode in world.modes)


def test_what_is_said_fits(world):
    for i in range(200):
        task = world.task(i, "train")
        assert len(task.prompt) + 2 <= world.observation.max_tokens
        assert set(task.prompt) <= set(world.observation.alphabet)
        for mode in world.modes:
            for text in world.worked(task, mode)[::2]:
                assert len(text) + 1 <= world.action.max_tokens
                assert set(text) <= set(world.action.alphabet)


@pytest.mark.parametrize(
    "wrong",
    [
        {"terms": []},
        {"terms": [1]},
        {"digits": 0},
        {"terms": [40]},
        {"failing": 1.0},
        {"max_calls": 0},
        {"call_cost": -1},
    ],
)
def test_sizes_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"sums have|calls fail"):
        Sums(**wrong)
