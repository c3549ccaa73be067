"""How the explorer draws images: the scale that the browser is told, and sheets of many pictures in one PNG.

The browser draws in the same way (static/explorer/drawing.js). Images are in linear data units, upright, NaN where a
pixel is missing. Shape suffixes: N images, C channels, H height, W width of an image; P, Q of its picture.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import AsinhNorm, Normalize, to_rgb
from matplotlib.image import imsave
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.drawing import Look, Scale
from hpcauxvae.types import InputError

LINES = 96
"""Rows of the picture of a spectrum or a light curve."""
_INKS = (drawing.MAROON, drawing.BLUE, drawing.GREY, drawing.INK, drawing.PALE)
_LONGEST = 128
"""Pixels of a side of a picture in a sheet; larger ones are thinned."""
_COLOURS = 3
"""Channels that are drawn as colours, at most; more stand side by side."""


@dataclass(frozen=True)
class Panels:
    """The scale of the images of a set."""

    by: str
    """map: one channel; colours: two or three; bands: more, side by side; lines: of one row."""
    scales: tuple[Scale, ...]
    """One, or that of each band."""
    words: list[str]
    """What the colours mean."""

    def picture(self, image_CHW: NDArray) -> NDArray[np.uint8]:
        """(P, Q, 3)."""
        if self.by == "lines":
            return _curves(image_CHW[:, 0], self.scales[0].norm)
        if self.by == "bands":
            bands = (drawing.shade(image_CHW[c : c + 1], scale) for c, scale in enumerate(self.scales))
            return np.concatenate([*bands], 1)[..., :3]
        return drawing.shade(image_CHW, self.scales[0])[..., :3]

    def sheet(self, images_NCHW: NDArray) -> dict[str, Any]:
        """All pictures in one, as the browser is told: a PNG, the size of a picture, how many stand in a row.

        And the bytes of a picture before they were compressed.
        """
        pictures = [self.picture(image) for image in images_NCHW]
        down, right = (-(-side // _LONGEST) for side in pictures[0].shape[:2])
        step = 1 if self.by == "lines" else max(down, right if self.by != "bands" else down)
        small = np.stack([picture[::step, ::step] for picture in pictures])
        n, height, width = small.shape[:3]
        across = max(1, round((n * height / width) ** 0.5))
        small = np.concatenate([small, np.zeros((-n % across, *small.shape[1:]), np.uint8)])
        rows = small.reshape(-1, across, height, width, 3).swapaxes(1, 2).reshape(-1, across * width, 3)
        file = io.BytesIO()
        imsave(file, rows, format="png")
        return {"sprite": f"data:image/png;base64,{packed(file.getvalue())}"} | {
            "width": width,
            "height": height,
            "across": across,
            "bytes": small[0].nbytes,
        }

    def told(self) -> dict[str, Any]:
        """As the browser is told of it."""
        norms = [norm for scale in self.scales for norm in scale.norms]
        return {
            "by": self.by,
            "norms": [_norm(norm) for norm in norms],
            "map": packed(_colours(self.scales[0].colours)),
            "differences": packed(_colours(drawing.RESIDUALS)),
            "blue_first": self.scales[0].blue_first,
            "missing": _bytes(drawing.MISSING),
            "lines": [_bytes(colour) for colour in _INKS],
            "tall": LINES,
            "words": self.words,
        }


def panels_of(images_NCHW: NDArray, look: Look) -> Panels:
    """The scale on which all of these are drawn, for a look of their set."""
    channels, height, width = images_NCHW.shape[1:]
    if height > 1 and channels > _COLOURS:
        whole = drawing.scale_of(images_NCHW, look)
        scales = tuple(drawing.scale_of(images_NCHW[:, c : c + 1], look) for c in range(channels))
        own = isinstance(whole.norm, AsinhNorm) or whole.colours == drawing.RESIDUALS
        if not own:  # as colours of photographs do
            scales = (whole._replace(norms=(whole.norm,)),) * channels
        how = f"{channels} channels side by side" + ", each on its own scale" * own
        return Panels("bands", scales, [*drawing.in_words((1, height, width), whole), how])
    scale = drawing.scale_of(images_NCHW, look)
    by = "lines" if height == 1 else "map" if channels == 1 else "colours"
    return Panels(by, (scale,), [*drawing.in_words((channels, height, width), scale)])


def packed(values: bytes | NDArray) -> str:
    """Bytes as base64; of an array those of its memory, little-endian."""
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(values).decode()


def _curves(rows_CW: NDArray, norm: Normalize) -> NDArray[np.uint8]:
    channels, width = rows_CW.shape
    picture = np.full((LINES, width, 3), 255, np.uint8)
    shares_CW = np.clip(np.asarray(norm(np.nan_to_num(rows_CW)), np.float64), 0, 1)
    place_CW = np.floor((LINES - 1) * (1 - shares_CW) + 0.5).astype(int)
    missing_CW = np.isnan(rows_CW)
    for c in range(channels):
        for x in range(width):
            if missing_CW[c, x]:
                picture[:, x] = _bytes(drawing.MISSING)
                continue
            follows = x + 1 < width and not missing_CW[c, x + 1]
            one, other = sorted((place_CW[c, x], place_CW[c, x + 1] if follows else place_CW[c, x]))
            picture[one : other + 1, x] = _bytes(_INKS[c % len(_INKS)])
    return picture


def _norm(norm: Normalize) -> dict[str, float | None]:
    if norm.vmin is None or norm.vmax is None:
        raise InputError("a scale without ends; allowed: one of images")
    width = float(norm.linear_width) if isinstance(norm, AsinhNorm) else None
    return {"low": float(norm.vmin), "high": float(norm.vmax), "width": width}


def _colours(name: str) -> NDArray[np.uint8]:
    """(256, 3)."""
    return np.asarray(mpl.colormaps[name](np.arange(256), bytes=True))[:, :3]


def _bytes(colour: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(colour)]
