"""However an optimiser step is cut, ordered or padded, its gradient is the same."""

import math

import pytest
import torch
from torch import Tensor

from pilotage.credit.groups import Relative
from pilotage.data.batch import Batch, concatenate, from_episodes
from pilotage.data.piece import Piece, UsageError, piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Text
from pilotage.learn import optimisers, schedules
from pilotage.learn.learner import Learner, Tally
from pilotage.learn.terms import Objective, Term
from pilotage.losses.imitation import likelihood
from pilotage.losses.policy import clipped_ratio, policy_gradient
from pilotage.losses.regularise import negative_entropy, reference_divergence
from pilotage.losses.terms import Terms, over_episodes
from pilotage.losses.value import squared_error
from pilotage.policies import language as llm
from pilotage.policies.base import Policy, rows_of
from pilotage.policies.language import TinyLanguageModel
from pilotage.policies.mlp import ActorCritic
from toy_worlds import Line

TEXT = Text(max_tokens=16, alphabet="abcdefgh")
REDUCTIONS = ["token", "sequence", "constant(8)"]


def language(tokens_per_microbatch: int = 10**6) -> TinyLanguageModel:
    policy = TinyLanguageModel(
        TEXT, TEXT, hidden=16, layers=1, heads=2, context=64, seed=0, critic=True,
        tokens_per_microbatch=tokens_per_microbatch,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


def control() -> ActorCritic:
    world = Line()
    policy = ActorCritic(world.observation, world.action, hidden=(16,), critic=True, seed=0)
    with torch.no_grad():
        policy.actor[-1].weight.mul_(50)
    return policy


def texts(lengths=(9, 3, 14, 5, 7, 11), groups=(0, 0, 1, 1, 2, 2)) -> Batch:
    """Episodes of two prompt tokens and some answer, with rewards, old log-probs and critic's columns."""
    generator = torch.Generator().manual_seed(2)
    count = len(lengths)

    def each(make):
        return [make(n) for n in lengths]

    return from_episodes(
        {
            "action": each(lambda n: torch.randint(0, 11, (n,), generator=generator)),
            "sampled": each(lambda n: torch.arange(n) >= 2),
            "behaviour_logp": each(lambda n: -2.4 + 0.3 * torch.randn(n, generator=generator)),
            "reward": each(lambda n: torch.cat([torch.zeros(n - 1), torch.rand(1, generator=generator)])),
            "return": each(lambda n: torch.randn(n, generator=generator)),
            "value": each(lambda n: torch.randn(n, generator=generator)),
        },
        {"group": torch.tensor(groups), "terminated": torch.ones(count, dtype=torch.bool)},
    )


def walks(count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(3)
    lengths = [3 + i % 3 for i in range(count)]
    return from_episodes(
        {
            "observation": [torch.randn(n, 2, generator=generator) for n in lengths],
            "action": [torch.randint(0, 2, (n,), generator=generator) for n in lengths],
            "behaviour_logp": [-0.7 + 0.2 * torch.randn(n, generator=generator) for n in lengths],
            "reward": [torch.randn(n, generator=generator) for n in lengths],
            "return": [torch.randn(n, generator=generator) for n in lengths],
            "value": [torch.randn(n, generator=generator) for n in lengths],
        },
        {"group": torch.arange(count) // 2, "terminated": torch.ones(count, dtype=torch.bool)},
    )


def term(reduction: str = "token", **changes) -> Term:
    """Clipped ratio, value and entropy together, by plain descent at rate 1."""
    settings = {
        "objectives": {
            "policy": Objective(piece(clipped_ratio), reduction),
            "value": Objective(piece(squared_error, clip=0.2), reduction, 0.5),
            "entropy": Objective(piece(negative_entropy), reduction, 0.01),
        },
        "optimiser": piece(optimisers.sgd, learning_rate=1.0),
        "max_grad_norm": None,
    }
    return Term(**{**settings, **changes})


def learner(policy: Policy, of: Term) -> Learner:
    return Learner(policy, {"policy": of}, Streams(0))


def gradient(policy: Policy, batch: Batch, of: Term) -> Tensor:
    """What one update takes as gradient, all parameters in one vector."""
    credited = batch if "advantage" in batch else Relative()(batch)
    learner(policy, of).update(credited, 0, 0.0)
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


def close(one: Tensor, other: Tensor) -> None:
    assert float(one.norm()) > 1e-3
    assert float((one - other).norm() / one.norm()) < 1e-6


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("tokens", [14, 30])
def test_micro_batches_are_the_whole(reduction, tokens):
    whole = gradient(language(), texts(), term(reduction))
    parts = language(tokens)
    assert len(list(parts.split(rows_of(texts(), True)))) > 1
    close(whole, gradient(parts, texts(), term(reduction)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
def test_the_order_of_episodes_is_no_matter(reduction, make, batch):
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    close(gradient(make(), batch, term(reduction)), gradient(make(), batch.select(order), term(reduction)))


@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
def test_the_numbers_of_groups_are_no_matter(make, batch):
    renamed = batch.with_episode(group=torch.tensor([70, 70, -3, -3, 8, 8]))
    assert torch.equal(gradient(make(), batch, term()), gradient(make(), renamed, term()))


def test_a_long_episode_beside_them_changes_denominators_only():
    batch = Relative()(texts())
    long = texts(lengths=(60,), groups=(9,)).with_columns(advantage=torch.zeros(60))
    alone = term("sequence", objectives={"policy": Objective(piece(clipped_ratio), "sequence")})
    together = gradient(language(200), concatenate([batch, long]), alone)
    close(gradient(language(), batch, alone) * 6 / 7, together)


def loud(logp: Tensor, rows) -> object:
    """The clipped ratio without the promise that nothing comes of decisions without advantage."""
    return clipped_ratio(logp, rows)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
def test_silent_episodes_left_out_of_the_forward_pass_change_nothing(reduction, make, batch):
    reward = batch["reward"].clone()
    reward[batch.owner < 4] = 0.0  # two of the three groups have no signal
    batch = Relative()(batch.with_columns(reward=reward))
    losses = Piece(f"{__name__}:loud"), piece(clipped_ratio)
    terms = [term(reduction, objectives={"policy": Objective(loss, reduction)}) for loss in losses]
    close(*[gradient(make(), batch, of) for of in terms])


def test_silent_episodes_are_left_out_of_the_forward_pass():
    batch = Relative()(texts()).with_columns(advantage=(texts().owner == 2).float())
    policy = language()
    seen = []
    scored = policy.quantities
    policy.quantities = lambda part, names: (seen.append(len(part.episodes)), scored(part, names))[1]
    only = term(objectives={"policy": Objective(piece(policy_gradient))})
    learner(policy, only).update(batch, 0, 0.0)
    assert seen == [1]
    seen.clear()
    learner(policy, term()).update(batch, 0, 0.0)  # value and entropy learn from all
    assert seen == [6]


def scattered() -> Batch:
    """Texts in which single decisions have an advantage, and others are named by the column `chosen`."""
    batch = texts()
    generator = torch.Generator().manual_seed(4)
    advantage = torch.randn(batch.decisions, generator=generator) * (torch.arange(batch.decisions) % 3 == 0)
    named = torch.rand(batch.decisions, generator=generator) < 0.5
    last = batch.offsets[1:] - 1
    named[last] = advantage[last] = 0  # nothing is to be read at the ends
    return batch.with_columns(advantage=advantage, chosen=named)


def spied(policy: TinyLanguageModel, batch: Batch, of: Term, monkeypatch) -> tuple[list[int], list[int], Tensor]:
    """Rows that one update scores and tokens that its model reads, for each micro-batch, and the gradient."""
    scored, read = [], []
    quantities, states = policy.quantities, llm.hidden_states
    policy.quantities = lambda part, names: (scored.append(len(part)), quantities(part, names))[1]
    with monkeypatch.context() as patched:
        patched.setattr(llm, "hidden_states", lambda m, p: (read.append(len(p.tokens)), states(m, p))[1])
        return scored, read, gradient(policy, batch, of)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("where", ["", "chosen"])
def test_decisions_that_no_objective_hears_are_not_scored(reduction, where, monkeypatch):
    batch = scattered()
    found = []
    for loss in (Piece(f"{__name__}:loud"), piece(clipped_ratio)):
        of = term(reduction, objectives={"policy": Objective(loss, reduction, where=where)})
        found.append(spied(language(), batch, of, monkeypatch))
    heard = batch.sampled & (batch["advantage"] != 0) & (batch["chosen"] | (not where))
    every = batch.sampled & (batch["chosen"] | (not where))
    assert [rows for rows, _, _ in found] == [[int(every.sum())], [int(heard.sum())]]
    # what comes before the last decision that is heard is read, and nothing after it
    read = set()
    for last in heard.nonzero().flatten().tolist():
        start = int(batch.offsets[batch.owner[last]])
        read |= {tuple(batch["action"][start:end].tolist()) for end in range(start + 1, last + 1)}
    assert found[1][1] == [len(read)]  # a beginning that two share is read once
    close(found[0][2], found[1][2])


@pytest.mark.parametrize("where", ["", "chosen"])
@pytest.mark.parametrize(("make", "part"), [(language, "entropy"), (control, "entropy"), (language, "kl")])
def test_what_one_objective_is_silent_at_another_hears(make, part, where):
    batch = scattered() if make is language else walks()
    batch = batch.with_columns(
        advantage=torch.zeros(batch.decisions),
        chosen=torch.arange(batch.decisions) % 2 == 0,
        reference_logp=batch["behaviour_logp"] + 0.1,
    )
    other = piece(negative_entropy if part == "entropy" else reference_divergence)
    both = {"policy": Objective(piece(clipped_ratio)), part: Objective(other, where=where)}
    one = term(objectives={part: both[part]})
    together = term(objectives=both)
    close(gradient(make(), batch, one), gradient(make(), batch, together))
    found = learner(make(), together).update(batch, 0, 0.0)
    name = "entropy" if part == "entropy" else "kl_reference"
    policy = make()
    rows = rows_of(batch, policy.needs_past)
    with torch.no_grad():
        given = policy.quantities(rows, frozenset({"logp", "entropy"}))
    values = given["entropy"] if part == "entropy" else reference_divergence(given["logp"], rows).loss
    expected = values[rows["chosen"]] if where else values
    assert found[f"policy/{name}"] == pytest.approx(float(expected.mean()), rel=1e-5)


@over_episodes
def summed(logp: Tensor, rows) -> Terms:
    """The likelihood of whole episodes, which every decision of one stands for."""
    return Terms(-rows.per_episode(logp))


def undeclared(logp: Tensor, rows) -> Terms:
    """The same, of which nobody is told."""
    return summed(logp, rows)


def test_an_episode_is_scored_whole_for_a_loss_that_reads_all_of_it(monkeypatch):
    batch = scattered()
    batch = batch.with_columns(chosen=batch["chosen"] & (batch.owner < 4) & batch.sampled)
    of = term(objectives={"policy": Objective(Piece(f"{__name__}:summed"), where="chosen")})
    scored, _, found = spied(language(), batch, of, monkeypatch)
    speaks = batch.total(batch["chosen"].long()) > 0
    assert 0 < int(speaks.sum()) < len(batch)
    assert scored == [int((batch.sampled & batch.spread(speaks)).sum())]
    policy = language()
    rows = rows_of(batch, True)
    (-rows.per_episode(policy.quantities(rows, frozenset({"logp"}))["logp"])[rows["chosen"]].mean()).backward()
    close(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]), found)
    of = term(objectives={"policy": Objective(Piece(f"{__name__}:undeclared"), where="chosen")})
    with pytest.raises(UsageError, match="over_episodes"):
        gradient(language(), batch, of)


def test_where_all_is_heard_nothing_is_copied():
    batch = scattered().with_columns(advantage=torch.ones(texts().decisions))
    everything = rows_of(batch, True)
    held = learner(language(), term(objectives={"policy": Objective(piece(clipped_ratio))}))
    parts = []
    held.policy.split = lambda minibatch: parts.append(minibatch) or iter(())
    held.ranks.sum_gradients = lambda parameters: [setattr(p, "grad", torch.zeros_like(p)) for p in parameters]
    held._step(held.terms[0], everything, 0, 0.0, Tally(), first=False, report=False)
    assert parts[0] is everything


@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
def test_nothing_to_learn_is_no_step_and_is_counted(make, batch):
    policy = make()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    only = term(objectives={"policy": Objective(piece(clipped_ratio))}, minibatches=3, epochs=2)
    silent = batch.with_columns(advantage=torch.zeros(batch.decisions))
    found = learner(policy, only).update(silent, 0, 0.0)
    assert found == {"skipped_steps": 6.0, "optimiser_steps": 0.0}
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    empty = batch.select(torch.zeros(6, dtype=torch.bool)).with_columns(advantage=torch.zeros(0))
    assert learner(policy, only).update(empty, 0, 0.0) == {"optimiser_steps": 0.0}


@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
def test_invalid_episodes_teach_nothing(make, batch):
    batch = Relative()(batch)
    reward = batch["reward"].clone()
    reward[batch.owner == 0] = math.nan
    spoilt = batch.with_columns(reward=reward, advantage=torch.where(batch.owner == 0, math.nan, batch["advantage"]))
    valid = torch.arange(6) != 0
    kept = gradient(make(), batch.select(valid), term("sequence"))
    close(kept, gradient(make(), spoilt.with_episode(valid=valid), term("sequence")))


def test_prompts_are_not_scored():
    batch = Relative()(texts())
    weights = []
    policy = language()
    found = learner(policy, term("sequence"))
    scored = policy.quantities
    policy.quantities = lambda part, names: (weights.append(len(part)), scored(part, names))[1]
    found.update(batch, 0, 0.0)
    assert weights == [int(batch["sampled"].sum())]


# ---- minibatches


@pytest.mark.parametrize(("make", "batch"), [(language, texts()), (control, walks())], ids=["language", "control"])
@pytest.mark.parametrize("count", [2, 4, 5])
def test_minibatches_are_a_partition_shuffled_anew_each_pass(make, batch, count):
    batch = batch.with_columns(advantage=torch.arange(batch.decisions).float())
    held = learner(make(), term(minibatches=count))
    (active,) = held.terms
    everything = rows_of(batch, held.policy.needs_past)

    def passes(step, epoch):
        return [m["advantage"].tolist() for m in held._minibatches(active, everything, step, epoch)]

    first = passes(0, 0)
    assert len(first) == count
    assert sorted(x for part in first for x in part) == everything["advantage"].tolist()
    assert first == passes(0, 0)
    assert first != passes(0, 1)
    assert first != passes(1, 0)


def test_minibatches_of_decisions_are_of_one_size():
    everything = rows_of(walks(), False)
    held = learner(control(), term(minibatches=4))
    sizes = [len(m) for m in held._minibatches(held.terms[0], everything, 0, 0)]
    assert sum(sizes) == len(everything)
    assert max(sizes) - min(sizes) <= 1
    by_size = learner(control(), term(minibatch_decisions=8))
    assert len(list(by_size._minibatches(by_size.terms[0], everything, 0, 0))) == 3  # 24 decisions


@pytest.mark.parametrize("reduction", ["token", "sequence"])
@pytest.mark.parametrize("count", [1, 3])
def test_weights_of_each_minibatch_sum_to_one(reduction, count):
    # the mean of -logp by hand over each minibatch is what is reported, on average over the steps
    policy, batch = control(), walks()
    only = term(
        objectives={"policy": Objective(piece(likelihood), reduction)},
        minibatches=count,
        optimiser=piece(optimisers.sgd, learning_rate=0.0),
    )
    held = learner(policy, only)
    expected = []
    for part in held._minibatches(held.terms[0], rows_of(batch, False), 0, 0):
        loss = -policy.quantities(part, frozenset({"logp"}))["logp"].detach()
        if reduction == "token":
            expected.append(float(loss.mean()))
        else:
            expected.append(sum(float(loss[part.owner == e].mean()) for e in part.owner.unique())
                            / len(part.owner.unique()))  # fmt: skip
    found = held.update(batch, 0, 0.0)
    assert found["policy/loss"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert found["optimiser_steps"] == count


def test_more_minibatches_than_there_is_data_take_as_many_steps_as_there_is_data():
    found = learner(control(), term(minibatches=50)).update(Relative()(walks(2)), 0, 0.0)
    assert found["optimiser_steps"] == walks(2).decisions
    assert "skipped_steps" not in found
    alone = term(minibatches=50, objectives={"policy": Objective(piece(clipped_ratio))})
    found = learner(language(), alone).update(Relative()(texts()), 0, 0.0)
    assert found["optimiser_steps"] == len(texts())
    assert "skipped_steps" not in found


# ---- clipping, rates, optimiser state


def test_the_global_norm_is_clipped_and_reported_as_it_was():
    free = gradient(control(), walks(), term())
    policy = control()
    credited = Relative()(walks())
    before = torch.cat([p.detach().flatten() for p in policy.parameters()])
    found = learner(policy, term(max_grad_norm=0.01)).update(credited, 0, 0.0)
    moved = before - torch.cat([p.detach().flatten() for p in policy.parameters()])
    assert found["policy/gradient_norm"] == pytest.approx(float(free.norm()), rel=1e-5)
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)
    loose = control()
    learner(loose, term(max_grad_norm=1e6)).update(credited, 0, 0.0)
    moved = before - torch.cat([p.detach().flatten() for p in loose.parameters()])
    torch.testing.assert_close(moved, free, atol=1e-6, rtol=1e-4)


def test_the_schedule_is_a_factor_on_the_rate():
    moves = []
    for progress in (0.0, 0.5, 0.75):
        policy = control()
        before = policy.actor[0].weight.detach().clone()
        learner(policy, term(schedule=piece(schedules.linear))).update(Relative()(walks()), 0, progress)
        moves.append(before - policy.actor[0].weight.detach())
    torch.testing.assert_close(moves[1], moves[0] * 0.5, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(moves[2], moves[0] * 0.25, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "optimiser", [piece(optimisers.adam, learning_rate=0.01), piece(optimisers.sgd, learning_rate=0.1, momentum=0.9)]
)
def test_optimiser_state_saved_and_loaded_goes_on_bitwise(optimiser):
    batch = Relative()(walks())
    policies = [control(), control()]
    held = [learner(policy, term(optimiser=optimiser, minibatches=2)) for policy in policies]
    for one in held:
        one.update(batch, 0, 0.0)
    afresh = learner(policies[1], term(optimiser=optimiser, minibatches=2))
    afresh.load_state_dict(held[1].state_dict())
    held[0].update(batch, 1, 0.1)
    afresh.update(batch, 1, 0.1)
    for one, other in zip(policies[0].parameters(), policies[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_terms_train_their_own_parameters_only():
    policy = control()
    only = Term({"policy": Objective(piece(policy_gradient))}, parameters="actor",
                optimiser=piece(optimisers.sgd, learning_rate=1.0))  # fmt: skip
    critic = Term({"value": Objective(piece(squared_error))}, parameters="critic",
                  optimiser=piece(optimisers.sgd, learning_rate=1.0))  # fmt: skip
    for name, of in (("actor", only), ("critic", critic)):
        moved_before = {k: v.clone() for k, v in policy.named_parameters()}
        Learner(policy, {name: of}, Streams(0)).update(Relative()(walks()), 0, 0.0)
        moved = {k for k, v in policy.named_parameters() if not torch.equal(v, moved_before[k])}
        assert moved
        assert all(k.startswith("critic.") == (name == "critic") for k in moved)


def test_the_mismatch_is_measured_before_the_first_step():
    policy = control()
    batch = Relative()(walks())
    logp = policy.quantities(rows_of(batch, False), frozenset({"logp"}))["logp"].detach()
    exact = batch.with_columns(behaviour_logp=logp)
    found = learner(policy, term(epochs=3)).update(exact, 0, 0.0)
    assert found["mismatch/kl"] == 0.0
    assert found["mismatch/max"] == 0.0
    off = batch.with_columns(behaviour_logp=logp + 0.5)
    again = control()
    found = learner(again, term()).update(off, 0, 0.0)
    assert found["mismatch/kl"] == pytest.approx(math.exp(-0.5) - 1 + 0.5, rel=1e-5)
    assert found["mismatch/max"] == pytest.approx(0.5, rel=1e-5)


def test_diagnostics_are_of_every_eighth_batch_of_a_step():
    policy, batch = control(), Relative()(walks())
    found = learner(policy, term())
    told = [["policy/entropy" in found.update(batch, step, 0.0) for _ in range(17)] for step in (0, 1)]
    assert told == [[i % 8 == 0 for i in range(17)]] * 2
    assert {"policy/loss", "policy/gradient_norm"} <= found.update(batch, 1, 0.0).keys()


def test_an_optimiser_of_other_parameters_is_refused():
    policy = control()
    found = learner(policy, term(optimiser=piece(optimisers.adam)))
    found.update(Relative()(walks()), 0, 0.0)
    state = found.state_dict()
    state["terms"]["policy"]["actor.weights.0"] = state["terms"]["policy"].pop("actor.0.weight")
    with pytest.raises(UsageError, match=r"has 'actor\.weights\.0', which the policy has not"):
        learner(policy, term(optimiser=piece(optimisers.adam))).load_state_dict(state)
