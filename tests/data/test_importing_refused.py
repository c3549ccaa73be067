"""What `data import` cannot take: a line with file, row, field, value and what is allowed; nothing is left behind."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.foreign import FLUX, IDS, RADIUS, H, N, W, catalogue, counts, pictures, write_csv
from hpcauxvae.data.command import main
from hpcauxvae.data.importing import work
from hpcauxvae.types import InputError


def refused(source: Path, message: str, *options: str) -> None:
    """By this message, in one line, with no file more in the folder than before."""
    folder = source.parent
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match=message) as caught:
        main(["import", str(source), str(folder / "out.h5"), "--processes", "1", *options])
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def stamp(row: int, kind: str = "npy") -> str:
    return f"{IDS[row]}.{kind}"


def test_a_missing_file_of_a_thousand(tmp_path: Path) -> None:
    images = np.zeros((1, 1, 3, 3), np.float32)
    (tmp_path / "stamps").mkdir()
    for n in range(1000):
        if n != 777:
            np.save(tmp_path / "stamps" / f"{n}.npy", images[0, 0] + n)
    path = write_csv(
        tmp_path / "cat.csv", file=[f"stamps/{n}.npy" for n in range(1000)], radius=np.linspace(0, 1, 1000)
    )
    where = rf"cat\.csv: file in row 777: {tmp_path}/stamps/777\.npy: no such file; --folder says "
    refused(path, rf"{where}where files lie \(1 of 1000 rows are like that\); allowed: all, or --matched")
    refused(path, "9.npy: no such file; a pattern starts where you are", "--images", "{file}x/9.npy", "--id", "radius")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((H, W + 1)), r"\(row 7\): 9 x 9 pixels; allowed: 9 x 8, as the first image has, or --size H,W"),
        (np.ones((3, H, W)), r"\(row 7\): 3 channels; allowed: 1, as the first image has"),
        (np.full((H, W), np.inf), r"\(row 7\): pixel \(0, 0, 0\) is infinite in float32; allowed: finite"),
        (np.full((H, W), 1e300), r"\(row 7\): pixel \(0, 0, 0\) is infinite in float32; allowed: finite"),
        (np.full((H, W), 1e-300), r"\(row 7\): images: the largest of these pixels is 1e-300, too small for float32"),
        (np.full((H, W), 2**24 + 1), r"\(row 7\): images: pixel 16777217 would be rounded to 16777216"),
        (np.full((H, W), 1j), r"\(row 7\): images: type complex128; allowed: real numbers"),
        (np.full((H, W), "a"), r"\(row 7\): images: type <U1; allowed: real numbers"),
        (np.ones((2, 3, H, W)), r"\(row 7\): the shape \(2, 3, 9, 8\); allowed: an image, or --layout with"),
    ],
)
def test_an_image_unlike_the_others(tmp_path: Path, image: np.ndarray, message: str) -> None:
    path = catalogue(tmp_path, counts(), ".npy")
    np.save(tmp_path / "stamps" / stamp(7), image)
    refused(path, re.escape(stamp(7)) + " " + message)


@pytest.mark.parametrize("value", [256, -1, 0.5, np.nan])
def test_a_pixel_that_does_not_fit_the_type_of_the_first(tmp_path: Path, value: float) -> None:
    path = catalogue(tmp_path, pictures(), ".npy")
    np.save(tmp_path / "stamps" / stamp(7), np.full((H, W), value))
    refused(path, re.escape(stamp(7)) + r" \(row 7\): .*(allowed: (whole|finite)|--dtype float32)")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            {"id": np.where(np.arange(N) == 9, IDS[2], IDS)},
            (),
            rf"id: {IDS[2]} is in row 2 and in row 9; allowed: each",
        ),
        ({"id": IDS.astype(float)}, (), r"id: '1\.2376\d+e\+18' in row 0 is not exact; allowed: text, or all digits"),
        ({"kind": ["spiral"] * N}, ("--columns", "kind"), r"kind: 'spiral' in row 0 is no number; allowed: numbers"),
        ({"radius": np.ones(N)}, ("--columns", "radius"), r"factors, radius: constant \(1\.0\); a factor must vary"),
        ({"radius": [""] * N}, ("--columns", "radius"), r"radius: no row has a value"),
        (
            {"radius": np.where(np.arange(N) == 5, np.inf, RADIUS)},
            ("--columns", "radius"),
            r"radius: 'inf' in row 5 is no number",
        ),
        ({}, ("--columns", "mass"), "no column mass; has id, file, radius"),
        ({}, ("--columns", "radius,radius"), "--columns radius,radius: radius is there more than once"),
        ({}, ("--range", "radius=0:1"), r"factors, radius: 1\.1272\d+ of sample 6 is outside its range 0\.0 to 1\.0"),
        ({}, ("--range", "radius=1:0"), "--range radius=1:0: allowed is NAME=LOW:HIGH, LOW < HIGH"),
        ({}, ("--range", "radius=x"), "--range radius=x: allowed is NAME=LOW:HIGH"),
        ({}, ("--range", "mass=0:1"), "--range mass=0:1: allowed is NAME=VALUE, NAME one of radius"),
        ({}, ("--unit", "radius"), "--unit radius: allowed is NAME=VALUE"),
        ({}, ("--kind", "radius=round"), "--kind radius=round: allowed: continuous, ordinal, periodic, categorical"),
        ({}, ("--layout", "NHWD"), "--layout NHWD: allowed: each axis once, N .samples., C .channels."),
        ({}, ("--layout", "NHWW"), "--layout NHWW: allowed: each axis once"),
        ({}, ("--size", "3"), "--size 3: allowed is H,W, whole numbers from 1 on"),
        ({}, ("--size", "3,0"), "--size 3,0: allowed is H,W"),
        ({}, ("--images", "stamps/x.h5:image"), r"--images stamps/x.h5:image: no column of .*cat\.csv and no file"),
        (
            {},
            ("--images", "radius"),
            r"cat\.csv: radius in row 0: .*/0\.2: no such file; --folder says .* \(12 of 12 rows",
        ),
        ({}, ("--images", "file[SCI]"), r"\.npy: extension SCI; only FITS files have extensions"),
        ({"file": ["stamps/a.doc"] * N}, ("--images", "file"), r"cat\.csv: file in row 0: .*a\.doc: no such file"),
        (
            {"file": ["cat.csv"] * N},
            ("--images", "file"),
            r"--images: .*cat\.csv: unknown kind '\.csv'; allowed: \.fits",
        ),
        ({"file": [""] * N}, ("--images", "file"), r"cat\.csv: file in row 0 names no file \(12 of 12 rows"),
        (
            {"second": ["a.fits"] * N},
            (),
            "--images: not given, and not clear in .*; has file, second; allowed: one of them",
        ),
        ({}, ("--processes", "0"), "--processes 0: allowed is 1 or more"),
    ],
)
def test_options_and_columns(tmp_path: Path, columns: dict, options: tuple[str, ...], message: str) -> None:
    catalogue(tmp_path, counts(), ".npy")
    given = {"id": IDS, "file": [f"stamps/{stamp(n)}" for n in range(N)], "radius": RADIUS} | columns
    refused(write_csv(tmp_path / "cat.csv", **given), message, *options)


def test_catalogues_that_are_empty_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "cat.csv").write_text("id,file,radius\n")
    refused(tmp_path / "cat.csv", r"cat\.csv: no rows below a header line")
    pytest.importorskip("astropy.table").Table({"id": [], "file": []}).write(tmp_path / "t.fits")
    refused(tmp_path / "t.fits", r"t\.fits: the table has no rows")
    refused(tmp_path / "none.csv", r"none\.csv: no such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "folder: holds no images; allowed: .fits")
    refused(tmp_path / "t.doc", r"t\.doc: unknown kind '\.doc'; allowed: \.csv, \.fits")


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "all.h5"
    with h5py.File(path, "w") as file:
        file["image"], file["cube"], file["radius"], file["short"] = counts(3), counts()[:, 0], RADIUS, RADIUS[:5]
        file["last"], file["object"] = np.moveaxis(counts(3), 1, -1), IDS
    refused(path, r"--images: not given, and not clear in .*; has cube, image, last; allowed: one of them")
    refused(path, r"no column images; has ", "--images", f"{path}:images")
    refused(path, r"--images: .*: last has the shape \(12, 9, 8, 3\); allowed: --layout", "--images", "last")
    refused(path, r"--layout NHW: .*: image has the shape \(12, 3, 9, 8\)", "--images", "image", "--layout", "NHW")
    refused(path, r"--columns cube: .*has the shape", "--images", "image", "--columns", "radius,cube")
    refused(
        path,
        r"--columns short: .*short has the shape \(5,\); allowed: 12 values",
        "--images",
        "image",
        "--columns",
        "radius,short",
    )
    table = write_csv(tmp_path / "cat.csv", object=IDS[:9], radius=RADIUS[:9])
    refused(table, r"all\.h5: cube has 12 samples, but .*cat\.csv 9 rows; allowed: as many", "--images", f"{path}:cube")
    table = write_csv(tmp_path / "cat.csv", object=IDS + 1, radius=RADIUS)
    named = rf"{IDS[0] + 1} in row 0 has none of the 12 rows of .*all\.h5: cube \(12 of 12 rows"
    refused(table, named, "--images", f"{path}:cube", "--id", "object")


@pytest.mark.parametrize("kind", [".fits", ".png", ".tif", ".npy"])
def test_a_damaged_image(tmp_path: Path, kind: str) -> None:
    path = catalogue(tmp_path, pictures(), kind)
    file = tmp_path / "stamps" / stamp(7, kind[1:])
    whole = file.read_bytes()
    for content in (b"", whole[:30]):
        file.write_bytes(content)
        refused(path, rf"{re.escape(str(file))} ?(\(row 7\))?: (cannot be read as|holds no image)")


def test_parquet(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def written(**changes: object) -> Path:
        cells: list = [{"band": ["g", "r"], "flux": image.tolist()} for image in counts(2)]
        cells[7] = cells[7] | changes
        parquet.write_table(arrow.table({"image": cells, "radius": RADIUS}), tmp_path / "t.parquet")
        return tmp_path / "t.parquet"

    refused(written(band=["g", "i"]), r"t\.parquet: image\.band in row 7 is g,i; allowed: g,r, as in row 0")
    refused(written(flux=counts(3)[7].tolist()), r"t\.parquet: image\.flux in row 7: 3 channels; allowed: 2")
    refused(written(flux=[[[1.0, 2], [3]]] * 2), r"image\.flux in row 7: lists of 1 and of 2; allowed: lists of one")
    refused(written(flux=None), r"image\.flux in row 7 is empty; allowed: an array in each row")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    refused(tmp_path / "t.parquet", r"t\.parquet: cannot be read as Parquet")


def test_a_set_that_is_there_already(tmp_path: Path) -> None:
    path = catalogue(tmp_path, counts())
    (tmp_path / "out.h5").write_text("mine")
    refused(path, r"out\.h5: exists already")
    assert (tmp_path / "out.h5").read_text() == "mine"


@pytest.mark.processes
@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_exit_code_is_2(tmp_path: Path, processes: str) -> None:
    images = np.concatenate([counts()] * 50)
    np.savez(tmp_path / "all.npz", image=images, flux=np.tile(FLUX, 50))
    images[555] = np.inf
    np.savez(tmp_path / "all.npz", image=images, flux=np.tile(FLUX, 50))
    command = [sys.executable, "-m", "hpcauxvae", "data", "import", "all.npz", "out.h5", "--processes", processes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 2
    where = "all.npz: image in row 555: pixel (0, 0, 0) is infinite in float32"
    assert done.stderr == f"error: {where}; allowed: finite, NaN where it is missing\n"
    assert [path.name for path in tmp_path.iterdir()] == ["all.npz"]


@pytest.mark.parametrize(
    ("cells", "option", "message"),
    [
        (RADIUS, "--group", r"made: type float64, such as 0.2; allowed as --group: text, or whole numbers"),
        (np.where(np.arange(N) == 7, np.nan, 1), "--group", r"made in row 7 is empty; allowed: a group in each row"),
        (np.where(np.arange(N) == 7, "", "a"), "--group", r"made in row 7 is empty; allowed: a group in each row"),
        (np.arange(N) > 3, "--group", r"made: type bool, such as False; allowed as --group: text, or whole numbers"),
        (np.full(N, "a\0b"), "--group", r"out\.h5: group: .*'a\\x00b'.* is no text; allowed: texts, or whole numbers"),
        (np.full(N, "valid"), "--split", r"split: 'valid' of sample 0 is not allowed; train, validation, test"),
    ],
)
def test_a_group_that_the_format_does_not_take(
    tmp_path: Path, cells: np.ndarray, option: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before an image is read, so that nothing is left of these."""
    np.savez(tmp_path / "all.npz", image=counts()[:, 0], radius=RADIUS, made=cells)
    monkeypatch.setattr(work, "_make", lambda *_: pytest.fail("images were read"))
    refused(tmp_path / "all.npz", message, "--images", "image", option, "made")


def test_what_a_full_disk_leaves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images were good: the next start goes on with them. Where none was stored there is nothing to go on with."""
    path, out = catalogue(tmp_path, counts()), tmp_path / "out.h5"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    for place in ("_store", "missing_of"):
        with monkeypatch.context() as patch:
            patch.setattr(work, place, full)
            with pytest.raises(InputError, match=r"out\.h5: No space left on device") as caught:
                main(["import", str(path), str(out), "--processes", "1"])
        kept = f"; {out}.parts keeps what was read, and the same line goes on with it"
        assert str(caught.value).endswith(kept) == (place == "_store")
        assert Path(f"{out}.parts").exists() == (place == "_store")
        assert main(["import", str(path), str(out), "--processes", "1"]) == 0
        out.unlink()
