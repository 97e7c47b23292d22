"""TD3+BC against d3rlpy's on a HalfCheetah log that is half an expert's, from which 4,000 batches teach something.

The first experiment, td3_bc_halfcheetah.py, came out as its criterion asks, and said little: with a tenth of the log an
expert's, most of the other side's runs had not learnt anything either.
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment
from experiments.logs import HALF

EXPERIMENT = experiment("td3-bc", "TD3+BC", {}, HALF, rises=True)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
