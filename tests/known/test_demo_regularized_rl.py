"""The card of demo-regularized-rl: soft backups, cloning, divergences, bounds, feedback, by hand and by enumeration."""

import math

import numpy as np
import pytest
import torch

from helpers import differing, final_state, metrics, table_recipe
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.learn import finite
from pilotage.learn.feedback import Feedback, preferred, slope, visits_of
from pilotage.learn.finite import Counts, cloned, divergence, soft
from pilotage.learn.optimism import Regularised
from pilotage.policies.table import Table
from pilotage.run import loop
from pilotage.worlds.finite import FiniteModel, FiniteWorld, FrozenLake, RiverSwim

Q, HALF = np.array([1.0, 0.0]), np.array([0.5, 0.5])


def random_model(seed=0, horizon=3, states=3, actions=2):
    rng = np.random.default_rng(seed)
    return FiniteModel(
        rng.dirichlet(np.ones(states), size=(horizon, states, actions)),
        rng.random((horizon, states, actions)),
        np.eye(states)[0],
    )


def solved(model, reference, temperature):
    """Values [H + 1, S], policy and action values [H, S, A] of the regularised problem, from the true model."""
    value = np.zeros((model.horizon + 1, len(model.start)))
    policy, action_value = np.zeros_like(model.reward), np.zeros_like(model.reward)
    for h in reversed(range(model.horizon)):
        action_value[h] = model.backed_up(value[h + 1], h)
        value[h], policy[h] = soft(action_value[h], reference[h], temperature)
    return value, policy, action_value


def spent(model, policy, reference):
    """The divergence of two policies' trajectories, KL(policy || reference), by backward recursion."""
    value = np.zeros(len(model.start))
    for h in reversed(range(model.horizon)):
        ahead = model.transition[h] @ value
        value = divergence(policy[h], reference[h]) + (policy[h] * ahead).sum(-1)
    return float(model.start @ value)


@pytest.mark.parametrize(
    ("temperature", "value", "policy"),
    [(1.0, 0.620115, (0.731059, 0.268941)), (0.1, 0.930690, None), (10.0, 0.512495, None)],
)
def test_the_soft_backup_of_the_card(temperature, value, policy):
    found, actions = soft(Q, HALF, temperature)
    assert found == pytest.approx(value, abs=5e-7)
    if policy:
        assert actions == pytest.approx(policy, abs=5e-7)
        assert found == pytest.approx(math.log((math.e + 1) / 2), abs=1e-12)


def test_its_limits():
    q = np.array([0.3, 0.7, 0.0])
    values = np.array([0.2, 0.1, 5.0])  # the best action is one that the reference never takes
    for small in (1e-3, 1e-9, 0.0):
        value, policy = soft(values, q, small)
        assert value == pytest.approx(0.2, abs=2e-3)
        assert policy == pytest.approx([1.0, 0.0, 0.0])
    value, policy = soft(values, q, 1e9)
    assert value == pytest.approx(q @ values, abs=1e-9)
    assert policy == pytest.approx(q, abs=1e-9)


def test_cloning_of_the_card():
    # counts (3, 1) in state 0, nothing seen in state 1
    states, actions = np.zeros((1, 4, 2), np.int64), np.array([[[0], [0], [1], [0]]])
    found = cloned(states, actions, 1, (2, 2), mixture=False)
    assert found[0, 0, 0] == pytest.approx([4 / 6, 2 / 6])
    assert found[0, 0, 1] == pytest.approx([0.5, 0.5])
    mixed = cloned(states, actions, 1, (2, 2), mixture=True)
    share = 2 / (4 + 2)
    assert mixed[0, 0, 0] == pytest.approx([share / 2 + (1 - share) * 0.75, share / 2 + (1 - share) * 0.25])
    for one in (found, mixed):
        assert one.sum(-1) == pytest.approx(1.0)
        assert one.min() >= 1 / (4 + 2) - 1e-15


def test_the_objective_is_the_value_less_the_distance_from_the_best():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, q, other = rng.normal(size=4), rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
        lam = float(rng.uniform(0.1, 3))
        value, best = soft(values, q, lam)
        assert best @ values - lam * divergence(best, q) == pytest.approx(value, abs=1e-12)
        assert other @ values - lam * divergence(other, q) == pytest.approx(
            value - lam * divergence(other, best), abs=1e-12
        )


