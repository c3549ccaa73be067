"""Images in other units than those of the training are told; other images of the same kind are not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.trainings import blobs, of_earlier_version
from hpcauxvae.data.hdf5 import split
from hpcauxvae.data.summary import summarise
from hpcauxvae.evaluate import command
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator
from hpcauxvae.evaluate.sets import warn_if_unlike


class Images(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.images)


def told(trained_N: NDArray, peak_N: NDArray, capsys: pytest.CaptureFixture[str], factor: float, zero: float) -> str:
    """What is said of images that are `factor` times as bright, their dark level `zero` too."""
    sets: list[Any] = [
        Images(
            images=images(trained_N, zero),
            values=np.empty((len(trained_N), 0)),
            factors=(),
            provenance={},
            guides=(),
            column=list,
        ),
        Images(path="new.h5", images=factor * images(peak_N, zero)),
    ]
    run: Any = SimpleNamespace(
        folder="run",
        model=SimpleNamespace(maximum=np.quantile(trained_N, 0.95, method="lower") + zero),
    )
    train = split(len(trained_N), 0)[0]
    warn_if_unlike(sets[1], run, summarise(sets[0], [], train))
    return capsys.readouterr().err


def images(peak_N: NDArray, zero: float) -> NDArray:
    """Of 3 x 3 pixels, with these peaks above a dark level."""
    return np.float32(np.linspace(0, 1, 9).reshape(1, 1, 3, 3) * peak_N[:, None, None, None] + zero)


@pytest.mark.parametrize("zero", [0.0, 100.0, -30.0])
@pytest.mark.parametrize("few", [3, 40])
def test_draws_of_the_same_kind_are_not_accused(few: int, zero: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Peaks over four decades, and peaks that are all but alike."""
    rng = np.random.default_rng(0)
    for sigma in (1.5, 0.001):
        trained_N = np.exp(sigma * rng.standard_normal(400))
        for _ in range(30):
            assert told(trained_N, np.exp(sigma * rng.standard_normal(few)), capsys, 1, zero) == ""


def test_images_a_little_brighter_or_darker_are_not_accused(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    trained_N = rng.uniform(200, 300, 400)
    for few, factors in ((1, (0.65, 1.6)), (40, (0.7, 1.4))):
        for factor in factors:
            assert told(trained_N, rng.uniform(240, 260, few), capsys, factor, 0) == ""


@pytest.mark.parametrize("zero", [0.0, 100.0, -30.0])
@pytest.mark.parametrize("few", [1, 40])
@pytest.mark.parametrize("factor", [1e-3, 0.2, 5, 1000])
def test_images_in_other_units_are_told(
    few: int, zero: float, factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    trained_N = rng.uniform(200, 300, 400)
    trained_N[:16] = 1e7  # hot pixels, which the run's brightest training pixel leaves out
    said = told(trained_N, rng.uniform(200, 300, few), capsys, factor, zero)
    assert said.startswith("warning: new.h5: images: a " + "median " * (few > 1) + "peak of ")
    assert said.count("\n") == 1 and " far outside those of the images that run was trained on (" in said


@pytest.mark.parametrize("factor", [1.0, 1e-3])
def test_whoever_encodes_them_is_told(trained_run: Path, tmp_path: Path, factor: float, capsys) -> None:
    """encode, generate and evaluate, of images that were drawn anew, as they are and in thousands."""
    new = blobs(tmp_path / "new.h5", seed=1)
    with h5py.File(new, "r+") as file:
        file["images"][:] *= factor
    words = f"warning: {new}: images: a {{}}peak of 0."
    encoded = [str(trained_run), str(new), str(tmp_path / "codes.h5"), "--device", "cpu"]
    assert command.encode(encoded) == 0
    assert (words.format("median ") in capsys.readouterr().err) == (factor < 1)
    assert command.generate([str(trained_run), "--like", f"{new}:3", "--out", str(tmp_path / "x.fits")]) == 0
    assert (words.format("") in capsys.readouterr().err) == (factor < 1)
    assert Evaluator(EvaluateConfig(run=trained_run, fresh=new, device="cpu")).fresh is not None
    assert (words.format("median ") in capsys.readouterr().err) == (factor < 1)


@pytest.mark.parametrize("there", ["another", "none", "broken"])
@pytest.mark.parametrize("summary", [True, False])
def test_only_a_run_of_an_earlier_version_needs_its_training_set_for_that(
    run_copy: Path, tmp_path: Path, there: str, summary: bool, capsys, monkeypatch
) -> None:
    new = blobs(tmp_path / "new.h5", seed=1)
    with h5py.File(new, "r+") as file:
        file["images"][:] *= 1000
    found = new if there == "another" else tmp_path / "old.h5"
    if there == "broken":
        found.write_bytes(new.read_bytes()[:3000])
    monkeypatch.setattr("hpcauxvae.train.run.data_path", lambda run, given=None: found)
    if not summary:
        of_earlier_version(run_copy)
    assert command.encode([str(run_copy), str(new), str(tmp_path / "codes.h5"), "--device", "cpu"]) == 0
    assert ("as in other units" in capsys.readouterr().err) == summary
