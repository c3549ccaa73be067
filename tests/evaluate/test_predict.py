"""Predictions of new images: the same table in any form, on any ranks, however often it was interrupted."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io.fits import PrimaryHDU
from numpy.typing import NDArray

from helpers.ranks import ends, start_ranks
from helpers.trainings import FACTORS, blobs
from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.evaluate import encode
from hpcauxvae.evaluate.calibration import calibrate, load_calibration, measured
from hpcauxvae.evaluate.chunks import parts_of
from hpcauxvae.evaluate.command import PredictConfig
from hpcauxvae.evaluate.predict import Predictor, predict
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run, training_set
from hpcauxvae.types import InputError

ALONE = start(find_world({}), "cpu")
# Chunks of 50 samples, the last one of 10.
PROGRAM = """
import sys
from hpcauxvae import cli
from hpcauxvae.evaluate import command, encode
encode.CHUNK = 50
cli.run(lambda: command.predict(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "CHUNK", 50)


@pytest.fixture
def run(run_copy: Path, blobs_file: Path) -> Path:
    """A run that is calibrated, and whose data set is gone."""
    calibrate(load_run(run_copy), open_set(blobs_file)).write(run_copy)
    return run_copy


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return blobs(tmp_path / "fresh.h5", seed=1)


def settings(run: Path, source: Path, out: Path, **fields: object) -> PredictConfig:
    return PredictConfig(**({"run": run, "source": source, "out": out, "device": "cpu"} | fields))  # type: ignore[arg-type]


def expected(run: Path, data: ImageSet) -> dict[str, NDArray]:
    """Of the blobs that the run was trained on, the calibration, and the codes of these images."""
    trained = load_run(run)
    found = measured(trained, data.images)
    calibration = calibrate(trained, training_set(load_run(run), run.parent / "blobs.h5"))
    return calibration.predict(found.mean_NZ, found.logvar_NZ, found.score_NS)


def content(path: Path) -> dict[str, NDArray]:
    with h5py.File(path) as file:
        return {name: stored.asstr()[:] if stored.dtype == object else stored[:] for name, stored in file.items()}


def same(found: dict[str, NDArray], wanted: dict[str, NDArray]) -> None:
    """A convolution on the CPU may round otherwise where its memory is aligned otherwise."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_first_time_a_run_is_calibrated_and_then_its_folder_is_enough(
    run_copy: Path, blobs_file: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(blobs_file, tmp_path / "blobs.h5")
    gone = settings(run_copy, fresh, tmp_path / "gone.h5", data=tmp_path / "nowhere.h5")
    with pytest.raises(InputError, match=r"not calibrated yet, .*nowhere\.h5: no such file; .* --data FILE tells"):
        predict(gone, ALONE)
    assert predict(settings(run_copy, fresh, tmp_path / "one.h5", data=tmp_path / "blobs.h5"), ALONE) == 0
    said = capsys.readouterr().out
    assert f"{run_copy}: calibrated on the validation part of {tmp_path}/blobs.h5" in said
    assert "radius: 32 validation samples, fewer than 100: all images have intervals of one width" in said
    same(content(tmp_path / "one.h5"), expected(run_copy, open_set(fresh)))
    assert predict(gone, ALONE) == 0
    assert "validation part" not in capsys.readouterr().out
    same(content(tmp_path / "gone.h5"), content(tmp_path / "one.h5"))
    assert not list(tmp_path.glob("*.parts"))
    other = settings(run_copy, fresh, tmp_path / "best.h5", data=tmp_path / "blobs.h5", checkpoint="best")
    assert predict(other, ALONE) == 0
    several = load_run(run_copy, "best.safetensors").state["step"] != load_run(run_copy).state["step"]
    assert len(list(run_copy.glob("calibration-*"))) == 1 + several, "each checkpoint has its own"


def test_tables_of_all_kinds_are_the_same(run: Path, fresh: Path, tmp_path: Path) -> None:
    Table = pytest.importorskip("astropy.table").Table
    parquet = pytest.importorskip("pyarrow.parquet")
    data, ids = open_set(fresh), [f"blob {n}{'µ' * (n % 3)}" for n in range(160)]
    named = tmp_path / "named.h5"
    write(named, data.images[:], data.values, data.factors, {}, id=ids)
    for kind in ("h5", "ecsv", "fits", "parquet"):
        assert predict(settings(run, named, tmp_path / f"out.{kind}"), ALONE) == 0
    wanted = content(tmp_path / "out.h5")
    assert wanted.pop("id").tolist() == ids
    ecsv, fits = Table.read(tmp_path / "out.ecsv"), Table.read(tmp_path / "out.fits")
    table = parquet.read_table(tmp_path / "out.parquet")
    names = ["id", "radius", "radius_low68", "radius_high68", "radius_low95", "radius_high95", "g1"]
    assert ecsv.colnames[:7] == fits.colnames[:7] == table.column_names[:7] == names
    assert ecsv["id"].tolist() == table["id"].to_pylist() == ids
    assert fits["id"].tolist() == [name.replace("µ", "\\xb5") for name in ids]
    for name, values in wanted.items():
        for found in (ecsv[name], fits[name], table[name].to_numpy()):
            np.testing.assert_array_equal(np.asarray(found), values, name)
    assert str(ecsv["radius_low68"].unit) == str(fits["radius_low68"].unit) == "arcsec" and ecsv["g1"].unit is None
    assert table.schema.field("radius").metadata == {b"unit": b"arcsec"}
    digest, tables = (
        load_run(run).digest,
        (ecsv.meta["weights"], fits.meta["WEIGHTS"]),
    )
    assert {*tables, table.schema.metadata[b"weights"].decode()} == {digest}
    again = Table.read(tmp_path / "out.parquet")
    assert str(again["radius_high95"].unit) == "arcsec" and again.meta == ecsv.meta
    assert ecsv.meta["levels"] == fits.meta["LEVELS"] == "68,95" and ecsv.meta["software"].startswith("hpcauxvae 0")
    cells = [line.split() for line in (tmp_path / "out.ecsv").read_text().splitlines() if not line.startswith("#")]
    place = cells[0].index("radius_low68") - len(cells[0])
    assert max(len(row[place]) for row in cells[1:]) <= len("-0.12345678"), "to the digits of float32"
    assert (tmp_path / "out.fits").stat().st_size % 2880 == 0, "whole blocks, as FITS wants them"
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["weights"] == digest and file["radius"].attrs["unit"] == "arcsec"


def test_what_was_left_undone_is_done_on_another_number_of_ranks(run: Path, fresh: Path, tmp_path: Path) -> None:
    predict(settings(run, fresh, tmp_path / "whole.h5"), ALONE)
    for ranks in (2, 3):
        config = settings(run, fresh, tmp_path / f"of{ranks}.h5")
        trained = load_run(run)
        calibration = load_calibration(trained)
        assert calibration is not None
        work = Predictor(config, trained, ALONE, open_set(fresh), calibration)
        work.parts.mkdir()
        work.do(0)
        work.do(2)
        torn = work.parts / "0000002.safetensors"
        torn.write_bytes(torn.read_bytes()[:-1])
        assert work.missing() == [1, 2, 3]
        codes, errors = ends(start_ranks(ranks, run, fresh, config.out, "--device", "cpu", program=("-c", PROGRAM)))
        assert codes == [0] * ranks, errors
        same(content(config.out), content(tmp_path / "whole.h5"))
        assert not work.parts.exists() and (tmp_path / f"of{ranks}.calibration.png").exists()


def test_a_start_after_a_kill_at_the_very_end_finishes(run: Path, fresh: Path, tmp_path: Path) -> None:
    for kind in ("ecsv", "fits", "parquet", "h5"):
        config = settings(run, fresh, tmp_path / f"out.{kind}")
        assert predict(config, ALONE) == 0
        before = config.out.read_bytes()
        parts_of(config.out).mkdir()
        assert predict(config, ALONE) == 0
        assert not parts_of(config.out).exists() and config.out.read_bytes() == before
        assert predict(config, ALONE) == 0
        with pytest.raises(InputError, match="exists already"):
            predict(settings(run, blobs(tmp_path / f"{kind}.h5", seed=5), config.out), ALONE)
        assert config.out.read_bytes() == before and not parts_of(config.out).exists()


@pytest.mark.parametrize("images", [1, 7])
def test_images_without_labels(run: Path, fresh: Path, tmp_path: Path, images: int) -> None:
    data = open_set(fresh)
    write(tmp_path / "plain.h5", data.images[:images], None, [], {})
    assert predict(settings(run, tmp_path / "plain.h5", tmp_path / "out.h5"), ALONE) == 0
    predict(settings(run, fresh, tmp_path / "all.h5"), ALONE)
    same(content(tmp_path / "out.h5"), {name: of[:images] for name, of in content(tmp_path / "all.h5").items()})
    assert not (tmp_path / "out.calibration.png").exists() and (tmp_path / "all.calibration.png").exists()


def test_images_of_other_forms_are_imported_and_nothing_is_left(
    run: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_set(fresh)
    predict(settings(run, fresh, tmp_path / "all.h5"), ALONE)
    capsys.readouterr()
    wanted = {name: of[:60] for name, of in content(tmp_path / "all.h5").items()}
    np.savez(tmp_path / "plain.npz", stack=np.moveaxis(data.images[:60], 1, -1), radius=data.values[:60, 0])
    config = settings(run, tmp_path / "plain.npz", tmp_path / "npz.h5", images="stack", layout="NHWC", processes=1)
    assert predict(config, ALONE) == 0
    same(content(tmp_path / "npz.h5"), wanted)
    said = capsys.readouterr().out
    assert "radius: mean error 0." in said and "g1: mean error" not in said
    (tmp_path / "stamps").mkdir()
    for number in range(3):
        np.save(tmp_path / "stamps" / f"{number}.npy", data.images[number, 0])
    assert predict(settings(run, tmp_path / "stamps", tmp_path / "one.h5", images="file", processes=1), ALONE) == 0
    found = content(tmp_path / "one.h5")
    assert found.pop("id").tolist() == ["0", "1", "2"]
    same(found, {name: of[:3] for name, of in wanted.items()})
    PrimaryHDU(np.array(data.images[0, 0], np.float32)).writeto(tmp_path / "stamp 0.fits")
    assert predict(settings(run, tmp_path / "stamp 0.fits", tmp_path / "fits.h5", processes=1), ALONE) == 0
    found = content(tmp_path / "fits.h5")
    assert found.pop("id").tolist() == ["stamp 0"], "a file of one image"
    same(found, {name: of[:1] for name, of in wanted.items()})
    np.save(tmp_path / "single.npy", data.images[0, 0])
    assert predict(settings(run, tmp_path / "single.npy", tmp_path / "single.h5", processes=1), ALONE) == 0
    found = content(tmp_path / "single.h5")
    assert found.pop("id").tolist() == ["single"], "an array of the shape of an image is one"
    same(found, {name: of[:1] for name, of in wanted.items()})
    np.savez(tmp_path / "wide.npz", stack=np.ones((4, 33, 40), np.float32))
    with pytest.raises(InputError, match=r"wide\.npz: images of \(1, 33, 40\); allowed: \(1, 33, 33\), or --size"):
        predict(settings(run, tmp_path / "wide.npz", tmp_path / "wide.h5", layout="NHW"), ALONE)
    assert not list(tmp_path.glob("*.parts"))


def test_labels_tell_what_intervals_cover(
    run: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_set(fresh)
    values = data.values.copy()
    values[:40, 0] += 2
    values[40:60, 0] = np.nan
    factors = [FACTORS[0]._replace(high=4), FACTORS[1]._replace(unit="deg"), FACTORS[2]]
    write(tmp_path / "far.h5", data.images[:], values, factors, {})
    assert predict(settings(run, tmp_path / "far.h5", tmp_path / "out.h5"), ALONE) == 0
    said, found = capsys.readouterr(), content(tmp_path / "out.h5")
    inside = (found["radius_low68"] <= values[:, 0]) & (values[:, 0] <= found["radius_high68"])
    width = np.median(found["radius_high68"] - found["radius_low68"])
    share = 100 * inside[~np.isnan(values[:, 0])].mean()
    error = np.nanmean(np.abs(found["radius"] - values[:, 0]))
    start = f"radius: mean error {error:.3g} arcsec; 68 % intervals"
    assert f"{start} cover {share:.1f} %, median width {width:.3g} arcsec; 95 % " in said.out
    assert "(140 labels)" in said.out and "g1: mean" not in said.out
    assert "factors, g1: unit 'deg', in training it was '': not compared" in said.err
    assert "40 of them outside the range of the training, 0.1 to 1 arcsec: intervals promise nothing there" in said.err


def test_columns_of_one_name_are_refused_before_any_image_is_read(run: Path, fresh: Path, tmp_path: Path) -> None:
    """As those of a factor m beside m_low68; in FITS also of m beside M."""
    tensors, state = checkpoint.read(run / checkpoint.LAST)
    for names, ids, out, words in (
        (("unlike", "g1"), None, "x.h5", "two of its columns would be called unlike"),
        (("m", "m_low68"), None, "x.ecsv", "two of its columns would be called m_low68"),
        (("m", "M"), None, "x.fits", "would be called m, .* names that differ, or another kind of file"),
        (("id", "M"), [*map(str, range(160))], "x.h5", "would be called id, "),
        (("m", "M"), None, "x.h5", "not calibrated yet"),
    ):
        for column, name in enumerate(names):
            state["factors"][column][0] = name
        state["config"]["aux"] = ",".join(names)
        checkpoint.write((run / checkpoint.LAST).resolve(), tensors, state)
        for path in run.glob("calibration-*"):
            path.unlink()
        images = tmp_path / f"{names[0]}.h5"
        images.unlink(missing_ok=True)
        write(images, open_set(fresh).images[:], None, [], {}, id=ids)
        with pytest.raises(InputError, match=words):
            predict(settings(run, images, tmp_path / out, data=tmp_path / "nowhere.h5"), ALONE)


def test_bad_input_is_refused_and_nothing_is_left(run: Path, fresh: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.ecsv"
    there.write_text("mine")
    write(tmp_path / "wide.h5", np.ones((4, 1, 33, 40), np.float32), None, [], {})
    (tmp_path / "text.h5").write_text("no HDF5")
    for source, out, message in (
        (fresh, there, r"there\.ecsv: exists already"),
        (
            fresh,
            tmp_path / "out.csv",
            r"out = .*out\.csv; allowed: a name that ends in \.ecsv, \.fits, \.parquet, \.h5",
        ),
        (tmp_path / "wide.h5", tmp_path / "out.h5", r"images of \(1, 33, 40\); allowed: \(1, 33, 33\)"),
        (tmp_path / "none.h5", tmp_path / "out.h5", r"none\.h5: no such file"),
        (tmp_path / "text.h5", tmp_path / "out.h5", r"text\.h5: cannot be read as HDF5"),
        (fresh, tmp_path / "no" / "out.h5", r"folder .*no does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            predict(settings(run, source, out), ALONE)
    with pytest.raises(InputError, match=r"there\.ecsv: exists already"):
        predict(settings(run, fresh, tmp_path / "out.h5", json=there), ALONE)
    with pytest.raises(InputError, match="nowhere does not exist"):
        predict(settings(run, fresh, tmp_path / "out.h5", json=tmp_path / "nowhere" / "x.json"), ALONE)
    assert there.read_text() == "mine"
    assert not list(tmp_path.glob("*.parts"))
