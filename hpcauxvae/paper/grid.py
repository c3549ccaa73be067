"""Figure 16 and Table 4: the grid of beta, lambda1 and lambda2 for Aux-VAE, the paper's choice from it and ours.

Suffix N: trials.
"""

import dataclasses
import itertools
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hpcauxvae.data.drawing import BLUE, INK, MAROON, STYLE
from hpcauxvae.metrics.pareto import choose, dominated_by, paper_products, standardised
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.paper.experiments import GRID_CASE, PAPER_GRID
from hpcauxvae.paper.runs import EvaluatedRun, Runs, of_one_setting
from hpcauxvae.runtime.files import whole, write_text
from hpcauxvae.types import InputError

Point = tuple[float, ...]
"""beta, lambda1, lambda2"""
POINTS: tuple[Point, ...] = tuple(itertools.product(*PAPER_GRID.values()))
_MSE = (10, 3, 5, 18, 13, 14, 20, 16, 12, 29, 9, 7, 21, 22, 17, 21, 22, 19, 8, 27, 21, 25, 24, 20, 27, 23, 26)
_LDS = (82, 83, 87, 88, 90, 80, 86, 75, 85, 83, 87, 83, 87, 85, 88, 87, 88, 84, 92, 84, 83, 89, 87, 89, 90, 90, 88)
_PRODUCT = (
    *(1.32, 1.38, 0.39, 0.02, 0.59, 0.72, 0.03, 0.76, 0.13, 1.20, 0.37, 1.14, 0.11, 0.14),
    *(0.06, 0.07, 0.31, 0.10, 2.33, 0.77, 0.37, 0.75, 0.25, 0.26, 1.58, 0.80, 0.67),
)
PAPER: dict[Point, tuple[float, float, float]] = {
    point: (mse * 1e-6, lds / 100, product)
    for point, mse, lds, product in zip(POINTS, _MSE, _LDS, _PRODUCT, strict=True)
}
"""MSE, LDS and |Z_MSE| |Z_(1 - LDS)| as printed in Fig. 16."""
TABLE_4: dict[str, Point] = {"galaxies": (5.0, 1.0, 0.1), "Cars3D": (5.0, 2.0, 1.0), "dSprites": (10.0, 2.0, 2.0)}
"""The paper's chosen values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The trials of a grid: runs that differ in the three weights only."""

    objective: str
    epochs: int
    points: tuple[Point, ...]
    mse_N: np.ndarray
    """Validation MSE after the last epoch, images divided by the training maximum."""
    lds_N: np.ndarray
    """Validation LDS (10) after the last epoch, of sampled z over all latents."""
    attainable: float
    """LDS of a perfect code on the same samples."""

    @property
    def z_N2(self) -> np.ndarray:
        """|Z| of MSE and of 1 - LDS over the trials."""
        return np.abs(np.stack([standardised(self.mse_N), standardised(1 - self.lds_N)], 1))

    @property
    def compared_N2(self) -> np.ndarray:
        """What our choice compares: log10 MSE, and 1 - LDS / attainable."""
        return np.stack([np.log10(self.mse_N), 1 - self.lds_N / self.attainable], 1)

    @property
    def front_N(self) -> np.ndarray:
        """Whether no trial is better in one and no worse in the other."""
        return dominated_by(self.compared_N2) == 0

    @property
    def papers(self) -> int:
        """The paper's rule: the smallest product of the standardised criteria, whatever their signs."""
        return int(paper_products(self.mse_N, 1 - self.lds_N).argmin())

    @property
    def ours(self) -> int:
        """The trial that metrics.pareto.choose takes from the front."""
        return choose(self.compared_N2)


def grid_of(runs: Runs) -> Grid:
    """The largest grid among the runs. Raises InputError, with what is missing, where there are fewer than 2 points."""
    of_case = [run for run in runs.values() if run.case == GRID_CASE and run.config.model == "aux-vae"]
    whole = [run for run in of_case if _point(run) in POINTS and run.last_epoch()["epoch"] == run.config.epochs]
    trials = of_one_setting(whole, *PAPER_GRID)
    if len(trials) < 2:
        raise InputError(
            f"fewer than 2 evaluated runs of galaxy case {GRID_CASE} on the grid of Fig. 16, {PAPER_GRID}; "
            "hpcauxvae paper fig16 makes them"
        )
    found = {_point(run): run.last_epoch()["validation"] for run in trials}
    points = tuple(point for point in POINTS if point in found)
    mse_N, lds_N, attainable_N = (
        np.array([found[point][name] for point in points]) for name in ("mse", "lds", "lds_attainable")
    )
    return Grid(
        objective=trials[0].config.objective,
        epochs=trials[0].config.epochs,
        points=points,
        mse_N=mse_N,
        lds_N=lds_N,
        attainable=float(attainable_N.mean()),
    )


def _point(run: EvaluatedRun) -> Point:
    objective = run.config.resolved_objective
    return objective.beta, objective.lambda1, objective.lambda2


