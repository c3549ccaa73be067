"""The rules of the format (docs/data-format.md): what breaks one in a file, a sentence each."""

from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from hpcauxvae.data import beside, classes
from hpcauxvae.data.shards import lost_parts
from hpcauxvae.data.stored import MADE_BY, plain
from hpcauxvae.types import KINDS, TRANSFORMS, Factor

VERSIONS = 1, 2
"""That are read. Version 2 may hold what beside.py names, more types of pixels, logarithmic ranges, and no factors."""
FIELDS = dict(zip(Factor._fields[:-1], ("texts", "texts", "numbers", "numbers", "texts", "texts"), strict=True))
"""The fields of Factor, each an attribute of `factors`; the last one is that of classes.py."""
MAY_LACK = "kind", "transform"
BEYOND = 10
"""So many of its errors a value may lie beyond the range of its factor."""
PIXELS = {1: ("float32", "uint8"), 2: ("float32", "uint8", "uint16", "float16")}
"""Types of pixels of each version."""


def version_of(file: h5py.File) -> int:
    """The version, also where it stands in a list of one number, as some programs write it; 0 for anything else."""
    found = np.ravel(file.attrs.get("format_version", ()))
    return int(found[0]) if len(found) == 1 and found[0] in VERSIONS else 0


def layout_errors(file: h5py.File) -> Iterator[str]:
    """What keeps the file from being read at all."""
    version = version_of(file)
    if version == 0:
        given, allowed = file.attrs.get("format_version"), " or ".join(map(str, VERSIONS))
        other = f"; {MADE_BY}" if given is None else ""
        yield f"attribute format_version: {given} is not {allowed}, which this version of hpcauxvae reads{other}"
        return
    needed = [("images", "(N, C, H, W)", PIXELS[version]), ("factors", "(N, F)", ("float64",))]
    if version > 1 and "factors" not in file:
        needed.pop()
    for name, axes, dtypes in needed:
        stored = file.get(name)
        if not isinstance(stored, h5py.Dataset):
            link = file.get(name, getlink=True)
            where = f" in {link.filename}, to which it links" if isinstance(link, h5py.ExternalLink) else ""
            yield f"{name}: missing{where}; needs a data set {axes}"
            return
        if stored.ndim != axes.count(",") + 1 or 0 in stored.shape:
            yield f"{name}: shape {stored.shape} is not {axes} with every size at least 1"
            return
        if stored.dtype.newbyteorder("=") not in [np.dtype(dtype) for dtype in dtypes]:
            yield f"{name}: type {stored.dtype} is not {' or '.join(dtypes)}"
        for lost in lost_parts(stored):
            yield f"{name}{',' if lost.startswith('shard ') else ':'} {lost}"
    if version > 1:
        yield from beside.layout_errors(file)
    if len(needed) == 1:
        return
    n, n_factors = file["factors"].shape
    if len(file["images"]) != n:
        yield f"images: {len(file['images'])} samples, but factors has {n}"
    if n < 2:
        yield f"images: {n} samples; at least 2 are needed"
    yield from attribute_errors(file["factors"].attrs, n_factors)


def attribute_errors(attributes: Mapping[str, Any], n_factors: int) -> Iterator[str]:
    """Faults in the names, units and ranges of the factors."""
    for field, kind in FIELDS.items():
        if field in MAY_LACK and field not in attributes:
            continue
        found, letters = np.asarray(attributes.get(field)), "OS" if kind == "texts" else "iuf"
        if found.shape != (n_factors,) or found.dtype.kind not in letters:
            yield f"factors, attribute {field}: {found} is not a list of {n_factors} {kind}"
            return
    names = [plain(name) for name in attributes["name"]]
    for name, kind in zip(names, map(plain, attributes.get("kind", ())), strict=False):
        if kind not in KINDS:
            yield f"factors, {name}: kind {kind!r} is not allowed; {', '.join(KINDS)}"
    transforms = [plain(transform) for transform in attributes.get("transform", ["linear"] * n_factors)]
    for name, transform, low in zip(names, transforms, attributes["low"], strict=True):
        if transform not in TRANSFORMS:
            yield f"factors, {name}: transform {transform!r} is not allowed; {', '.join(TRANSFORMS)}"
        elif transform == "log10" and not low > 0:
            yield f"factors, {name}: transform log10 with a range from {low}; allowed: from above 0"
    for name, low, high in zip(names, attributes["low"], attributes["high"], strict=True):
        if not name or "," in name or names.count(name) > 1:
            yield f"factors, attribute name: {name!r} is not allowed; each needs its own name, without a comma"
        if not (np.isfinite([low, high]).all() and low < high):
            yield f"factors, {name}: range {low} to {high} is not allowed; low < high, both finite"
    yield from classes.errors(attributes, n_factors)


def value_errors(values: np.ndarray, factors: tuple[Factor, ...], errors: np.ndarray | None = None) -> Iterator[str]:
    """Faults in the factors' values (N, F). NaN is allowed: not measured.

    errors: (N, F), standard deviations of the values, NaN where not known; by `BEYOND` of them a value may lie beyond
    its range.
    """
    beyond_NF = np.zeros_like(values) if errors is None else BEYOND * np.nan_to_num(errors)
    for factor, column, beyond in zip(factors, values.T, beyond_NF.T, strict=True):
        allowed = f"{factor.low} to {factor.high} {factor.unit}".strip() + " by more than its errors" * bool(
            beyond.any()
        )
        least = factor.low - beyond
        if factor.transform == "log10":
            least = np.where(least > 0, least, np.minimum(np.finfo(np.float64).tiny, factor.low))  # has a logarithm
        outside = np.flatnonzero((column < least) | (column > factor.high + beyond))
        if len(outside):
            yield (
                f"factors, {factor.name}: {column[outside[0]]} of sample {outside[0]} is outside its range {allowed}"
                f" ({len(outside)} such values)"
            )
        yield from classes.value_errors(factor, column)
        measured = column[~np.isnan(column)]
        if len(measured) == 0:
            yield f"factors, {factor.name}: no sample has a value"
        elif len(measured) > 1 and np.ptp(measured) == 0:
            yield f"factors, {factor.name}: constant ({measured[0]}); a factor must vary"
