"""Tables of measured quantities: numbers as float64, the names of objects as exact text.

A number that stands for an object is no quantity: as float64, which many readers make of it, 19 digits become 16, and
another object's image may be taken for this one.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpcauxvae.data.given import labels
from hpcauxvae.data.importing.members import open_members
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
        wanted = exact(np.ma.asarray(ids if isinstance(ids, np.ndarray) else list(ids)), "ids")
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
    return Catalogue(exact(ids, f"{path}: {id_column}"), _stack(path, names, columns))


def read_columns(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """(N, F) float64, the columns of these names in a table; NaN where a cell is empty or masked.

    The table may be of any kind that `data import` reads: CSV (a header line, commas), FITS (the first table), HDF5 (a
    set of this package's format, or one data set a column), … Raises InputError naming file, column, row and value.
    """
    path = Path(path)
    return _stack(path, names, _read(path, names))


def _stack(path: Path, names: Sequence[str], columns: Sequence[Any]) -> np.ndarray:
    return np.stack([labels(c, f"{path}: {name}") for name, c in zip(names, columns, strict=True)], axis=1)


def exact(ids: np.ndarray, source: str) -> tuple[str, ...]:
    """Ids as texts. Raises InputError where they are not exact, or not different; source: what the message names."""
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
    table = open_members(path)
    members = [table[name] for name in names]
    for name, member in zip(names, members, strict=True):
        if not member.is_column:
            raise InputError(f"{path}: {name} has the shape {member.shape}; allowed: a value a row")
    lengths = {name: member.shape[0] for name, member in zip(names, members, strict=True)}
    if len({*lengths.values()}) > 1:
        raise InputError(f"{path}: columns of different lengths: {lengths}")
    return [member.whole() for member in members]
