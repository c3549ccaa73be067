"""What a run keeps of its data: of the training part alone, for ever, and the same on any number of processes."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.trainings import FACTORS, alone, blobs, config, of_earlier_version
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.data.summary import Summary, summarise
from hpcauxvae.train.run import load_run, summary_of
from hpcauxvae.types import InputError

TRAIN = split(160, 0)[0]
SIDE = FACTORS[1]._replace(low=-1, high=1)
"""Of an angle."""


def test_labels_peaks_and_units_of_the_training_part(tmp_path: Path) -> None:
    """The other parts hold images a thousand times as bright, and labels at the ends of their ranges."""
    path = blobs(tmp_path / "blobs.h5")
    others = np.setdiff1d(np.arange(160), TRAIN)
    with h5py.File(path, "r+") as file:
        file.attrs["image_unit"], file.attrs["image_origin"] = "counts", "lower"
        images, values = file["images"][:], file["factors"][:]
        images[others] *= 1000
        values[others, :2] = 1.0, 0.5
        file["images"][:], file["factors"][:] = images, values
    alone(config(path, tmp_path / "run", epochs=1, network="mlp"))
    found = summary_of(load_run(tmp_path / "run"))
    peaks = images[TRAIN].max((1, 2, 3))
    np.testing.assert_allclose(found.typical, np.median(values[TRAIN][:, :2], 0))
    np.testing.assert_allclose(found.quantiles, np.quantile(values[TRAIN][:, :2], (0.05, 0.5, 0.95), 0))
    np.testing.assert_allclose(found.peaks, np.quantile(peaks, (0.01, 0.99)))
    assert found.darkest == np.median(images[TRAIN].min((1, 2, 3)))
    assert found.angles == [] and found.stuck == []
    assert found.provenance == {"image_unit": "counts", "image_origin": "lower"}
    data = open_set(path)
    assert found == summarise(data, ("radius", "g1"), TRAIN), "some hundred images are all of them"


def test_classes_and_angles_are_typical_as_they_occur(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turn, kind = rng.uniform(0, 2 * np.pi, 160), rng.choice([0.0, 1.0, 2.0], 160, p=[0.2, 0.2, 0.6])
    values = np.stack([np.cos(turn), kind, np.sin(turn)], 1)
    factors = (SIDE._replace(name="c"), FACTORS[2]._replace(kind="categorical"), SIDE._replace(name="s"))
    write(tmp_path / "x.h5", rng.random((160, 1, 8, 8)), values, factors, {})
    found = summarise(open_set(tmp_path / "x.h5"), ("c", "flux", "s"), TRAIN)
    assert found.angles == [(0, 2)] and found.typical[1] == 2
    assert [found.typical[0], found.typical[2]] in values[TRAIN][:, [0, 2]].tolist()
    assert Summary.of(found._asdict() | {"of a later version": 1}) == found


def test_a_run_that_is_trained_longer_keeps_it(run_copy: Path) -> None:
    first = load_run(run_copy)
    assert alone(config(first.config.data, run_copy, epochs=3, resume="auto")) == 0
    again = load_run(run_copy)
    assert again.state["epoch"] == 3 and again.state["summary"] == first.state["summary"]


def test_a_run_of_an_earlier_version_goes_on_and_asks_for_its_data(run_copy: Path) -> None:
    wanted = summary_of(load_run(run_copy))
    of_earlier_version(run_copy)
    run = load_run(run_copy)
    assert summary_of(run) == wanted == summary_of(run, open_set(run.config.data))
    assert alone(config(run.config.data, run_copy, epochs=3, resume="auto")) == 0
    assert "summary" not in load_run(run_copy).state
    object.__setattr__(run.config, "data", Path("gone.h5"))
    with pytest.raises(InputError, match=r"gone\.h5: no such file"):
        summary_of(run)


def test_a_model_without_factors_has_one(tmp_path: Path) -> None:
    alone(config(blobs(tmp_path / "b.h5"), tmp_path / "run", epochs=1, network="mlp", model="beta-vae", aux=""))
    found = summary_of(load_run(tmp_path / "run"))
    assert found.typical == [] and found.peaks[0] > found.darkest