def test_divergence_of_trajectories_is_the_sum_over_them():
    import itertools

    model = random_model(horizon=2, states=2)
    rng = np.random.default_rng(1)
    policy, reference = (rng.dirichlet(np.ones(2), size=(2, 2)) for _ in range(2))
    total = 0.0
    for states in itertools.product(range(2), repeat=2):
        for actions in itertools.product(range(2), repeat=2):
            ways = []
            for one in (policy, reference):
                chance = model.start[states[0]] * one[0, states[0], actions[0]]
                ways.append(
                    chance * model.transition[0, states[0], actions[0], states[1]] * one[1, states[1], actions[1]]
                )
            if ways[0] > 0:
                total += ways[0] * math.log(ways[0] / ways[1])
    assert spent(model, policy, reference) == pytest.approx(total, abs=1e-12)
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == math.inf


def known(model, copies=1, weight=1e7):
    """Counts that are the model itself."""
    seen = Counts(copies, *model.reward.shape, 0.0)
    seen.visits += weight
    seen.rewards += weight * model.reward
    seen.following += weight * model.transition
    return seen


def learner(model, demonstrations=20, **settings):
    world = FiniteWorld(model)
    policy = Table(world.observation, world.action, replicas=2)
    return Regularised(policy, world, Streams(0), demonstrations=demonstrations, **settings)


def test_bounds_hold_the_value_and_meet_where_all_is_known():
    model = random_model()
    made = learner(model, bonus=0.0, temperature=0.3)
    made.seen = known(model, copies=2)
    metric = made.plan(np.zeros(2, np.int64))
    for n in range(2):
        value, policy, _ = solved(model, made.reference[n], 0.3)
        assert metric["plan/gap"] == pytest.approx(0.0, abs=1e-12)
        assert made.policy.probabilities[n].numpy() == pytest.approx(policy, abs=1e-9)
    # few visits: the bonus is Hoeffding's, unscaled, and the sandwich holds
    rng = np.random.default_rng(3)
    wide = learner(model, bonus=1.0, temperature=0.3)
    for _ in range(8):
        wide.seen.add(*wide.world.demonstrate(np.full(wide.sizes, 0.5), 10, rng))
        estimate = wide.seen.estimate(slice(None))
        added = wide.bonus(estimate.width)
        upper, lower = (finite.backward(estimate, wide.caps, sign * added, wide._back) for sign in (1, -1))
        for n in range(2):
            value = solved(model, wide.reference[n], 0.3)[0]
            assert (soft(lower[n], wide.reference[n], 0.3)[0] <= value[:-1] + 1e-9).all()
            assert (soft(upper[n], wide.reference[n], 0.3)[0] >= value[:-1] - 1e-9).all()


def test_bernsteins_bonus_by_hand():
    # two steps, two states, one action; four visits to (h = 0, s = 0), of which three went to state 1, which pays 1
    seen = Counts(1, 2, 2, 1, 0.0)
    seen.add(
        np.array([[[0, 1, 0]] * 3 + [[0, 0, 0]]]), np.zeros((1, 4, 2), np.int64), np.array([[[0, 1.0]] * 3 + [[0, 0]]])
    )
    scale, caps = 1e-3, np.array([2.0, 1.0])
    upper, lower, plain = finite.between(seen.estimate(slice(None)), caps, scale, 4, 0.1, finite.highest)

    def beta(n):
        return math.log(4 * 4 / 0.1) + math.log(4 * math.e * n * (2 * n + 1))

    last = {s: 9 * scale * 2 * 2 * beta(n) / n for s, n in ((0, 1), (1, 3))}  # nothing follows: no variance
    high, low = {0: last[0], 1: 1.0}, {0: 0.0, 1: 1.0 - last[1]}  # held within [0, 1]
    assert upper[0, 1, :, 0].tolist() == pytest.approx([high[0], high[1]])
    assert lower[0, 1, :, 0].tolist() == pytest.approx([low[0], low[1]])
    mean = (high[0] + 3 * high[1]) / 4
    variance = (high[0] ** 2 + 3 * high[1] ** 2) / 4 - mean**2
    added = scale * (3 * math.sqrt(variance * beta(4) / 4) + 9 * 2 * 2 * beta(4) / 4)
    added += (high[0] - low[0] + 3 * (high[1] - low[1])) / 4 / 2
    assert upper[0, 0, 0, 0] == pytest.approx(mean + added)
    assert lower[0, 0, 0, 0] == pytest.approx((low[0] + 3 * low[1]) / 4 - added)
    assert plain[0, 0, 0, 0] == pytest.approx(scale * 2 * 2 * beta(4) / 4)
    assert (upper[0, 0, 1, 0], lower[0, 0, 1, 0]) == (2.0, 0.0)  # never seen


