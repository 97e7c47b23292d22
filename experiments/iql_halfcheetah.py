"""IQL against d3rlpy's on a mixed HalfCheetah log, the actor's rate constant as there.

What still differs: d3rlpy leaves out the last decision of each episode, trains values and critics together before the
actor, and bounds the deviation by a sigmoid, which starts at exp(-1.5) here as there.
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment

OWN = {"policy.log_std": -1.5, "terms.actor.schedule.final": 1.0}
EXPERIMENT = experiment("iql", "IQL", OWN)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
