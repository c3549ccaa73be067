"""Does an image show what was asked for? The scores by which counterfactual models are judged.

Monteiro et al. (ICLR 2023): composition, effectiveness, reversibility; minimality is the nearness to the image that one
began with in the counterfactual latent divergence of Melistas et al. (NeurIPS 2024). Here are arrays alone; the images
and the reader that finds factors in them are made in evaluate/control.py.

Shape suffixes: P pairs of images, in random order; D factors; T columns of them, two of a periodic one; R residual
latents; K images of the training; F features of an image; G groups left out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import GROUPS, columns_of
from hpcauxvae.metrics.intervals import Array, Score, jackknife_score, mean_score, ratio_score, share_score
from hpcauxvae.metrics.reading import read
from hpcauxvae.types import Factor


def agreement(asked_PD: NDArray, read_PD: NDArray, factors: Sequence[Factor]) -> Iterator[dict[str, Any]]:
    """Effectiveness: how what is read follows what was asked for, for each of D factors on the scale [0, 1].

    `r`, the signed correlation; `slope` of read on asked; `own`, the slope where all D factors explain what is read
    (least squares), so that a factor that is followed only because it goes with another has none; `error`, the root
    mean square difference, `offset`, the mean difference, and `spread`, the standard deviation of what was asked for,
    in the factor's unit. A periodic factor has no slopes, and all else as in metrics/reading.py.
    Intervals by the grouped jackknife. A column that does not vary has r and slopes 0.
    """
    n = len(asked_PD)
    asked, found = (
        [columns_of(u_P, factor.kind) for u_P, factor in zip(u_PD.T, factors, strict=True)]
        for u_PD in (asked_PD, read_PD)
    )
    columns = np.concatenate([np.ones((n, 1)), *asked, *found], 1)
    groups = np.array_split(columns, min(GROUPS, n))
    sums = np.stack([group.T @ group for group in groups])
    firsts = np.cumsum([0, *(part.shape[1] for part in asked)])
    whole, without = _fits(sums.sum(0)[None], firsts[-1]), _fits(sums.sum(0) - sums, firsts[-1])
    for j, (factor, first) in enumerate(zip(factors, firsts[:-1], strict=True)):
        around = read(asked_PD[:, j], read_PD[:, j], factor)
        apart = {name: around[name] for name in ("error", "offset", "spread")}
        if factor.kind == "periodic":
            yield {"r": around["r"]} | apart
            continue
        yield apart | {
            name: jackknife_score(float(whole[name][0, first]), without[name][:, first], n, limits)
            for name, limits in (("r", (-1, 1)), ("slope", (-np.inf, np.inf)), ("own", (-np.inf, np.inf)))
        }


def _fits(sums_GKK: Array, t: int) -> dict[str, Array]:
    """Of sums of products of the columns (1, asked, read), (G, 1 + 2 T, 1 + 2 T): each number (G, T)."""
    n_G = sums_GKK[:, 0, 0]
    mean_GK = sums_GKK[:, 0] / n_G[:, None]
    moments = sums_GKK / n_G[:, None, None] - mean_GK[:, :, None] * mean_GK[:, None, :]
    asked, found = np.arange(1, t + 1), np.arange(t + 1, 2 * t + 1)
    of_asked, of_read, both = moments[:, asked, asked], moments[:, found, found], moments[:, asked, found]
    varies = (of_asked > 1e-12) & (of_read > 1e-12)
    own = np.linalg.pinv(moments[:, 1 : t + 1, 1 : t + 1], hermitian=True, rcond=1e-9) @ moments[:, 1 : t + 1, t + 1 :]
    return {
        "r": np.where(varies, np.clip(both / np.sqrt(np.where(varies, of_asked * of_read, 1)), -1, 1), 0),
        "slope": np.where(varies, both / np.where(varies, of_asked, 1), 0),
        "own": np.where(varies, np.diagonal(own, axis1=1, axis2=2), 0),
    }


def distance(
    images_P: NDArray,
    others_P: NDArray,
    apart: tuple[NDArray, NDArray],
    known: tuple[NDArray, NDArray] | None = None,
) -> Score:
    """Mean squared pixel difference of pairs (P, ...), over that of the images of the two samples of each pair.

    0: the same; 1: as different as one image of the set is from another. Composition and reversibility are told so.
    known: which pixels (P, ...) of each of `apart` are; only those of the first one count, and for the distance of both
    those of both. A pair that has no pixel in common is left out.
    """
    axes = tuple(range(1, images_P.ndim))
    pairs: list[tuple[NDArray, NDArray]] = [(images_P, others_P), apart]
    counted: list[Any] = [True, True]
    if known is not None:
        both = known[0] & known[1]
        kept_P = both.any(axes)
        pairs = [(a[kept_P], b[kept_P]) for a, b in pairs]
        counted = [known[0][kept_P], both[kept_P]]
    squares = [
        np.square(a.astype(np.float64) - b).mean(axes, where=count)
        for (a, b), count in zip(pairs, counted, strict=True)
    ]
    return ratio_score(*squares)


def unlike(known_KF: NDArray, own_PF: NDArray, asked_PF: NDArray) -> Score:
    """The share of images that were asked for that are further from all real ones than 99 % of the reconstructions are.

    Its interval is that of the jackknife, and at least that of a share of so many.

    The distance is that to the fifth nearest of K real images in the features of a network (Sun et al., ICML 2022,
    there with features of unit length: here an empty image must not look like a faint one). Near .01 where what was
    asked for is drawn as well as what was seen.
    """
    own_P, asked_P = (_fifth_nearest(of_PF, known_KF) for of_PF in (own_PF, asked_PF))
    rows = np.arange(len(own_P))

    def share(kept_P: NDArray) -> float:
        return float((asked_P[kept_P] > np.quantile(own_P[kept_P], 0.99)).mean())

    without_G = np.array([share(np.delete(rows, group)) for group in np.array_split(rows, min(GROUPS, len(rows)))])
    found = jackknife_score(share(rows), without_G, len(rows), (0, 1))
    alone = share_score(asked_P > np.quantile(own_P, 0.99))  # with the threshold as it is
    return found | {"low": min(found["low"], alone["low"]), "high": max(found["high"], alone["high"])}


def _fifth_nearest(of_PF: NDArray, known_KF: NDArray) -> Array:
    """Squared distances (P,)."""
    of_PF, known_KF = of_PF.astype(np.float64), known_KF.astype(np.float64)
    squares_PK = np.square(of_PF).sum(1)[:, None] + np.square(known_KF).sum(1) - 2 * of_PF @ known_KF.T
    return np.partition(squares_PK, min(4, len(known_KF) - 1), 1)[:, min(4, len(known_KF) - 1)]


def minimality(own_PR: NDArray, changed_PR: NDArray) -> Score:
    """The share of other images that are nearer to an image, in residual latents, than its own counterfactual is.

    0: nothing but what was asked for has changed; 1/2: as much as between two images of the set. It is the first term
    of the counterfactual latent divergence (Sanchez & Tsaftaris 2022; Melistas et al. 2024, P(S <= div)), in the run's
    own residual code, each latent in units of its spread, where they take the code of a further network.
    """
    spread_R = own_PR.std(0)
    own, changed = own_PR / spread_R, changed_PR / spread_R
    moved_P = np.square(changed - own).sum(1)
    nearer_P = np.empty(len(own))
    for row, code_R in enumerate(own):
        others = np.delete(np.square(own - code_R).sum(1), row)
        nearer_P[row] = (others < moved_P[row]).mean()
    return mean_score(nearer_P)
