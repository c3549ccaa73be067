"""What the format allows and an owner should know: hot pixels, copies of images, numbers that mean "not measured"."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from hpcauxvae.data.angles import themselves
from hpcauxvae.data.beside import ignored
from hpcauxvae.data.guides import texts_of
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.pixels import Pixels, Stuck, bounds, look_at, outlying, seen_in, stuck
from hpcauxvae.data.splits import Parts, parts
from hpcauxvae.data.stored import images_in
from hpcauxvae.types import Factor, InputError

_FAR = {"any": 5.0, "nines": 1.0, "nines, repeated": 0.25}
"""Ranges of all other values between them and a value that was hardly measured: 99, -999, … stand for no value more
often than other numbers, and a measurement is seldom the same twice."""
_BELOW = 0.02
"""The same for -1, repeated more than any value of the others, of which none is negative."""
_FEWEST = 3
"""Different values that the others must have."""
_SMALL_PEAK = 20.0
"""Below this the Anscombe transform is nearly linear in what is not counted."""
_SATURATED = 0.05
"""Share of the images that reach the highest value of a picture, at least; counts hardly ever agree on it."""
_NARROW = 0.01
"""Share of its declared range that a factor's values take, at least, if they shall guide."""
_ALIKE = 0.01
"""Part of the usual mean squared distance of two images below which they are nearly the same."""
_LOOKED_AT, _LOOKED_AT_BYTES = 1000, 32 << 20
"""Images with all labels of another, and bytes of them in float32, that are compared with it, in float64."""
_ROUNDING = 1e-6
"""Of their size: what two values differ by that were one before they were rounded, as float32 rounds."""
_HALF_A_TURN = 0.55
"""Part of a turn that values take at least, if it is theirs."""
_RARE = 10
"""Samples of a class, of which one is expected in the test part."""
_OFTEN = 0.1
"""Share of these that must be nearly the same, for the labels of a grid repeat, too."""
_FEW_CHANNELS = 4
"""Images with fewer columns than that, or as many, but more rows and channels, have seldom been taken."""
_TOGETHER = "leave copies out, or give all of one image the same number in `group` (docs/data-format.md)"
_SENTINELS = 2
"""Different values at either end of a column that may stand for "not measured"."""


def remarks(image_set: ImageSet, split_seed: int = 0) -> Iterator[str]:
    """Sentences, each on a field: peaks and labels far outside the rest, images that are there more than once.

    split_seed: of the split whose parts may share images; that is by what the file has. Reads all images once.
    """
    yield from ignored(image_set.path)
    found = stuck(image_set.images)
    pixels = look_at(image_set.images, without=found)
    yield from about_layout(image_set.shape)
    yield from about_empty(pixels)
    yield from about_labels(image_set)
    yield from _about_rare(image_set)
    yield from about_angles(image_set, range(len(image_set.factors)))
    yield from about_peaks(pixels)
    yield from about_places(found, pixels, image_set.shape)
    found_parts = None
    with contextlib.suppress(InputError):  # too few to be split
        found_parts = parts(image_set, split_seed)
    yield from about_copies(pixels.digest, found_parts, split_seed)
    yield from _about_near_copies(image_set, pixels.digest)


def about_units(pixels: Pixels) -> Iterator[str]:
    """A sentence on pixels that objective tuned is not made for: no counts, or pictures in whole numbers."""
    peak, whole = bounds(pixels)[1], bool(pixels.whole.all())
    share = np.mean(pixels.high == peak)
    if whole and peak in (1, 255) and share >= _SATURATED:
        yield (
            f"images: whole numbers from 0 to {peak:g}, the peak of {share:.0%} of the images, look like pictures; "
            "objective tuned is made for counts: use --objective bernoulli for pictures (docs/data-format.md)"
        )
    elif not whole and peak < _SMALL_PEAK:
        yield (
            f"images: the pixels are no counts and at most {peak:g}, but objective tuned is made for counts; store the "
            "images in counts, or use --objective bernoulli for values from 0 to a maximum, gaussian for others "
            "(docs/data-format.md)"
        )


