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

from hpcauxvae.data import beside, classes, rules
from hpcauxvae.data.beside import Beside
from hpcauxvae.data.checksums import checksum_errors
from hpcauxvae.data.given import Labels, Pixels, check_factors, check_order, labels, pixels, put
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.missing import Filled, pixel_errors
from hpcauxvae.data.stored import Clipped, StoredImages, open_file, plain, read_rows
from hpcauxvae.runtime.files import whole
from hpcauxvae.types import Factor, InputError

Provenance = Mapping[str, str | int | float]

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
    images: np.ndarray | StoredImages | Clipped | Filled
    """(N, C, H, W) float32, uint8, uint16 or float16, linear data units: a read-only memory map where the layout
    allows, else read by h5py; `Filled` where pixels may be missing."""
    provenance: dict[str, str | int | float]
    """Where the data come from: simulator, version, seed, command, parameters."""
    weights: np.ndarray | StoredImages | None = None
    """(N or 1, C, H or 1, W or 1) float32, inverse variances of the pixels as the file has them; 0 where missing."""
    nan_is_missing: bool = False
    """Whether NaN stands for a missing pixel."""
    factor_errors: np.ndarray | None = None
    """(N, F), standard deviations of the labels, in the factors' units; NaN where not known."""
    id: np.ndarray | None = None
    """(N,) texts or whole numbers: the samples' names in a catalogue."""
    group: np.ndarray | None = None
    """(N,) texts or whole numbers: samples of a group belong into one part of the split."""
    split: np.ndarray | None = None
    """(N,) the texts train, validation and test: the parts as the file has them."""
    guides: tuple[Guide, ...] = ()
    """How factors guide latents, where a run is trained: columns for it then stand behind those of the file."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def own(self) -> int:
        """How many of the factors are those of the file, which come first."""
        return len(self.factors) - sum(len(guide.columns) for guide in self.guides if not guide.plain)

    def scaled(self) -> np.ndarray:
        """(N, F) float64: each factor's recorded range mapped to [0, 1]; NaN where not measured."""
        if not self.factors:
            return self.values
        return np.stack([f.scale(column) for f, column in zip(self.factors, self.values.T, strict=True)], axis=1)

    def scaled_errors(self, rows: Any = slice(None), columns: Any = slice(None)) -> np.ndarray | None:
        """(N, F) float64: the errors of the labels on that scale, 0 where not known; None where none is."""
        if self.factor_errors is None:
            return None
        of_each = zip(self.factors, self.factor_errors.T, self.values.T, strict=True)
        scaled_NF = np.stack([factor.scale_errors(errors, values) for factor, errors, values in of_each], axis=1)
        scaled_NF[~np.isfinite(scaled_NF)] = 0
        return scaled_NF[rows][:, columns] if scaled_NF.any() else None

    def column(self, names: Sequence[str]) -> list[int]:
        """The columns of these factors, in the order given.

        Raises InputError where a name is unknown (listing the known ones) or given twice.
        """
        known = [factor.name for factor in self.factors]
        for name in names:
            if not known:
                raise InputError(f"{self.path}: factor {name!r} is unknown: the file has no factors")
            if name not in known:
                raise InputError(f"{self.path}: factor {name!r} is unknown; known are {', '.join(known)}")
            if list(names).count(name) > 1:
                raise InputError(f"{self.path}: factor {name!r} is given more than once in {','.join(names)}")
        return [known.index(name) for name in names]

    @cached_property
    def fingerprint(self) -> str:
        """A cheap hash of the file's content: shape, factors, all their values and 64 images spread over the set."""
        own = [tuple(f.record()) for f in self.factors[: self.own]]
        digest = hashlib.sha256(repr((self.images.shape, own)).encode())
        digest.update(self.values[:, : self.own].tobytes())
        for sample in np.linspace(0, len(self) - 1, 64).astype(int):
            digest.update(self.images[int(sample)].tobytes())
            if isinstance(self.images, Filled):
                digest.update(self.images.weights_at(int(sample)).tobytes())
        errors = None if self.factor_errors is None else self.factor_errors[:, : self.own]
        beside_them = {"factor_errors": errors, "id": self.id, "group": self.group, "split": self.split}
        for name, values in beside_them.items():
            if values is not None:
                digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()[:16]


