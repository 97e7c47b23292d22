"""Learner: terms of losses, parameters and optimisers."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.learn import bandit as bandit
    from pilotage.learn import feedback as feedback
    from pilotage.learn import finite as finite
    from pilotage.learn import learner as learner
    from pilotage.learn import optimisers as optimisers
    from pilotage.learn import optimism as optimism
    from pilotage.learn import schedules as schedules
    from pilotage.learn import switches as switches
    from pilotage.learn import terms as terms
    from pilotage.learn import tracking as tracking
else:
    __getattr__ = submodules(__name__)
