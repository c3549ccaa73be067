"""The one file format: labelled images in HDF5, read, written and checked (docs/data-format.md is the page for users).

N samples, C channels, H height, W width, F factors.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike

from hpcauxvae.data.checksums import checksum_errors
from hpcauxvae.data.given import Labels, Pixels, check_factors, check_order, labels, pixels, put
from hpcauxvae.data.shards import lost_parts
from hpcauxvae.data.stored import Clipped, StoredImages, in_pieces, open_file, plain, read_rows
from hpcauxvae.runtime.files import whole
from hpcauxvae.types import KINDS, Factor, InputError

FORMAT_VERSION = 1
Provenance = Mapping[str, str | int | float]

_FIELDS = {"name": "texts", "unit": "texts", "low": "numbers", "high": "numbers", "kind": "texts"}
"""The fields of Factor, each an attribute; a file may leave out `kind`."""
_PIXELS = (np.dtype(np.float32), np.dtype(np.uint8))
"""Types of pixels."""
_HEADERS_BYTES = 1 << 16  # enough for names, attributes and alignment
_SPLIT = (7, 2, 1)
"""Shares of training, validation and test; also the name of the stream that splits a set."""
_PAGE = 4096  # images start on a page, so that a memory map of them is aligned


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A file that `open_set` found in order."""

    path: Path
    factors: tuple[Factor, ...]
    """What was measured: the columns of `values`."""
    values: np.ndarray
    """(N, F) float64 in physical units; NaN where not measured."""
    images: np.ndarray | StoredImages | Clipped
    """(N, C, H, W) float32 or uint8, linear data units: a read-only memory map where the layout allows, else read by
    h5py."""
    provenance: dict[str, str | int | float]
    """Where the data come from: simulator, version, seed, command, parameters."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def scaled(self) -> np.ndarray:
        """(N, F) float64: each factor's recorded range mapped to [0, 1]; NaN where not measured."""
        return np.stack([f.scale(column) for f, column in zip(self.factors, self.values.T, strict=True)], axis=1)

    def column(self, names: Sequence[str]) -> list[int]:
        """The columns of these factors, in the order given.

        Raises InputError where a name is unknown (listing the known ones) or given twice.
        """
        known = [factor.name for factor in self.factors]
        for name in names:
            if name not in known:
                raise InputError(f"{self.path}: factor {name!r} is unknown; known are {', '.join(known)}")
            if list(names).count(name) > 1:
                raise InputError(f"{self.path}: factor {name!r} is given more than once in {','.join(names)}")
        return [known.index(name) for name in names]

    @cached_property
    def fingerprint(self) -> str:
        """A cheap hash of the content: shape, factors, all factor values and 64 images spread over the set."""
        digest = hashlib.sha256(repr((self.images.shape, [tuple(factor) for factor in self.factors])).encode())
        digest.update(self.values.tobytes())
        for sample in np.linspace(0, len(self) - 1, 64).astype(int):
            digest.update(self.images[int(sample)].tobytes())
        return digest.hexdigest()[:16]


def open_set(path: str | Path) -> ImageSet:
    """Opens a file after every check but that of the pixels (`check_pixels`).

    Raises InputError naming file, field, value and what is allowed.
    """
    path = Path(path)
    with open_file(path) as file:
        _refuse(path, _layout_errors(file))
        factors, values = _read_factors(file)
        provenance = _read_provenance(file.attrs)
        offset, shape = _map_offset(file, file["images"]), file["images"].shape
        dtype = file["images"].dtype.newbyteorder("=")
    _refuse(path, _value_errors(values, factors))
    if offset is None:
        images: np.ndarray | StoredImages = StoredImages(path, shape, dtype)
    else:
        images = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return ImageSet(path=path, factors=factors, values=values, images=images, provenance=provenance)


def check_pixels(image_set: ImageSet, samples: slice = slice(None), mark: Callable[[], None] = lambda: None) -> None:
    """Raises InputError, naming the first sample, if any pixel is NaN or infinite, or cannot be read.

    Reads these images, in parts, and calls `mark` after each.
    """
    _refuse(image_set.path, _pixel_errors(image_set.images, range(*samples.indices(len(image_set))), mark))


