"""`python -m hpcauxvae.paper ITEM ... --runs runs --out results`: tables and figures of the paper from runs."""

import dataclasses
import sys
from pathlib import Path

import tyro

from hpcauxvae.paper import attack, figures, generated, grid, perturbation, table1, tsne
from hpcauxvae.paper.runs import Item, find
from hpcauxvae.types import InputError

ITEMS: dict[str, Item] = {
    "table1": table1.draw,
    "fig1": tsne.figure_1,
    "fig2": figures.figure_2,
    "fig3": figures.figure_3,
    "fig4": perturbation.figure_4,
    "fig5": figures.figure_5,
    "fig6": tsne.figure_6,
    "fig7": tsne.figure_7,
    "fig8": attack.figure_8,
    "fig13": tsne.figure_13,
    "fig16": grid.figure_16,
    "table4": grid.table_4,
    "generated": generated.figure,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Draws tables and figures of the paper from runs that were trained and evaluated before; never trains."""

    items: tyro.conf.Positional[tuple[str, ...]] = ("all",)
    """What to draw: items by name, or all, which leaves out those whose runs are missing and says so."""
    runs: Path = Path("runs")
    """Folder with a folder for each run (see hpcauxvae/recipes.py)."""
    out: Path = Path("results")
    """Folder for the results."""

    def __post_init__(self) -> None:
        for name in self.items:
            if name not in ITEMS and name != "all":
                raise InputError(f"item {name!r} is unknown; allowed: all, {', '.join(ITEMS)}")


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae paper`."""
    options = tyro.cli(Options, args=argv, prog="hpcauxvae paper")
    if not options.runs.is_dir():
        raise InputError(f"--runs {options.runs}: no such folder")
    runs = find(options.runs)
    options.out.mkdir(parents=True, exist_ok=True)
    everything = "all" in options.items
    for name in ITEMS if everything else options.items:
        try:
            for path in ITEMS[name](runs, options.runs, options.out):
                print(f"{name}: {path}", flush=True)
        except InputError as error:
            if not everything:
                raise
            print(f"{name}: not drawn: {error}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
