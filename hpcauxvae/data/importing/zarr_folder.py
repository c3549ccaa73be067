"""Zarr: the arrays of a group by name, or one array."""

from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing.members import Member, Members, decoded, reading, required, taken


def members(path: Path) -> Members:
    """The arrays with at least one axis, also in groups (`group/name`)."""
    zarr = required("zarr", path, "Zarr arrays", "'hpcauxvae[import]'")
    with reading(path, "Zarr", KeyError, zarr.errors.BaseZarrError):
        opened = zarr.open(str(path), mode="r")
        found = {path.stem: opened} if isinstance(opened, zarr.Array) else dict(_arrays(opened))
    return Members(path, list(found), lambda name: _member(path, name, found[name]))


def _arrays(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    own = [(prefix + name, array) for name, array in group.arrays() if array.ndim]
    return own + [pair for name, inner in group.groups() for pair in _arrays(inner, f"{prefix}{name}/")]


def _member(path: Path, name: str, array: Any) -> Member:
    attributes = dict(array.attrs)

    def read(rows: np.ndarray, axis: int) -> np.ndarray:
        with reading(path, f"Zarr, {name}", RuntimeError):
            return decoded(taken(array, rows, axis), attributes)

    unit = attributes.get("units", attributes.get("unit", ""))
    return Member(array.shape, read, unit if isinstance(unit, str) else "", array.ndim == 1)
