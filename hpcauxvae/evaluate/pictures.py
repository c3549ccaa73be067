"""Pictures of a run: arrays and a path in, one PNG out, overwritten if it is there.

Shape suffixes: N samples, C channels, H height, W width, F factors, D auxiliary factors, Z latents, R rows, V values.
Images are drawn in linear data units: on an asinh scale, so that faint wings and bright cores are both seen; of three
channels as colours, divided by the largest value shown; of one row (spectra, light curves) as a line for each channel.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.evaluate.lettering import as_written, decades, fit, minus
from hpcauxvae.metrics.intervals import Score
from hpcauxvae.metrics.lds import LdsScore
from hpcauxvae.runtime.files import whole
from hpcauxvae.types import Factor

INK, GREY, PALE, MAROON, BLUE = "#22262b", "#8b9198", "#c9cdd2", "#7d1f33", "#2f6690"
STAMPS, RESIDUALS, CORRELATIONS = "magma", "RdBu_r", "Reds"
SOFTENING = 0.005
"""Where the asinh scale turns from linear to logarithmic, as a fraction of the largest value."""
FAR = 0.5
"""Of the largest value: where all lie above it, the scale does not begin at 0."""
MOST_POINTS = 2000
ROUND = [1, 2, 5, 10]
"""Steps between ticks, times a power of ten."""
_EDGE = 0.08
"""Inches around a picture."""

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


def reconstructions(
    originals_NCHW: NDArray,
    reconstructions_NCHW: NDArray,
    path: Path,
    *,
    unit: str = "",
    names: tuple[str, str] = ("original", "reconstruction"),
    title: str = "",
) -> None:
    """Originals, blank where NaN, over reconstructions over the difference, a column each; rows share their scale."""
    n = len(originals_NCHW)
    known_NCHW = np.ma.masked_invalid(originals_NCHW.astype(np.float64))
    residuals_NHW = (known_NCHW - reconstructions_NCHW).mean(1).filled(np.nan)
    norm, residual_norm = _stretch(originals_NCHW), _symmetric(residuals_NHW)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(3, n, 0.92 * n + 1.9, 3 * 0.96 + 0.1)
        for column in range(n):
            _stamp(axes[0, column], originals_NCHW[column], norm)
            _stamp(axes[1, column], reconstructions_NCHW[column], norm)
            _stamp(axes[2, column], residuals_NHW[column, None], residual_norm, RESIDUALS)
        for ax in axes.flat:
            _bare(ax)
        for ax, name in zip(axes[:, 0], (*names, f"{names[0]} −\n{names[1]}"), strict=True):
            _row_label(ax, name)
        _values(figure, axes[:2], originals_NCHW[0], norm, STAMPS, unit)
        _values(figure, axes[2:], residuals_NHW[:1], residual_norm, RESIDUALS, unit)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        save(figure, path)


def factor_latent_scatter(
    z_NZ: NDArray,
    mean_NZ: NDArray,
    factors_NF: NDArray,
    factors: Sequence[Factor],
    aux_names: Sequence[str],
    score: LdsScore | None,
    path: Path,
    reading: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Fig. 3: latents along x, factors (N, F; physical units) along y; z in grey, posterior means in maroon.

    Latent j carries the j-th of `aux_names`; the panel where the two meet is marked, with r and slope of its
    reading (metrics/reading.py) where given. The score is the title; None where no factor is auxiliary. At most 2,000
    samples are drawn.
    """
    step = -(-len(z_NZ) // MOST_POINTS)
    rows, columns = factors_NF.shape[1], z_NZ.shape[1]
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows, columns, 1.05 * columns + 0.8, 1.05 * rows + 0.8, sharex="col", sharey="row")
        for (row, column), ax in np.ndenumerate(axes):
            values_N = factors_NF[::step, row]
            for codes_NZ, colour in ((z_NZ, PALE), (mean_NZ, MAROON)):
                ax.scatter(codes_NZ[::step, column], values_N, s=1.4, color=colour, linewidths=0, alpha=0.6)
            own = column < len(aux_names) and factors[row].name == aux_names[column]
            _frame(ax, MAROON if own else PALE)
            if own and reading:
                ax.set_title(read_as(reading[factors[row].name]), loc="center", fontsize=6.5, pad=2)
            ax.xaxis.set_major_locator(MaxNLocator(2, steps=ROUND))
            ax.yaxis.set_major_locator(MaxNLocator(3, steps=ROUND))
            ax.tick_params(labelsize=6.5)
            ax.xaxis.set_visible(row == rows - 1)
            ax.yaxis.set_visible(column == 0)
        for ax, factor in zip(axes[:, 0], factors, strict=True):
            name = with_unit(factor) if len(with_unit(factor)) <= 16 else with_unit(factor).replace(" [", "\n[")
            ax.set_ylabel(name, fontsize=fit(name, 9, 1.05))
        for column, ax in enumerate(axes[-1]):
            ax.set_xlabel(latent_name(column, aux_names))
        figure.align_labels()
        if score is not None:
            figure.suptitle(_lds_title(score), x=0.01, ha="left", fontsize=10)
        figure.legend(handles=_dots(), loc="outside upper right", ncols=2, handletextpad=0.1, columnspacing=1)
        save(figure, path)


