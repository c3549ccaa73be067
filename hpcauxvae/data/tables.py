"""Tables of measured quantities (CSV, FITS, HDF5): numbers as float64, the names of objects as exact text.

A number that stands for an object is no quantity: as float64, which many readers make of it, 19 digits become 16, and
another object's image may be taken for this one.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from hpcauxvae.data.given import labels
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.stored import open_file
from hpcauxvae.types import InputError

_ROUNDED = re.compile(r"\d\.\d*[eE]\+?\d+|\d[eE]\+\d+")
"""How spreadsheets and float64 columns write long whole numbers."""


class Catalogue(NamedTuple):
    """Objects and what was measured of them."""

    ids: tuple[str, ...]
    """Of each row, each different, as the table writes them."""
    values: np.ndarray
    """(N, F) float64, in the table's units; NaN where not measured."""

    def rows_of(self, ids: Iterable[Any]) -> np.ndarray:
        """The rows of these objects, (M,) int64, in the order given.

        ids: texts, also as bytes, or whole numbers. Raises InputError for an object that is not in the catalogue or
        named twice, for an id that is masked, and for numbers with a fraction or of a type that rounds.
        """
        row_of = {name: row for row, name in enumerate(self.ids)}
        wanted = _exact(np.ma.asarray(ids if isinstance(ids, np.ndarray) else list(ids)), "ids")
        for name in wanted:
            if name not in row_of:
                raise InputError(f"ids: {name} is not in the catalogue of {len(self.ids)} objects")
        return np.array([row_of[name] for name in wanted], np.int64)


def read_catalogue(path: str | Path, id_column: str, names: Sequence[str]) -> Catalogue:
    """The column of ids and the columns of these names of a table; others are not read (see `read_columns`).

    Raises InputError naming file, column, row and value: for ids that are doubled, missing or were rounded, too.
    """
    path = Path(path)
    ids, *columns = _read(path, [id_column, *names])
    return Catalogue(_exact(ids, f"{path}: {id_column}"), _stack(path, names, columns))


def read_columns(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """(N, F) float64, the columns of these names in a table; NaN where a cell is empty or masked.

    CSV (a header line, commas), FITS (the first table), both also compressed by gzip, or HDF5 (a set of this package's
    format, or one data set a column). Raises InputError naming file, column, row and value.
    """
    path = Path(path)
    return _stack(path, names, _read(path, names))


def _stack(path: Path, names: Sequence[str], columns: Sequence[Any]) -> np.ndarray:
    return np.stack([labels(c, f"{path}: {name}") for name, c in zip(names, columns, strict=True)], axis=1)


def _exact(ids: np.ndarray, source: str) -> tuple[str, ...]:
    """Ids as texts. Raises InputError where they are not exact, or not different."""
    if np.ma.is_masked(ids):
        raise InputError(f"{source}: row {np.flatnonzero(np.ma.getmaskarray(ids))[0]} has no id")
    if ids.dtype.kind == "f":
        limit = 2 ** (np.finfo(ids.dtype).nmant + 1)
        bad = np.flatnonzero(~((np.abs(ids) < limit) & (ids == np.floor(ids))))
        if len(bad):
            raise InputError(
                f"{source}: {ids[bad[0]]} in row {bad[0]} is not exact, as {ids.dtype.name}; allowed: text, integers, "
                f"or whole numbers below {limit}"
            )
        ids = ids.astype(np.int64)
    texts = (name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name) for name in ids.tolist())
    names = tuple(text.strip() for text in texts)
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if not name or _ROUNDED.fullmatch(name):
            raise InputError(f"{source}: {name!r} in row {row} is not exact; allowed: text, or all digits of a number")
        if rows.setdefault(name, row) != row:
            raise InputError(f"{source}: {name} is in row {rows[name]} and in row {row}; allowed: each object once")
    return names


def _read(path: Path, names: Sequence[str]) -> list[Any]:
    """The columns as they are stored, arrays that may be masked."""
    readers: dict[str, Callable[[Path, Sequence[str]], list[Any]]]
    readers = {".csv": _csv, ".fits": _fits, ".fit": _fits, ".h5": _hdf5, ".hdf5": _hdf5}
    kind = Path(path.name.lower().removesuffix(".gz")).suffix
    if kind not in readers:
        raise InputError(f"{path}: unknown kind {kind!r}; allowed: {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    columns = readers[kind](path, names)
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len({*lengths.values()}) > 1:
        raise InputError(f"{path}: columns of different lengths: {lengths}")
    return columns


def _check_names(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if known.count(name) != 1:
            found = "no column" if name not in known else f"{known.count(name)} columns"
            raise InputError(f"{path}: {found} {name}; has {', '.join(known)}")


def _csv(path: Path, names: Sequence[str]) -> list[Any]:
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark
            header, *lines = [line for line in csv.reader(file, skipinitialspace=True) if line] or [[]]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from error
    if not lines:
        raise InputError(f"{path}: no rows below a header line")
    _check_names(path, names, header)
    for row, line in enumerate(lines):
        if len(line) != len(header):
            raise InputError(f"{path}: row {row} has {len(line)} cells below {len(header)} names")
    cells = ([line[header.index(name)].strip() for line in lines] for name in names)
    return [np.ma.array(column, mask=[not cell for cell in column]) for column in cells]


def _fits(path: Path, names: Sequence[str]) -> list[Any]:
    try:
        from astropy.io import fits
        from astropy.table import Table
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; FITS tables need it: pip install astropy (it comes with galsim)") from error
    try:
        with fits.open(path, memmap=False) as opened:
            table = next((hdu for hdu in opened if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)), None)
            if table is None:
                raise InputError(f"{path}: holds no FITS table")
            _check_names(path, names, table.columns.names)
            columns = Table.read(table)
            return [np.ma.array(columns[name]) for name in names]
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as FITS: {error}") from error


def _hdf5(path: Path, names: Sequence[str]) -> list[Any]:
    with open_file(path) as file:
        if "format_version" not in file.attrs:
            known = [key for key in file if isinstance(file[key], h5py.Dataset) and file[key].ndim == 1]
            _check_names(path, names, known)
            columns = [file[name] for name in names]
            texts = [h5py.check_string_dtype(column.dtype) is not None for column in columns]
            columns = [c.asstr(errors="backslashreplace") if t else c for c, t in zip(columns, texts, strict=True)]
            try:
                return [np.asarray(column[:]) for column in columns]
            except OSError as error:
                raise InputError(f"{path}: cannot be read as HDF5: {error}") from error
    other = open_set(path)
    return list(other.values[:, other.column(names)].T)
