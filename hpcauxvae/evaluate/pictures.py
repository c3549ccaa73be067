"""Pictures of a run: arrays and a path in, one PNG out, overwritten if it is there.

Shape suffixes: N samples, C channels, H height, W width, F factors, D auxiliary factors, Z latents, R rows, V values.
Images are in linear data units, and drawn as data/drawing.py says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.drawing import (
    CORRELATIONS,
    GREY,
    INK,
    MAROON,
    PALE,
    PLAIN,
    ROUND,
    STYLE,
    Look,
    Scale,
    bare,
    save,
    sheet,
)
from hpcauxvae.data.lettering import fit, minus, with_unit
from hpcauxvae.metrics.intervals import Score
from hpcauxvae.metrics.lds import LdsScore
from hpcauxvae.types import Factor

MOST_POINTS = 2000
_HARDLY = 0.25
"""Part of the scale of a picture below which a change can hardly be seen."""


def reconstructions(
    originals_NCHW: NDArray,
    reconstructions_NCHW: NDArray,
    path: Path,
    *,
    look: Look = PLAIN,
    names: tuple[str, str] = ("original", "reconstruction"),
    title: str = "",
) -> None:
    """Originals over reconstructions over the difference, a column each; rows share their scale."""
    n, reconstructions_NCHW = len(originals_NCHW), look.hidden(reconstructions_NCHW)
    known_NCHW = np.ma.masked_invalid(originals_NCHW.astype(np.float64))
    residuals_NHW = (known_NCHW - np.nan_to_num(reconstructions_NCHW)).mean(1).filled(np.nan)
    scale, of_residuals = drawing.scale_of(originals_NCHW, look), drawing.residual_scale(residuals_NHW)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(3, n, 0.92 * n + 1.9, 3 * 0.96 + 0.1)
        for column in range(n):
            drawing.stamp(axes[0, column], originals_NCHW[column], scale)
            drawing.stamp(axes[1, column], reconstructions_NCHW[column], scale)
            drawing.stamp(axes[2, column], residuals_NHW[column, None], of_residuals)
        for ax in axes.flat:
            bare(ax)
        for ax, name in zip(axes[:, 0], (*names, f"{names[0]} −\n{names[1]}"), strict=True):
            _row_label(ax, name)
        drawing.values(figure, axes[:2], originals_NCHW[0], scale, look.unit)
        drawing.values(figure, axes[2:], residuals_NHW[:1], of_residuals, look.unit)
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
    numbers: Sequence[int] | None = None,
) -> None:
    """Fig. 3: latents along x, factors (N, F; physical units) along y; z in grey, posterior means in maroon.

    numbers: which latents these are, counted from 0; all if not given. Latent j carries the j-th of `aux_names`; the
    panel where the two meet is marked, with r and slope of its reading (metrics/reading.py) where given. The
    score is the title; None where no factor is auxiliary. At most 2,000 samples are drawn.
    """
    step = -(-len(z_NZ) // MOST_POINTS)
    rows, columns = factors_NF.shape[1], z_NZ.shape[1]
    numbers = numbers or range(columns)
    names = [aux_names[number] if number < len(aux_names) else "" for number in numbers]
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows, columns, 1.05 * columns + 0.8, 1.05 * rows + 0.8, sharex="col", sharey="row")
        for (row, column), ax in np.ndenumerate(axes):
            values_N = factors_NF[::step, row]
            for codes_NZ, colour in ((z_NZ, PALE), (mean_NZ, MAROON)):
                ax.scatter(codes_NZ[::step, column], values_N, s=1.4, color=colour, linewidths=0, alpha=0.6)
            own = factors[row].name == names[column]
            _frame(ax, MAROON if own else PALE)
            if own and reading and factors[row].name in reading:
                ax.set_title(read_as(reading[factors[row].name]), loc="center", fontsize=6.5, pad=2)
            ax.xaxis.set_major_locator(MaxNLocator(2, steps=ROUND))
            _scale_of(ax, factors[row], values_N)
            ax.tick_params(labelsize=6.5)
            ax.xaxis.set_visible(row == rows - 1)
            ax.yaxis.set_visible(column == 0)
        for ax, factor in zip(axes[:, 0], factors, strict=True):
            name = with_unit(factor) if len(with_unit(factor)) <= 16 else with_unit(factor).replace(" [", "\n[")
            ax.set_ylabel(name, fontsize=fit(name, 9, 1.05))
        for number, ax in zip(numbers, axes[-1], strict=True):
            ax.set_xlabel(latent_name(number, aux_names))
        figure.align_labels()
        if score is not None:
            figure.suptitle(_lds_title(score), x=0.01, ha="left", fontsize=10)
        figure.legend(handles=_dots(), loc="outside upper right", ncols=2, handletextpad=0.1, columnspacing=1)
        save(figure, path)


def _scale_of(ax: Axes, factor: Factor, values_N: NDArray) -> None:
    """A y axis for a factor (N,), logarithmic where its range is: so its latent runs along a straight line."""
    if factor.transform != "log10":
        ax.yaxis.set_major_locator(MaxNLocator(3, steps=ROUND))
        return
    ax.set_yscale("log")
    wide = np.nanmax(values_N) > 100 * np.nanmin(values_N)
    ax.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5), numticks=4))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def idle(latents: dict[str, Any]) -> dict[int, str]:
    """What is written at the row of a latent that is off, or draws nothing, by its number from 1."""
    return dict.fromkeys(latents["off"], "off") | dict.fromkeys(latents.get("still", ()), "draws nothing")


def traversal(
    images_RVCHW: NDArray,
    row_names: Sequence[str],
    labels_RV: Sequence[Sequence[str]],
    path: Path,
    *,
    look: Look = PLAIN,
    heads: Sequence[str] | None = None,
    differences: bool = False,
) -> None:
    """Fig. 5: a row for each latent, varied along the columns while the others stay; the value above each image.

    heads: for each row what stands before its values, line by line. differences: where the images of all rows hardly
    change beside their values, as those of a temperature do, a second row shows each less the middle one.
    """
    rows, columns, images_RVCHW = *images_RVCHW.shape[:2], look.hidden(images_RVCHW)
    scale = drawing.scale_of(images_RVCHW, look)
    change_RVHW = (images_RVCHW - images_RVCHW[:, columns // 2, None]).mean(2)
    span = max(float(norm.vmax or 0) - float(norm.vmin or 0) for norm in scale.norms)
    of_change = drawing.residual_scale(change_RVHW)
    times = 1 + (differences and images_RVCHW.shape[-2] > 1 and 0 < float(of_change.norm.vmax or 0) < _HARDLY * span)
    with mpl.rc_context(STYLE):
        beside = 1.9 if any(row_names) else 0.9  # for the names of rows, and for the bar of values
        beside += 0.9 * (times > 1)
        figure, axes = sheet(times * rows, 1, 0.86 * columns + beside, 1.06 * times * rows + 0.1)
        for row, (ax, name) in enumerate(zip(axes[::times, 0], row_names, strict=True)):
            _strip(ax, images_RVCHW[row], scale, labels_RV[row], heads[row] if heads else "")
            _row_label(ax, name)
        for row, ax in enumerate(axes[1::2, 0] if times > 1 else ()):
            _strip(ax, change_RVHW[row, :, None], of_change, [""] * columns)
            _row_label(ax, "less the\nmiddle one")
        drawing.values(figure, axes, images_RVCHW[0, 0], scale, look.unit)
        if times > 1:
            drawing.values(
                figure, axes, change_RVHW[:1, 0], of_change, f"difference {f'[{look.unit}]' * bool(look.unit)}"
            )
        save(figure, path)


def _strip(ax: Axes, images_VCHW: NDArray, scale: Scale, labels: Sequence[str], head: str = "") -> None:
    """Images side by side with labels above, as one image: an axes for each would cost most of a picture's time."""
    count, channels, height, width = images_VCHW.shape
    gap, size = -(-width // 12), min(fit(label, 7.5, 0.84) for label in labels)
    length = count * (width + gap) - gap
    bare(ax)
    above: dict[str, Any] = {"y": 1.04, "va": "bottom", "fontsize": size, "transform": ax.get_xaxis_transform()}
    if head:
        ax.text(-gap, s=head, ha="right", **above)
    row_CW, missing_W = np.full((channels, length), np.nan), np.zeros(length, bool)
    shades = np.zeros((height, length, 4), np.uint8)
    for number, (image_CHW, label) in enumerate(zip(images_VCHW, labels, strict=True)):
        left = number * (width + gap)
        place = slice(left, left + width)
        if height == 1:
            row_CW[:, place], missing_W[place] = image_CHW[:, 0], np.isnan(image_CHW[:, 0]).any(0)
        else:
            shades[:, place] = drawing.shade(image_CHW, scale)
        ax.text(left + (width - 1) / 2, s=minus(label), ha="center", **above)
    if height == 1:
        drawing.lines(ax, row_CW, scale, missing_W)
    else:
        ax.imshow(shades)


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
    correlations_FZ: NDArray,
    factor_names: Sequence[str],
    aux_names: Sequence[str],
    path: Path,
    numbers: Sequence[int] | None = None,
) -> None:
    """|correlation| of every factor with every latent, its signed value written into each cell.

    numbers: as in `factor_latent_scatter`.
    """
    rows, columns = correlations_FZ.shape
    numbers = numbers or range(columns)
    norm = Normalize(0, 1)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows=1, columns=1, width=0.62 * columns + 2.0, height=0.42 * rows + 1.0)
        ax = axes[0, 0]
        ax.imshow(np.abs(correlations_FZ), cmap=CORRELATIONS, norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(correlations_FZ):
            text = minus(f"{value:z.2f}")
            colour = "white" if abs(value) > 0.55 else INK
            ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
        names = [latent_name(number, aux_names) for number in numbers]
        longest = max((name.partition("\n")[2] for name in names), key=len)
        ax.set_xticks(range(columns), names, fontsize=fit(longest, 8, 0.6))
        ax.set_yticks(range(rows), factor_names)
        ax.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="both", length=0)
        ax.spines[:].set_visible(False)
        drawing.colour_bar(figure, axes, norm, CORRELATIONS, "|correlation|")
        save(figure, path)


