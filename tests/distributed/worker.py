"""One of several processes that share optimiser steps: `python worker.py FOLDER CASE…`, with torchrun's variables.

For each case it plays the whole batch, keeps its share of the groups, takes the steps, and writes what came of it.
Without RANK it does it all alone.
"""

import json
import os
import sys
from pathlib import Path

import torch

from helpers import control_recipe, text_recipe
from pilotage.data.batch import Batch
from pilotage.engines.processes import Processes
from pilotage.learn.learner import Ranks, RunStopped
from pilotage.run.assemble import Parts, assemble

SGD = {
    "terms.policy.optimiser": "pilotage.learn.optimisers:sgd",
    "terms.policy.optimiser.learning_rate": 0.1,
    "terms.policy.minibatches": 1,
    "terms.policy.schedule": "pilotage.learn.schedules:constant",
}


def case(name: str):
    """The recipe of a case, and how many steps to take."""
    if name == "language":
        return text_recipe("lite-ppo", settings={**SGD, "prompts_per_step": 6}), 2
    if name == "running":
        return text_recipe("grpo", settings={**SGD, "advantage.mean": "running", "advantage.std": "running"}), 2
    if name == "pairs":
        return text_recipe("inpo", settings={**SGD, "prompts_per_step": 6, "terms.policy.epochs": 1}), 2
    if name in ("minibatches", "starved", "sick"):
        return text_recipe("grpo", settings={**SGD, "terms.policy.minibatches": 3}), 2
    return control_recipe("ppo", "gym:Pendulum-v1", settings={**SGD, "terms.policy.epochs": 1, "rollout.lanes": 4}), 2


def share_of(name: str, batch: Batch, rank: int, size: int) -> Batch:
    """The groups of one process: every `size`-th, or, where it is to starve, all of them for the first."""
    if name == "starved":
        return batch if rank == 0 else batch.select(torch.zeros(len(batch), dtype=torch.bool))
    return batch.select(batch["group"] % size == rank)


def advance(name: str, parts: Parts, rank: int, size: int, step: int) -> dict[str, float]:
    recipe = parts.recipe
    batch = parts.rollout(
        parts.policy, parts.world, parts.sampler.next, parts.streams, step, recipe.prompts_per_step,
        recipe.samples_per_prompt,
    )  # fmt: skip
    batch = parts.credited(share_of(name, batch, rank, size), 0.0)
    if name == "sick" and rank == size - 1:
        batch = batch.with_columns(advantage=torch.full_like(batch["advantage"], float("nan")))
    return parts.learner.update(batch, step, 0.0)


def found_in(name: str, ranks: Ranks, rank: int, size: int) -> dict[str, object]:
    """What came of a case in this process."""
    recipe, steps = case(name)
    parts = assemble(recipe, ranks)
    with torch.no_grad():
        for parameter in parts.policy.parameters():
            parameter.mul_(3.0)  # away from the flat start
    found, said = [], ""
    try:
        for step in range(steps):
            learnt = advance(name, parts, rank, size, step)
            found.append({key: learnt[key] for key in ("policy/gradient_norm", "policy/loss", "optimiser_steps")})
    except RunStopped as error:
        said = str(error)
    parts.world.close()
    parameters = torch.cat([p.detach().flatten() for p in parts.policy.parameters()]).tolist()
    return {"steps": found, "parameters": parameters, "said": said}


def main(folder: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    ranks: Ranks = Processes() if "RANK" in os.environ else Ranks()
    rank, size = (ranks.rank, ranks.size) if isinstance(ranks, Processes) else (0, 1)
    for name in cases:
        (folder / f"{name}-{size}-{rank}.json").write_text(json.dumps(found_in(name, ranks, rank, size)))
    if isinstance(ranks, Processes):
        ranks.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
