"""Of labels with errors what is likely is asked for, and real images are held against the true factor."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.evaluate import control
from hpcauxvae.evaluate.reader import Reader
from hpcauxvae.evaluate.steering import control as steering
from hpcauxvae.types import Factor

N = 500


class Pixels:
    """A network that reads the first pixel."""

    def read(self, images: NDArray, rows: NDArray) -> NDArray:
        return images[rows, 0, 0, :1].astype(np.float64)

    def features(self, images: NDArray) -> NDArray:
        return self.read(images, np.arange(len(images)))


def noisy(path: Path, errors: bool) -> ImageSet:
    """Images that show the true factor; labels of which two in three are off, by as much as factors differ."""
    rng = np.random.default_rng(0)
    true_N, s_N = rng.normal(5, 1, N), rng.choice([0.0, 1.0, 1.5], N)
    label_N = true_N + s_N * rng.standard_normal(N)
    images = np.stack([true_N / 10, rng.random(N)], 1)[:, None, None].astype(np.float32)
    known = {"factor_errors": s_N[:, None]} if errors else {}
    write(path, images, label_N[:, None], [Factor("mass", "kg", -5, 15)], {}, **known)
    return open_set(path)


def score(data: ImageSet) -> dict[str, Any]:
    """Of a decoder that draws what is asked for."""

    def code(images: NDArray, u_ND: NDArray, index_N: NDArray | None = None) -> tuple[NDArray, NDArray]:
        rows = np.asarray(images if index_N is None else images[index_N])[:, 0, 0].astype(np.float64)
        return (rows * 10 + [5, 0]) / [20, 1], np.full((len(rows), 2), -9.0)

    def draw(z_NZ: NDArray) -> NDArray:
        return ((z_NZ * [20, 1] - [5, 0]) / [10, 1])[:, None, None].astype(np.float32)

    run: Any = SimpleNamespace(config=SimpleNamespace(aux_names=("mass",)), encode=code, decode=draw)
    made = control.counterfactuals(run, data, np.arange(N), 0)
    assert made is not None
    network: Any = Pixels()

    class InUnits(Reader):
        def read(self, images: NDArray) -> NDArray[np.float64]:
            return (network.read(images, np.arange(len(images))) * 10 + 5) / 20

    return control.score(made, InUnits(network, [0], ["continuous"], network.features(data.images[:])), data, ["mass"])


def test_a_control_that_is_right_looks_right(tmp_path: Path) -> None:
    block = score(noisy(tmp_path / "known.h5", errors=True))
    found = block["effectiveness"]["mass"]
    for part in ("asked", "real"):
        assert found[part]["r"]["value"] == pytest.approx(1, abs=0.02), part
        assert found[part]["slope"]["value"] == pytest.approx(1, abs=0.1), part
        assert found[part]["error"]["value"] == pytest.approx(0, abs=0.35), part
    assert found["asked"]["spread"] < 1, "what is likely varies less than the true factor"
    assert found["of_labels"]["value"] < 0.9
    assert list(steering({"control": block, "reading": {}})) == []


def test_without_known_errors_labels_are_taken_for_true(tmp_path: Path) -> None:
    block = score(noisy(tmp_path / "unknown.h5", errors=False))
    found = block["effectiveness"]["mass"]
    assert found["real"]["r"]["value"] < 0.75 and found["asked"]["spread"] > 1.2 and "of_labels" not in found
    (line,) = steering({"control": block, "reading": {}})
    assert line.startswith("mass steers the image too far")
