"""The items by name: what draws each, and which runs it reads. To add one: a line here."""

from pathlib import Path

import hpcauxvae
from hpcauxvae.paper import attack, betas, figures, generated, grid, perturbation, table1, tsne
from hpcauxvae.paper.runs import Entry, Found, Wants
from hpcauxvae.runtime.files import write_text

_GALAXIES = Wants(data=("galaxies",))
_OTHERS = Wants(data=("cars3d", "dsprites"))
_GRID = Wants(data=("galaxies",), objectives=("reference",), sweep="grid")
_COMPARED = ("beta-vae", "idvae", "aux-vae")
_OURS = ("aux-vae",)

ITEMS: dict[str, Entry] = {
    "table1": Entry(table1.draw, Wants(objectives=(), all_seeds=True)),
    "table4": Entry(grid.table_4, _GRID),
    "fig1": Entry(tsne.figure_1, _GALAXIES._replace(cases=(1,), models=("beta-vae",))),
    "fig2": Entry(figures.figure_2, _GALAXIES),
    "fig3": Entry(figures.figure_3, _GALAXIES._replace(cases=(2,), models=("idvae", "aux-vae"))),
    "fig4": Entry(perturbation.figure_4, _GALAXIES._replace(models=_OURS)),
    "fig5": Entry(figures.figure_5, _GALAXIES._replace(cases=(2,), models=_COMPARED)),
    "fig6": Entry(tsne.figure_6, _GALAXIES._replace(models=("beta-vae", "idvae"))),
    "fig7": Entry(tsne.figure_7, _GALAXIES._replace(models=_OURS)),
    "fig8": Entry(attack.figure_8, _GALAXIES._replace(models=(*_COMPARED, "idvae-x"))),
    "fig9": Entry(figures.figure_9, _GALAXIES._replace(models=("beta-vae",))),
    "fig10": Entry(figures.figure_10, _GALAXIES._replace(cases=(1, 3), models=("idvae", "aux-vae"))),
    "fig11": Entry(figures.figure_11, _GALAXIES._replace(models=("idvae",))),
    "fig12": Entry(figures.figure_12, _GALAXIES._replace(models=_OURS)),
    "fig13": Entry(tsne.figure_13, _OTHERS._replace(models=_COMPARED)),
    "fig14": Entry(figures.figure_14, _OTHERS._replace(models=_OURS)),
    "fig15": Entry(figures.figure_15, _OTHERS._replace(models=_OURS)),
    "fig16": Entry(grid.figure_16, _GRID),
    "betas": Entry(betas.draw, Wants(sweep="betas")),
    "generated": Entry(generated.figure, _GALAXIES._replace(cases=(1,), models=_OURS)),
}
FROM_SCORES = ("table1", "table4", "fig16", "betas")
"""Items that read what a run says of itself alone (config.json, metrics.json, metrics.jsonl); the others need the
weights, and what they were trained on."""


def draw(name: str, found: list[Found], runs: Path, out: Path, command: str) -> list[Path]:
    """Draws an item from the runs that it reads, and beside it NAME.txt, which says where it comes from."""
    paths = ITEMS[name].draw(found, runs, out)
    lines = [
        f"made by: {command}",
        f"version: hpcauxvae {hpcauxvae.__version__}",
        f"files: {', '.join(path.name for path in paths)}",
        *(f"run: {run.folder}" for run in found),
    ]
    write_text(out / f"{name}.txt", "\n".join(lines) + "\n")
    return paths
