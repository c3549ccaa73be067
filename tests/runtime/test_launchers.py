"""Ranks, jobs and meetings as launchers and batch systems name them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hpcauxvae.runtime.launchers import (
    World,
    find_job,
    find_world,
    first_host,
    is_of_a_launcher,
    is_of_a_meeting,
    mpi_started_several,
    rendezvous,
    speaks,
)
from hpcauxvae.types import InputError

ALONE = World(0, 1, 0, 1, "alone")
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
OPEN_MPI = {
    f"OMPI_COMM_WORLD_{k}": v for k, v in (("RANK", "2"), ("SIZE", "6"), ("LOCAL_RANK", "0"), ("LOCAL_SIZE", "2"))
}
PALS = {"PALS_RANKID": "7", "PMI_RANK": "7", "PMI_SIZE": "8", "PALS_LOCAL_RANKID": "3", "PMI_LOCAL_SIZE": "4"}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
SBATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
# Task 8 of "4(x2),3": two nodes of 4 and one of 3.
STEP = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "8", "SLURM_LOCALID": "0", "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "11", "SLURM_NTASKS": "12", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
}  # fmt: skip


def without(env: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in names}


@pytest.mark.parametrize(
    ("env", "world"),
    [
        ({}, ALONE),
        (TORCHRUN, World(5, 8, 1, 4, "torchrun")),
        (OPEN_MPI, World(2, 6, 0, 2, "mpi")),
        (PALS, World(7, 8, 3, 4, "mpi")),
        (HYDRA, World(1, 2, 1, 2, "mpi")),
        (SBATCH, ALONE),
        (STEP, World(8, 11, 0, 3, "slurm")),
        (STEP | {"PMI_RANK": "8", "PMI_SIZE": "11"}, World(8, 11, 0, 3, "slurm")),
        (without(STEP, "SLURM_STEP_NUM_TASKS") | {"SLURM_NTASKS": "11"}, World(8, 11, 0, 3, "slurm")),
        (STEP | HYDRA, World(1, 2, 1, 2, "mpi")),
        (STEP | TORCHRUN, World(5, 8, 1, 4, "torchrun")),
    ],
)
def test_finds_the_place_that_each_launcher_gives(env: dict[str, str], world: World) -> None:
    assert find_world(env) == world


@pytest.mark.parametrize(
    ("env", "several", "first"),
    [
        (TORCHRUN, False, True),
        (OPEN_MPI, True, False),
        (OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "0"}, True, True),
        (PALS, True, False),
        (PALS | {"PALS_RANKID": "0", "PMI_RANK": "0"}, True, True),
        (HYDRA, True, False),
        (HYDRA | {"PMI_RANK": "0"}, True, True),
        (HYDRA | {"PMI_RANK": "0", "PMI_SIZE": "1", "MPI_LOCALNRANKS": "1"}, False, True),
        (STEP | {"PMIX_RANK": "8", "PMIX_NAMESPACE": "slurm.pmix.7.0"}, True, False),
        (STEP, False, True),
        # One rank on each machine, where the launcher gives no number of all ranks.
        ({"PMI_RANK": "1", "PMI_LOCAL_RANK": "0", "PMI_LOCAL_SIZE": "1"}, True, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "1", "PMI_LOCAL_RANK": "0", "PMI_LOCAL_SIZE": "1"}, False, True),
        ({"MPI_LOCALNRANKS": "1"}, False, True),
    ],
)
def test_knows_whether_mpi_started_it_and_which_rank_speaks(env: dict[str, str], several: bool, first: bool) -> None:
    assert (mpi_started_several(env), speaks(env)) == (several, first)


@pytest.mark.parametrize(
    "env", [TORCHRUN, OPEN_MPI, PALS, HYDRA, STEP], ids=["torchrun", "ompi", "pals", "pmi", "slurm"]
)
def test_a_child_is_alone_without_what_its_parents_launcher_left(env: dict[str, str]) -> None:
    kept = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", "SLURM_CONF": "/etc/slurm.conf", "OMP_NUM_THREADS": "2"}
    left = {name: value for name, value in (env | kept).items() if not is_of_a_launcher(name)}
    assert left == kept and find_world(left) == ALONE and not mpi_started_several(left)
    assert [name for name in ("MASTER_ADDR", "MASTER_PORT", "PATH") if is_of_a_meeting(name)] == [
        "MASTER_ADDR",
        "MASTER_PORT",
    ]


def test_the_job_and_how_often_it_was_requeued() -> None:
    assert find_job({}) == (None, None)
    assert find_job({"SLURM_JOB_ID": "7"}) == ("7", 0)
    assert find_job({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}) == ("7", 2)
    assert find_job({"PBS_JOBID": "8.server"}) == ("8.server", None), "no variable of PBS tells"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (without(TORCHRUN, "RANK"), "torchrun: variable RANK must be set"),
        (TORCHRUN | {"RANK": "8"}, "torchrun: rank 8 of 8 processes"),
        (TORCHRUN | {"RANK": "-1"}, "torchrun: variable RANK='-1' must be a whole number"),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "9"}, "1 of 9 on this machine"),
        (without(HYDRA, "PMI_SIZE"), "mpi: variable PMI_SIZE must be set"),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "4(x2"}, r"SLURM_STEP_TASKS_PER_NODE='4\(x2'"),
        (STEP | {"SLURM_NODEID": "3"}, "SLURM_NODEID=3"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, r"world size 1 \(alone\), but WORLD_SIZE=2"),
        (HYDRA | without(TORCHRUN) | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"},
         r"world size 1 \(torchrun\), but PMI_SIZE=2"),
        (STEP | {"PMI_RANK": "0", "PMI_SIZE": "1", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"},
         r"world size 1 \(mpi\), but SLURM_STEP_NUM_TASKS=11"),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, r"world size 1 \(alone\), but PMI_SIZE=4"),
    ],
)  # fmt: skip
def test_refuses_what_is_incomplete_or_contradicts_itself(env: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_world(env)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[07-09,12],login1", "gpu07"),
        ("r[0-1]n[3,5]-ib", "r0n3-ib"),
        ("a,b[1-2]", "a"),
    ],
)
def test_first_host_of_a_node_list(nodes: str, first: str, tmp_path: Path) -> None:
    assert first_host(nodes) == first
    if shutil.which("scontrol") and nodes.count("[") < 2:  # Debian's expands one bracket of a name only
        (tmp_path / "slurm.conf").write_text("ClusterName=none\nSlurmctldHost=localhost\n")
        env = os.environ | {"SLURM_CONF": str(tmp_path / "slurm.conf")}
        command = ["scontrol", "show", "hostnames", nodes]
        names = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        assert names.stdout.split()[0] == first


def test_rendezvous_is_where_the_allocation_begins(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("x1\nx1\nx2\n")
    two_nodes, one_node = World(3, 4, 1, 2, "slurm"), World(1, 2, 1, 2, "mpi")
    slurm = {"SLURM_STEP_NODELIST": "n[4-5]", "SLURM_JOB_ID": "11", "SLURM_STEP_ID": "0"}
    assert rendezvous(two_nodes, {"MASTER_ADDR": "m", "MASTER_PORT": "99"} | slurm) == ("m", 99)
    assert rendezvous(two_nodes, slurm)[0] == "n4"
    assert rendezvous(two_nodes, {"PBS_NODEFILE": str(tmp_path / "nodes")})[0] == "x1"
    assert rendezvous(one_node, slurm)[0] == "127.0.0.1"
    with pytest.raises(InputError, match="set MASTER_ADDR"):
        rendezvous(two_nodes, {})
    ports = [
        rendezvous(one_node, slurm | {name: "1"})[1] for name in ("A", "SLURM_JOB_ID", "SLURM_STEP_ID", "PBS_JOBID")
    ]
    assert len(set(ports)) == len(ports), "jobs and steps at the same time meet at different ports"
    assert ports[0] == rendezvous(one_node, slurm)[1], "variables that differ between ranks do not count"
    assert all(1024 < port < 32768 for port in ports)
