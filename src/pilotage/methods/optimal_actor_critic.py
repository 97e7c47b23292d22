"""Optimal actor-critic: an actor that tracks, by multiplicative weights, an optimistic critic that changes rarely.

    π_h ∝ exp(n η f_h),   n steps since the critic last changed;   f_h = clip(φ·w_h + b‖φ‖_{Λ_h⁻¹}, 0, cap_h),
    changed, and the policy reset to uniform, when det Λ_h has doubled for some h

Tan et al. 2025, arXiv 2505.03710. The critic aims at Q* (max backup), not at the actor's value, so that its targets do
not multiply with the policies; rare changes and resets make each phase plain Hedge against one function. Three
methods: online; hybrid (offline episodes are in the critic's data from the start); hybrid without optimism.

What is ours: optimism by a bonus in place of the search over a confidence set, which cannot be computed in general (one
more factor d); determinants in place of the loss test; features are the world's, or one-hot; η is 3 by default (the
derived sqrt(2 N_sw log A / (T H²)) is lower and slower). With η infinite and a new critic each step it is LSVI-UCB
to the bit. Offline episodes are of an expert with half of its actions random. The paper's earlier variant, whose critic
aims at the current policy's value, is left out. The released notebook could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import learn
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe

PAPER = "Tan et al. 2025, arXiv 2505.03710"


@method(
    "optimal-actor-critic",
    family="tabular",
    paper=PAPER,
    line="optimistic critic, changed rarely; an actor by multiplicative weights, reset at each change",
    baseline="lsvi-ucb",
    parts=("learner",),
    claim="the first actor-critic with 1/ε² sample complexity under strategic exploration: regret grows as sqrt(T)",
    policy="table",
    worlds=("finite",),
)
def optimal_actor_critic(base: Recipe) -> Mapping[str, Any]:
    """Softly where the baseline is greedy, rarely where it plans each time."""
    return {"learner": piece(learn.tracking.Tracking).having(**base.learner.settings)}


@method(
    "optimal-actor-critic-hybrid",
    family="tabular",
    paper=PAPER,
    line="the same, with offline episodes in the critic's data from the start",
    baseline="optimal-actor-critic",
    parts=("learner",),
    claim="offline data spare the exploration of what they cover",
    policy="table",
    worlds=("finite",),
)
def optimal_actor_critic_hybrid(base: Recipe) -> Mapping[str, Any]:
    """200 offline episodes; with none it is the online method to the bit."""
    return {"learner.offline": 200}


@method(
    "optimal-actor-critic-plain",
    family="tabular",
    paper=PAPER,
    line="hybrid without optimism: fitted Q iteration on offline and online data",
    baseline="optimal-actor-critic-hybrid",
    parts=("learner",),
    claim="with enough offline data that cover an optimal policy, optimism is not needed",
    policy="table",
    worlds=("finite",),
)
def optimal_actor_critic_plain(base: Recipe) -> Mapping[str, Any]:
    """No bonus; without offline data it fails where exploration is needed."""
    return {"learner.bonus": 0.0}
