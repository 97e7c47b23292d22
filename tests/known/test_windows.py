"""Windows of decisions: where now is, what lies beyond an episode's ends, and what was achieved later."""

import numpy as np
import pytest
import torch

from helpers import differing, logged_recipe
from pilotage.credit.plans import drop_goals, hindsight
from pilotage.data.batch import Batch
from pilotage.data.offline import Offline
from pilotage.data.piece import UsageError
from pilotage.data.windows import Span, Windows, of_window, shifted
from pilotage.run.assemble import assemble

LENGTHS = torch.tensor([5, 3, 8])
STARTS = torch.cat([torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)])


def record(**more: torch.Tensor) -> Batch:
    """Observation t of episode e is 100 e + t, the final one included; actions are theirs and a half."""
    count = int(LENGTHS.sum())
    place = torch.arange(count)
    episode = torch.searchsorted(STARTS, place, right=True) - 1
    seen = (100 * episode + place - STARTS[episode]).float().unsqueeze(1)
    return Batch(
        STARTS,
        {"observation": seen, "action": seen + 0.5, "reward": torch.zeros(count), **more},
        {
            "terminated": torch.tensor([True, False, True]),
            "final_observation": (100 * torch.arange(3) + LENGTHS).float().unsqueeze(1),
        },
    )


def store(history: int = 2, horizon: int = 3, **more) -> Windows:
    made = Windows(history=history, horizon=horizon, learn_padding=more.pop("learn_padding", False))
    made.fill(record(**more))
    return made


def draw(made: Windows, count: int = 64, seed: int = 0) -> Batch:
    return made.draw(np.random.default_rng(seed), count)


def only(place: int, **more) -> Batch:
    """One window whose now is this decision."""
    weight = torch.zeros(int(LENGTHS.sum()))
    weight[place] = 1
    return draw(store(draw_weight=weight, **more), 1)


def test_now_is_the_last_observation_of_the_history():
    assert (Span(2, 3).now, Span(2, 3).length) == (1, 4)
    assert (Span(1, 1).now, Span(1, 1).length) == (0, 1)
    window = only(10)  # the third decision of the last episode
    assert window["observation"].flatten().tolist() == [201, 202, 203, 204]
    assert window["action"].flatten().tolist() == [201.5, 202.5, 203.5, 204.5]
    assert window["sampled"].all()
    assert window["now"].tolist() == [1]


def test_beyond_the_ends_the_nearest_decision_is_repeated_and_not_learnt_from():
    first, last = only(0), only(15)
    assert first["observation"].flatten().tolist() == [0, 0, 1, 2]
    assert first["sampled"].tolist() == [False, True, True, True]
    assert not first["terminated"]
    assert last["observation"].flatten().tolist() == [206, 207, 207, 207]
    assert last["sampled"].tolist() == [True, True, False, False]
    assert last["terminated"]
    assert only(15, learn_padding=True)["sampled"].all()


def test_no_window_leaves_its_episode():
    seen = draw(store(history=4, horizon=6))["observation"].reshape(64, -1)
    episode = seen.div(100, rounding_mode="floor")
    assert torch.equal(episode[:, :1].expand_as(seen), episode)
    steps = seen.diff(dim=1)
    assert bool(((steps == 0) | (steps == 1)).all())


def test_windows_of_one_decision_are_the_decisions_that_offline_draws():
    plain = Offline()
    plain.fill(record())
    one, other = plain.draw(np.random.default_rng(3), 20), draw(store(1, 1), 20, seed=3)
    for name in ("observation", "action", "reward", "terminated"):
        assert torch.equal(one[name], other[name])


def test_later_observations_are_of_the_same_episode_and_evenly_drawn():
    made = store()
    place = torch.full((6000,), 9)  # decision 1 of the last episode: observations 2 … 8 follow
    uniform = torch.from_numpy(np.random.default_rng(0).random(6000))
    found = made.later(place, uniform, 1).flatten()
    counts = torch.bincount((found - 200).long(), minlength=9)
    assert counts[:2].sum() == 0
    assert bool((counts[2:] > 700).all())  # 857 each
    apart = made.later(place, uniform, 1, separation=3).flatten()
    assert int(apart.min()) == 205
    two = made.later(place, uniform, 2)[..., 0]
    assert bool((two.diff(dim=1) == 1).all())
    assert int(two.max()) == 208


def test_at_the_end_of_an_episode_goals_are_its_last_observations():
    made = store()
    for uniform in (0.0, 0.999):
        assert made.later(torch.tensor([15, 4, 7]), torch.tensor([uniform] * 3), 1).flatten().tolist() == [208, 5, 103]
        assert made.later(torch.tensor([7]), torch.tensor([uniform]), 2).flatten().tolist() == [102, 103]
        assert made.later(torch.tensor([13]), torch.tensor([uniform]), 1, separation=9).flatten().tolist() == [208]
        # a row longer than what there is: repeated at the end
        assert made.later(torch.tensor([5]), torch.tensor([uniform]), 5).flatten().tolist() == [100, 101, 102, 103, 103]


class Asks:
    achieved = (0,)


def test_links_on_windows():
    made, policy = store(), Asks()
    batch = hindsight(draw(made), np.random.default_rng(0), policy, made)
    last = of_window(batch, Span(2, 3), "observation")[:, -1, 0]
    assert batch["goal"].shape == (64, 1, 1)
    assert bool((batch["goal"][:, 0, 0] > last - 1).all())
    assert torch.equal(batch["goal"][:, 0, 0].div(100, rounding_mode="floor"), last.div(100, rounding_mode="floor"))
    batch = drop_goals(batch, np.random.default_rng(0), share=0.25)
    assert batch["goal_kept"].shape == (64,)
    assert 0.5 < float(batch["goal_kept"].float().mean()) < 0.95
    assert bool(drop_goals(batch, np.random.default_rng(0), share=0.0)["goal_kept"].all())


def test_shifting_drops_the_first_and_repeats_the_last():
    plan = torch.arange(4.0).reshape(1, 4, 1)
    assert shifted(plan).flatten().tolist() == [1, 2, 3, 3]
    assert shifted(plan).shape == plan.shape


def test_windows_that_the_policy_does_not_plan_are_refused():
    with pytest.raises(UsageError, match="history 2 and horizon 4"):
        of_window(draw(store()), Span(2, 4), "action")
    with pytest.raises(UsageError, match="history 3 and horizon 2"):
        of_window(draw(store()), Span(3, 2), "action")  # as long, but now is elsewhere
    with pytest.raises(UsageError, match="at least 1"):
        Span(0, 1)


def test_a_recipe_draws_the_same_windows_again_after_opening_it_anew():
    recipe = logged_recipe("diffusion-policy", settings={"policy.horizon": 4, "policy.execute": 2})
    batches = []
    for _ in range(2):
        parts = assemble(recipe)
        batches.append([parts.draw(b, 0.0, 1, i) for i, b in enumerate(parts.store.batches(parts.streams, 1))])
        parts.world.close()
    assert len(batches[0]) == 3
    for one, other in zip(*batches, strict=True):
        assert differing(dict(one.columns), dict(other.columns)) == []
