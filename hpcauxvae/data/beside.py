"""What may stand beside images and factors in a file: weights, errors, ids, groups, parts, missing pixels.

N samples, C channels, H height, W width, F factors.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from hpcauxvae.data.given import is_text, labels
from hpcauxvae.data.shards import lost_parts
from hpcauxvae.data.stored import open_file, plain, read_rows
from hpcauxvae.types import InputError

PARTS = ("train", "validation", "test")
"""What `split` may say of a sample."""
MISSING = "missing_pixels"
NAMES = ("weights", "factor_errors", "id", "group", "split")
"""The data sets."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What `write` and `create` take by keyword, beside images and factors."""

    weights: Any = None
    """Inverse variances of the pixels, (N or 1, C, H or 1, W or 1), 0 where a pixel is missing. For `create` such an
    array, or its shape: it is then to be filled as `images.file["weights"]`."""
    factor_errors: Any = None
    """Standard deviations of the labels, (N, F), in the factors' units; NaN where unknown."""
    id: Any = None
    """(N) texts or whole numbers, each different: the samples' names in a catalogue."""
    group: Any = None
    """(N) texts or whole numbers: samples of a group are kept in one part of the split."""
    split: Any = None
    """(N) of the texts train, validation and test: the parts themselves."""
    missing_pixels: Literal["nan"] | None = None
    """`nan`: a pixel that is NaN, or masked, is missing."""

    def is_there(self) -> bool:
        """Whether there is anything."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def n_bytes(self) -> int:
        """Of what `put` writes, generously for texts."""
        columns = (self.factor_errors, self.id, self.group, self.split)
        sizes = [0 if given is None else np.size(given) for given in columns]
        weights = self.weights if isinstance(self.weights, tuple) else np.shape(self.weights) or (0,)
        return 4 * int(np.prod(weights)) + 64 * sum(sizes)

    def put(self, file: h5py.File, shape: tuple[int, ...], units: Sequence[str]) -> None:
        """Writes all of it into a file for images of `shape`. Raises InputError for another kind or shape."""
        path = file.filename
        if self.missing_pixels is not None:
            file.attrs[MISSING] = self.missing_pixels
        if self.weights is not None:
            given = self.weights
            only_shape = isinstance(given, tuple) and all(isinstance(size, int) for size in given)
            values = None if only_shape else _weights(given, f"{path}: weights")
            size = tuple(given) if values is None else values.shape
            _refuse(path, _weights_errors(size, shape))
            stored = file.create_dataset("weights", size, "<f4", fillvalue=np.nan)
            if values is not None:
                stored[:] = values
        if self.factor_errors is not None:
            values = labels(self.factor_errors, f"{path}: factor_errors", units)
            _refuse(path, _errors_errors(values.shape, (shape[0], len(units))))
            file.create_dataset("factor_errors", data=values, dtype="<f8")
        for name in ("id", "group", "split"):
            if (given := getattr(self, name)) is not None:
                _put_names(file, name, given, shape[0])


def _weights(given: Any, source: str) -> np.ndarray:
    """Inverse variances as float32. Raises InputError where one is too large for that, as of a tiny error."""
    values = labels(given, source)
    with np.errstate(over="ignore"):
        stored = values.astype(np.float32)
    if (beyond := np.isfinite(values) & np.isinf(stored)).any():
        raise InputError(
            f"{source}: {values[beyond][0]:g}, which float32 does not hold ({np.count_nonzero(beyond)} such values); "
            "allowed: images in another unit, in which inverse variances are near 1"
        )
    if lost := np.count_nonzero((values > 0) & (stored == 0)):
        print(
            f"warning: {source}: {lost} are above 0 but too small for float32, which holds them as 0: their pixels "
            "count as missing; in another unit of the images inverse variances are near 1",
            file=sys.stderr,
            flush=True,
        )
    return stored


def _put_names(file: h5py.File, name: str, given: Any, n: int) -> None:
    """A column of texts or whole numbers."""
    path = file.filename
    if np.ma.is_masked(given):
        raise InputError(f"{path}: {name}: {np.ma.count_masked(given)} are masked; allowed: one for each sample")
    values = np.asarray(given)
    texts = values.dtype.kind in "OSU"
    for value in values.ravel() if texts else ():
        if not is_text(value):
            raise InputError(f"{path}: {name}: {value!r:.99} is no text; allowed: texts, or whole numbers")
    if not texts and values.dtype.kind not in "iu":
        raise InputError(f"{path}: {name}: type {values.dtype}; allowed: texts or whole numbers, which keep all digits")
    _refuse(path, _length_errors(name, values.shape, n))
    stored = np.array([plain(value) for value in values], object) if texts else values
    file.create_dataset(name, data=stored, dtype=h5py.string_dtype() if texts else values.dtype)


def put_ids(file: h5py.File, ids: Any) -> None:
    """Writes the ids of samples, if there are any, into a file of what was made of them."""
    if ids is not None:
        _put_names(file, "id", ids, len(ids))


def ids_bytes(ids: np.ndarray | None) -> int:
    """Room for these."""
    return 0 if ids is None else len(ids) * (32 + ids.dtype.itemsize)


def layout_errors(file: h5py.File) -> Iterator[str]:
    """What of this in a file is of another type or shape than it must be."""
    images, missing = file["images"], plain(file.attrs.get(MISSING))
    if missing not in (None, "nan"):
        yield f"attribute {MISSING}: {missing!r} is not allowed; nan, or nothing where no pixel is missing"
    elif missing and images.dtype.kind != "f":
        yield f"attribute {MISSING}: nan, but images of {images.dtype} hold none; allowed: weights of 0"
    for name in NAMES:
        if name not in file:
            continue
        stored = file.get(name)
        if not isinstance(stored, h5py.Dataset):
            yield f"{name}: is not a data set"
            continue
        yield from (f"{name}{',' if lost.startswith('shard ') else ':'} {lost}" for lost in lost_parts(stored))
        kind = "text" if h5py.check_string_dtype(stored.dtype) or stored.dtype.kind == "S" else stored.dtype.kind
        if name == "weights":
            yield from _weights_errors(stored.shape, images.shape)
            allowed: tuple[str, ...] = ("f",) if stored.dtype.itemsize == 4 else ()
            wanted = "float32"
        elif name == "factor_errors":
            yield from _errors_errors(stored.shape, file["factors"].shape if "factors" in file else (len(images), 0))
            allowed, wanted = ("f",) if stored.dtype.itemsize == 8 else (), "float64"
        else:
            yield from _length_errors(name, stored.shape, len(images))
            allowed = ("text",) if name == "split" else ("text", "i", "u")
            wanted = "text" if name == "split" else "text or a whole number"
        if kind not in allowed:
            yield f"{name}: type {stored.dtype} is not {wanted}"


def _weights_errors(shape: tuple[int, ...], images: tuple[int, ...]) -> Iterator[str]:
    allowed = [{images[0], 1}, {images[1]}, {images[2], 1}, {images[3], 1}]
    if len(shape) != 4 or any(size not in sizes for size, sizes in zip(shape, allowed, strict=True)):
        yield f"weights: shape {tuple(shape)} is not (N or 1, C, H or 1, W or 1) of images {tuple(images)}"


def _errors_errors(shape: tuple[int, ...], factors: tuple[int, ...]) -> Iterator[str]:
    if tuple(shape) != tuple(factors):
        yield f"factor_errors: shape {tuple(shape)} is not that of factors, {tuple(factors)}"


def _length_errors(name: str, shape: tuple[int, ...], n: int) -> Iterator[str]:
    if tuple(shape) != (n,):
        yield f"{name}: shape {tuple(shape)} is not ({n},), one for each image"


def read(file: h5py.File) -> dict[str, Any]:
    """All of it but the weights, by the names of ImageSet's fields: for a file without faults in its layout."""
    found: dict[str, Any] = {"nan_is_missing": MISSING in file.attrs}
    for name in NAMES[1:]:
        if name in file:
            values = read_rows(file[name], slice(None))
            found[name] = np.array([plain(value) for value in values], str) if values.dtype.kind in "OS" else values
    return found


