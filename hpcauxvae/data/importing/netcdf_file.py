"""NetCDF, version 4, which is HDF5, and 3."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing import hdf5_file
from hpcauxvae.data.importing.members import Member, Members, decoded, is_from_south, reading, table_member, taken
from hpcauxvae.data.stored import plain


def members(path: Path) -> Members:
    """The variables with at least one axis; missing values are NaN, and packed values unpacked."""
    with open(path, "rb") as file:
        if file.read(3) != b"CDF":
            return hdf5_file.members(path, letters=True)
    from scipy.io import netcdf_file

    with reading(path, "NetCDF", IndexError, KeyError, AssertionError):
        opened = netcdf_file(path, "r", mmap=False)
        variables = {name: stored for name, stored in opened.variables.items() if stored.shape}
    return Members(path, list(variables), lambda name: _member(variables[name], variables))


def _member(stored: Any, variables: Mapping[str, Any]) -> Member:
    attributes = {name: plain(value) for name, value in stored._attributes.items()}
    if stored.data.dtype == np.dtype("S1"):
        lines = [b"".join(line).decode(errors="backslashreplace").rstrip("\0 ") for line in stored.data.tolist()]
        return table_member(np.array(lines))

    def read(rows: np.ndarray, axis: int) -> np.ndarray:
        values = taken(stored.data, rows, axis)
        return decoded(values.astype(values.dtype.newbyteorder("=")), attributes)

    axes = [(name, variables[name]) for name in stored.dimensions if name in variables]
    from_south = any(
        is_from_south({key: plain(value) for key, value in of._attributes.items()}, name, of.data) for name, of in axes
    )
    is_column = len(stored.shape) == 1
    return Member(stored.shape, read, str(attributes.get("units", "")), is_column, from_south=from_south)
