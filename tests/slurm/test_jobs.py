"""The job scripts on a real Slurm, unmodified: each ends as it should, and so does all that can happen to it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.places import ROOT
from helpers.slurm_desk import SMALL, Desk
from hpcauxvae.data.hdf5 import open_set, validate

pytestmark = pytest.mark.timeout(1200)

N = 600
EPOCHS = 30
FOUR_RANKS = ("--nodes=2", "--ntasks-per-node=2", "--gres=gpu:2")
TWO_NODES = ("--nodes=2", "--ntasks-per-node=1", "--gres=gpu:1")
ONE_RANK = ("--nodes=1", "--ntasks-per-node=1", "--gres=gpu:1")


@pytest.fixture(scope="module")
def galaxies(cluster, tmp_path_factory) -> Path:
    """Simulated by simulate.sh on both nodes."""
    desk = Desk(tmp_path_factory.mktemp("galaxies"), cluster)
    job = desk.submit("simulate.sh", "--nodes=2", OUT="galaxies.h5", N=str(N), SEED="7")
    log = desk.completed("simulate", job)
    assert f"galaxies.h5: {N} galaxies, {N} drawn now, ranks: 4," in log
    return desk.folder / "galaxies.h5"


def train(desk: Desk, data: Path, *options: str, epochs: int = EPOCHS, **settings: str) -> str:
    """A training job with a small network."""
    settings = {"DATA": str(data), "AUX": "radius,g1,g2", "OUT": "runs/a"} | settings
    return desk.submit("train_a100.sh", *options, TRAIN_OPTIONS=f"{SMALL} --epochs {epochs}", **settings)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the last checkpoint, with the state of the optimizer."""
    return load_file(run / "last.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(cluster, galaxies: Path, tmp_path_factory) -> Path:
    """The folder of a run of train_a100.sh on two nodes."""
    desk = Desk(tmp_path_factory.mktemp("uninterrupted"), cluster)
    job = train(desk, galaxies, *TWO_NODES)
    desk.completed("train", job)
    return desk.folder / "runs/a"


def test_simulation_on_two_nodes(galaxies: Path) -> None:
    assert validate(galaxies) == []
    assert len(open_set(galaxies)) == N


def test_training_on_two_nodes_with_two_ranks_each(desk: Desk, galaxies: Path) -> None:
    job = train(desk, galaxies, *FOUR_RANKS, epochs=2)
    log = desk.completed("train", job)
    assert "preflight passed: ranks 4, nodes 2, GPUs 0" in log
    assert "epoch 2/2" in log
    logs = sorted(path.name for path in (desk.folder / "logs" / "runs-a").glob("rank-*"))
    assert logs == [f"rank-{rank}.log" for rank in range(4)]
    assert len((desk.folder / "runs/a/metrics.jsonl").read_text().splitlines()) == 2


def assert_same_end(run: Path, uninterrupted: Path) -> None:
    """Bit for bit, though one of them was stopped and started."""
    ours, theirs = weights(run), weights(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert len((run / "metrics.jsonl").read_text().splitlines()) == EPOCHS


def newest_step(run: Path) -> int:
    """Of the checkpoints of a run; -1 without any."""
    return max((int(path.stem.removeprefix("step-")) for path in run.glob("checkpoints/step-*")), default=-1)


def wait_for_step_after(desk: Desk, run: Path, step: int) -> None:
    desk.cluster.wait_for(lambda: newest_step(run) > step, f"a checkpoint after step {step}", 300)


def assert_goes_on_after(desk: Desk, job: str, interrupt: Callable[[], None], restart: int) -> None:
    """In the middle of a training, and again, without starting over."""
    run = desk.folder / "runs/a"
    wait_for_step_after(desk, run, newest_step(run))
    interrupt()
    desk.cluster.wait_for(lambda: desk.cluster.field(job, "Restarts") == str(restart), f"restart {restart}", 300)


def test_stopped_twice_and_the_same_end(desk: Desk, galaxies: Path, uninterrupted: Path) -> None:
    """By a signal, and by a requeue from outside."""
    job = train(desk, galaxies, *TWO_NODES)
    cluster, run = desk.cluster, desk.folder / "runs/a"
    assert_goes_on_after(desk, job, lambda: cluster.run("scancel", "--signal=USR1", job), 1)
    first = newest_step(run)
    assert_goes_on_after(desk, job, lambda: cluster.run("scontrol", "requeue", job), 2)
    log = desk.completed("train", job)
    assert "stopped on request at step-" in log and "requeued\n" in log
    assert [f"restart {n}:" in log for n in range(3)] == [True] * 3
    assert log.count("epoch  1/30") == 1
    assert first > 0
    assert_same_end(run, uninterrupted)


def test_time_limit(desk: Desk, galaxies: Path) -> None:
    """The signal comes before the end, some time in half a minute; the next start goes on from the step of the stop."""
    job = train(desk, galaxies, *ONE_RANK, "--time=90", "--signal=USR1@3600", epochs=100_000)
    cluster, run = desk.cluster, desk.folder / "runs/a"
    wait_for_step_after(desk, run, 0)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    cluster.wait_for(lambda: cluster.field(job, "Restarts") == "1", "the requeue", 300)
    found = re.search(r"stopped on request at step-0*(\d+)\.", desk.log("train", job))
    assert found and int(found[1]) == newest_step(run)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=600")
    wait_for_step_after(desk, run, int(found[1]))
    cluster.run("scancel", job)
    assert cluster.wait(job) == "CANCELLED"
    cluster.wait_for(lambda: "not requeued by the job itself" in desk.log("train", job), "its last words", 60)
    assert cluster.field(job, "Restarts") == "1"


def test_lost_node(desk: Desk, galaxies: Path, uninterrupted: Path) -> None:
    """The job waits for the node and then ends as if nothing had been."""
    cluster, run = desk.cluster, desk.folder / "runs/a"
    job = train(desk, galaxies, *TWO_NODES)
    wait_for_step_after(desk, run, 0)
    cluster.kill_node("n2")
    cluster.wait_for(lambda: cluster.field(job, "Restarts") == "1", "the requeue", 300)
    assert newest_step(run) < EPOCHS * 6
    cluster.start_node("n2")
    log = desk.completed("train", job)
    assert "NODE FAILURE" in log or "requeued" in log
    assert_same_end(run, uninterrupted)


def test_no_requeue_without_progress(desk: Desk, galaxies: Path) -> None:
    """A run that is asked to stop before its first step, each time."""
    settings = {"DATA": str(galaxies), "AUX": "radius,g1,g2", "OUT": "runs/a", "MAX_STUCK": "2"}
    options = f"{SMALL} --epochs 2 --max-minutes 0"
    job = desk.submit("train_a100.sh", *ONE_RANK, TRAIN_OPTIONS=options, **settings)
    assert desk.cluster.wait(job) == "FAILED"
    assert desk.cluster.field(job, "ExitCode") == "75:0"
    assert desk.cluster.field(job, "Restarts") == "1"
    assert "2 starts ended at the start: not requeued" in desk.log("train", job)


def test_array_of_three_with_staging(desk: Desk, galaxies: Path) -> None:
    """Each task has its own seed, its own copy of the data, which goes at the end, and its own folder."""
    stage = desk.folder / "local disk"
    settings = {"DATA": str(galaxies), "AUX": "radius,g1,g2", "OUT": "runs/seeds", "STAGE": str(stage)}
    job = desk.submit("train_array.sh", TRAIN_OPTIONS=f"{SMALL} --epochs 2", **settings)
    for task in range(3):
        log = desk.completed("array", f"{job}_{task}")
        assert f"task {task}: --seed {task}" in log and "/galaxies.h5 on 1 nodes" in log
    runs = [weights(desk.folder / "runs/seeds" / str(task)) for task in range(3)]
    name = next(name for name in runs[0] if name.endswith("weight"))
    assert not torch.equal(runs[0][name], runs[1][name]) and not torch.equal(runs[1][name], runs[2][name])
    assert list(stage.iterdir()) == []


def test_damaged_copy_is_caught(desk: Desk, galaxies: Path) -> None:
    """A cp that loses a bit."""
    tools = desk.folder / "tools"
    tools.mkdir()
    (tools / "cp").write_text('#!/bin/bash\n/bin/cp "$@" && printf x | dd of="${@: -1}" bs=1 seek=9000 conv=notrunc\n')
    (tools / "cp").chmod(0o755)
    desk.first_on_path = tools
    job = train(desk, galaxies, *ONE_RANK, STAGE=str(desk.folder / "stage"))
    assert desk.cluster.wait(job) == "FAILED"
    assert desk.cluster.field(job, "ExitCode") == "2:0"
    log = desk.log("train", job)
    assert "galaxies.h5: damaged copy, sha256 " in log and "not requeued" in log
    assert not (desk.folder / "runs/a").exists()


def test_pipeline(desk: Desk) -> None:
    """Four jobs in their order, and their results."""
    settings = {"FOLDER": "case2", "AUX": "radius,g1,g2", "N": str(N), "FRESH_N": "400", "SITE": "local"}
    settings |= {"TRAIN_OPTIONS": f"{SMALL} --epochs 2", "TRAIN_SBATCH": "--ntasks-per-node=2"}
    command = ["bash", str(ROOT / "jobs" / "pipeline.sh"), *(f"{name}={value}" for name, value in settings.items())]
    done = subprocess.run(command, cwd=desk.folder, env=desk.env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    numbers = re.findall(r"\d+", done.stdout)
    for name, job in zip(("simulate", "simulate", "train", "evaluate"), numbers, strict=True):
        desk.completed(name, job)
    ended = [desk.cluster.field(job, name) for job in numbers for name in ("StartTime", "EndTime")]
    assert ended[4] >= ended[1] and ended[6] >= max(ended[3], ended[5])
    assert (desk.folder / "case2/run/metrics.json").exists()
    assert "case2/fresh.h5" in desk.log("evaluate", numbers[3])


def test_search_over_two_nodes(desk: Desk, galaxies: Path) -> None:
    """Its trials are steps of the job."""
    options = "--max-evals 3 --workers 2 --epochs 2 --strategy random --fix network=mlp"
    settings = {"DATA": str(galaxies), "AUX": "radius,g1,g2", "OUT": "searches/x", "SEARCH_OPTIONS": options}
    job = desk.submit("search.sh", *TWO_NODES, **settings)
    desk.completed("search", job)
    rows = (desk.folder / "searches/x/results.csv").read_text().splitlines()
    assert len(rows) == 4 and not any("F_" in row for row in rows)
    assert desk.cluster.ask("squeue", "-h", "-s", "-j", job) == ""


@pytest.fixture(scope="module")
def refused(cluster, galaxies: Path, tmp_path_factory) -> dict[str, tuple[Desk, str]]:
    """Jobs that must not begin to train, all submitted at once."""
    cut = tmp_path_factory.mktemp("cut") / "cut.h5"
    cut.write_bytes(galaxies.read_bytes()[:5000])
    two = ("--nodes=1", "--ntasks-per-node=2", "--gres=gpu:1")
    settings = {
        "gpus": {"DEVICE": "cuda"},
        "data": {"DATA": str(cut)},
        "world": {"SRUN_OPTIONS": "--ntasks=1"},
        "space": {"SPACE_GB": "1e9"},
    }
    jobs = {}
    for name, own in settings.items():
        desk = Desk(tmp_path_factory.mktemp(name), cluster)
        jobs[name] = desk, train(desk, galaxies, *two, **own)
    return jobs


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpus", "device 'cuda': torch sees no such accelerator here; allowed: auto, cpu"),
        ("data", "cut.h5: cannot be read as HDF5"),
        ("world", "world size 1 (found by: slurm), but the job has 2 ranks"),
        ("space", "GB free; this job needs 1e+09 GB (--space-gb; in a script SPACE_GB)"),
    ],
)
def test_preflight_refuses(refused: dict[str, tuple[Desk, str]], name: str, message: str) -> None:
    desk, job = refused[name]
    assert desk.cluster.wait(job) == "FAILED"
    assert desk.cluster.field(job, "ExitCode") == "2:0"
    log = desk.log("train", job)
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], log
    assert "the preflight failed: not requeued" in log
    assert not (desk.folder / "runs").exists()