def validate(path: str | Path) -> list[str]:
    """Every rule of the format: one line for each thing wrong, none for a good file. Reads all images."""
    path = Path(path)
    errors: list[str] = []
    try:
        with open_file(path) as file:
            errors += (f"{path}: {error}" for error in _layout_errors(file))
            if not errors:
                factors, values = _read_factors(file)
                for found in (_value_errors(values, factors), _pixel_errors(file["images"]), checksum_errors(file)):
                    errors += (f"{path}: {error}" for error in found)
    except InputError as error:
        errors.append(str(error))
    return errors


@contextmanager
def create(
    path: str | Path,
    shape: tuple[int, int, int, int],
    factors: Sequence[Factor],
    provenance: Provenance,
    dtype: DTypeLike = np.float32,
) -> Iterator[tuple[h5py.Dataset, h5py.Dataset]]:
    """A new file to be filled: yields the data sets `images` of `shape` (N, C, H, W) and `factors` (N, F).

    dtype: of the images, float32 or uint8.
    They take masked labels, as NaN, and refuse what they would round or cut off (given.py), by `[...] =` and
    `write_direct`; other ways to the file, such as `.file["factors"]`, are h5py's own, which drops masks.
    The file stands under a temporary name until the block ends without an exception; then its factors are checked, it
    is forced to disk and renamed, so that no reader ever sees half of it. What is never written reads as NaN, or 0 in
    uint8.
    Raises InputError if `path` exists, the factors break a rule of the format, or the disk does not take the file.
    """
    check_factors(factors, path)
    pixel = np.dtype(dtype)
    n_bytes = int(np.prod(shape)) * pixel.itemsize + shape[0] * len(factors) * 8
    with whole_file(path, n_bytes) as part, reopen(part) as file:
        values = begin(file, shape[0], factors, provenance)
        fill = np.nan if pixel.kind == "f" else 0
        images = file.create_dataset("images", shape, pixel.newbyteorder("<"), fillvalue=fill)
        yield Pixels(images.id), Labels(values.id)
        _refuse(path, [*_layout_errors(file), *_value_errors(values[:], tuple(factors))])


@contextmanager
def whole_file(path: str | Path, n_bytes: int, replace: bool = False) -> Iterator[Path]:
    """An empty HDF5 file of a temporary name with room for `n_bytes` of data; it becomes `path` if the block ends well.

    replace: an older file at `path` stands until then, and goes.
    Raises InputError if `path` exists otherwise, or the disk does not take the file.
    """
    path = Path(path)
    if not replace:
        refuse_existing(path)
    with whole(path) as part:
        _reserve(part, n_bytes)
        yield part
        if not replace:
            refuse_existing(path)


def reopen(part: Path, **driver: Any) -> h5py.File:
    """A file of `whole_file`, to be filled; its data sets begin on pages. Nobody else knows its name: without locks."""
    return h5py.File(part, "r+", locking=False, alignment_threshold=_PAGE, alignment_interval=_PAGE, **driver)


def begin(file: h5py.File, n: int, factors: Sequence[Factor], provenance: Provenance) -> h5py.Dataset:
    """Writes everything of a set but `images`; returns its data set `factors` (n, F), to be filled."""
    file.attrs["format_version"] = FORMAT_VERSION
    put(provenance, file.attrs)
    values = file.create_dataset("factors", (n, len(factors)), "<f8", fillvalue=np.nan)
    for field, kind in _FIELDS.items():
        dtype = h5py.string_dtype() if kind == "texts" else np.float64
        values.attrs[field] = np.array([getattr(factor, field) for factor in factors], dtype)
    return values


