"""GHPO by its card: which groups are asked again, with how much of the solution, and what is trained of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from helpers import episodes, metrics, text_recipe
from pilotage import api
from pilotage.credit.groups import Relative
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError, piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task, Text, Verdict
from pilotage.learn.learner import Learner
from pilotage.learn.terms import Objective, Term
from pilotage.losses.policy import clipped_ratio
from pilotage.rollouts.hints import Hinted
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.variants import beginning, hint, hinted
from pilotage.run.loop import resume, train
from pilotage.worlds.phrases import COMPACT
from pilotage.worlds.reasoning import ReasoningWorld
from pilotage.worlds.text import TextWorld
from toy_policies import Tabled

LETTERS = "abcdefghij"
RIGHT, WRONG, BAD = "7", "0", "x"  # of answers; BAD makes the judge fail
SAMPLES = 4


class Lettered(TextWorld):
    """Problems `a=`, `b=`, …, each with a solution of ten characters that ends with the answer."""

    phrases = COMPACT
    observation = Text(12, LETTERS + "=7")
    action = Text(1, RIGHT + WRONG + BAD)

    def __init__(self) -> None:
        super().__init__(time_limit=None)

    def make(self, rng):
        return Task(prompt=f"{LETTERS[int(rng.integers(10))]}=", answer=RIGHT)

    def solution(self, task):
        return 9 * task.prompt[0] + RIGHT

    def verify(self, task, answer):
        return Verdict.invalid("no judge") if answer == BAD else float(answer == RIGHT)


ALPHABET = "".join(sorted(set(LETTERS + "=" + RIGHT + WRONG + BAD)))
SHOWN = {0: 0, 0.25: 2, 0.5: 5, 0.75: 8}  # characters of ten, halves to even


def asked(letter: str, ratio: float = 0) -> str:
    return f"{letter}=" + SHOWN[ratio] * letter


def policy_of(solved_at: dict[str, float | None], share: float = 1.0) -> Tabled:
    """Right (in `share` of its answers) on the problem of each letter from this hint on; None: never."""
    table = {}
    for letter, at in solved_at.items():
        for ratio in SHOWN:
            right = share if at is not None and ratio >= at else 0.0
            table[asked(letter, ratio)] = (
                {RIGHT: right, WRONG: 1 - right} if 0 < right < 1 else ({RIGHT: 1.0} if right else {WRONG: 1.0})
            )
    return Tabled(ALPHABET, table)


def played(rollout: Messages, policy: Tabled, letters: Sequence[str], step: int = 100, samples: int = SAMPLES) -> Batch:
    tasks = iter([Task(key=i, prompt=asked(letter), answer=RIGHT) for i, letter in enumerate(letters)])
    return rollout(policy, Lettered(), lambda: next(tasks), Streams(0), step, len(letters), samples)


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.offsets, other.offsets)
        and one.columns.keys() == other.columns.keys()
        and one.episode.keys() == other.episode.keys()
        and all(torch.equal(one[name], other[name]) for name in (*one.columns, *one.episode))
        and {n: list(v) for n, v in one.notes.items()} == {n: list(v) for n, v in other.notes.items()}
    )


# ---- the card's invariants, by number


def test_1_with_a_success_in_every_group_the_batch_is_grpos_to_the_bit():
    policy = policy_of({"a": 0, "b": 0, "c": 0}, share=0.6)
    rollout = Hinted(cold_start=0)
    one, other = played(rollout, policy, "abc"), played(Messages(), policy, "abc")
    assert bool((other.returns.reshape(3, SAMPLES).sum(1) > 0).all())
    assert same(one, other)
    assert rollout.metrics()["hint/hinted"] == 0.0


def step_of(policy: Tabled, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """What one optimiser step of GRPO moves in the table, and its metrics."""
    before = policy.logits.detach().clone()
    objective = Objective(piece(clipped_ratio), reduction="sequence")
    learner = Learner(policy, {"policy": Term({"policy": objective})}, Streams(0))
    told = learner.update(Relative()(batch), 0, 0.0)
    return policy.logits.detach() - before, told


def test_2_where_everything_fails_there_is_no_gradient():
    policy = policy_of({"a": None, "b": None})
    batch = played(Hinted(cold_start=0), policy, "ab")
    assert len(policy.asked) == 4 * 2 * SAMPLES
    assert bool((Relative()(batch)["advantage"] == 0).all())
    moved, told = step_of(policy, batch)
    assert told["optimiser_steps"] == 0
    assert bool((moved == 0).all())


@pytest.mark.parametrize(("length", "expected"), [(10, (2, 5, 8)), (6, (2, 3, 4)), (0, (0, 0, 0))])
def test_3_lengths_of_what_is_shown_round_halves_to_even(length, expected):
    assert tuple(len(beginning("s" * length, ratio, "")) for ratio in (0.25, 0.5, 0.75)) == expected


def test_3_without_a_solution_to_show_only_the_words_around_it_are_added():
    world = Lettered()
    task = Task(prompt="a=", answer=9 * "a" + RIGHT)
    assert hinted(world, task, 0.75).shown == world.phrase("hint", task, hint="")


def test_4_advantages_with_the_papers_epsilon():
    relative = Relative(eps=1e-4)
    one = relative(episodes([1] + [0] * 7, groups=[0] * 8))["advantage"]
    assert one.tolist() == pytest.approx([2.4742] + [-0.3535] * 7, abs=5e-5)
    half = relative(episodes([1, 0] * 4, groups=[0] * 8))["advantage"]
    assert half.tolist() == pytest.approx([0.9352, -0.9352] * 4, abs=5e-5)


def test_5_a_group_is_asked_until_it_succeeds_and_never_after():
    policy = policy_of({"a": 0, "b": 0.25, "c": 0.5, "d": 0.75, "e": None})
    rollout = Hinted(cold_start=0)
    batch = played(rollout, policy, "abcde")
    times = {letter: sum(text[0] == letter for text in policy.asked) for letter in "abcde"}
    assert times == {letter: n * SAMPLES for letter, n in zip("abcde", (1, 2, 3, 4, 4), strict=True)}
    assert policy.generated.tokens == 14 * SAMPLES
    kept = dict(zip("abcde", (0, 0.25, 0.5, 0.75, 0.75), strict=True))
    shown = [asked(letter, ratio) for letter, ratio in kept.items() for _ in range(SAMPLES)]
    assert batch.notes["prompt"] == shown
    variants = ["", "hint 0.25", "hint 0.5", "hint 0.75", "hint 0.75"]
    assert batch.notes["variant"] == [variant for variant in variants for _ in range(SAMPLES)]
    assert batch["group"].tolist() == [group for group in range(5) for _ in range(SAMPLES)]
    assert batch["task"].tolist() == batch["group"].tolist()
    assert batch.returns.reshape(5, SAMPLES).sum(1).tolist() == [SAMPLES] * 4 + [0]
    told = rollout.metrics()
    assert told == pytest.approx(
        {"hint/failed": 0.8, "hint/no_signal": 1.0, "hint/on": 1.0, "hint/ratio": 0.45, "hint/hinted": 0.8}
        | {f"hint/solved {ratio}": 0.2 for ratio in (0.25, 0.5, 0.75)}
        | {f"hint/no_signal {ratio}": 1.0 for ratio in (0.25, 0.5, 0.75)}
    )


def test_6_an_answer_to_a_hinted_problem_gives_the_plain_one_no_gradient():
    policy = policy_of({"a": 0.5}, share=0.5)
    batch = played(Hinted(cold_start=0), policy, "a", samples=8)
    assert set(batch.notes["prompt"]) == {asked("a", 0.5)}
    moved, told = step_of(policy, batch)
    assert told["optimiser_steps"] == 1
    touched = [text for text, row in zip(policy.prompts, moved, strict=True) if bool((row != 0).any())]
    assert touched == [asked("a", 0.5)]


def test_6_what_an_earlier_stage_rescued_is_trained_under_its_own_prompt():
    # the released code trains it under the plain prompt once a later stage has run
    policy = policy_of({"a": 0.25, "b": 0.75}, share=0.5)
    batch = played(Hinted(cold_start=0), policy, "ab", samples=8)
    moved, _ = step_of(policy, batch)
    touched = {text for text, row in zip(policy.prompts, moved, strict=True) if bool((row != 0).any())}
    assert touched == {asked("a", 0.25), asked("b", 0.75)}
    for text, row in zip(batch.notes["prompt"], range(len(batch)), strict=True):
        start = int(batch.offsets[row])
        assert policy.decode(batch["action"][start : start + len(text)]) == text


@pytest.mark.parametrize(("step", "calls"), [(0, 1), (19, 1), (20, 4), (21, 4)])
def test_7_before_the_cold_start_ends_it_is_grpo(step, calls):
    policy = policy_of({"a": None, "b": None})
    batch = played(Hinted(cold_start=20), policy, "ab", step=step)
    assert len(policy.asked) == calls * 2 * SAMPLES
    if calls == 1:
        assert same(batch, played(Messages(), policy, "ab", step=step))


def test_8_hints_are_not_trained():
    policy = policy_of({"a": 0, "b": 0.75})
    batch = played(Hinted(cold_start=0), policy, "ab")
    sampled = batch.total(batch.sampled.long())
    assert sampled.tolist() == [1] * len(batch)
    assert bool(batch.sampled[batch.offsets[1:] - 1].all())
    assert batch.lengths.tolist() == [len(text) + 1 for text in batch.notes["prompt"]]


# ---- what the card leaves to us


def test_a_group_without_a_valid_answer_says_nothing_of_its_problem():
    policy = Tabled(ALPHABET, {"a=": {BAD: 1.0}})
    batch = played(Hinted(cold_start=0), policy, "a")
    assert len(policy.asked) == SAMPLES
    assert not bool(batch.valid.any())


def test_a_hint_that_is_too_long_for_the_context_is_not_given():
    policy = policy_of({"a": None})
    policy.longest = len(asked("a", 0.5)) + 1
    rollout = Hinted(cold_start=0)
    batch = played(rollout, policy, "a")
    assert batch.notes["variant"] == ["hint 0.5"] * SAMPLES
    assert rollout.metrics()["hint/ratio"] == 0.5


def test_hints_come_and_go_with_the_share_that_fails():
    rollout = Hinted(cold_start=0, on=0.75, off=0.25)

    def on(solved: str) -> float:
        policy = policy_of({letter: 0 if letter in solved else None for letter in "abcd"})
        played(rollout, policy, "abcd")
        return rollout.metrics()["hint/on"]

    assert [on("ab"), on("a"), on("ab"), on("abc"), on("ab"), on("")] == [0, 1, 1, 0, 0, 1]
    other = Hinted(cold_start=0, on=0.75, off=0.25)
    other.load_state_dict(rollout.state_dict(), Lettered())
    assert other.needed is not None
    assert other.needed.is_on


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratios": (0.5, 0.25)},
        {"ratios": (0.0,)},
        {"ratios": (1.0,)},
        {"on": 0.5},
        {"on": 0.3, "off": 0.5},
        {"cold_start": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        Hinted(**wrong)


def test_a_world_without_answers_is_refused():
    class Unanswered(Lettered):
        def make(self, rng):
            return Task(prompt="a=")

        solution = TextWorld.solution

    with pytest.raises(UsageError, match="no solutions"):
        Hinted().check(policy_of({"a": 0}), Unanswered())


@pytest.mark.parametrize(
    "settings", [{}, {"marker": "="}, {"settings": {"min_terms": 5, "max_terms": 6, "max_digits": 3}}]
)
def test_no_hint_holds_the_answer(settings):
    world = ReasoningWorld(time_limit=None, wrong_share=0.5, detours=0.3 if "marker" in settings else 0.0, **settings)
    longest = 0
    for index in range(200):
        task = world.task(index, "train")
        solution = world.solution(task)
        assert world.verify(task, solution) == 1.0
        assert solution.endswith(task.answer)
        for ratio in (0.25, 0.5, 0.75, 0.99):
            shown = hinted(world, task, ratio)
            text = shown.shown.removeprefix(task.prompt)
            assert solution.startswith(text)
            rest = solution[len(text) :]
            assert rest.endswith(task.answer)  # all of the answer is still to be said
            if "marker" in settings:  # and so is the total that is the same as it
                assert rest.count(task.answer) >= 2
            assert set(shown.shown) <= set(world.observation.alphabet)
            longest = max(longest, len(text))
        form, answer = hint(world, task, Streams(0).generator("hint", index))
        assert answer
        assert form.shown.removeprefix(task.prompt) + answer == solution
        assert form.variant in ("hint 0.25", "hint 0.5", "hint 0.75")
    assert longest > 0


@pytest.mark.parametrize(
    ("solution", "answer", "expected"),
    [
        ("46;41", "41", "46;"),
        ("46;41;=41", "41", "46;"),
        ("7;10;7", "7", "7;10;"),
        ("17;7", "7", "17;"),
        ("-3;-3", "-3", ""),
        ("7", "7", ""),
        ("so it is 12.", "12", "so it is "),
    ],
)
def test_the_answer_is_cut_off_wherever_it_is_said_last(solution, answer, expected):
    assert beginning(solution, 0.99, answer) == expected


def test_a_solution_without_its_answer_is_refused():
    with pytest.raises(UsageError, match="hints need right solutions"):
        beginning("46;42", 0.5, "41")


# ---- with other methods


FIRST = {"world": "toy_worlds:FirstDigit", "settings": {"rollout.cold_start": 0}}


def test_it_stacks_with_nft(tmp_path):
    recipe = text_recipe("ghpo+nft", **FIRST)
    assert recipe.rollout.use.endswith("hints:Hinted")
    assert recipe.get("terms.policy.objectives.policy.loss").use.endswith("negative_aware_likelihood")
    assert text_recipe("nft+ghpo", **FIRST).digest() == recipe.digest()
    api.train(recipe, out=tmp_path / "whole")
    train(recipe, tmp_path / "parted", until=1)
    resume(tmp_path / "parted")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parted")
    records = [record for record in metrics(tmp_path / "whole") if record["kind"] == "train"]
    assert any(record["hint/hinted"] > 0 for record in records)
    assert any(record["optimiser_steps"] > 0 for record in records)
