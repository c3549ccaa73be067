"""What each latent does to the image, where one that is not off may still move no pixel; and what it follows.

Shape legend in types.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.drawing import spread
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.stored import images_in
from hpcauxvae.metrics.codes import correlate
from hpcauxvae.train.run import Run

STILL = 0.1
"""Nats of an image below which a latent draws nothing. Of what was left over in trained runs each changed .02 or less,
of what served, a psf that hides in the noise too, 1 or more."""
FOLLOWS = 0.7
"""|r| from which on a latent is said to follow a factor that nobody told it of: it tells half of it."""
_CHANCE = 4.0  # standard errors of r (Fisher 1915) above half of that, since the largest of many is looked at
SAMPLES = 256
"""Images that tell what latents do, at most."""
_BYTES = 32 << 20  # of decoded images


def rows_of(n: int, shape: Sequence[int]) -> NDArray[np.int64]:
    """Of n samples with images (C, H, W) those that tell what latents do: evenly spread, and not too many to hold."""
    return spread(n, max(16, min(SAMPLES, images_in(_BYTES, shape))))


def effects(run: Run, seen_NCHW: NDArray, mean_NZ: NDArray, of_Z: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(Z,), what a decoded image changes when a latent gets its mean over all samples, in nats, on average.

    That is half the square of the change over the mean square of the image's own error, summed over its known pixels:
    by so much it would be less likely on average, if it were right but for noise. 0 of latents that are not asked for.
    seen_NCHW: images, NaN where a pixel is missing; mean_NZ: their posterior means; of_Z: which latents are asked for.
    Those of `rows_of` count.
    """
    rows = rows_of(len(mean_NZ), seen_NCHW.shape[1:])
    seen, codes_NZ, found_Z = seen_NCHW[rows].astype(np.float64), mean_NZ[rows], np.zeros(len(of_Z))
    if not of_Z.any():
        return found_Z
    known, drawn = np.isfinite(seen), run.decode(codes_NZ).astype(np.float64)
    error_N = np.square(drawn - seen).sum((1, 2, 3), where=known) / np.maximum(known.sum((1, 2, 3)), 1)
    for latent in np.flatnonzero(of_Z):
        without_NZ = codes_NZ.copy()
        without_NZ[:, latent] = mean_NZ[:, latent].mean()
        change_N = np.square(run.decode(without_NZ) - drawn).sum((1, 2, 3), where=known)
        found_Z[latent] = np.divide(change_N, error_N, out=np.zeros(len(rows)), where=error_N > 0).mean() / 2
    return found_Z


def follows(data: ImageSet, index_N: NDArray, mean_NZ: NDArray, of_Z: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """By the number of a latent, from 1, the factor that its mean goes with most, and `r`, where this is `FOLLOWS`.

    Looked at are the set's own factors that are numbers, on their scales, and not those that guide. index_N: the
    samples of these means; of_Z: the latents that are asked for.
    """
    guiding = {name for guide in data.guides for name in (guide.factor.name, *(one.name for one in guide.columns))}
    columns = [
        number
        for number, factor in enumerate(data.factors[: data.own])
        if factor.kind in ("continuous", "ordinal") and factor.name not in guiding
    ]
    if not columns:
        return {}
    found_FZ = correlate(data.scaled()[index_N][:, columns], [mean_NZ])
    r_FZ, known_F = found_FZ.values_SDZ[0], found_FZ.n_D
    found = {}
    for latent in np.flatnonzero(of_Z):
        best = int(np.abs(r_FZ[:, latent]).argmax())
        r = float(r_FZ[best, latent])
        low = np.tanh(np.arctanh(min(abs(r), 1 - 1e-12)) - _CHANCE / np.sqrt(max(known_F[best] - 3, 1)))
        if abs(r) >= FOLLOWS and low >= FOLLOWS / 2:
            found[str(latent + 1)] = {"factor": data.factors[columns[best]].name, "r": r}
    return found
