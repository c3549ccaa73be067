"""What plain methods make of the same data: a ridge regression of the factors, the mean image and PCA.

They are fitted to training images and judged on the samples that the model is judged on. Shape legend in types.py; M
training images, P pixels of all channels.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled, shown
from hpcauxvae.data.stored import images_in, in_pieces
from hpcauxvae.metrics.linear import Components, regressed
from hpcauxvae.metrics.ssim import image_values, means_of

TRAINING = 2000
"""Training images that the plain methods see at most,"""
BYTES = 1 << 27
"""and as float32 no more than this."""
COMPONENTS = 100
"""Principal components that the regression sees at most."""
IMAGES = 2000
"""Images drawn by the plain methods, and compared, at most."""
PLAIN = {"mean_image": "mean image", "pca": "PCA"}
"""Methods that draw images, by the names of their scores."""


class Baselines:
    """The plain methods, fitted to the training images of a set."""

    def __init__(self, data: ImageSet, train_index: NDArray, latents: int) -> None:
        """latents: dz, and as many components draw the images of PCA."""
        most = min(TRAINING, max(2 * latents, images_in(BYTES, data.shape)))
        chosen = np.sort(np.random.default_rng(0).permutation(train_index)[:most])
        images_MP = np.concatenate(list(_pieces(data, chosen)))
        self.latents = latents
        self.components = Components.of(images_MP, max(COMPONENTS, latents), filling=latents)
        self._fitted_MK = self.components.scores(images_MP)[:, :COMPONENTS]
        self._scaled_MF = data.scaled()[chosen]

    def regressed(self, data: ImageSet, index_N: NDArray, columns: Sequence[int]) -> NDArray[np.float64]:
        """What a ridge regression on components tells of these factors, scaled, (N, columns)."""
        scores_NK = np.concatenate([self.components.scores(part) for part in _pieces(data, index_N)])[:, :COMPONENTS]
        fitted = ((self._scaled_MF[:, column], data.factors[column].kind) for column in columns)
        return np.stack([regressed(self._fitted_MK, u_M, scores_NK, kind) for u_M, kind in fitted], 1)

    def images(self, originals: Any, maximum: float, weights: Any = None) -> dict[str, Any]:
        """SSIM and MSE of the mean training image and of PCA, by name, on the first of these images (N, C, H, W).

        originals: read in pieces of bytes, and weights, as in `image_values`, with them.
        """
        found: dict[str, list[dict[str, NDArray]]] = {name: [] for name in PLAIN}
        for rows, part in in_pieces(originals, range(min(IMAGES, len(originals)))):
            own = None if weights is None else weights[rows.start : rows.stop]
            seen = part if own is None else np.where(own > 0, part, np.float32(np.nan))
            scores_NK = self.components.scores(seen.reshape(len(part), -1).astype(np.float32))
            for name, components in zip(PLAIN, (0, self.latents), strict=True):
                drawn = self.components.draw(scores_NK, components).reshape(part.shape)
                found[name].append(image_values(part, drawn, maximum, weights=own))
        return {name: means_of(parts).means for name, parts in found.items()}


def _pieces(data: ImageSet, index_N: NDArray) -> Iterator[NDArray]:
    """The images of these samples as float32 rows (., P), NaN where a pixel is missing, in pieces of bytes."""
    for piece, images in in_pieces(data.images, index_N):
        seen = shown(data.images, piece) if isinstance(data.images, Filled) else images
        yield seen.reshape(len(piece), -1).astype(np.float32, copy=False)
