"""HDF5: data sets, also in groups (`group/name`), and the fields of tables; or the factors of a set of this package."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.importing.members import Member, Members, decoded, is_from_south, table_member, taken
from hpcauxvae.data.missing import Filled, shown
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
    axes = [axis[0] for axis in stored.dims if len(axis)] if stored is whole else []
    from_south = any(
        is_from_south({key: plain(value) for key, value in of.attrs.items() if key in _OF_AXIS}, of.name, of[:])
        for of in axes
    )
    is_column = stored.ndim == 1
    return Member(stored.shape, read, unit if isinstance(unit, str) else "", is_column, from_south=from_south)


def _of_a_set(path: Path) -> Members:
    """Factors by their names, images, and what stands beside them, which is carried along."""
    made = open_set(path)
    found = {factor.name: table_member(column) for factor, column in zip(made.factors, made.values.T, strict=True)}
    found = {factor.name: found[factor.name]._replace(unit=factor.unit, factor=factor) for factor in made.factors}
    told = {name: str(made.provenance[name]) for name in _OF_IMAGES if name in made.provenance}

    def images(rows: np.ndarray, axis: int) -> np.ndarray:
        return shown(made.images, rows) if filled is None else filled.zeroed(rows)[0]

    def weights(rows: np.ndarray, axis: int) -> np.ndarray:
        assert filled is not None
        return np.broadcast_to(filled.weights_at(rows), (len(rows), *made.shape))

    filled = made.images if isinstance(made.images, Filled) and made.weights is not None else None
    unit = told.get("image_unit", "")
    beside = {"images": Member(made.images.shape, images, unit, is_column=False)}
    if filled is not None:
        beside["weights"] = Member(made.images.shape, weights, is_column=False)
    beside |= {name: table_member(of) for name in ("id", "group", "split") if (of := getattr(made, name)) is not None}
    options = {name: f"/{name}" if name in found else name for name in beside} | {"columns": ",".join(found)}
    beside = {options[name]: of for name, of in beside.items()}  # a quantity may have the name of one
    if made.factor_errors is not None:
        known = {name: of for name, of in zip(found, made.factor_errors.T, strict=True) if not np.isnan(of).all()}
        beside |= {f"factor_errors/{name}": table_member(of) for name, of in known.items()}
        options["errors"] = ",".join(f"{name}=factor_errors/{name}" for name in known)
    everything = beside | found
    return Members(path, list(everything), everything.__getitem__, options, told)


_OF_AXIS = ("units", "standard_name", "axis")
_OF_IMAGES = ("image_unit", "image_origin", "bands")
"""Attributes of a set that belong to its images."""
