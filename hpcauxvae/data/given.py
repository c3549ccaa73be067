"""Arrays as a user gives them, as the format takes them: nothing masked, rounded or cut off without a word."""

import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import h5py
import numpy as np

from hpcauxvae.types import Factor, InputError

_WHOLE = re.compile(r"([+-]?\d+)(\.0*)?")
"""A whole number as it is written out, not rounded to so many digits."""
_EXACT = 2**53
"""Whole numbers up to here are float64 numbers."""
_LEAST = float(np.finfo(np.float32).tiny)
"""Smaller numbers lose digits in float32, and vanish."""


class Labels(h5py.Dataset):
    """A data set `factors` that takes what `labels` takes."""

    def __setitem__(self, rows: Any, values: Any) -> None:
        super().__setitem__(rows, self._taken(values))

    def write_direct(self, source: Any, *selections: Any, **named: Any) -> None:
        """As h5py has it, of what `labels` takes."""
        super().write_direct(self._taken(source), *selections, **named)

    def _taken(self, values: Any) -> np.ndarray:
        return labels(values, f"{self.file.filename}: factors", self.attrs["unit"])


class Pixels(h5py.Dataset):
    """A data set `images` that takes what `pixels` takes."""

    def __setitem__(self, rows: Any, images: Any) -> None:
        super().__setitem__(rows, self._taken(images))

    def write_direct(self, source: Any, *selections: Any, **named: Any) -> None:
        """As h5py has it, of what `pixels` takes."""
        super().write_direct(self._taken(source), *selections, **named)

    def _taken(self, images: Any) -> np.ndarray:
        return pixels(images, self.file.filename, self.dtype, missing="missing_pixels" in self.file.attrs)


def _array(values: Any, source: str) -> np.ma.MaskedArray:
    try:
        return np.ma.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's that need a gradient, rows of different lengths
        raise InputError(f"{source}: a {type(values).__name__} that is no array of numbers: {error}") from error


def labels(values: Any, source: str, units: Iterable[str] | None = None) -> np.ndarray:
    """Labels of any shape as float64; NaN where they are masked, None or pandas' NA.

    source: what the message begins with; units: of the columns. Raises InputError for text, dates, complex numbers,
    whole numbers that float64 would round, as ids are, and quantities that have another unit than a column.
    """
    unit = getattr(values, "unit", getattr(values, "units", None))  # of astropy and pint
    if units is not None and unit is not None and (wrong := {*units} - {str(unit)}):
        raise InputError(
            f"{source}: quantities in {str(unit)!r}; allowed: numbers in the column's unit {wrong.pop()!r}"
        )
    given = _array(values, source)
    if given.dtype.kind not in "biufOSU":
        raise InputError(f"{source}: type {given.dtype}; allowed: real numbers")
    known = ~np.ma.getmaskarray(given)
    numbers = np.full(given.shape, np.nan)
    if given.dtype.kind in "OSU":
        for at in map(tuple, np.argwhere(known)):
            numbers[at] = _number(given.data[at], at, source)
        return numbers
    if given.dtype.kind in "iu":
        for at in map(tuple, np.argwhere(known & ((given.data > _EXACT) | (given.data < -_EXACT)))):
            _number(int(given.data[at]), at, source)
    numbers[known] = given.data[known]
    return numbers


def _number(value: Any, at: tuple[np.intp, ...], source: str) -> float:
    if value is None or type(value).__name__ == "NAType":  # pandas need not be there
        return np.nan
    value = value.item() if isinstance(value, np.generic) else value
    try:
        text = value.decode() if isinstance(value, bytes) else str(value) if isinstance(value, str | Decimal) else None
        number = float(value if text is None else text)
        if text is not None and ("_" in text or np.isinf(number)):
            raise ValueError(text)
        whole = value if isinstance(value, int) else _WHOLE.fullmatch((text or "").strip())
        if whole is None or int(number) == int(whole if isinstance(whole, int) else whole[1]):
            return number
        reason = f"would be rounded to {int(number)}; allowed: what was measured, no ids"
    except (TypeError, ValueError, OverflowError):
        reason = "is no number; allowed: numbers, and NaN where nothing was measured"
    where = ", ".join(f"{axis} {n}" for axis, n in zip(("row", "column"), at, strict=False))
    raise InputError(f"{source}: {value!r:.99}{f' in {where}' if at else ''} {reason}")


