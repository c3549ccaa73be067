"""Searches with real trainings: failures of every kind, kills of every process, and what a resumed search holds.

The suite keeps to few trials; `tests/helpers/hpo_soak.py` kills MPI ranks and minders too, and stops
searches by signals.
"""

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.outside import NAME, package
from helpers.searches import arguments, command_line, lines, own_processes, start, until
from hpcauxvae.data.hdf5 import open_set, split
from hpcauxvae.runtime.children import MARK
from hpcauxvae.runtime.launchers import find_world, rendezvous
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError
from hpo import pools
from hpo.logbook import Logbook
from hpo.pools import local_slots, slurm_slots
from hpo.search import main, stop
from hpo.settings import SearchConfig
from hpo.trials import Setup, Slot, trial_environment


@pytest.mark.processes
@pytest.mark.slow
def test_failures_are_rows_with_reasons_and_the_others_finish(data, tmp_path, capsys):
    """Diverging, out of memory, wrong: each by a real hyperparameter. The good point has the scores of its own run."""
    out = tmp_path / "search"
    axes = ["--vary", "learning_rate=0.002,1e30", "--vary", "latents=4,200000000000"]
    assert main(arguments(data, out, "--strategy", "grid", *axes, "--epochs", 2, "--workers", 2, "--max-evals", 3)) == 0
    rows = {(row.point["learning_rate"], row.point["latents"]): row for row in Logbook(out).rows}
    assert len(rows) == 3
    good = rows.pop((0.002, 4))
    assert good.state == "finished"
    assert good.objectives.mse == pytest.approx(validation_mse(data, out / "trials" / "0000"), rel=1e-5)
    reasons = {key: row.reason for key, row in rows.items()}
    assert "allocate" in reasons[0.002, 200000000000]
    assert "not finite" in reasons[1e30, 4]
    assert all(row.state == "failed" and row.objectives is None for row in rows.values())
    assert "1 finished, 0 stopped, 2 failed" in capsys.readouterr().out
    for run in sorted((out / "trials").glob("000*/last.safetensors")):
        load_run(run.parent)


@pytest.mark.processes
@pytest.mark.slow
def test_a_model_of_another_package_is_searched(data, tmp_path, monkeypatch):
    """Its trials are processes that find the package where the search did: by PYTHONPATH or in the working folder."""
    monkeypatch.chdir(package(tmp_path))
    out = tmp_path / "search"
    given = [data, "--out", out, "--aux", "radius", "--model", NAME, "--strategy", "random", "--epochs", 1]
    given += ["--max-evals", 2, "--workers", 2, "--fix", "batch_size=32", "--device", "cpu"]
    assert main([str(word) for word in given]) == 0
    rows = Logbook(out).rows
    assert [(row.state, list(row.point)) for row in rows] == [("finished", ["beta"])] * 2
    assert json.loads((out / "trials" / "0001" / "config.json").read_text())["model"] == NAME
    assert type(load_run(out / "trials" / "0001").model).__name__ == "StarVAE"


def validation_mse(data: Path, run: Path) -> float:
    """By numpy, from the weights of the run."""
    import torch

    model = load_run(run).model
    opened = open_set(data)
    images = opened.images[np.sort(split(len(opened), 0)[1])]
    train = opened.images[np.sort(split(len(opened), 0)[0])]
    with torch.no_grad():
        decoded = model.decode(model.encode(torch.from_numpy(np.array(images))).mean).numpy()
    return float(np.mean(((decoded - images) / train.max()) ** 2))


@pytest.mark.processes
@pytest.mark.slow
def test_kills_lose_no_row_repeat_no_point_and_leave_no_process(data, tmp_path):
    """kill -9 of the search amid DDP trials; then, resumed, of a trial's torchrun. torchrun's workers outlive it."""
    out = tmp_path / "search"
    axes = ["--strategy", "random", "--vary", "beta=0.1:10:log", "--epochs", 60, "--no-early-stopping"]
    settings = [*axes, "--processes", 2, "--workers", 1, "--max-evals", 2]
    first = start(data, out, *settings)
    assert until(lambda: len(lines(out / "trials" / "0000")) > 1, 200)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert until(lambda: not own_processes(out), 10), "orphans"
    before = Logbook(out)
    assert (before.rows, len(before.running)) == ([], 2)
    with open(before.path, "a") as file:
        file.write('{"event": "ended", "tri')  # as a kill amid a line leaves it

    second = start(data, out, *settings, "--resume")
    assert until(lambda: Logbook(out).rows, 200)
    assert until(lambda: len(trial_processes(out, "0001")) == 3, 100), "torchrun and two ranks"
    torchrun = next(pid for pid in trial_processes(out, "0001") if b"torch.distributed.run" in command_line(pid))
    os.kill(torchrun, signal.SIGKILL)
    assert until(lambda: len(Logbook(out).rows) == 2, 100)
    assert not trial_processes(out, "0001"), (
        "a row is written when nothing of its trial is left; the minder would find it later"
    )
    printed = second.communicate(timeout=200)[0]
    assert second.returncode == 0, printed
    assert not own_processes(out)
    after = Logbook(out)
    assert [row.point for row in after.rows] == list(before.running.values()), "no point lost, none repeated"
    assert [row.state for row in after.rows] == ["finished", "failed"]
    assert after.rows[0].objectives and after.rows[0].epochs == 60
    assert [row["epoch"] for row in lines(out / "trials" / "0000")] == list(range(1, 61)), "went on, not anew"
    assert after.rows[1].reason == "killed by SIGKILL"