def traversal(
    images_RVCHW: NDArray,
    row_names: Sequence[str],
    labels_RV: Sequence[Sequence[str]],
    path: Path,
    *,
    unit: str = "",
    heads: Sequence[str] | None = None,
) -> None:
    """Fig. 5: a row for each latent, varied along the columns while the others stay; the value above each image.

    heads: for each row what stands before its values, line by line.
    """
    rows, columns = images_RVCHW.shape[:2]
    norm = _stretch(images_RVCHW)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows, 1, 0.86 * columns + 1.9, 1.06 * rows + 0.1)
        for row, (ax, name) in enumerate(zip(axes[:, 0], row_names, strict=True)):
            _strip(ax, images_RVCHW[row], norm, labels_RV[row], heads[row] if heads else "")
            _row_label(ax, name)
        _values(figure, axes, images_RVCHW[0, 0], norm, STAMPS, unit)
        save(figure, path)


def _strip(ax: Axes, images_VCHW: NDArray, norm: Normalize, labels: Sequence[str], head: str) -> None:
    """Images side by side with labels above, as one image: an axes for each would cost most of a picture's time."""
    count, channels, height, width = images_VCHW.shape
    gap, size = -(-width // 12), min(fit(label, 7.5, 0.84) for label in labels)
    white = norm.vmax if channels == 3 and height > 1 else np.nan
    row_CHW = np.full((channels, height, count * (width + gap) - gap), white)
    _bare(ax)
    above: dict[str, Any] = {"y": 1.04, "va": "bottom", "fontsize": size, "transform": ax.get_xaxis_transform()}
    if head:
        ax.text(-gap, s=head, ha="right", **above)
    for number, (image_CHW, label) in enumerate(zip(images_VCHW, labels, strict=True)):
        left = number * (width + gap)
        row_CHW[..., left : left + width] = image_CHW
        ax.text(left + (width - 1) / 2, s=minus(label), ha="center", **above)
    _stamp(ax, row_CHW, norm)


def ssim_boxplot(groups: Mapping[str, NDArray], path: Path, *, ceiling: str | None = None) -> None:
    """Fig. 2: SSIM of each image by named group; `ceiling` names the group of noiseless images, drawn in grey.

    Box: quartiles; line: median; whiskers: 5th and 95th percentile; diamond and number: mean. NaN are left out.
    """
    names = list(groups)
    values = [np.asarray(group)[~np.isnan(group)] for group in groups.values()]
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 1, 6.4, 0.55 * len(names) + 0.95)
        ax = axes[0, 0]
        boxes(ax, values, range(1, len(names) + 1), [GREY if name == ceiling else MAROON for name in names])
        ax.set_yticks(
            range(1, len(names) + 1), [f"{name}\nn = {len(v):,}" for name, v in zip(names, values, strict=True)]
        )
        ax.set(xlabel="SSIM (data range of each original)")
        ax.annotate("mean", (1.01, 1.0), xycoords="axes fraction", va="bottom", fontsize=8, color=GREY)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.xaxis.grid(True, color=PALE, linewidth=0.5)
        ax.set_axisbelow(True)
        save(figure, path)


