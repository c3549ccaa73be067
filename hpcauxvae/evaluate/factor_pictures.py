"""Factors against latents in pictures; of many classes, whose latents would fill a wall, which is taken for which.

Shape suffixes: N samples, F factors, Z latents, K classes, T latents of a factor.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from hpcauxvae.data.drawing import CORRELATIONS, INK, STYLE, save, sheet
from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import fit
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.by_factor import in_units
from hpcauxvae.metrics.codes import correlate

_MOST = 4
"""Latents of the classes of one factor, at most, that have a panel each."""


def draw_factors(
    data: ImageSet,
    index_N: NDArray,
    z_NZ: NDArray,
    mean_NZ: NDArray,
    guides: Sequence[Guide],
    aux_names: Sequence[str],
    block: dict[str, Any],
    folder: Path,
    name: str,
) -> None:
    """`scatter-NAME.png` and `correlations-NAME.png` of these samples; of a factor with many classes
    `classes-FACTOR-NAME.png` instead.

    aux_names: the columns that guide; block: the scores of the set; name: of the set.
    """
    values_NF, hidden, numbers = data.values[index_N], set[str](), list(range(mean_NZ.shape[1]))
    for guide, span in zip(guides, spans(guides), strict=True):
        if guide.by_classes and len(guide.columns) > _MOST:
            hidden |= {guide.factor.name, *(column.name for column in guide.columns)}
            numbers = [number for number in numbers if not span.start <= number < span.stop]
            told_N = guide.told(in_units(mean_NZ[:, span], guide.columns))
            own_N = values_NF[:, data.column([guide.factor.name])[0]]
            confusion(own_N, told_N, guide, folder / f"classes-{guide.factor.name.replace('/', '-')}-{name}.png")
    stood_for = {guide.factor.name for guide in data.guides if not guide.plain}
    rows = [c for c in range(data.own) if data.factors[c].name not in hidden]
    columns = [c for c, factor in enumerate(data.factors) if factor.name not in hidden | stood_for]
    if not (rows and columns and numbers):
        return
    of_latents = [guide.factor.name for guide in guides for _ in guide.columns]
    pictures.factor_latent_scatter(
        z_NZ[:, numbers], mean_NZ[:, numbers], values_NF[:, rows], [data.factors[c] for c in rows], of_latents,
        block["codes"].get("lds"), folder / f"scatter-{name}.png", reading=block.get("reading"), numbers=numbers,
    )  # fmt: skip
    correlation_FZ = correlate(data.scaled()[index_N][:, columns], [z_NZ[:, numbers]]).values_SDZ[0]
    names, path = [data.factors[c].name for c in columns], folder / f"correlations-{name}.png"
    pictures.correlation_map(correlation_FZ, names, aux_names, path, numbers)


def confusion(values_N: NDArray, told_N: NDArray, guide: Guide, path: Path) -> None:
    """A row for each class of a factor (N,): of its samples, the shares in per cent that are told as each class."""
    texts, levels = guide.texts, np.array(guide.levels)
    counts_KK = ((values_N[:, None] == levels).T.astype(float) @ (told_N[:, None] == levels)).round()
    of_K = counts_KK.sum(1, keepdims=True)
    share_KK, norm, size = counts_KK / np.maximum(of_K, 1), Normalize(0, 1), len(texts)
    with mpl.rc_context(STYLE):
        figure, axes = sheet(1, 1, 0.34 * size + 2.2, 0.28 * size + 1.2)
        ax = axes[0, 0]
        ax.imshow(share_KK, cmap=CORRELATIONS, norm=norm, aspect="auto")
        for row, column in np.argwhere(counts_KK > 0):
            share = share_KK[row, column]
            colour = "white" if share > 0.55 else INK
            ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)
        ax.set_xticks(range(size), texts, fontsize=fit(max(texts, key=len), 8, 0.3))
        ax.set_yticks(range(size), [f"{text} ({n:.0f})" for text, n in zip(texts, of_K[:, 0], strict=True)])
        ax.set(xlabel=f"{guide.factor.name} as read", ylabel=f"{guide.factor.name} (images)")
        ax.tick_params(which="both", length=0)
        ax.spines[:].set_visible(False)
        right = np.trace(counts_KK) / max(counts_KK.sum(), 1)
        figure.suptitle(f"accuracy {right:.2f}, shares of each row in %", x=0.01, ha="left", fontsize=10)
        save(figure, path)
