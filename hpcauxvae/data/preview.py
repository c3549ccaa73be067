"""`data check FILE --preview OUT.png`: a contact sheet of a set, each image with its name and labels.

Shape suffixes: N images, C channels, H height, W width.
"""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import fit, minus, short
from hpcauxvae.data.missing import shown
from hpcauxvae.data.pixels import bounds, look_at, stuck
from hpcauxvae.types import Factor

IMAGES = 24
_NAMED = 8
"""Labels below an image."""
_WIDTH, _LINE = 1.55, 0.125
"""Of an image, and of a line of text, in inches."""


def preview(data: ImageSet, path: Path) -> None:
    """Draws `IMAGES` images, evenly spread from the first to the last, on one scale; a PNG that is there goes.

    Pixels far beyond all others, as hot ones are, are drawn as the nearest of these. Raises InputError where the disk
    does not take the picture.
    """
    rows = drawing.spread(len(data), IMAGES)
    images = np.asarray(data.images[rows])
    low, high = bounds(look_at(images, without=stuck(images)))
    images = drawing.upright(np.asarray(shown(data.images, rows), np.float64).clip(low, high), data)
    look = drawing.look_of(data)
    scale = drawing.scale_of(images, look)
    columns = 4 if images.shape[2] == 1 else 6
    lines = 1 + min(len(data.factors), _NAMED + 1)
    height = 0.75 if images.shape[2] == 1 else _WIDTH * min(2, images.shape[2] / images.shape[3])
    down = -(-len(rows) // columns)
    with mpl.rc_context(drawing.STYLE):
        width = 6 * _WIDTH / columns
        figure, axes = drawing.sheet(down, columns, 6 * _WIDTH + 0.9, down * (height + lines * _LINE + 0.1) + 0.5)
        for ax in axes.flat:
            drawing.bare(ax)
        for ax, row, image_CHW in zip(axes.flat, rows.tolist(), images, strict=False):
            drawing.stamp(ax, image_CHW, scale)
            text = minus("\n".join(_labels(data, row)))
            ax.set_title(text, fontsize=fit(text, 6.5, width), pad=2, linespacing=1.15)
        drawing.values(figure, axes, images[0], scale, look.unit)
        figure.suptitle(
            textwrap.fill(_title(data, images, scale), 130), x=0.01, ha="left", fontsize=8.5, parse_math=False
        )
        drawing.save(figure, path)


def _labels(data: ImageSet, row: int) -> list[str]:
    """The name of an image, then its labels, a line each."""
    name = f"row {row}" if data.id is None else str(data.id[row])
    pairs = list(zip(data.factors, data.values[row].tolist(), strict=True)) if data.factors else []
    more = [f"and {len(pairs) - _NAMED} more"] * (len(pairs) > _NAMED)
    return [name, *(_in_words(factor, value) for factor, value in pairs[:_NAMED]), *more]


def _in_words(factor: Factor, value: float) -> str:
    """`mass 3.2 kg`"""
    told = "not measured" if np.isnan(value) else f"{short(factor, value)} {factor.unit}"
    return f"{factor.name} {told}".rstrip()


def _title(data: ImageSet, images: NDArray, scale: drawing.Scale) -> str:
    """Which images these are, and what their colours mean."""
    count = (
        f"{len(images)} of {len(data):,} images, evenly spread" if len(images) < len(data) else f"{len(data)} images"
    )
    told = [f"{data.path.name}: {count}, {' x '.join(map(str, data.shape))} (C x H x W)"]
    told += drawing.in_words(data.shape, scale)
    if np.isnan(images).any():
        told.append("grey: missing")
    return "; ".join(told)
