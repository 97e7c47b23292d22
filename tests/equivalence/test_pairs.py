"""Pairs stay whole in minibatches and micro-batches, and however a step is cut its gradient is the same."""

import math

import pytest
import torch
from torch import Tensor

from helpers import control_recipe, text_recipe
from pilotage.data.batch import Batch, from_episodes
from pilotage.data.piece import UsageError, piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Text
from pilotage.learn import optimisers
from pilotage.learn.learner import Learner, RunStopped
from pilotage.learn.terms import Objective, Target, Term
from pilotage.losses.preference import logistic, mirror_regression, regularised_logistic
from pilotage.policies.base import rows_of, score
from pilotage.policies.language import TinyLanguageModel
from pilotage.run.assemble import assemble

TEXT = Text(max_tokens=16, alphabet="abcdefgh")
LENGTHS = (9, 3, 14, 5, 7, 11, 4, 4, 6, 12)


def language(tokens_per_microbatch: int = 10**6) -> TinyLanguageModel:
    policy = TinyLanguageModel(
        TEXT, TEXT, hidden=16, layers=1, heads=2, context=64, seed=0, tokens_per_microbatch=tokens_per_microbatch
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


def pairs() -> Batch:
    """Five pairs, of two prompt tokens and answers of other lengths, with both anchors."""
    generator = torch.Generator().manual_seed(2)
    group = torch.arange(10) // 2 + 3

    def each(make):
        return [make(n) for n in LENGTHS]

    return from_episodes(
        {
            "action": each(lambda n: torch.randint(0, 11, (n,), generator=generator)),
            "sampled": each(lambda n: torch.arange(n) >= 2),
            "behaviour_logp": each(lambda n: -2.4 + 0.3 * torch.randn(n, generator=generator)),
            "reference_logp": each(lambda n: -2.4 + 0.3 * torch.randn(n, generator=generator)),
            "preferred": [torch.full((n,), i % 2 == (i // 2) % 2) for i, n in enumerate(LENGTHS)],
            "pair": [torch.full((n,), int(g)) for n, g in zip(LENGTHS, group, strict=True)],
        },
        {"group": group},
    )


def term(loss=mirror_regression, **changes) -> Term:
    settings = {
        "objectives": {"policy": Objective(piece(loss), "sequence")},
        "optimiser": piece(optimisers.sgd, learning_rate=1.0),
        "max_grad_norm": None,
        "unit": "group",
    }
    return Term(**{**settings, **changes})


def gradient(policy: TinyLanguageModel, batch: Batch, of: Term) -> Tensor:
    Learner(policy, {"policy": of}, Streams(0)).update(batch, 1, 0.0)
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def close(one: Tensor, other: Tensor) -> None:
    assert float(one.norm()) > 1e-3
    assert float((one - other).norm() / one.norm()) < 1e-6


@pytest.mark.parametrize("loss", [logistic, mirror_regression, regularised_logistic])
@pytest.mark.parametrize("tokens", [1, 25, 40])
def test_micro_batches_are_the_whole(loss, tokens):
    policy = language(tokens)
    parts = list(policy.split(rows_of(pairs(), True, whole_groups=True)))
    assert len(parts) > 1
    for part in parts:
        _, counts = torch.unique(part.episodes["group"], return_counts=True)
        assert counts.tolist() == [2] * len(counts)
    close(gradient(language(), pairs(), term(loss)), gradient(policy, pairs(), term(loss)))


@pytest.mark.parametrize("tokens", [1, 10**6])
def test_the_order_of_episodes_is_no_matter(tokens):
    order = torch.tensor([4, 0, 8, 5, 2, 7, 1, 3, 9, 6])  # members of a pair apart
    close(gradient(language(), pairs(), term()), gradient(language(tokens), pairs().select(order), term()))


def test_the_loss_is_the_mean_over_pairs():
    policy, batch = language(), pairs()
    everything = rows_of(batch, True)
    logp = policy.quantities(everything, frozenset({"logp"}))["logp"].detach()
    losses = logistic(logp, everything).loss
    each = [float(losses[everything.owner == 2 * i][0]) for i in range(5)]
    found = Learner(policy, {"policy": term(logistic)}, Streams(0)).update(batch, 1, 0.0)
    assert found["policy/loss"] == pytest.approx(sum(each) / 5, rel=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_minibatches_are_of_whole_pairs_and_shuffled_anew_each_pass(count):
    held = Learner(language(), {"policy": term(minibatches=count)}, Streams(0))
    (active,) = held.terms
    everything = rows_of(pairs().select(torch.randperm(10, generator=torch.Generator().manual_seed(0))), True, True)

    def passes(step, epoch):
        return [m.episodes["group"].tolist() for m in held._minibatches(active, everything, step, epoch)]

    first = passes(0, 0)
    assert len(first) == count
    assert sorted(g for part in first for g in part) == sorted(pairs()["group"].tolist())
    assert all(part[::2] == part[1::2] for part in first)
    assert first == passes(0, 0)
    assert first != passes(0, 1) or first != passes(1, 0)


def test_more_minibatches_than_pairs_take_as_many_steps_as_there_are_pairs():
    found = Learner(language(), {"policy": term(logistic, minibatches=9)}, Streams(0)).update(pairs(), 1, 0.0)
    assert found["optimiser_steps"] == 5


def test_a_term_of_single_episodes_is_refused_where_it_cuts_pairs():
    with pytest.raises(UsageError, match='its term needs unit "group"'):
        gradient(language(1), pairs(), term(unit=""))
    with pytest.raises(UsageError, match="minibatch_decisions"):
        term(minibatch_decisions=8)
    with pytest.raises(UsageError, match="unit is group"):
        term(unit="pair")


def test_actors_learn_from_whole_groups_too():
    # the unit is the term's, not the policy's: episodes of actions in groups are kept whole as well
    recipe = control_recipe("grpo", "toy_worlds:Line", settings={"terms.policy.unit": "group"})
    parts = assemble(recipe)
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
    parts.learner.update(parts.credited(batch, 0.0), 0, 0.0)
    everything = rows_of(batch, False, whole_groups=True)
    for part in parts.learner._minibatches(parts.learner.terms[0], everything, 0, 0):
        _, counts = torch.unique(part.episodes["group"], return_counts=True)
        assert counts.tolist() == [4] * len(counts)


# ---- what has to be so before the first update


@pytest.mark.parametrize("name", ["dpo", "ipo", "rpo", "iterated-dpo", "iterated-ipo", "inpo"])
def test_the_first_loss_is_that_of_a_margin_of_0(name):
    recipe = text_recipe(name, settings={"terms.policy.minibatches": 1, "terms.policy.epochs": 1})
    parts = assemble(recipe)
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
    found = parts.learner.update(parts.credited(batch, 0.0), 0, 0.0)
    beta = recipe.get("terms.policy.objectives.policy.loss.beta", missing=0.3)
    at_0 = math.log(2) if "dpo" in name or name == "rpo" else 1 / (4 * beta**2)
    imitated = 0.005 * beta * -found["policy/chosen_logp"] if name == "rpo" else 0.0
    assert found["policy/margin"] == pytest.approx(0.0, abs=1e-5)
    assert found["policy/loss"] == pytest.approx(at_0 + imitated, rel=1e-5)


@pytest.mark.parametrize(("name", "column"), [("dpo", "reference_logp"), ("inpo", "reference_logp")])
def test_a_margin_off_0_stops_the_run(name, column):
    parts = assemble(text_recipe(name))
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
    batch = parts.credited(batch, 0.0)
    wrong = batch.with_columns(**{column: batch[column] - 0.1 * batch["preferred"].float()})
    with pytest.raises(RunStopped, match=r"policy\.policy should be at its start.* before the first update"):
        parts.learner.update(wrong, 0, 0.0)
    parts.learner.update(wrong, 1, 0.0)  # later it may be anything


def test_the_policy_of_the_round_by_its_name_is_the_anchor():
    # a target of rate 1 is a snapshot: what it says of the next round's answers is what the sampler wrote down
    recipe = text_recipe("inpo").vary("test", {"targets": {"round": Target(rate=1.0)}, "start": None})
    parts = assemble(recipe)
    for step in range(2):
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 3, 4)
        batch = parts.credited(batch, 0.0, step)
        snapshot = score(batch, parts.learner.targets["round"], "logp")
        said = batch.sampled
        torch.testing.assert_close(snapshot[said], batch["behaviour_logp"][said], atol=1e-5, rtol=0)
        if step:
            assert float((snapshot - batch["reference_logp"])[said].abs().max()) > 1e-3  # and no longer the start
        parts.learner.update(batch, step, 0.0)
