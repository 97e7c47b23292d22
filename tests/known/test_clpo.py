"""CLPO by its card: what is hard, what is rewritten, what of it is learnt from, and how near the start it is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from helpers import episodes, rows, text_recipe
from pilotage.credit.difficulty import keep_learnable, kl_scale
from pilotage.credit.groups import Relative, drop_without_signal
from pilotage.data.batch import Batch, Difficulty
from pilotage.data.piece import UsageError, piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task, Text, Verdict
from pilotage.learn.learner import Learner
from pilotage.learn.terms import Objective, Term
from pilotage.losses.policy import clipped_ratio, dual_clipped_ratio
from pilotage.losses.regularise import reference_divergence
from pilotage.rollouts.base import returns_by_group
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.rewrites import Rewritten, difficulty, leaks, parsed
from pilotage.rollouts.variants import diversify, simplify
from pilotage.run.loop import train
from pilotage.worlds.phrases import COMPACT
from pilotage.worlds.reasoning import ReasoningWorld
from pilotage.worlds.text import TextWorld
from toy_policies import Tabled

RIGHT, WRONG, BAD = "7", "0", "x"
ALPHABET = "".join(sorted("abcdefghij=" + RIGHT + WRONG + BAD))
SAMPLES = 64  # so that shares are near what the table says


class Lettered(TextWorld):
    """Problems `a=`, `b=`, …, all with one answer; `aa=` asks the same in other words."""

    phrases = COMPACT
    observation = Text(3, ALPHABET)
    action = Text(1, RIGHT + WRONG + BAD)
    held: str = ""

    def __init__(self) -> None:
        super().__init__(time_limit=None)

    def make(self, rng):
        return Task(prompt=f"{'abcdefghij'[int(rng.integers(10))]}=", answer=RIGHT)

    def verify(self, task, answer):
        return Verdict.invalid("no judge") if answer == BAD else float(answer == RIGHT)

    def rewrite(self, kind, task, rng):
        return {"simplify": 2, "diversify": 3}[kind] * task.prompt[0] + "="

    def preserves(self, task, text):
        return set(text) == set(task.prompt)

    def holds_out(self, prompt):
        return prompt in self.held.split()


def answers(right: float) -> dict[str, float]:
    return {character: share for character, share in ((RIGHT, right), (WRONG, 1 - right)) if share}


# hard, medium, easy; then how often the rewrites are answered rightly
FIRST = {"a": 0.0, "b": 0.5, "c": 1.0}
TABLE = {f"{letter}=": answers(right) for letter, right in FIRST.items()} | {"aa=": answers(0.5), "bbb=": answers(0.5)}


def played(
    rollout: Messages,
    letters: Sequence[str] = "abc",
    table: Mapping[str, Mapping[str, float]] = TABLE,
    world: TextWorld | None = None,
) -> tuple[Batch, Tabled]:
    policy = Tabled(ALPHABET, table)
    tasks = iter([Task(key=i, prompt=f"{letter}=", answer=RIGHT) for i, letter in enumerate(letters)])
    return rollout(policy, world or Lettered(), lambda: next(tasks), Streams(0), 3, len(letters), SAMPLES), policy


# ---- the card's invariants, by number


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (0, 2),
        (0.25, 2),
        (0.5, 1),
        (0.75, 0),
        (1, 0),
        (0.3, 2),
        (3 / 10, 2),
        (0.7, 1),
        (7 / 10, 1),
        (0.31, 1),
        (0.71, 0),
    ],
)
def test_1_labels_have_closed_upper_ends(accuracy, expected):
    assert difficulty(torch.tensor([accuracy], dtype=torch.float64)).tolist() == [expected]


@pytest.mark.parametrize(("right", "of", "expected"), [(3, 10, 2), (7, 10, 1), (1, 4, 2), (2, 4, 1), (3, 4, 0)])
def test_1_so_they_have_where_answers_are_counted(right, of, expected):
    # shares of float32 rewards would land on either side of 0.3
    batch = episodes([1.0] * right + [0.0] * (of - right), groups=[0] * of)
    assert difficulty(returns_by_group(batch)[1]).tolist() == [expected]


def test_1_what_is_not_known_is_not_hard():
    assert difficulty(torch.tensor([torch.nan])).tolist() == [Difficulty.EASY]


def loss_of(batch: Batch, reduction: str) -> float:
    """The clipped loss of a batch at its sampling policy, as a learner reports it."""
    policy = Tabled(ALPHABET, TABLE)
    term = Term({"policy": Objective(piece(clipped_ratio), reduction=reduction)}, max_grad_norm=None)
    learner = Learner(policy, {"policy": term}, Streams(0))
    told = learner.update(Relative()(batch), 0, 0.0)
    return told["policy/gradient_norm"]


def test_2_a_filter_changes_the_denominator_only():
    batch, _ = played(Rewritten(mode="off"))
    filtered = drop_without_signal(batch)
    assert len(filtered) == SAMPLES
    assert loss_of(filtered, "sequence") == pytest.approx(3 * loss_of(batch, "sequence"), rel=1e-5)


@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_3_the_penalty_is_linear_in_its_scale(part):
    found = {}
    for scale in (0.5, 1.0):
        policy = Tabled(ALPHABET, TABLE)
        batch, _ = played(Rewritten(mode="off"), "b")
        batch = batch.with_columns(
            reference_logp=batch["behaviour_logp"] + 0.1, kl_scale=torch.full((batch.decisions,), scale)
        )
        objective = Objective(piece(reference_divergence), reduction="token", weight=0.001, by="kl_scale")
        told = Learner(policy, {"policy": Term({"kl": objective})}, Streams(0)).update(batch, 0, 0.0)
        found[scale] = told["policy/loss" if part == "loss" else "policy/gradient_norm"]
    assert found[1.0] > 0
    assert found[0.5] / found[1.0] == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("gap", "expected"), [(0.1, 0.005171), (-0.1, 0.004837), (0.0, 0.0)])
def test_4_the_estimate_of_the_divergence(gap, expected):
    logp = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    loss = reference_divergence(logp, rows(reference_logp=[-1.0 + gap])).loss
    assert loss.item() == pytest.approx(expected, abs=5e-7)
    loss.sum().backward()
    assert logp.grad is not None
    if gap == 0:
        assert logp.grad.item() == 0


def test_5_a_rewrite_leaves_the_advantages_of_its_problem_alone():
    alone, _ = played(Rewritten(mode="off"))
    both, _ = played(Rewritten(rewriter="rule"))
    assert len(both) == 5 * SAMPLES
    assert both["group"].tolist() == [group for group in range(5) for _ in range(SAMPLES)]
    one, other = Relative()(alone)["advantage"], Relative()(both)["advantage"]
    assert torch.equal(one, other[: len(one)])


def test_6_what_is_learnt_from_has_successes_and_failures():
    batch, _ = played(Rewritten(rewriter="rule"))
    kept = keep_learnable(batch)
    assert kept["group"].unique().tolist() == [1, 3, 4]
    for _, group in kept.groups():
        assert 0 < float(group.returns.mean()) < 1


def test_7_rewriting_is_not_in_the_record():
    table = {text: answers(0.5) for text in _words("ab")} | TABLE
    table |= {f"{sign}{letter}=7": {letter: 0.6, "=": 0.2, "": 0.2} for sign, letter in (("=", "a"), ("==", "b"))}
    batch, policy = played(Rewritten(), table=table)
    assert [text for text in policy.asked if text.endswith("=7")] == ["=a=7", "==b=7"]
    assert not set(batch.notes["prompt"]) & {"=a=7", "==b=7"}
    # and where it is generated: more tokens than are recorded
    assert policy.generated.tokens > int(batch.sampled.sum())
    assert batch.total(batch.sampled.long()).tolist() == [1] * len(batch)


def _words(letters: str) -> list[str]:
    """All texts of up to four characters of these and the sign."""
    found = [""]
    for _ in range(4):
        found += [text + letter for text in found for letter in (*letters, "=") if text + letter not in found]
    return [text for text in dict.fromkeys(found) if text]


def test_8_with_nothing_to_learn_from_the_problems_stay_and_only_the_penalty_acts():
    table = {"a=": answers(0), "c=": answers(1), "aa=": answers(0)}
    batch, _ = played(Rewritten(rewriter="rule"), "ac", table=table)
    assert len(batch) == 3 * SAMPLES
    kept = keep_learnable(Relative()(batch))
    assert kept["group"].unique().tolist() == [0, 1]
    assert bool((kept["advantage"] == 0).all())
    policy = Tabled(ALPHABET, table)
    learner = Learner(policy, {"policy": Term({"policy": Objective(piece(dual_clipped_ratio))})}, Streams(0))
    assert learner.update(kept, 0, 0.0)["optimiser_steps"] == 0
    scaled = kl_scale(kept).with_columns(reference_logp=kept["behaviour_logp"] + 0.1)
    both = {
        "policy": Objective(piece(dual_clipped_ratio)),
        "kl": Objective(piece(reference_divergence), weight=0.001, by="kl_scale"),
    }
    told = Learner(policy, {"policy": Term(both)}, Streams(0)).update(scaled, 0, 0.0)
    assert told["policy/policy"] == 0.0
    # hard and easy problems are as many: the mean scale is 0.75
    assert told["policy/loss"] == pytest.approx(0.001 * 0.75 * 0.005171, rel=1e-3)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("```\nwhat is 2 and 3, added?\n```", "what is 2 and 3, added?"),
        ("Here:\n```text\nwhat is 2 and 3, added?\n```\nDone.", "what is 2 and 3, added?"),
        ("```what is 2 and 3, added?```", "what is 2 and 3, added?"),
        ("```\nwhat is 2 and 3, added?", "what is 2 and 3, added?"),
        ("```\nfirst of them all\n```\n```\nsecond of them all\n```", "first of them all"),
        ("what is 2 and 3, added?", "what is 2 and 3, added?"),
        ("x" * 10, None),
        ("x" * 11, "x" * 11),
        ("x" * 1999, "x" * 1999),
        ("x" * 2000, None),
        ("``````", None),
        ("", None),
    ],
)
def test_9_what_was_written_is_read_between_fences(said, expected):
    assert parsed(said, "a problem of more than twenty characters") == expected


def test_9_short_problems_may_be_rewritten_shortly():
    assert parsed("11-5=", "3+8-5=") == "11-5="
    assert parsed("11=", "3+8-5=") is None


# ---- what the card leaves to us


def test_the_label_is_that_of_the_first_answers():
    batch, _ = played(Rewritten(rewriter="rule"))
    labels = batch["difficulty"].reshape(5, SAMPLES)[:, 0].tolist()
    assert labels == [Difficulty.HARD, Difficulty.MEDIUM, Difficulty.EASY, Difficulty.HARD, Difficulty.MEDIUM]
    assert batch["rewritten"].reshape(5, SAMPLES)[:, 0].tolist() == [False] * 3 + [True] * 2
    # whatever is left of the batch by the time it is asked for; the rewrite of the hard one was not hard
    scale = kl_scale(keep_learnable(batch))
    first = scale["kl_scale"][scale.offsets[:-1]].reshape(3, SAMPLES)[:, 0]
    assert first.tolist() == [1.0, 0.5, 1.0]
    assert float(batch.returns.reshape(5, SAMPLES)[3].mean()) > 0.3


@pytest.mark.parametrize(
    ("mode", "variants"),
    [("both", 2), ("hard_only", 1), ("medium_only", 1), ("off", 0)],
)
def test_modes_say_what_is_rewritten(mode, variants):
    batch, _ = played(Rewritten(rewriter="rule", mode=mode))
    shown = [prompt for prompt, variant in zip(batch.notes["prompt"], batch.notes["variant"], strict=True) if variant]
    assert len(shown) == variants * SAMPLES
    assert set(shown) == {"both": {"aa=", "bbb="}, "hard_only": {"aa="}, "medium_only": {"bbb="}, "off": set()}[mode]


def test_it_tells_what_became_of_rewrites():
    rollout = Rewritten(rewriter="rule")
    played(rollout)
    assert rollout.metrics() == pytest.approx(
        {
            "rewrite/hard": 1 / 3, "rewrite/medium": 1 / 3, "rewrite/rescued": 1 / 3, "rewrite/preserved": 1.0,
            "rewrite/kept": 1.0, "rewrite/malformed": 0.0, "rewrite/unchanged": 0.0, "rewrite/leaked": 0.0,
            "rewrite/held_out": 0.0,
        }
    )  # fmt: skip


class Bent(Lettered):
    """Its rule makes rewrites of one kind that must not be used."""

    bent: str = ""

    def rewrite(self, kind, task, rng):
        return self.bent.replace("a", task.prompt[0])


@pytest.mark.parametrize(
    ("text", "exact", "name"),
    [
        ("a=", False, "unchanged"),
        ("a7=", False, "leaked"),  # within a word: no number of its own
        ("a=7", False, "leaked"),
        ("aaa=", False, "held_out"),
        ("ad=", True, "drifted"),
        ("", False, "malformed"),
    ],
)
def test_rewrites_that_must_not_be_used_are_not(text, exact, name):
    world = Bent()
    world.bent, world.held = text, "aaa="
    rollout = Rewritten(rewriter="rule", exact=exact)
    table = {**TABLE, "a7=": answers(0.5)}
    batch, _ = played(rollout, "a", table=table, world=world)
    told = rollout.metrics()
    if text == "a7=":
        assert told["rewrite/leaked"] == 0.0
        assert len(batch) == 2 * SAMPLES
        return
    assert len(batch) == SAMPLES
    assert told["rewrite/kept"] == 0.0
    if name == "drifted":
        assert told["rewrite/preserved"] == 0.0
        return
    assert told[f"rewrite/{name}"] == 1.0


def test_a_rewrite_that_drifted_is_counted_and_may_be_played():
    world = Bent()
    world.bent = "ad="
    rollout = Rewritten(rewriter="rule")
    batch, _ = played(rollout, "a", table={**TABLE, "ad=": answers(0.5)}, world=world)
    assert len(batch) == 2 * SAMPLES
    assert rollout.metrics()["rewrite/preserved"] == 0.0


@pytest.mark.parametrize(
    ("prompt", "answer", "text", "expected"),
    [
        ("3+4=", "7", "4+3=", False),
        ("3+4=", "7", "7=", True),
        ("3+4=", "7", "70-63=", False),
        ("7+7-7=", "7", "7+0=", False),
        ("7+0=", "7", "7+7-7=", True),
        ("2-5=", "-3", "1-4=", False),
        ("2-5=", "-3", "2-5=-3", True),
        ("2-5=", "-3", "5-3=", False),  # a sum, not the number
        ("who?", "Ada", "is it Ada?", True),
        ("who?", "Ada", "is it Adam?", False),
        ("who?", "", "is it Adam?", False),
        ("who?", ".*", "anything", False),
    ],
)
def test_an_answer_that_is_given_away_is_seen(prompt, answer, text, expected):
    assert leaks(Task(prompt=prompt, answer=answer), text) is expected


def test_rules_of_short_sums_keep_answers_and_give_none_away():
    world = ReasoningWorld(settings={"min_terms": 2, "max_terms": 5, "max_digits": 2}, time_limit=None)
    unchanged = 0
    for index in range(200):
        task, rng = world.task(index, "train"), Streams(0).generator("rule", index)
        for form in (simplify, diversify):
            asked, text = form(world, task, rng)
            assert set(asked.shown + text) <= set(world.observation.alphabet)
            assert world.preserves(task, text) is True
            assert not leaks(task, text)
            assert len(text) <= world.observation.max_tokens
            unchanged += text == task.prompt
    assert unchanged < 100
    task = world.task(0, "train")
    assert world.preserves(task, task.prompt.removesuffix("=") + "+1=") is False
    assert world.preserves(task, "=+") is False


def test_worlds_of_words_cannot_tell():
    world = ReasoningWorld(prompt_style="full", time_limit=None)
    assert world.preserves(world.task(0, "train"), "something") is None
    with pytest.raises(UsageError, match="no rules to rewrite"):
        Rewritten(rewriter="rule").check(Tabled(ALPHABET, TABLE), world)
    Rewritten().check(Tabled(ALPHABET, TABLE), Lettered())


def test_invalid_answers_make_nothing_hard():
    rollout = Rewritten(rewriter="rule")
    batch, _ = played(rollout, "a", table={"a=": {BAD: 1.0}})
    assert len(batch) == SAMPLES
    assert rollout.metrics()["rewrite/hard"] == 0.0


@pytest.mark.parametrize("wrong", [{"rewriter": "me"}, {"mode": "all"}, {"hard": 0.8}, {"medium": 1.5}, {"hard": -0.1}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        Rewritten(**wrong)


def test_the_bound_at_negative_advantages():
    # ratio 5 at A = -2: clipped loss 10, bounded 6; ratio 5 at A = 2: the clip at 1.2; ratio 2 at A = -2: 4, as it is
    given = rows(advantage=[-2.0, 2.0, -2.0], behaviour_logp=[0.0] * 3)
    logp = torch.tensor([5.0, 5.0, 2.0], dtype=torch.float64).log().requires_grad_()
    loss = dual_clipped_ratio(logp, given, high=0.2, dual=3.0).loss
    assert loss.tolist() == pytest.approx([6.0, -2.4, 4.0])
    loss.sum().backward()
    assert logp.grad is not None
    assert logp.grad.tolist() == pytest.approx([0.0, 0.0, 4.0])
    unbounded = dual_clipped_ratio(logp, given, high=0.2, dual=None)
    assert unbounded.loss.tolist() == clipped_ratio(logp, given).loss.tolist()


def test_the_hard_are_held_less_near(tmp_path):
    # the whole of it, on a world where something is always learnt
    recipe = text_recipe("clpo")
    assert recipe.get("terms.policy.objectives.kl").by == "kl_scale"
    train(recipe, tmp_path / "run", until=2)
