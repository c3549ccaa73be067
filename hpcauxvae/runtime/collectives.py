"""The processes of launchers.py joined by torch.distributed, and the few collectives that training needs.

`slice_of` serves answers that do not depend on the number of processes. MPI is never called here: MPI and forked data
workers do not mix.
"""

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from hpcauxvae.runtime.devices import backend_of, device_of, use
from hpcauxvae.runtime.files import attempt
from hpcauxvae.runtime.launchers import World, rendezvous, ways_out
from hpcauxvae.runtime.threads import leave_room
from hpcauxvae.types import InputError, Reduction

T = TypeVar("T")

_SAID_AFTER = 5.0
"""Seconds without the others until that is said; again after four times as long, and so on."""


class Apart(RuntimeError):
    """The processes did not meet: a process died before, or they look for each other in different places."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The started processes, as this process sees them."""

    world: World
    device: torch.device
    """where this process computes"""
    group: dist.ProcessGroup | None
    """for the collectives; None when this process is alone"""
    patience: timedelta
    """how long a collective waits for the others"""


def start(world: World, device: str = "auto", timeout: timedelta = timedelta(minutes=10)) -> Processes:
    """Join the processes of `world`, by the backend of their devices; a process alone joins nothing. End with `stop`.

    A process that waits longer than `timeout` for the others fails. Raises InputError where the port is taken, Apart if
    they do not meet.
    """
    own = device_of(world, device)
    use(own)
    leave_room(world, own)
    if world.world_size == 1:
        return Processes(world=world, device=own, group=None, patience=timeout)
    host, port = rendezvous(world)
    try:
        dist.init_process_group(
            backend_of(own),
            store=_meet(world, host, port, timeout), rank=world.rank, world_size=world.world_size, timeout=timeout,
            device_id=None if own.type == "cpu" else own,
        )  # fmt: skip
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        kind = InputError if "EADDRINUSE" in str(error) else Apart
        reason = str(error).splitlines()[0]
        raise kind(
            f"rank {world.rank} of {world.world_size} did not meet the others at {host}:{port} ({reason}); "
            "set MASTER_ADDR and MASTER_PORT to a free port of rank 0's machine"
        ) from error
    return Processes(world=world, device=own, group=dist.group.WORLD, patience=timeout)


def _meet(world: World, host: str, port: int, timeout: timedelta) -> Store:
    """The store on rank 0, or in torchrun, that all ranks have reached; whoever waits long says for whom."""
    others = world.world_size - 1
    missing = f"{others} of {world.world_size} ranks" if world.rank == 0 else f"rank 0 of {world.world_size}"

    def whom() -> str:
        return f"waiting for {missing} at {host}:{port} (found by {world.launcher}); {ways_out(world)}"

    with _said_when_late(whom):
        of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(
            host, port, world.world_size, is_master=world.rank == 0 and not of_torchrun, timeout=timeout,
            wait_for_workers=False,
        )  # fmt: skip
        own = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        here, until = own.add("here", 1), time.monotonic() + timeout.total_seconds()
        while world.rank == 0 and here < world.world_size:
            missing = f"{world.world_size - here} of {world.world_size} ranks"
            if time.monotonic() > until:
                raise Apart(f"gave up {whom()}")
            time.sleep(0.02)
            here = own.add("here", 0)
    return own


@contextlib.contextmanager
def _said_when_late(words: Callable[[], str]) -> Iterator[None]:
    """Says these words on standard error while its `with` lasts, more and more rarely."""
    over = threading.Event()

    def talk() -> None:
        seconds = _SAID_AFTER
        while not over.wait(seconds):
            print(words(), file=sys.stderr, flush=True)
            seconds *= 4

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def stop() -> None:
    """Part from the other processes; harmless when alone. Let go of the group and what holds it before.

    Gloo's threads live as long as their group. One that still holds a tensor while the interpreter ends aborts the
    process (exit code -6), so the groups that only reference cycles hold, as those of DDP, go here.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()


def slice_of(n: int, rank: int, world_size: int) -> slice:
    """The part of 0 .. n - 1 that `rank` takes: contiguous, in order of rank, sizes differing by at most one."""
    return slice(n * rank // world_size, n * (rank + 1) // world_size)


def on_first_rank(action: Callable[[], T], processes: Processes) -> T:
    """What rank 0 gets from this while the others wait; an InputError there is raised on every rank.

    So is an OSError of a file or a full disk, as an InputError.
    """
    outcome: list[tuple[T | None, str | None]] = [(None, None)]
    if processes.world.rank == 0:
        outcome = [attempt(action)]
    if processes.group is not None:
        dist.broadcast_object_list(outcome, src=0, group=processes.group, device=processes.device)
    result, failure = outcome[0]
    if failure is not None:
        raise InputError(failure, reported=processes.world.rank > 0)
    return result  # type: ignore[return-value]


def on_each_rank(action: Callable[[], T], processes: Processes) -> T:
    """What this rank gets from this; an InputError of any rank is raised on all, once all are through.

    So is an OSError of a file or a full disk, as an InputError.
    """
    result, failure = attempt(action)
    failures = [failure]
    if processes.group is not None:
        failures = [None] * processes.world.world_size
        dist.all_gather_object(failures, failure, group=processes.group)
    for rank, message in enumerate(failures):
        if message is not None:
            raise InputError(message, reported=processes.world.rank != rank)
    return result  # type: ignore[return-value]


class SumOverRanks(torch.autograd.Function):
    """SUM forward and SUM backward: every rank holds the same sum, and every rank's copy of the loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Of any shape, the same on all ranks."""
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """What all ranks' losses say of this rank's values."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def sum_over_ranks(values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum of the values of all ranks, the same on each; None: this process alone. Differentiable.

    Every rank must call, and take part in the backward pass. Each rank's gradient is that of the sum of all ranks'
    losses, as the mean of DistributedDataParallel wants it.
    """
    if group is None:
        return values
    total: Tensor = SumOverRanks.apply(values, group)
    return total


def rows_of_all(rows_BX: Tensor, reduction: Reduction) -> Tensor:
    """The rows of all ranks, rank by rank, (n, X) and the same on each rank; differentiable, as `sum_over_ranks`.

    rows_BX: this rank's, of n = reduction.n on all ranks together; any number, also none. What a model computes for its
    own rows beside all of these, and takes the `reduction.mean` of, has the value and the gradient of one process.
    """
    group = reduction.group
    if group is None:
        return rows_BX
    counts = torch.zeros(group.size(), dtype=torch.int64, device=rows_BX.device)
    counts[group.rank()] = len(rows_BX)
    dist.all_reduce(counts, group=group)
    places_B = counts[: group.rank()].sum() + torch.arange(len(rows_BX), device=rows_BX.device)
    empty = rows_BX.new_zeros(reduction.n, *rows_BX.shape[1:])
    return sum_over_ranks(empty.index_copy(0, places_B, rows_BX), group)  # to zeros each adds its own: exact
