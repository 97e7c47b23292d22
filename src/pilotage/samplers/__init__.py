"""Samplers: what to try or to train on next."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.samplers import base as base
    from pilotage.samplers import categories as categories
    from pilotage.samplers import evolving as evolving
    from pilotage.samplers import promising as promising
    from pilotage.samplers import space as space
    from pilotage.samplers import uniform as uniform
else:
    __getattr__ = submodules(__name__)
