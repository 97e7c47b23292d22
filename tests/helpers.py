"""What tests share: batches from plain lists, small recipes, and the comparison of what runs left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor

from pilotage import api
from pilotage.credit.shaping import shaping, with_returns
from pilotage.data import dataset
from pilotage.data.batch import Batch, from_episodes
from pilotage.methods.method import Method
from pilotage.policies.base import Minibatch, Policy, score
from pilotage.run import checkpoint
from pilotage.run.log import read_metrics
from pilotage.run.recipe import Recipe

Numbers = Sequence[float]


def episodes(
    rewards: Sequence[float | Numbers],
    groups: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    logp: Sequence[Numbers] | None = None,
    sampled: Sequence[Sequence[bool]] | None = None,
    terminated: Sequence[bool] | None = None,
    valid: Sequence[bool] | None = None,
    dtype: torch.dtype = torch.float32,
    **columns: Sequence[Numbers],
) -> Batch:
    """One episode a reward: a number stands at the last decision (of `lengths`), a list has one for each decision.

    Each of `columns` holds a list of numbers for each episode. Without `groups` every episode is its own.
    """
    if lengths is None:
        lengths = [1 if isinstance(r, int | float) else len(r) for r in rewards]
    parts = [
        [0.0] * (n - 1) + [float(r)] if isinstance(r, int | float) else list(r)
        for r, n in zip(rewards, lengths, strict=True)
    ]
    count = len(parts)
    ragged: dict[str, list[Tensor]] = {"reward": [torch.tensor(p, dtype=dtype) for p in parts]}
    ragged["behaviour_logp"] = [torch.tensor(p, dtype=dtype) for p in (logp or [[-1.0] * n for n in lengths])]
    if sampled is not None:
        ragged["sampled"] = [torch.tensor(list(p), dtype=torch.bool) for p in sampled]
    for name, values in columns.items():
        ragged[name] = [torch.tensor(list(v), dtype=dtype) for v in values]
    ended = torch.tensor(list(terminated) if terminated is not None else [True] * count)
    return from_episodes(
        ragged,
        {
            "group": torch.tensor(list(groups) if groups is not None else list(range(count))),
            "terminated": ended,
            "truncated": ~ended,
            "valid": torch.tensor(list(valid) if valid is not None else [True] * count),
        },
    )


def rows(owner: Sequence[int] | None = None, whole: bool = False, **columns: Any) -> Minibatch:
    """A minibatch of sampled decisions in float64, one column a keyword; `whole` says that its episodes are known."""
    found = {name: torch.as_tensor(values, dtype=torch.float64) for name, values in columns.items()}
    count = len(next(iter(found.values())))
    owned = torch.tensor(list(owner) if owner is not None else list(range(count)))
    record = Batch(torch.tensor([0, count]), dict(found)) if whole else None
    return Minibatch(found, owned, torch.arange(count), record)


@shaping
def doubled(batch: Batch) -> Batch:
    """A link of the credit chain that pays everything twice."""
    return with_returns(batch, 2 * batch.returns)


TEXT_WORLD = "toy_worlds:Echo"
SMALL = {"evaluation.tasks": 2, "evaluation.every": 0, "steps": 3, "checkpoint_every": 1}
SMALL_LM = {"policy.hidden": 16, "policy.layers": 1, "policy.heads": 2, "policy.context": 32}
SMALL_MLP = {"policy.hidden": [16]}
SMALL_GROUPS = {"prompts_per_step": 3, "samples_per_prompt": 4}


def text_recipe(name: str, seed: int = 0, **more: Any) -> Recipe:
    """A method on the toy text world, tiny, without a warm start."""
    sizes = {"prompts_per_step": 4} if name == "sft" else {**SMALL_GROUPS, "start": None}
    settings = {**SMALL, **SMALL_LM, **sizes, **more.pop("settings", {})}
    made = api.recipe(name, more.pop("world", TEXT_WORLD), seed=seed, settings=settings, **more)
    few = {
        "rollout.tasks": 6,  # of pairs that are made once
        "rollout.forced": 1,
        "sampler.pool": 8,  # prompts that are scored again and again
        "terms.policy.after": 0,  # runs take two or three steps
        "credit.gae.ignore": 1,  # and windows two tokens
        "evaluation.measures.held_out.pairs": 2,
        "evaluation.measures.pools.tasks": 2,
        "evaluation.measures.pools.samples": 4,
        "evaluation.measures.improving.tasks": 2,
        "sampler.least_items": 2,
    }
    for path in few.keys() - settings.keys():
        made = api.set_path(made, path, few[path]) if made.get(path, missing=None) else made
    return made


def mixed_recipe(name: str, seed: int = 0, **more: Any) -> Recipe:
    """The same on a toy world of three categories."""
    return text_recipe(name, seed, world="toy_worlds:Sizes", **more)


def control_recipe(name: str, world: str | None = "gym:CartPole-v1", seed: int = 0, **more: Any) -> Recipe:
    """A method on a control world, tiny: episodes of at most 12 actions, or 2 lanes of windows of 16."""
    settings = {**SMALL, **SMALL_MLP, "evaluation.max_steps": 12, **more.pop("settings", {})}
    made = api.recipe(name, world, seed=seed, settings=settings, **more)
    return smaller(made, settings)


def logged_recipe(name: str, seed: int = 0, **more: Any) -> Recipe:
    """An offline method on the tiny data set, tiny: three batches of 16 decisions a step."""
    return control_recipe(name, None, seed, settings={"store.data": tiny_data(), **more.pop("settings", {})}, **more)


def goals_recipe(name: str, seed: int = 0, **more: Any) -> Recipe:
    """A goal-conditioned offline method on a tiny data set of a maze, tiny: three batches of 16 windows a step."""
    return control_recipe(name, None, seed, settings={"store.data": tiny_maze(), **more.pop("settings", {})}, **more)


def tiny_maze() -> str:
    """The name of a data set of seven episodes of a maze's shape, made if it is not there."""
    name = "tiny/maze-v0"
    if name not in dataset.names():
        spaces = {"observation": dataset.space_of(torch.empty(0), Box(-8, 8, (6,))),
                  "action": dataset.space_of(torch.empty(0), Box(-1, 1, (2,)))}  # fmt: skip
        dataset.save(tiny_record(6, 2), dataset.About(name, "pointmaze:UMaze", spaces=spaces))
    return name


