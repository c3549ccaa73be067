"""What would fail in hours fails in seconds, with a line: the checks on every rank of a job.

Every rank looks at its own part: number of ranks, kernel, GPU; the first rank of a node reads the data, rank 0 writes
to the disk. Then all meet; rank 0 prints what any of them found wrong, and all end. Last comes training's all-reduce.
"""

import os
import shutil
import socket
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from hpcauxvae.cluster.command import PreflightConfig
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.dependence import native
from hpcauxvae.runtime.collectives import Apart, start
from hpcauxvae.runtime.devices import backend_of, device_of, use
from hpcauxvae.runtime.launchers import VISIBLE_DEVICES, World, find_world
from hpcauxvae.types import InputError

_PROBE_BYTES = 1 << 20
_PROBED_SAMPLES = 64


def check_ranks(world: World, expected: int) -> None:
    """Raises InputError where the launcher did not start, or this process does not see, the ranks of the job."""
    if world.world_size != expected:
        raise InputError(
            f"world size {world.world_size} (found by: {world.launcher}), but the job has {expected} ranks; "
            "start them with the srun or mpiexec that this environment belongs to"
        )


def check_kernel(device: torch.device) -> None:
    """Raises InputError where the kernel does not serve the device of this process."""
    if reason := native.why_not(device):
        mend = "build it where there is a compiler (docs/clusters.md), or go on without"
        raise InputError(f"{reason}; {mend}: --without-kernel (in a script PREFLIGHT_OPTIONS=--without-kernel)")


def own_device(world: World, request: str) -> torch.device:
    """The device of this rank, in use. Raises InputError, with what is visible, where it cannot have the device."""
    try:
        device = device_of(world, request)
    except InputError as error:
        visible = [f"{name}={os.environ[name]}" for name in VISIBLE_DEVICES if name in os.environ]
        raise InputError(f"{error} ({', '.join(visible) or 'no variable restricts what is visible'})") from error
    use(device)
    return device


def name_of(device: torch.device) -> str:
    """A name by which an accelerator is known on all ranks, or empty for the CPU and what has no such name."""
    if device.type == "cpu":
        return ""
    properties = getattr(torch.get_device_module(device), "get_device_properties", None)
    uuid = getattr(properties(device), "uuid", None) if properties else None
    return f"{socket.gethostname()} {uuid}" if uuid else ""


def check_data(path: Path, aux: str) -> str:
    """The data set's fingerprint. Raises InputError where it breaks the format or lacks a factor of `aux`.

    Of the pixels only some samples are read; training reads them all as it starts.
    """
    data = open_set(path)
    data.column([name for name in aux.split(",") if name])
    for sample in np.linspace(0, len(data) - 1, _PROBED_SAMPLES).astype(int):
        if not np.isfinite(data.images[int(sample)]).all():
            raise InputError(f"{path}: sample {sample} has pixels that are not finite")
    return data.fingerprint


def check_space(out: Path, space_gb: float) -> None:
    """Raises InputError where the folder that `out` will stand in cannot be written, or has less room than that."""
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error
    free = shutil.disk_usage(folder).free / 1e9
    if free < space_gb:
        raise InputError(
            f"{folder}: {free:.1f} GB free; this job needs {space_gb:g} GB (--space-gb; in a script SPACE_GB)"
        )


def look(config: PreflightConfig, world: World) -> dict[str, Any]:
    """What this rank sees: `error`, or what must agree with the other ranks."""
    host = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    seen: dict[str, Any] = {"host": host, "error": None, "gpu": "", "fingerprint": None}
    try:
        device = own_device(world, config.device)
        seen["gpu"] = name_of(device)
        if not config.without_kernel:
            check_kernel(device)
        if config.data and world.local_rank == 0:
            seen["fingerprint"] = check_data(config.data, config.aux)
        if config.out and world.rank == 0:
            check_space(config.out, config.space_gb)
    except InputError as error:
        seen["error"] = str(error)
    return seen


def judge(seen: list[dict[str, Any]]) -> str | None:
    """The first thing wrong with what all ranks, in their order, have seen."""
    for rank, own in enumerate(seen):
        if own["error"]:
            return own["error"] if len(seen) == 1 else f"{own['error']} (rank {rank} on {own['host']})"
    holder: dict[str, int] = {}
    prints: dict[str, int] = {}
    for rank, own in enumerate(seen):
        if own["gpu"] and own["gpu"] in holder:
            return f"ranks {holder[own['gpu']]} and {rank} share one GPU of {own['host']}; ask for one GPU a rank"
        holder[own["gpu"]] = rank
        if own["fingerprint"]:
            prints.setdefault(own["fingerprint"], rank)
    if len(prints) > 1:
        (here, rank), (there, other) = list(prints.items())[:2]
        return f"the data set differs: fingerprint {here} on {seen[rank]['host']}, {there} on {seen[other]['host']}"
    return None


def check_all_reduce(config: PreflightConfig, world: World) -> None:
    """Raises InputError where the sum over all ranks of rank + 1, on the device of training, is wrong."""
    device = device_of(world, config.device)
    group = dist.new_group(backend=backend_of(device))
    total = torch.tensor(float(world.rank + 1), device=device)
    dist.all_reduce(total, group=group)
    if total.item() != world.world_size * (world.world_size + 1) / 2:
        raise InputError(f"all-reduce over {world.world_size} ranks on {device.type} gave {total.item()}")


class _Clock:
    """Ends the process where the ranks wait for each other too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.doing = seconds, "looking around"
        self.timer = threading.Timer(seconds, self._late)
        self.timer.daemon = True

    def __enter__(self) -> "_Clock":
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()

    def _late(self) -> None:
        print(f"error: preflight not through in {self.seconds:g} s: still {self.doing}", file=sys.stderr, flush=True)
        os._exit(1)


def preflight(config: PreflightConfig) -> str:
    """What was found good, the same line on every rank. Raises InputError, on every rank."""
    world = find_world()
    check_ranks(world, config.ranks)
    with _Clock(config.seconds) as clock:
        own = look(config, world)
        seen = [own]
        if world.world_size > 1:
            clock.doing = f"waiting for the other ranks to join rank {world.rank} on {own['host']}"
            try:
                # Longer than the clock, which says for whom this rank waits.
                start(world, "cpu", timedelta(seconds=2 * config.seconds))
            except (InputError, Apart) as error:
                raise InputError(own["error"] or str(error)) from error
            seen = [{}] * world.world_size
            dist.all_gather_object(seen, own)
        if wrong := judge(seen):
            raise InputError(wrong)
        if world.world_size > 1:
            clock.doing = "in the first all-reduce"
            check_all_reduce(config, world)
    gpus = len({rank["gpu"] for rank in seen if rank["gpu"]})
    nodes = len({rank["host"] for rank in seen})
    return f"preflight passed: ranks {world.world_size}, nodes {nodes}, GPUs {gpus}"