def ignored(path: Path) -> Iterator[str]:
    """A sentence on what a file of version 1 holds of this, which is not read there, if it holds any."""
    with open_file(path) as file:
        found = [name for name in NAMES if name in file] + [MISSING] * (MISSING in file.attrs)
        if "factors" in file and "transform" in file["factors"].attrs:
            transforms = np.atleast_1d(file["factors"].attrs["transform"])
            found += ["transform"] * any(plain(transform) != "linear" for transform in transforms)
        if found and file.attrs.get("format_version") == 1:
            yield f"{', '.join(found)}: not read in a file of format_version 1; set it to 2"


def value_errors(found: dict[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Faults in the values of what `read` gives. names: of the factors."""
    if (errors := found.get("factor_errors")) is not None:
        for name, column in zip(names, errors.T, strict=True):
            bad = np.flatnonzero((column < 0) | np.isinf(column))
            if len(bad):
                yield (
                    f"factor_errors, {name}: {column[bad[0]]} of sample {bad[0]} is not allowed ({len(bad)} such "
                    "values); 0 or more, and NaN where it is not known"
                )
    if (ids := found.get("id")) is not None:
        values, counts = np.unique(ids, return_counts=True)
        if len(values) < len(ids):
            twice = values[counts > 1][0]
            at = np.flatnonzero(ids == twice)[:2].tolist()
            yield f"id: {twice!s} is that of samples {at[0]} and {at[1]} ({len(ids) - len(values)} are there again)"
    if (split := found.get("split")) is not None:
        odd = np.flatnonzero(~np.isin(split, PARTS))
        if len(odd):
            yield f"split: {str(split[odd[0]])!r} of sample {odd[0]} is not allowed; {', '.join(PARTS)}"


def _refuse(source: str, errors: Iterator[str]) -> None:
    for error in errors:
        raise InputError(f"{source}: {error}")
