"""Off-policy estimates: by hand, against obp's own on the same real logs, and what they say of their certainty."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.run import ope
from pilotage.worlds.click_log import Log, LoggedBandit, open_bandit, read_log

DATA = Path(__file__).parent / "data"
RECORD = json.loads((DATA / "obp.json").read_text())
needs_log = pytest.mark.skipif(importlib.util.find_spec("obp") is None, reason="the click log is not installed")


def by_hand(monkeypatch):
    """The policy and the reward model of the recording script, from its own text; obp itself is not needed."""
    for name in ("obp", "obp.dataset", "obp.ope"):
        monkeypatch.setitem(sys.modules, name, _Anything(name))
    spec = importlib.util.spec_from_file_location("record_obp", DATA / "record_obp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.target_and_prediction


class _Anything(type(sys)):
    def __getattr__(self, name):
        return lambda *_: None


@needs_log
@pytest.mark.parametrize("log", RECORD["logs"], ids=lambda log: f"{log['logger']}-{log['campaign']}")
def test_equal_to_obp_on_its_own_logs(log, monkeypatch):
    found = open_bandit(log["campaign"], log["logger"])
    assert (len(found.action), found.actions) == (log["rounds"], log["actions"])
    assert found.reward.mean() == pytest.approx(log["mean reward"], abs=1e-12)
    features, position = found.context[:, : log["context"]], found.context[:, log["context"] :].argmax(1)
    target, predicted = by_hand(monkeypatch)(features, position, found.actions)
    chosen = target[np.arange(len(found.action)), found.action]
    ours = {
        "inverse propensity": ope.inverse_propensity(found.reward, chosen, found.propensity),
        "self-normalised": ope.self_normalised(found.reward, chosen, found.propensity),
        "doubly robust": ope.doubly_robust(found.reward, found.action, target, found.propensity, predicted),
    }
    for name, theirs in log["estimates"].items():
        assert ours[name].value == pytest.approx(theirs["value"], abs=1e-9)
        low, high = theirs["bootstrap"]
        width = high - low
        # a bootstrap's percentiles and a normal interval are two methods: alike, not equal
        assert ours[name].high - ours[name].low == pytest.approx(width, rel=0.15)
        assert (ours[name].low, ours[name].high) == pytest.approx((low, high), abs=0.15 * width)


def log_of(count, seed, actions=4):
    """(reward, action, target, propensity, truth of the target, means): a small log and what is true of it."""
    rng = np.random.default_rng(seed)
    behaviour, target = rng.dirichlet(np.ones(actions) * 2, count), rng.dirichlet(np.ones(actions) * 2, count)
    mean = rng.random((count, actions))
    action = (behaviour.cumsum(1) > rng.random((count, 1))).argmax(1)
    every = np.arange(count)
    reward = (rng.random(count) < mean[every, action]).astype(float)
    return reward, action, target, behaviour[every, action], (target * mean).sum(1).mean(), mean


def test_of_the_logging_policy_itself_it_is_the_mean_reward_exactly():
    reward, _, _, propensity, _, _ = log_of(1000, 0)
    assert ope.inverse_propensity(reward, propensity, propensity).value == reward.mean()
    assert ope.self_normalised(reward, propensity, propensity).value == pytest.approx(reward.mean(), abs=1e-15)
    uniform = np.full(1000, 0.25)
    found = ope.inverse_propensity(reward, uniform, uniform)
    assert found.value == reward.mean()
    assert found.effective == pytest.approx(1000)


def test_two_rounds_by_hand():
    # weights 2 and 0.5
    given = [1.0, 0.0], [0.5, 0.4], [0.25, 0.8]
    assert ope.inverse_propensity(*given).value == pytest.approx(1.0)
    assert ope.self_normalised(*given).value == pytest.approx(2 / 2.5)
    assert ope.inverse_propensity(*given).effective == pytest.approx(2.5**2 / 4.25)
    target, predicted = [[0.5, 0.5], [0.6, 0.4]], [[0.8, 0.2], [0.4, 0.6]]
    # 0.5 + 2 * (1 - 0.8) = 0.9 and 0.48 + 0.5 * (0 - 0.6) = 0.18
    found = ope.doubly_robust([1.0, 0.0], [0, 1], target, [0.25, 0.8], predicted)
    assert found.value == pytest.approx((0.9 + 0.18) / 2)


def test_bounds():
    for seed in range(20):
        reward, action, target, propensity, _, mean = log_of(50, seed)
        chosen = target[np.arange(50), action]
        assert 0 <= ope.self_normalised(reward, chosen, propensity).value <= 1
        weights = ope.weights(chosen, propensity)
        assert 0 <= ope.inverse_propensity(reward, chosen, propensity).value <= weights.max()
        nothing = ope.doubly_robust(reward, action, target, propensity, np.zeros_like(mean))
        assert nothing.value == pytest.approx(ope.inverse_propensity(reward, chosen, propensity).value)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = {"ips": 0, "snips": 0, "dr": 0}
    width = dict.fromkeys(held, 0.0)
    for seed in range(200):
        reward, action, target, propensity, truth, mean = log_of(500, seed)
        chosen = target[np.arange(500), action]
        found = {
            "ips": ope.inverse_propensity(reward, chosen, propensity),
            "snips": ope.self_normalised(reward, chosen, propensity),
            "dr": ope.doubly_robust(reward, action, target, propensity, mean),
        }
        for name, one in found.items():
            held[name] += one.low <= truth <= one.high
            width[name] += one.high - one.low
    assert all(0.89 <= count / 200 <= 1.0 for count in held.values()), held
    assert width["dr"] < width["snips"] < width["ips"]


def test_the_other_way_is_refused():
    with pytest.raises(UsageError, match="no propensities"):
        ope.inverse_propensity([1.0], [0.5], None)
    with pytest.raises(UsageError, match=r"2 propensities of the log are not above 0.*round 1"):
        ope.inverse_propensity([1.0] * 3, [0.5] * 3, [0.5, 0.0, np.nan])
    with pytest.raises(UsageError, match="never chooses what was logged"):
        ope.self_normalised([1.0], [0.0], [0.5])
    with pytest.raises(UsageError, match="finite"):
        ope.inverse_propensity([np.nan], [0.5], [0.5])


def test_oscillation():
    assert ope.oscillation([0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 0.5]) == pytest.approx(-5 / 6)
    noise = np.random.default_rng(0).standard_normal(20_000)
    assert ope.oscillation(noise) == pytest.approx(-0.5, abs=0.02)
    assert ope.oscillation(noise.cumsum()) == pytest.approx(0.0, abs=0.02)
    assert np.isnan(ope.oscillation([0.1, 0.2, 0.3]))
    assert np.isnan(ope.oscillation([0.1, 0.2, 0.3, 0.4, 0.5][:1]))


def small_log(count=60, actions=3):
    rng = np.random.default_rng(0)
    action = rng.integers(actions, size=count)
    context = rng.standard_normal((count, 2)).astype(np.float32)
    return Log(context, action, (action == 1).astype(float), np.full(count, 1 / actions), actions)


def test_a_log_is_replayed_and_judged_by_its_propensities():
    world = LoggedBandit.of(small_log())
    lanes = range(18)
    world.reset([world.task(i, "held_out") for i in lanes], lanes)
    action, reward, propensity = world.recorded(lanes)
    assert np.array_equal(action, world.log.action[42:])
    outcome = world.step(action, lanes)
    assert outcome.reward.tolist() == pytest.approx((reward / propensity).tolist())
    assert world.step((action + 1) % 3, lanes).reward.tolist() == [0.0] * 18
    everything = sum(world.step(np.full(18, a), lanes).reward.mean() for a in range(3))
    assert everything == pytest.approx(3 * reward.mean(), abs=1e-5)  # uniform play earns what uniform play earned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"propensity": np.array([0.5, 0.0])},
            "1 of the log's 2 rounds have a propensity not above 0.*round 1, with 0",
        ),
        ({"propensity": np.array([0.5, np.nan])}, "propensity of round 1 of the log is not a finite number"),
        ({"reward": np.array([1.0])}, "2 actions and 1 entries of reward"),
        ({"reward": np.array([1.0, np.inf])}, "reward of round 1"),
        ({"action": np.array([0, 5])}, "numbers from 0 to 1"),
    ],
)
def test_bad_logs(change, said):
    fine = {"context": np.zeros((2, 1), np.float32), "action": np.array([0, 1]), "reward": np.zeros(2),
            "propensity": np.full(2, 0.5), "actions": 2}  # fmt: skip
    with pytest.raises(UsageError, match=said):
        Log(**{**fine, **change})


HEADER = "timestamp,item_id,position,click,propensity_score,user_feature_0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER.replace(",propensity_score", ""), "no column 'propensity_score'"),
        (HEADER, "no rounds"),
        (HEADER + "2019,1,1,0,,a\n", "propensity of round 0"),
        (HEADER + "2019,1,1,0,0.0,a\n", "propensity not above 0"),
        (HEADER + "2019,x,1,0,0.5,a\n", "invalid literal"),
    ],
)
def test_bad_files(text, said, tmp_path):
    path = tmp_path / "men.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_log(path)


def test_a_missing_log_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("pilotage.worlds.click_log.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install --no-deps --ignore-requires-python obp==0\.5\.7"):
        open_bandit()


@needs_log
def test_training_on_the_log_does_not_play(tmp_path):
    settings = {"evaluation.every": 0, "evaluation.tasks": 10, "prompts_per_step": 500, "learner.diagnose": 200}
    run = api.train("adyen-bandits", "bandit:open-bandit", steps=2, settings=settings, out=tmp_path / "run")
    assert "obp" not in sys.modules
    parts = run.load()
    found = ope.of_policy(parts.policy, parts.world)
    assert set(found) == {"inverse propensity", "self-normalised", "doubly robust"}
    assert all(one.low < one.value < one.high for one in found.values())