def about_labels(image_set: ImageSet) -> Iterator[str]:
    """Sentences on columns of labels in which a number seems to mean "not measured", or whose range is far too wide."""
    for factor, column in zip(image_set.factors, image_set.values.T, strict=True):
        low, high = np.nanmin(column), np.nanmax(column)
        if 0 < (share := float(np.ptp(factor.scale(np.array([low, high]))))) < _NARROW:
            yield (
                f"factors, {factor.name}: declared {factor.low:g} to {factor.high:g}, but its values, {low:g} to "
                f"{high:g}, take {share:.1g} of that range, which is scaled to 0 to 1: so little hardly guides a "
                "latent; declare the range of the values"
            )
        if said := sentinels(factor, column).words:
            yield (
                f"factors, {factor.name}: {said}; where it stands for a value that was not measured, NaN must be "
                "written (data import --missing)"
            )
        yield from _about_rounded(factor, column)
        yield from _about_turn(factor, column)


def _about_turn(factor: Factor, column_N: np.ndarray) -> Iterator[str]:
    """A sentence on a periodic factor whose turn is not that of its values, if it seems so."""
    known = column_N[~np.isnan(column_N)]
    if factor.kind != "periodic" or len(known) < _RARE:
        return
    turn = f"factors, {factor.name}: one turn is {factor.low:g} to {factor.high:g}"
    if factor.low != 0 and (known % 1 == 0).all() and {factor.low, factor.high} <= set(known.tolist()):
        yield (
            f"{turn}, so that {factor.low:g} and {factor.high:g} are the same, and both are there: of months 1 to 12 "
            "one turn is 0 to 12"
        )
    elif (share := np.ptp(known) / (factor.high - factor.low)) < _HALF_A_TURN:
        yield (
            f"{turn}, of which its values take no more than {share:.0%}: where they repeat sooner, as a position angle "
            "does after 180 degrees, that is one turn"
        )


def _about_rounded(factor: Factor, column_N: np.ndarray) -> Iterator[str]:
    """A sentence on classes, or levels, that differ by no more than rounding does, if any do."""
    levels = np.unique(column_N[~np.isnan(column_N)]) if factor.kind in ("categorical", "ordinal") else np.empty(0)
    pairs = zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True)
    near = [(a, b) for a, b in pairs if b - a < _ROUNDING * max(abs(a), abs(b)) and not (a % 1 == 0 == b % 1)]
    if near:
        low, high = near[0]
        what = "classes" if factor.kind == "categorical" else "levels"
        yield (
            f"factors, {factor.name}: {low:.17g} and {high:.17g} count as two {what}, though rounding may have made "
            f"them of one ({len(near)} such pairs); where they are one, round the column"
        )


def _about_rare(image_set: ImageSet) -> Iterator[str]:
    """Sentences on classes of so few images that a test part may have none of them."""
    for factor, column in zip(image_set.factors, image_set.values.T, strict=True):
        known = column[~np.isnan(column)] if factor.kind == "categorical" else column[:0]
        levels, counts = np.unique(known, return_counts=True)
        rare = np.flatnonzero(counts < _RARE)
        if len(rare):
            texts = texts_of(factor, levels.tolist())
            of = ", ".join(f"{texts[n]} ({counts[n]})" for n in rare[:5])
            of += f" and {len(rare) - 5} more" * (len(rare) > 5)
            yield (
                f"factors, {factor.name}: fewer than {_RARE} samples have class {of}: so few can hardly be learned, "
                "and a test part may have none of them, so that no score tells of it; more images, or leave them out"
            )


def about_angles(image_set: ImageSet, columns: Iterable[int]) -> Iterator[str]:
    """Sentences on those of these columns that are an angle whose cosine and sine are there too."""
    names = [factor.name for factor in image_set.factors]
    for column, (one, other) in themselves(image_set.values).items():
        if column in columns and image_set.factors[column].kind in ("continuous", "ordinal"):
            yield (
                f"factors, {names[column]}: the angle of which {names[one]} and {names[other]} are cosine and sine; it "
                "jumps where a turn is full, which no network can learn: guide with these two, or declare it periodic "
                f"(data import --kind {names[column]}=periodic), and it guides by its own cosine and sine"
            )


