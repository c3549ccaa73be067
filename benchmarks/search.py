"""How good a search is: CBO against random points and two grids, early stopping, and how busy it keeps workers.

python benchmarks/search.py compare galaxies.h5 --out searches/compare    # hours: 4 strategies x 3 seeds, real trials
python benchmarks/search.py busy                                          # a minute: 16 simulated workers
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import tyro
from step import processor

from hpcauxvae.metrics.pareto import hypervolume
from hpcauxvae.train.config import TrainConfig
from hpo.figures import progress_of_hypervolume
from hpo.logbook import Logbook, Row
from hpo.pools import Pool
from hpo.problem import Objectives, Point, declared_space
from hpo.results import compared, finished, front, hypervolumes, utilisation, worst
from hpo.search import Search
from hpo.stopping import best_so_far, judge, read_curve, rungs
from hpo.strategies import Bayesian
from hpo.trials import Setup

OWN_GRID = tuple(
    f"--vary={name}" for name in ("beta=0.1,1,10", "lambda1=1,10,100", "dependence_tolerance=0.00075,0.003,0.012")
)
STRATEGIES = {
    "paper's grid": ("grid", "--strategy=grid", "--grid=paper"),
    "grid around the constants": ("own", "--strategy=grid", *OWN_GRID),
    "random": ("random", "--strategy=random"),
    "cbo": ("cbo", "--strategy=cbo"),
}
"""Name -> folder, and options. The second grid has the axes of the paper's, with the tolerance in place of lambda2,
around the values of the objective `tuned`, to the ends of the space of random and cbo, which have more axes."""
GRID_POINTS = 27


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """Hypervolume against evaluations, CBO beside random points and grids; then early stopping, replayed."""

    data: Path
    """HDF5 file of galaxies."""
    out: Path = Path("searches/compare")
    """Folder for the searches, table.md, hypervolume.png and results.json; a search that is there goes on."""
    aux: str = "radius,g1,g2"
    """Auxiliary variables: case 2."""
    seeds: int = 3
    """Searches of each strategy."""
    max_evals: int = 40
    """Trials of cbo and random; the grids have 27."""
    epochs: int = 8
    """Passes over the training split of each trial."""
    workers: int = 2
    """Trials at a time."""
    fix: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Further settings of every trial."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Busy:
    """How busy the loop keeps simulated workers: real time for asking, telling and writing, simulated trials."""

    workers: int = 16
    """Trials at a time."""
    max_evals: int = 320
    """Trials in all."""
    seconds: float = 60.0
    """Median of a trial's duration; log-normal with a factor of 1.6, which is 30 to 150 s for most."""
    seed: int = 0
    """Of the durations and the search."""


def compare(config: Compare) -> None:
    """Runs what is missing, then writes the table."""
    searches: dict[str, list[Logbook]] = {name: [] for name in STRATEGIES}
    for seed in range(config.seeds):
        for name, (folder, *options) in STRATEGIES.items():
            out = config.out / f"{folder}-{seed}"
            fixed = [part for text in config.fix for part in ("--fix", text)]
            command = [sys.executable, "-m", "hpo.search", config.data, "--out", out, *options]
            command += ["--aux", config.aux, "--seed", seed, "--epochs", config.epochs, "--workers", config.workers]
            command += ["--max-evals", config.max_evals, "--no-early-stopping", "--resume", *fixed]
            subprocess.run([str(part) for part in command], check=True)
            searches[name].append(Logbook(out))
    every = [row for journals in searches.values() for logbook in journals for row in logbook.rows]
    reference = worst(every)
    curves = {name: [hypervolumes(j.rows, reference) for j in journals] for name, journals in searches.items()}
    progress_of_hypervolume(curves).savefig(config.out / "hypervolume.png", dpi=160)
    text = table(curves) + "\n\n" + stopping_table(searches, config.epochs)
    (config.out / "table.md").write_text(text + "\n")
    saved = {"command": " ".join(sys.argv), "reference": reference.tolist(), "date": time.strftime("%F")}
    saved |= {"machine": processor()}
    saved |= {"curves": {name: [curve.tolist() for curve in values] for name, values in curves.items()}}
    (config.out / "results.json").write_text(json.dumps(saved) + "\n")
    print(text)