def trial_processes(out: Path, trial: str) -> list[int]:
    return [pid for pid in own_processes(out) if f"trials/{trial}".encode() in command_line(pid)]


def test_a_trial_has_its_share_of_the_machine_and_its_mark(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PMI_RANK", "1")
    setup = Setup(out=tmp_path, mark="m/", fields={}, processes=2, early_stopping=False, trial_minutes=None)
    own = trial_environment(setup, 4, Slot(name="0", gpus=("2", "3"), threads=8))
    assert (own["CUDA_VISIBLE_DEVICES"], own["OMP_NUM_THREADS"], own[MARK]) == ("2,3", "8", "m/4/")
    assert "PMI_RANK" not in own
    for given, threads in (("3", "3"), ("64", "8"), ("4,2", "8"), ("", "8")):  # a person's fewer; PBS sets all cores
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert trial_environment(setup, 4, Slot(name="0", threads=8))["OMP_NUM_THREADS"] == threads


def test_of_several_ranks_the_first_says_that_the_search_stops(monkeypatch, capfd):
    for rank, said in (("1", ""), ("0", "stopping: ")):
        monkeypatch.setattr(pools, "STOP", threading.Event())
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", rank)
        stop()
        assert pools.STOP.is_set()
        assert capfd.readouterr().err.strip()[:10] == said


def test_the_ranks_of_a_slurm_step_meet_where_the_step_runs(tmp_path, monkeypatch):
    """Not on the first node of the job, where MASTER_ADDR of the job script points."""
    for name, value in {"MASTER_ADDR": "n1", "MASTER_PORT": "9", "SLURM_JOB_NODELIST": "n[1-2]"}.items():
        monkeypatch.setenv(name, value)
    setup = Setup(out=tmp_path, mark="m/", fields={}, processes=2, early_stopping=False, trial_minutes=None)
    own = trial_environment(setup, 4, Slot(name="0", srun=("srun",)))
    step = {"SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert rendezvous(find_world(own | step), own | step)[0] == "127.0.0.1"
    assert own["SLURM_JOB_NODELIST"] == "n[1-2]"


def test_gpus_and_cores_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,1")
    assert [slot.gpus for slot in local_slots(None, 2)] == [("4", "5"), ("6", "7")]
    with pytest.raises(InputError, match="workers = 3 with 2 processes a trial for 5 GPUs; allowed: at most 2"):
        local_slots(3, 2)
    with pytest.raises(InputError, match="processes = 8 a trial for 5 GPUs; allowed: at most 5, or device cpu"):
        local_slots(None, 8)
    assert [slot.gpus for slot in local_slots(6, 1, "cpu")] == [()] * 6
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [(slot.gpus, slot.threads) for slot in local_slots(2, 4)] == [((), 2), ((), 2)]


def test_trials_fill_the_nodes_of_an_allocation(monkeypatch):
    given = {"SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_CPUS_PER_NODE": "64(x3)", "SLURM_GPUS_ON_NODE": "4"}
    for name, value in (given | {"SLURM_MEM_PER_NODE": "1000"}).items():
        monkeypatch.setenv(name, value)
    slots = slurm_slots(None, 2)
    assert len(slots) == 6
    assert {"--ntasks=2", "--cpus-per-task=16", "--gres=gpu:2", "--mem=500"} < set(slots[0].srun)
    with pytest.raises(InputError, match="2 processes a trial on 3 nodes of 4 GPUs; allowed: at most 6"):
        slurm_slots(7, 2)
    without = slurm_slots(7, 2, "cpu")
    assert len(without) == 7
    assert [word for word in without[0].srun if word.startswith("--gres")] == ["--gres=none"]
    monkeypatch.delenv("SLURM_JOB_NUM_NODES")
    with pytest.raises(InputError, match="launcher 'slurm' outside any allocation of Slurm"):
        slurm_slots(None, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--epochs", "3"], "has epochs = 20, now 3"),
        (["--vary", "beta=1,2"], "has vary"),
        ([], "holds a search already"),
    ],
)
def test_a_folder_goes_on_with_its_own_search_only(data, tmp_path, change, message):
    settings = SearchConfig(data=data, out=tmp_path, aux="radius", fix=("network=mlp", "batch_size=32")).to_json()
    (tmp_path / "search.json").write_text(json.dumps({"settings": settings, "data": "0"}))
    with pytest.raises(InputError, match=message):
        main(arguments(data, tmp_path, *change, *(["--resume"] if change else [])))
    assert [path.name for path in tmp_path.iterdir()] == ["search.json"]


def test_what_cannot_be_searched_is_refused_before_any_trial(data, tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(InputError, match=r"holds letter.txt, and no search"):
        main(arguments(data, tmp_path))
    with pytest.raises(InputError, match="radios"):
        main([str(data), "--out", str(tmp_path / "new"), "--aux", "radios"])
    assert not (tmp_path / "new").exists()
