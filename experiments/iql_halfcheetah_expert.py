"""IQL against d3rlpy's on a HalfCheetah log of an expert alone.

On mixed logs neither side leaves the start within 4,000 batches: random episodes never get far from it, so that near it
most of the log is random, whatever its share (see iql_halfcheetah_good.py).
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment
from experiments.iql_halfcheetah import OWN
from experiments.logs import EXPERT

EXPERIMENT = experiment("iql", "IQL", OWN, EXPERT, rises=True)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
