"""`python -m hpcauxvae.paper`: the tables and figures of the paper, from nothing, or from what is there of its runs."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tyro

import hpcauxvae
from hpcauxvae.paper.experiments import Experiment, chosen
from hpcauxvae.paper.items import ASIDE, ITEMS
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.files import write_text
from hpcauxvae.types import InputError


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Makes the tables and figures of the paper, and before them the data, trainings and evaluations that they need.

    What is there already is used as it is; killed and started again, the command goes on where it was.
    """

    items: tyro.conf.Positional[tuple[str, ...]] = ("all",)
    """Items by name, or all, which with --no-train leaves out those whose runs are missing and says so. beyond, which
    compares with the models of docs/rivals.md, is made where it is named, not with all."""
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
        of_paper = [name for name in ITEMS if name not in ASIDE] if "all" in self.items else []
        return [*of_paper, *(name for name in dict.fromkeys(self.items) if name != "all" and name not in of_paper)]

    def experiments(self, names: list[str]) -> list[Experiment]:
        """What items of these names read."""
        return chosen({experiment for name in names for experiment in ITEMS[name].experiments.values()}, self.small)


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae paper`."""
    words = sys.argv[1:] if argv is None else argv
    config = parse(PaperConfig, words, "hpcauxvae paper")
    runs = config.runs or Path("runs/paper-small" if config.small else "runs/paper")
    out = config.out or (runs / "results" if config.small else Path("results/paper"))
    if not config.train and not runs.is_dir():
        raise InputError(f"--runs {runs}: no such folder")
    from hpcauxvae.paper import jobs, make

    maker = make.Maker(
        runs=runs,
        cars3d=config.cars3d,
        dsprites=config.dsprites,
        jobs=config.jobs,
        small=config.small,
        bf16=config.bf16,
        drawn=tuple(config.experiments([name for name in config.names if not ITEMS[name].from_scores])),
    )
    try:
        made = maker.make(config.experiments(config.names), config.dry_run) if config.train else None
    except jobs.Failed as error:
        print(f"error: {error}\nhpcauxvae paper --no-train draws from the runs that are there", file=sys.stderr)
        return error.code
    if config.dry_run:
        print(f"then: {', '.join(config.names)} into {out}")
        return 0
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update(jobs.threads(config.jobs))
    there = None if made is None else [experiment.name for experiment in made]
    command = f"hpcauxvae paper {shlex.join(words)}"
    any_drawn = False
    for name, drawing in _drawings(config.names, config.jobs, runs, there, out, command):
        try:
            for path in drawing():
                print(f"{name}: {path}", flush=True)
                any_drawn = True
        except InputError as error:
            if made is not None or name in config.items:
                raise
            print(f"{name}: not drawn: {error}", file=sys.stderr, flush=True)
    if not any_drawn:
        raise InputError(f"--runs {runs}: not one item could be drawn")
    return 0


def draw(name: str, runs: Path, made: list[str] | None, out: Path, command: str) -> list[Path]:
    """Draws an item from the runs that it reads, and beside it NAME.txt, which says where it comes from."""
    from hpcauxvae.paper.runs import runs_of

    found = runs_of(name, ITEMS[name], runs, made)
    module, function = ITEMS[name].draw.split(":")
    paths = getattr(import_module(f"hpcauxvae.paper.{module}"), function)(name, found, out)
    lines = [
        f"made by: {command}",
        f"version: hpcauxvae {hpcauxvae.__version__}",
        f"files: {', '.join(path.name for path in paths)}",
        *(f"run: {run.folder}" for run in found.values()),
    ]
    write_text(out / f"{name}.txt", "\n".join(lines) + "\n")
    return paths


def _drawings(names: list[str], jobs: int, *where: Any) -> Iterator[tuple[str, Callable[[], list[Path]]]]:
    """What draws each item, or waits for a process that does: few processes, since to start a process takes seconds."""
    if min(jobs, len(names)) == 1:
        yield from ((name, partial(draw, name, *where)) for name in names)
        return
    with ProcessPoolExecutor(min(jobs, len(names)), get_context("spawn")) as pool:
        waiting = {name: pool.submit(draw, name, *where) for name in names}
        yield from ((name, drawn.result) for name, drawn in waiting.items())
