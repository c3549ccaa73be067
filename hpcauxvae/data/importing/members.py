"""What a file holds by name: columns, and arrays of images, read by sample."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpcauxvae.data.importing import FILES, PICTURES, kind_of, reader
from hpcauxvae.types import Factor, InputError


class Member(NamedTuple):
    """A column, or an array with an axis of samples."""

    shape: tuple[int, ...]
    """One number for a column; where the other axes are not known before they are read, they are left out."""
    read: Callable[[np.ndarray, int], Any]
    """Samples (n,) int64 in any order, and which axis counts them: an array, perhaps masked, or a list of arrays."""
    unit: str = ""
    is_column: bool = True
    factor: Factor | None = None
    """What a set of this package says of the column."""
    from_south: bool = False
    """Whether the first row of its images is the southernmost, as `is_from_south` tells."""

    def whole(self) -> Any:
        """All samples of the first axis."""
        return self.read(np.arange(self.shape[0]), 0)


@dataclass(frozen=True)
class Members:
    """An open file."""

    path: Path
    names: Sequence[str]
    get: Callable[[str], Member]
    options: Mapping[str, str] = field(default_factory=dict)
    """What the options of `data import` are, where the user says nothing: of a file that tells itself what it holds."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What is to be told of its images."""
    also: Collection[str] = ()
    """Further names of some of these, such as the numbers of FITS extensions."""

    def __getitem__(self, name: str) -> Member:
        """Raises InputError where there is none of that name, or several."""
        if self.names.count(name) != 1 and (name in self.names or name not in self.also):
            found = "no column" if name not in self.names else f"{self.names.count(name)} columns"
            raise InputError(f"{self.path}: {found} {name}; has {', '.join(self.names)}")
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.also


def open_members(path: Path) -> Members:
    """A file of one of `FILES`; a folder of Parquet files, or of images, or an image, as `file` and `id`, their names.

    Raises InputError where it cannot be read, or is empty.
    """
    if path.is_dir() and kind_of(path) not in FILES:
        opened = reader(Path("x.parquet"), FILES) if any(path.glob("*.parquet")) else _folder
    else:
        opened = pictures if kind_of(path) in PICTURES.keys() - FILES.keys() else reader(path, FILES)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    found: Members = opened(path)
    if not found.names:
        raise InputError(f"{path}: holds no columns and no arrays")
    return found


def _folder(path: Path) -> Members:
    names = sorted(file.name for file in path.iterdir() if kind_of(file) in PICTURES)
    if not names:
        raise InputError(f"{path}: holds no images; allowed: {', '.join(PICTURES)}")
    return pictures(path, *names)


def pictures(path: Path, *names: str) -> Members:
    """Files of one image each, of these names in a folder; or the one at `path`."""
    names = names or (path.name,)
    columns = {"id": np.array([name.partition(".")[0] for name in names]), "file": np.array(names)}
    return Members(path, list(columns), lambda name: table_member(columns[name]))


def required(module: str, path: Path, use: str, install: str) -> Any:
    """The module; InputError where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: {error}; {use} need it: pip install {install}") from error


_OF_DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, TypeError)


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Makes an InputError of what a library says of a damaged file: the usual errors, and these."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file, more is said below
            yield
    except _OF_DAMAGE + errors as error:
        raise InputError(f"{path}: cannot be read as {kind}: {' '.join(str(error).split())}") from error


def table_member(column: Any, unit: str = "") -> Member:
    """Of a column in memory, which may be masked."""
    return Member(np.shape(column), lambda rows, axis: column[rows], unit, np.ndim(column) == 1)


def taken(stored: Any, rows: np.ndarray, axis: int) -> np.ndarray:
    """These samples of an array that takes slices, in the order asked for; neighbours are read together."""
    first = int(rows[0]) if len(rows) else 0
    before = (slice(None),) * axis
    if np.array_equal(rows, np.arange(first, first + len(rows))):
        return np.asarray(stored[(*before, slice(first, first + len(rows)))])
    distinct, place = np.unique(rows, return_inverse=True)
    gaps = np.flatnonzero(np.diff(distinct) > 1)
    runs = zip(distinct[[0, *(gaps + 1)]], distinct[[*gaps, -1]] + 1, strict=True)
    parts = [np.asarray(stored[(*before, slice(int(low), int(high)))]) for low, high in runs]
    return np.concatenate(parts, axis).take(place, axis)


def decoded(values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Values as the CF conventions pack them: NaN for `_FillValue` and `missing_value`, then scale and offset."""
    told = {name: np.asarray(attributes[name]).ravel() for name in _OF_CF if name in attributes}
    fills = [fill for name in ("_FillValue", "missing_value") for fill in told.get(name, ()) if _is_number(fill)]
    packed = "scale_factor" in told or "add_offset" in told
    if values.dtype.kind not in "iuf" or not (fills or packed):
        return values
    missing = np.isin(values, fills)
    if missing.any() or packed:
        values = values.astype(np.float64 if values.dtype.kind != "f" else values.dtype)
        values[missing] = np.nan
    if packed:
        scale, offset = (
            float(told.get(name, [default])[0]) for name, default in (("scale_factor", 1), ("add_offset", 0))
        )
        values = values * scale + offset
    return values


def is_from_south(attributes: Mapping[str, Any], name: str, values: np.ndarray) -> bool:
    """Whether the coordinate of an axis is a latitude or a northing that rises; by the CF conventions, or its name."""
    told = {str(attributes.get(key, "")) for key in ("units", "standard_name", "axis")}
    is_north = bool(told & _NORTH) or name.rpartition("/")[2].lower() in ("lat", "latitude")
    return is_north and np.ndim(values) == 1 and len(values) > 1 and bool(values[-1] > values[0])


_NORTH = {"degrees_north", "degree_north", "degree_N", "degrees_N", "latitude", "projection_y_coordinate", "Y"}
_OF_CF = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def _is_number(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iuf"
