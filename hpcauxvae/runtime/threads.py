"""How many threads compute, and whether the machine has cores for them: on busy cores threads wait for each other."""

import os

import torch

from hpcauxvae.runtime.launchers import World


def described(world: World) -> str:
    """The processes of a training on CPUs, and the threads of each, in a line."""
    threads = torch.get_num_threads()
    processes = f"{world.world_size} process{'es' * (world.world_size > 1)}"
    return f"on CPUs: {processes} of {threads} thread{'s' * (threads > 1)}"


def crowded(threads: int, cores: int, load: float) -> str:
    """A sentence where these threads, all of this machine, find fewer cores free than they are; else "".

    load: processes that have run or waited to run in the last minute, in the mean, before these. One thread of a team
    that has lost its core holds up all others at every operation.
    """
    if threads < 2 or load + threads <= cores + 0.5:
        return ""
    return (
        f"the machine has {cores} cores and was busy in the last minute (load {load:.1f}): {threads} threads wait for "
        "each other then, and may be several times slower than one; beside other work start it with OMP_NUM_THREADS=1"
    )


def about_crowd(world: World) -> str:
    """The sentence of `crowded` for the processes on this machine, if each has a team of threads."""
    threads = torch.get_num_threads()
    if threads < 2 or not hasattr(os, "getloadavg"):
        return ""
    return crowded(threads * world.local_world_size, os.cpu_count() or 1, os.getloadavg()[0])