def about_layout(shape: tuple[int, int, int]) -> Iterator[str]:
    """A sentence on images (C, H, W) that seem to have their channels last, if they do."""
    channels, height, width = shape
    if width <= _FEW_CHANNELS < min(channels, height):
        yield (
            f"images: {channels} channels of {height} x {width} pixels; if that is {channels} x {height} of {width}, "
            "store np.moveaxis(images, -1, 1), for the format has the channels first"
        )


def about_empty(pixels: Pixels) -> Iterator[str]:
    """A sentence on images that have one value in every pixel, as where nothing was taken, if any do."""
    rows = np.flatnonzero(pixels.low == pixels.high)
    if len(rows):
        shown = ", ".join(f"{n} ({pixels.low[n]:g})" for n in rows[:5]) + f" and {len(rows) - 5} more" * (len(rows) > 5)
        yield (
            f"images: {len(rows)} of {len(pixels.low)} have the same value in every pixel, sample {shown}; leave them "
            "out where nothing was seen there"
        )


def about_places(found: Stuck, pixels: Pixels, shape: tuple[int, int, int]) -> Iterator[str]:
    """Sentences on pixels that say nothing of what is seen: stuck in all images (C, H, W), or a number in some.

    pixels: without those that are stuck.
    """
    yield from _about_missing_pixels(pixels)
    if found:
        low, high = bounds(pixels)
        at = [", ".join(map(str, np.unravel_index(place, shape))) for place in found.place[:5]]
        shown = ", ".join(f"({place}) is {value:g}" for place, value in zip(at, found.value, strict=False))
        more = len(found.place) - len(at)
        yield (
            f"images: pixel {shown}{f' and {more} more are the like' * (more > 0)}, nearly the same in every image and "
            f"far outside all others ({low:g} to {high:g}), as where a detector is stuck or nothing was measured; fill "
            f"it (channel, row, column) from its neighbours; training and evaluation count it as {low:g}"
        )


def about_peaks(pixels: Pixels) -> Iterator[str]:
    """A sentence on the images whose extremes are far beyond those of the others, if any are."""
    far = outlying(pixels)
    if len(far) == 0:
        return
    low, high = bounds(pixels)
    shown = ", ".join(
        f"{n} ({pixels.low[n]:g} to {pixels.high[n]:g})" for n in far[:5]
    ) + f" and {len(far) - 5} more" * (len(far) > 5)
    yield (
        f"images: the pixels of sample {shown} reach far outside those of all others ({low:g} to {high:g}), "
        "as hot pixels do; training and evaluation count them as the nearest pixel of the others"
    )


def _about_missing_pixels(pixels: Pixels) -> Iterator[str]:
    """-99, -9999, … as the lowest pixel of many images, far below all others: so many that they are the bulk."""
    lowest = pixels.low.min()
    rest = np.unique(np.concatenate([pixels.low[pixels.low > lowest], pixels.high]))
    count = int(np.count_nonzero(pixels.low == lowest))
    if _is_nines(lowest) and lowest < 0 and _is_far(lowest, count, rest):
        yield (
            f"images: {lowest:.15g}, the lowest pixel of {count} images, lies far "
            f"below the others ({rest[0]:g} or more); where it stands for a pixel that was not measured, it must be "
            'filled, or be NaN with missing_pixels = "nan" (docs/data-format.md)'
        )


def about_copies(digest_N: np.ndarray, of_split: Parts | None, split_seed: int) -> Iterator[str]:
    """A sentence on images that are there more than once, and on the parts of the split that share them, if any are.

    digest_N: as pixels.Pixels has it, of every image of a set in its order; of_split: the parts, where there are any.
    """
    distinct, first, of_N = np.unique(digest_N, return_index=True, return_inverse=True)
    if len(distinct) == len(digest_N):
        return
    copies = np.setdiff1d(np.arange(len(digest_N)), first)
    told = f"{len(copies)} of {len(digest_N)} are copies of others (sample {copies[0]} of {first[of_N[copies[0]]]}, …)"
    if of_split is not None:
        train, validation, test = of_split
        shared = [seen_in(digest_N[part], digest_N[train]) for part in (validation, test)]
        if any(shared):
            told += (
                f"; {shared[0]} of {len(validation)} validation images and {shared[1]} of {len(test)} test images are "
                f"training images, too (split seed {split_seed}): their scores count what was learned by heart; "
                + _TOGETHER
            )
    yield f"images: {told}"


