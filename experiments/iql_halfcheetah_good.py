"""IQL against d3rlpy's on a HalfCheetah log of which nine tenths are an expert's.

Where half of the log is random, 4,000 batches teach neither side anything: see iql_halfcheetah_half.py.
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment
from experiments.iql_halfcheetah import OWN
from experiments.logs import GOOD

EXPERIMENT = experiment("iql", "IQL", OWN, GOOD, rises=True)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
