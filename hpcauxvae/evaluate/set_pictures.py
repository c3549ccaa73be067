"""Pictures of a set that need no more than it and its block of metrics.json: a function, and a line of `PICTURES`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcauxvae.data import drawing
from hpcauxvae.data.missing import shown as with_holes
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.baselines import PLAIN

if TYPE_CHECKING:
    from hpcauxvae.evaluate.scores import Scored

Block = dict[str, Any]
_SHOWN = 8


def reconstructions(scored: "Scored", block: Block, path: Path) -> None:
    """Some images, spread evenly, above what is decoded of them."""
    data, shown = scored.data, np.linspace(0, len(scored.originals) - 1, _SHOWN).astype(int)
    pictures.reconstructions(
        drawing.upright(with_holes(data.images, scored.index_N[shown]), data),
        drawing.upright(scored.reconstructions[shown], data),
        path,
        look=drawing.look_of(data),
        title=beside_plain(block),
    )


def beside_plain(block: Block) -> str:
    """`SSIM 0.979 (mean image 0.602, PCA 0.934), MSE …`: what is drawn too faint has a good SSIM."""

    def beside(name: str) -> str:
        plain = (f"{words} {block['baselines'][key][name]['value']:.3g}" for key, words in PLAIN.items())
        return f"{name.upper()} {block['images'][name]['value']:.3g} ({', '.join(plain)})"

    return ", ".join(beside(name) for name in ("ssim", "mse") if not np.isnan(block["images"][name]["value"]))


PICTURES: dict[str, Callable[["Scored", Block, Path], None]] = {
    "reconstructions": reconstructions,
}
"""By the beginning of the file's name."""
