"""The curves of a training: rows of metrics.jsonl in, one PNG out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from hpcauxvae.data.drawing import GREY, MAROON, PALE, ROUND, STYLE, save, sheet

_GAUGES = {"weight": "weight of independence, nats", "dependence": "dependence, in training"}


def training_curves(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows of metrics.jsonl: a panel a term, training in grey and validation in maroon; the LDS by its ceiling.

    Where independence is a constraint, also its weight, and the dependence by its tolerance.
    """
    terms = list(history[-1]["train"])
    scored = "lds" in history[-1]["validation"]
    drawn = "mse" in history[-1]["validation"]
    gauges = [name for name in _GAUGES if name in history[-1]]
    panels = len(terms) + drawn + scored + len(gauges)
    columns = min(3, panels)
    rows = -(-panels // columns)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(rows, columns, 2.7 * columns + 0.3, 2.0 * rows + 0.35)
        epochs = [row["epoch"] for row in history]
        marker = "-" if len(epochs) > 1 else "o"
        for ax, term in zip(axes.flat, terms, strict=False):
            for split, colour in (("train", GREY), ("validation", MAROON)):
                values = [row[split].get(term, np.nan) for row in history]
                ax.plot(epochs, values, marker, color=colour, linewidth=1.4, label=split)
            ax.set_title(term)
            signed = min(row["validation"].get(term, np.inf) for row in history) <= 0
            _logarithmic_if_wide(ax, [0.0] if signed else [row["train"][term] for row in history])
        if drawn:
            ax = axes.flat[len(terms)]
            values = [row["validation"].get("mse", np.nan) for row in history]
            ax.plot(epochs, values, marker, color=MAROON, linewidth=1.4)
            ax.set_title("MSE of validation images")
            _logarithmic_if_wide(ax, values)
        if scored:
            ax = axes.flat[len(terms) + drawn]
            ceiling = [row["validation"]["lds_attainable"] for row in history]
            ax.plot(epochs, ceiling, "--" if len(epochs) > 1 else "_", color=GREY, linewidth=1, label="attainable")
            ax.plot(epochs, [row["validation"]["lds"] for row in history], marker, color=MAROON, linewidth=1.4)
            ax.set(title="LDS of validation", ylim=(0, 1.02))
            ax.legend(loc="lower right")
        for ax, name in zip(axes.flat[len(terms) + drawn + scored :], gauges, strict=False):
            values = [row.get(name, np.nan) for row in history]
            ax.plot(epochs, values, marker, color=GREY, linewidth=1.4)
            _logarithmic_if_wide(ax, values)
            if name == "dependence":
                tolerance = [row.get("tolerance", np.nan) for row in history]
                ax.plot(epochs, tolerance, "--", color=GREY, linewidth=1, label="tolerance")
                ax.legend(loc="best")
            ax.set_title(_GAUGES[name])
        axes.flat[0].legend(loc="best")
        _finish_curves(axes, panels, epochs[-1])
        save(figure, path)


def _finish_curves(axes: NDArray, panels: int, last_epoch: int) -> None:
    for number, ax in enumerate(axes.flat):
        ax.set_visible(number < panels)
        ax.yaxis.grid(True, color=PALE, linewidth=0.5)
        ax.set_xlim(0, 1.03 * last_epoch)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
        if number + axes.shape[1] >= panels:
            ax.set_xlabel("epoch")


def _logarithmic_if_wide(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis where positive values span more than a decade."""
    low, high = min(values), max(values)
    if 0 < 10 * low < high:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
