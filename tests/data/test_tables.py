"""Ids are exact or refused, numbers are what the table says, in every kind of table; the recipes of the page work."""

import gzip
import re
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.places import ROOT
from hpcauxvae.data.hdf5 import open_set, validate, write
from hpcauxvae.data.tables import Catalogue, read_catalogue, read_columns
from hpcauxvae.types import Factor, InputError

N = 20
IDS = 1237648720693755918 + 3 * np.arange(N)  # most share their float64 with a neighbour
MASS = np.linspace(1, 49, N)
KINDS = ["t.csv", "t.csv.gz", "t.fits", "t.fits.gz", "T.FIT", "t.h5"]


def write_table(path: Path, **columns: np.ndarray) -> Path:
    kind = path.name.lower()
    if ".csv" in kind:
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        opener = gzip.open if kind.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8-sig") as file:
            file.write("\n".join(lines) + "\n")
    elif ".fit" in kind:
        table = pytest.importorskip("astropy.table").Table(columns)
        table.write(path.with_name("plain.fits"), overwrite=True)
        data = path.with_name("plain.fits").read_bytes()
        path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column.astype("S") if column.dtype.kind == "U" else column
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "ids", [IDS, IDS.astype(">i8"), IDS.astype("u8"), IDS.astype("U"), np.array([f"J{n}-3" for n in IDS])]
)
def test_ids_are_exact(tmp_path: Path, kind: str, ids: np.ndarray) -> None:
    path = write_table(tmp_path / kind, id=ids, radius=MASS / 2, mass=MASS.astype(">f4"))
    catalogue = read_catalogue(path, "id", ["mass", "radius"])
    assert catalogue.ids == tuple(str(name) for name in ids.tolist())
    np.testing.assert_allclose(catalogue.values, np.stack([MASS, MASS / 2], 1), rtol=1e-7)
    np.testing.assert_array_equal(read_columns(path, ["mass", "radius"]), catalogue.values)
    order = np.random.default_rng(0).permutation(N)[:7]
    np.testing.assert_array_equal(catalogue.rows_of(ids[order]), order)
    np.testing.assert_array_equal(catalogue.rows_of(str(name) for name in ids[order]), order)


@pytest.mark.parametrize("kind", ["t.csv", "t.fits", "t.h5"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS.astype(float), r"id: (1.23764872069375\d+e\+18|'1.23764872069375\d+e\+18') in row 0 is not exact"),
        (
            np.where(np.arange(N) == 9, IDS[2], IDS),
            rf"id: {IDS[2]} is in row 2 and in row 9; allowed: each object once",
        ),
        (np.where(np.arange(N) == 9, " 7", np.arange(N).astype("U2")), r"id: 7 is in row 7 and in row 9"),
        (
            np.array([f"1.237{n}E+18" for n in range(N)]),
            r"id: '1.2370E\+18' in row 0 is not exact; allowed: text, or all",
        ),
        (np.where(np.arange(N) == 3, "", IDS.astype("U")), r"id: (row 3 has no id|'' in row 3 is not exact)"),
    ],
)
def test_ids_that_are_not_exact_or_not_different(tmp_path: Path, kind: str, ids: np.ndarray, message: str) -> None:
    path = write_table(tmp_path / kind, id=ids, mass=MASS)
    with pytest.raises(InputError, match=message):
        read_catalogue(path, "id", ["mass"])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_whole_numbers_in_floating_point_as_far_as_they_are_exact(tmp_path: Path, dtype: str) -> None:
    limit = 2 ** {"f4": 24, "f8": 53}[dtype]
    path = write_table(tmp_path / "t.fits", id=np.array([0, limit - 1], dtype), mass=np.array([1.0, 2]))
    assert read_catalogue(path, "id", ["mass"]).ids == ("0", str(limit - 1))
    path = write_table(tmp_path / "t.fits", id=np.array([0, limit], dtype), mass=np.array([1.0, 2]))
    with pytest.raises(InputError, match="in row 1 is not exact, as float"):
        read_catalogue(path, "id", ["mass"])


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_floating_point_that_is_no_whole_number(tmp_path: Path, bad: float) -> None:
    path = write_table(tmp_path / "t.h5", id=np.array([1, bad]), mass=np.array([1.0, 2]))
    with pytest.raises(InputError, match=f"id: {bad} in row 1 is not exact, as float64"):
        read_catalogue(path, "id", ["mass"])


def test_names_that_look_like_numbers(tmp_path: Path) -> None:
    names = np.array(["007", "7", "12.50", "1E1207.4-5209", "1E1207", "nan"])
    path = write_table(tmp_path / "t.csv", id=names, mass=MASS[:6])
    assert read_catalogue(path, "id", ["mass"]).ids == tuple(names)


