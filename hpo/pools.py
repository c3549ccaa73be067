"""Workers: threads of this process that start trials here or as Slurm steps, or MPI ranks that start their own.

Trials are processes in either case, so a worker only waits; what a trial does cannot hurt the search.
"""

import dataclasses
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any

from hpcauxvae.runtime.children import threads_each, visible_gpus
from hpcauxvae.types import InputError
from hpo.logbook import Row
from hpo.problem import Point
from hpo.trials import Setup, Slot, run_trial

STOP = threading.Event()
"""Set in every process of the search when it is asked to stop."""


class Pool:
    """Submits trials to an executor and waits for the next to end."""

    def __init__(self, executor: Any, workers: int, run: Callable[[Setup, int, Point], Row]) -> None:
        self.executor, self.workers, self.run = executor, workers, run

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """After a failure of the search its trials stop, and those handed over never start."""
        if kind is None:
            self.executor.shutdown()
        else:
            STOP.set()
            self.executor.shutdown(cancel_futures=True)
            STOP.clear()  # nobody is left to hear it

    def submit(self, setup: Setup, trial: int, point: Point) -> Any:
        """Hands over a trial; it starts when a worker is free."""
        return self.executor.submit(self.run, setup, trial, point)

    def wait(self, running: Any, seconds: float) -> "set[Future[Row]]":
        """Those that ended, perhaps none, after at most so many seconds."""
        return wait(running, timeout=seconds, return_when=FIRST_COMPLETED).done


def thread_pool(slots: list[Slot]) -> Pool:
    """One thread for each slot."""
    free: SimpleQueue[Slot] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def run(setup: Setup, trial: int, point: Point) -> Row:
        slot = free.get()
        try:
            return run_trial(setup, trial, point, slot, STOP.is_set)
        finally:
            free.put(slot)

    return Pool(ThreadPoolExecutor(len(slots)), len(slots), run)


def local_slots(workers: int | None, processes: int, device: str = "auto") -> list[Slot]:
    """The slots of this machine, among which its GPUs and cores are shared out.

    Without a number of workers: as many as there are GPUs for, or a single one.
    """
    gpus = [] if device == "cpu" else visible_gpus()
    if 0 < len(gpus) < processes:
        raise InputError(
            f"processes = {processes} a trial for {len(gpus)} GPUs; allowed: at most {len(gpus)}, or device cpu"
        )
    workers = workers or max(1, len(gpus) // processes)
    if gpus and workers * processes > len(gpus):
        raise InputError(
            f"workers = {workers} with {processes} processes a trial for {len(gpus)} GPUs; "
            f"allowed: at most {len(gpus) // processes} workers"
        )
    threads = threads_each(workers * processes)
    parts = [tuple(gpus[number * processes : (number + 1) * processes]) for number in range(workers)]
    return [Slot(name=str(number), gpus=part, threads=threads) for number, part in enumerate(parts)]


def slurm_slots(workers: int | None, processes: int, device: str = "auto") -> list[Slot]:
    """Slots that are steps of the allocation: each trial is an srun of `processes` tasks on a single node.

    Without a number: as many trials a node as its tasks make room for.
    """
    if "SLURM_JOB_NUM_NODES" not in os.environ:
        raise InputError(
            "launcher 'slurm' outside any allocation of Slurm; allowed: local and mpi, or sbatch or salloc"
        )
    nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
    cores = int(re.match(r"\d+", os.environ["SLURM_JOB_CPUS_PER_NODE"])[0])  # type: ignore[index]
    given = int(os.environ.get("SLURM_GPUS_ON_NODE", 0))
    gpus = 0 if device == "cpu" else given
    here = max(1, (gpus or cores) // processes) if workers is None else -(-workers // nodes)
    workers = workers or here * nodes
    if here * processes > (gpus or cores):
        raise InputError(
            f"workers = {workers} with {processes} processes a trial on {nodes} nodes of {gpus or cores} "
            f"{'GPUs' if gpus else 'cores'}; allowed: at most {nodes * ((gpus or cores) // processes)} workers"
        )
    threads = max(1, cores // (here * processes))
    srun = ["srun", "--exact", "--nodes=1", f"--ntasks={processes}", f"--cpus-per-task={threads}"]
    srun += ["--kill-on-bad-exit=1", "--mpi=none", "--unbuffered"]
    if gpus:
        srun.append(f"--gres=gpu:{processes}")  # all tasks of the step see all its GPUs, as NCCL wants it
    elif given:
        srun.append("--gres=none")  # else a step takes all that the job has, and the next waits for them
    if memory := int(os.environ.get("SLURM_MEM_PER_NODE", 0)):
        srun.append(f"--mem={memory // here}")
    return [Slot(name=str(number), threads=threads, srun=tuple(srun)) for number in range(workers)]


def mpi_slot(processes: int, device: str = "auto") -> Slot:
    """The slot of this MPI rank: its part of what the workers on its node share. Rank 0 is no worker.

    Raises InputError, after all that the ranks do together.
    """
    from mpi4py import MPI

    node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    with_first = node.allreduce(int(MPI.COMM_WORLD.rank == 0)) > 0
    workers, number = max(1, node.size - with_first), max(0, node.rank - with_first)
    own = os.sched_getaffinity(0)
    cores = [cores for rank, cores in node.allgather((MPI.COMM_WORLD.rank, own)) if rank > 0]
    node.Free()
    slot = local_slots(workers, processes, device)[number]
    return dataclasses.replace(slot, threads=threads_of(own, cores, processes))


def threads_of(own: set[int], workers: Iterable[set[int]], processes: int) -> int:
    """Of each process of a trial. A launcher gives every rank its own cores, or lets some or all ranks share theirs.

    workers: the cores of every worker on the node, own among them.
    """
    sharing = sum(not own.isdisjoint(cores) for cores in workers)
    return max(1, len(own) // (max(1, sharing) * processes))


THIS_RANK: list[tuple[Slot, str]] = []
"""Slot and mark of the MPI rank that this process is, set when it starts: its executor sends it no more than a name."""


def run_on_rank(setup: Setup, trial: int, point: Point) -> Row:
    """A trial on the MPI rank that this process is."""
    ((slot, mark),) = THIS_RANK
    lock = setup.out / "lock"  # which the first rank gives up where it fails

    def stopping() -> bool:
        return STOP.is_set() or not lock.exists()

    return run_trial(dataclasses.replace(setup, mark=mark), trial, point, slot, stopping)


def slurm_is_there() -> bool:
    """Whether this is the shell of an allocation of several nodes, not a step in it."""
    return (
        "SLURM_JOB_ID" in os.environ
        and "SLURM_STEP_ID" not in os.environ
        and int(os.environ.get("SLURM_JOB_NUM_NODES", 1)) > 1
        and subprocess.run(["srun", "--version"], capture_output=True).returncode == 0
    )
