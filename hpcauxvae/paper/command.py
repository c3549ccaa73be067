"""`python -m hpcauxvae.paper`: the tables and figures of the paper, from nothing, or from what is there of its runs."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tyro

from hpcauxvae.paper.experiments import Experiment, chosen
from hpcauxvae.paper.items import FROM_SCORES, ITEMS, draw
from hpcauxvae.paper.jobs import Failed, threads
from hpcauxvae.paper.make import Maker
from hpcauxvae.paper.runs import Found, find
from hpcauxvae.types import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Makes the tables and figures of the paper, and before them the data, trainings and evaluations that they need.

    What is there already is used as it is; killed and started again, the command goes on where it was.
    """

    items: tyro.conf.Positional[tuple[str, ...]] = ("all",)
    """Items by name, or all, which with --no-train leaves out those whose runs are missing and says so."""
    runs: Path | None = None
    """Folder with a folder for each run (hpcauxvae/paper/experiments.py), data and logs. Default: runs/paper."""
    out: Path | None = None
    """Folder for the results. Default: results/paper."""
    cars3d: Path | None = None
    """Folder of the .mat files of Cars3D, or an HDF5 file of its images; without it Cars3D is left out."""
    dsprites: Path | None = None
    """The published .npz of dSprites, whose pictures are drawn if it is not given."""
    jobs: int = 2
    """Trainings at a time; the cores are shared out among them."""
    small: bool = False
    """Everything once with tiny data and one epoch, in minutes, to see that it works: the numbers mean nothing. Its
    folders are runs/paper-small and runs/paper-small/results."""
    bf16: bool = False
    """Train in bfloat16: half the time where the hardware has it, as CPUs with AMX and GPUs do."""
    train: bool = True
    """--no-train: draw from the evaluated runs that are there, whatever they are."""
    dry_run: bool = False
    """Only say what would be made."""

    def __post_init__(self) -> None:
        for name in self.items:
            if name not in ITEMS and name != "all":
                raise InputError(f"item {name!r} is unknown; allowed: all, {', '.join(ITEMS)}")
        if self.jobs < 1:
            raise InputError(f"jobs = {self.jobs}; allowed: at least 1")
        for option in ("cars3d", "dsprites"):
            path: Path | None = getattr(self, option)
            if path is not None and not path.exists():
                raise InputError(f"--{option} {path}: no such file or folder")

    @property
    def names(self) -> list[str]:
        """The items that are asked for."""
        return list(ITEMS) if "all" in self.items else list(dict.fromkeys(self.items))


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae paper`."""
    words = sys.argv[1:] if argv is None else argv
    options = tyro.cli(Options, args=words, prog="hpcauxvae paper", config=(tyro.conf.FlagCreatePairsOff,))
    runs = options.runs or Path("runs/paper-small" if options.small else "runs/paper")
    out = options.out or (runs / "results" if options.small else Path("results/paper"))
    maker = Maker(
        runs=runs,
        cars3d=options.cars3d,
        dsprites=options.dsprites,
        jobs=options.jobs,
        small=options.small,
        bf16=options.bf16,
        drawn=tuple(_experiments([name for name in options.names if name not in FROM_SCORES], options.small)),
    )
    if not options.train and not runs.is_dir():
        raise InputError(f"--runs {runs}: no such folder")
    try:
        made = maker.make(_experiments(options.names, options.small), options.dry_run) if options.train else None
    except Failed as error:
        print(f"error: {error}\nhpcauxvae paper --no-train draws from the runs that are there", file=sys.stderr)
        return error.code
    if options.dry_run:
        print(f"then: {', '.join(options.names)} into {out}")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update(threads(options.jobs))
    command = f"hpcauxvae paper {shlex.join(words)}"
    tasks = {name: (name, _found(name, runs, made), runs, out, command) for name in options.names}
    any_drawn = False
    for name, drawing in _drawings(tasks, options.jobs):
        try:
            for path in drawing():
                print(f"{name}: {path}", flush=True)
                any_drawn = True
        except InputError as error:
            if made is not None or name in options.items:
                raise
            print(f"{name}: not drawn: {error}", file=sys.stderr, flush=True)
    if not any_drawn:
        raise InputError(f"--runs {runs}: not one item could be drawn")
    return 0


def _drawings(tasks: Mapping[str, tuple[Any, ...]], jobs: int) -> Iterator[tuple[str, Callable[[], list[Path]]]]:
    """What draws each item, or waits for a process that does: few processes, since to start one takes seconds."""
    if min(jobs, len(tasks)) == 1:
        yield from ((name, partial(draw, *task)) for name, task in tasks.items())
        return
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn")) as pool:
        waiting = {name: pool.submit(draw, *task) for name, task in tasks.items()}
        yield from ((name, drawn.result) for name, drawn in waiting.items())


def _experiments(names: list[str], small: bool) -> list[Experiment]:
    return chosen(tuple(ITEMS[name].wants for name in names), small)


def _found(name: str, runs: Path, made: list[Experiment] | None) -> list[Found]:
    """The runs that an item reads: of the experiments that were made, or all that are there."""
    wants = ITEMS[name].wants
    if made is None:
        return wants.read(find(runs / wants.sweep))
    folders = {runs / one.name for one in chosen((wants,), small=False)} & {runs / one.name for one in made}
    return find(runs / wants.sweep, folders)
