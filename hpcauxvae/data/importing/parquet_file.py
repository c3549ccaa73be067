"""Parquet: columns, lists of numbers as arrays, structs field by field (`image.flux` of the Multimodal Universe)."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.importing.members import Member, Members, reading, required
from hpcauxvae.types import InputError


def members(path: Path) -> Members:
    """A file, or all files of a folder in the order of their names. A field of a struct is named `struct.field`."""
    parquet = required("pyarrow.parquet", path, "Parquet files", "'hpcauxvae[import]'")
    arrow = required("pyarrow", path, "Parquet files", "'hpcauxvae[import]'")
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    with reading(path, "Parquet", arrow.ArrowException):
        files = [parquet.ParquetFile(part) for part in paths]
    schema = files[0].schema_arrow
    for part, file in zip(paths, files, strict=True):
        if file.schema_arrow.names != schema.names:
            raise InputError(f"{part}: columns {', '.join(file.schema_arrow.names)}; allowed: those of {paths[0]}")
    groups = [(file, number) for file in files for number in range(file.num_row_groups)]
    sizes = [file.metadata.row_group(number).num_rows for file, number in groups]
    edges = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
    if edges[-1] == 0:
        raise InputError(f"{path}: no rows")

    @lru_cache(maxsize=8)
    def load(group: int, column: str, field: str) -> Any:
        file, number = groups[group]
        leaves = [file.schema.column(n).path for n in range(len(file.schema))]
        wanted = [
            leaf for leaf in leaves if leaf.split(".")[0] == column and (not field or field in leaf.split(".")[1:])
        ]
        with reading(path, "Parquet", arrow.ArrowException):
            return _plain(file.read_row_group(number, columns=wanted).column(0).combine_chunks())

    fields: dict[str, tuple[str, str]] = {}
    for field in schema:
        inner = _struct_in(_storage(field.type))
        if inner is None:
            fields[field.name] = (field.name, "")
        else:
            fields |= {
                f"{field.name}.{inner.field(n).name}": (field.name, inner.field(n).name)
                for n in range(inner.num_fields)
            }
    return Members(path, list(fields), lambda name: _member(path, schema, edges, load, *fields[name]))


def _storage(kind: Any) -> Any:
    """The type that an extension type, as that of Hugging Face's arrays, is stored as."""
    return getattr(kind, "storage_type", kind)


def _plain(array: Any) -> Any:
    array = getattr(array, "storage", array)
    return array.dictionary_decode() if hasattr(array, "dictionary_decode") else array


def _struct_in(kind: Any) -> Any:
    """The struct that a column holds, one or a list of them (a struct a band)."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    return kind if types.is_struct(kind) else None


def _member(path: Path, schema: Any, edges: np.ndarray, load: Any, column: str, field: str) -> Member:
    from pyarrow import types

    kind = _storage(schema.field(column).type)
    told = schema.field(column).metadata or {}
    unit = told.get(b"unit", told.get(b"units", b"")).decode(errors="replace")
    is_column = not field and not types.is_nested(kind) and not types.is_binary(kind)

    def read(rows: np.ndarray, axis: int) -> Any:
        if axis:
            raise InputError(f"{path}: {column}: axis {axis} counts the samples; allowed in Parquet: the first")
        group = np.searchsorted(edges, rows, side="right") - 1
        if not is_column:
            return [
                _cell(path, load(int(g), column, field), int(r - edges[g]), int(r), column, field)
                for g, r in zip(group, rows, strict=True)
            ]
        parts, place = [], np.argsort(group, kind="stable")
        for number in np.unique(group):
            parts.append(_column(load(int(number), column, ""))[rows[group == number] - edges[number]])
        found = np.ma.concatenate(parts) if parts else np.ma.array([])
        return found[np.argsort(place, kind="stable")]

    return Member((int(edges[-1]),), read, unit, is_column)


def _column(array: Any) -> np.ma.MaskedArray:
    """Whole numbers stay whole where some are missing."""
    from pyarrow import types

    missing = array.is_null().to_numpy(zero_copy_only=False)
    if types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type):
        filled = array.fill_null(False if types.is_boolean(array.type) else 0)
        return np.ma.array(filled.to_numpy(zero_copy_only=False), mask=missing)
    values = np.array(array.to_pylist(), object)
    return np.ma.array(values, mask=missing)


def _cell(path: Path, array: Any, at: int, row: int, column: str, field: str) -> Any:
    """The array, or the bytes, of a cell; of a list of structs, the field of each, one after the other."""
    from pyarrow import compute, types

    name = f"{column}.{field}" if field else column
    scalar = array[at]
    if scalar.is_valid and field and types.is_struct(array.type):
        scalar = scalar[field]
    if not scalar.is_valid:
        raise InputError(f"{path}: {name} in row {row} is empty; allowed: an array in each row")
    if types.is_binary(scalar.type) or types.is_large_binary(scalar.type):
        return scalar.as_py()
    if not hasattr(scalar, "values"):
        raise InputError(f"{path}: {name} in row {row} is {scalar.type}; allowed: lists of numbers, or images in bytes")
    values = scalar.values
    if field and types.is_struct(values.type):
        values = compute.struct_field(values, field)
    return _dense(_plain(values), f"{path}: {name} in row {row}")


def _dense(array: Any, source: str) -> np.ndarray:
    """Lists of lists as an array. Raises InputError where they differ in length, or a number is missing."""
    from pyarrow import types

    array = _plain(array)
    if array.null_count and not types.is_floating(array.type):
        raise InputError(f"{source}: has empty cells; allowed: numbers")
    if types.is_fixed_size_list(array.type):
        inner = _dense(array.flatten(), source)
        return inner.reshape(len(array), array.type.list_size, *inner.shape[1:])
    if types.is_list(array.type) or types.is_large_list(array.type):
        lengths = np.unique(array.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) > 1:
            raise InputError(f"{source}: lists of {lengths[0]} and of {lengths[-1]}; allowed: lists of one length")
        inner = _dense(array.flatten(), source)
        return inner.reshape(len(array), int(lengths[0]) if len(lengths) else 0, *inner.shape[1:])
    if types.is_string(array.type) or types.is_large_string(array.type):
        return np.array(array.to_pylist())
    return np.asarray(array.to_numpy(zero_copy_only=False))
