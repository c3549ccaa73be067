"""How images are drawn: type and colours of all pictures, the scale that a set wants, missing pixels in grey.

Shape suffixes: N images, C channels, H height, W width, X all axes before those. Images are in linear data units, NaN
where a pixel is missing. One channel is drawn by a colour map, several as colours, one row (spectra, light curves) as a
line for each channel.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import as_written, decades, minus
from hpcauxvae.data.missing import shown
from hpcauxvae.data.pixels import bounds, look_at, stuck
from hpcauxvae.data.stored import images_in
from hpcauxvae.data.summary import Summary
from hpcauxvae.runtime.files import whole

INK, GREY, PALE, MAROON, BLUE = "#22262b", "#8b9198", "#c9cdd2", "#7d1f33", "#2f6690"
STAMPS, RESIDUALS, CORRELATIONS = "magma", "RdBu_r", "Reds"
MISSING = "#9c9c9c"
"""Pixels that are missing: a grey that is in neither colour map."""
SOFTENING = 0.005
"""Where the asinh scale turns from linear to logarithmic, as a fraction of the largest value."""
ROUND = [1, 2, 5, 10]
"""Steps between ticks, times a power of ten."""
_EDGE = 0.08
"""Inches around a picture."""
_FAR = 0.3
"""Of the largest value: where all lie above it, the scale does not begin at 0."""
_BOTH = 0.25
"""Of the larger of the two: so far from 0 the other end must be, if the scale shall go from 0 to either side."""
_FAINT = 0.1
"""Of the largest value: where half of the pixels lie below it, a linear scale shows little of them."""
_WHITE = (1.0, 255.0, 65535.0)
"""Largest values of pictures."""
_SPREAD, _SPREAD_BYTES = 100, 32 << 20
"""Images, and bytes of them in float32, that tell the scale of a set."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "image.interpolation": "nearest",
    "savefig.dpi": 160,
}

Kind: TypeAlias = Literal["linear", "diverging", "asinh"]


class Look(NamedTuple):
    """How the images of a set are drawn."""

    unit: str = ""
    """Of the pixels."""
    kind: Kind | None = None
    """linear; diverging: from 0 to either side; asinh: faint wings and bright cores are both seen. None: as the images
    that are drawn want it."""
    blue_first: bool = False
    """Whether three channels are bands, which are counted from blue to red."""
    unknown: NDArray[np.bool_] | None = None
    """(C, H, W), upright: pixels that are missing in every image, such as land among sea; of these no model knows."""

    def hidden(self, images_XCHW: NDArray) -> NDArray:
        """Images with NaN there."""
        return images_XCHW if self.unknown is None else np.where(self.unknown, np.nan, images_XCHW)


PLAIN = Look()
"""Of images that belong to no set."""


class Scale(NamedTuple):
    """From values to colours."""

    colours: str
    """Name of the colour map."""
    norms: tuple[Normalize, ...]
    """One; where several channels are drawn as colours one for red, green and blue each."""
    blue_first: bool
    """As in `Look`."""

    @property
    def norm(self) -> Normalize:
        """The only one, or that of red."""
        return self.norms[0]


def look_of(data: ImageSet | Summary) -> Look:
    """The look that a set wants: of a hundred images, evenly spread, or 32 MiB of them. Hot pixels play no part.

    Of a summary of a set: its unit and bands; all else as the images that are drawn want it.
    """
    if isinstance(data, Summary):
        return Look(unit=str(data.provenance.get("image_unit", "")), blue_first=bool(data.provenance.get("bands")))
    rows = spread(len(data), min(_SPREAD, images_in(_SPREAD_BYTES, data.shape)))
    images = np.asarray(data.images[rows])
    low, high = bounds(look_at(images, without=stuck(images)))
    known = np.asarray(shown(data.images, rows)).clip(low, high)
    told, unknown = data.provenance, np.isnan(known).all(0)
    return Look(
        unit=str(told.get("image_unit", "")),
        kind=_kind(known, data.images.dtype == np.uint8),
        blue_first=bool(told.get("bands")),
        unknown=upright(unknown, data) if unknown.any() else None,
    )


