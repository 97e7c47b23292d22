"""One side of a row in a process of its own: `python -m benchmarks.worker ROW SIDE`.

Says a JSON line when it is ready (after one repeat that does not count), then does a repeat for each line it is sent
and says what it measured. Everything else that is printed goes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from dataclasses import asdict


def main(name: str, side: str) -> None:
    """Serves repeats until the input ends."""
    outward = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch

    from benchmarks.machine import versions
    from benchmarks.rows import find

    torch.set_num_threads(1)
    if side == "ours":
        from pilotage.engines.local import prepare

        prepare(1)  # as the command does
    row = find(name)
    repeat = row.side(side)
    repeat()
    packages = ("pilotage", "torch") if side == "ours" else row.packages
    outward.write(json.dumps({"versions": versions(packages), "torch_threads": torch.get_num_threads()}) + "\n")
    for _ in sys.stdin:
        outward.write(json.dumps(asdict(repeat())) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