def open_set(path: str | Path) -> ImageSet:
    """Opens a file after every check but that of the pixels (`check_pixels`).

    Raises InputError naming file, field, value and what is allowed.
    """
    path = Path(path)
    with open_file(path) as file:
        _refuse(path, rules.layout_errors(file))
        factors, values = _read_factors(file)
        provenance = _read_provenance(file.attrs)
        images: Any = _lie(file, "images")
        weights = None
        more = beside.read(file) if rules.version_of(file) > 1 else {}
        if rules.version_of(file) > 1 and "weights" in file:
            weights = _lie(file, "weights")
    _refuse(path, _faults(values, factors, more))
    if weights is not None or more.get("nan_is_missing"):
        images = Filled(images, weights, more["nan_is_missing"])
    return ImageSet(
        path=path, factors=factors, values=values, images=images, provenance=provenance, weights=weights, **more
    )


def _faults(values: np.ndarray, factors: tuple[Factor, ...], more: dict[str, Any]) -> Iterator[str]:
    yield from beside.value_errors(more, [factor.name for factor in factors])
    yield from rules.value_errors(values, factors, more.get("factor_errors"))


def check_pixels(image_set: ImageSet, samples: slice = slice(None), mark: Callable[[], None] = lambda: None) -> None:
    """Raises InputError, naming the first sample, if a pixel that is not missing is NaN or infinite, or cannot be read.

    So it does for weights below 0, and for images of which every pixel is missing. Reads these images, in parts, and
    calls `mark` after each.
    """
    images = image_set.images.raw if isinstance(image_set.images, Filled) else image_set.images
    rows = range(*samples.indices(len(image_set)))
    _refuse(image_set.path, pixel_errors(images, rows, image_set.weights, image_set.nan_is_missing, mark))


def validate(path: str | Path) -> list[str]:
    """Every rule of the format: one line for each thing wrong, none for a good file. Reads all images."""
    path = Path(path)
    errors: list[str] = []
    try:
        with open_file(path) as file:
            errors += (f"{path}: {error}" for error in rules.layout_errors(file))
            if not errors:
                factors, values = _read_factors(file)
                more = beside.read(file) if rules.version_of(file) > 1 else {}
                weights = file["weights"] if more and "weights" in file else None
                everything = range(len(file["images"]))
                of_pixels = pixel_errors(file["images"], everything, weights, more.get("nan_is_missing", False))
                for found in (_faults(values, factors, more), of_pixels, checksum_errors(file)):
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
    **more: Any,
) -> Iterator[tuple[h5py.Dataset, Any]]:
    """A new file to be filled: yields the data sets `images` of `shape` (N, C, H, W) and `factors` (N, F).

    dtype: of the images, float32, uint8, uint16 or float16; more: the fields of Beside. Without factors the second data
    set is None.
    They take masked labels, as NaN, and refuse what they would round or cut off (given.py), by `[...] =` and
    `write_direct`; other ways to the file, such as `.file["factors"]`, are h5py's own, which drops masks.
    The file stands under a temporary name until the block ends without an exception; then its factors are checked, it
    is forced to disk and renamed, so that no reader ever sees half of it. What is never written reads as NaN, or 0 in
    whole numbers.
    Raises InputError if `path` exists, the factors or what is beside break a rule of the format, or the disk does not
    take the file.
    """
    check_factors(factors, path)
    given, pixel = Beside(**more), np.dtype(dtype)
    n_bytes = int(np.prod(shape)) * pixel.itemsize + shape[0] * len(factors) * 8 + given.n_bytes()
    with whole_file(path, n_bytes) as part, _told_of(path, part), reopen(part) as file:
        if factors:
            values = begin(file, shape[0], factors, provenance)
        else:
            put(provenance, file.attrs)
        if given.is_there() or not factors or str(pixel) not in rules.PIXELS[1]:
            file.attrs["format_version"] = 2
        fill = np.nan if pixel.kind == "f" else 0
        images = file.create_dataset("images", shape, pixel.newbyteorder("<"), fillvalue=fill)
        given.put(file, shape, [factor.unit for factor in factors])
        yield Pixels(images.id), Labels(values.id) if factors else None
        _refuse(path, rules.layout_errors(file))
        read = beside.read(file) if rules.version_of(file) > 1 else {}
        _refuse(path, _faults(_read_factors(file)[1], tuple(factors), read))