def write(
    path: str | Path, images: np.ndarray, factors: np.ndarray, factor_list: Sequence[Factor], provenance: Provenance
) -> None:
    """Writes a whole set that fits in memory: `images` (N, C, H, W), `factors` (N, F) in the units of `factor_list`.

    Images of type uint8 are stored as such, all others as float32. Masked labels become NaN.
    Raises InputError if `path` exists, a shape is wrong, the values break a rule of the format or are no numbers, or
    pixels are masked.
    """
    check_factors(factor_list, path)
    check_order(factors, [factor.name for factor in factor_list], path)
    images = pixels(images, path)
    factors = labels(factors, f"{path}: factors", [factor.unit for factor in factor_list])
    if images.ndim != 4:
        raise InputError(f"{path}: images: shape {images.shape} is not (N, C, H, W)")
    if factors.shape != (len(images), len(factor_list)):
        raise InputError(f"{path}: factors: shape {factors.shape} is not (N, F) = {(len(images), len(factor_list))}")
    _refuse(path, _pixel_errors(images))
    dtype = np.uint8 if images.dtype == np.uint8 else np.float32
    with create(path, images.shape, factor_list, provenance, dtype) as (stored_images, stored_factors):
        stored_images[:] = images
        stored_factors[:] = factors


def refuse_existing(path: Path) -> None:
    """Raises InputError where `path` cannot be made: it exists, or its folder does not."""
    if path.exists():
        raise InputError(f"{path}: exists already; remove it or name another file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist")


def split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test indices of `n` samples, 7 : 2 : 1, each (.,) int64.

    The samples are put in the order of the first n raw 64-bit draws of numpy's PCG64, the same on every platform and in
    every version, seeded by SeedSequence(seed, spawn_key=(7, 2, 1)): from PCG64(seed) itself a user's default_rng(seed)
    draws labels, and the split would sort by them. The last n // 10 of that order are the test set, 2 n // 10 before
    them validation, the rest training. Raises InputError if a part would be empty.
    """
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_SPLIT))
    order = np.argsort(stream.random_raw(n), kind="stable")
    n_validation, n_test = (n * share // sum(_SPLIT) for share in _SPLIT[1:])
    n_train = n - n_validation - n_test
    if min(n_train, n_validation, n_test) < 1:
        parts = (n_train, n_validation, n_test)
        raise InputError(f"{n} samples split {_SPLIT} leave a part empty {parts}; allowed: 10 or more samples")
    return order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :]


def _read_provenance(attributes: h5py.AttributeManager) -> dict[str, Any]:
    found = {}
    for name in attributes:
        try:
            found[plain(name)] = plain(attributes[name])
        except TypeError:
            found[plain(name)] = "of a type that h5py cannot read"
    found.pop("format_version", None)
    return found


def _read_factors(file: h5py.File) -> tuple[tuple[Factor, ...], np.ndarray]:
    values = file["factors"]
    kinds = values.attrs.get("kind", ["continuous"] * values.shape[1])
    columns = zip(*(values.attrs[field] for field in ("name", "unit", "low", "high")), kinds, strict=True)
    factors = tuple(Factor(plain(n), plain(u), float(low), float(high), plain(k)) for n, u, low, high, k in columns)
    return factors, read_rows(values, slice(None))


def _map_offset(file: h5py.File, images: h5py.Dataset) -> int | None:
    """Where in the file the images lie, or None where they are not one plain block of it, or in a file it links to."""
    if images.file.filename != file.filename:
        return None
    if images.chunks is not None or images.is_virtual or not images.dtype.isnative:
        return None
    offset: int | None = images.id.get_offset()
    return offset


def _layout_errors(file: h5py.File) -> Iterator[str]:
    """What keeps the file from being read at all."""
    version = file.attrs.get("format_version")
    if version != FORMAT_VERSION:
        yield f"attribute format_version: {version} is not {FORMAT_VERSION}, which this version of hpcauxvae reads"
        return
    for name, axes, dtypes in (("images", "(N, C, H, W)", _PIXELS), ("factors", "(N, F)", (np.dtype(np.float64),))):
        stored = file.get(name)
        if not isinstance(stored, h5py.Dataset):
            link = file.get(name, getlink=True)
            where = f" in {link.filename}, to which it links" if isinstance(link, h5py.ExternalLink) else ""
            yield f"{name}: missing{where}; needs a data set {axes}"
            return
        if stored.ndim != axes.count(",") + 1 or 0 in stored.shape:
            yield f"{name}: shape {stored.shape} is not {axes} with every size at least 1"
            return
        if stored.dtype.newbyteorder("=") not in dtypes:
            yield f"{name}: type {stored.dtype} is not {' or '.join(map(str, dtypes))}"
        for lost in lost_parts(stored):
            yield f"{name}{',' if lost.startswith('shard ') else ':'} {lost}"
    n, n_factors = file["factors"].shape
    if len(file["images"]) != n:
        yield f"images: {len(file['images'])} samples, but factors has {n}"
    if n < 2:
        yield f"images: {n} samples; at least 2 are needed"
    yield from _attribute_errors(file["factors"].attrs, n_factors)


def _attribute_errors(attributes: Mapping[str, Any], n_factors: int) -> Iterator[str]:
    """Faults in the names, units and ranges of the factors."""
    for field, kind in _FIELDS.items():
        if field == "kind" and field not in attributes:
            continue
        found, letters = np.asarray(attributes.get(field)), "OS" if kind == "texts" else "iuf"
        if found.shape != (n_factors,) or found.dtype.kind not in letters:
            yield f"factors, attribute {field}: {found} is not a list of {n_factors} {kind}"
            return
    names = [plain(name) for name in attributes["name"]]
    for name, kind in zip(names, map(plain, attributes.get("kind", ())), strict=False):
        if kind not in KINDS:
            yield f"factors, {name}: kind {kind!r} is not allowed; {', '.join(KINDS)}"
    for name, low, high in zip(names, attributes["low"], attributes["high"], strict=True):
        if not name or "," in name or names.count(name) > 1:
            yield f"factors, attribute name: {name!r} is not allowed; each needs its own name, without a comma"
        if not (np.isfinite([low, high]).all() and low < high):
            yield f"factors, {name}: range {low} to {high} is not allowed; low < high, both finite"


def check_values(values: np.ndarray, factors: tuple[Factor, ...], source: str) -> None:
    """Raises InputError where values (N, F) break a rule of the format: they could be drawn, but not stored."""
    _refuse(source, _value_errors(values, factors))


def _refuse(source: str | Path, errors: Iterable[str]) -> None:
    """Raises InputError for the first of these errors, where there is any."""
    for error in errors:
        raise InputError(f"{source}: {error}")


def _value_errors(values: np.ndarray, factors: tuple[Factor, ...]) -> Iterator[str]:
    """Faults in the factors' values (N, F). NaN is allowed: not measured."""
    for factor, column in zip(factors, values.T, strict=True):
        allowed = f"{factor.low} to {factor.high} {factor.unit}".strip()
        outside = np.flatnonzero((column < factor.low) | (column > factor.high))
        if len(outside):
            yield (
                f"factors, {factor.name}: {column[outside[0]]} of sample {outside[0]} is outside its range {allowed}"
                f" ({len(outside)} such values)"
            )
        measured = column[~np.isnan(column)]
        if len(measured) == 0:
            yield f"factors, {factor.name}: no sample has a value"
        elif len(measured) > 1 and np.ptp(measured) == 0:
            yield f"factors, {factor.name}: constant ({measured[0]}); a factor must vary"


