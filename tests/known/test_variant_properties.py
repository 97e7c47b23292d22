"""Whatever a policy says, hints and rewrites give records to learn from: no NaN, no crash, all of it counted."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.credit.difficulty import keep_learnable, kl_scale
from pilotage.credit.groups import Relative, drop_without_signal
from pilotage.data.batch import Batch
from pilotage.data.piece import piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task, Text, Verdict
from pilotage.learn.learner import Learner
from pilotage.learn.terms import Objective, Term
from pilotage.losses.policy import dual_clipped_ratio
from pilotage.losses.regularise import reference_divergence
from pilotage.rollouts.hints import Hinted
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.rewrites import Rewritten
from pilotage.worlds.phrases import COMPACT
from pilotage.worlds.text import TextWorld
from toy_policies import Tabled

CHARACTERS = "ab=;7"


class Same(Tabled):
    """Says the same whatever it is asked."""

    def __init__(self, shares: dict[str, float], longest: int | None) -> None:
        super().__init__(CHARACTERS + "x", {"": shares}, longest)
        self.prompts = _Every()


class _Every(list):  # type: ignore[type-arg]
    def index(self, *_):
        return 0


class Odd(TextWorld):
    """`7` is right, half right is `a`, and the judge fails on an `x`."""

    phrases = COMPACT
    observation = Text(8, CHARACTERS)
    action = Text(3, CHARACTERS + "x")

    def __init__(self) -> None:
        super().__init__(time_limit=None)

    def make(self, rng):
        return Task(prompt="ab=", answer="7")

    def solution(self, task):
        return "a;b;7"

    def verify(self, task, answer):
        return Verdict.invalid("no judge") if "x" in answer else 1.0 if answer == "7" else 0.5 * ("a" in answer)

    def holds_out(self, prompt):
        return len(prompt) % 5 == 0


shares = st.lists(st.integers(0, 4), min_size=7, max_size=7).filter(any)
plans = st.sampled_from(
    [lambda: Hinted(cold_start=0), lambda: Hinted(cold_start=0, on=0.5, off=0.2), lambda: Rewritten()]
)


@settings(max_examples=60, deadline=None)
@given(shares, plans, st.integers(1, 3), st.integers(1, 3), st.sampled_from([None, 4, 5, 7]))
def test_whatever_is_said_can_be_learnt_from(weights, plan, prompts, samples, longest):
    total = sum(weights)
    policy = Same({c: w / total for c, w in zip([*CHARACTERS, "x", ""], weights, strict=True) if w}, longest)
    rollout, world = plan(), Odd()
    tasks = [Task(key=i, prompt="ab=", answer="7") for i in range(prompts)]
    batch = rollout(policy, world, iter(tasks).__next__, Streams(0), 0, prompts, samples)
    assert isinstance(rollout, Messages)
    told = rollout.metrics()
    assert all(0 <= value <= 1 for value in told.values()), told
    assert policy.generated.tokens >= int(batch.sampled.sum())
    groups = batch["group"].bincount()
    assert groups[:prompts].tolist() == [samples] * prompts
    assert set(groups.tolist()) == {samples}
    learnt_from(policy, batch)


def learnt_from(policy: Tabled, batch: Batch) -> None:
    """A step of GRPO, with a filter and with a penalty where the rollout says what is hard."""
    batch = Relative()(batch)
    assert bool(torch.isfinite(batch["advantage"]).all())
    objectives = {"policy": Objective(piece(dual_clipped_ratio))}
    if "difficulty" in batch:
        kept = keep_learnable(batch)
        assert len(kept) > 0 or not bool(batch.valid.any())
        batch = kl_scale(kept.with_columns(reference_logp=kept["behaviour_logp"] - 0.1))
        objectives["kl"] = Objective(piece(reference_divergence), weight=0.001, by="kl_scale")
    else:
        batch = drop_without_signal(batch)
    told = Learner(policy, {"policy": Term(objectives)}, Streams(0)).update(batch, 0, 0.0)
    assert all(torch.isfinite(torch.tensor(value)) for value in told.values())
    assert bool(torch.isfinite(policy.logits).all())
