"""How long it takes to start: the import, and the command that lists methods. Each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from benchmarks.measure import Measured
from benchmarks.timing import clock, since

TIMED_IMPORT = """
import os, time, torch
began, times = time.perf_counter(), os.times()
import pilotage
for name in pilotage.__all__:  # they are imported when first asked for
    getattr(pilotage, name)
ended, after = time.perf_counter(), os.times()
print(ended - began, after.user + after.system - times.user - times.system)
"""
COMMAND = "import sys; sys.argv[0] = 'pilotage'; from pilotage.cli import main; main()"


def importing() -> Callable[[], Measured]:
    """Seconds that `import pilotage` takes once torch is there, with every public name."""

    def repeat() -> Measured:
        done = subprocess.run([sys.executable, "-c", TIMED_IMPORT], capture_output=True, text=True, check=True)
        seconds, processor = map(float, done.stdout.split())
        return Measured(1, seconds, max(processor, 0.01))  # the system counts processor time in hundredths

    return repeat


def listing() -> Callable[[], Measured]:
    """Seconds of `pilotage list`, from start to exit."""

    def repeat() -> Measured:
        began = clock()
        subprocess.run([sys.executable, "-c", COMMAND, "list"], stdout=subprocess.DEVNULL, check=True)
        return Measured(1, *since(began))

    return repeat
