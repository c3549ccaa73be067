"""Which objective suits the pixels of a set: counts, pictures or real-valued fields, told from a thousand images.

Shape suffixes: N images, P pixels.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled
from hpcauxvae.data.pixels import bounds, look_at, stuck
from hpcauxvae.data.splits import parts
from hpcauxvae.data.stored import images_in
from hpcauxvae.types import By, Fold, InputError

_IMAGES, _BYTES, _FEWEST = 1000, 32 << 20, 20
"""Images that are looked at, and bytes of them in float32; but so many images in any case."""
_FEW = 1e-3
"""Share of the pixels that may be otherwise, as a few odd ones are; a single one always may."""
_ROUNDING = 1e-6
"""Of the peak: so far below 0 is what is left of a sum that should be 0."""
_TOPS = (1.0, 255.0, 65535.0)
"""Where pictures are white."""
_SATURATED = 0.05
"""Share of the images that reach it, at least: counts hardly ever agree on a number."""
_SMALL_PEAK = 20.0
"""Below this the Anscombe transform is nearly linear in what is not counted."""
_COMPONENTS, _OF_THEM, _TOLD = 10, 300, 25.0
"""Principal components, of so many images, and nats by which they must raise the Bernoulli likelihood of pictures: a
latent that tells less than some two is not worth its KL, and is off. Digits of 28 pixels have 76, of 8 grey ones 9."""
_DARKEST = 1e-3
_LEAST_COUNT, _LEAST_PIXELS = 5.0, 1000
"""Counts from which their variance is told, and how many such pixels tell it."""


class Pixels(NamedTuple):
    """What decides."""

    low: float
    """Lowest and highest pixel, linear data units; hot and stuck ones left out."""
    high: float
    whole: bool
    """All but a few are whole numbers."""
    negative: float
    """Share of those below 0; 0 where they are a few odd ones."""
    median: float
    saturated: bool
    """Many images have the same peak, that of a white pixel."""
    bytes: bool
    """Stored as uint8."""
    poisson: bool
    """From pixel to neighbour they scatter as counts of their size do."""


class Choice(NamedTuple):
    """An objective, and why."""

    objective: str
    what: str
    """What the pixels are, with numbers."""
    kind: str
    """What that makes them."""
    otherwise: str = ""
    """Where the pixels leave it open: what else they may be, and the objective for that."""

    def __str__(self) -> str:
        doubt = f"; not certain: {self.otherwise}" if self.otherwise else ""
        return f"images: {self.what} -> --objective {self.objective} ({self.kind}){doubt}"


def choose(data: ImageSet, split_seed: int = 0, by: By = "auto", fold: Fold | None = None) -> Choice:
    """What `--objective auto` takes for a set: decided by its training images, the same on every machine.

    by, fold: how the set is split. Reads a thousand images, evenly spread, or 32 MiB of them; none where the file has
    weights, which decide.
    """
    if data.weights is not None:
        return Choice("weighted", "the file has the noise of each pixel", "weights are used")
    rows = np.arange(len(data))
    with contextlib.suppress(InputError):  # too few to be split
        rows = parts(data, split_seed, by, fold)[0]
    most = max(_FEWEST, min(_IMAGES, images_in(_BYTES, data.shape)))
    chosen = np.sort(rows)[np.unique(np.linspace(0, len(rows) - 1, most).astype(np.int64))]
    images = np.asarray(data.images[chosen])
    with np.errstate(invalid="ignore"):  # pixels that are not finite are refused later, by name
        choice = judge(pixels_of(images))
    if choice.objective == "bernoulli" and 0 < (told := bernoulli_nats(images[:: -(-len(images) // _OF_THEM)])) < _TOLD:
        kind = f"pictures, but {_COMPONENTS} numbers tell {told:.2g} nats of their Bernoulli likelihood: too little"
        return Choice("gaussian", choice.what, kind, "--objective bernoulli if they are black and white")
    if isinstance(data.images, Filled) and choice.objective != "gaussian":
        return Choice("gaussian", f"{choice.what}, and pixels may be missing", "which only this leaves out")
    return choice


def pixels_of(images: NDArray[Any]) -> Pixels:
    """Of images (N, C, H, W), linear data units; a missing pixel, NaN, counts as the median."""
    if np.isnan(images).any():
        images = np.where(np.isnan(images), np.nanquantile(images, 0.5, method="lower"), images)
    fixed = stuck(images)
    seen = look_at(images, without=fixed)
    low, high = bounds(seen)
    rows_NP = fixed.left_out(images.reshape(len(images), -1).astype(np.float32, copy=False))
    values = rows_NP[(rows_NP >= low) & (rows_NP <= high)]
    few = max(1.0, _FEW * values.size)
    negative = np.count_nonzero(values < -_ROUNDING * abs(high))
    return Pixels(
        low=low,
        high=high,
        whole=bool(np.count_nonzero(values != np.rint(values)) <= few),
        negative=negative / values.size if negative > few else 0.0,
        median=float(np.median(values)),
        saturated=high in _TOPS and bool(np.mean(seen.high == high) >= _SATURATED),
        bytes=images.dtype == np.uint8,
        poisson=_scatters_as_counts(images.clip(low, high).astype(np.float32)),
    )


def bernoulli_nats(images: NDArray[Any]) -> float:
    """Nats by which the Bernoulli likelihood of an image (N, C, H, W), scaled to 0 to 1, gains in the mean where ten
    principal components take the place of the mean image; 0 where pixels are not finite."""
    rows_NP = images.reshape(len(images), -1).astype(np.float64)
    if not np.isfinite(rows_NP).all() or np.ptp(rows_NP) == 0:
        return 0.0
    rows_NP = (rows_NP - rows_NP.min()) / np.ptp(rows_NP)
    centred_NP = rows_NP - rows_NP.mean(0)
    basis_NZ = np.linalg.eigh(centred_NP @ centred_NP.T)[1][:, -_COMPONENTS:]

    def nats(drawn_NP: NDArray[np.float64]) -> float:
        p_NP = drawn_NP.clip(_DARKEST, 1 - _DARKEST)
        return float((rows_NP * np.log(p_NP) + (1 - rows_NP) * np.log1p(-p_NP)).sum(1).mean())

    return nats(rows_NP - centred_NP + basis_NZ @ (basis_NZ.T @ centred_NP)) - nats(rows_NP - centred_NP)


def judge(p: Pixels) -> Choice:
    """The objective for such pixels."""
    numbers = "whole numbers" if p.whole else "values"
    what = f"{numbers} from {_shown(p.low)} to {_shown(p.high)}"
    picture, counts, field = (f"--objective {name}" for name in ("bernoulli", "tuned", "gaussian"))
    if p.negative:
        doubt = f"{counts} if they are counts and these are errors" if p.whole and p.negative < 0.01 else ""
        return Choice("gaussian", f"{what}, {_percent(p.negative)} of the pixels below 0", "real-valued", doubt)
    if p.saturated or (p.high <= 1 and p.high > 0.5):
        dark = p.saturated or p.low <= 0.1
        return Choice("bernoulli", what, "pictures", "" if dark else f"{field} if they are measured values")
    if p.bytes:
        if p.poisson:
            return Choice("tuned", what, "counts", f"{picture} if they are pictures")
        return Choice("bernoulli", what, "pictures in bytes", f"{counts} if they are counts")
    if p.whole and p.high > 1:
        sure = p.high > max(_TOPS[:2]) or p.poisson
        return Choice("tuned", what, "counts", "" if sure else f"{picture} if they are pictures")
    if p.high >= _SMALL_PEAK and p.poisson:
        return Choice("tuned", f"{what}, which scatter as counts do", "counts")
    if p.high >= _SMALL_PEAK and p.low <= 0.01 * p.high and p.median <= 0.05 * p.high:
        return Choice("tuned", f"{what}, most of them near 0", "like counts", f"{field} if they are measured values")
    return Choice("gaussian", what, "real-valued")


def _scatters_as_counts(images: NDArray[np.float32]) -> bool:
    """Whether pixels differ from the mean of their neighbours in a row as Poisson counts do, faint and bright alike.

    Of counts of mean m the difference x - 2 y + z has the variance 6 m. The median of its square is asked for, to which
    edges and hot pixels mean little, in four groups by brightness.
    """
    if images.shape[-1] < 3:
        return False
    left, middle, right = (images[..., i : images.shape[-1] - 2 + i] for i in range(3))
    mean, square = (left + 2 * middle + right) / 4, (left - 2 * middle + right) ** 2
    told = mean >= _LEAST_COUNT
    if np.count_nonzero(told) < _LEAST_PIXELS:
        return False
    order = np.argsort(mean[told])
    groups = zip(np.array_split(mean[told][order], 4), np.array_split(square[told][order], 4), strict=True)
    ratios = [float(np.median(part) / (6 * 0.455 * m.mean())) for m, part in groups]
    return all(0.5 < ratio < 2 for ratio in ratios)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