def spread(n: int, most: int) -> NDArray[np.int64]:
    """The numbers of so many of n samples, at most, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, most).astype(np.int64))


def _kind(images: NDArray, in_bytes: bool = False) -> Kind:
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    if in_bytes or (low >= 0 and (high <= 1 or high in _WHITE)):
        return "linear"
    if low < 0 < high and min(-low, high) > _BOTH * max(-low, high):
        return "diverging"
    return "linear" if high <= 0 or np.nanmedian(images) > _FAINT * high else "asinh"


def scale_of(images_XCHW: NDArray, look: Look) -> Scale:
    """The scale of these images: one for all of them.

    Colours share a linear scale, as those of photographs do; else each has its own, for bands differ in brightness.
    """
    kind = look.kind or _kind(images_XCHW)
    colours = RESIDUALS if kind == "diverging" else STAMPS
    if images_XCHW.shape[-3] == 1 or images_XCHW.shape[-2] == 1 or kind == "linear":
        norms = (_norm(images_XCHW, kind),) * (1 if images_XCHW.shape[-3] == 1 else 3)
    else:
        parts = _red_green_blue(np.moveaxis(images_XCHW, -3, 0), look.blue_first)
        norms = tuple(_norm(part, kind) for part in parts)
    return Scale(colours, norms, look.blue_first)


def _norm(images: NDArray, kind: Kind) -> Normalize:
    known = images[~np.isnan(images)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if kind == "diverging":
        top = max(-low, high) or 1.0
        return Normalize(-top, top)
    if kind == "linear":
        low = low if low < 0 or low > _FAR * high else 0.0
        return Normalize(low, high if high > low else low + 1)
    top = high if high > 0 else 1.0
    return AsinhNorm(SOFTENING * top, vmin=min(0.0, low), vmax=top)


def residual_scale(residuals: NDArray) -> Scale:
    """Of differences: from 0 to either side, on an asinh scale."""
    top = float(np.nanmax(np.abs(residuals))) or 1.0
    return Scale(RESIDUALS, (AsinhNorm(0.1 * top, vmin=-top, vmax=top),), False)


def _red_green_blue(image: NDArray, blue_first: bool) -> NDArray:
    """(C, ...) -> (3, ...): of three channels these, in their order or turned round; of two the second, the mean of
    both, the first; of more the means of the last, the middle and the first third: bands go from blue to red."""
    if len(image) == 3:
        return image[::-1] if blue_first else image
    parts = [image[1:], image, image[:1]] if len(image) == 2 else np.array_split(image, 3)[::-1]
    return np.stack([np.ma.array(part, mask=np.isnan(part)).mean(0).filled(np.nan) for part in parts])


def in_words(shape: tuple[int, int, int], scale: Scale) -> Iterator[str]:
    """What the colours of images (C, H, W) on this scale mean."""
    channels, height, _ = shape
    if height == 1:
        yield from ["a line for each channel"] * (channels > 1)
        return
    kind = "asinh" if isinstance(scale.norm, AsinhNorm) else "linear"
    yield f"{kind} scale from 0 to either side" if scale.colours == RESIDUALS else f"{kind} scale"
    names = ("red", "green", "blue")
    if channels == 2:
        yield "red: channel 2, blue: channel 1, green: their mean"
    elif channels == 3:
        yield f"channels as {', '.join(names[::-1] if scale.blue_first else names)}"
    elif channels > 3:
        thirds = [part + 1 for part in np.array_split(np.arange(channels), 3)[::-1]]
        means = (f"{name}: {', '.join(map(str, part))}" for name, part in zip(names, thirds, strict=True))
        yield f"means of channels as colours, {'; '.join(means)}"


def shade(image_CHW: NDArray, scale: Scale) -> NDArray[np.uint8]:
    """(H, W, 4), red, green, blue and 255; grey where all that a colour is made of is missing."""
    if len(image_CHW) == 1:
        colours = mpl.colormaps[scale.colours].with_extremes(bad=MISSING)
        return np.asarray(colours(scale.norm(np.ma.masked_invalid(image_CHW[0])), bytes=True))
    parts = _red_green_blue(image_CHW, scale.blue_first)
    shades = np.full((*image_CHW.shape[1:], 4), 1.0)
    for channel, (part, norm) in enumerate(zip(parts, scale.norms, strict=True)):
        shades[..., channel] = np.clip(np.asarray(norm(np.nan_to_num(part))), 0, 1)
    shades[np.isnan(parts).any(0), :3] = to_rgb(MISSING)
    return np.asarray(255 * shades + 0.5, np.uint8)


def stamp(ax: Axes, image_CHW: NDArray, scale: Scale) -> None:
    """An image on its axes."""
    if image_CHW.shape[1] == 1:
        lines(ax, image_CHW[:, 0], scale, np.isnan(image_CHW[:, 0]).any(0))
    else:
        ax.imshow(shade(image_CHW, scale))


def lines(ax: Axes, rows_CW: NDArray, scale: Scale, missing_W: NDArray[np.bool_]) -> None:
    """Rows of pixels, from the lowest to the highest value of the scale, which is linear here; grey where missing."""
    ax.set_prop_cycle(color=[MAROON, BLUE, GREY, INK, PALE])
    ax.plot(rows_CW.T, linewidth=0.6)
    ax.set(xlim=(-0.5, rows_CW.shape[1] - 0.5), ylim=(scale.norm.vmin, scale.norm.vmax))
    starts, ends = (np.flatnonzero(np.diff(np.r_[0, missing_W, 0]) == step) for step in (1, -1))
    for start, end in zip(starts, ends, strict=True):
        ax.axvspan(start - 0.5, end - 0.5, color=MISSING, linewidth=0)


def values(figure: Figure, axes: NDArray, image_CHW: NDArray, scale: Scale, unit: str) -> None:
    """What tells values of such images: a colour bar, or numbers beside the first of axes with lines."""
    if image_CHW.shape[1] > 1 and len(image_CHW) == 1:
        colour_bar(figure, axes, scale.norm, scale.colours, unit)
    elif image_CHW.shape[1] == 1:
        axes.flat[0].yaxis.set_visible(True)
        axes.flat[0].yaxis.set_major_locator(MaxNLocator(3, steps=ROUND))
        axes.flat[0].yaxis.label.set_text(axes.flat[0].get_ylabel() + f"\n[{unit}]" * bool(unit))


def colour_bar(figure: Figure, axes: NDArray, norm: Normalize, colours: str, label: str) -> None:
    """Beside these axes."""
    shades = mpl.cm.ScalarMappable(norm, colours)
    bar = figure.colorbar(shades, ax=axes.ravel().tolist(), pad=0.01, aspect=14 * len(axes))
    bar.outline.set_visible(False)
    bar.set_label(label)
    if isinstance(norm, AsinhNorm):
        bar.minorticks_off()
        ticks = decades(*shades.get_clim(), norm.linear_width)
        bar.set_ticks(ticks, labels=[minus(f"{tick:g}") for tick in ticks])


def bare(ax: Axes) -> None:
    """Neither axes nor frame: an axis that is only emptied still costs most of a picture's time."""
    ax.xaxis.set_visible(False)
    ax.yaxis.set_visible(False)
    ax.spines[:].set_visible(False)


def upright(images: NDArray, data: ImageSet | Summary) -> NDArray:
    """Images (..., H, W) as they are drawn, first row on top: turned over where the file has its first row below."""
    return images[..., ::-1, :] if data.provenance.get("image_origin") == "lower" else images


def sheet(rows: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, NDArray]:
    """An empty figure, sizes in inches, and its axes (rows, columns); call it within `STYLE`."""
    inner = _EDGE / width, _EDGE / height, 1 - 2 * _EDGE / width, 1 - 2 * _EDGE / height
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02, rect=inner)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG, overwriting it in one step. Raises InputError where the disk does not take it."""
    as_written(figure)
    figure.set(facecolor="white", dpi=STYLE["savefig.dpi"])
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()  # once: savefig draws twice, first for a layout that this makes as well
    with whole(path) as part:
        imsave(part, np.asarray(canvas.buffer_rgba()), format="png", dpi=figure.dpi)
