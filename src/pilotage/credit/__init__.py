"""Credit: pure transforms of a batch that write named per-decision streams."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.credit import bootstrap as bootstrap
    from pilotage.credit import cuts as cuts
    from pilotage.credit import difficulty as difficulty
    from pilotage.credit import elliptical as elliptical
    from pilotage.credit import groups as groups
    from pilotage.credit import improvement as improvement
    from pilotage.credit import modes as modes
    from pilotage.credit import noised as noised
    from pilotage.credit import novelty as novelty
    from pilotage.credit import plans as plans
    from pilotage.credit import preference as preference
    from pilotage.credit import reference as reference
    from pilotage.credit import regret as regret
    from pilotage.credit import returns as returns
    from pilotage.credit import tracked as tracked
    from pilotage.credit import trajectories as trajectories
    from pilotage.credit import windows as windows
else:
    __getattr__ = submodules(__name__)
