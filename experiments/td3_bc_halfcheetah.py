"""TD3+BC against d3rlpy's on a mixed HalfCheetah log.

What still differs: d3rlpy leaves out the last decision of each episode, and its critics' loss is twice ours (which Adam
does not see).
"""

from __future__ import annotations

import sys

from experiments.common import main
from experiments.d3rlpy_peer import PEER, experiment

EXPERIMENT = experiment("td3-bc", "TD3+BC", {})

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))

__all__ = ["EXPERIMENT", "PEER"]
