"""Training: the answer does not depend on the number of processes; runs resume; bad input is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from helpers import forked, steps
from helpers.forked import on_ranks
from helpers.ranks import ends, start_ranks
from helpers.trainings import alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, split
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.train import checkpoint
from hpcauxvae.train.command import main
from hpcauxvae.train.run import data_path, load_run
from hpcauxvae.types import InputError


def test_pixels_below_zero_are_spoken_of(tmp_path, capsys):
    path = blobs(tmp_path / "counts.h5")
    alone(config(path, tmp_path / "a", epochs=1))
    assert "below 0" not in capsys.readouterr().err
    with h5py.File(path, "r+") as file:
        file["images"][:] -= 20
    alone(config(path, tmp_path / "b", epochs=1, objective="tuned"))
    assert "% of the training pixels in" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"lowest training pixel is -\d.* at least 0"):
        alone(config(path, tmp_path / "c", epochs=1, objective="bernoulli"))


def test_a_factor_is_measured_where_the_decoder_start_is_not(tmp_path, monkeypatch):
    """Scale and prior come from all training samples, not from those of the mean image."""
    from hpcauxvae.train import preparation, trainer

    monkeypatch.setattr(preparation, "_SAMPLES", 8)
    path = blobs(tmp_path / "blobs.h5")
    with h5py.File(path, "r+") as file:
        first, *_ = split(len(file["images"]), 0)
        factors, images = file["factors"][:], file["images"][:]
        factors[first[:8], :2] = np.nan
        images[first[-1]] *= 3
        file["factors"][:], file["images"][:] = factors, images
    made = trainer.Trainer(config(path, tmp_path / "run"), start(find_world({}), "cpu"), open_set(path))
    made.connect()
    assert float(made.model.maximum) == images[first].max()
    u_ND = open_set(path).scaled()[first][:, made.columns]
    np.testing.assert_allclose(made.model.u_mean, np.nanmean(u_ND, 0), rtol=1e-5)
    with h5py.File(path, "r+") as file:
        factors[first, :2] = np.nan
        file["factors"][:] = factors
    with pytest.raises(
        InputError,
        match="radius: measured in 0 of 112 training samples; allowed as an auxiliary variable: in 4 or more",
    ):
        alone(config(path, tmp_path / "none", epochs=1))


@pytest.fixture(scope="module")
def recorded(blobs_file: Path) -> dict[int, dict[str, np.ndarray]]:
    """By the number of processes; one is plain autograd without collectives."""
    return {processes: on_ranks(processes, steps.record, blobs_file)[0] for processes in (1, 2, 3)}


@pytest.mark.slow
@pytest.mark.processes
def test_twenty_steps_are_the_same_on_one_two_and_three_processes(recorded):
    """The cases of steps.py have batches that divide unevenly."""
    for processes in (2, 3):
        together = recorded[processes]
        assert together.keys() == recorded[1].keys()
        for name, value in recorded[1].items():
            if name.endswith("/losses"):
                assert value.shape == (20, 7 if name.startswith(("tuned", "tolerance", "gaussian")) else 4)  # terms
                assert np.ptp(value.sum(1)) > 0
                assert (value.max(0) > 0).all() or not name.startswith("tolerance"), (
                    "a term that is nothing tells nothing"
                )
                errors, sizes = (np.linalg.norm(terms, axis=0) for terms in (together[name] - value, value))
                assert (errors <= 1e-9 * sizes).all(), name
            elif "/validation/" not in name:
                assert np.linalg.norm(together[name] - value) <= 1e-9 * np.linalg.norm(value), name


@pytest.mark.slow
@pytest.mark.processes
def test_validation_is_the_same_on_one_two_and_three_processes(blobs_file, recorded):
    """Every field of it, also where the split is of several batches, of which some ranks have no part."""
    found = {name: value for name, value in recorded[1].items() if "/validation/" in name}
    scores = {name.removeprefix("tuned 12/validation/") for name in found if name.startswith("tuned 12/")}
    assert scores >= {"loss", "kl", "intra", "mse", "lds", "lds_attainable", "mean_NZ", "logvar_NZ", "aux_ND"}
    for processes in (2, 3):
        for name, value in found.items():
            assert np.linalg.norm(recorded[processes][name] - value) <= 1e-9 * np.linalg.norm(value), name
    _, validation, _ = split(160, 0)
    expected = np.sort(open_set(blobs_file).scaled()[validation][:, :2], 0)
    np.testing.assert_allclose(np.sort(found["tuned 12/validation/aux_ND"], 0), expected, rtol=1e-12)


@pytest.mark.parametrize("model", ["aux-vae", "beta-vae"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_training_lowers_what_is_left_of_the_images(blobs_file, tmp_path, model, network):
    alone(config(blobs_file, tmp_path / "run", model=model, network=network, epochs=16, sigma=0.05))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train"]["reconstruction"] < 0.5 * rows[0]["train"]["reconstruction"]
    assert rows[-1]["validation"]["reconstruction"] < rows[0]["validation"]["reconstruction"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    loaded = load_run(tmp_path / "run")
    assert loaded.state["epoch"] == 16
    assert loaded.config.model == model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aux", "radius,size"], "factor 'size' is unknown; known are radius, g1, flux"),
        (["--aux", "radius,g1,flux", "--latents", "2"], "aux has 3 names (radius,g1,flux) for latents = 2"),
        (["--aux", "radius", "--batch-size", "1"], "batch_size = 1; allowed: at least 2"),
        (["--aux", "radius", "--batch-size", "4096"], "batch_size = 4096 for 112 training samples"),
        (["--aux", "radius", "--lambda1", "-1"], "lambda1 = -1.0; allowed: at least 0"),
        (["--aux", ""], "aux is empty"),
        (
            ["--aux", "radius", "--gamma", "2"],
            "gamma = 2.0 with model aux-vae, which does not read it; allowed: with idv",
        ),
        (
            ["--aux", "radius", "--model", "cvae", "--guide", "0.3"],
            "guide = 0.3 with model cvae, which does not read it",
        ),
        (["--aux", "radius", "--seed", str(2**64)], f"seed = {2**64}; allowed: at most {2**64 - 1}"),
        (["--aux", "radius", "--timeout-minutes", "inf"], "timeout_minutes = inf; allowed: at most 525600"),
        (["--aux", "radius", "--bucket-mb", "inf"], "bucket_mb = inf; allowed: at most 1000000"),
    ],
)
def test_bad_arguments_are_refused(blobs_file, tmp_path, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        main([str(blobs_file), "--out", str(tmp_path / "run"), *arguments])
    assert not (tmp_path / "run").exists()


@pytest.mark.processes
@pytest.mark.smoke
def test_bad_arguments_are_one_line_and_exit_code_2(blobs_file, tmp_path):
    command = [sys.executable, "-m", "hpcauxvae.train", blobs_file, "--out", tmp_path / "run", "--aux", "radius,size"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {blobs_file}: factor 'size' is unknown; known are radius, g1, flux\n"
    assert not (tmp_path / "run").exists()


def test_missing_truncated_and_broken_data_are_refused(blobs_file, tmp_path):
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(blobs_file.read_bytes()[:-200_000])
    broken = blobs(tmp_path / "broken.h5")
    with h5py.File(broken, "r+") as file:
        file["images"][5, 0, 1, 2] = np.inf
    for path, message in (
        (tmp_path / "none.h5", "none.h5"),
        (truncated, "truncated"),
        (broken, "inf in sample 5, channel 0, pixel (1, 2)"),
    ):
        done = forked.run("-m", "hpcauxvae.train", path, "--out", tmp_path / "run", "--aux", "radius")
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused_and_left_as_it_is(blobs_file, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt already"):
        alone(config(blobs_file, folder))
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    lock = RunLock(tmp_path / "other")
    lock.acquire()
    other = tmp_path / "other"
    done = forked.run("-m", "hpcauxvae.train", blobs_file, "--out", other, "--aux", "radius", "--resume", "auto")
    assert done.returncode == 2
    assert f"in use by process {os.getpid()}" in done.stderr
    lock.release()
    assert not lock.path.exists()


def test_the_end_says_what_was_written_and_the_next_command(blobs_file, tmp_path, capsys):
    run = tmp_path / "run"
    assert alone(config(blobs_file, run, epochs=1, network="mlp")) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"written: {run}: last.safetensors (epoch 1), best.safetensors (epoch 1), metrics.jsonl, tensorboard/",
        f"next: hpcauxvae evaluate {run}",
    ]


def test_data_are_found_from_another_folder(blobs_file, tmp_path, monkeypatch):
    """Named from where the training was started, also once run and data have moved together; else --data is named."""
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    shutil.copy(blobs_file, here / "data" / "set.h5")
    monkeypatch.chdir(here)
    assert alone(config(Path("data/set.h5"), Path("runs/x"), epochs=1)) == 0
    assert data_path(load_run("runs/x")) == Path("data/set.h5")
    monkeypatch.chdir(tmp_path)
    assert data_path(load_run("here/runs/x")) == here / "data" / "set.h5"
    moved = here.rename(tmp_path / "there")
    assert data_path(load_run("there/runs/x")) == moved / "data" / "set.h5"
    (moved / "runs" / "x").rename(moved / "runs" / "y")
    with pytest.raises(
        InputError, match="no such file; where the data set of there/runs/y lies now, --data FILE tells"
    ):
        data_path(load_run("there/runs/y"))


@pytest.mark.parametrize("model", ["aux-vae", "beta-vae"])
def test_what_is_done_with_a_periodic_or_categorical_factor_is_said(tmp_path, capsys, model):
    path = blobs(tmp_path / "blobs.h5")
    with h5py.File(path, "r+") as file:
        file["factors"].attrs["kind"] = ["periodic", "categorical", "ordinal"]
    fields = {"epochs": 1, "network": "mlp", "model": model, "aux": "radius,g1,flux", "labels": "raw"}
    alone(config(path, tmp_path / "run", **fields))
    said = [line for line in capsys.readouterr().err.splitlines() if "taken as" in line]
    assert len(said) == (2 if model == "aux-vae" else 0)
    if said:
        assert said[0].startswith(
            "warning: radius is periodic, and is taken as a number from 0.1 to 1 arcsec: its two ends"
        )
        assert said[1].startswith("warning: g1 is categorical, and is taken as a number from -0.5 to 0.5: as if its")


def test_tensorboard_that_takes_no_more_costs_nothing(blobs_file, tmp_path, capsys, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    assert alone(config(blobs_file, tmp_path / "run", network="mlp")) == 0
    err = capsys.readouterr().err
    assert err.count("warning: TensorBoard takes no more of this run: [Errno 28] No space left on device") == 1


def test_a_log_that_cannot_be_written_is_named_and_nothing_is_lost(blobs_file, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", on_the_log(run / "metrics.jsonl", os.fsync))
        with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written: No space left on device"):
            alone(config(blobs_file, run, network="mlp"))
    assert checkpoint.read(run / checkpoint.LAST)[1]["epoch"] == 1
    assert alone(config(blobs_file, run, network="mlp", resume="auto")) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def on_the_log(path: Path, real):
    def fsync(descriptor: int) -> None:
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            os.ftruncate(descriptor, 20)
            raise OSError(28, "No space left on device")
        real(descriptor)

    return fsync


def test_a_launcher_that_started_singletons_is_refused(blobs_file, tmp_path, monkeypatch):
    monkeypatch.setenv("MPI_LOCALNRANKS", "4")
    with pytest.raises(InputError, match=r"world size 1 \(alone\), but MPI_LOCALNRANKS=4"):
        main([str(blobs_file), "--out", str(tmp_path / "run"), "--aux", "radius"])


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.processes
@pytest.mark.smoke
def test_a_training_by_torchrun_ends_as_ranks_without_a_launcher_do(blobs_file, tmp_path):
    settings = [blobs_file, "--aux", "radius", "--batch-size", 16, "--epochs", 1, "--device", "cpu"]
    settings += ["--dtype", "float64", "--out"]
    command = [*TORCHRUN, "-m", "hpcauxvae.train", *settings, tmp_path / "torchrun"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    codes, errors = ends(start_ranks(2, *settings, tmp_path / "ranks"))
    assert codes == [0, 0], errors
    found, expected = (checkpoint.read(tmp_path / name / checkpoint.LAST)[0] for name in ("torchrun", "ranks"))
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-9, atol=1e-12), name
