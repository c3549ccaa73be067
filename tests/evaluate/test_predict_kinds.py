"""An angle has an interval in its unit, a class a probability and sets, in tables of all kinds and in the figures."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure

import hpcauxvae
from helpers.drawn import texts
from helpers.kinds import AZIMUTH, drawn
from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.splits import parts
from hpcauxvae.evaluate import command
from hpcauxvae.evaluate.calibration import load_calibration
from hpcauxvae.train.run import load_run

COLUMNS = [
    "azimuth", "azimuth_low68", "azimuth_high68", "azimuth_low95", "azimuth_high95", "shape", "shape_p", "shape_set68",
    "shape_set95", "unlike_p", "unlike",
]  # fmt: skip


@pytest.fixture(scope="session")
def folder(once: Callable) -> Path:
    """A run of set.h5, 600 strokes, guided by azimuth and shape, and fresh.h5. To read."""

    def train(folder: Path) -> None:
        data = drawn(folder / "set.h5", n=600)
        drawn(folder / "fresh.h5", n=600, seed=1)
        alone(config(data, folder / "run", aux="azimuth,shape", network="mlp", epochs=5, latents=6, objective="tuned"))

    return once("kinds_to_predict", train)


def predict(folder: Path, *more: str) -> int:
    return command.predict([str(folder / "run"), *more, "--device", "cpu"])


def test_columns_and_what_they_cover(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = pytest.importorskip("astropy.table")
    parquet = pytest.importorskip("pyarrow.parquet")
    fresh = folder / "fresh.h5"
    for kind in ("h5", "ecsv", "fits", "parquet"):
        assert predict(folder, str(fresh), str(tmp_path / f"x.{kind}"), "--json", str(tmp_path / f"{kind}.json")) == 0
    said = capsys.readouterr().out.splitlines()
    ecsv, fits = (tables.Table.read(tmp_path / f"x.{kind}") for kind in ("ecsv", "fits"))
    of_parquet = parquet.read_table(tmp_path / "x.parquet")
    assert ecsv.colnames == fits.colnames == of_parquet.column_names == COLUMNS
    with h5py.File(tmp_path / "x.h5") as file:
        sets = file["shape_set95"].asstr()[:].tolist()
        assert file["azimuth_low95"].attrs["unit"] == "deg"
    assert {str(ecsv[name].unit) for name in COLUMNS[:5]} == {"deg"} and ecsv["shape"].unit is None
    assert sets == [*map(str, ecsv["shape_set95"])] == fits["shape_set95"].tolist()
    assert sets == of_parquet["shape_set95"].to_pylist() and "1 2 5" in sets
    truth = open_set(fresh).values
    figures = json.loads((tmp_path / "h5.json").read_text())["factors"]
    off = np.abs((ecsv["azimuth"] - truth[:, 0] + 180) % 360 - 180)
    assert figures["azimuth"]["error"]["value"] == pytest.approx(off.mean()) and off.max() <= 180
    for level in ("68", "95"):
        low, high = (np.array(ecsv[f"azimuth_{end}{level}"]) for end in ("low", "high"))
        inside = (truth[:, 0] - low) % 360 <= high - low
        held = [
            f"{of:g}" in told.split() for of, told in zip(truth[:, 1], map(str, ecsv[f"shape_set{level}"]), strict=True)
        ]
        assert figures["azimuth"][level] == {"covered": inside.mean(), "width": pytest.approx(np.median(high - low))}
        assert figures["shape"][level]["covered"] == np.mean(held)
        assert inside.mean() == pytest.approx(int(level) / 100, abs=0.09) and np.mean(held) > int(level) / 100 - 0.09
    right = (np.array(ecsv["shape"]) == truth[:, 1]).mean()
    assert figures["shape"]["accuracy"]["value"] == right == pytest.approx(np.mean(ecsv["shape_p"]), abs=0.1)
    assert any(line.startswith(f"azimuth: mean error {off.mean():.3g} deg; 68 % intervals cover ") for line in said)
    assert any(line.startswith(f"shape: accuracy {right:.2f}; 68 % sets cover ") for line in said)


def test_the_door_gives_the_same(folder: Path) -> None:
    fresh = open_set(folder / "fresh.h5")
    found = hpcauxvae.load(folder / "run", device="cpu", data=folder / "set.h5").predict(fresh.images[:50])
    assert found.colnames == COLUMNS and found["azimuth_low68"].unit == "deg" and found.meta["levels"] == "68,95"
    assert found.meta["weights"] == load_run(folder / "run").digest and found["shape_set68"].dtype.kind == "U"


def test_ends_lie_about_the_angle_and_scores_are_of_the_validation_part(folder: Path) -> None:
    run, data = load_run(folder / "run"), open_set(folder / "set.h5")
    hpcauxvae.load(folder / "run", device="cpu", data=folder / "set.h5").predict(data.images[:1])
    calibration = load_calibration(run)
    assert calibration is not None and [len(reader.score_M) for reader in calibration.readers] == [120, 120]
    assert calibration.about["samples"] == len(parts(data, 0)[1]) == 120
    mean_NZ, logvar_NZ = run.encode(data.images)
    found = calibration.predict(mean_NZ, logvar_NZ, np.ones((600, 2)))
    for level in ("68", "95"):
        low, high = found[f"azimuth_low{level}"], found[f"azimuth_high{level}"]
        np.testing.assert_allclose((low + high) / 2, found["azimuth"], rtol=0, atol=2e-5)  # of 360, by float32
        assert (high > low).all() and (high - low <= 360 + 1e-9).all()
    assert ((found["azimuth"] >= 0) & (found["azimuth"] < 360)).all() and found["azimuth_low95"].min() < 0


def test_labels_of_another_unit_or_class_are_not_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = open_set(folder / "fresh.h5")
    values = np.stack([np.radians(fresh.values[:, 0]), fresh.values[:, 1]], 1)
    values[:7, 1] = 3
    factors = [AZIMUTH._replace(unit="rad", high=7), fresh.factors[1]]
    write(tmp_path / "other.h5", np.array(fresh.images), values, factors, {})
    assert predict(folder, str(tmp_path / "other.h5"), str(tmp_path / "x.h5")) == 0
    said = capsys.readouterr()
    assert "factors, azimuth: unit 'rad', in training it was 'deg': not compared" in said.err
    assert "shape: labels of 7 images are of a class that the run was not trained on: not compared" in said.err
    assert "azimuth: mean error" not in said.out and "(593 labels)" in said.out


def test_coverage_of_a_runs_own_images_is_told_of_those_that_it_has_not_seen(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: list[Figure]
) -> None:
    data, made = open_set(folder / "set.h5"), tmp_path / "x.json"
    assert predict(folder, str(data.path), str(tmp_path / "x.h5"), "--json", str(made)) == 0
    said, told = capsys.readouterr(), json.loads(made.read_text())
    assert "420 of these 600 images were trained on, and 120 gave the intervals" in said.err
    assert "what intervals cover is told of the 60 others, of the run's test part" in said.err
    assert said.out.count("(60 labels of the run's test part)") == 2
    assert "chance, 60 labels of the run's test part" in texts(figures[0])
    with h5py.File(tmp_path / "x.h5") as file:
        low, high = (file[f"azimuth_{end}68"][:] for end in ("low", "high"))
    inside, test = (data.values[:, 0] - low) % 360 <= high - low, parts(data, 0)[2]
    assert told["judged"] == "test part" and told["factors"]["shape"]["labels"] == 60
    assert told["factors"]["azimuth"]["68"]["covered"] == inside[test].mean() != inside.mean()
    assert told["factors"]["azimuth"]["68"]["width"] == pytest.approx(np.median((high - low)[test]))
    assert predict(folder, str(data.path), str(tmp_path / "x.h5")) == 0
    assert capsys.readouterr().out == f"{tmp_path}/x.h5: is there already, of these images and weights\n"
    assert predict(folder, str(folder / "fresh.h5"), str(tmp_path / "y.h5")) == 0
    said = capsys.readouterr()
    assert "were trained on" not in said.err and "(600 labels)" in said.out
