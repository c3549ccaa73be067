"""Collectives between real processes against one process; what a process says that cannot meet the others."""

import json
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from helpers import forked
from helpers.places import ROOT
from hpcauxvae.runtime import collectives
from hpcauxvae.runtime.collectives import slice_of, start
from hpcauxvae.runtime.launchers import World, find_world, is_of_a_launcher
from hpcauxvae.runtime.stop_requests import FAILED
from hpcauxvae.runtime.watchdog import Watchdog
from hpcauxvae.types import InputError, Reduction

ALONE = World(0, 1, 0, 1, "alone")


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 5, 64])
def test_slices_are_near_equal_and_cover_all(n: int, world_size: int) -> None:
    parts = [list(range(n))[slice_of(n, rank, world_size)] for rank in range(world_size)]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("n", "ranks", "parts"), [(64, 1, 1), (64, 3, 1), (7, 3, 2), (64, 5, 7), (3, 2, 4), (1, 1, 1)])
def test_every_fourth_sample_is_the_same_one_however_the_batch_is_shared_out(n: int, ranks: int, parts: int) -> None:
    """And their mean is the mean over parts and ranks."""
    values, taken, total = torch.arange(n) ** 2.0, [], 0.0
    for rank in range(ranks):
        own = slice_of(n, rank, ranks)
        for part in range(parts):
            within = slice_of(own.stop - own.start, part, parts)
            some, over = Reduction(n, None, own.start).after(within.start).every(4)
            mine = values[own][within][some]
            taken += mine.tolist()
            total += float(over.mean(mine))
    assert taken == values[::4].tolist()
    assert total == pytest.approx(values[::4].mean().item())


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(InputError, match=rf"rank 0 of 2 .* 127.0.0.1:{taken.getsockname()[1]} .* set MASTER_ADDR"):
            start(World(0, 2, 0, 2, "mpi"), timeout=timedelta(seconds=2))


# What an interactive `srun --pty` of four tasks leaves in its shell, and what torchrun and MPI give the first of three.
PTY = {
    "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": "4",
}  # fmt: skip
OF_TORCHRUN = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "3"}
OF_MPI = {"PMI_RANK": "0", "PMI_SIZE": "3", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "3"}
LAST = {"RANK": "2", "LOCAL_RANK": "2"}