def learns_from_a_log(method: Method) -> bool:
    """Whether its store is full from the start."""
    return "box" in method.worlds and hasattr(api.recipe(method.slug, "gym:Pendulum-v1").store.target, "fill")


def tiny_data() -> str:
    """The name of a data set of seven episodes of Pendulum's shape, made if it is not there."""
    name = "tiny/pendulum-v0"
    if name not in dataset.names():
        spaces = {"observation": dataset.space_of(torch.empty(0), Box(-8, 8, (3,))),
                  "action": dataset.space_of(torch.empty(0), Box(-2, 2, (1,)))}  # fmt: skip
        about = dataset.About(name, "gym:Pendulum-v1", spaces=spaces, random_return=-10.0, expert_return=0.0)
        dataset.save(tiny_record(), about)
    return name


def tiny_record(observed: int = 3, acted: int = 1) -> Batch:
    """Seven episodes of 4 to 10 decisions: three numbers observed, one acted, rewards below 0."""
    lengths = torch.arange(4, 11)
    count, rows, make = len(lengths), int(lengths.sum()), torch.Generator().manual_seed(0)
    ended = torch.arange(count) % 2 == 0
    return Batch(
        torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        {
            "observation": torch.randn(rows, observed, generator=make),
            "action": torch.rand(rows, acted, generator=make) * 4 - 2,
            "reward": -torch.rand(rows, generator=make),
        },
        {
            "group": torch.arange(count),
            "task": torch.arange(count),
            "terminated": ended,
            "truncated": ~ended,
            "valid": torch.ones(count, dtype=torch.bool),
            "final_observation": torch.randn(count, observed, generator=make),
        },
    )