def _pixel_errors(
    images: np.ndarray | StoredImages | Clipped | h5py.Dataset,
    samples: range | None = None,
    mark: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """NaN and infinite pixels of these samples, or of all: the first one, and how many samples have any."""
    samples = range(len(images)) if samples is None else samples
    first, count = "", 0
    for rows, part in in_pieces(images, samples):
        with np.errstate(over="ignore"):
            bad = np.argwhere(~np.isfinite(part if part.dtype.itemsize <= 4 else part.astype(np.float32)))
        if len(bad):
            sample, channel, row, column = bad[0]
            first = (
                first or f"{part[tuple(bad[0])]} in sample {rows[sample]}, channel {channel}, pixel ({row}, {column})"
            )
            count += len(np.unique(bad[:, 0]))
        mark()
    if first:
        yield f"images: {first} is not finite ({count} of {len(samples)} samples have such pixels)"


def _reserve(part: Path, n_bytes: int) -> None:
    """An HDF5 file with nothing in it and room for `n_bytes` of data: HDF5 may crash where a disk fills up under it."""
    with h5py.File(part, "w", driver="core", backing_store=False) as empty:
        empty.flush()
        image = empty.id.get_file_image()
    with open(part, "wb") as file:
        file.write(image)
        file.flush()
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, n_bytes + _HEADERS_BYTES)
