"""Losses: pure functions of per-decision tensors; reduction is separate."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.losses import actor as actor
    from pilotage.losses import conservative as conservative
    from pilotage.losses import denoise as denoise
    from pilotage.losses import imitation as imitation
    from pilotage.losses import policy as policy
    from pilotage.losses import preference as preference
    from pilotage.losses import projection as projection
    from pilotage.losses import reduce as reduce
    from pilotage.losses import regularise as regularise
    from pilotage.losses import terms as terms
    from pilotage.losses import value as value
else:
    __getattr__ = submodules(__name__)
