"""The pictures of a search: trials in, matplotlib figures out. Shape suffixes: N trials, A axes of the space."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from hpcauxvae.data.drawing import BLUE, GREY, INK, MAROON, PALE, STYLE
from hpcauxvae.types import Interval
from hpo.logbook import Logbook, Row
from hpo.problem import Space
from hpo.results import chosen, compared, finished, front, hypervolumes, papers_choice, utilisation, worst
from hpo.settings import SearchConfig

MSE_LABEL = "validation MSE  [(training maximum)²]"
GAP_LABEL = "1 − LDS / attainable, validation"
COLOURS = {"finished": MAROON, "stopped": BLUE, "failed": INK, "interrupted": PALE}
FEWEST = 10
"""Finished trials without which importance is not drawn."""


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """One panel in the style of the house; sizes in inches."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots()


@mpl.rc_context(STYLE)
def pareto(rows: Sequence[Row], has_first: bool) -> Figure:
    """Both objectives of every trial, the front with the numbers of its trials, our choice and the paper's.

    has_first: whether trial 0 is the objective's own setting, to be marked.
    """
    made, ax = figure(6.4, 4.2)
    for state in ("stopped", "finished"):
        points = [row.objectives for row in rows if row.state == state and row.objectives]
        label = f"{state} ({len(points)})" + (", at its last epoch" if state == "stopped" else "")
        face = MAROON if state == "finished" else "none"
        if points:
            mse, gap = zip(*points, strict=True)
            ax.scatter(mse, gap, s=22, facecolors=face, edgecolors=COLOURS[state], label=label)
    corners = [row.objectives for row in front(rows) if row.objectives]
    mse, gap = zip(*corners, strict=True)
    ax.step(mse, gap, where="post", color=MAROON, linewidth=1, label="Pareto front")
    first = next((row for row in finished(rows) if row.trial == 0 and has_first), None)
    named = ((chosen(rows), "*", 190, "chosen"), (papers_choice(rows), "D", 60, "the paper's rule, for comparison"),
             (first, "s", 75, "trial 0"))  # fmt: skip
    for row, marker, size, label in named:
        if row is not None and row.objectives:
            ax.scatter(*row.objectives, s=size, marker=marker, facecolors="none", edgecolors=INK, label=label)
    for row in front(rows):
        at = row.objectives or (0, 0)
        ax.annotate(f"{row.trial}", at, (5, 4), textcoords="offset points", fontsize=8, color=INK)
    ax.set(xscale="log", xlabel=MSE_LABEL, ylabel=GAP_LABEL)
    if ax.get_xlim()[1] < 100 * ax.get_xlim()[0]:  # less than two decades have hardly a power of ten
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5), numticks=20))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))
        ax.xaxis.set_minor_formatter(NullFormatter())
    made.legend(loc="outside upper left", ncols=3)
    return made


