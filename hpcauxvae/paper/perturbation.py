"""Fig. 4: how much the image depends on z_aux and on z_recon, by noise on either while the other stays.

Noise of each latent's own standard deviation is added to the posterior means of the test images, as in section 4.2.3;
the paper does not print its noise. The deviation is that of z itself over these images, sqrt(Var mean + E variance), so
that a latent whose mean hardly moves is still disturbed by as much as its posterior is wide. Where every factor is
auxiliary (case 1) noise on z_recon should change nothing; the fewer are, the more it should.

Shape legend in types.py; d auxiliary latents come first.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.evaluate import pictures
from hpcauxvae.metrics.intervals import Array, Score, mean_score
from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.paper.runs import Runs
from hpcauxvae.runtime.files import write_json, write_text
from hpcauxvae.types import InputError

IMAGES = 1000
"""Test images, as in the paper."""
KINDS = ("no perturbation", "z_aux perturbed", "z_recon perturbed")
_COLOURS = (drawing.GREY, drawing.BLUE, drawing.MAROON)
_EXAMPLES = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What noise on a part of the code does to the images of a model."""

    images: dict[str, NDArray]
    """Decoded images (N, C, H, W) by kind, linear data units."""
    to_original: dict[str, dict[str, Array]]
    """`ssim` and `mse`, (N,) each, by kind, against the originals."""
    to_unperturbed: dict[str, dict[str, Array]]
    """The same against the images decoded without noise."""


def deviation(mean_NZ: NDArray, logvar_NZ: NDArray) -> Array:
    """Standard deviation of each latent over the images, (Z,), by the law of total variance."""
    return np.asarray(np.sqrt(mean_NZ.var(0) + np.exp(logvar_NZ).mean(0)))


def perturb(
    decode: Callable[[NDArray], NDArray],
    originals_NCHW: NDArray,
    mean_NZ: NDArray,
    deviation_Z: NDArray,
    *,
    d: int,
    maximum: float,
    seed: int = 0,
) -> Perturbation:
    """Decodes the codes of N images without noise, with noise on the first d latents, with noise on the others.

    decode: (N, Z) to images in linear data units; maximum: of the training images, the scale of `mse`.
    Raises InputError where one of the parts has no latent.
    """
    latents = mean_NZ.shape[1]
    if not 1 <= d < latents:
        raise InputError(
            f"d = {d} auxiliary latents of {latents}; allowed: 1 to {latents - 1}, so that both parts exist"
        )
    noise_NZ = deviation_Z * np.random.default_rng(seed).standard_normal(mean_NZ.shape)
    aux_Z = np.arange(latents) < d
    masks = zip(KINDS, (np.zeros(latents, bool), aux_Z, ~aux_Z), strict=True)
    images = {kind: decode(mean_NZ + np.where(noisy_Z, noise_NZ, 0)) for kind, noisy_Z in masks}
    unperturbed = images[KINDS[0]]
    return Perturbation(
        images=images,
        to_original={kind: image_values(originals_NCHW, image, maximum) for kind, image in images.items()},
        to_unperturbed={kind: image_values(unperturbed, image, maximum) for kind, image in images.items()},
    )


def summary(perturbation: Perturbation) -> dict[str, dict[str, Score]]:
    """Mean and interval of every score by kind: `ssim`, `mse`, `ssim_unperturbed`, `mse_unperturbed`."""
    return {
        kind: {
            name + suffix: mean_score(values[kind][name][~np.isnan(values[kind][name])])
            for suffix, values in (("", perturbation.to_original), ("_unperturbed", perturbation.to_unperturbed))
            for name in ("ssim", "mse")
        }
        for kind in KINDS
    }


def table(cases: Mapping[str, Mapping[str, Mapping[str, Score]]]) -> str:
    """A line for each case and kind."""
    targets = ("original", "unperturbed")
    heads = ("case", "noise", *(f"{score} to the {target}" for score in ("SSIM", "MSE") for target in targets), "n")
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for case, kinds in cases.items():
        for kind, scores in kinds.items():
            cells = [f"{s['value']:.4g} [{s['low']:.4g}, {s['high']:.4g}]" for s in map(scores.__getitem__, _SHOWN)]
            lines.append(" | ".join([case.removeprefix("case "), kind, *cells, str(scores["ssim"]["n"])]))
    return "MSE in units of the squared training maximum.\n\n" + "".join(f"| {line} |\n" for line in lines)


_SHOWN = ("ssim", "ssim_unperturbed", "mse", "mse_unperturbed")


def figure_4(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes fig4.png, fig4-examples.png, fig4.json and fig4.md."""
    found: dict[str, Perturbation] = {}
    report: dict[str, Any] = {}
    rows: list[NDArray] = []
    names: list[str] = []
    labels: list[list[str]] = []
    for label, run in runs.items():
        evaluator, scored = run.opened(IMAGES)
        originals = scored.originals[:]
        n = len(originals)
        perturbation = found[label] = perturb(
            evaluator.run.decode,
            originals,
            scored.mean_NZ[:n],
            deviation(scored.mean_NZ, scored.logvar_NZ),
            d=len(evaluator.aux),
            maximum=float(evaluator.model.maximum),
        )
        report[label] = run.about | {"scores": summary(perturbation)}
        shown = np.linspace(0, n - 1, _EXAMPLES).astype(int)
        rows += [drawing.upright(x[shown], scored.data) for x in (originals, *perturbation.images.values())]
        names += [f"{label}, original", *KINDS]
        ssim = [perturbation.to_original[kind]["ssim"][shown] for kind in KINDS]
        labels += [[""] * _EXAMPLES, *([f"SSIM {value:.3f}" for value in values] for values in ssim)]
        look = drawing.look_of(scored.data)
    paths = [out / f"{name}{end}" for end in (".png", "-examples.png", ".json", ".md")]
    draw(found, paths[0])
    pictures.traversal(np.stack(rows), names, labels, paths[1], look=look)
    write_json(paths[2], report)
    write_text(paths[3], table({label: block["scores"] for label, block in report.items()}))
    return paths


def draw(found: Mapping[str, Perturbation], path: Path) -> None:
    """SSIM of each image by case and kind, against the originals and against the unperturbed reconstructions.

    Box: quartiles; line: median; whiskers: 5th and 95th percentile; number: mean.
    """
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.sheet(1, 2, 8.6, 0.8 * len(found) + 1.2, sharey=True)
        sides = [p.to_original for p in found.values()], [p.to_unperturbed for p in found.values()]
        for ax, side, to in zip(axes[0], sides, ("original", "unperturbed reconstruction"), strict=True):
            values = [scores[kind]["ssim"] for scores in side for kind in KINDS]
            at = [row + 0.27 * step for row in range(len(side)) for step in (-1, 0, 1)]
            pictures.boxes(ax, [v[~np.isnan(v)] for v in values], at, _COLOURS * len(side), width=0.2)
            ax.set(xlabel=f"SSIM to the {to}")
            ax.xaxis.grid(True, color=drawing.PALE, linewidth=0.5)
        axes[0, 0].set_yticks(range(len(found)), list(found))
        axes[0, 0].set_ylim(len(found) - 0.5, -0.5)
        patches = [mpl.patches.Patch(color=colour, label=kind) for kind, colour in zip(KINDS, _COLOURS, strict=True)]
        figure.legend(handles=patches, loc="outside upper left", ncols=3)
        drawing.save(figure, path)