def figure_16(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes fig16.md, a row for each trial, and fig16.png."""
    grid = grid_of(runs)
    table, picture = out / f"{name}.md", out / f"{name}.png"
    write_text(table, _table(grid))
    _picture(grid, picture)
    return [table, picture]


def table_4(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes table4.md: the chosen weights of each data set."""
    grid = grid_of(runs)
    rows = [
        "| data set | the paper's choice | the paper's rule on our grid | our choice | our default |",
        "|---|---|---|---|---|",
    ]
    for data, point in TABLE_4.items():
        default = OBJECTIVES["tuned" if data == "galaxies" else "bernoulli"]
        ours = [_weights(grid.points[i]) for i in (grid.papers, grid.ours)] if data == "galaxies" else ["not run"] * 2
        own = f"{default.beta:g}, {default.lambda1:g}, tolerance {default.dependence_tolerance:g}"
        rows.append(f"| {data} | {_weights(point)} | {ours[0]} | {ours[1]} | {own} |")
    path = out / f"{name}.md"
    write_text(
        path,
        "# Table 4: β, λ1, λ2\n\n"
        + "\n".join(rows)
        + f"\n\nGrid: {_what(grid)}. The default is of another objective, whose "
        "likelihood is summed over pixels with its own variance: its weights do not compare with the others.\n",
    )
    return [path]


def _what(grid: Grid) -> str:
    return (
        f"Aux-VAE on galaxies, case {GRID_CASE}, objective `{grid.objective}`, "
        f"{grid.epochs} epoch{'s' * (grid.epochs > 1)}, {len(grid.points)} of {len(POINTS)} points"
    )


def _weights(point: Point) -> str:
    return ", ".join(f"{value:g}" for value in point)


def _table(grid: Grid) -> str:
    header = ("β", "λ1", "λ2", "MSE", "LDS", "1 − LDS", "Z_MSE", "Z_(1−LDS)", "product", "",
              "paper: MSE", "LDS", "product")  # fmt: skip
    rows = [header, ["---"] * len(header)]
    for i, (point, z_2) in enumerate(zip(grid.points, grid.z_N2, strict=True)):
        marks = [
            *(["front"] if grid.front_N[i] else []),
            *(["**paper's rule**"] if i == grid.papers else []),
            *(["**our choice**"] if i == grid.ours else []),
        ]
        mse, lds, product = PAPER[point]
        rows.append(
            [
                *(f"{value:g}" for value in point),
                f"{grid.mse_N[i]:.3g}", f"{grid.lds_N[i]:.3f}", f"{1 - grid.lds_N[i]:.3f}",
                *(f"{value:.2f}" for value in (*z_2, z_2.prod())),
                ", ".join(marks),
                f"{mse:.1g}" if mse < 1e-5 else f"{mse:.2g}", f"{lds:.2f}", f"{product:.2f}",
            ]
        )  # fmt: skip
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# Fig. 16: {_what(grid)}\n\n{_words(grid)}\n\n{lines}\n"


def _words(grid: Grid) -> str:
    papers, ours = grid.points[grid.papers], grid.points[grid.ours]
    least, most = sorted(grid.z_N2[grid.papers])
    return f"""MSE and LDS are of the validation split after the last epoch: the MSE of images divided by the training
maximum, the LDS (10) of sampled z over all latents, of which a perfect code would reach {grid.attainable:.3f}.

- **The paper's rule** standardises MSE and 1 − LDS over the trials and takes the smallest |Z_MSE| |Z_(1−LDS)|. A
  trial that is average in one of the two makes the product vanish, however bad it is in the other, and the best in
  both makes it large. Here it takes {_weights(papers)}: {least:.2f} and {most:.2f} standard deviations from the
  average. The paper, from its own trials, took {_weights(TABLE_4["galaxies"])}.
- **Our choice** is the point of the Pareto front of log10 MSE and 1 − LDS / attainable that is nearest to the ideal,
  each scaled to [0, 1] over the front: {_weights(ours)}.
- Z_MSE and Z_(1−LDS) are printed without their signs, as in the paper, whose table has them under each other's
  headings; the product is the same."""


def _picture(grid: Grid, path: Path) -> None:
    gap_N = 1 - grid.lds_N
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        for beta, colour in zip(PAPER_GRID["beta"], (BLUE, MAROON, INK), strict=True):
            of_beta = np.array([point[0] == beta for point in grid.points])
            ax.scatter(grid.mse_N[of_beta], gap_N[of_beta], 24, color=colour, label=f"β = {beta:g}")
        front = np.flatnonzero(grid.front_N)
        front = front[np.argsort(grid.mse_N[front])]
        ax.step(grid.mse_N[front], gap_N[front], where="post", color=INK, linewidth=1, label="Pareto front")
        for i, marker, size, label in ((grid.papers, "D", 80, "the paper's rule"), (grid.ours, "*", 240, "our choice")):
            label = f"{label}: {_weights(grid.points[i])}"
            ax.scatter(grid.mse_N[i], gap_N[i], size, marker=marker, facecolors="none", edgecolors=INK, label=label)
        ax.set(xscale="log", xlabel="validation MSE  [(training maximum)²]", ylabel="1 − LDS, validation")
        figure.legend(
            loc="outside upper left", ncols=3, title=f"{_what(grid)}; β, λ1, λ2".replace("`", ""), alignment="left"
        )
        with whole(path) as part:
            figure.savefig(part, format="png")
