"""How episodes end, in the record of each plan."""

import torch

from helpers import control_recipe, text_recipe
from pilotage.data.batch import Stop
from pilotage.run.assemble import assemble


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
