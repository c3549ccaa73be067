"""Freed memory stays with the process, for its next tensor."""

import ctypes
import os

_PARAMETERS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
"""What a user may set instead, and glibc's number of it (mallopt(3))."""
_KEPT = 256 << 20  # bytes


def keep_freed() -> None:
    """Asks glibc to give only blocks of 256 MiB, and free memory beyond that, back to the system.

    By itself it gives back what a training step frees and the next one takes again, tens of MB in each layer, and
    every page of it is a fault: on a CPU a third of the time of a step with 64 x 64 pictures. Other C libraries are
    left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _PARAMETERS):
        return
    for parameter in _PARAMETERS.values():
        mallopt(parameter, _KEPT)
