"""Freed memory stays with the process, for its next tensor."""

import ctypes
import os

_TRIM, _MMAP = -1, -3  # glibc's numbers of its settings, mallopt(3)
_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_KEPT = 256 << 20  # bytes
_KEPT_BY_OLD = 32 << 20
"""The most that an older glibc takes. Once any setting is made, glibc no longer adapts the other by itself."""


def keep_freed() -> None:
    """Asks glibc to give only blocks of 256 MiB, and free memory beyond that, back to the system.

    By itself it gives back what a training step frees and the next one takes again, tens of MB in each layer, and
    every page of it is a fault: on a CPU a quarter of the time of a step with 64 x 64 pictures. Other C libraries are
    left as they are, and so is what the user has set.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _BY_USER):
        return
    if mallopt(_MMAP, _KEPT) or mallopt(_MMAP, _KEPT_BY_OLD):
        mallopt(_TRIM, _KEPT)
