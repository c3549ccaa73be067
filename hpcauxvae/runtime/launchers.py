"""Which of how many processes this is, and where they meet: from environment variables alone, without torch."""

import os
import re
import zlib
from collections.abc import Iterable, Mapping
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


class _Row(NamedTuple):
    """Where one launcher writes what; of several names, in words, the first that is set counts."""

    launcher: Launcher
    rank: str
    size: str
    local_rank: str
    local_size: str
    there: str
    """Tells that this launcher started the process: srun with PMI2 sets PMI_RANK and PMI_SIZE, but no local rank."""
    start: str
    """What the ranks of a start have in common and two starts do not; empty if there is nothing."""
    leaves: str
    """Regular expression: what the names of its variables contain."""


_TABLE = (
    _Row(
        "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", there="LOCAL_RANK", start="",
        leaves="TORCHELASTIC_|^((LOCAL_|GROUP_|ROLE_)?RANK|(LOCAL_)?WORLD_SIZE)$",
    ),
    _Row(  # Open MPI; srun --mpi=pmix sets PMIX_RANK alone
        "mpi", "OMPI_COMM_WORLD_RANK PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", there="OMPI_COMM_WORLD_LOCAL_RANK", start="PMIX_NAMESPACE", leaves="OMPI_|PMIX_",
    ),
    _Row(
        "mpi", "PALS_RANKID", "PMI_SIZE PALS_SIZE", "PALS_LOCAL_RANKID", "PMI_LOCAL_SIZE PALS_LOCAL_SIZE",
        there="PALS_LOCAL_RANKID", start="PALS_APID", leaves="PALS_",
    ),
    _Row(  # MPICH's Hydra, Intel MPI
        "mpi", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID PMI_LOCAL_RANK", "MPI_LOCALNRANKS PMI_LOCAL_SIZE",
        there="MPI_LOCALRANKID PMI_LOCAL_RANK", start="", leaves="PMI_|MPI_LOCAL|MPIR_|HYDRA_|HYDI_|MPIEXEC_",
    ),
    _Row(  # an sbatch shell exports SLURM_PROCID=0 to all that it starts, but no SLURM_STEP_ID
        "slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS SLURM_NTASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE",
        there="SLURM_STEP_ID", start="SLURM_STEP_ID", leaves="SLURM_(?!JOB_ID$|CONF$|RESTART_COUNT$)",
    ),
)  # fmt: skip
_OF_MPI = [row for row in _TABLE if row.launcher == "mpi"]
_JOBS = (("SLURM_JOB_ID", "SLURM_RESTART_COUNT"), ("PBS_JOBID", None))
"""Of each batch system: the number of the job, and how often it was requeued; no variable of PBS tells that."""
_NOT_OF_A_START = ("SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE")
"""Set for a whole job, or no number."""

VISIBLE_DEVICES = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "ROCR_VISIBLE_DEVICES")
"""What restricts the accelerators of a process; the first that is set names them: of AMD; of NVIDIA, and AMD too; of
Intel; of AMD's driver, among whose devices the numbers in the first two count."""


class Job(NamedTuple):
    """The job of a batch system that this process is part of."""

    number: str | None
    """None outside any job"""
    restarts: int | None
    """how often it was requeued; None where no variable tells"""


def find_job(env: Mapping[str, str] = os.environ) -> Job:
    """The job by the variables of Slurm or PBS."""
    for number, restarts in _JOBS:
        if env.get(number):
            return Job(env[number], int(env.get(restarts, "0")) if restarts else None)
    return Job(None, None)


def find_world(env: Mapping[str, str] = os.environ) -> World:
    """This process's place: by torchrun, Open MPI, PALS, PMI or a Slurm *step*, whichever comes first, or alone.

    Raises InputError where the variables are incomplete or contradict each other, or where a launcher started several
    processes that would each take themselves for the only one.
    """
    world = World(0, 1, 0, 1, "alone")
    for row in _TABLE:
        if any(name in env for name in row.there.split()):
            rank, size, local_rank = (_integer(env, row.launcher, words) for words in row[1:4])
            local_size = (
                _slurm_tasks(env, size) if row.launcher == "slurm" else _integer(env, row.launcher, row.local_size)
            )
            world = World(rank, size, local_rank, local_size, row.launcher)
            break
    refuse_singletons(world.world_size, world.launcher, env)
    return world


def refuse_singletons(world_size: int, found_by: str, env: Mapping[str, str] = os.environ) -> None:
    """Raise InputError where `found_by` sees a world of one process while a launcher says that it started several."""
    sizes = _sizes(_TABLE, env) if world_size == 1 else {}
    for name, size in sizes.items():
        if size > 1:
            raise InputError(
                f"world size 1 ({found_by}), but {name}={env[name]}: a launcher started several processes, and each "
                "would do all the work alone; start with one launcher, that of this environment"
            )


