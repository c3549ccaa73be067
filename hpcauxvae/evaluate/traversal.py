"""Fig. 5: what a decoder draws when one thing varies and the rest stays.

Shape legend in types.py; R rows, V values.
"""

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.angles import angles, partner
from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import short, with_unit
from hpcauxvae.evaluate import pictures
from hpcauxvae.train.run import Run

_STEPS, _MORE = 9, 11
"""Images in a row, and at most where a factor has more classes, which are all shown then."""


def traversal(
    run: Run, data: ImageSet, mean_NZ: NDArray, guides: tuple[Guide, ...]
) -> tuple[NDArray[np.float32], list[str], list[list[str]]]:
    """One guided factor or other latent at a time varied, all else as in the sample nearest to the mean code.

    A factor runs over its range, with all latents that it guides: an angle once round, a categorical one over its
    classes, of more than eleven over some. Of hand-made cosine and sine of an angle the other goes with the one that
    runs. A latent that no factor guides runs over two of its own standard deviations on either side of its own mean.
    mean_NZ: of samples of the set; guides: none in a model that was not told of them. Returns images (R, V, C, H, W),
    the names of the rows and a label for each image.
    """
    centre_Z, spread_Z = mean_NZ.mean(0), mean_NZ.std(0)
    distance_N = (np.square(mean_NZ - centre_Z) / np.maximum(spread_Z, 1e-6) ** 2).sum(1)
    base_Z = mean_NZ[distance_N.argmin()]
    classes = (len(guide.levels) for guide in guides if guide.by_classes and len(guide.levels) <= _MORE)
    steps = max(_STEPS, *classes, 0)
    fractions_V = np.linspace(0, 1, steps)
    codes, names, labels = [], [], []
    plain = [guide for guide in guides if guide.plain]
    firsts = {guide.factor.name: span.start for guide, span in zip(guides, spans(guides), strict=True)}
    pairs = angles(data.values[:, data.column([guide.factor.name for guide in plain])]) if plain else []
    partners = {plain[a].factor.name: plain[b].factor for pair in pairs for a, b in (pair, pair[::-1])}
    for guide, span in zip(guides, spans(guides), strict=True):
        values_V = _over(guide, steps)
        z_VZ = np.repeat(base_Z[None], steps, 0)
        z_VZ[:, span] = guide.scaled(values_V)
        if (other := partners.get(guide.factor.name)) is not None:
            latent = firsts[other.name]
            side = float(other.unscale(base_Z[latent]))
            z_VZ[:, latent] = other.scale(partner(values_V, side))
        codes.append(z_VZ)
        names.append(pictures.latents_name(span, with_unit(guide.factor)))
        labels.append([short(guide.factor, value, 3) for value in values_V])
    for latent in range(sum(len(guide.columns) for guide in guides), len(base_Z)):
        z_VZ = np.repeat(base_Z[None], steps, 0)
        z_VZ[:, latent] = centre_Z[latent] + (4 * fractions_V - 2) * spread_Z[latent]
        codes.append(z_VZ)
        names.append(pictures.latents_name(slice(latent, latent + 1)))
        labels.append([f"{4 * fraction - 2:+.3g} sd" for fraction in fractions_V])
    images = run.decode(np.concatenate(codes))
    return images.reshape(len(codes), steps, *images.shape[1:]), names, labels


def _over(guide: Guide, steps: int) -> NDArray[np.float64]:
    """Values of a factor (V,), in its unit."""
    if guide.by_classes:
        return np.array(guide.levels)[np.linspace(0, len(guide.levels) - 1, steps).round().astype(int)]
    return np.asarray(guide.factor.unscale(np.linspace(0, 1, steps, endpoint=not guide.by_angle)))
