"""Which process of how many this one is, and where they meet: from environment variables alone, without torch."""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hpcauxvae.types import InputError

Launcher = Literal["torchrun", "mpi", "slurm", "alone"]


@dataclass(frozen=True)
class World:
    """This process's place among those that were started together."""

    rank: int
    """0 .. world_size - 1"""
    world_size: int
    local_rank: int
    """0 .. local_world_size - 1, among the processes of this machine"""
    local_world_size: int
    launcher: Launcher
    """who started the processes"""

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.world_size and 0 <= self.local_rank < self.local_world_size <= self.world_size):
            raise InputError(
                f"{self.launcher}: rank {self.rank} of {self.world_size} processes, {self.local_rank} of "
                f"{self.local_world_size} on this machine: ranks count from 0 to one less than the number of processes"
            )


class _Variables(NamedTuple):
    """Where one launcher writes what; of several names, in words, the first that is set counts."""

    launcher: Launcher
    rank: str
    size: str
    local_rank: str
    """also tells that this launcher is there: srun with PMI2 sets PMI_RANK and PMI_SIZE, but no local one"""
    local_size: str


_LAUNCHERS = (
    _Variables("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    _Variables("mpi", *(f"OMPI_COMM_WORLD_{name}" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE"))),
    _Variables("mpi", "PALS_RANKID", "PMI_SIZE PALS_SIZE", "PALS_LOCAL_RANKID", "PMI_LOCAL_SIZE PALS_LOCAL_SIZE"),
    _Variables("mpi", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID PMI_LOCAL_RANK", "MPI_LOCALNRANKS PMI_LOCAL_SIZE"),
)
# Each tells of the processes that a launcher started.
_SIZE_HINTS = "WORLD_SIZE OMPI_COMM_WORLD_SIZE PMI_SIZE PALS_LOCAL_SIZE MPI_LOCALNRANKS SLURM_STEP_NUM_TASKS"
# What the ranks of one start have in common and two starts do not.
_JOB_IDS = ("SLURM_JOB_ID", "SLURM_STEP_ID", "PBS_JOBID", "PALS_APID", "PMIX_NAMESPACE")


def find_world(env: Mapping[str, str] = os.environ) -> World:
    """This process's place: by torchrun, Open MPI, PALS, PMI or a Slurm *step*, whichever comes first, or alone.

    An sbatch shell exports SLURM_PROCID=0 to all that it starts, so Slurm counts only where SLURM_STEP_ID is set.

    Raises InputError where the variables are incomplete or contradict each other, or where a launcher started several
    processes that would each take themselves for the only one.
    """
    for names in _LAUNCHERS:
        if any(name in env for name in names.local_rank.split()):
            rank, size, local_rank, local_size = (_integer(env, names.launcher, words) for words in names[1:])
            world = World(rank, size, local_rank, local_size, names.launcher)
            break
    else:
        world = _slurm_step(env) if "SLURM_STEP_ID" in env else World(0, 1, 0, 1, "alone")
    refuse_singletons(world.world_size, world.launcher, env)
    return world


def refuse_singletons(world_size: int, found_by: str, env: Mapping[str, str] = os.environ) -> None:
    """Raise InputError where `found_by` sees a world of one process while a launcher says that it started several."""
    for name in _SIZE_HINTS.split():
        if world_size == 1 and name in env and _integer(env, "launcher", name) > 1:
            raise InputError(
                f"world size 1 ({found_by}), but {name}={env[name]}: a launcher started several processes, and each "
                "would do all the work alone; start with one launcher, the one that belongs to this environment"
            )


def _integer(env: Mapping[str, str], launcher: str, names: str) -> int:
    for name in names.split():
        if name in env:
            if not re.fullmatch(r"\d+", env[name]):
                raise InputError(f"{launcher}: variable {name}={env[name]!r} must be a whole number, 0 or more")
            return int(env[name])
    raise InputError(f"{launcher}: variable {names.replace(' ', ' or ')} must be set, as others of this launcher are")


def _slurm_step(env: Mapping[str, str]) -> World:
    size = _integer(env, "slurm", "SLURM_STEP_NUM_TASKS SLURM_NTASKS")
    tasks = env.get("SLURM_STEP_TASKS_PER_NODE", str(size))  # such as "4(x2),3": nodes of 4, 4 and 3 tasks
    if not re.fullmatch(r"\d+(\(x\d+\))?(,\d+(\(x\d+\))?)*", tasks):
        raise InputError(f"slurm: variable SLURM_STEP_TASKS_PER_NODE={tasks!r} must be a list such as 4(x2),3")
    counts = [int(n) for n, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks) for _ in range(int(times or 1))]
    node = _integer(env, "slurm", "SLURM_NODEID") if len(counts) > 1 else 0
    if node >= len(counts):
        raise InputError(f"slurm: SLURM_NODEID={node}, but SLURM_STEP_TASKS_PER_NODE={tasks} has {len(counts)} nodes")
    rank, local_rank = _integer(env, "slurm", "SLURM_PROCID"), _integer(env, "slurm", "SLURM_LOCALID")
    return World(rank, size, local_rank, counts[node], "slurm")


def rendezvous(world: World, env: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port where rank 0 waits for the others: MASTER_ADDR and MASTER_PORT where set, else from the allocation.

    Two starts outside any job share one port: set MASTER_PORT for the second. Raises InputError where no host is known.
    """
    if "MASTER_ADDR" in env:
        host = env["MASTER_ADDR"]
    elif world.local_world_size == world.world_size:
        host = "127.0.0.1"
    elif nodes := env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST"):
        host = first_host(nodes)
    elif "PBS_NODEFILE" in env:
        with open(env["PBS_NODEFILE"]) as lines:
            host = lines.readline().strip()
    else:
        raise InputError(f"{world.launcher}: processes on several machines: set MASTER_ADDR to the one of rank 0")
    if "MASTER_PORT" in env:
        return host, _integer(env, "rendezvous", "MASTER_PORT")
    job = "/".join(env.get(name, "") for name in _JOB_IDS)
    return host, 20_000 + zlib.crc32(job.encode()) % 12_000  # below the ports that systems hand out


def first_host(nodelist: str) -> str:
    """The first name of a Slurm node list: "gpu[07-09,12],login1" -> "gpu07"."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodelist)
    if not match:
        raise InputError(f"slurm: cannot read the node list {nodelist!r}")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", match[0])
