"""Runs that a factor guides in different ways are compared by what they tell of it; what is left out is said."""

from pathlib import Path

import numpy as np
import pytest

from helpers.kinds import AZIMUTH, SHAPE, SIZE, drawn
from helpers.trainings import alone, config
from hpcauxvae.data.guides import guides_of
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.evaluate import command
from hpcauxvae.evaluate.compared_factors import left_out, of_factors


def test_factors_are_compared_in_their_own_terms(tmp_path: Path) -> None:
    data = open_set(drawn(tmp_path / "set.h5"))
    kinds, raw = (guides_of(data, ("azimuth", "shape"), labels) for labels in ("kinds", "raw"))
    index_N, rng = np.arange(100), np.random.default_rng(0)
    values = data.values[index_N]
    turned_N, class_N = (values[:, 0] + 20) % 360, np.where(index_N < 25, 5.0, values[:, 1])
    by_kinds = np.concatenate([kinds[0].scaled(turned_N), kinds[1].scaled(class_N)], 1) + 0.01 * rng.random((100, 4))
    by_values = np.stack([AZIMUTH.scale(values[:, 0] - 3), SHAPE.scale(values[:, 1] + 0.4)], 1)
    error, accuracy = of_factors(data, index_N, [kinds, raw], [by_kinds, by_values])
    assert (error.name, error.unit, error.better) == ("mean error of azimuth", "deg", "lower")
    assert [score["value"] for score in error.values] == pytest.approx([20, 3], abs=0.6)
    assert error.differences[1]["value"] == pytest.approx(-17, abs=0.6)
    right = float((class_N == values[:, 1]).mean())
    assert accuracy.name == "accuracy of shape" and accuracy.better == "higher"
    assert [score["value"] for score in accuracy.values] == [right, 1] and 0.7 < right < 0.95
    off = (class_N == values[:, 1]) - 1.0
    assert accuracy.differences[1]["value"] == pytest.approx(-off.mean())
    half = 1.959964 * off.std(ddof=1) / 10
    assert accuracy.differences[1]["high"] - accuracy.differences[1]["value"] == pytest.approx(half, rel=1e-3)
    assert of_factors(data, index_N, [raw, raw], [by_values, by_values]) == []


def test_what_is_not_compared_is_said(tmp_path: Path) -> None:
    data = open_set(drawn(tmp_path / "set.h5"))
    one, other = guides_of(data, ("azimuth", "size"), "kinds"), guides_of(data, ("azimuth", "shape", "size"), "raw")
    assert left_out(["a", "b"], [one, other]) == [
        "azimuth guides in different ways (in a by cosine and sine; in b by its values): what is told of it is "
        "compared, not its latents",
        "shape is not compared: it guides in b alone",
    ]
    assert left_out(["a", "b"], [one, one]) == []


def test_a_run_of_kinds_beside_one_of_raw_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn(tmp_path / "set.h5")
    for labels in ("kinds", "raw"):
        fields = {"aux": "azimuth,size", "network": "mlp", "epochs": 1, "labels": labels, "objective": "tuned"}
        assert alone(config(data, tmp_path / labels, **fields)) == 0
    capsys.readouterr()
    assert command.compare([str(tmp_path / "kinds"), str(tmp_path / "raw"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "raw: aux-vae, epoch 1 of 1; labels = raw (kinds)" in said
    assert "  azimuth guides in different ways (in kinds by cosine and sine; in raw by its values)" in said
    rows = [line.split("  ")[1] for line in said.splitlines() if line.startswith("  ")]
    assert f"error of {SIZE.name} [cm]" in rows and "mean error of azimuth [deg]" in rows
    assert command.compare([str(tmp_path / "raw"), str(tmp_path / "kinds"), "--device", "cpu"]) == 0
    assert "kinds: aux-vae, epoch 1 of 1; labels = kinds (raw)" in capsys.readouterr().out
