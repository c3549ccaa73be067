"""A data set of drawn numbers with three factors, its images stored otherwise, and how `data check` refuses it."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.types import Factor

N, F = 20, 3
SHAPE = (N, 2, 4, 5)
FACTORS = (Factor("mass", "kg", 10, 20), Factor("spin", "", -1, 1), Factor("age", "Gyr", 0, 4))


def content() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    factors = rng.uniform([10, -1, 0], [20, 1, 4], (N, F))
    factors[4, 2] = np.nan
    return rng.normal(size=SHAPE).astype(np.float32), factors


def rewrite_images(path: Path, **layout: object) -> None:
    """The same images, stored otherwise."""
    with h5py.File(path, "r+") as file:
        images = file["images"][:]
        del file["images"]
        file.create_dataset("images", data=images, **layout)


def assert_refused(path: Path, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(path)]) == 2
    captured = capfd.readouterr()
    assert f"error: {path}: {message}" in captured.err and captured.out == ""
    assert all(line.startswith("error: ") for line in captured.err.splitlines())
