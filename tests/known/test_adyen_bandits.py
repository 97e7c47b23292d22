"""Numbers and statements of the card `adyen-bandits`, and of the rules, oracles and memory around it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import differing, final_state
from pilotage import api
from pilotage.data.batch import Batch
from pilotage.data.memory import Memory
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies import explore
from pilotage.policies.bandit import BanditPolicy
from pilotage.policies.oracles import Boosted, Linear, Logistic
from pilotage.worlds.bandits import SimulatedBandit, TableBandit

SCORES = torch.tensor([0.9, 0.8, 0.5], dtype=torch.float64)
ALL = torch.ones(3, dtype=torch.bool)


def weighted(scores, gamma, available=None, floor=0.0):
    given = torch.as_tensor(scores, dtype=torch.float64)
    there = torch.ones(given.shape, dtype=torch.bool) if available is None else torch.as_tensor(available)
    return explore.inverse_gap(given, there, gamma=gamma, floor=floor)


class TestInverseGap:
    @pytest.mark.parametrize(
        ("gamma", "expected", "cost"),
        [(10, [0.607143, 0.25, 0.142857], 0.082143), (100, [0.899821, 0.076923, 0.023256], 0.016995)],
    )
    def test_by_hand(self, gamma, expected, cost):
        found = weighted(SCORES, gamma)
        assert found.tolist() == pytest.approx(expected, abs=1e-6)
        spent = float((found * (0.9 - SCORES)).sum())
        assert spent == pytest.approx(cost, abs=1e-6)
        assert spent <= 2 / gamma

    def test_without_gamma_it_is_uniform_and_with_all_of_it_greedy(self):
        assert weighted(SCORES, 0.0).tolist() == [1 / 3] * 3
        assert weighted(SCORES, 1e15).tolist() == pytest.approx([1, 0, 0], abs=1e-12)

    @pytest.mark.parametrize("gamma", [0.0, 1.0, 1e6])
    def test_equal_predictions_are_uniform(self, gamma):
        assert weighted([0.4] * 5, gamma).tolist() == [0.2] * 5

    def test_one_action_is_certain(self):
        assert weighted([0.3], 10.0).tolist() == [1.0]

    @given(
        st.lists(st.integers(-64, 64).map(lambda i: i / 64), min_size=2, max_size=8),  # shifts are then exact
        st.floats(0, 1e4),
        st.integers(-5, 5),
        st.randoms(use_true_random=False),
    )
    def test_for_all_scores(self, scores, gamma, shift, random):
        count, found = len(scores), weighted(scores, gamma)
        best = max(range(count), key=lambda i: scores[i])  # the first, as here
        gap = scores[best] - np.array(scores)
        assert float(found.sum()) == pytest.approx(1)
        assert float(found[best]) >= 1 / count - 1e-12
        order = sorted(range(count), key=lambda i: (scores[i], i == best))
        assert (np.diff(found.numpy()[order]) >= -1e-9).all()
        if gamma:
            assert float((found.numpy() * gap).sum()) < (count - 1) / gamma + 1e-12
        assert weighted((np.array(scores) + shift).tolist(), gamma).numpy() == pytest.approx(
            found.numpy(), abs=1e-9 * (1 + gamma)
        )
        if len(set(scores)) == count:
            turned = list(range(count))
            random.shuffle(turned)
            again = weighted([scores[i] for i in turned], gamma)
            assert again.tolist() == pytest.approx([float(found[i]) for i in turned], abs=1e-12)

    def test_rewards_and_costs_are_the_same(self):
        cost, gamma, count = 1 - SCORES, 10.0, 3
        other = 1 / (count + gamma * (cost - cost.min()))
        other[0] = 1 - other[1:].sum()
        assert weighted(SCORES, gamma).tolist() == pytest.approx(other.tolist(), abs=1e-12)

    def test_the_floor(self):
        found = weighted(SCORES, 1e12, floor=0.3)
        assert float(found.min()) >= 0.1 - 1e-15
        assert float(found.sum()) == pytest.approx(1)

    def test_an_absent_action_has_no_probability_and_does_not_count(self):
        found = weighted([0.9, 2.0, 0.8, 0.5], 10.0, [True, False, True, True])
        assert found.tolist() == pytest.approx([0.607143, 0, 0.25, 0.142857], abs=1e-6)
        assert float(found[1]) == 0.0


class TestRules:
    def test_epsilon_greedy(self):
        there = torch.tensor([True, True, False])
        assert explore.epsilon_greedy(SCORES, there, epsilon=0.1).tolist() == pytest.approx([0.95, 0.05, 0])

    def test_softmax(self):
        found = explore.softmax(SCORES, torch.tensor([True, False, True]), temperature=0.4)
        assert found.tolist() == pytest.approx([math.e / (math.e + 1), 0, 1 / (math.e + 1)])

    def test_upper_confidence_takes_the_largest_bound(self):
        found = explore.upper_confidence(SCORES, ALL, deviation=torch.tensor([0.1, 0.3, 0.5]).double(), alpha=1.0)
        assert found.tolist() == [0, 1, 0]

    def test_thompson_is_the_share_of_draws_that_win(self):
        scores = torch.tensor([0.2, 0.5, 0.45, 3.0], dtype=torch.float64)
        spread = torch.tensor([0.9, 0.2, 0.01, 0.1], dtype=torch.float64)
        there = torch.tensor([True, True, True, False])
        found = explore.probability_matching(scores, there, deviation=spread, alpha=1.0)
        drawn = np.random.default_rng(0).normal(scores[:3], spread[:3], (400_000, 3)).argmax(1)
        assert found[:3].tolist() == pytest.approx(np.bincount(drawn, minlength=3) / 400_000, abs=0.01)
        assert float(found[3]) == 0.0

    def test_two_equal_arms_are_matched_evenly(self):
        found = explore.probability_matching(
            torch.zeros(2).double(), ALL[:2], deviation=torch.ones(2).double(), alpha=1
        )
        assert found.tolist() == pytest.approx([0.5, 0.5])

    def test_draws_follow_probabilities_and_never_take_what_has_none(self):
        chances = torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64).expand(4001, 5)
        found = explore.draw(chances, torch.cat([torch.linspace(0, 1, 4001)[:-1], torch.ones(1)]).double())
        assert torch.bincount(found, minlength=5).tolist() == [0, 1000, 0, 3001, 0]


def data(count=400, inputs=4, actions=3, seed=0):
    rng = np.random.default_rng(seed)
    context = torch.from_numpy(rng.standard_normal((count, inputs)))
    action = torch.from_numpy(rng.integers(actions, size=count))
    chance = torch.sigmoid((context * torch.tensor([1.0, -1, 0.5, 0])).sum(1) + action - 1)
    return (
        context,
        action,
        (torch.from_numpy(rng.random(count)) < chance).double(),
        torch.zeros(count, dtype=torch.int64),
    )


class TestOracles:
    def test_linear_is_ridge_regression(self):
        context, action, reward, copy = data()
        oracle = Linear(4, 3, 1, 0, ridge=2.0)
        oracle.fit(context, action, reward, copy, anew=True)
        x = torch.cat([context, torch.ones(len(context), 1)], 1)[action == 1]
        gram = x.T @ x + 2.0 * torch.eye(5)
        weights = torch.linalg.solve(gram, x.T @ reward[action == 1])
        assert oracle.weights[0, 1].tolist() == pytest.approx(weights.tolist())
        row = torch.cat([context[:1], torch.ones(1, 1)], 1)
        expected = float((row @ torch.linalg.inv(gram) @ row.T).sqrt())
        assert float(oracle.deviation(context[None, :1])[0, 0, 1]) == pytest.approx(expected)

    def test_linear_grows_as_if_it_had_seen_all_at_once(self):
        rows = data()
        whole, parts = Linear(4, 3, 1, 0), Linear(4, 3, 1, 0)
        whole.fit(*rows, anew=True)
        for part in (slice(0, 100), slice(100, 250), slice(250, None)):
            parts.fit(*(column[part] for column in rows), anew=False)
        assert torch.allclose(whole.weights, parts.weights, rtol=1e-10)

    def test_copies_side_by_side_are_bandits_apart(self):
        many = Linear(4, 3, 2, 0)
        one, other = data(seed=1), data(seed=2)
        many.fit(*(torch.cat(pair) for pair in zip(one[:3], other[:3], strict=True)),
                 torch.arange(800) // 400, anew=True)  # fmt: skip
        for i, rows in enumerate((one, other)):
            alone = Linear(4, 3, 1, 0)
            alone.fit(*rows, anew=True)
            assert torch.allclose(many.weights[i], alone.weights[0], rtol=1e-10)

    def test_logistic_predicts_what_scikit_learn_does_and_shrinks_what_it_hardly_knows(self):
        linear_model = pytest.importorskip("sklearn.linear_model")
        context, action, reward, copy = data()
        reward[action == 2] = 1.0
        oracle = Logistic(4, 4, 1, 0, ridge=0.5)
        oracle.fit(context, action, reward, copy, anew=True)
        found = oracle.scores(context[None])[0]
        own = linear_model.LogisticRegression(C=2.0, tol=1e-8).fit(context[action == 0], reward[action == 0])
        assert found[:, 0].numpy() == pytest.approx(own.predict_proba(context)[:, 1], abs=1e-3)
        plays = int((action == 2).sum())
        assert float(found[0, 2]) == pytest.approx((1 + plays) / (2 + plays))
        assert float(found[0, 3]) == pytest.approx(0.5)  # never played

    def test_our_walk_through_the_trees_is_scikit_learns(self):
        ensemble = pytest.importorskip("sklearn.ensemble")
        context, action, reward, copy = data()
        oracle = Boosted(4, 3, 1, 7, trees=20, leaves=8)
        oracle.fit(context, action, reward, copy, anew=True)
        rows = oracle.rows(context, action)
        peer = ensemble.HistGradientBoostingClassifier(
            max_iter=20, max_leaf_nodes=8, early_stopping=False, random_state=7
        ).fit(rows.numpy(), reward.numpy() > 0.5)
        assert oracle.logits(rows).numpy() == pytest.approx(peer.decision_function(rows.numpy()), abs=1e-7)
        again = Boosted(4, 3, 1, 0, trees=20, leaves=8)
        again.load_state_dict(oracle.state_dict())
        assert torch.equal(again.scores(context[None]), oracle.scores(context[None]))

    def test_only_zeros_and_ones_are_classes(self):
        context, action, reward, copy = data()
        with pytest.raises(UsageError, match=r"rewards of 0 or 1.*scorer=linear"):
            Logistic(4, 3, 1, 0).fit(context, action, reward * 0.5, copy, anew=True)


def generation(number, count=4):
    columns = {
        "action": torch.full((count,), number),
        "reward": torch.ones(count),
        "behaviour_logp": torch.zeros(count),
        "observation": torch.zeros(count, 2),
        "copy": torch.zeros(count, dtype=torch.int64),
    }
    return Batch(torch.arange(count + 1), columns)


def seen(store, generations):
    found = []
    for number in range(generations):
        store.add(generation(number))
        found.append([sorted(set(b["action"].tolist())) for b in store.batches(Streams(0), number)])
    return found


class TestMemory:
    def test_the_last_generation_only(self):
        assert seen(Memory(), 3) == [[[0]], [[1]], [[2]]]

    def test_a_window_and_all(self):
        assert seen(Memory(generations=2), 4) == [[[0]], [[0, 1]], [[1, 2]], [[2, 3]]]
        assert seen(Memory(generations=None), 3) == [[[0]], [[0, 1]], [[0, 1, 2]]]

    def test_rewards_come_in_late(self):
        assert seen(Memory(delay=1), 3) == [[], [[0]], [[1]]]
        assert seen(Memory(delay=2, generations=2), 5) == [[], [], [[0]], [[0, 1]], [[1, 2]]]

    def test_what_is_not_known_yet_is_left_out_rather_than_read_as_0(self):
        store = Memory(late=0.5)
        store.add(generation(0, 1000))
        (found,) = store.batches(Streams(0), 0)
        assert 400 < len(found) < 600
        assert bool((found["reward"] == 1).all())

    @pytest.mark.parametrize("wrong", [{"generations": 0}, {"delay": -1}, {"late": 1.0}])
    def test_what_no_memory_is(self, wrong):
        with pytest.raises(UsageError):
            Memory(**wrong)


class TestWorlds:
    @pytest.mark.parametrize("world", [SimulatedBandit(sets=(2, 5)), TableBandit(table="wine", wrong=0.5)])
    def test_a_task_is_a_round_with_its_luck(self, world):
        keys = [5, 2**40, 1023, 1024]
        first = world.reset([world.task(k, "train") for k in keys], range(4))
        action = first[:, world.inputs :].argmax(1)
        reward = world.step(action, range(4)).reward
        again = world.reset([world.task(k, "train") for k in reversed(keys)], range(4))
        assert np.array_equal(first, again[::-1])
        assert np.array_equal(world.step(action[::-1], range(4)).reward, reward[::-1])
        other = world.reset([world.task(k, "held_out") for k in keys], range(4))
        assert not np.array_equal(first, other)

    def test_rows_of_a_table_are_trained_on_or_held_out(self):
        world = TableBandit(table="iris")
        seen = [
            {tuple(row) for row in world.reset([world.task(i, split) for i in range(500)], range(500))[:, :4].tolist()}
            for split in ("train", "held_out")
        ]
        both = seen[0] & seen[1]  # iris has one row twice
        assert len(both) <= 1
        assert len(seen[0]) + len(seen[1]) > 140

    def test_regret_is_what_the_best_of_the_set_would_have_given_more(self):
        world = TableBandit(sets=(3, 8), right=0.9, wrong=0.6)
        there = world.reset([world.task(i, "train") for i in range(200)], range(200))[:, 64:]
        found = world.regret(there.argmax(1), range(200))
        assert set(found.round(9).tolist()) == {0.0, 0.3}


SMALL = {"prompts_per_step": 200, "evaluation.every": 0, "evaluation.tasks": 20, "learner.diagnose": 100}


def recipe(name="adyen-bandits", world="bandit:digits", steps=3, **settings):
    return api.recipe(
        name, world, steps=steps, settings={**SMALL, **{k.replace("__", "."): v for k, v in settings.items()}}
    )


def parts(made, folder):
    return final_state(api.train(made, out=folder).folder)["parts"]


class TestRuns:
    def test_without_gamma_it_is_uniform_epsilon_greedy_to_the_bit(self, tmp_path):
        off = parts(recipe(policy__gamma_scale=0.0), tmp_path / "off")
        base = parts(recipe("epsilon-greedy", policy__epsilon=1.0), tmp_path / "base")
        on = parts(recipe(), tmp_path / "on")
        assert differing(off, base) == []
        assert differing(on["policy"], base["policy"]) != []

    @pytest.mark.parametrize("scorer", ["linear", "logistic", "boosted"])
    def test_stopped_and_resumed_it_is_the_whole_run(self, scorer, tmp_path):
        from pilotage.run import loop

        made = recipe(policy__scorer=scorer, store__delay=1, store__generations=2, store__late=0.1, steps=4,
                      policy__trees=5, checkpoint_every=1)  # fmt: skip
        whole = parts(made, tmp_path / "whole")
        loop.train(made, tmp_path / "parted", until=2)
        api.resume(tmp_path / "parted")
        assert differing(whole, final_state(tmp_path / "parted")["parts"]) == []

    def test_a_model_does_not_depend_on_what_came_before_its_window(self):
        world = TableBandit()
        spaces = world.observation, world.action
        context, action, reward = world.explored(600)
        rows = torch.from_numpy(context), torch.from_numpy(action), torch.from_numpy(reward)
        none = torch.zeros(300, dtype=torch.int64)
        for scorer in ("linear", "logistic", "boosted"):
            policies = [BanditPolicy(*spaces, scorer=scorer, trees=5) for _ in range(2)]
            policies[0].fit(*(column[:300] for column in rows), none, anew=True)
            for policy in policies:
                policy.fit(*(column[300:] for column in rows), none, anew=True)
            assert differing(*(dict(policy.state_dict()) for policy in policies)) == []

    def test_actions_stay_within_each_rounds_set(self, tmp_path):
        made = recipe(world__sets=(3, 8), steps=2)
        run = api.train(made, out=tmp_path / "run")
        assert [r["train/invalid"] for r in run.metrics() if r["kind"] == "train"] == [0.0, 0.0]
        world = SimulatedBandit(sets=(2, 4), actions=6)
        there = world.reset([world.task(i, "train") for i in range(500)], range(500))[:, 10:]
        assert set(there.sum(1).tolist()) == {2.0, 3.0, 4.0}

    def test_copies_share_a_step_even_where_it_does_not_divide(self, tmp_path):
        made = recipe("thompson", "bandit:linear", steps=2, prompts_per_step=20, policy__copies=3)
        run = api.train(made, out=tmp_path / "run")
        assert [len(r["copies/reward"]) for r in run.metrics() if r["kind"] == "train"] == [3, 3]
        plays = final_state(run.folder)["parts"]["policy"]["oracle.gram"][:, :, -1, -1].sum(1) - 10
        assert plays.tolist() == [14, 14, 12]  # two steps of 7, 7 and 6

    def test_it_learns_what_uniform_play_does_not(self, tmp_path):
        found = recipe(world="bandit:linear", policy__scorer="linear", steps=10)
        rewards = api.train(found, out=tmp_path / "run").curve("train/reward")[1]
        assert rewards[0] < 0.3
        assert rewards[-3:].mean() > 1.0  # the best possible is about 1.5

    def test_linucb_goes_on_learning_what_linear_regression_on_everything_would(self, tmp_path):
        found = recipe("linucb", "bandit:linear", steps=5, prompts_per_step=40)
        grown = parts(found, tmp_path / "grown")["policy"]
        assert int(grown["examples"]) == 200
        ones = grown["oracle.gram"][0, :, -1, -1] - 1.0  # rounds of each action, by the constant
        assert float(ones.sum()) == pytest.approx(200)


class TestMistakes:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"world.sets": (0, 3)}, "from 1 to all 10 actions"),
            ({"world.sets": (3, 11)}, "from 1 to all 10 actions"),
            ({"policy.epsilon": 1.5}, "epsilon is between 0 and 1"),
            ({"policy.scorer": "boost"}, "did you mean 'boosted'"),
            ({"policy.copies": 3}, "need the linear oracle"),
        ],
    )
    def test_settings(self, settings, said):
        from pilotage.run.assemble import assemble

        with pytest.raises(UsageError, match=said):
            assemble(api.recipe("epsilon-greedy", "bandit:digits", settings=settings))

    def test_an_empty_action_set(self):
        world = SimulatedBandit()
        policy = BanditPolicy(world.observation, world.action, scorer="linear")
        with pytest.raises(UsageError, match="action set is empty"):
            policy.probabilities(np.zeros((2, 20), np.float32))

    def test_an_action_that_is_not_there_is_invalid(self):
        world = SimulatedBandit(sets=(2, 2), actions=3)
        there = world.reset([world.task(0, "train")], [0])[0, 10:]
        outcome = world.step(np.array([there.argmin()]), [0])
        assert "is not in this round's set" in outcome.invalid[0]
        assert not outcome.terminated[0]

    def test_thompson_needs_an_uncertainty(self):
        world = SimulatedBandit()
        with pytest.raises(UsageError, match="knows no uncertainty"):
            BanditPolicy(world.observation, world.action, scorer="logistic", explore="probability-matching")

    def test_a_rule_by_another_name(self):
        world = SimulatedBandit()
        with pytest.raises(UsageError, match="did you mean 'softmax'"):
            BanditPolicy(world.observation, world.action, explore="softmx")

    def test_only_bandits_have_bandit_methods(self):
        with pytest.raises(UsageError, match="adyen-bandits is for worlds of kind bandit"):
            api.recipe("adyen-bandits", "gym:CartPole-v1")