@mpl.rc_context(STYLE)
def progress_of_hypervolume(curves: dict[str, list[NDArray]]) -> Figure:
    """Hypervolume against trials that ended; by name a curve for each seed, their mean drawn stronger."""
    colours = (MAROON, BLUE, GREY, INK)
    made, ax = figure(6.4, 3.2)
    for (name, values), colour in zip(curves.items(), colours, strict=False):
        shortest = min(len(curve) for curve in values)
        numbers = np.arange(1, shortest + 1)
        for curve in values if len(values) > 1 else ():
            ax.step(np.arange(1, len(curve) + 1), curve, where="post", color=colour, linewidth=0.6, alpha=0.45)
        mean = np.mean([curve[:shortest] for curve in values], 0)
        ax.step(numbers, mean, where="post", color=colour, linewidth=1.8, label=name)
    ax.set(xlabel="trials that ended", ylabel="hypervolume  [decades of MSE × LDS gap]", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.yaxis.grid(True, color=PALE, linewidth=0.5)
    if len(curves) > 1:
        ax.legend(loc="lower right")
    return made


@mpl.rc_context(STYLE)
def parallel_coordinates(rows: Sequence[Row], space: Space) -> Figure:
    """A line for each trial over hyperparameters and objectives; the front is stronger, the choice strongest."""
    shown = [row for row in rows if row.objectives]
    names = [*space, "MSE", "1 − LDS/att."]
    best, best_of = chosen(rows), {row.trial for row in front(rows)}
    columns = [[row.point[name] for row in shown] for name in space]
    columns += [list(values) for values in zip(*(row.objectives for row in shown if row.objectives), strict=True)]
    scaled = [_scaled(column, space.get(name), log=name == "MSE") for name, column in zip(names, columns, strict=True)]
    made, ax = figure(max(6.4, 0.85 * len(names) + 0.5), 4.2)  # a page shows it whole, and is to be read
    for number, row in enumerate(shown):
        strong = row.trial in best_of
        colour = INK if row is best else MAROON if strong else GREY
        width = 2.0 if row is best else 1.2 if strong else 0.7
        heights = [column[number] for column, _, _ in scaled]
        ax.plot(heights, color=colour, linewidth=width, alpha=1 if strong else 0.6, zorder=2 + strong)
    for position, (_, low, high) in enumerate(scaled):
        ax.axvline(position, color=PALE, linewidth=1, zorder=1)
        for height, text in ((-0.035, low), (1.02, high)):
            va = "top" if height < 0 else "bottom"
            ax.text(position, height, text, ha="center", va=va, fontsize=8.5, color=INK)
    ax.set_xticks(range(len(names)), [name.replace("_", "_\n") for name in names], fontsize=9)
    ax.tick_params(axis="x", length=0, pad=14)
    ax.set(yticks=[], ylim=(-0.02, 1.02), xlim=(-0.4, len(names) - 0.6))
    ax.spines[:].set_visible(False)
    lines = [mpl.lines.Line2D([], [], color=c, linewidth=w) for c, w in ((INK, 2), (MAROON, 1.2), (GREY, 0.7))]
    made.legend(lines, ["chosen", "Pareto front", "others"], loc="outside upper right", ncols=3)
    return made


def _scaled(column: Sequence[Any], axis: Any, log: bool) -> tuple[NDArray, str, str]:
    """Heights in [0, 1], and the labels of both ends."""
    if axis is not None and not isinstance(axis, Interval):
        places = {choice: number / max(1, len(axis) - 1) for number, choice in enumerate(axis)}
        return np.array([places[value] for value in column]), f"{axis[0]}", f"{axis[-1]}"
    low, high = (min(column), max(column)) if axis is None else (axis.low, axis.high)
    values, ends = np.array(column, float), np.array([low, high], float)
    if log or (axis is not None and axis.log):
        values, ends = np.log(values), np.log(ends)
    height = (values - ends[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else np.full(len(values), 0.5)
    digits = ".3g" if axis is None else "g"
    return height, f"{low:{digits}}", f"{high:{digits}}"


@mpl.rc_context(STYLE)
def importance(rows: Sequence[Row], space: Space, seed: int) -> Figure | None:
    """What a shuffled hyperparameter costs in R² of extremely randomised trees, for each objective.

    Breiman's permutation importance, on the trials that the trees were fitted to; the title of each objective has the
    R² of trials left out, without which the bars say nothing. None for fewer than `FEWEST` finished trials.
    """
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.inspection import permutation_importance

    shown = finished(rows)
    if len(shown) < FEWEST:
        return None
    x_NA = np.stack([_scaled([row.point[name] for row in shown], axis, False)[0] for name, axis in space.items()], 1)
    y_N2 = compared(shown)
    made, ax = figure(6.4, 0.42 * len(space) + 1.1)
    for objective, (label, colour) in enumerate((("log MSE", MAROON), ("1 − LDS/attainable", BLUE))):
        trees = ExtraTreesRegressor(200, bootstrap=True, oob_score=True, min_samples_leaf=2, random_state=seed)
        trees.fit(x_NA, y_N2[:, objective])
        found = permutation_importance(trees, x_NA, y_N2[:, objective], n_repeats=20, random_state=seed)
        label += f"  (R² of trials left out: {round(trees.oob_score_, 2) + 0.0:.2f})"
        ax.barh(
            np.arange(len(space)) + 0.38 * objective, found.importances_mean, 0.36,
            xerr=found.importances_std, color=colour, label=label, error_kw={"elinewidth": 0.8, "ecolor": INK},
        )  # fmt: skip
    ax.set_yticks(np.arange(len(space)) + 0.19, list(space))
    ax.set(xlabel="loss of R² when the hyperparameter is shuffled", xlim=(0, None))
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    made.legend(loc="outside upper left", ncols=2)
    return made


@mpl.rc_context(STYLE)
def workers(rows: Sequence[Row], sessions: Sequence[dict[str, Any]]) -> Figure:
    """When each worker ran which trial, the interrupted ones included.

    The title has the busy fraction of the last session's workers.
    """
    began = min(row.started for row in rows)
    names = sorted({row.worker for row in rows})
    last = sessions[-1]
    own = [row for row in rows if row.started >= last["time"]]
    made, ax = figure(6.4, 0.3 * len(names) + 1.1)
    for row in rows:
        span = [((row.started - began) / 60, (row.ended - row.started) / 60)]
        ax.broken_barh(span, (names.index(row.worker) - 0.4, 0.8), facecolors=COLOURS[row.state], edgecolors="white")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="minutes since the first trial", ylabel="worker", ylim=(len(names) - 0.4, -0.6))
    if len(own) > 2 * last["workers"]:
        busy = utilisation(own, last["workers"])
        ax.set_title(f"busy {busy:.3f} of the time, from the first to the last start of the last session")
    patches = [mpl.patches.Patch(color=colour, label=state) for state, colour in COLOURS.items()]
    made.legend(handles=patches, loc="outside lower right", ncols=4)
    return made


def of_search(logbook: Logbook, space: Space, config: SearchConfig) -> dict[str, Figure]:
    """Every picture that these trials allow, by the name of its file."""
    rows = logbook.rows
    if not rows:
        return {}
    made: dict[str, Figure | None] = {"workers": workers(rows + logbook.interrupted, logbook.sessions)}
    if finished(rows):
        made |= {
            "pareto": pareto(rows, has_first=config.strategy != "grid" and config.first() is not None),
            "hypervolume": progress_of_hypervolume({"this search": [hypervolumes(rows, worst(rows))]}),
            "parallel": parallel_coordinates(rows, space),
            "importance": importance(rows, space, config.seed),
        }
    return {name: picture for name, picture in made.items() if picture is not None}