def test_bernsteins_bounds_hold_the_value_and_meet_where_all_is_known():
    model, rng = random_model(), np.random.default_rng(3)
    made = learner(model, bonus=0.0, temperature=0.3, form="bernstein")
    made.seen = known(model, copies=2)
    assert made.plan(np.zeros(2, np.int64))["plan/gap"] == pytest.approx(0.0, abs=1e-12)
    wide = learner(model, bonus=1.0, temperature=0.3, form="bernstein")
    for _ in range(8):
        wide.seen.add(*wide.world.demonstrate(np.full(wide.sizes, 0.5), 10, rng))
        upper, lower, _ = wide.bounds(wide.seen.estimate(slice(None)), wide._back)
        for n in range(2):
            value = solved(model, wide.reference[n], 0.3)[0]
            assert (soft(lower[n], wide.reference[n], 0.3)[0] <= value[:-1] + 1e-9).all()
            assert (soft(upper[n], wide.reference[n], 0.3)[0] >= value[:-1] - 1e-9).all()
    with pytest.raises(UsageError, match="bernstein with model counts"):
        table_recipe("lsvi-ucb", settings={"learner.form": "bernstein"}).learner.build(
            made.policy, world=made.world, terms={}, streams=Streams(0)
        )


@pytest.mark.parametrize("slug", ["ucbvi", "demo-regularized-rl"])
def test_bernsteins_form_is_an_option_that_resumes(slug, tmp_path):
    recipe = table_recipe(slug, settings={"learner.form": "bernstein", "steps": 12})
    loop.train(recipe, tmp_path / "parted", until=5)
    api.resume(tmp_path / "parted")
    api.train(recipe, out=tmp_path / "whole")
    assert differing(final_state(tmp_path / "parted"), final_state(tmp_path / "whole")) == []
    api.train(table_recipe(slug, settings={"steps": 12}), out=tmp_path / "other")
    assert differing(final_state(tmp_path / "other"), final_state(tmp_path / "whole")) != []


def test_smoothness_of_the_card():
    # playing the soft policy of another Q costs at most the squared distance over 2 λ
    zeros = np.zeros(2)

    def cost(values, guess, lam):
        value = soft(values, HALF, lam)[0]
        played = soft(guess, HALF, lam)[1]
        return value - (played @ values - lam * divergence(played, HALF))

    assert cost(Q, zeros, 1.0) == pytest.approx(0.120115, abs=5e-7)
    assert cost(Q, zeros, 1.0) <= 0.5
    rng = np.random.default_rng(0)
    for _ in range(100):
        values, guess, lam = rng.normal(size=2), rng.normal(size=2), rng.uniform(0.05, 3)
        assert -1e-12 <= cost(values, guess, lam) <= np.abs(values - guess).max() ** 2 / (2 * lam) + 1e-12


def test_the_guarantee_holds_exactly():
    for seed in range(10):
        model = random_model(seed)
        world = FiniteWorld(model)
        expert = world.expert(0.1)
        shown = world.demonstrate(expert[None], 30, np.random.default_rng(seed))
        clone = cloned(shown[0], shown[1], model.horizon, (3, 2), mixture=False)[0]
        for lam in (0.01, 0.3, 5.0):
            value, policy, _ = solved(model, clone, lam)
            best = model.start @ model.best()[0][0]
            short = best - model.returns(expert)  # ε_E
            assert best - model.returns(policy) <= short + lam * spent(model, expert, clone) + 1e-12
            # and the values are what they say: return less λ times the divergence
            assert model.start @ value[0] == pytest.approx(
                model.returns(policy) - lam * spent(model, policy, clone), abs=1e-10
            )


def test_more_demonstrations_make_a_closer_clone_by_their_number():
    world = RiverSwim(horizon=6)
    expert = world.expert(0.05)

    def apart(count):
        copies = np.broadcast_to(expert, (40, *expert.shape))
        states, actions, _ = world.demonstrate(copies, count, np.random.default_rng(count))
        clones = cloned(states, actions, 6, (6, 2), mixture=False)
        return np.mean([spent(world.exact(), expert, clone) for clone in clones])

    few, many = apart(300), apart(3000)
    assert 7 < few / many < 14  # as 1 / N_E


def test_preferences_by_hand():
    # trajectories of one step in one state: action 1 is preferred three times out of four
    difference = np.tile([-1.0, 1.0], (1, 400, 1))
    labels = np.array([[1.0, 1.0, 1.0, 0.0] * 100])
    found = preferred(difference, labels)
    # r_1 - r_0 = log 3 would be likeliest; rewards in [0, 1] allow a difference of 1
    assert found == pytest.approx(np.array([[0.0, 1.0]]), abs=1e-6)
    mild = preferred(difference, np.array([[1.0, 1.0, 1.0, 0.0, 0.0] * 80]))
    assert mild[0, 1] - mild[0, 0] == pytest.approx(math.log(1.5), abs=1e-6)


