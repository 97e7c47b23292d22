"""IQL against d3rlpy's on a HalfCheetah log that is half an expert's; see iql_halfcheetah.py for what still differs.

The first experiment came out as its criterion asks, and said little: on a log that is nine tenths random, 4,000 batches
left the policies of both sides where they had started.
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment
from experiments.iql_halfcheetah import OWN
from experiments.logs import HALF

EXPERIMENT = experiment("iql", "IQL", OWN, HALF, rises=True)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
