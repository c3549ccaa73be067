"""A small made data set, and trainings of it in the process of the test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcauxvae.data.hdf5 import write
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train import checkpoint
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.loop import train
from hpcauxvae.types import Factor

STEPS = 7  # of an epoch of `config`: 112 samples in batches of 16
FACTORS = (Factor("radius", "arcsec", 0.1, 1.0), Factor("g1", "", -0.5, 0.5), Factor("flux", "count", 0.0, 100.0))


def blobs(path: Path, seed: int = 0, noiseless: bool = False) -> Path:
    """160 Poisson blobs whose width, asymmetry and brightness are the factors."""
    rng = np.random.default_rng(seed)
    u = rng.random((160, 3))
    y, x = np.mgrid[-1:1:33j, -1:1:33j]
    width = 0.1 + 0.3 * u[:, 0, None, None]
    stretch = 0.5 + u[:, 1, None, None]
    profile = np.exp(-(x**2 * stretch + y**2 / stretch) / (2 * width**2))
    expected = profile * (20 + 80 * u[:, 2, None, None])
    counts = expected if noiseless else rng.poisson(expected)
    values = np.stack([f.unscale(column) for f, column in zip(FACTORS, u.T, strict=True)], 1)
    write(path, counts[:, None].astype(np.float32), values, FACTORS, {"simulator": "blobs", "seed": seed})
    return path


def config(data: Path, out: Path, **fields: Any) -> TrainConfig:
    defaults: dict[str, Any] = {"aux": "radius,g1", "epochs": 2, "batch_size": 16, "device": "cpu"}
    return TrainConfig(data=data, out=out, **(defaults | fields))


def alone(config: TrainConfig) -> int:
    """Trains in this process; the exit code."""
    return train(config, start(find_world({}), "cpu"))


def tensors(run: Path) -> dict[str, np.ndarray]:
    """The last checkpoint's."""
    return {name: tensor.numpy() for name, tensor in checkpoint.read(run / checkpoint.LAST)[0].items()}


def of_earlier_version(run: Path) -> None:
    """Makes the last checkpoint one that keeps no summary of the data."""
    tensors, state = checkpoint.read(run / checkpoint.LAST)
    del state["summary"]
    checkpoint.write((run / checkpoint.LAST).resolve(), tensors, state)


def assert_same(one: Path, other: Path) -> None:
    """Bit for bit, and the same rows but for the times."""
    expected, found = tensors(one), tensors(other)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    rows = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    assert len(rows[0]) == len(rows[1])
    for row, other_row in zip(*rows, strict=True):
        for group in ("train", "validation"):
            assert other_row[group] == pytest.approx(row[group], rel=1e-12)
            assert list(other_row[group]) == list(row[group])
        assert (other_row["epoch"], other_row["learning_rate"]) == (row["epoch"], row["learning_rate"])
