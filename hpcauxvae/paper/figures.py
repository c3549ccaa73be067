"""Figures 2, 3, 5, 9-12, 14 and 15: SSIM of all methods, factors against latents, traversals of the latents."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate import pictures
from hpcauxvae.paper.runs import EvaluatedRun, Runs

SENSITIVE = 6
"""Latents of Fig. 5: those that change the image most."""
_SHOWN = 8
_CEILING = "noiseless truth"


def figure_2(name: str, runs: Runs, out: Path) -> list[Path]:
    """SSIM of the test images by method and case, and of the noiseless truth."""
    groups: dict[str, NDArray] = {}
    ceiling: dict[str, NDArray] = {}
    for label, run in runs.items():
        with open_file(run.codes_file()) as codes:
            groups[label] = codes["ssim"][:]
            if "ssim_noiseless" in codes:
                ceiling[_CEILING] = codes["ssim_noiseless"][:]
    path = out / f"{name}.png"
    pictures.ssim_boxplot(groups | ceiling, path, ceiling=next(iter(ceiling), None))
    return [path]


def scatters(name: str, runs: Runs, out: Path) -> list[Path]:
    """Factors against latents: NAME-LABEL.png for each run."""
    return _each(scatter, name, runs, out)


def traversals(name: str, runs: Runs, out: Path) -> list[Path]:
    """One latent varied at a time: NAME-LABEL.png for each run."""
    return _each(traversal, name, runs, out)


def figure_5(name: str, runs: Runs, out: Path) -> list[Path]:
    """The six latents of each run that change the image most, one varied at a time."""
    return _each(partial(traversal, most=SENSITIVE), name, runs, out)


def figure_14(name: str, runs: Runs, out: Path) -> list[Path]:
    """Reconstructions, NAME-LABEL.png, and one latent varied at a time, NAME-traversal-LABEL.png, for each run."""
    return [*_each(reconstructions, name, runs, out), *_each(traversal, f"{name}-traversal", runs, out)]


def _each(draw: Callable[[EvaluatedRun, Path], None], name: str, runs: Runs, out: Path) -> list[Path]:
    paths = {out / f"{name}-{label}.png": run for label, run in runs.items()}
    for path, run in paths.items():
        draw(run, path)
    return list(paths)


def scatter(run: EvaluatedRun, path: Path) -> None:
    """Factors of the test split against latents."""
    _, scored = run.opened(_SHOWN)
    pictures.factor_latent_scatter(
        scored.sampled(0),
        scored.mean_NZ,
        scored.data.values[scored.index_N],
        scored.data.factors,
        run.config.aux_names if run.config.model == "aux-vae" else (),
        run.metrics["sets"]["test"]["codes"]["lds"],
        path,
    )


def traversal(run: EvaluatedRun, path: Path, most: int | None = None) -> None:
    """One latent varied at a time; `most`: only so many, those along which the pixels vary most."""
    evaluator, scored = run.opened(_SHOWN)
    images, row_names, labels = evaluator.traversal(scored)
    variance_Z = images.var(1).sum((1, 2, 3))
    rows = sorted(variance_Z.argsort()[::-1][:most])
    pictures.traversal(
        drawing.upright(images[rows], evaluator.data),
        [row_names[row] for row in rows],
        [labels[row] for row in rows],
        path,
        look=drawing.look_of(evaluator.data),
    )


def reconstructions(run: EvaluatedRun, path: Path) -> None:
    """Test images over their reconstructions."""
    evaluator, scored = run.opened(_SHOWN)
    data = evaluator.data
    originals, decoded = (drawing.upright(images[:], data) for images in (scored.originals, scored.reconstructions))
    pictures.reconstructions(originals, decoded, path, look=drawing.look_of(data))
