"""What else is found out of a policy at each evaluation: pieces under `evaluation.measures`.

A measure is called with what it names of `policy`, `world`, `recipe`, `step` and `streams`; it returns numbers by
name.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pilotage.credit.preference import Pairs
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy, score
from pilotage.rollouts.demonstrations import written
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.pairs import HasPairs, given
from pilotage.run import starts
from pilotage.run.assemble import make_policy
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import World
from pilotage.worlds.games import Blotto

Floats = NDArray[np.float64]
TINY = 1e-12


def start_policy(recipe: Recipe, world: World) -> Policy:
    """The policy a run of this recipe begins with; its start has to have been made."""
    policy = make_policy(recipe, world)
    if recipe.start is not None:
        starts.load_weights(policy, recipe.start)
    return policy.requires_grad_(False)


def peak_memory() -> dict[str, float]:
    """`memory/peak`: the most memory, in GiB, that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return {"memory/peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}


class HeldOutPairs:
    """Log-probs of both sides of pairs on held-out tasks: `pairs/chosen_logp` and `pairs/rejected_logp`, summed over an
    answer and averaged over pairs, and `pairs/preferred`, how often the margin over the start's is above 0.

    The pairs are the world's own where it has them; else the start policy answers each task `samples` times and the
    world's verdicts, without noise, choose the best and the worst. They are the same at every evaluation and for every
    method with the same start and seed. pairs: how many at most.
    """

    def __init__(self, *, pairs: int = 128, samples: int = 8) -> None:
        if pairs < 1 or samples < 2:
            raise UsageError(f"at least one pair, of at least two samples; not {pairs} of {samples}")
        self.pairs, self.samples = pairs, samples
        self.held: Batch | None = None

    def __call__(self, policy: Policy, world: World, recipe: Recipe) -> dict[str, float]:
        if self.held is None:
            first = start_policy(recipe, world)
            made = self._made(first, world, recipe.seed)
            self.held = made.with_columns(reference_logp=score(made, first, "logp"))
        if not len(self.held):
            return {"pairs/count": 0.0}
        logp = score(self.held, policy, "logp")
        now, before = (self.held.total(found).view(-1, 2) for found in (logp, self.held["reference_logp"]))
        winner = self.held["preferred"][self.held.offsets[:-1]].view(-1, 2).long().argmax(1, keepdim=True)
        chosen, rejected = now.gather(1, winner), now.gather(1, 1 - winner)
        margin = chosen - rejected - before.gather(1, winner) + before.gather(1, 1 - winner)
        return {
            "pairs/count": float(len(now)),
            "pairs/chosen_logp": float(chosen.mean()),
            "pairs/rejected_logp": float(rejected.mean()),
            "pairs/preferred": float((margin > 0).float().mean()),
        }

    def _made(self, first: Policy, world: World, seed: int) -> Batch:
        streams, label = Streams(seed), Pairs(rule="best-worst")
        if isinstance(world, HasPairs):
            return label(given(first, world, _held_out(world, self.pairs)), world, streams)
        tasks = _held_out(world, 2 * self.pairs)  # on some of them all answers are worth the same
        found = label(Messages().converse(first, world, tasks, self.samples, streams, "pairs", 0), world, streams)
        return found.select(torch.arange(min(len(found), 2 * self.pairs)))


def _held_out(world: World, count: int) -> list[Task]:
    """The first held-out tasks, each once."""
    found: dict[str, Task] = {}
    for key in range(count):
        task = world.task(key, "held_out")
        found.setdefault(f"{task.prompt}\0{task.answer}\0{task.payload.get('rejected', '')}", task)
    return list(found.values())


class GameValue:
    """What a policy is worth in a game whose answers can be listed, exactly: `game/gap`, the duality gap of the game
    regularised by `tau` towards the run's start; `game/worst_win`, the win rate against the best reply to it; `game/
    start_win`, that against the start; `game/legal`, the probability of legal answers; `game/entropy`.

    The exploitability of the unregularised game is ½ - `game/worst_win`. Raises UsageError for a world that is no game.
    """

    def __init__(self, *, tau: float = 0.1) -> None:
        if tau <= 0:
            raise UsageError(f"tau is above 0, not {tau:g}")
        self.tau = tau
        self.reference: Floats | None = None

    def __call__(self, policy: Policy, world: World, recipe: Recipe) -> dict[str, float]:
        if not isinstance(world, Blotto):
            raise UsageError(f"{type(world).__name__} is no game whose answers can be listed")
        if self.reference is None:
            self.reference = answer_probabilities(start_policy(recipe, world), world)
        found = answer_probabilities(policy, world)
        return {
            "game/gap": duality_gap(found, self.reference, world.payoff, self.tau),
            "game/worst_win": float((found @ world.payoff).min()),
            "game/start_win": float(found @ world.payoff @ self.reference),
            "game/legal": float(found[:-1].sum()),
            "game/entropy": float(-(found * np.log(np.maximum(found, 1e-300))).sum()),
        }


def answer_probabilities(policy: Policy, world: Blotto) -> Floats:
    """[A + 1] the probability of each of a game's answers; the last is that of all other texts together."""
    if not isinstance(policy, SpeakingPolicy):
        raise UsageError(f"{type(policy).__name__} does not speak: a game's answers are texts")
    task = world.task(0, "held_out")
    batch = written(policy, [task] * len(world.answers), world.answers)
    legal = batch.total(score(batch, policy, "logp").double()).exp().numpy()
    # an answer as long as texts may be needs no end token; none of these is
    found: Floats = np.append(legal, max(TINY, 1.0 - float(legal.sum())))
    found /= found.sum()
    return found


def mirror_step(now: ArrayLike, reference: ArrayLike, payoff: Floats, eta: float, tau: float) -> Floats:
    """[A] one exact step of mirror descent in the regularised game: π' ∝ exp(P(· > π)/η) ref^(τ/η) π^(1 - τ/η).

    Zhang et al. 2024, arXiv 2407.00617.
    """
    policy, start = np.asarray(now, np.float64), np.asarray(reference, np.float64)
    share = tau / eta
    with np.errstate(divide="ignore", invalid="ignore"):
        anchors = np.where(share == 1, 0.0, (1 - share) * np.log(policy)) + share * np.log(start)
    logits = payoff @ policy / eta + anchors
    logits -= logits.max()
    found: Floats = np.exp(logits) / np.exp(logits).sum()
    return found


def duality_gap(now: ArrayLike, reference: ArrayLike, payoff: Floats, tau: float) -> float:
    """max_p J(p, π) - min_p J(π, p) of J(p, q) = P(p > q) - τ KL(p || ref) + τ KL(q || ref), in closed form.

    The best reply to π is ref exp(P(· > π)/τ), whose value is τ log E_ref exp(P(· > π)/τ) + τ KL(π || ref); as P(p > q)
    + P(q > p) = 1, the gap is twice that value less 1. It is 0 at the game's Nash policy alone.
    """
    policy, start = np.asarray(now, np.float64), np.asarray(reference, np.float64)
    played = policy > 0
    divergence = float((policy[played] * (np.log(policy[played]) - np.log(start[played]))).sum())
    wins = payoff @ policy
    top = float(wins.max())
    value = top + tau * float(np.log((start * np.exp((wins - top) / tau)).sum())) + tau * divergence
    return 2 * value - 1


def win_rate(candidate: Sequence[float] | Floats, other: Sequence[float] | Floats) -> float:
    """The share of items at which the candidate scores higher, ties half; items where either has no score are left
    out. For two runs of one evaluation, or for a run's end against its start, by `eval/items`."""
    one, two = np.asarray(candidate, np.float64), np.asarray(other, np.float64)
    if one.shape != two.shape:
        raise ValueError(f"{len(one)} and {len(two)} items cannot be paired")
    known = np.isfinite(one) & np.isfinite(two)
    if not bool(known.any()):
        return float("nan")
    return float(np.where(one[known] == two[known], 0.5, one[known] > two[known]).mean())
