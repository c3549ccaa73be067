"""How many threads compute, and whether the machine has cores for them: on busy cores threads wait for each other."""

import os
import statistics
import time
from pathlib import Path

import torch

from hpcauxvae.runtime.children import cores
from hpcauxvae.runtime.launchers import World

_LOOKS, _APART = 9, 0.01
"""How often the running tasks are counted, and seconds between two counts."""
_RUNNING = Path("/proc/loadavg")


def others_running() -> int | None:
    """Tasks of this machine, this one not counted, that run or wait for a core, in the median of a few looks; None
    where the system does not tell, as outside of Linux."""
    found: list[int] = []
    for _ in range(_LOOKS):
        try:
            found.append(int(_RUNNING.read_text().split()[3].partition("/")[0]) - 1)
        except (OSError, ValueError, IndexError):
            return None
        time.sleep(_APART)
    return max(0, int(statistics.median(found)))


def leave_room(world: World, device: torch.device) -> None:
    """Has this process compute with no more threads than cores are free now, at least one.

    A team of which one thread has to share its core waits for that thread at every operation. Nothing is changed for
    an accelerator, where the user or a launcher has set OMP_NUM_THREADS, where several processes share a machine, and
    where this one may use some of its cores alone: whether these are busy is not known.
    """
    threads = torch.get_num_threads()
    whole = world.local_world_size == 1 and cores() == os.cpu_count()
    if device.type != "cpu" or threads < 2 or not whole or "OMP_NUM_THREADS" in os.environ:
        return
    if (others := others_running()) is None:
        return
    if (free := max(1, cores() - others)) < threads:
        print(f"other work runs here: {free} of {threads} threads compute (OMP_NUM_THREADS sets how many)", flush=True)
        torch.set_num_threads(free)


def as_before(threads: int) -> None:
    """So many threads again for a run that goes on: with another number sums are rounded otherwise.

    Where the user has set OMP_NUM_THREADS, or has not so many cores now, nothing is changed.
    """
    if "OMP_NUM_THREADS" not in os.environ and 0 < threads <= cores():
        torch.set_num_threads(threads)


def described(world: World) -> str:
    """The processes of a training on CPUs, and the threads of each, in a line."""
    threads = torch.get_num_threads()
    processes = f"{world.world_size} process{'es' * (world.world_size > 1)}"
    return f"on CPUs: {processes} of {threads} thread{'s' * (threads > 1)}"


def crowded(threads: int, free: int) -> str:
    """A sentence where these threads, all of this machine, find fewer cores free than they are; else ""."""
    if threads < 2 or threads <= free:
        return ""
    return (
        f"other work leaves {max(0, free)} of {os.cpu_count()} cores free: {threads} threads wait for each other then, "
        "and may be several times slower than one; beside other work start it with OMP_NUM_THREADS=1"
    )


def about_crowd(world: World) -> str:
    """The sentence of `crowded` for the processes on this machine, if each has a team of threads."""
    threads = torch.get_num_threads()
    if threads < 2:
        return ""
    if (others := others_running()) is None:
        others = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    others = max(0, others - (world.local_world_size - 1))  # the other processes of this training
    return crowded(threads * world.local_world_size, (os.cpu_count() or 1) - others)
