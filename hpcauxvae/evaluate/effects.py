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

STILL = 1e-3
"""Share of the error of reconstructions below which a latent draws nothing: the images are as good without it. Of what
was left over in trained runs each had 1e-5 or less, of what served, a psf that hides in the noise too, 2e-3 or more."""
FOLLOWS = 0.7
"""|r| from which on a latent is said to follow a factor that nobody told it of: it tells half of it."""
_SAMPLES, _BYTES = 256, 32 << 20  # of decoded images


def effects(run: Run, mean_NZ: NDArray, of_Z: NDArray[np.bool_], error: float) -> NDArray[np.float64]:
    """(Z,), the mean squared change of the decoded image when a latent gets its mean over all samples, over `error`.

    0 of latents that are not asked for, and inf where images are drawn without error. mean_NZ: posterior means; of_Z:
    which latents are asked for; error: mean squared error of a pixel of the reconstructions, in linear data units.
    """
    found_Z = np.zeros(len(of_Z))
    if of_Z.any():
        few = max(16, min(_SAMPLES, images_in(_BYTES, run.decode(mean_NZ[:1]).shape)))
        codes_NZ = mean_NZ[np.unique(np.linspace(0, len(mean_NZ) - 1, few).astype(int))]
        drawn = run.decode(codes_NZ).astype(np.float64)
    for latent in np.flatnonzero(of_Z):
        without_NZ = codes_NZ.copy()
        without_NZ[:, latent] = mean_NZ[:, latent].mean()
        found_Z[latent] = np.square(run.decode(without_NZ) - drawn).mean()
    return np.divide(found_Z, error, out=np.where(found_Z > 0, np.inf, 0), where=error > 0)


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
    r_FZ = correlate(data.scaled()[index_N][:, columns], [mean_NZ]).values_SDZ[0]
    found = {}
    for latent in np.flatnonzero(of_Z):
        best = int(np.abs(r_FZ[:, latent]).argmax())
        if abs(r_FZ[best, latent]) >= FOLLOWS:
            found[str(latent + 1)] = {"factor": data.factors[columns[best]].name, "r": float(r_FZ[best, latent])}
    return found
