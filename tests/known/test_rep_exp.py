"""RepExp by hand: leverages, gates, projections, pools; the numbers are those of the method's card."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers import differing, episodes, final_state, metrics, text_recipe, trained
from pilotage import api
from pilotage.credit import novelty
from pilotage.credit.elliptical import Elliptical
from pilotage.credit.novelty import coreset, embeddings, last_sampled, leverages, sparse_projection
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import rows_of
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.pools import Pools, first_right, first_right_at_random, pass_at_k

RIDGE = 0.01


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def centred(features):
    return features - features.mean(0)


# ---- leverages


def test_a_chain_of_rank_one_updates_is_the_inverse():
    features = drawn(8, 5)
    inverse = torch.eye(5, dtype=torch.float64) / RIDGE
    for row in features:
        direction = inverse @ row
        inverse = inverse - torch.outer(direction, direction) / (1 + row @ direction)
    direct = torch.linalg.inv(RIDGE * torch.eye(5, dtype=torch.float64) + features.T @ features)
    assert torch.allclose(inverse, direct, atol=1e-10, rtol=0)
    assert torch.allclose(leverages(features, RIDGE), (features @ inverse * features).sum(1), atol=1e-10, rtol=0)


def test_a_pair():
    # card: (h, -h) with |h|² = s: s / (λ + 2s), and left out s / (λ + s)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    found = leverages(centred(pair), RIDGE)
    assert found.tolist() == pytest.approx([0.4975124, 0.4975124], abs=1e-7)
    assert (found / (1 - found)).tolist() == pytest.approx([0.9900990, 0.9900990], abs=1e-7)
    for s in (0.3, 4.0):
        assert leverages(pair * s**0.5, RIDGE).tolist() == pytest.approx([s / (RIDGE + 2 * s)] * 2, rel=1e-12)


def test_three_copies_share_one_unit():
    features = torch.tensor([[3.0, 0], [3, 0], [3, 0], [0, 4]], dtype=torch.float64)
    found = leverages(centred(features), RIDGE)
    assert found.tolist() == pytest.approx([0.0832889] * 3 + [0.7496002], abs=1e-7)
    assert float(found.sum()) == pytest.approx(0.9994670, abs=1e-7)


@pytest.mark.parametrize(("count", "width"), [(8, 5), (4, 9)])
def test_their_sum_is_below_the_rank(count, width):
    features = centred(drawn(count, width))
    singular = torch.linalg.svdvals(features)
    total = float(leverages(features, RIDGE).sum())
    assert total == pytest.approx(float((singular**2 / (RIDGE + singular**2)).sum()), abs=1e-10)
    assert total < torch.linalg.matrix_rank(features) <= min(count - 1, width)


def test_what_they_do_not_depend_on():
    features = drawn(6, 4)
    rotation, _ = torch.linalg.qr(drawn(4, 4, seed=1))
    found = leverages(centred(features), RIDGE)
    assert torch.allclose(leverages(centred(features @ rotation), RIDGE), found, atol=1e-12)
    assert torch.allclose(leverages(centred(features + 7.0), RIDGE), found, atol=1e-12)
    assert torch.allclose(leverages(centred(features.flip(0)), RIDGE), found.flip(0), atol=1e-12)
    assert not torch.allclose(leverages(centred(3 * features), RIDGE), found, atol=1e-4)
    assert torch.allclose(leverages(3 * centred(drawn(4, 6)), 1e-12), leverages(centred(drawn(4, 6)), 1e-12), atol=1e-8)


def test_long_generic_vectors_saturate():
    # card: eight Gaussian vectors of 32 numbers: 0.8744 to 0.8748
    found = leverages(centred(drawn(8, 32)), RIDGE)
    assert float(found.min()) > 0.8740
    assert float(found.max()) < 0.8750


def test_the_projection_keeps_lengths_on_average_and_is_sparse():
    matrix = sparse_projection(np.random.default_rng(0), 4096, 64)
    assert matrix.unique().tolist() == pytest.approx([-1.0, 0.0, 1.0])  # ±sqrt(1 / (64 / 64))
    assert float((matrix != 0).double().mean()) == pytest.approx(1 / 64, rel=0.05)
    features = drawn(20, 4096)
    lengths = (features @ matrix).square().sum(1) / features.square().sum(1)
    assert float(lengths.mean()) == pytest.approx(1.0, abs=0.1)


# ---- the link


class Told:
    """A policy whose features are a column of the record."""

    gives = frozenset({"features"})
    needs_past = False
    training = False

    def split(self, minibatch):
        yield minibatch

    def quantities(self, minibatch, names):
        return {"features": torch.stack([minibatch["one"], minibatch["two"]], -1)}

    def requires_grad_(self, _):
        return self

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}


FOUR = [[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [0.0, 4.0]]


def group(rewards, features=None, groups=None, **more):
    """Answers of two tokens each, whose states lie 1 to either side of their feature."""
    features = FOUR if features is None else features
    made = episodes(
        rewards,
        groups or [0] * len(rewards),
        lengths=[2] * len(rewards),
        one=[[x - 1, x + 1] for x, _ in features],
        two=[[y, y] for _, y in features],
        **more,
    )
    return made.with_episode(task=torch.full((len(rewards),), 7))


def link(batch, step=0, **settings):
    made = Elliptical(**{"dimension": 0, **settings})
    return made, made(batch, Told(), Streams(0), step)


def test_the_bonus_stands_at_the_last_token():
    made, found = link(group([1, 0, 0, 0]))
    assert found["reward"].tolist() == pytest.approx(
        [0, 1 + 0.01 * 0.0832889, 0, 0.01 * 0.0832889, 0, 0.01 * 0.0832889, 0, 0.01 * 0.7496002], abs=1e-7
    )
    assert found["verdict"].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    said = made.metrics()
    assert said["bonus/gated"] == 0
    assert said["bonus/least"] == pytest.approx(0.0832889, abs=1e-7)
    assert said["bonus/most"] == pytest.approx(0.7496002, abs=1e-7)
    assert said["bonus/mean"] == pytest.approx(0.9994670 / 4, abs=1e-7)
    assert said["bonus/spread"] == pytest.approx(np.std([0.0832889] * 3 + [0.7496002]), abs=1e-7)
    assert float(link(group([1, 0, 0, 0]), alpha=2.0)[1].returns[0]) == pytest.approx(2.000832889, abs=1e-6)


def test_a_bonus_of_weight_zero_changes_nothing():
    batch = group([1, 0, 0, 0])
    assert torch.equal(link(batch, beta=0.0)[1]["reward"], batch["reward"])


RIGHT_AND_WRONG = [1, 0, 0, 0, 0, 0, 1, 1]  # of groups with some, none and all right


@pytest.mark.parametrize(
    ("off", "groups_open"),
    [
        (("none correct",), [True, False, True]),
        (("some correct",), [False, True, False]),
        (("all correct",), [True, True, False]),
        (("none correct", "all correct"), [True, False, False]),
        ((), [True, True, True]),
    ],
)
def test_gates_of_groups(off, groups_open):
    groups = [0, 0, 0, 0, 1, 1, 2, 2]
    batch = group(RIGHT_AND_WRONG, [*FOUR, [1, 0], [-1, 0], [0, 1], [0, -1]], groups)
    made, found = link(batch, off=off)
    expected = torch.tensor([open_to for open_to, n in zip(groups_open, (4, 2, 2), strict=True) for _ in range(n)])
    assert torch.equal((found.returns - batch.returns) > 0, expected)
    assert torch.equal(found["reward"][~batch.spread(expected)], batch["reward"][~batch.spread(expected)])
    assert made.metrics()["bonus/gated"] == pytest.approx(1 - float(expected.double().mean()))


def test_a_gate_of_answers_leaves_the_group_as_it_is():
    batch = group([1, 0, 0, 0])
    found = link(batch, off=("itself wrong",))[1].returns - batch.returns
    assert found.tolist() == pytest.approx([0.01 * 0.0832889, 0, 0, 0], abs=1e-7)


def test_leave_one_out_and_normalisation():
    leverage = np.array([0.0832889, 0.0832889, 0.0832889, 0.7496002])
    wanted = {
        (("form", "leave-one-out"),): leverage / (1 - leverage),
        (("normalise", "std"),): leverage / leverage.std(ddof=1),
        (("normalise", "z"),): (leverage - leverage.mean()) / leverage.std(ddof=1),
    }
    batch = group([1, 0, 0, 0])
    for settings, expected in wanted.items():
        found = link(batch, beta=1.0, **dict(settings))[1].returns - batch.returns
        assert found.numpy() == pytest.approx(expected, rel=1e-5)
    same = group([1, 0], [[1, 0], [1, 0]])
    assert torch.equal(link(same, normalise="z")[1]["reward"], same["reward"])


def test_groups_of_one_and_invalid_members():
    alone = group([1.0], [[3.0, 4.0]])
    assert torch.equal(link(alone)[1]["reward"], alone["reward"])
    one = [*FOUR[:2], [math.nan, math.nan], *FOUR[2:]]  # whatever an invalid member holds
    batch = group([1, 0, 1, 0, 0], one, valid=[True, True, False, True, True])
    found = link(batch)[1].returns - batch.returns
    assert found.tolist() == pytest.approx([0.000832889, 0.000832889, 0, 0.000832889, 0.007496002], abs=1e-7)
    nobody = group([1, 1], [[1, 0], [0, 1]], valid=[False, False])
    assert torch.equal(link(nobody)[1]["reward"], nobody["reward"])


def test_what_is_remembered_of_a_prompt():
    # old and new about one mean: as if all had been in the sum at once
    first, second = FOUR, [[1.0, 1.0], [0.0, 2.0], [5.0, 0.0], [0.0, 1.0]]
    made = Elliptical(dimension=0, redraw=False, persist=2, beta=1.0)
    made(group([1, 0, 0, 0], first), Told(), Streams(0), 0)
    again = Elliptical(dimension=0, redraw=False, persist=2, beta=1.0)
    again.load_state_dict(made.state_dict())
    together = torch.tensor(first + second, dtype=torch.float64)
    expected = leverages(together - together.mean(0), RIDGE)[4:]
    for one in (made, again):
        batch = group([1, 0, 0, 0], second)
        found = one(batch, Told(), Streams(0), 1)
        assert (found.returns - batch.returns).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    for task in (8, 9):
        batch = group([1, 0, 0, 0]).with_episode(task=torch.full((4,), task))
        made(batch, Told(), Streams(0), 2)
    assert list(made.seen) == [8, 9]  # that of longest ago is forgotten


def test_each_step_has_a_projection_of_its_own():
    def bonus(step, **settings):
        return link(group([1, 0, 0, 0]), step, dimension=1, **settings)[1]["reward"]

    assert not torch.equal(bonus(0), bonus(1))
    assert torch.equal(bonus(1), bonus(1))
    assert torch.equal(bonus(0, redraw=False), bonus(1, redraw=False))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"form": "leverages"}, "form is one of"),
        ({"off": ("never",)}, "off is one of"),
        ({"persist": 4}, "redraw=false"),
        ({"ridge": 0.0}, "ridge is above 0"),
    ],
)
def test_settings_it_refuses(settings, said):
    with pytest.raises(UsageError, match=said):
        Elliptical(**settings)


def test_a_policy_without_states_is_refused():
    class Blind(Told):
        gives = frozenset({"logp"})

    with pytest.raises(UsageError, match="gives no features"):
        Elliptical()(group([1, 0, 0, 0]), Blind(), Streams(0), 0)


# ---- states of a language model


@pytest.fixture(scope="module")
def spoken():
    parts = assemble(text_recipe("rep-exp"))
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
    yield parts, batch
    parts.world.close()


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_features_are_the_states_at_the_answers_tokens(spoken, pooling):
    parts, batch = spoken
    found = embeddings(batch, parts.policy, pooling)
    for i in range(len(batch)):
        one = batch.select(torch.tensor([i]))
        with torch.no_grad():
            states = parts.policy.model.base_model(input_ids=one["action"].unsqueeze(0)).last_hidden_state[0]
        chosen = states[one.sampled].double()
        expected = chosen.mean(0) if pooling == "mean" else chosen[-1]
        assert torch.allclose(found[i], expected, atol=1e-5)


def test_features_beside_log_probs(spoken):
    parts, batch = spoken
    rows = rows_of(batch, needs_past=True)
    both = parts.policy.quantities(rows, frozenset({"features", "logp"}))
    alone = {name: parts.policy.quantities(rows, frozenset({name}))[name] for name in both}
    assert all(torch.equal(both[name], alone[name]) for name in both)


def test_the_last_sampled_token():
    batch = episodes([0, 0, 0], lengths=[3, 2, 2], sampled=[[True, True, False], [False, False], [False, True]])
    at, some = last_sampled(batch)
    assert at.tolist() == [1, 6]
    assert some.tolist() == [True, False, True]


def test_the_bonus_is_a_constant_of_the_start(spoken):
    parts, batch = spoken
    made = Elliptical(off=())
    before = made(batch, parts.policy, parts.streams, 0)
    assert not before["reward"].requires_grad
    assert not any(p.requires_grad for p in made.frozen.parameters())
    moved = assemble(text_recipe("rep-exp", seed=1))
    moved.world.close()
    assert torch.equal(made(batch, moved.policy, parts.streams, 0)["reward"], before["reward"])
    other = Elliptical(off=())(batch, moved.policy, parts.streams, 0)
    assert not torch.equal(other["reward"], before["reward"])


# ---- pools


def test_greedy_picks():
    one, other = [1.0, 0.0], [0.0, 1.0]
    assert coreset(torch.tensor([one, one, other]), 2, centre=False) == [0, 2]
    assert coreset(torch.tensor([one, one, other]), 9, centre=False) == [0, 2, 1]
    assert coreset(torch.tensor([one, [2.0, 0.0], other]), 1, centre=False) == [1]
    assert coreset(torch.zeros(3, 2), 2) == [0, 1]


def test_picks_are_those_of_the_inverse_itself():
    features = centred(drawn(30, 6))
    picked = coreset(features, 30, ridge=0.1)
    assert sorted(picked) == list(range(30))
    for i, pick in enumerate(picked):
        seen = features[picked[:i]]
        inverse = torch.linalg.inv(0.1 * torch.eye(6, dtype=torch.float64) + seen.T @ seen)
        worth = (features @ inverse * features).sum(1)
        rest = [j for j in range(30) if j not in picked[:i]]
        assert float(worth[pick]) == pytest.approx(float(worth[rest].max()), rel=1e-9)


def test_picks_of_digits_meet_more_classes_than_chance():
    datasets = pytest.importorskip("sklearn.datasets")
    data, label = datasets.load_digits(return_X_y=True)
    generator, novel, chance = np.random.default_rng(0), [], []
    for usual in range(10):  # a pool as answers are: most of one kind
        rare = [generator.permutation(np.flatnonzero(label == other))[:3] for other in range(10) if other != usual]
        pool = generator.permutation(np.concatenate([np.flatnonzero(label == usual), *rare]))
        novel.append(len(set(label[pool][coreset(torch.from_numpy(data[pool]), 10)])))
        chance.append(len(set(label[pool][:10])))
    assert np.mean(novel) > np.mean(chance) + 2


@pytest.mark.parametrize(("n", "c"), [(5, 0), (5, 2), (6, 6), (8, 1)])
def test_pass_at_k_is_the_mean_over_all_subsets(n, c):
    import itertools

    right = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(right, k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    with pytest.raises(ValueError, match="answers"):
        pass_at_k(n, c, n + 1)


@pytest.mark.parametrize(("n", "m"), [(5, 1), (6, 3), (4, 4)])
def test_first_right_at_random_is_the_mean_over_all_orders(n, m):
    import itertools

    right = [True] * m + [False] * (n - m)
    every = [first_right(order, right) for order in itertools.permutations(range(n))]
    assert first_right_at_random(n, m) == pytest.approx(np.mean(every))
    with pytest.raises(ValueError, match="no answer"):
        first_right([0], [False])
    with pytest.raises(ValueError, match="no answer"):
        first_right_at_random(3, 0)


def test_a_measure_of_pools(spoken):
    parts, _ = spoken
    found = Pools(tasks=3, samples=8, correct=0.25)(parts.policy, parts.world, parts.recipe)
    assert found == Pools(tasks=3, samples=8, correct=0.25)(parts.policy, parts.world, parts.recipe)
    passes = [found[f"pools/pass@{k}"] for k in (1, 2, 4, 8)]
    assert passes == sorted(passes)
    assert found["pools/novel@8"] == passes[-1] == found["pools/solved"] > 0
    assert {f"pools/{part}_{how}" for part in ("first", "hard", "easy") for how in ("random", "novel", "last")} <= set(
        found
    )
    thirds = [found[f"pools/{part}_random"] for part in ("easy", "middle", "hard")]
    assert thirds == sorted(thirds)
    nothing = Pools(tasks=2, samples=2, correct=2.0)(parts.policy, parts.world, parts.recipe)
    assert nothing["pools/solved"] == 0
    assert "pools/first_novel" not in nothing


def test_picks_do_not_see_verdicts(spoken, monkeypatch):
    parts, _ = spoken
    orders = []
    kept = novelty.coreset
    monkeypatch.setattr("pilotage.run.pools.coreset", lambda *a, **k: orders.append(kept(*a, **k)) or orders[-1])
    Pools(tasks=2, samples=8, correct=0.25)(parts.policy, parts.world, parts.recipe)
    monkeypatch.setattr(type(parts.world), "verify", lambda self, task, answer: float(len(answer) % 2))
    Pools(tasks=2, samples=8, correct=0.25)(parts.policy, parts.world, parts.recipe)
    assert orders[: len(orders) // 2] == orders[len(orders) // 2 :] != []


# ---- runs


def test_persistence_goes_on_exactly(tmp_path):
    settings = {"credit.bonus.redraw": False, "credit.bonus.persist": 8, "credit.bonus.off": (), "sampler.pool": 3}
    recipe = text_recipe("rep-exp", settings=settings)
    api.train(recipe, out=tmp_path / "whole")
    loop.train(recipe, tmp_path / "parted", until=1)
    api.resume(tmp_path / "parted")
    assert differing(final_state(tmp_path / "whole"), final_state(tmp_path / "parted")) == []
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parted")
    assert final_state(tmp_path / "whole")["parts"]["links"]["credit.bonus"]["seen"]


def test_without_the_bonus_it_is_grpo_and_with_it_it_is_not(tmp_path):
    # on this world no untrained answer is right: without gates there is a bonus
    bare = {"credit.bonus.off": (), "reduction": "sequence"}
    on, off, closed = (
        text_recipe("rep-exp", settings={**bare, **more})
        for more in (
            {},
            {"credit.bonus.beta": 0.0},
            {"credit.bonus.off": ("none correct",), "credit.bonus.correct": 9.0},
        )
    )
    made = [trained(one, tmp_path / str(i)) for i, one in enumerate((text_recipe("grpo"), off, closed, on))]
    assert differing(made[0], made[1]) == differing(made[0], made[2]) == []
    assert differing(made[0], made[3]) != []


def test_a_measure_is_added_by_name():
    made = api.recipe("grpo", "toy_worlds:Echo", settings={"evaluation.measures.pools": "pilotage.run.pools:Pools"})
    assert made.evaluation.measures["pools"].use == "pilotage.run.pools:Pools"
    with pytest.raises(UsageError, match="measures"):
        api.recipe("grpo", "toy_worlds:Echo", settings={"evaluation.measures.pools": 3})


def test_dapo_drops_groups_by_what_the_bonus_leaves(tmp_path):
    # the bonus is there before the filter looks, whatever the order of naming
    recipes = [text_recipe(name, settings={"credit.bonus.off": ()}) for name in ("rep-exp+dapo", "dapo+rep-exp")]
    kept = []
    for recipe in recipes:
        assert {"bonus", "filter", "advantage"} <= set(recipe.credit)
        parts = assemble(dataclasses.replace(recipe, world=dataclasses.replace(recipe.world, use="toy_worlds:Flat")))
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 3, 4)
        kept.append(parts.credited(batch, 0.0))
        parts.world.close()
        api.train(recipe, out=tmp_path / recipe.name)
    assert len(kept[0]) == len(kept[1]) == 12  # all answers are worth the same, and differ in novelty
    assert torch.equal(kept[0]["advantage"], kept[1]["advantage"])
    assert kept[0]["advantage"].abs().max() > 0.1