def latent_name(column: int, aux_names: Sequence[str]) -> str:
    """Label of a latent, counted from 1 as in the paper; the auxiliary factor's name below it where it has one."""
    name = f"$z_{{{column + 1}}}$"
    return f"{name}\n{aux_names[column]}" if column < len(aux_names) else name


def latents_name(span: slice, name: str = "") -> str:
    """The same of those that a factor guides together."""
    first, last = (f"$z_{{{number}}}$" for number in (span.start + 1, span.stop))
    which = first if first == last else f"{first}, {last}" if span.stop == span.start + 2 else f"{first} to {last}"
    return f"{which}\n{name}".rstrip()


def read_as(reading: Mapping[str, Any]) -> str:
    """`r −0.97, slope −0.07`; a periodic factor has no slope."""
    return minus(", ".join(f"{name} {reading[name]['value']:.2f}" for name in ("r", "slope") if name in reading))


def with_interval(score: Score) -> str:
    """`0.846 [0.831, 0.862]`"""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _frame(ax: Axes, colour: str) -> None:
    ax.spines[:].set(visible=True, color=colour, linewidth=1.1 if colour == MAROON else 0.6)


def _row_label(ax: Axes, text: str) -> None:
    ax.yaxis.set_visible(True)
    ax.set_yticks([])
    ax.set_ylabel(text, rotation=0, ha="right", va="center", labelpad=6)


def _lds_title(score: LdsScore) -> str:
    return f"LDS {with_interval(score)}   attainable {score['attainable']:.3f}   n = {score['n']:,}"


def _dots() -> list[Any]:
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4}
    return [mpl.lines.Line2D([], [], color=c, label=text, **style) for c, text in ((GREY, "z"), (MAROON, "mean"))]
