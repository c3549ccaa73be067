"""Training: the answer does not depend on the number of processes; runs resume; bad input is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.places import ROOT
from helpers.trainings import alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, split
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("data") / "blobs.h5")


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
        timeout=240,
    )


def test_pixels_below_zero_are_spoken_of(tmp_path, capsys):
    path = blobs(tmp_path / "counts.h5")
    alone(config(path, tmp_path / "a", epochs=1))
    assert "below 0" not in capsys.readouterr().err
    import h5py

    with h5py.File(path, "r+") as file:
        file["images"][:] -= 20
    alone(config(path, tmp_path / "b", epochs=1))
    assert "% of the training pixels in" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"lowest training pixel is -\d.* at least 0"):
        alone(config(path, tmp_path / "c", epochs=1, objective="bernoulli"))


def test_a_factor_is_measured_where_the_decoder_start_is_not(tmp_path, monkeypatch):
    """Scale and prior come from all training samples, not from those of the mean image."""
    import h5py

    from hpcauxvae.train import trainer

    monkeypatch.setattr(trainer, "_PREPARE_SAMPLES", 8)
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
    with pytest.raises(InputError, match="no training sample has a value"):
        alone(config(path, tmp_path / "none", epochs=1))


def steps(data: Path, out: Path, processes: int) -> dict[str, np.ndarray]:
    program = ROOT / "tests" / "helpers" / "steps.py"
    done = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, program, data, out)
    assert done.returncode == 0, done.stderr
    return dict(np.load(out))


@pytest.fixture(scope="module")
def recorded(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """By the number of processes; one is plain autograd without collectives."""
    folder = tmp_path_factory.mktemp("steps")
    return {processes: steps(data, folder / f"{processes}.npz", processes) for processes in (1, 2, 3)}


def test_twenty_steps_are_the_same_on_one_two_and_three_processes(recorded):
    """The cases of steps.py have batches that divide unevenly."""
    for processes in (2, 3):
        together = recorded[processes]
        assert together.keys() == recorded[1].keys()
        for name, value in recorded[1].items():
            if name.endswith("/losses"):
                assert value.shape == (20, 4)
                assert np.ptp(value.sum(1)) > 0
                np.testing.assert_allclose(together[name], value, rtol=1e-9, err_msg=name)
            elif "/validation/" not in name:
                assert np.linalg.norm(together[name] - value) <= 1e-9 * np.linalg.norm(value), name


def test_validation_is_the_same_on_one_two_and_three_processes(data, recorded):
    """Every field of it, also where the split is of several batches, of which some ranks have no part."""
    found = {name: value for name, value in recorded[1].items() if "/validation/" in name}
    scores = {name.removeprefix("tuned 12/validation/") for name in found if name.startswith("tuned 12/")}
    assert scores >= {"loss", "kl", "inter", "mse", "lds", "lds_attainable", "mean_NZ", "logvar_NZ", "aux_ND"}
    for processes in (2, 3):
        for name, value in found.items():
            assert np.linalg.norm(recorded[processes][name] - value) <= 1e-9 * np.linalg.norm(value), name
    _, validation, _ = split(160, 0)
    expected = np.sort(open_set(data).scaled()[validation][:, :2], 0)
    np.testing.assert_allclose(np.sort(found["tuned 12/validation/aux_ND"], 0), expected, rtol=1e-12)


@pytest.mark.parametrize("model", ["aux-vae", "beta-vae"])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_training_lowers_the_loss(data, tmp_path, model, network):
    alone(config(data, tmp_path / "run", model=model, network=network, epochs=8))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train"]["loss"] < 0.5 * rows[0]["train"]["loss"]
    assert rows[-1]["validation"]["loss"] < rows[0]["validation"]["loss"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    loaded = load_run(tmp_path / "run")
    assert loaded.state["epoch"] == 8
    assert loaded.config.model == model


COMMAND = ("-m", "hpcauxvae.train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aux", "radius,size"], "factor 'size' is unknown; known are radius, g1, flux"),
        (["--aux", "radius,g1,flux", "--latents", "2"], "aux has 3 names (radius,g1,flux) for latents = 2"),
        (["--aux", "radius", "--batch-size", "1"], "batch_size = 1; allowed: at least 2"),
        (["--aux", "radius", "--batch-size", "4096"], "batch_size = 4096 for 112 training samples"),
        (["--aux", "radius", "--lambda1", "-1"], "lambda1 = -1.0; allowed: at least 0"),
        (["--aux", ""], "aux is empty"),
        (["--aux", "radius", "--seed", str(2**64)], f"seed = {2**64}; allowed: at most {2**64 - 1}"),
        (["--aux", "radius", "--timeout-minutes", "inf"], "timeout_minutes = inf; allowed: at most 525600"),
        (["--aux", "radius", "--bucket-mb", "inf"], "bucket_mb = inf; allowed: at most 1000000"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(data, tmp_path, arguments, message):
    done = run(*COMMAND, data, "--out", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_missing_truncated_and_broken_data_are_refused(data, tmp_path):
    truncated = tmp_path / "truncated.h5"
    truncated.write_bytes(data.read_bytes()[:-200_000])
    broken = blobs(tmp_path / "broken.h5")
    import h5py

    with h5py.File(broken, "r+") as file:
        file["images"][5, 0, 1, 2] = np.inf
    for path, message in (
        (tmp_path / "none.h5", "none.h5"),
        (truncated, "truncated"),
        (broken, "inf in sample 5, channel 0, pixel (1, 2)"),
    ):
        done = run(*COMMAND, path, "--out", tmp_path / "run", "--aux", "radius")
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_a_folder_in_use_is_refused_and_left_as_it_is(data, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds thesis\.txt already"):
        alone(config(data, folder))
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    lock = RunLock(tmp_path / "other")
    lock.acquire()
    done = run(*COMMAND, data, "--out", tmp_path / "other", "--aux", "radius", "--resume", "auto")
    assert done.returncode == 2
    assert f"in use by process {os.getpid()}" in done.stderr
    lock.release()
    assert not lock.path.exists()


def test_a_launcher_that_started_singletons_is_refused(data, tmp_path):
    done = run(*COMMAND, data, "--out", tmp_path / "run", "--aux", "radius", MPI_LOCALNRANKS="4")
    assert done.returncode == 2
    assert "world size 1 (alone), but MPI_LOCALNRANKS=4" in done.stderr