def test_objects_that_are_not_there_or_named_twice() -> None:
    catalogue = Catalogue(tuple(map(str, IDS)), np.zeros((N, 1)))
    for ids, message in (
        ([IDS[3] + 1], f"ids: {IDS[3] + 1} is not in the catalogue of 20 objects"),
        ([IDS[3], IDS[4], IDS[3]], f"ids: {IDS[3]} is in row 0 and in row 2; allowed: each object once"),
        (IDS.astype(float), "in row 0 is not exact, as float64; allowed: text, integers"),
        (np.ma.array(IDS[:3], mask=[0, 1, 0]), "ids: row 1 has no id"),
        (np.ma.array(IDS[:3].astype("U"), mask=[0, 0, 1]), "ids: row 2 has no id"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            catalogue.rows_of(ids)


@pytest.mark.parametrize("names", [np.array(["é-1", "x2"]), IDS[:2].astype("U")])
def test_ids_in_bytes_are_text(names: np.ndarray) -> None:
    encoded = np.char.encode(names)
    for ids in (encoded, encoded.astype(object), list(encoded), names.astype(object)):
        np.testing.assert_array_equal(Catalogue(tuple(names), np.zeros((2, 1))).rows_of(ids[::-1]), [1, 0])


@pytest.mark.parametrize("kind", ["t.csv", "t.fits", "t.h5"])
def test_text_in_a_column_of_numbers(tmp_path: Path, kind: str) -> None:
    mass = np.where(np.arange(N) == 3, "heavy", MASS.astype("U"))
    path = write_table(tmp_path / kind, id=IDS, mass=mass)
    with pytest.raises(
        InputError, match=rf"{path}: mass: 'heavy' in row 3 is no number; allowed: numbers, and NaN where"
    ):
        read_columns(path, ["mass"])
    with pytest.raises(InputError, match=rf"{path}: id: '?12\d+'? in row 0 would be rounded to 1237648720693755904"):
        read_columns(path, ["id"])  # an id is no quantity
    with pytest.raises(InputError, match=rf"{path}: no column radius; has id, mass"):
        read_columns(path, ["radius"])


def test_cells_that_are_empty_or_masked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,mass,charge\n7, ,1\n8,nan,2\n9,3,\n")
    expected = [[np.nan, 1], [np.nan, 2], [3, np.nan]]
    np.testing.assert_array_equal(read_columns(tmp_path / "t.csv", ["mass", "charge"]), expected)
    fits = pytest.importorskip("astropy.io.fits")
    columns = [
        fits.Column("id", "K", array=[7, 8, -1], null=-1),
        fits.Column("mass", "D", array=[np.nan, np.nan, 3]),
        fits.Column("charge", "J", array=[1, 2, -99], null=-99),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    np.testing.assert_array_equal(read_columns(tmp_path / "t.fits", ["mass", "charge"]), expected)
    with pytest.raises(InputError, match="id: row 2 has no id"):
        read_catalogue(tmp_path / "t.fits", "id", ["mass"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,b\n1,2,3\n", "2 columns b; has a, b, b"),
        ("a,b\n1,2\n3\n", "row 1 has 1 cells below 2 names"),
        ("a,b\n1,2,3\n", "row 0 has 3 cells below 2 names"),
        ("a;b\n1;2\n", "no column b; has a;b"),
        ("a,b\n1,1_0\n", "b: '1_0' in row 0 is no number"),
        ("a,b\n", "no rows below a header line"),
        ("", "no rows below a header line"),
    ],
)
def test_csv_that_is_not_what_it_seems(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=f"t.csv: {message}"):
        read_columns(tmp_path / "t.csv", ["b"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_table(tmp_path: Path, kind: str) -> None:
    """Bits turned over in the middle, and the end cut off: refused, or (plain text and bare numbers) other numbers."""
    path = write_table(tmp_path / kind, id=IDS, mass=MASS)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    for content in (
        whole[:middle] + bytes(b ^ 0xFF for b in whole[middle : middle + 30]) + whole[middle + 30 :],
        whole[:-20],
        b"",
    ):
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of astropy
                assert read_columns(path, ["mass"]).shape[1] == 1
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert content and not kind.endswith(".gz")


def test_columns_of_different_lengths(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.h5", mass=MASS, charge=MASS, id=IDS[:3])
    lengths = "{'id': 3, 'mass': 20, 'charge': 20}"
    with pytest.raises(InputError, match=re.escape(f"{path}: columns of different lengths: {lengths}")):
        read_catalogue(path, "id", ["mass", "charge"])


def test_text_of_hdf5_that_is_not_utf8(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["id"], file["mass"] = np.array([b"J\xe4", b"J\xf6"]), [1.0, 2]
    assert read_catalogue(tmp_path / "t.h5", "id", ["mass"]).ids == (r"J\xe4", r"J\xf6")


def test_fits_without_astropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.fits").touch()
    for module in ("astropy.io", "astropy.table"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"t\.fits: .*astropy.*; FITS tables need it: pip install astropy"):
        read_columns(tmp_path / "t.fits", ["mass"])


def test_tables_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "t.txt").touch()
    with pytest.raises(InputError, match=r"t\.txt: unknown kind '\.txt'; allowed: \.csv, \.fits, \.fit, \.h5, \.hdf5"):
        read_columns(tmp_path / "t.txt", ["b"])


def recipes() -> list[str]:
    """The Python of the page, in its order."""
    page = (ROOT / "docs" / "data-format.md").read_text()
    return [part.split("```")[0] for part in page.split("```python\n")[1:]]


def test_recipes_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    first, more = recipes()
    exec(first, names)
    exec(more, names)
    assert np.flatnonzero(open_set("more.h5").images.weights_at(slice(None)) == 0).tolist() == [3 * 33 * 33]
    for path in ("mine.h5", "more.h5", "plain.h5"):
        assert validate(path) == [] and len(open_set(path)) == 100


def test_a_set_is_a_table_too(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(N, 1, 4, 4))
    write(
        tmp_path / "set.h5",
        images,
        np.stack([MASS, MASS**2], 1),
        [Factor("a", "", 0, 50), Factor("b", "", 0, 2500)],
        {},
    )
    np.testing.assert_array_equal(read_columns(tmp_path / "set.h5", ["b", "a"]), np.stack([MASS**2, MASS], 1))
    with pytest.raises(InputError, match="no column id; has images, a, b"):
        read_catalogue(tmp_path / "set.h5", "id", ["a"])