def pixels(images: Any, source: object, dtype: np.dtype | None = None, missing: bool = False) -> np.ndarray:
    """Images of any shape, of numbers; those for a data set of whole numbers are whole and fit into its type.

    missing: whether masked pixels become NaN. Raises InputError where they are not, where pixels are masked otherwise,
    and where float32, or float16, would round whole numbers or holds none of the pixels.
    """
    given = _array(images, f"{source}: images")
    if given.dtype.kind not in "biuf":
        raise InputError(f"{source}: images: type {given.dtype}; allowed: real numbers")
    if np.ma.is_masked(given) and missing and (given.dtype.kind == "f" or given.dtype.itemsize <= 2):
        given = np.ma.asarray(np.ma.filled(given.astype(np.result_type(given.dtype, np.float32)), np.nan))
    if np.ma.is_masked(given):
        at = tuple(int(axis[0]) for axis in np.nonzero(np.ma.getmaskarray(given)))
        raise InputError(
            f"{source}: images: {np.ma.count_masked(given)} pixels are masked, the first at {at}; allowed: fill them, "
            'leave their images out, or store floating point with missing_pixels="nan"'
        )
    plain = np.asarray(given.data)
    if dtype is not None and dtype.kind == "u" and plain.dtype.kind not in "b" and plain.dtype != dtype:
        most = np.iinfo(dtype).max
        bad = ~((plain >= 0) & (plain <= most)) | (plain != np.floor(plain))
        if bad.any():
            raise InputError(
                f"{source}: images: pixel {plain[bad][0]} in {dtype}; allowed: whole numbers from 0 to {most}"
            )
    if dtype == np.float16 and plain.dtype != np.float16:
        bad = np.abs(plain) > np.finfo(np.float16).max
        if bad.any():
            raise InputError(f"{source}: images: pixel {plain[bad][0]} in float16; allowed: up to 65504")
    if plain.dtype.kind in "iu" and plain.dtype.itemsize > 2:
        with np.errstate(invalid="ignore"):
            bad = plain.astype(np.float32).astype(plain.dtype) != plain
        if bad.any():
            pixel = plain[bad][0]
            raise InputError(
                f"{source}: images: pixel {pixel} would be rounded to {np.float32(pixel):.0f} in float32; allowed: "
                f"whole numbers up to {2**24}, or floating point"
            )
    elif plain.dtype.itemsize > 4 and plain.size and 0 < (peak := max(plain.max(), -plain.min())) < _LEAST:
        raise InputError(
            f"{source}: images: the largest of these pixels is {peak:g}, too small for float32; allowed: another unit, "
            f"in which it is above {_LEAST:.2g}"
        )
    return plain


def check_factors(factors: object, source: object) -> None:
    """Raises InputError where these are no factors."""
    if not isinstance(factors, Sequence) or not all(isinstance(factor, Factor) for factor in factors):
        raise InputError(f"{source}: factor_list: {factors!r:.99}; allowed: a list of Factor(name, unit, low, high)")
    for factor in factors:
        for field, value in factor._asdict().items():
            number, names = field in ("low", "high"), field == "classes"
            if not (isinstance(value, Real) if number else _are_names(value) if names else is_text(value)):
                allowed = "a number" if number else "text, empty where there is none"
                allowed = "a tuple of texts, each of one line" if names else allowed
                raise InputError(f"{source}: factors, {factor.name!r:.99}: {field} = {value!r:.99}; allowed: {allowed}")


def _are_names(value: object) -> bool:
    """Whether these are names of classes that HDF5 can store."""
    return isinstance(value, tuple) and all(isinstance(one, str) and is_text(one) and "\n" not in one for one in value)


def is_text(value: object) -> bool:
    """Whether HDF5 can store it."""
    return isinstance(value, str | bytes) and not re.search(r"[\0\ud800-\udfff]", str(value))


def check_order(values: object, names: Sequence[str], source: object) -> None:
    """Raises InputError where a pandas table of labels has the columns of these names in another order."""
    columns = list(getattr(values, "columns", ()))
    pairs = zip(columns, names, strict=False)
    if any(isinstance(column, str) and column in names and column != name for column, name in pairs):
        raise InputError(
            f"{source}: factors: the columns of this {type(values).__name__} are {', '.join(map(str, columns))}; "
            f"allowed: the order of the factors, {', '.join(names)}"
        )


def put(provenance: object, attributes: MutableMapping[str, Any]) -> None:
    """Stores provenance as attributes. Raises InputError where it is no text and no numbers."""
    if not isinstance(provenance, Mapping):
        raise InputError(f"provenance: {provenance!r:.99}; allowed: a dict of text and numbers")
    for name, value in provenance.items():
        try:
            attributes[name] = value
        except (TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise InputError(f"provenance, {name}: {value!r:.99}; allowed: text or numbers") from error
