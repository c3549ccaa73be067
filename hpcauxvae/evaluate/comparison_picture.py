"""The picture of a comparison: a panel for each score, a line for each run."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hpcauxvae.data.drawing import GREY, INK, MAROON, PALE, ROUND, STYLE, save, sheet
from hpcauxvae.data.lettering import fit
from hpcauxvae.evaluate.compared import TOO_SMALL, sense, spoken

_COLUMNS = 3
_COLOURS = {"better": "#2f7d4f", "worse": MAROON, TOO_SMALL: INK, "": INK}


def comparison(found: dict[str, Any], path: Path) -> None:
    """What `compare` returns as one PNG: of each set the panels of its scores, the first run's value as a line in each.

    Thin: the interval of the score by itself. Thick: that of the difference from the first run, laid about the first
    run's value; green where the run is better, red where it is worse, black where it may be no different, or by too
    little.
    """
    names = [run["name"] for run in found["runs"]]
    panels = [
        (f"{spoken(name, of_runs)}, {of}", of_runs)
        for of, block in found["sets"].items()
        for name, of_runs in block["scores"].items()
    ]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    longest = max(map(len, names))
    with mpl.rc_context(STYLE):
        figure, axes = sheet(
            rows, columns, 2.6 * columns + 0.075 * longest, rows * (0.2 * len(names) + 0.55) + 0.3, sharey=True
        )
        for ax, panel in zip(axes.flat, panels, strict=False):
            _panel(ax, *panel, names)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        said = f"thin: interval of a score; thick: of its difference from {names[0]}; green: better, red: worse"
        figure.suptitle(said, x=0.01, ha="left", fontsize=fit(said, 8, figure.get_figwidth()), color=GREY)
        save(figure, path)


def _panel(ax: Axes, title: str, of_runs: dict[str, Any], names: list[str]) -> None:
    first = of_runs["values"][0]
    for number, (value, difference) in enumerate(zip(of_runs["values"], of_runs["differences"], strict=True)):
        if value is None or np.isnan(value["value"]):
            continue
        colour = _COLOURS[sense(of_runs, number)]
        ax.plot([value["low"], value["high"]], [number, number], color=GREY, linewidth=0.8)
        if difference is not None:
            ends = [first["value"] + difference[end] for end in ("low", "high")]
            ax.plot(ends, [number, number], color=colour, linewidth=3, solid_capstyle="butt")
        ax.plot(value["value"], number, "o", color=colour, markersize=4)
    if first is not None:
        ax.axvline(first["value"], color=PALE, linewidth=1, zorder=0)
    ax.set_title(title)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
