"""Fig. 8: reconstructions of images under the fast gradient sign method (Goodfellow, Shlens & Szegedy 2015).

x' = max(x + epsilon sign(dL/dx), 0): counts have no sign. The paper (B.1.2) prints neither its loss nor its epsilons.
Chosen here: L is the squared error, on the scale of the counts over the training maximum, between the image decoded
from the posterior mean of x' and the clean image, so that models with different objectives face the same attack; the
gradient flows through encoder and decoder, the clean image being held; epsilon is in units of the training maximum.
The labels that IDVAE's encoder sees beside the image stay clean; that of IDVAE-x sees the image alone. Each attack
stands beside noise of the same size with random signs: what it does beyond that is the work of the gradient.

Shape legend in types.py; E values of epsilon.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcauxvae.data import drawing
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.scores import Evaluator, Scored
from hpcauxvae.metrics.intervals import Score, mean_score
from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.paper.experiments import METHODS
from hpcauxvae.paper.runs import Runs
from hpcauxvae.runtime.files import write_json, write_text

IMAGES = 1000
"""Test images, as in the paper."""
EPSILONS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""In units of the brightest training pixel."""
COLOURS = dict(zip(METHODS, (drawing.GREY, drawing.BLUE, "#5aa38a", drawing.MAROON), strict=True))
_BATCH = 500
ALL = 0
"""The case under which β-VAE stands: it trains on no label, so that its run serves for all."""
Curves = dict[str, list[Score]]
"""Mean SSIM for each epsilon: `ssim`, of the attacked image's reconstruction with the clean image;
`ssim_reconstruction`, with the clean image's reconstruction; `ssim_random`, as the first for random signs."""


def gradient_sign(loss_B: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """sign(d sum(loss) / d images), of the images' shape; loss_B: (B, C, H, W) to (B,)."""
    images = images.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_B(images).sum(), images)
    return gradient.sign()


def disturbed(images: Tensor, sign: Tensor, step: float) -> Tensor:
    """Images, in their own units, moved by `step` along `sign`, and not below 0 (nor below what they were)."""
    return torch.maximum(images + step * sign, images.clamp_max(0))


