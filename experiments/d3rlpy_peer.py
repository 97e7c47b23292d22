"""TD3+BC and IQL against d3rlpy's on the same log, with the same hyper-parameters, networks and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments import peers
from experiments.common import RUNS, Comparisons, Experiment, Judged, Runs
from experiments.logs import HALFCHEETAH, Log
from pilotage.data import dataset
from pilotage.run import verdict
from pilotage.run.recipe import Recipe

PEER = "d3rlpy"
BATCHES, PER_STEP, BATCH, HIDDEN = 4000, 100, 256, (128, 128)
EPISODES = 10


def batches(quick: bool) -> int:
    return 200 if quick else BATCHES


def learnt(method: str, runs: Runs, comparisons: Comparisons) -> Judged:
    """As `peers.judge`, but not reproduced by doing nothing: only where the other side has learnt something."""
    found, theirs = peers.judge(method, PEER, runs, comparisons), verdict.side(PEER, runs[PEER])
    said = (
        f"{found.because}; theirs rose by {theirs.rise.estimate:.0f} ({theirs.rise.low:.0f} to {theirs.rise.high:.0f})"
    )
    return Judged("inconclusive" if found.word == "reproduced" and theirs.rise.low <= 0 else found.word, said)


def experiment(
    method: str, name: str, own: Mapping[str, Any], log: Log = HALFCHEETAH, *, rises: bool = False
) -> Experiment:
    """A method of ours, with what it needs to be set to the other's, against its namesake.

    rises: the other side has to have learnt something, or nothing is reproduced.
    """
    slug, _, version = log.name.partition("/")
    suffix = "" if log is HALFCHEETAH else f"-{version.partition('-')[0]}"
    share = {"mixed:0.1": "a tenth", "mixed:0.5": "half", "mixed:0.9": "nine tenths", "expert": "all"}[log.quality]

    def arms(quick: bool) -> Mapping[str, Recipe]:
        settings = {
            "steps": batches(quick) // PER_STEP,
            "store.decisions_per_batch": BATCH,
            "store.batches_per_step": PER_STEP,
            "policy.hidden": HIDDEN,
            "policy.normalise": True,
            "evaluation.every": 0,
            "evaluation.tasks": 2 if quick else EPISODES,
            "evaluation.greedy": True,
        }
        return {method: log.recipe(method, {**settings, **own}, quick)}

    def others(seeds: Sequence[int], quick: bool) -> Runs:
        recipe = arms(quick)[method]
        digest = recipe.get("store.digest")
        data = RUNS / f"{PEER}-{digest}.npz"
        if not data.is_file():
            data.parent.mkdir(parents=True, exist_ok=True)
            _write(log.sized(quick), data)
        asked = {
            "method": method,
            "env_id": log.world.partition(":")[2],
            "data": str(data),
            "steps": batches(quick),
            "batch": BATCH,
            "hidden": list(HIDDEN),
            "normalise": True,
            "held_out": peers.held_out(recipe),
        }
        home = f"{PEER}-{method}-{digest}-{'quick' if quick else 'full'}"
        return peers.runs(PEER, "d3rlpy_child.py", home, asked, seeds, recipe.steps)

    return Experiment(
        name=f"{method}.{slug}{suffix}",
        claim=f"Our {name} reaches at least the return of d3rlpy's {name} on the same HalfCheetah-v5 log.",
        criterion=(
            f"3 seeds a side, the log {log.name} ({log.decisions} decisions, {share} of them an "
            f"expert's), the same hyper-parameters, networks of 2 x 128 and {BATCHES} batches of {BATCH}; the last "
            f"policies play the same {EPISODES} held-out episodes with the policy's mean as action. Reproduced if our "
            "mean over seeds is at least the lower end of the other's 95 % interval and the interval of the difference "
            "does not lie below 0; not reproduced if that interval lies below 0; otherwise inconclusive."
            + (" Nothing is reproduced unless the interval of the other's rise from its start lies above 0." * rises)
        ),
        arms=arms,
        pairs=((method, PEER),),
        judge=partial(learnt, method) if rises else partial(peers.judge, method, PEER),
        seeds=(0, 1, 2),
        others=others,
        prepare=log.make,
    )


def _write(log: Log, path: Any) -> None:
    """The log as flat arrays, with ends marked at their last decisions."""
    record = dataset.load(log.name).record
    last = (record.offsets[1:] - 1).numpy()
    ends = {name: np.zeros(record.decisions, np.float32) for name in ("terminated", "truncated")}
    for name, column in ends.items():
        column[last] = record[name].numpy()
    arrays = {name: record[name].numpy().astype(np.float32) for name in ("observation", "action", "reward")}
    np.savez(path, **arrays, **ends)