def table(curves: dict[str, list[Any]]) -> str:
    """Hypervolume after 13, 27 and all trials: mean and standard deviation over seeds; then the trials that were needed
    for the hypervolume that each grid has at its end, by seed.
    """
    grids = [name for name in curves if "grid" in name]
    heads = ["strategy", "after 13", "after 27", "at the end", *(f"trials to reach the {name}" for name in grids)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, values in curves.items():
        cells = [np.array([curve[min(n, len(curve)) - 1] for curve in values]) for n in (13, GRID_POINTS, 10**9)]
        shown = [f"{cell.mean():.3f} ± {cell.std(ddof=1) if len(cell) > 1 else 0:.3f}" for cell in cells]
        for grid in grids:
            reached = [np.flatnonzero(curve >= goal[-1]) for curve, goal in zip(values, curves[grid], strict=True)]
            shown.append(", ".join(str(where[0] + 1) if len(where) else "never" for where in reached))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def stopping_table(searches: dict[str, list[Logbook]], epochs: int) -> str:
    """What early stopping would have done to the whole trials of each search."""
    heads = ("strategy", "epochs saved, by seed", "points of the final front lost", "hypervolume kept")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, journals in searches.items():
        results = [replay(logbook, epochs) for logbook in journals]
        saved = ", ".join(f"{share:.0%}" for share, _, _, _ in results)
        lost = ", ".join(f"{missing} of {size}" for _, missing, size, _ in results)
        kept = ", ".join(f"{share:.3f}" for _, _, _, share in results)
        lines.append(f"| {name} | {saved} | {lost} | {kept} |")
    return "\n".join(lines)


def replay(logbook: Logbook, epochs: int) -> tuple[float, int, int, float]:
    """Early stopping on a search that ran without: share of epochs saved, points of the front lost, its size, and the
    share of the hypervolume that is kept.

    Trials come in the order in which they ended; each meets at a rung those that passed it before.
    """
    rows = finished(logbook.rows)
    at_rung: dict[int, list[Objectives]] = {epoch: [] for epoch in rungs(epochs)}
    used, stopped = 0, set()
    for row in rows:
        curve = read_curve(logbook.folder / "trials" / f"{row.trial:04}")
        last = epochs
        for epoch, others in at_rung.items():
            own = best_so_far(curve, epoch)
            goes_on = judge(own, others)["goes_on"]
            others.append(own)
            if not goes_on:
                last = epoch
                stopped.add(row.trial)
                break
        used += last
    best = {row.trial for row in front(rows)}
    reference = worst(rows)
    left = compared([row for row in rows if row.trial not in stopped])
    kept = hypervolume(left, reference) / hypervolume(compared(rows), reference)
    return 1 - used / (epochs * len(rows)), len(best & stopped), len(best), kept


class Simulated:
    """A pool whose trials take simulated time; the clock is the real one plus what was waited for."""

    def __init__(self, config: Busy) -> None:
        self.workers, self.skipped = config.workers, 0.0
        self.rng, self.median = np.random.default_rng(config.seed), config.seconds
        self.free = [0.0] * config.workers

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter() + self.skipped

    def submit(self, setup: Setup, trial: int, point: Point) -> "Ended":
        """The first free worker takes it, now or when it is free."""
        worker = int(np.argmin(self.free))
        started = max(self.now(), self.free[worker])
        self.free[worker] = started + self.median * float(np.exp(self.rng.normal(0, np.log(1.6))))
        log_mse = -6 + 0.3 * abs(np.log10(point["sigma"] / 0.01)) + 0.2 * abs(np.log10(point["beta"]))
        gap = (
            0.05
            + 0.1 * abs(np.log10(point["dependence_tolerance"] / 0.003))
            + 0.05 * abs(np.log10(point["sigma"] / 0.03))
        )
        return Ended(
            Row(
                trial=trial, point=point, state="finished", reason="", objectives=Objectives(10**log_mse, gap),
                epochs=1, started=started, ended=self.free[worker], worker=str(worker), rungs=[],
            )
        )  # fmt: skip

    def wait(self, running: "dict[Ended, int]", seconds: float) -> "set[Ended]":
        """Leaps to the next end."""
        self.skipped += max(0.0, min(each.row.ended for each in running) - self.now())
        return {each for each in running if each.row.ended <= self.now()}


@dataclasses.dataclass(frozen=True, eq=False)
class Ended:
    """A future that knows its end."""

    row: Row

    def result(self) -> Row:
        """The row."""
        return self.row

    def cancelled(self) -> bool:
        """Never."""
        return False


def busy(config: Busy) -> None:
    """Prints the busy fraction and what a trial costs the search."""
    space = declared_space(TrainConfig(data=Path("galaxies.h5"), aux="radius,g1,g2"))
    with tempfile.TemporaryDirectory() as folder:
        logbook, pool = Logbook(Path(folder)), Simulated(config)
        strategy = Bayesian(space, [], config.seed, None, 2 * len(space) + 1)
        setup = Setup(out=Path(folder), mark="", fields={}, processes=1, early_stopping=False, trial_minutes=None)
        began = time.perf_counter()
        Search(setup, logbook, strategy, cast(Pool, pool), lambda *_: None, config.max_evals).run()
        spent = (time.perf_counter() - began) / config.max_evals
        share = utilisation(logbook.rows, config.workers)
        print(f"{config.workers} workers, {config.max_evals} trials of {config.seconds:g} s: busy {share:.3f}; "
              f"asking, telling and writing {spent:.3f} s a trial")  # fmt: skip


if __name__ == "__main__":
    configs: dict[str, Callable[..., Any]] = {"compare": Compare, "busy": Busy}
    chosen = tyro.extras.subcommand_cli_from_dict(configs, config=(tyro.conf.PositionalRequiredArgs,))
    if isinstance(chosen, Compare):
        compare(chosen)
    else:
        busy(chosen)
