"""This process: threads and memory.

Memory that is freed and asked for again at every operation: glibc gives large blocks back to the system, and getting
them anew costs more than the arithmetic of a small model.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def what_is_there_kept() -> Iterator[None]:
    """Leaves what is in memory now out of garbage collections within: libraries make up most of it, and looking through
    them again and again takes a step that makes many objects a twentieth of its time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def tiny_numbers_flushed() -> Iterator[None]:
    """Numbers too small for full precision become 0 within: they are slow, and mean nothing to a network.

    As it was before, afterwards: the caller's own arithmetic is not ours to change.
    """
    import torch

    flushed = bool((torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
