"""The sets that an evaluation is given: what is refused, what is told of their images, and what is done about it."""

import dataclasses
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled, count_missing
from hpcauxvae.data.pixels import Pixels, Stuck, bounds, look_at, outlying, seen_in, stuck
from hpcauxvae.data.remarks import about_copies, about_peaks, about_places
from hpcauxvae.data.splits import Parts
from hpcauxvae.data.stored import Clipped
from hpcauxvae.data.summary import Summary
from hpcauxvae.train.run import Run
from hpcauxvae.types import Factor, InputError

_BY_HEART = "their scores count what was learned by heart"
_MOST = 0.5
"""Share of the training labels that must be distinct, and of the fresh ones that must be theirs."""
_SPREAD = 300
"""Images of a set, at most, that tell how bright its images are."""
_BULK, _FAR, _FAR_OF_FEW = 20, 1.25, 2.0
"""So many times beyond the peaks of training images is far, for the median of `_BULK` images or more, and of fewer."""


def copies(
    data: ImageSet, fresh: ImageSet | None, seen: dict[str, Pixels], parts: Parts, split_seed: int
) -> dict[str, list[str]]:
    """By the name of a set what is to be told of its images, or objects, that were trained on.

    data: of the run, which has these parts; fresh: the other set; seen: of all images of both.
    """
    train, _, test = parts
    digest, told = seen["test"].digest, dict[str, list[str]]()
    if seen_in(digest[test], digest[train]):
        told["test"] = list(about_copies(digest, parts, split_seed))
    if fresh is not None:
        count = seen_in(seen["fresh"].digest, digest[train])
        found = f"images: {count} of {len(fresh)} fresh images are training images, too"
        told["fresh"] = [f"{found}: {_BY_HEART}"] if count else same_objects(data, fresh, parts)
    return told


def same_objects(data: ImageSet, fresh: ImageSet, parts: Parts) -> list[str]:
    """A sentence on fresh samples with all labels of training samples, as other noise of the same objects has.

    Empty where labels repeat in the training part too, as those of a grid do.
    """
    train = parts[0]
    known = {labels.tobytes() for labels in data.values[train]}
    count = sum(labels.tobytes() in known for labels in fresh.values)
    if len(known) < _MOST * len(train) or count < _MOST * len(fresh):
        return []
    return [f"images: {count} of {len(fresh)} fresh images have all labels of training images: {_BY_HEART}"]


def looked_at(data: ImageSet) -> tuple[ImageSet, Pixels]:
    """The set `without_outliers`, and what its images are without stuck pixels."""
    found = stuck(data.images)
    seen = look_at(data.images, without=found)
    return without_outliers(data, found, seen), seen


def without_outliers(data: ImageSet, found: Stuck, seen: Pixels, speaks: bool = True) -> ImageSet:
    """The set with pixels far outside those of all other images counted as the nearest of these, and a warning.

    found: its stuck pixels; seen: of its images, without these; speaks: whether this process warns. A set without such
    pixels as it is. So a hot pixel decides no code, no score, no plain method and no reader; one that is stuck in every
    image counts as the lowest.
    """
    if not found and not len(outlying(seen)):
        return data
    for line in chain(about_peaks(seen), about_places(found, seen, data.shape) if found else ()):
        if speaks:
            print(f"warning: {data.path}: {line}", file=sys.stderr, flush=True)
    low, high = bounds(seen)
    limits = (low, found.highest(low, high, data.shape)) if found else (low, high)
    if isinstance(data.images, Filled):
        clipped = Clipped(data.images.raw, *limits)
        return dataclasses.replace(data, images=Filled(clipped, data.images.weights, data.images.nan))
    return dataclasses.replace(data, images=Clipped(data.images, *limits))


def refuse_unguided(run: Run) -> None:
    """Raises InputError where no latent is that of a factor."""
    if not (run.model.GUIDED and run.config.aux_names):
        raise InputError(
            f"{run.folder}: model {run.config.model} has no guided latents; allowed: aux-vae, or another GUIDED model "
            "(docs/rivals.md)"
        )


