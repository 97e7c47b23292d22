"""One run in a process of its own: `python -m pilotage.run.child FOLDER THREADS`, its recipe the first line of stdin.

The rest of stdin says nothing, and ends when the parent does: however that dies, the run stops with a checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from pilotage.run.failures import described

STOPPED = 75  # "temporary failure" of sysexits.h: stopped as asked, can go on


def main() -> int:
    """Trains, or goes on with what is in the folder; errors are one line, the last one printed."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    tree = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from pilotage.engines import local
    from pilotage.run import loop
    from pilotage.run.recipe import Recipe

    local.prepare(threads)
    try:
        loop.train_or_resume(Recipe.from_json(tree), folder)
    except loop.Interrupted as stopped:
        print(stopped)
        return STOPPED
    except Exception as error:
        if os.environ.get("PILOTAGE_DEBUG"):
            raise
        line, status = described(error)
        print(line, file=sys.stderr)
        return status
    return 0


def _stop_with_parent() -> None:
    # not through sys.stdin: a thread that waits in its buffer holds a lock that Python wants when it ends
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
