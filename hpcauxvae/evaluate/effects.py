"""What each latent does to the image: one that is not off may still move no pixel.

Shape legend in types.py.
"""

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.stored import images_in
from hpcauxvae.train.run import Run

STILL = 1e-3
"""Share of the error of reconstructions below which a latent draws nothing: the images are as good without it. Of what
was left over in trained runs each had 1e-5 or less, of what served, a psf that hides in the noise too, 2e-3 or more."""
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
