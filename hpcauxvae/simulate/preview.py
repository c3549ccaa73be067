"""A look at a set before it is drawn: a contact sheet of some stamps and the distributions of the factors."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure

from hpcauxvae.data.drawing import GREY, INK, MAROON, SOFTENING, STAMPS, STYLE
from hpcauxvae.runtime.files import whole
from hpcauxvae.simulate.plan import Plan
from hpcauxvae.simulate.stamps import painter_of
from hpcauxvae.types import InputError

ROWS, COLUMNS = 5, 8


def preview(plan: Plan, values: np.ndarray) -> Path:
    """Draws OUT with the suffix .png: the first 40 stamps of the plan, each on its own scale, beside its factors.

    Of several bands the first three are shown as colours. Raises InputError if the picture exists.
    """
    path = plan.out.with_suffix(".png")
    if path.exists():
        raise InputError(f"{path}: exists already; remove it or name another file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: folder {path.parent} does not exist")
    shown = values[: ROWS * COLUMNS]
    stamps = np.empty((len(shown), *plan.scene.shape), np.float32)
    painter_of(plan.scene, plan.seed, plan.device)(shown, plan.start, stamps, lambda: None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 7.6), layout="constrained")
        FigureCanvasAgg(figure)
        halves: Any = figure.subfigures(2, 1, height_ratios=(4, 1.15))
        upper, lower = halves
        _sheet(upper, stamps)
        for ax, factor, column in zip(
            lower.subplots(1, len(plan.factors), squeeze=False)[0], plan.factors, values.T, strict=True
        ):
            ax.hist(column, bins=24, range=(factor.low, factor.high), color=MAROON, alpha=0.8)
            ax.set(xlabel=f"{factor.name} [{factor.unit}]" if factor.unit else factor.name, yticks=[])
            ax.locator_params(axis="x", nbins=3)
            ax.spines["left"].set_visible(False)
        told = plan.scene.description
        title = (
            f"{len(values):,} galaxies: {told['profile']}. {told['psf_profile']}; noise: {told['noise']}; "
            f"{plan.scene.stamp_size} pixels of {plan.scene.pixel_scale:g} arcsec"
        )
        figure.suptitle(textwrap.fill(title, 130), x=0.01, ha="left", fontsize=8.5, color=INK)
        with whole(path) as part:
            figure.savefig(part, format="png", facecolor="white")
    return path


def _sheet(figure: mpl.figure.SubFigure, stamps: np.ndarray) -> None:
    axes = figure.subplots(ROWS, COLUMNS).ravel()
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, stamp in zip(axes, stamps, strict=False):
        top = max(float(stamp.max()), 1e-9)
        norm = AsinhNorm(10 * SOFTENING * top, vmin=min(0.0, float(np.percentile(stamp, 1))), vmax=top)
        shown = stamp[0]
        if len(stamp) >= 3:
            shown = np.clip(
                np.moveaxis(np.asarray(norm(stamp[2::-1].ravel())).reshape(3, *stamp.shape[1:]), 0, -1), 0, 1
            )  # red is the last of three
        ax.imshow(shown, cmap=STAMPS, norm=None if len(stamp) >= 3 else norm, origin="lower")
        ax.spines[:].set(visible=True, color=GREY)
