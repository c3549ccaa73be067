"""Trainings with the noise of each pixel and missing pixels: the same on any number of ranks, whatever lies there."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers import steps
from helpers.forked import on_ranks
from helpers.trainings import FACTORS, alone, assert_same, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError

HOLE = (slice(None), 0, slice(4, 9), slice(20, 31))
"""Pixels that are missing in a third of the images."""


def holed(path: Path) -> Path:
    """The blobs with their noise, some of it lost."""
    data = open_set(blobs(path.with_name("plain.h5")))
    images = np.array(data.images)
    weights = 1 / (5 + images)
    weights[::3][HOLE] = 0
    images[1::7, 0, 30:, 2] = np.nan
    write(path, images, data.values, FACTORS, {}, weights=weights, missing_pixels="nan")
    return path


@pytest.fixture(scope="module")
def holed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return holed(tmp_path_factory.mktemp("holed") / "holed.h5")


@pytest.mark.slow
@pytest.mark.processes
def test_twenty_steps_are_the_same_on_one_two_and_three_processes(holed_file: Path) -> None:
    recorded = {processes: on_ranks(processes, steps.record_holed, holed_file)[0] for processes in (1, 2, 3)}
    for processes in (2, 3):
        together = recorded[processes]
        assert together.keys() == recorded[1].keys()
        for name, value in recorded[1].items():
            assert np.isfinite(value).all(), name
            error = np.linalg.norm(together[name] - value)
            assert error <= 1e-9 * np.linalg.norm(value), name


@pytest.mark.parametrize("objective", ["weighted", "gaussian"])
@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_what_lies_in_a_missing_pixel_changes_no_bit(
    holed_file: Path, tmp_path: Path, objective: str, in_memory: str
) -> None:
    for name, value in (("one", 1e30), ("other", np.nan)):
        path = tmp_path / "set.h5"
        path.write_bytes(holed_file.read_bytes())
        with h5py.File(path, "r+") as file:
            images = file["images"][:]
            images[::3][HOLE] = value
            file["images"][:] = images
        alone(config(path, tmp_path / name, epochs=1, objective=objective, in_memory=in_memory))
    assert_same(tmp_path / "one", tmp_path / "other")
    run, data = load_run(tmp_path / "one"), open_set(path)
    assert np.isfinite(run.encode(data.images, data.scaled()[:, :2])[0]).all()


def test_auto_takes_weights_where_there_are_any(
    holed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone(config(holed_file, tmp_path / "run", epochs=1))
    assert "the file has the noise of each pixel -> --objective weighted" in capsys.readouterr().out
    assert load_run(tmp_path / "run").config.objective == "weighted"
    with pytest.raises(InputError, match=r"plain\.h5: has no weights; allowed with objective weighted"):
        alone(config(holed_file.with_name("plain.h5"), tmp_path / "none", epochs=1, objective="weighted"))
    with pytest.raises(
        InputError, match="pixels are missing, which objective tuned cannot leave out; allowed: objectiv"
    ):
        alone(config(holed_file, tmp_path / "none", epochs=1, objective="tuned"))