def test_a_constant_on_every_reward_changes_nothing():
    rng = np.random.default_rng(0)
    states, actions = rng.integers(3, size=(1, 12, 5)), rng.integers(2, size=(1, 12, 4))
    seen = visits_of(states, actions, (4, 3, 2), timed=False)
    assert seen.sum(-1) == pytest.approx(4.0)
    difference, labels = seen[:, :6] - seen[:, 6:], rng.integers(2, size=(1, 6)).astype(float)
    rewards = rng.random((1, 6))
    shifted = slope(difference, labels, rewards + 0.3)
    assert shifted == pytest.approx(slope(difference, labels, rewards), abs=1e-12)
    # even labels do not pull where all episodes are worth the same
    assert slope(difference, np.full((1, 6), 0.5), np.full((1, 6), 0.4)) == pytest.approx(0.0, abs=1e-12)
    # nor does a constant change the policy
    model = random_model()
    moved = FiniteModel(model.transition, 0.5 * model.reward + 0.25, model.start)
    lower = FiniteModel(model.transition, 0.5 * model.reward, model.start)
    clone = np.full(model.reward.shape, 0.5)
    assert solved(moved, clone, 0.2)[1] == pytest.approx(solved(lower, clone, 0.2)[1], abs=1e-12)


def test_feedback_reads_no_reward():
    world = RiverSwim(horizon=5)
    policy = Table(world.observation, world.action, replicas=2)
    made = Feedback(policy, world, Streams(0), preferences=50)
    states, actions, rewards = world.demonstrate(policy.probabilities.numpy(), 3, np.random.default_rng(0))
    assert np.array_equal(made.rewards_of(states, actions, rewards), made.rewards_of(states, actions, rewards * 0 - 9))
    assert made.rewards.shape == (2, 5, 6, 2)
    assert ((made.rewards >= 0) & (made.rewards <= 1)).all()


@pytest.mark.parametrize(
    ("name", "baseline"), [("demo-regularized-rl", "ucbvi"), ("demo-regularized-rl-linear", "lsvi-ucb")]
)
@pytest.mark.parametrize("world", ["finite:river-swim", "finite:linear"])
def test_without_divergence_and_probing_it_is_its_baseline_to_the_bit(name, baseline, world, tmp_path):
    settings = {"steps": 12, "world.horizon": 4}
    off = {"learner.temperature": 0.0, "rollout.probe": False}
    runs = [
        api.train(recipe, out=tmp_path / str(i)).folder
        for i, recipe in enumerate(
            (
                table_recipe(name, world, settings={**settings, **off}),
                table_recipe(baseline, world, settings=settings),
                table_recipe(name, world, settings=settings),
            )
        )
    ]
    one, other, on = (final_state(run)["parts"] for run in runs)
    assert differing(one["policy"]["probabilities"], other["policy"]["probabilities"]) == []
    assert differing(one["learner"]["seen"], other["learner"]["seen"]) == []
    assert differing(one["links"], other["links"]) == []
    assert differing(on["policy"]["probabilities"], other["policy"]["probabilities"]) != []
    judged = [[r["eval/regret"] for r in metrics(run) if "eval/regret" in r] for run in runs]
    assert judged[0] == judged[1] != judged[2]


def test_the_temperature_is_that_of_the_theory():
    made = learner(random_model(), demonstrations=40, accuracy=0.3)
    assert made.temperature == pytest.approx(0.3 * 40 / (3 * 3 * 2))
    assert learner(random_model(), demonstrations=0).temperature == 0.0


def test_a_probing_step_is_the_one_most_in_doubt(tmp_path):
    world = FrozenLake(horizon=6)
    policy = Table(world.observation, world.action, replicas=4)
    policy.probabilities.zero_()
    policy.probabilities[..., 0] = 1.0
    policy.probe.fill_(3)
    from pilotage.rollouts.replicas import Replicas

    tasks = iter(range(10_000))
    batch = Replicas(probe=True)(policy, world, lambda: world.task(next(tasks), "train"), Streams(0), 0, 100, 1)
    actions = batch["action"].reshape(400, 6)
    assert set(actions.unique().tolist()) == {0, 3}
    odd = (actions == 3).sum(1)
    assert odd.max() == 1
    assert 0.05 < float((odd == 0).float().mean()) < 0.25  # one in H + 1 = 7 episodes has none
    assert (actions == 3).float().mean(0) == pytest.approx(torch.full((6,), 1 / 7), abs=0.06)


def test_a_replica_that_has_stopped_keeps_its_policy():
    model = random_model()
    made = learner(model, bonus=0.0, temperature=0.3, stop=True)
    made.seen = known(model, copies=2)
    made.plan(np.zeros(2, np.int64))
    assert made.stopped.all()
    kept = made.policy.probabilities.clone()
    made.seen = known(random_model(7), copies=2)
    made.plan(np.zeros(2, np.int64))
    assert torch.equal(kept, made.policy.probabilities)
