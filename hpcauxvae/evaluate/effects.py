"""What each latent does to the image, where one that is not off may still move no pixel; and what it follows.

Shape legend in types.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.stored import images_in
from hpcauxvae.metrics.codes import correlate
from hpcauxvae.train.run import Run

STILL = 0.1
"""Nats of an image below which a latent draws nothing: the images are as good without it. Of what was left over in
trained runs each told .05 or less, of what served, a psf that hides in the noise too, 1 or more."""
FOLLOWS = 0.7
"""|r| from which on a latent is said to follow a factor that nobody told it of: it tells half of it."""
_CHANCE = 4.0  # standard errors of r (Fisher 1915) above half of that, since the largest of many is looked at
SAMPLES = 256
"""Images that tell what latents do, at most."""
_BYTES = 32 << 20  # of decoded images


def effects(run: Run, seen_NCHW: NDArray, mean_NZ: NDArray, of_Z: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(Z,), how much more an image tells with a latent than with its mean over all samples in its place, in nats.

    By the error of the decoded images, Gaussian and as large as it is with all latents, of each image by itself. 0 of
    latents that are not asked for. seen_NCHW: images, NaN where a pixel is missing, which takes no part; mean_NZ: their
    posterior means; of_Z: which latents are asked for. As many of the images count as are not too many.
    """
    few = max(16, min(SAMPLES, images_in(_BYTES, seen_NCHW.shape[1:])))
    rows = np.unique(np.linspace(0, len(mean_NZ) - 1, few).astype(int))
    told_Z, seen, codes_NZ = np.zeros(len(of_Z)), seen_NCHW[rows].astype(np.float64), mean_NZ[rows]
    known, axes = np.isfinite(seen), (1, 2, 3)
    pixels_N = known.sum(axes)

    def error(z_NZ: NDArray) -> NDArray[np.float64]:
        """Sum of the squares over the known pixels, (N,)."""
        return np.asarray(np.square(run.decode(z_NZ) - seen).sum(axes, where=known))

    own_N = error(codes_NZ) if of_Z.any() else pixels_N
    counts = (pixels_N > 0) & (own_N > 0)
    for latent in np.flatnonzero(of_Z) if counts.any() else ():
        without_NZ = codes_NZ.copy()
        without_NZ[:, latent] = mean_NZ[:, latent].mean()
        more_N = (error(without_NZ) - own_N)[counts]
        told_Z[latent] = (more_N * pixels_N[counts] / own_N[counts]).mean() / 2
    return told_Z


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