def boxes(
    ax: Axes, values: Sequence[NDArray], at: Sequence[float], colours: Sequence[str], *, width: float = 0.5
) -> None:
    """Horizontal boxes at these heights, quartiles and whiskers as in `ssim_boxplot`; the mean as a number beside."""
    drawn = ax.boxplot(
        values,
        positions=at,
        orientation="horizontal",
        widths=width,
        whis=(5, 95),
        showfliers=False,
        showmeans=True,
        showcaps=False,
        patch_artist=True,
        medianprops={"color": INK, "linewidth": 1.2},
        meanprops={
            "marker": "D",
            "markersize": 4,
            "markerfacecolor": "white",
            "markeredgecolor": INK,
            "markeredgewidth": 0.8,
        },
    )
    whiskers = zip(*[iter(drawn["whiskers"])] * 2, strict=True)
    for colour, box, lines in zip(colours, drawn["boxes"], whiskers, strict=True):
        box.set(facecolor=mpl.colors.to_rgba(colour, 0.35), edgecolor=colour, linewidth=0.8)
        for line in lines:
            line.set(color=colour, linewidth=0.8)
    for y, group in zip(at, values, strict=True):
        ax.annotate(f"{group.mean():.4f}", (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def correlation_map(
    correlations_FZ: NDArray, factor_names: Sequence[str], aux_names: Sequence[str], path: Path
) -> None:
    """|correlation| of every factor with every latent, its signed value written into each cell."""
    rows, columns = correlations_FZ.shape
    norm = Normalize(0, 1)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows=1, columns=1, width=0.62 * columns + 2.0, height=0.42 * rows + 1.0)
        ax = axes[0, 0]
        ax.imshow(np.abs(correlations_FZ), cmap=CORRELATIONS, norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(correlations_FZ):
            text = minus(f"{value:z.2f}")
            colour = "white" if abs(value) > 0.55 else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
        ax.set_xticks(range(columns), [latent_name(z, aux_names) for z in range(columns)])
        ax.set_yticks(range(rows), factor_names)
        ax.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="both", length=0)
        ax.spines[:].set_visible(False)
        _colour_bar(figure, axes, norm, CORRELATIONS, "|correlation|")
        save(figure, path)


def upright(images: NDArray, data: ImageSet) -> NDArray:
    """Images (..., H, W) as they are drawn, first row on top: turned over where the file has its first row below."""
    return images[..., ::-1, :] if data.provenance.get("image_origin") == "lower" else images


def image_unit(data: ImageSet) -> str:
    """Unit of the pixels, where the file tells."""
    return str(data.provenance.get("image_unit", ""))


def latent_name(column: int, aux_names: Sequence[str]) -> str:
    """Label of a latent, counted from 1 as in the paper; the auxiliary factor's name below it where it has one."""
    name = f"$z_{{{column + 1}}}$"
    return f"{name}\n{aux_names[column]}" if column < len(aux_names) else name


def short(factor: Factor, value: Any, places: int = 2) -> str:
    """A value in the factor's unit, to a hundredth of its range (10 to the minus `places`) or finer.

    Of a logarithmic range the value has one figure more than `places`: to a hundredth of itself, or finer.
    """
    if factor.transform == "log10":
        return f"{float(value):.{places + 1}g}"
    digits = places - int(np.floor(np.log10(factor.high - factor.low)))
    figures = digits + 1 + int(np.floor(np.log10(max(abs(factor.low), abs(factor.high)))))
    return f"{round(float(value), digits) + 0.0:.{max(6, figures)}g}"


def read_as(reading: Mapping[str, Any]) -> str:
    """`r −0.97, slope −0.07`; a periodic factor has no slope."""
    return minus(", ".join(f"{name} {reading[name]['value']:.2f}" for name in ("r", "slope") if name in reading))


def with_interval(score: Score) -> str:
    """`0.846 [0.831, 0.862]`"""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


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
    with whole(path) as part:
        figure.savefig(part, format="png", facecolor="white")


def _stretch(images: NDArray) -> Normalize:
    """Linear for what stays far from 0, as temperatures in kelvin do; NaN, where a pixel is missing, does not count."""
    low, top = float(np.nanmin(images)), float(np.nanmax(images))
    if 0 < FAR * top < low < top:
        return Normalize(low, top)
    top = top if top > 0 else 1.0
    return AsinhNorm(SOFTENING * top, vmin=min(0.0, low), vmax=top)


def _symmetric(residuals: NDArray) -> AsinhNorm:
    top = float(np.nanmax(np.abs(residuals))) or 1.0
    return AsinhNorm(0.1 * top, vmin=-top, vmax=top)


def _stamp(ax: Axes, image_CHW: NDArray, norm: Normalize, colours: str = STAMPS) -> None:
    if image_CHW.shape[1] == 1:
        _lines(ax, image_CHW[:, 0], norm)
    elif len(image_CHW) == 3:
        ax.imshow(np.clip(np.nan_to_num(np.moveaxis(image_CHW, 0, -1) / norm.vmax, nan=1.0), 0, 1))
    else:
        ax.imshow(image_CHW[0], cmap=colours, norm=norm)


def _lines(ax: Axes, rows_CW: NDArray, norm: Normalize) -> None:
    """Rows of pixels, from the lowest to the highest value of the scale, which is linear here."""
    ax.set_prop_cycle(color=[MAROON, BLUE, GREY, INK, PALE])
    ax.plot(rows_CW.T, linewidth=0.6)
    ax.set(xlim=(-0.5, rows_CW.shape[1] - 0.5), ylim=(norm.vmin, norm.vmax))


def _values(figure: Figure, axes: NDArray, image_CHW: NDArray, norm: Normalize, colours: str, unit: str) -> None:
    """What tells values of such images: a colour bar, or numbers beside the first of axes with lines."""
    if image_CHW.shape[1] > 1 and len(image_CHW) != 3:
        _colour_bar(figure, axes, norm, colours, unit)
    elif image_CHW.shape[1] == 1:
        axes.flat[0].yaxis.set_major_locator(MaxNLocator(3, steps=ROUND))
        axes.flat[0].yaxis.label.set_text(axes.flat[0].get_ylabel() + f"\n[{unit}]" * bool(unit))


def _bare(ax: Axes) -> None:
    """Neither axes nor frame: an axis that is only emptied still costs most of a picture's time."""
    ax.xaxis.set_visible(False)
    ax.yaxis.set_visible(False)
    ax.spines[:].set_visible(False)


def _frame(ax: Axes, colour: str) -> None:
    ax.spines[:].set(visible=True, color=colour, linewidth=1.1 if colour == MAROON else 0.6)


def _row_label(ax: Axes, text: str) -> None:
    ax.yaxis.set_visible(True)
    ax.set_yticks([])
    ax.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6)


def _colour_bar(figure: Figure, axes: NDArray, norm: Normalize, colours: str, label: str) -> None:
    shades = mpl.cm.ScalarMappable(norm, colours)
    bar = figure.colorbar(shades, ax=axes.ravel().tolist(), pad=0.01, aspect=14 * len(axes))
    bar.outline.set_visible(False)
    bar.set_label(label)
    if isinstance(norm, AsinhNorm):
        bar.minorticks_off()
        ticks = decades(*shades.get_clim(), norm.linear_width)
        bar.set_ticks(ticks, labels=[minus(f"{tick:g}") for tick in ticks])


def with_unit(factor: Factor) -> str:
    """`radius [arcsec]`"""
    return f"{factor.name} [{factor.unit}]" if factor.unit else factor.name


def _lds_title(score: LdsScore) -> str:
    return f"LDS {with_interval(score)}   attainable {score['attainable']:.3f}   n = {score['n']:,}"


def _dots() -> list[Any]:
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4}
    return [mpl.lines.Line2D([], [], color=c, label=text, **style) for c, text in ((GREY, "z"), (MAROON, "mean"))]
