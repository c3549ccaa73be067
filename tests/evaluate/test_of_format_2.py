"""Evaluations of sets with more, or less, than images and factors: missing pixels, logarithmic ranges, no factors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import control, pictures
from hpcauxvae.evaluate.command import evaluate
from hpcauxvae.types import Factor


def test_a_run_without_factors_is_evaluated(tmp_path: Path) -> None:
    """Its images are scored and drawn; there is nothing to correlate codes with."""
    data = open_set(blobs(tmp_path / "plain.h5"))
    write(tmp_path / "set.h5", data.images[:], None, [], {})
    alone(config(tmp_path / "set.h5", tmp_path / "run", epochs=1, aux="", model="beta-vae"))
    assert evaluate([str(tmp_path / "run"), "--device", "cpu"]) == 0
    block = json.loads((tmp_path / "run" / "metrics.json").read_text())["sets"]["test"]
    assert block["images"]["ssim"]["n"] == 16
    drawn = {path.name for path in (tmp_path / "run" / "pictures").iterdir()}
    assert "reconstructions-test.png" in drawn and not {"scatter-test.png", "correlations-test.png"} & drawn


def test_counterfactuals_are_of_images_with_their_holes(tmp_path: Path) -> None:
    """The encoder is given NaN where a pixel is missing, as in training, and whole images of what is decoded."""
    data = open_set(blobs(tmp_path / "plain.h5"))
    images = np.array(data.images)
    images[:, 0, :3, :5] = np.nan
    write(tmp_path / "set.h5", images, data.values, FACTORS, {}, missing_pixels="nan")
    holes = []

    def encode(images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
        holes.append(int(np.isnan(images).sum()))
        return np.c_[u_ND, u_ND], np.zeros((len(u_ND), 4))

    run: Any = SimpleNamespace(
        config=SimpleNamespace(aux_names=("radius", "g1")), encode=encode,
        decode=lambda z_NZ: np.zeros((len(z_NZ), 1, 33, 33), np.float32),
    )  # fmt: skip
    made = control.counterfactuals(run, open_set(tmp_path / "set.h5"), np.arange(30), 0)
    assert made is not None and np.isfinite(made.a).all()
    assert holes[0] == 30 * 15 and not any(holes[1:])


def test_small_values_of_a_logarithmic_range_are_shown() -> None:
    factor = Factor("mass", "kg", 1e-3, 1e3, "continuous", "log10")
    assert [pictures.short(factor, value) for value in (0.0012345, 1, 999.9)] == ["0.00123", "1", "1e+03"]
