"""Figures 2, 3 and 5 for the galaxies: SSIM of the cases, factors against latents, and traversals of the latents."""

from pathlib import Path

import h5py
import numpy as np

from hpcauxvae import pictures
from hpcauxvae.data.galaxies import CASES
from hpcauxvae.evaluate import EvaluateConfig, Evaluator, image_unit, upright
from hpcauxvae.paper.runs import Found, galaxy_run, needed


def figure_2(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """SSIM of the test images by case, beside beta-VAE's where there is such a run, below the noiseless ceiling."""
    groups = {}
    found = [(f"Aux-VAE, case {case}", galaxy_run(runs, case, "aux-vae", "tuned")) for case in CASES]
    found.append(("β-VAE", galaxy_run(runs, 1, "beta-vae", "tuned")))
    ceiling = None
    for label, run in found:
        if run is None:
            continue
        with h5py.File(run.folder / "codes-test.h5") as codes:
            groups[label] = codes["ssim"][:]
            if ceiling is None and "ssim_noiseless" in codes:
                ceiling = "noiseless truth"
                groups[ceiling] = codes["ssim_noiseless"][:]
    if not groups:
        needed(runs, folder, 1)
    path = out / "fig2.png"
    pictures.ssim_boxplot(groups, path, ceiling=ceiling)
    return [path]


def figure_3(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Case 2, test split: latents along x, factors along y."""
    run = needed(runs, folder, 2)
    scored = next(Evaluator(EvaluateConfig(run=run.folder, images=8)).sets())
    noise_NZ = np.random.default_rng(0).standard_normal(scored.mean_NZ.shape)
    path = out / "fig3.png"
    pictures.factor_latent_scatter(
        scored.mean_NZ + np.exp(scored.logvar_NZ / 2) * noise_NZ,
        scored.mean_NZ,
        scored.data.values[scored.index_N],
        scored.data.factors,
        run.config.aux_names,
        run.metrics["sets"]["test"]["codes"]["lds"],
        path,
    )
    return [path]


def figure_5(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Case 2: one latent varied at a time."""
    evaluator = Evaluator(EvaluateConfig(run=needed(runs, folder, 2).folder, images=8))
    path = out / "fig5.png"
    images, row_names, labels = evaluator.traversal(next(evaluator.sets()))
    pictures.traversal(upright(images, evaluator.data), row_names, labels, path, unit=image_unit(evaluator.data))
    return [path]
