"""Meta-World: seeds decide, episodes resume, scripts succeed, and success is told wherever a policy is judged."""

import numpy as np
import pytest
import torch

from helpers import metrics
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.scripted import FollowsScript
from pilotage.rollouts.episodes import Episodes
from pilotage.run.results import read_run
from pilotage.run.wording import Wording
from pilotage.worlds.base import Scripted
from pilotage.worlds.gym import GymWorld
from pilotage.worlds.metaworld import MetaWorld

CASES = [("reach-v3", False), ("push-v3", False), ("pick-place-v3", False), ("pick-place-v3", True)]


@pytest.mark.parametrize(("name", "binary"), CASES)
def test_the_script_succeeds_and_the_episode_ends_there(name, binary):
    world = MetaWorld(name=name, horizon=100, ends_at_success=True, binary_gripper=binary)
    assert isinstance(world, Scripted)
    policy = FollowsScript(world.scripted, world.action)
    tasks = [world.task(index, "train") for index in range(3)]
    played = Episodes(max_steps=100).play(policy, world, tasks, 1, Streams(0), "rollout", 0)
    assert played["success"].tolist() == [True] * 3
    assert played["terminated"].tolist() == [True] * 3
    assert int(played.lengths.max()) < 80
    gripper = set(played["action"][:, 3].tolist())
    assert gripper == {-1.0, 1.0} if binary else gripper <= {0.0, 1.0} or name == "push-v3"
    goals = played["observation"][played.offsets[:-1]][:, -3:]
    assert len(torch.unique(goals, dim=0)) == 3
    assert bool((goals != 0).any(1).all())  # the goal is seen
    world.close()


def test_an_episode_depends_on_its_seed_only():
    world = MetaWorld(horizon=10)
    task, other = world.task(0, "train"), world.task(1, "train")
    first = world.reset([task], [0])
    steps = [world.step(np.full((1, 4), 0.3, np.float32), [0]).observation for _ in range(3)]
    world.reset([other], [0])
    assert not np.array_equal(world.reset([other], [1]), first)
    assert np.array_equal(world.reset([task], [0]), first)
    again = [world.step(np.full((1, 4), 0.3, np.float32), [0]).observation for _ in range(3)]
    assert np.array_equal(np.stack(steps), np.stack(again))
    resumed = MetaWorld(horizon=10)
    resumed.load_state_dict(world.state_dict())
    act = np.full((1, 4), -0.2, np.float32)
    assert np.array_equal(resumed.step(act, [0]).observation, world.step(act, [0]).observation)
    for made in (world, resumed):
        made.close()


def test_the_horizon_truncates():
    world = MetaWorld(horizon=2)
    world.reset([world.task(0, "train")], [0])
    cut = [world.step(np.zeros((1, 4), np.float32), [0]).truncated[0] for _ in range(2)]
    assert cut == [False, True]
    with pytest.raises(UsageError, match=r"world\.horizon is 1 to 500, not 501"):
        MetaWorld(horizon=501)
    world.close()


def test_noise_on_a_script_is_bounded_and_said_to_be_none_when_greedy():
    box = MetaWorld(horizon=1).action
    policy = FollowsScript(lambda seen: np.full((len(seen), 4), 0.9, np.float32), box, noise=0.5)
    noise = policy.noise(np.random.default_rng(0), 200, 1)[0]
    noisy, logp = policy.act(np.zeros((200, 39)), noise)
    assert float(noisy.max()) == 1.0
    assert float(noisy.std()) > 0.2
    assert logp.tolist() == [0.0] * 200
    assert torch.equal(policy.act(np.zeros((2, 39)), noise[:2], greedy=True)[0], torch.full((2, 4), 0.9))
    with pytest.raises(UsageError, match="noise is 0 or more"):
        FollowsScript(policy.script, box, noise=-1.0)


def test_success_is_what_an_evaluation_reports(tmp_path):
    short = {"evaluation.tasks": 2, "rollout.lanes": 1, "rollout.steps": 8, "policy.hidden": [8], "steps": 1}
    run = api.train("ppo", "metaworld:reach-v3", out=tmp_path / "run", settings={**short, "world.horizon": 5})
    judged = [record for record in metrics(run.folder) if record["kind"] == "eval"][-1]
    assert judged["eval/success"] == 0.0
    assert judged["eval/items"] == [0.0, 0.0]
    assert judged["eval/return"] > 0
    assert read_run(run.folder).metric == "eval/success"
    assert Wording("eval/success").accuracy  # in percent, as accuracies are


def test_worlds_that_say_nothing_of_success_have_none():
    world = GymWorld(env_id="CartPole-v1")
    world.reset([world.task(0, "train")], [0])
    assert world.step(np.zeros(1, np.int64), [0]).success is None
