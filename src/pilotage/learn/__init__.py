"""Learner: terms of losses, parameters and optimisers."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.learn import bandit as bandit
    from pilotage.learn import learner as learner
    from pilotage.learn import optimisers as optimisers
    from pilotage.learn import schedules as schedules
    from pilotage.learn import terms as terms
else:
    __getattr__ = submodules(__name__)