def chain_recipe(name: str, seed: int = 0, **more: Any) -> Recipe:
    """A method on pictures, tiny: chains of three steps, and no start. Asked for the clean picture, a network that
    knows nothing draws the same one always, and there would be nothing to learn."""
    small = {
        "policy.asks": "epsilon",
        "world.steps": 3,
        "policy.hidden": [16],
        "policy.embedding": 4,
        "evaluation.tasks": 2,
    }
    sizes = {"store.batches_per_step": 3} if name == "denoising" else {**SMALL_GROUPS, "start": None}
    settings = {**SMALL, **small, **sizes, **more.pop("settings", {})}
    return api.recipe(name, "images:digits", seed=seed, settings=settings, **more)


def table_recipe(name: str, world: str = "finite:river-swim", seed: int = 0, **more: Any) -> Recipe:
    """A method of tables on a finite-horizon world: three replicas."""
    settings = {**SMALL, "policy.replicas": 3, **more.pop("settings", {})}
    return api.recipe(name, world, seed=seed, settings=settings, **more)


def smaller(recipe: Recipe, keep: Mapping[str, Any]) -> Recipe:
    """The recipe with the sizes of its rollout brought down, unless `keep` names them."""
    kinds = {
        "Episodes": {**SMALL_GROUPS, "rollout.max_steps": 12},
        "Window": {"rollout.lanes": 2, "rollout.steps": 16},
        "Stored": {"rollout.episodes": 4},
        "Idle": {"store.batches_per_step": 3},
    }
    replay = {"rollout.random_decisions": 8, "store.start_after": 8, "store.decisions_per_batch": 16}
    sizes = {**kinds[recipe.rollout.use.partition(":")[2]], **replay}
    for path, value in sizes.items():
        if path not in keep and recipe.get(path, missing=None):
            recipe = api.set_path(recipe, path, value)
    if recipe.data is not None:
        recipe = recipe.vary("tests", {"data": smaller(api.set_path(recipe.data, "steps", 2), {})})
    return recipe


def scored_again(batch: Batch, policy: Policy) -> Batch:
    """A credit link: log-probs as scoring gives them. Where a machine's products round by the size of a batch, ratios
    are not exactly 1 to begin with."""
    return batch.with_columns(behaviour_logp=score(batch, policy, "logp"))


def trained(recipe: Recipe, folder: Path) -> dict[str, Tensor]:
    """Trains a recipe in a folder; the policy's final state."""
    api.train(recipe, out=folder)
    return policy_state(folder)


def final_state(folder: Path) -> Any:
    """All that a run's last checkpoint holds."""
    found = checkpoint.latest(folder)
    assert found is not None
    return checkpoint.load(found)[1]


def policy_state(folder: Path) -> dict[str, Tensor]:
    return final_state(folder)["parts"]["policy"]


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves of a state tree by path."""
    if isinstance(tree, Mapping):
        return {k: v for key, inner in tree.items() for k, v in flat(inner, f"{path}/{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for i, inner in enumerate(tree) for k, v in flat(inner, f"{path}/{i}").items()}
    return {path: tree}


def differing(one: Any, other: Any) -> list[str]:
    """Paths at which two state trees are not equal to the bit; seconds aside."""
    left, right = flat(one), flat(other)
    if left.keys() != right.keys():
        return sorted(left.keys() ^ right.keys())
    return [path for path in left if "seconds" not in path and not _same(left[path], right[path])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or hasattr(one, "tobytes"):
        a, b = torch.as_tensor(one).contiguous(), torch.as_tensor(other).contiguous()
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return type(one) is type(other) and one == other


def metrics(folder: Path) -> list[dict[str, Any]]:
    """A run's records without what depends on the clock."""
    return [{k: v for k, v in record.items() if "seconds" not in k} for record in read_metrics(folder)]
