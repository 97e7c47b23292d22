"""This process: threads and memory.

Memory that is freed and asked for again at every operation: glibc gives large blocks back to the system, and getting
them anew costs more than the arithmetic of a small model.
"""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of <malloc.h>


def keep_freed_memory(megabytes: int = 512) -> bool:
    """Lets this process keep up to so much freed memory for its next tensors; returns whether it could be set.

    For the whole process and for good, so it belongs to programs, not to libraries' imports. Linux with glibc only.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = {MMAP_THRESHOLD: 32 << 20, TRIM_THRESHOLD: megabytes << 20, TOP_PAD: 16 << 20}
    return all(mallopt(name, value) == 1 for name, value in wanted.items())


def prepare(threads: int) -> None:
    """What a program does first: so many threads for torch, and freed memory kept."""
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory()
