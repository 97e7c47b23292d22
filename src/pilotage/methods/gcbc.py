"""GCBC: goal-conditioned behaviour cloning, the mean squared error of a plan towards what was achieved later.

    L = mean over actions and their dimensions of (π(s, g) - a)², g achieved later in the same episode

Lynch et al. 2019, arXiv 1903.01973; Ding et al. 2019, arXiv 1906.05838. Goals are drawn in hindsight from episodes
without a task (play). Where several ways lead to a goal their mean is learnt, which may be none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit
from pilotage.data.piece import UsageError, piece
from pilotage.methods.diffusion_policy import windows_for
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "gcbc",
    family="diffusion",
    paper="Lynch et al. 2019, arXiv 1903.01973",
    line="squared error of a plan towards a goal that was reached later",
    baseline="bc",
    parts=("store", "credit", "policy"),
    kind="baseline",
    policy="planner",
    worlds=("goals",),
)
def gcbc(base: Recipe) -> Mapping[str, Any]:
    """Windows in place of decisions, a goal in hindsight for each, and a policy that knows where its goal stands."""
    achieved = getattr(base.world.target, "achieved", None)
    if achieved is None:
        raise UsageError(f"{base.world.use!r} does not say which of its observations a goal speaks of (`achieved`)")
    return {
        "store": windows_for(base),
        "policy.achieved": tuple(achieved),
        "drawn": {"hindsight": piece(credit.plans.hindsight)},
    }
