"""HDF5: data sets, also in groups (`group/name`), and the fields of tables; or the factors of a set of this package."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.importing.members import Member, Members, decoded, table_member, taken
from hpcauxvae.data.missing import shown
from hpcauxvae.data.stored import open_file, plain
from hpcauxvae.types import InputError


def members(path: Path, letters: bool = False) -> Members:
    """The data sets with at least one axis. letters: text may be stored letter by letter, as netCDF does."""
    file = open_file(path)
    if "format_version" in file.attrs:
        file.close()
        return _of_a_set(path)
    found: dict[str, Any] = {}

    def visit(name: str, stored: Any) -> None:
        if not isinstance(stored, h5py.Dataset) or not stored.ndim:
            return
        if stored.dtype.names:
            found.update({f"{name}/{field}": stored.fields(field) for field in stored.dtype.names})
        found[name] = stored

    file.visititems(visit)
    tables = {name for name, stored in found.items() if isinstance(stored, h5py.Dataset) and stored.dtype.names}
    return Members(
        path, [name for name in found if name not in tables], lambda name: _member(path, name, found, letters)
    )


def _member(path: Path, name: str, found: dict[str, Any], letters: bool) -> Member:
    whole = found[name]
    stored = whole if isinstance(whole, h5py.Dataset) else found[name.rpartition("/")[0]]
    attributes = {key: plain(value) for key, value in stored.attrs.items()} if stored is whole else {}
    dtype = stored.dtype if stored is whole else stored.dtype[name.rpartition("/")[2]]
    is_text = h5py.check_string_dtype(dtype) is not None

    def read(rows: np.ndarray, axis: int) -> np.ndarray:
        try:
            values = taken(whole.asstr(errors="backslashreplace") if is_text and stored is whole else whole, rows, axis)
        except OSError as error:
            raise InputError(f"{path}: {name}: cannot be read as HDF5: {error}") from error
        if values.dtype.byteorder == ">":
            values = values.astype(values.dtype.newbyteorder("="))
        return decoded(values, stored.attrs) if stored is whole else values

    unit = attributes.get("units", attributes.get("unit", ""))
    if letters and stored.ndim == 2 and dtype == np.dtype("S1"):
        lines = read(np.arange(len(stored)), 0)
        return table_member(np.array(["".join(map(str, line)).rstrip("\0 ") for line in lines]))
    return Member(stored.shape, read, unit if isinstance(unit, str) else "", stored.ndim == 1)


def _of_a_set(path: Path) -> Members:
    """Factors by their names, and `images`."""
    made = open_set(path)
    units = {factor.name: factor.unit for factor in made.factors}

    def get(name: str) -> Member:
        if name in units:
            return table_member(made.values[:, made.column([name])[0]], units[name])
        return Member(made.images.shape, lambda rows, axis: shown(made.images, rows), is_column=False)

    return Members(path, [*units, *(["images"] if "images" not in units else [])], get)