class Target:
    """A model under attack, with images of its test split."""

    def __init__(self, evaluator: Evaluator, scored: Scored) -> None:
        self.model, self.maximum = evaluator.model.requires_grad_(False), float(evaluator.model.maximum)
        shown = scored.index_N[: len(scored.originals)]
        labels = scored.data.scaled()[shown][:, scored.data.column(evaluator.aux)]
        like = next(self.model.parameters())
        self.images = torch.from_numpy(scored.originals[:]).to(like).split(_BATCH)
        self.labels = torch.from_numpy(labels).to(like).split(_BATCH)

    def reconstruct(self, images: Tensor, u_BD: Tensor) -> Tensor:
        """Decoded from posterior means, linear data units."""
        return self.model.decode(self.model.encode(images, u_BD).mean)

    def signs(self) -> list[Tensor]:
        """The attack's direction, for each part of the images."""

        def loss_of(clean: Tensor, u_BD: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda x: ((self.reconstruct(x, u_BD) - clean) / self.maximum).square().flatten(1).sum(1)

        return [gradient_sign(loss_of(part, u_BD), part) for part, u_BD in zip(self.images, self.labels, strict=True)]

    @torch.no_grad()
    def under(self, signs: Sequence[Tensor], epsilon: float) -> tuple[NDArray, NDArray]:
        """Images moved along signs, and their reconstructions: (N, C, H, W) each."""
        moved = [disturbed(x, s, epsilon * self.maximum) for x, s in zip(self.images, signs, strict=True)]
        seen = [self.reconstruct(x, u_BD) for x, u_BD in zip(moved, self.labels, strict=True)]
        return torch.cat(moved).float().cpu().numpy(), torch.cat(seen).float().cpu().numpy()

    def curves(self, signs: Sequence[Tensor], seed: int = 0) -> Curves:
        """Scores of reconstructions for each of EPSILONS."""
        generator = torch.Generator().manual_seed(seed)
        coins = [(2 * torch.randint(2, x.shape, generator=generator) - 1).to(x) for x in self.images]
        clean, reconstruction = self.under(signs, 0)
        found: Curves = {"ssim": [], "ssim_reconstruction": [], "ssim_random": []}
        for epsilon in EPSILONS:
            seen, by_chance = self.under(signs, epsilon)[1], self.under(coins, epsilon)[1]
            for name, pair in (
                ("ssim", (clean, seen)),
                ("ssim_reconstruction", (reconstruction, seen)),
                ("ssim_random", (clean, by_chance)),
            ):
                values = image_values(*pair, self.maximum)["ssim"]
                found[name].append(mean_score(values[~np.isnan(values)]))
        return found


def table(found: Mapping[tuple[int, str], Curves]) -> str:
    """A line for each model and case, a column for each epsilon."""
    lines = [["case", "model", *(f"ε = {epsilon:g}" for epsilon in EPSILONS)]]
    lines.append(["---"] * len(lines[0]))
    for (case, model), curves in found.items():
        pairs = zip(curves["ssim"], curves["ssim_random"], strict=True)
        cells = [f"{pictures.with_interval(attack)} ({chance['value']:.3f})" for attack, chance in pairs]
        lines.append([str(case or "all"), METHODS[model], *cells])
    return (
        "Mean SSIM of the attacked image's reconstruction with the clean image, its 95 % interval, and in brackets the "
        "mean for random signs. IDVAE is told the clean image's labels; IDVAE-x sees the attacked image alone.\n\n"
        + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    )


def figure_8(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes fig8.png, fig8-examples.png, fig8.json and fig8.md."""
    found: dict[tuple[int, str], Curves] = {}
    used: dict[str, Any] = {}
    rows: list[NDArray] = []
    names: list[str] = []
    for label, run in runs.items():
        model = run.config.model
        case = (run.case if model != "beta-vae" else None) or ALL
        evaluator, scored = run.opened(IMAGES)
        target = Target(evaluator, scored)
        signs = target.signs()
        found[case, model] = target.curves(signs)
        used[label] = run.about | found[case, model]
        if case in (ALL, 2) or not rows:
            names += [f"{label}:\nattacked", "reconstruction"]
            both = [target.under(signs, epsilon) for epsilon in EPSILONS]
            rows += [np.stack([drawing.upright(pair[side][0], scored.data) for pair in both]) for side in (0, 1)]
            look = drawing.look_of(scored.data)
    paths = [out / f"{name}{end}" for end in (".png", "-examples.png", ".json", ".md")]
    draw(found, paths[0])
    labels = [[f"ε = {epsilon:g}" for epsilon in EPSILONS]] * len(rows)
    pictures.traversal(np.stack(rows), names, labels, paths[1], look=look)
    write_json(paths[2], {"epsilon": EPSILONS, "unit": "brightest training pixel", "models": used})
    write_text(paths[3], table(found))
    return paths


def draw(found: Mapping[tuple[int, str], Curves], path: Path) -> None:
    """A panel a case: mean SSIM with its interval against epsilon, under attack and, dashed, for random signs."""
    cases = sorted({case for case, _ in found} - {ALL}) or [ALL]
    with mpl.rc_context(drawing.STYLE):
        figure, axes = drawing.sheet(1, len(cases), 2.9 * len(cases) + 0.6, 3.0, sharey=True)
        for ax, case in zip(axes[0], cases, strict=True):
            for model, colour in COLOURS.items():
                curves = found.get((ALL if model == "beta-vae" else case, model), {})
                for name, style in (("ssim", "-"), ("ssim_random", "--")):
                    scores = curves.get(name, [])
                    places = range(len(scores))
                    ax.plot(places, [s["value"] for s in scores], style, color=colour, linewidth=1.3)
                    low, high = ([s[end] for s in scores] for end in ("low", "high"))
                    ax.fill_between(places, low, high, color=colour, alpha=0.25, linewidth=0)
            ax.set(title=f"case {case}" if case else "", xlabel="ε  [brightest training pixel]")
            ax.set_xticks(range(len(EPSILONS)), [f"{epsilon:g}" for epsilon in EPSILONS], fontsize=7)
            ax.yaxis.grid(True, color=drawing.PALE, linewidth=0.5)
        axes[0, 0].set_ylabel("SSIM of reconstruction\nwith clean image")
        drawn = [model for model in METHODS if any(model == other for _, other in found)]
        lines = [mpl.lines.Line2D([], [], color=COLOURS[model], label=METHODS[model]) for model in drawn]
        lines.append(mpl.lines.Line2D([], [], color=drawing.INK, linestyle="--", label="random signs"))
        figure.legend(handles=lines, loc="outside upper left", ncols=4)
        drawing.save(figure, path)
