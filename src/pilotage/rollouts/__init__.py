"""Rollouts: policy, world and tasks to groups; one plan a file."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.rollouts import base as base
    from pilotage.rollouts import budgets as budgets
    from pilotage.rollouts import demonstrations as demonstrations
    from pilotage.rollouts import episodes as episodes
    from pilotage.rollouts import hints as hints
    from pilotage.rollouts import idle as idle
    from pilotage.rollouts import messages as messages
    from pilotage.rollouts import modes as modes
    from pilotage.rollouts import once as once
    from pilotage.rollouts import pairs as pairs
    from pilotage.rollouts import pool as pool
    from pilotage.rollouts import prefixes as prefixes
    from pilotage.rollouts import replicas as replicas
    from pilotage.rollouts import rewrites as rewrites
    from pilotage.rollouts import rounds as rounds
    from pilotage.rollouts import stops as stops
    from pilotage.rollouts import stored as stored
    from pilotage.rollouts import traces as traces
    from pilotage.rollouts import window as window
else:
    __getattr__ = submodules(__name__)