@contextmanager
def _told_of(path: str | Path, part: Path) -> Iterator[None]:
    """Names the file by the name that it shall have."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(str(part), str(path)), reported=error.reported) from error


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
    logarithmic = any(factor.transform != "linear" for factor in factors)
    file.attrs["format_version"] = 2 if logarithmic else 1
    put(provenance, file.attrs)
    values = file.create_dataset("factors", (n, len(factors)), "<f8", fillvalue=np.nan)
    for field, kind in rules.FIELDS.items():
        if field == "transform" and not logarithmic:
            continue
        dtype = h5py.string_dtype() if kind == "texts" else np.float64
        values.attrs[field] = np.array([getattr(factor, field) for factor in factors], dtype)
    classes.put(values.attrs, factors)
    return values


def write(
    path: str | Path,
    images: np.ndarray,
    factors: np.ndarray | None,
    factor_list: Sequence[Factor],
    provenance: Provenance,
    **more: Any,
) -> None:
    """Writes a whole set that fits in memory: `images` (N, C, H, W), `factors` (N, F) in the units of `factor_list`.

    more: the fields of Beside. Without factors these are None and an empty list. Images of type uint8, uint16 and
    float16 are stored as such, all others as float32. Masked labels become NaN, and so do masked pixels with
    `missing_pixels="nan"`. Raises InputError if `path` exists, a shape is wrong, the values break a rule of the format
    or are no numbers, or pixels are masked otherwise.
    """
    check_factors(factor_list, path)
    check_order(factors, [factor.name for factor in factor_list], path)
    given = Beside(**more)
    images = pixels(images, path, missing=given.missing_pixels is not None)
    if images.ndim != 4:
        raise InputError(f"{path}: images: shape {images.shape} is not (N, C, H, W)")
    values = np.empty((len(images), 0)) if factors is None and not factor_list else factors
    values = labels(values, f"{path}: factors", [factor.unit for factor in factor_list])
    if values.shape != (len(images), len(factor_list)):
        raise InputError(f"{path}: factors: shape {values.shape} is not (N, F) = {(len(images), len(factor_list))}")
    dtype = images.dtype if str(images.dtype) in rules.PIXELS[2] else np.dtype(np.float32)
    with create(path, images.shape, factor_list, provenance, dtype, **more) as (stored_images, stored_factors):
        weights = stored_images.file.get("weights")
        _refuse(path, pixel_errors(images, range(len(images)), weights, given.missing_pixels is not None))
        stored_images[:] = images
        if stored_factors is not None:
            stored_factors[:] = values


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
    samples = order(n, seed)
    n_validation, n_test = (n * share // sum(_SPLIT) for share in _SPLIT[1:])
    n_train = n - n_validation - n_test
    if min(n_train, n_validation, n_test) < 1:
        parts = (n_train, n_validation, n_test)
        raise InputError(f"{n} samples split {_SPLIT} leave a part empty {parts}; allowed: 10 or more samples")
    return samples[:n_train], samples[n_train : n_train + n_validation], samples[n_train + n_validation :]


def order(n: int, seed: int) -> np.ndarray:
    """0 to n - 1 in the order of the draws that `split` names, (n,) int64."""
    stream = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_SPLIT))
    return np.argsort(stream.random_raw(n), kind="stable")


def _read_provenance(attributes: h5py.AttributeManager) -> dict[str, Any]:
    found = {}
    for name in attributes:
        try:
            found[plain(name)] = plain(attributes[name])
        except TypeError:
            found[plain(name)] = "of a type that h5py cannot read"
    for name in ("format_version", beside.MISSING):
        found.pop(name, None)
    return found


def _read_factors(file: h5py.File) -> tuple[tuple[Factor, ...], np.ndarray]:
    if "factors" not in file:
        return (), np.empty((len(file["images"]), 0))
    values, attributes = file["factors"], dict(file["factors"].attrs)
    if rules.version_of(file) < 2:
        attributes.pop("transform", None)
    columns = []
    for number, names in enumerate(classes.read(attributes, values.shape[1])):
        fields = {field: plain(attributes[field][number]) for field in rules.FIELDS if field in attributes}
        fields |= {field: float(fields[field]) for field in ("low", "high")}
        columns.append(Factor(**fields, classes=names))
    return tuple(columns), read_rows(values, slice(None))


def _lie(file: h5py.File, name: str) -> np.ndarray | StoredImages:
    """Images or weights as a memory map, or read by h5py where they are not one plain block of the file."""
    stored = file[name]
    dtype, offset = stored.dtype.newbyteorder("="), None
    alone = stored.file.filename == file.filename  # not in a file that this one links to
    if alone and stored.chunks is None and not stored.is_virtual and stored.dtype.isnative:
        offset = stored.id.get_offset()
    path = Path(file.filename)
    if offset is None:
        return StoredImages(path, stored.shape, dtype, name)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=stored.shape)


def check_values(
    values: np.ndarray, factors: tuple[Factor, ...], source: str, errors: np.ndarray | None = None
) -> None:
    """Raises InputError where values (N, F) with these errors break a rule of the format: they could not be stored."""
    _refuse(source, rules.value_errors(values, factors, errors))


def _refuse(source: str | Path, errors: Iterable[str]) -> None:
    """Raises InputError for the first of these errors, where there is any."""
    for error in errors:
        raise InputError(f"{source}: {error}")


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