def ways_out(world: World, env: Mapping[str, str] = os.environ) -> str:
    """How the processes of `world` start together, and how this process starts alone: commands to type."""
    # A shell inside a step, as of srun --pty, holds all that the step has: --overlap shares it.
    starts = {"slurm": f"srun --overlap -n {world.world_size}", "mpi": f"mpiexec -n {world.world_size}"}
    start = starts.get(world.launcher, f"torchrun --nproc-per-node {world.local_world_size} -m")
    names = [name for row in _TABLE for words in row[1:6] for name in words.split() if name in env]
    left = " ".join(name for name in dict.fromkeys(names) if name not in _NOT_OF_A_START)
    return f"start them together by: {start} hpcauxvae ...; or this process alone, after: unset {left}"


def mpi_started_several(env: Mapping[str, str] = os.environ) -> bool:
    """Whether an MPI launcher started several processes, this one among them; also where only its rank is known.

    A single process on this machine says nothing of others: there may be one on each of several machines.
    """
    of_machine = {name for row in _OF_MPI for name in row.local_size.split()}
    sizes = [size for name, size in _sizes(_OF_MPI, env).items() if size > 1 or name not in of_machine]
    return max(sizes) > 1 if sizes else _mpi_rank(env) is not None


def speaks(env: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the one process of an MPI launcher that tells the user what they all do; MPI is not started."""
    return _mpi_rank(env) in (None, "0")


def is_of_a_launcher(name: str) -> bool:
    """Whether an environment variable is a launcher's: a child that inherits it takes its parent's rank for its own.

    The number of the job and of its restarts is not: a child is part of the job.
    """
    return any(re.search(row.leaves, name) for row in _TABLE)


def is_of_a_meeting(name: str) -> bool:
    """Whether an environment variable says where the ranks of a launcher meet; a child's ranks meet elsewhere."""
    return name in ("MASTER_ADDR", "MASTER_PORT")


def _sizes(rows: Iterable[_Row], env: Mapping[str, str]) -> dict[str, int]:
    """How many processes these launchers say that they started, by variable."""
    names = [name for row in rows for name in f"{row.size} {row.local_size}".split() if name in env]
    return {name: _integer(env, "launcher", name) for name in names if name not in _NOT_OF_A_START}


def _mpi_rank(env: Mapping[str, str]) -> str | None:
    return next((env[name] for row in _OF_MPI for name in row.rank.split() if name in env), None)


def _integer(env: Mapping[str, str], launcher: str, names: str) -> int:
    for name in names.split():
        if name in env:
            if not re.fullmatch(r"\d+", env[name]):
                raise InputError(f"{launcher}: variable {name}={env[name]!r} must be a whole number, 0 or more")
            return int(env[name])
    raise InputError(f"{launcher}: variable {names.replace(' ', ' or ')} must be set, as others of this launcher are")


def _slurm_tasks(env: Mapping[str, str], size: int) -> int:
    """Tasks of the step on this node."""
    tasks = env.get("SLURM_STEP_TASKS_PER_NODE", str(size))  # such as "4(x2),3": nodes of 4, 4 and 3 tasks
    if not re.fullmatch(r"\d+(\(x\d+\))?(,\d+(\(x\d+\))?)*", tasks):
        raise InputError(f"slurm: variable SLURM_STEP_TASKS_PER_NODE={tasks!r} must be a list such as 4(x2),3")
    counts = [int(n) for n, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks) for _ in range(int(times or 1))]
    node = _integer(env, "slurm", "SLURM_NODEID") if len(counts) > 1 else 0
    if node >= len(counts):
        raise InputError(f"slurm: SLURM_NODEID={node}, but SLURM_STEP_TASKS_PER_NODE={tasks} has {len(counts)} nodes")
    return counts[node]


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
        raise InputError(f"{world.launcher}: processes on several machines: set MASTER_ADDR to the host of rank 0")
    if "MASTER_PORT" in env:
        return host, _integer(env, "rendezvous", "MASTER_PORT")
    start = [*(number for number, _ in _JOBS), *(row.start for row in _TABLE)]
    return host, 20_000 + zlib.crc32(
        "/".join(env.get(name, "") for name in start).encode()
    ) % 12_000  # below the ports that systems hand out


def first_host(nodelist: str) -> str:
    """The first name of a Slurm node list: "gpu[07-09,12],login1" -> "gpu07"."""
    match = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodelist)
    if not match:
        raise InputError(f"slurm: cannot read the node list {nodelist!r}")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", match[0])
