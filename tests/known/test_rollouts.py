"""How episodes end, in the record of each plan."""

import torch

from helpers import control_recipe, text_recipe
from pilotage.data.batch import Stop
from pilotage.run.assemble import assemble
from pilotage.run.summary import summarise


def rolled(recipe):
    parts = assemble(recipe)
    try:
        return parts.rollout(
            parts.policy, parts.world, parts.sampler.next, parts.streams, 0, recipe.prompts_per_step,
            recipe.samples_per_prompt,
        )  # fmt: skip
    finally:
        parts.world.close()


def test_episodes_that_end_by_themselves_are_terminated():
    batch = rolled(control_recipe("grpo", "toy_worlds:Line"))
    assert batch["stop"].tolist() == [Stop.TERMINATED] * 12
    assert bool(batch["terminated"].all())
    assert not bool(batch["truncated"].any())
    assert batch.lengths.tolist() == [5] * 12


def test_episodes_cut_by_the_step_limit_are_truncated():
    batch = rolled(control_recipe("grpo", "toy_worlds:Line", settings={"rollout.max_steps": 3}))
    assert batch["stop"].tolist() == [Stop.LENGTH] * 12
    assert not bool(batch["terminated"].any())
    assert bool(batch["truncated"].all())
    # two steps and a third of the five: the final observation is what came after the last action
    assert torch.allclose(batch["final_observation"][:, 1], torch.tensor(3 / 5))


def test_a_time_limit_of_the_world_is_not_an_end():
    settings = {"rollout.lanes": 2, "rollout.steps": 250}
    batch = rolled(control_recipe("ppo", "gym:Pendulum-v1", settings=settings))
    assert batch["stop"].tolist() == [Stop.TIME_LIMIT, Stop.WINDOW] * 2
    assert batch.lengths.tolist() == [200, 50] * 2
    assert bool(batch["truncated"].all())
    assert torch.isfinite(batch["episode_return"]).tolist() == [True, False] * 2


def test_windows_go_on_where_they_were_cut():
    recipe = control_recipe("ppo", "toy_worlds:Line", settings={"rollout.lanes": 1, "rollout.steps": 3})
    parts = assemble(recipe)
    first, second = (
        parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 1, 1) for step in (0, 1)
    )
    parts.world.close()
    assert first["stop"].tolist() == [Stop.WINDOW]
    assert torch.equal(first["final_observation"][0], second["observation"][0])
    assert second["stop"].tolist() == [Stop.TERMINATED, Stop.WINDOW]
    assert float(second["episode_length"][0]) == 5
    assert float(second["episode_return"][0]) == float(first["reward"].sum() + second["reward"][:2].sum())


def test_answers_keep_their_prompt_and_their_end():
    batch = rolled(text_recipe("grpo"))
    assert len(batch) == 12
    assert batch["group"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    start = batch.offsets[:-1]
    assert not bool(batch["sampled"][start].any())  # every episode begins with its prompt
    closed = batch["stop"] == Stop.TERMINATED
    assert bool(closed.any()) or bool((batch["stop"] == Stop.LENGTH).any())
    assert bool((batch["behaviour_logp"][~batch["sampled"]] == 0).all())
    assert bool((batch["behaviour_logp"][batch["sampled"]] < 0).all())
    last = batch.offsets[1:] - 1
    inside = torch.ones(batch.decisions, dtype=torch.bool)
    inside[last] = False
    assert bool((batch["reward"][inside] == 0).all())  # rewards stand at the last token


def test_windows_record_success_of_whole_episodes():
    recipe = control_recipe("ppo", "toy_worlds:Telling", settings={"rollout.lanes": 4, "rollout.steps": 12})
    parts = assemble(recipe)
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 1, 1)
    resumed = assemble(recipe)
    resumed.rollout.load_state_dict(parts.rollout.state_dict(), resumed.world)
    parts.world.close(), resumed.world.close()
    whole = torch.isfinite(batch["episode_return"])
    assert torch.equal(torch.isfinite(batch["success"]), whole)
    for place, told in enumerate(batch["success"].tolist()):
        if whole[place]:
            _, episode = next(iter(batch.select(torch.tensor([place])).groups()))
            seen = torch.cat([episode["observation"][1:, 0], episode["final_observation"][:, 0]])
            if len(seen) == 5:  # begun in this window: all of it is here
                assert told == float((seen > 0.5).any())
    assert 0 < summarise(batch)["train/success"] <= 1
    assert resumed.rollout.tells
    assert "success" not in rolled(control_recipe("ppo", "toy_worlds:Line"))
