"""Figures 2, 3, 5, 9-12, 14 and 15: SSIM of all methods, factors against latents, traversals of the latents."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.galaxies import CASES
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.scores import image_unit, upright
from hpcauxvae.paper.recipes import Variant
from hpcauxvae.paper.runs import Data, Found, codes_file, needed, select
from hpcauxvae.paper.sources import opened
from hpcauxvae.types import InputError

METHODS = {"idvae": "IDVAE", "idvae-x": "IDVAE-x", "aux-vae": "Aux-VAE"}
SENSITIVE = 6
"""Latents of Fig. 5: those that change the image most."""
_SHOWN = 8
_CEILING = "noiseless truth"


class Shot(NamedTuple):
    """A picture of one run, the first seed of what is named here; the objective is ours."""

    file: str
    data: Data
    model: str
    case: int | None = None
    variant: Variant | None = None

    def run(self, runs: list[Found]) -> Found | None:
        """Whose it is; None where there is none."""
        objective = "tuned" if self.data == "galaxies" else "bernoulli"
        found = select(
            runs, data=self.data, model=self.model, objective=objective, case=self.case, variant=self.variant
        )
        return found[0] if found else None


_OTHER_DATA: tuple[Shot, ...] = tuple(
    Shot(f"{data}-{variant}", data, "aux-vae", variant=variant)
    for data in ("dsprites", "cars3d")
    for variant in ("raw", "sound")
)


def figure_2(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """SSIM of the test images by method and case, and of the noiseless truth. Of each method the first seed."""
    groups: dict[str, NDArray] = {}
    ceiling: dict[str, NDArray] = {}
    for label, run in _methods(select(runs, data="galaxies", objective="tuned")):
        with h5py.File(codes_file(run.folder)) as codes:
            groups[label] = codes["ssim"][:]
            if "ssim_noiseless" in codes:
                ceiling[_CEILING] = codes["ssim_noiseless"][:]
    if not groups:
        needed(runs, folder, 1)
    path = out / "fig2.png"
    pictures.ssim_boxplot(groups | ceiling, path, ceiling=next(iter(ceiling), None))
    return [path]


def _methods(runs: list[Found]) -> Iterator[tuple[str, Found]]:
    """The first run of each method and case, with its name; beta-VAE, which no case changes, comes first."""
    for run in select(runs, model="beta-vae")[:1]:
        yield "β-VAE", run
    for case in CASES:
        for model, name in METHODS.items():
            for run in select(runs, case=case, model=model)[:1]:
                yield f"{name}, case {case}", run


def figure_3(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Case 2 of the galaxies: factors against latents of Aux-VAE and, where it was trained, IDVAE."""
    needed(runs, folder, 2)
    shots = [Shot(model, "galaxies", model, 2) for model in ("aux-vae", "idvae")]
    return _pictures("fig3", shots, scatter, runs, folder, out)


def figure_5(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Case 2 of the galaxies: the six latents of each method that change the image most, one varied at a time."""
    needed(runs, folder, 2)
    shots = [Shot(model, "galaxies", model, 2) for model in ("aux-vae", "idvae")]
    shots.append(Shot("beta-vae", "galaxies", "beta-vae"))
    return _pictures("fig5", shots, lambda run, path: traversal(run, path, SENSITIVE), runs, folder, out)


def figure_9(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Factors of the galaxies against the latents of beta-VAE."""
    return _pictures("fig9", [Shot("beta-vae", "galaxies", "beta-vae")], scatter, runs, folder, out)


def figure_10(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Cases 1 and 3 of the galaxies: factors against latents of IDVAE and Aux-VAE."""
    shots = [Shot(f"{m}-case{case}", "galaxies", m, case) for case in (1, 3) for m in ("idvae", "aux-vae")]
    return _pictures("fig10", shots, scatter, runs, folder, out)


def figure_11(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """All cases of the galaxies: one latent of IDVAE varied at a time."""
    shots = [Shot(f"idvae-case{case}", "galaxies", "idvae", case) for case in CASES]
    return _pictures("fig11", shots, traversal, runs, folder, out)


def figure_12(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """All cases of the galaxies: one latent of Aux-VAE varied at a time."""
    shots = [Shot(f"aux-vae-case{case}", "galaxies", "aux-vae", case) for case in CASES]
    return _pictures("fig12", shots, traversal, runs, folder, out)


def figure_14(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """dSprites and Cars3D: reconstructions by Aux-VAE, and one latent varied at a time."""
    paths = _pictures("fig14-traversal", _OTHER_DATA, traversal, runs, folder, out)
    return [*_pictures("fig14", _OTHER_DATA, reconstructions, runs, folder, out), *paths]


def figure_15(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """dSprites and Cars3D: factors against latents of Aux-VAE."""
    return _pictures("fig15", _OTHER_DATA, scatter, runs, folder, out)


def _pictures(
    name: str,
    shots: Sequence[Shot],
    draw: Callable[[Found, Path], None],
    runs: list[Found],
    folder: Path,
    out: Path,
) -> list[Path]:
    """NAME-SHOT.png for each shot that has a run. Raises InputError where none has."""
    found = {out / f"{name}-{shot.file}.png": run for shot in shots if (run := shot.run(runs))}
    if not found:
        wanted = " or ".join(f"{shot.data} {shot.file}" for shot in shots)
        raise InputError(f"{folder}: no evaluated run of {wanted}; hpcauxvae paper {name.split('-')[0]} makes them")
    for path, run in found.items():
        draw(run, path)
    return list(found)


def scatter(run: Found, path: Path) -> None:
    """Factors of the test split against latents."""
    _, scored = opened(run, _SHOWN)
    noise_NZ = np.random.default_rng(0).standard_normal(scored.mean_NZ.shape)
    pictures.factor_latent_scatter(
        scored.mean_NZ + np.exp(scored.logvar_NZ / 2) * noise_NZ,
        scored.mean_NZ,
        scored.data.values[scored.index_N],
        scored.data.factors,
        run.config.aux_names if run.config.model == "aux-vae" else (),
        run.metrics["sets"]["test"]["codes"]["lds"],
        path,
    )


def traversal(run: Found, path: Path, most: int | None = None) -> None:
    """One latent varied at a time; `most`: only so many, those along which the pixels vary most."""
    evaluator, scored = opened(run, _SHOWN)
    images, row_names, labels = evaluator.traversal(scored)
    variance_Z = images.var(1).sum((1, 2, 3))
    rows = sorted(variance_Z.argsort()[::-1][:most])
    pictures.traversal(
        upright(images[rows], evaluator.data),
        [row_names[row] for row in rows],
        [labels[row] for row in rows],
        path,
        unit=image_unit(evaluator.data),
    )


def reconstructions(run: Found, path: Path) -> None:
    """Test images over their reconstructions."""
    evaluator, scored = opened(run, _SHOWN)
    originals, decoded = (upright(images, evaluator.data) for images in (scored.originals, scored.reconstructions))
    pictures.reconstructions(originals, decoded, path, unit=image_unit(evaluator.data))