def refuse_missing(data: ImageSet, run: Run, rows: range | None = None) -> None:
    """Raises InputError where pixels of these rows are missing, and the run's objective takes them for values."""
    if not run.config.resolved_objective.leaves_out and (missing := count_missing(data.images, rows)):
        raise InputError(
            f"{data.path}: images: {missing} pixels are missing, which objective {run.config.objective} of "
            f"{run.folder} cannot leave out; allowed: images without missing pixels"
        )


def warn_if_unlike(data: ImageSet, run: Run, trained: Summary, rows: Sequence[int] | None = None) -> None:
    """A warning where images are far brighter or darker than those that a run was trained on, as in another unit.

    Told by the median peak of these rows, or of the set, beside the peaks of training images. trained: what is known of
    these. Reads some hundred images.
    """
    own, fixed = np.arange(len(data)) if rows is None else np.array(rows), np.array(trained.stuck, np.int64)
    some = own[np.unique(np.linspace(0, len(own) - 1, _SPREAD).astype(int))]
    new = look_at(data.images, some, without=Stuck(fixed, np.zeros(len(fixed))))
    zero, peak = trained.darkest, float(np.median(new.high))
    low, high = (min(end, float(run.model.maximum)) for end in trained.peaks)
    times = _FAR if len(new.high) >= _BULK else _FAR_OF_FEW
    if not min(low, zero + (low - zero) / times) <= peak <= max(high, zero + (high - zero) * times):
        print(
            f"warning: {data.path}: images: a {'median ' * (len(own) > 1)}peak of {peak:g}, far outside those of the "
            f"images that {run.folder} was trained on ({low:g} to {high:g}), as in other units: the codes of such "
            "images say nothing",
            file=sys.stderr,
            flush=True,
        )


def with_logarithm(factor: Factor, values_N: NDArray, path: Path, first: int = 0, speaks: bool = True) -> NDArray:
    """Values (N,), in the factor's unit, without those that have no logarithm where that scales the factor.

    They become NaN, not measured, with a warning; path: of their file; first: the number of the first of these samples;
    speaks: whether this process warns.
    """
    bad = np.flatnonzero(values_N <= 0) if factor.transform == "log10" else np.empty(0, np.int64)
    if len(bad) and speaks:
        print(
            f"warning: {path}: factors, {factor.name}: {values_N[bad[0]]:g} in row {first + bad[0]} has no logarithm, "
            f"which scales this factor; so many values count as not measured: {len(bad)}",
            file=sys.stderr,
            flush=True,
        )
    return np.where(np.isin(np.arange(len(values_N)), bad), np.nan, values_N)


def check_noiseless(noiseless: Sequence[ImageSet], sets: Sequence[ImageSet]) -> None:
    """Raises InputError unless each noiseless file has images of the sets' shape, and the factors of one of them.

    So it does where the file itself says that its images are noisy, or holds those of the set.
    """
    for drawn in noiseless:
        if drawn.shape != sets[0].shape:
            first = sets[0]
            raise InputError(f"{drawn.path}: images of {drawn.shape}; allowed: those of {first.path}, {first.shape}")
        if not any(same_samples(drawn, data) for data in sets):
            raise InputError(
                f"{drawn.path}: the factors of its {len(drawn)} samples are those of no set that is scored; "
                f"allowed: noiseless draws of {' or '.join(str(data.path) for data in sets)}"
            )
        noise = drawn.provenance.get("noise", "none")
        if noise != "none" or drawn.fingerprint in (data.fingerprint for data in sets):
            found = f"noise = {noise}" if noise != "none" else "the images of a set that is scored"
            raise InputError(
                f"--noiseless {drawn.path}: {found}; allowed: images without noise, as by `hpcauxvae simulate OUT "
                "--like FILE --noiseless`"
            )


def same_samples(one: ImageSet, other: ImageSet) -> bool:
    """Whether two sets have the same labels."""
    return np.array_equal(one.values[:, : one.own], other.values[:, : other.own], equal_nan=True)