@pytest.mark.parametrize(
    ("env", "waits_for", "together"),
    [
        (PTY, "waiting for 3 of 4 ranks at 127.0.0.1:", "srun --overlap -n 4 hpcauxvae ..."),
        (OF_TORCHRUN, "waiting for 2 of 3 ranks at ", "torchrun --nproc-per-node 3 -m hpcauxvae ..."),
        (OF_MPI, "waiting for 2 of 3 ranks at ", "mpiexec -n 3 hpcauxvae ..."),
        (OF_TORCHRUN | LAST, "waiting for rank 0 of 3 at ", "torchrun --nproc-per-node 3 -m hpcauxvae ..."),
    ],
)
def test_a_process_without_the_others_says_so(
    env: dict[str, str],
    waits_for: str,
    together: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Soon, how they were meant to be started, and how this process runs alone: what it says is tried.

    Soon also where the store itself takes longer to start, or to be reached, than the first of these words.
    """

    def slow_store(*args: object, **options: object) -> object:
        time.sleep(0.15)
        return TCPStore(*args, **options)

    monkeypatch.setattr(collectives, "_SAID_AFTER", 0.1)
    monkeypatch.setattr(collectives, "TCPStore", slow_store)
    monkeypatch.setenv("MASTER_PORT", forked.ranks_env(1)[0]["MASTER_PORT"])
    for name in ("MASTER_ADDR", *(name for name in os.environ if is_of_a_launcher(name))):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if "LOCAL_RANK" in env:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(collectives.Apart):
        start(find_world(), "cpu", timedelta(seconds=1.2))
    said = capfd.readouterr().err
    assert said.count(waits_for) in (2, 3), "after .1 s and .5 s; where torch gives up late, after 2.1 s, too"
    assert f"start them together by: {together};" in said
    for name in said.splitlines()[0].rpartition("after: unset ")[2].split():
        monkeypatch.delenv(name)
    assert find_world() == ALONE


COMES = """
import sys, time
from hpcauxvae.runtime import collectives
from hpcauxvae.runtime.launchers import find_world
time.sleep(float(sys.argv[1]))
collectives._SAID_AFTER = 0.2
processes = collectives.start(find_world(), "cpu")
print(collectives.on_each_rank(lambda: processes.world.rank, processes))
collectives.stop()
"""


@pytest.mark.processes
@pytest.mark.smoke
def test_a_rank_that_comes_late_is_waited_for() -> None:
    delays = ("0", "0.8")
    ranks = [
        forked.Forked(("-c", COMES), delay, env=os.environ | own)
        for delay, own in zip(delays, forked.ranks_env(2), strict=True)
    ]
    (first, said), (late, nothing) = (rank.communicate(60) for rank in ranks)
    assert (first, late, nothing) == ("0\n", "1\n", "")
    assert said.startswith("waiting for 1 of 2 ranks at 127.0.0.1:")


# What every process of the tests below does: shares of means over 7 and over 2 samples, an error on one rank.
PROGRAM = """
import json, os, sys
import torch
from hpcauxvae.runtime import collectives as distributed
from hpcauxvae.runtime.stop_requests import FAILED
from hpcauxvae.types import InputError, Reduction
from hpcauxvae.runtime.watchdog import Watchdog
from hpcauxvae.runtime.launchers import find_world

def fail():
    raise InputError("disk full")

world = find_world()
processes = distributed.start(world, "cpu")
found = {"world": [world.rank, world.world_size, world.local_rank, world.local_world_size, world.launcher]}
for n in (7, 2):
    x = torch.linspace(1, 2, n, dtype=torch.float64, requires_grad=True)
    part = Reduction(n, processes.group).mean(x[distributed.slice_of(n, world.rank, world.world_size)] ** 3)
    part.backward()
    found[str(n)] = [part.item(), x.grad.tolist()]
try:
    distributed.on_first_rank(fail, processes)
except InputError as error:
    found["error"] = [str(error), error.reported]
try:
    distributed.on_each_rank(fail if world.rank == world.world_size - 1 else lambda: None, processes)
except InputError as error:
    found["error of the last"] = [str(error), error.reported]
found["of the first"] = distributed.on_first_rank(lambda: world.rank, processes)
found["own"] = distributed.on_each_rank(lambda: world.rank, processes)
cycle = [processes.group]
cycle.append(cycle)
del processes, cycle
distributed.stop()
tasks = [f"/proc/self/task/{task}/comm" for task in os.listdir("/proc/self/task")]
found["threads"] = [name for name in (open(task).read() for task in tasks) if "gloo" in name]
with open(f"{sys.argv[1]}/{world.rank}.json", "w") as file:
    json.dump(found, file)
"""


def launch(*command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


MPIRUN = ("mpirun", "-n", "3", sys.executable)
TORCHRUN_COMMAND = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3")


@pytest.mark.parametrize(
    ("command", "size", "launcher"),
    [
        ((), 1, "alone"),
        pytest.param(MPIRUN, 3, "mpi", marks=[pytest.mark.processes, pytest.mark.smoke]),
        pytest.param(TORCHRUN_COMMAND, 3, "torchrun", marks=[pytest.mark.processes, pytest.mark.slow]),
    ],
)
def test_processes_agree_with_one(tmp_path: Path, command: tuple[str, ...], size: int, launcher: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = launch(*command, str(program), str(tmp_path)) if command else forked.run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(size)]
    assert [rank["world"] for rank in ranks] == [[r, size, r, size, launcher] for r in range(size)]
    for n in (7, 2):
        x = torch.linspace(1, 2, n, dtype=torch.float64)
        value = sum(rank[str(n)][0] for rank in ranks) / size
        gradient = torch.tensor([rank[str(n)][1] for rank in ranks], dtype=torch.float64).mean(0)
        assert value == pytest.approx((x**3).mean().item(), rel=1e-14)
        torch.testing.assert_close(gradient, 3 * x**2 / n, rtol=1e-14, atol=0)
    for number, rank in enumerate(ranks):
        assert rank["error"] == ["disk full", number > 0]
        assert rank["error of the last"] == ["disk full", number < size - 1]
        assert (rank["of the first"], rank["own"]) == (0, number)
        assert rank["threads"] == [], "a thread that outlives its group can abort the process at its end"


@pytest.mark.processes
def test_singletons_under_mpirun_are_refused() -> None:
    alone = [
        f"{name}={value}"
        for name, value in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    ]
    program = "from hpcauxvae.runtime.launchers import find_world; find_world()"
    done = launch("mpirun", "-n", "2", "env", *alone, sys.executable, "-c", program)
    assert done.returncode != 0
    assert "world size 1 (torchrun), but PMI_SIZE=2" in done.stderr


def test_a_rank_ends_though_its_last_duty_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving up the lock on a disk that is gone, for one."""

    told = []

    def fails(why: str) -> None:
        told.append(why)
        raise OSError("the disk is gone")

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", ended)
    watch = Watchdog(start(ALONE, "cpu"), 1 / 600, fails)
    watch._verdict = "rank 0 is gone"
    with pytest.raises(SystemExit) as end:
        watch._run()
    assert (end.value.code, told) == (FAILED, ["rank 0 is gone"])
