"""TD3+BC against d3rlpy's on a HalfCheetah log of which nine tenths are an expert's.

Where half of the log is random, 4,000 batches teach neither side anything: see td3_bc_halfcheetah_half.py.
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment
from experiments.logs import GOOD

EXPERIMENT = experiment("td3-bc", "TD3+BC", {}, GOOD, rises=True)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
