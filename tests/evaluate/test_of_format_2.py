"""Evaluations of sets with more, or less, than images and factors: missing pixels, logarithmic ranges, no factors."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helpers.drawn import of_colour
from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.drawing import MISSING
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.lettering import short
from hpcauxvae.evaluate import control, reader
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


def test_counterfactuals_have_the_holes_of_their_image(figures: list[Figure], tmp_path: Path) -> None:
    """The encoder is shown NaN there, as in training; what a decoder draws there changes no number."""
    data = open_set(blobs(tmp_path / "plain.h5"))
    images, rng = np.array(data.images), np.random.default_rng(0)
    corner = rng.integers(2, 9, 160)
    for image, side in zip(images, corner, strict=True):
        image[0, :side, :5] = np.nan
    write(tmp_path / "set.h5", images, data.values, FACTORS, {}, missing_pixels="nan")
    data, blocks, holes = open_set(tmp_path / "set.h5"), [], []
    network = reader.Network(data.shape, 3).eval()
    known_KF = network.features(np.array(data.images[:40]))
    for drawn in (0.0, 1e6):

        def encode(images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
            holes.append(np.isnan(images).sum((1, 2, 3)))
            return np.c_[u_ND, np.nanmean(images, (1, 2, 3)), np.nanmax(images, (1, 2, 3))], np.full((len(u_ND), 4), -9)

        def decode(z_NZ: NDArray, drawn: float = drawn) -> NDArray:
            made = (z_NZ[:, :1, None, None] + z_NZ[:, 3:, None, None] * np.linspace(0, 1, 33)).astype(np.float32)
            made = np.repeat(made, 33, 2)
            made[:, 0, :2, :5] = drawn
            return made

        run: Any = SimpleNamespace(config=SimpleNamespace(aux_names=("radius", "g1")), encode=encode, decode=decode)
        made = control.counterfactuals(run, data, np.arange(60), 0)
        assert made is not None and made.known is not None
        for part in (made.a, made.reconstruction, made.asked, made.back, made.cycled):
            lowest = np.where(made.known[0], part, np.inf).min((1, 2, 3), keepdims=True)
            np.testing.assert_array_equal(part, np.where(made.known[0], part, lowest))
        read = reader.Reader(network, [0, 1, 2], ["continuous"] * 3, known_KF)
        blocks.append(json.dumps(control.score(made, read, data, ("radius", "g1"))))
    assert blocks[0] == blocks[1] and "unlike" in blocks[0]
    assert all(sorted(of_call) == sorted(5 * corner[:60]) for of_call in holes)
    control.draw(made, None, data, ("radius", "g1"), tmp_path / "a.png")
    rows = np.linspace(0, len(made.a) - 1, 8).astype(int)
    for ax, known in zip(figures[0].axes, [made.known[0]] * 3 + [made.known[1]], strict=False):
        grey = of_colour(np.asarray(ax.images[0].get_array()), MISSING)
        for number, row in enumerate(rows):
            left = number * 36
            assert np.array_equal(grey[:, left : left + 33], ~known[row, 0])


def test_small_values_of_a_logarithmic_range_are_shown() -> None:
    factor = Factor("mass", "kg", 1e-3, 1e3, "continuous", "log10")
    assert [short(factor, value) for value in (0.0012345, 1, 999.9)] == ["0.00123", "1", "1e+03"]