def _about_near_copies(image_set: ImageSet, digest_N: np.ndarray) -> Iterator[str]:
    """A sentence on images that have all labels of another and nearly its pixels, or those of its mirror image."""
    if not image_set.factors:
        return
    _, first, of_N = np.unique(image_set.values, axis=0, return_index=True, return_inverse=True)
    other_N, last = first[of_N.reshape(-1)], len(digest_N) - 1
    again = np.flatnonzero(digest_N != digest_N[other_N])
    if len(again) == 0:
        return

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.square(a - b).mean((1, 2, 3)))

    most = min(_LOOKED_AT, images_in(_LOOKED_AT_BYTES, image_set.shape))
    again = again[:: -(-len(again) // most)]
    any_ = np.arange(0, len(digest_N) // 2, -(-len(digest_N) // (2 * most)))
    seen, others, some, rest = (
        np.asarray(image_set.images[rows], np.float64) for rows in (again, other_N[again], any_, last - any_)
    )
    nearest = np.min([distance(m, others) for m in (seen, seen[..., ::-1], seen[..., ::-1, :])], 0)
    near = again[nearest < _ALIKE * np.median(distance(some, rest))]
    if len(near) > _OFTEN * len(again):
        yield (
            f"images: {len(near)} of {len(again)} that have all labels of another are nearly the same as that, or as "
            f"its mirror image (sample {near[0]} as {other_N[near[0]]}, …), as altered copies are; where the "
            f"split parts them, scores count what was learned by heart; {_TOGETHER}"
        )


class Sentinels(NamedTuple):
    """Values far outside all others."""

    words: str
    """Empty where there are none."""
    certain: bool
    """Whether all of them are -1 or nines, such as -99 or 9999, and there more than once."""


def sentinels(factor: Factor, column_N: np.ndarray) -> Sentinels:
    """Values such as -99 or 9999 far outside all others: at either end one or two different values, often repeated."""
    values, counts = np.unique(column_N[~np.isnan(column_N)], return_counts=True)
    if factor.kind == "categorical":
        return Sentinels("", False)
    cuts = ((low, high) for low in range(_SENTINELS + 1) for high in range(_SENTINELS + 1) if low + high)
    for low, high in sorted(cuts, key=sum, reverse=True):
        rest = values[low : len(values) - high]
        taken = [*range(low), *range(len(values) - high, len(values))]
        often = counts[low : len(values) - high].max(initial=0)
        if len(rest) >= _FEWEST and all(_is_far(values[n], counts[n], rest, often) for n in taken):
            said = ", ".join(f"{values[n]:.15g} ({counts[n]} samples)" for n in taken)
            words = f"{said} lies far outside the other values ({rest[0]:g} to {rest[-1]:g})"
            return Sentinels(words, all(counts[n] > 1 and (values[n] == -1 or _is_nines(values[n])) for n in taken))
    return Sentinels("", False)


def _is_far(value: float, count: int, rest: np.ndarray, often: int = 1) -> bool:
    """Of a value that is there so many times, and others, sorted, of which none is there more than `often` times."""
    ranges = max(rest[0] - value, value - rest[-1]) / (rest[-1] - rest[0])
    below = value < 0 <= rest[0]
    if value == -1:
        return bool(ranges > _FAR["any"] or (below and count > max(often, 1) and ranges > _BELOW))
    if not _is_nines(value):
        return bool(ranges > _FAR["any"])
    return bool(ranges > _FAR["nines, repeated" if count > 1 else "nines"] or (count > 1 and below))


def _is_nines(value: float) -> bool:
    return set(f"{value:.15g}".removeprefix("-")) == {"9"} and value != 9
