"""Records: batches of episodes as flat columns, tasks and verdicts."""

from typing import TYPE_CHECKING

from pilotage.data.lazy import submodules

if TYPE_CHECKING:
    from pilotage.data import batch as batch
    from pilotage.data import dataset as dataset
    from pilotage.data import examples as examples
    from pilotage.data import folders as folders
    from pilotage.data import hdf5 as hdf5
    from pilotage.data import memory as memory
    from pilotage.data import offline as offline
    from pilotage.data import piece as piece
    from pilotage.data import replay as replay
    from pilotage.data import rng as rng
    from pilotage.data import store as store
    from pilotage.data import tasks as tasks
    from pilotage.data import windows as windows
else:
    __getattr__ = submodules(__name__)
