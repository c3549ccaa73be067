"""From files and arrays to the samples of a set: channels first, one size, one type, noise and holes as weights.

N samples, C channels, H height, W width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hpcauxvae.data.given import pixels
from hpcauxvae.data.importing.pictures import turns
from hpcauxvae.data.importing.sources import Item, Single, Source
from hpcauxvae.data.rules import PIXELS
from hpcauxvae.types import InputError

Sources = tuple[Source, ...]
"""The channels of each follow those of the one before."""

_FLOAT = np.dtype(np.float32)
_KEPT = tuple(np.dtype(dtype) for dtype in PIXELS[2])
"""Types that are stored as they are; others become float32."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How each sample is made; the same in every process."""

    images: Sources
    weights: Sources = ()
    """Inverse variances."""
    noise: Sources = ()
    """Standard deviations."""
    variance: Sources = ()
    """Their squares."""
    mask: Sources = ()
    """Not 0 where a pixel is bad."""
    good: Sources = ()
    """Not 0 where a pixel is good."""
    layout: str = ""
    """Of an image in a file of its own, of C, H and W."""
    size: tuple[int, int] | None = None
    """Height and width to which images are cut or filled up, about their middle."""
    fill: float | None = None
    """What stands there; None: missing pixels, 0 among whole numbers of 8 or 16 bits."""
    north_up: bool = False
    dtype: np.dtype = _FLOAT
    shape: tuple[int, int, int] = (0, 0, 0)
    """(C, H, W) of every image; of the first, before it is known."""

    @property
    def has_weights(self) -> bool:
        """Whether pixels have a noise."""
        return bool(self.weights or self.noise or self.variance)

    @property
    def row_bytes(self) -> int:
        """Of a sample, with its weights."""
        return int(np.prod(self.shape)) * (self.dtype.itemsize + 4 * self.has_weights)

    def known(self, dtype: str = "") -> "Recipe":
        """This, with type and shape of the first image. Raises InputError where it cannot be read."""
        first = self.first()
        holes = (self.mask or self.good) and not self.has_weights
        kept = first.dtype if first.dtype in _KEPT and not holes else _FLOAT
        height, width = self.size or first.shape[1:]
        return replace(self, dtype=np.dtype(dtype or kept), shape=(len(first), height, width))

    def fits(self, single: Single, image: np.ndarray) -> bool:
        """Whether a single image, with all channels or one, is of the size of an image (C, H, W)."""
        try:
            placed = self._placed(next(single.items(range(1))))
        except InputError:
            return False
        return placed.shape in (image.shape, (1, *image.shape[1:]))

    def first(self) -> np.ndarray:
        """The first image, (C, H, W), as it lies in its file. Raises InputError where it cannot be read."""
        return next(self._samples(range(1)))[0]

    def block(self, samples: range, between: Callable[[], None] = lambda: None) -> tuple[bytes, int]:
        """The images of these samples, then their weights, little-endian, and how many pixels are missing.

        between: is called after each.
        """
        images = np.empty((len(samples), *self.shape), self.dtype.newbyteorder("<"))
        weights = np.empty((len(samples), *self.shape), "<f4") if self.has_weights else None
        for row, (image, weight) in enumerate(self._samples(samples, shaped=True)):
            images[row] = image
            if weights is not None:
                weights[row] = weight
            between()
        return images.tobytes() + (b"" if weights is None else weights.tobytes()), holes_in(images, weights)

    def parts(self, data: bytes, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images and weights of a block of n samples."""
        end = n * int(np.prod(self.shape)) * self.dtype.itemsize
        images = np.frombuffer(data[:end], self.dtype.newbyteorder("<")).reshape(n, *self.shape)
        return images, np.frombuffer(data[end:], "<f4").reshape(n, *self.shape) if self.has_weights else None

    def _samples(self, samples: range, shaped: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Image and weights of each; shaped: as the first image is."""
        groups = (self.images, self.weights, self.noise, self.variance, self.mask, self.good)
        items = zip(*(self._joined(group, samples) for group in groups), strict=True)
        for (image, where, header), *others in items:
            turn = turns(header, where) if self.north_up else None
            image, *maps = (_turned(found, turn) for found in (image, *(found for found, _, _ in others)))
            places = [place or where for _, place, _ in others]
            yield self._made(image, maps, where, places) if shaped else (image, None)

    def _joined(self, group: Sources, samples: range) -> Iterator[tuple[Any, str, Any]]:
        """Of each sample: the channels of a group (C, H, W) one after the other, where they lie, and a header."""
        if not group:
            yield from ((None, "", None) for _ in samples)
            return
        for items in zip(*(source.items(samples) for source in group), strict=True):
            parts = [self._placed(item) for item in items]
            for part, item in zip(parts, items, strict=True):
                if part.shape[1:] != parts[0].shape[1:]:
                    raise InputError(
                        f"{item.where}: {_size(part)} pixels; allowed: {_size(parts[0])}, as its first channel"
                    )
            first = items[0]
            yield (parts[0] if len(parts) == 1 else np.concatenate(parts)), first.where, first.header

    def _placed(self, item: Item) -> np.ndarray:
        """(C, H, W), NaN where masked."""
        found = plain = np.ma.getdata(item.pixels)
        if found.dtype.kind not in "biuf":
            raise InputError(f"{item.where}: images: type {found.dtype}; allowed: real numbers")
        if np.ma.is_masked(item.pixels):
            kept = found.dtype if found.dtype.kind == "f" else np.dtype(np.float64)
            plain = np.ma.filled(item.pixels.astype(kept), np.nan)
        layout = item.layout
        if self.layout and len(self.layout) == found.ndim:
            layout = self.layout
        elif self.layout and len(self.layout) == found.ndim + 1:
            layout = self.layout.replace("C", "")
        if len(layout) != found.ndim:
            raise InputError(
                f"{item.where}: the shape {found.shape}; allowed: an image, or --layout with a letter for each axis"
            )
        order = [layout.index(axis) for axis in "CHW" if axis in layout]
        shape = [found.shape[layout.index(axis)] if axis in layout else 1 for axis in "CHW"]
        return np.asarray(plain.transpose(order).reshape(shape))

    def _made(
        self, image: np.ndarray, maps: list[np.ndarray | None], where: str, places: list[str]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The image as it is stored, and its weights."""
        for found, place in zip(maps, places, strict=True):
            if found is not None and found.shape not in (image.shape, (1, *image.shape[1:])):
                raise InputError(f"{place}: {_shape(found)} pixels; allowed: {_shape(image)}, as the image has")
        self._check_shape(image, where)
        *noises, mask, good = maps
        image = pixels(image, where, self.dtype if self.dtype.kind == "u" and image.dtype.kind in "iu" else None)
        lost = np.isnan(image) if image.dtype.kind == "f" else np.zeros(image.shape, bool)
        for bad in (None if mask is None else mask != 0, None if good is None else (good == 0) | np.isnan(good)):
            lost = lost if bad is None else lost | bad
        weight = self._weight(noises, lost, places) if self.has_weights else None
        if weight is not None:
            image = np.where(weight == 0, 0, image)
        elif lost.any():
            self._check_missing(lost, where)
            image = np.where(lost, np.nan, image)
        if (lost if weight is None else weight == 0).all():
            raise InputError(f"{where}: all pixels are missing; allowed: at least one that was measured")
        return self._stored(image, where), weight if weight is None else _sized(weight, self.size, 0)

    def _check_shape(self, image: np.ndarray, where: str) -> None:
        if len(image) != self.shape[0]:
            raise InputError(f"{where}: {len(image)} channels; allowed: {self.shape[0]}, as the first image has")
        if self.size is None and image.shape != self.shape:
            allowed = " x ".join(map(str, self.shape[1:]))
            raise InputError(
                f"{where}: {_size(image)} pixels; allowed: {allowed}, as the first image has, or --size H,W"
            )

    def _check_missing(self, lost: np.ndarray, where: str) -> None:
        if self.dtype.kind != "f":
            raise InputError(
                f"{where}: {np.count_nonzero(lost)} pixels are missing; {self.dtype} has none: --dtype float32"
            )

    def _weight(self, noises: list[np.ndarray | None], lost: np.ndarray, places: list[str]) -> np.ndarray:
        """Inverse variances, 0 where a pixel is missing; noises: weights, noise and variance, and where they lie."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            weight = np.ones(lost.shape)
            powers = ("weight", 1.0), ("noise", -2.0), ("variance", -1.0)
            for given, place, (name, power) in zip(noises, places, powers, strict=False):
                if given is None:
                    continue
                if (given < 0).any():
                    raise InputError(f"{place}: {name} {given[given < 0][0]:g}; allowed: 0 or more")
                values = given.astype(np.float64)
                part = values if name == "weight" else np.where(values > 0, values, np.nan) ** power
                weight = weight * np.where(np.isnan(part), 0, part)
            stored = np.where(lost, 0, weight).astype(np.float32)
        place = next(place for given, place in zip(noises, places, strict=False) if given is not None)
        known = weight[~lost & (weight > 0)]
        usual = float(np.median(known)) if known.size else np.inf
        if np.isfinite(usual) and (usual > float(np.finfo(np.float32).max) or not stored.any()):
            unit = 10.0 ** -round(float(np.log10(usual)) / 2)
            raise InputError(
                f"{place}: weights near {usual:.3g}, which float32 does not hold; allowed: images and noise in another "
                f"unit, {unit:g} of theirs, in which inverse variances are near 1"
            )
        if not np.isfinite(stored).all():
            raise InputError(f"{place}: an infinite weight; allowed: finite")
        return stored

    def _stored(self, image: np.ndarray, where: str) -> np.ndarray:
        """In the size and type of the set."""
        if self.size:
            fill = self.fill
            if fill is None:
                fill = np.nan if self.dtype.kind == "f" and not self.has_weights else 0
            image = _sized(image, self.size, fill)
        if image.dtype == self.dtype:
            found = image
        elif self.dtype.kind == "u" and not (
            np.can_cast(image.dtype, self.dtype) or np.array_equal(image, np.trunc(image))
        ):
            raise InputError(
                f"{where}: pixels of {image.dtype} in a set of {self.dtype}; allowed: whole, or --dtype float32"
            )
        else:
            with np.errstate(over="ignore"):
                found = image.astype(self.dtype)
        if found.dtype.kind == "f" and np.isinf(found).any():
            at = ", ".join(map(str, np.argwhere(np.isinf(found))[0]))
            raise InputError(
                f"{where}: pixel ({at}) is infinite in {self.dtype}; allowed: finite, NaN where it is missing"
            )
        if self.dtype.kind == "u" and not np.array_equal(found, image):
            raise InputError(f"{where}: pixels do not fit into {self.dtype}; allowed: --dtype float32")
        return found


def holes_in(images: np.ndarray, weights: np.ndarray | None) -> int:
    """How many pixels are missing: have no weight, or are NaN."""
    if weights is not None:
        return int(np.count_nonzero(weights == 0))
    return int(np.count_nonzero(np.isnan(images))) if images.dtype.kind == "f" else 0


def _turned(image: Any, turn: tuple[bool, int] | None) -> Any:
    if image is None or turn is None:
        return image
    mirror, quarters = turn
    return np.rot90(image[..., ::-1] if mirror else image, -quarters, (1, 2))


def _sized(image: np.ndarray, size: tuple[int, int] | None, fill: float) -> np.ndarray:
    """Cut, or filled up, about the middle."""
    if size is None or image.shape[1:] == size:
        return image
    made = np.full((len(image), *size), fill, image.dtype if fill == fill // 1 else np.result_type(image, np.float32))
    old, new = [], []
    for have, want in zip(image.shape[1:], size, strict=True):
        least = min(have, want)
        old.append(slice((have - least) // 2, (have - least) // 2 + least))
        new.append(slice((want - least) // 2, (want - least) // 2 + least))
    made[:, new[0], new[1]] = image[:, old[0], old[1]]
    return made


def _size(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape[1:]))


def _shape(image: np.ndarray) -> str:
    return " x ".join(map(str, image.shape))
