"""What a user gives is stored as it is meant, by `write` and in parts by `create`, or refused with its value."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.set_files import FACTORS, SHAPE, F, N, content
from hpcauxvae.data.hdf5 import create, open_set, validate, write
from hpcauxvae.types import InputError


def at_once(path: Path, images: object, factors: object, dtype: type = np.float32) -> None:
    write(path, images, factors, FACTORS, {})  # type: ignore[arg-type]


def in_parts(path: Path, images: object, factors: object, dtype: type = np.float32) -> None:
    with create(path, SHAPE, FACTORS, {}, dtype) as (to_images, to_factors):
        for rows in (slice(0, 11), slice(11, N)):
            to_images[rows], to_factors[rows] = images[rows], factors[rows]  # type: ignore[index]


def directly(path: Path, images: object, factors: object, dtype: type = np.float32) -> None:
    with create(path, SHAPE, FACTORS, {}, dtype) as (to_images, to_factors):
        to_images.write_direct(images)
        to_factors.write_direct(factors, np.s_[:N], dest_sel=np.s_[:N])


WRITERS = pytest.mark.parametrize("store", [at_once, in_parts, directly])
Store = Callable[..., None]
MISSING = np.random.default_rng(4).uniform(size=(N, F)) < 0.3


def nullable(values: np.ndarray) -> np.ndarray:
    """As pandas gives a table with missing values, without pandas."""
    missing = type("NAType", (), {})()
    objects = values.astype(object)
    objects[MISSING] = missing
    return objects


@WRITERS
@pytest.mark.parametrize(
    "given",
    [
        lambda v: np.ma.array(v, mask=MISSING),
        lambda v: np.ma.array(np.where(MISSING, -99, v), mask=MISSING, fill_value=-99),
        lambda v: [np.ma.array(row, mask=gone) for row, gone in zip(v, MISSING, strict=True)],
        lambda v: np.ma.array(np.where(MISSING, "n/a", v.astype(str)), mask=MISSING),
        lambda v: np.where(MISSING, None, v),
        nullable,
        lambda v: np.where(MISSING, np.nan, v),
        lambda v: np.where(MISSING, np.nan, v).astype(">f8"),
    ],
)
def test_what_is_masked_was_not_measured(tmp_path: Path, store: Store, given: Callable) -> None:
    images, values = content()
    store(tmp_path / "set.h5", images, given(values))
    np.testing.assert_array_equal(open_set(tmp_path / "set.h5").values, np.where(MISSING, np.nan, values))


@pytest.mark.parametrize("text", ["S30", "U30", Decimal])
def test_numbers_as_text(tmp_path: Path, text: type | str) -> None:
    images, values = content()
    given = np.vectorize(Decimal, [object])(values) if text is Decimal else values.astype(text)
    at_once(tmp_path / "set.h5", images, given)
    np.testing.assert_array_equal(open_set(tmp_path / "set.h5").values, values)


def test_whole_numbers_that_are_masked(tmp_path: Path) -> None:
    images, _ = content()
    numbers = np.random.default_rng(0).integers([10, 0, 0], [13, 2, 3], (N, F))
    at_once(tmp_path / "set.h5", images, np.ma.array(np.where(MISSING, 2**60 + 1, numbers), mask=MISSING))
    np.testing.assert_array_equal(open_set(tmp_path / "set.h5").values, np.where(MISSING, np.nan, numbers))


@WRITERS
def test_masked_pixels_are_refused(tmp_path: Path, store: Store) -> None:
    images, values = content()
    mask = np.zeros(SHAPE, bool)
    mask[3, 1, 2, 0] = mask[3, 1, 2, 4] = True
    with pytest.raises(
        InputError, match=r"images: 2 pixels are masked, the first at \(3, 1, 2, 0\); allowed: fill them"
    ):
        store(tmp_path / "set.h5", np.ma.array(images, mask=mask), values)
    store(tmp_path / "set.h5", np.ma.array(images, mask=False), values)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.h5"]


@WRITERS
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            lambda v: np.where(v > np.nanmedian(v), "big", "small"),
            r"factors: '(small|big)' in row 0, column 0 is no number; allowed:",
        ),
        (
            lambda v: np.where(np.arange(N)[:, None] == 2, b"?", v.astype("S8")),
            r"factors: b'\?' in row 2, column 0 is no number",
        ),
        (
            lambda v: np.where(np.arange(F) == 1, [[0, "n/a", 0]], v.astype(object)),
            r"factors: 'n/a' in row 0, column 1 is no",
        ),
        (
            lambda v: np.full((N, F), b"1237648720693755919"),
            r"factors: b'1237648720693755919' in row 0, column 0 would be rounded to 1237648720693755904; allowed",
        ),
        (lambda v: np.full((N, F), " 1237648720693755919.0"), r"would be rounded to 1237648720693755904; allowed"),
        (lambda v: np.full((N, F), Decimal(1237648720693755919)), r"would be rounded to 1237648720693755904; allowed"),
        (lambda v: np.full((N, F), b"1_000"), r"factors: b'1_000' in row 0, column 0 is no number"),
        (lambda v: np.full((N, F), b"\xb51"), r"factors: b'\\xb51' in row 0, column 0 is no number"),
        (lambda v: np.full((N, F), "1e400"), r"factors: '1e400' in row 0, column 0 is no number"),
        (lambda v: v * 1j, r"factors: type complex128; allowed: real numbers"),
        (lambda v: v.astype("M8[s]"), r"factors: type datetime64\[s\]; allowed: real numbers"),
        (
            lambda v: np.full((N, F), 1237648720693755919),
            r"factors: 1237648720693755919 in row 0, column 0 would be rounded to 1237648720693755904; allowed",
        ),
        (
            lambda v: np.full((N, F), -(2**62) + 1, object),
            r"factors: -4611686018427387903 in row 0, column 0 would be rounded",
        ),
        (
            lambda v: np.full((N, F), 2**64 - 1, "u8"),
            r"factors: 18446744073709551615 in row 0, column 0 would be rounded",
        ),
    ],
)
def test_labels_that_are_no_measured_numbers(tmp_path: Path, store: Store, bad: Callable, message: str) -> None:
    images, values = content()
    with pytest.raises(InputError, match=message):
        store(tmp_path / "set.h5", images, bad(values))
    assert list(tmp_path.iterdir()) == []


@WRITERS
@pytest.mark.parametrize("kind", ["U9", "c8", object, "M8[s]"])
def test_pixels_that_are_no_real_numbers(tmp_path: Path, store: Store, kind: object) -> None:
    images, values = content()
    with pytest.raises(InputError, match=r"images: type .*; allowed: real numbers"):
        store(tmp_path / "set.h5", images.astype(kind), values)  # type: ignore[call-overload]


def test_pixels_that_float32_cannot_hold(tmp_path: Path) -> None:
    images, values = content()
    with pytest.raises(InputError, match=re.escape("images: 1e+39 in sample 3, channel 0, pixel (1, 1) is not finite")):
        at_once(
            tmp_path / "set.h5",
            np.where(np.arange(images.size).reshape(SHAPE) == 126, 1e39, images.astype(float)),
            values,
        )


@WRITERS
@pytest.mark.parametrize(
    ("scale", "kind", "message"),
    [
        (
            1e-50,
            float,
            r"images: the largest of these pixels is \S+, too small for float32; allowed: another unit",
        ),
        (-1e-46, float, r"images: the largest of these pixels is \S+, too small for float32; allowed: another unit"),
        (
            1,
            np.int64,
            "images: pixel 16777217 would be rounded to 16777216 in float32; allowed: whole numbers up to 167",
        ),
        (1, np.uint32, "images: pixel 16777217 would be rounded to 16777216 in float32; allowed: whole numbers up to"),
    ],
)
def test_pixels_that_float32_would_lose(tmp_path: Path, store: Store, scale: float, kind: type, message: str) -> None:
    images, values = content()
    given = (np.abs(images) * np.float64(scale)).astype(kind)
    if kind is not float:
        given.flat[5] = 2**24
        store(tmp_path / "good.h5", given, values)
        given.flat[5] += 1
    with pytest.raises(InputError, match=message):
        store(tmp_path / "set.h5", given, values)


def test_faint_wings_may_vanish_beside_a_peak(tmp_path: Path) -> None:
    images, values = content()
    at_once(tmp_path / "set.h5", np.where(images < np.median(images), 1e-60, images), values)
    assert validate(tmp_path / "set.h5") == []


@WRITERS
def test_quantities_have_the_unit_of_their_column(tmp_path: Path, store: Store) -> None:
    units = pytest.importorskip("astropy.units")
    images, values = content()
    with pytest.raises(InputError, match="factors: quantities in 'km'; allowed: numbers in the column's unit '"):
        store(tmp_path / "set.h5", images, values * units.km)


def test_quantities_in_the_unit_of_their_column(tmp_path: Path) -> None:
    units = pytest.importorskip("astropy.units")
    write(
        tmp_path / "set.h5", content()[0], content()[1][:, :1] * units.arcsec, [FACTORS[0]._replace(unit="arcsec")], {}
    )
    np.testing.assert_array_equal(open_set(tmp_path / "set.h5").values, content()[1][:, :1])


def spoilt(**fields: object) -> Callable:
    return lambda factors: [factors[0]._replace(**fields), *factors[1:]]


def leaf(values: np.ndarray) -> object:
    torch = pytest.importorskip("torch")
    return torch.tensor(values, requires_grad=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": lambda _: None}, "set.h5: images: type object; allowed: real numbers"),
        ({"images": lambda v: {"x": v}}, "set.h5: images: type object; allowed: real numbers"),
        ({"images": leaf}, "set.h5: images: a Tensor that is no array of numbers: Can't call numpy"),
        ({"factors": leaf}, "set.h5: factors: a Tensor that is no array of numbers: Can't call numpy"),
        ({"factors": lambda _: None}, "set.h5: factors: shape () is not (N, F) = "),
        ({"factors": lambda _: {"x": 1}}, "set.h5: factors: {'x': 1} is no number; allowed: numbers, and NaN"),
        ({"factors": lambda v: pytest.importorskip("scipy.sparse").csr_array(v)}, " is no number; allowed: numbers"),
        ({"factors": lambda v: [v[0], [1]]}, "set.h5: factors: a list that is no array of numbers: "),
        (
            {"factor_list": lambda _: None},
            "set.h5: factor_list: None; allowed: a list of Factor(name, unit, low, high)",
        ),
        ({"factor_list": lambda v: [f.name for f in v]}, "; allowed: a list of Factor(name, unit, low, high)"),
        ({"provenance": lambda _: None}, "provenance: None; allowed: a dict of text and numbers"),
        ({"provenance": lambda _: {"x": None}}, "provenance, x: None; allowed: text or numbers"),
        ({"provenance": lambda _: {"x": {"y": 1}}}, "provenance, x: {'y': 1}; allowed: text or numbers"),
        ({"provenance": lambda _: {3: 1}}, "provenance, 3: 1; allowed: text or numbers"),
        ({"provenance": lambda _: {"": 1}}, "provenance, : 1; allowed: text or numbers"),
        ({"provenance": lambda _: {"x": "a\0b"}}, "provenance, x: 'a\\x00b'; allowed: text or numbers"),
        ({"factor_list": spoilt(name="a\0b")}, "set.h5: factors, 'a\\x00b': name = 'a\\x00b'; allowed: text, empty"),
        ({"factor_list": spoilt(name=3)}, "set.h5: factors, 3: name = 3; allowed: text, empty where there is none"),
        ({"factor_list": spoilt(unit=None)}, "unit = None; allowed: text, empty where there is none"),
        ({"factor_list": spoilt(unit="\ud800")}, "unit = '\\ud800'; allowed: text, empty where there is none"),
        ({"factor_list": spoilt(low="0")}, "low = '0'; allowed: a number"),
        ({"factor_list": spoilt(high=None)}, "high = None; allowed: a number"),
    ],
)
def test_what_is_no_array_no_factor_or_no_provenance(tmp_path: Path, change: dict[str, Callable], message: str) -> None:
    images, values = content()
    given = {"images": images, "factors": values, "factor_list": FACTORS, "provenance": {}}
    (name, spoil), *_ = change.items()
    with pytest.raises(InputError, match=re.escape(message)):
        write(tmp_path / "set.h5", **given | {name: spoil(given[name])})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_the_columns_of_a_table_are_those_of_the_factors(tmp_path: Path) -> None:
    """By position others would be stored under these names."""
    pandas = pytest.importorskip("pandas")
    images, values = content()
    names = [factor.name for factor in FACTORS]
    table = pandas.DataFrame(values, columns=names)
    with pytest.raises(InputError, match=f"^{tmp_path}/set.h5: factors: the columns of this DataFrame are .*; allowed"):
        write(tmp_path / "set.h5", images, table[names[::-1]], FACTORS, {})
    write(tmp_path / "set.h5", images, table, FACTORS, {})
    np.testing.assert_array_equal(open_set(tmp_path / "set.h5").values, values)
    write(tmp_path / "other.h5", images, pandas.DataFrame(values), FACTORS, {})  # without names


def test_a_fits_table_is_no_array(tmp_path: Path) -> None:
    """Its columns are objects that cannot be compared with names."""
    fits = pytest.importorskip("astropy.io.fits")
    images, values = content()
    columns = [fits.Column(factor.name, "D", array=column) for factor, column in zip(FACTORS, values.T, strict=True)]
    with pytest.raises(InputError, match=r"set\.h5: factors: type .*; allowed: real numbers"):
        write(tmp_path / "set.h5", images, fits.FITS_rec.from_columns(columns), FACTORS, {})


@pytest.mark.parametrize(("factor", "bad"), [(1 / 255, "0.5"), (2, "300"), (-1, "-1")])
def test_numbers_that_uint8_would_cut_off(tmp_path: Path, factor: float, bad: str) -> None:
    values = content()[1]
    images = np.full(SHAPE, 7.0)
    in_parts(tmp_path / "whole.h5", images, values, np.uint8)
    assert validate(tmp_path / "whole.h5") == [] and (open_set(tmp_path / "whole.h5").images[:] == 7).all()
    images[5, 0, 1, 2] = float(bad)
    with pytest.raises(InputError, match=rf"images: pixel {bad}(\.0)? in uint8; allowed: whole numbers from 0 to 255"):
        in_parts(tmp_path / "set.h5", images, values, np.uint8)


def ascii_text(*texts: bytes) -> dict[str, object]:
    return {"data": np.array(texts, object), "dtype": h5py.string_dtype("ascii")}


@pytest.mark.parametrize("fixed", [True, False])
def test_text_that_is_not_utf8(tmp_path: Path, fixed: bool) -> None:
    path = tmp_path / "set.h5"
    write(path, *content(), FACTORS, {})
    with h5py.File(path, "r+") as file:
        units, names = [b"\xb5m", b"", "µm".encode()], [b"gr\xf6\xdfe", b"spin", b"age"]
        for field, texts in (("unit", units), ("name", names)):
            file["factors"].attrs.create(field, **({"data": np.array(texts)} if fixed else ascii_text(*texts)))
        given = {"data": np.bytes_(b"Universit\xe4t")} if fixed else ascii_text(b"Universit\xe4t")
        file.attrs.create("origin", **given)
        file.attrs.create(
            "observers", **({"data": np.array([b"J\xf6", b"A"])} if fixed else ascii_text(b"J\xf6", b"A"))
        )
        space, number = h5py.h5s.create(h5py.h5s.SCALAR), h5py.h5t.NATIVE_INT32
        h5py.h5a.create(file.id, b"n\xe4me", number, space).write(np.array(3, np.int32))
        h5py.h5a.create(file.id, b"when", h5py.h5t.UNIX_D32LE, space)
    data = open_set(path)
    assert [factor.name for factor in data.factors] == ["größe", "spin", "age"]
    assert [factor.unit for factor in data.factors] == ["µm", "", "µm"]
    assert data.provenance == {
        "origin": "Universität",
        "observers": "Jö, A",
        "näme": 3,
        "when": "of a type that h5py cannot read",
    }
    assert str(data.provenance).encode()  # can be printed
