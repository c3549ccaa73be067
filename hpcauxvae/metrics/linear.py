"""What linear methods make of the images: principal components, and ridge regression of factors on them.

Shape suffixes: M training images, N images, P pixels of all channels, K components, T columns of a target.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import columns_of
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.types import Kind


@dataclass(frozen=True)
class Components:
    """The mean image and the principal components of some images."""

    mean_P: NDArray
    axes_KP: NDArray
    """Of unit length, the one with the largest variance first."""

    @classmethod
    def of(cls, images_MP: NDArray, largest: int) -> "Components":
        """At most `largest` components, and no more than M - 1 or P."""
        from sklearn.decomposition import PCA  # half a second, which training does without

        with np.errstate(over="ignore", invalid="ignore"):  # of variances that nobody asks for
            fitted = PCA(min(largest, len(images_MP) - 1, images_MP.shape[1]), random_state=0).fit(images_MP)
        return cls(fitted.mean_, fitted.components_)

    def scores(self, images_NP: NDArray) -> NDArray:
        """Coordinates (N, K)."""
        return np.asarray((images_NP - self.mean_P) @ self.axes_KP.T)

    def draw(self, scores_NK: NDArray, components: int) -> NDArray:
        """Images (N, P) of the first so many components; 0: the mean image."""
        return np.asarray(self.mean_P + scores_NK[:, :components] @ self.axes_KP[:components])


def regressed(fitted_MK: NDArray, u_M: NDArray, scores_NK: NDArray, kind: Kind) -> Array:
    """A factor in [0, 1] by ridge regression on components (Hoerl & Kennard 1970), (N,); NaN in u_M is left out,
    and with fewer than two values every sample has the middle of the range.

    The penalty is chosen by leaving out each sample (RidgeCV of scikit-learn). A periodic factor is read by cosine and
    sine; of a categorical one each class is regressed, and the largest counts.
    """
    from sklearn.linear_model import RidgeCV

    known = ~np.isnan(u_M)
    if np.count_nonzero(known) < 2:
        return np.full(len(scores_NK), 0.5)
    u_M, scale = u_M[known], float(fitted_MK.std(0, dtype=np.float64).max()) or 1.0
    classes, class_M = np.unique(u_M, return_inverse=True)
    target_MT = np.eye(len(classes))[class_M] if kind == "categorical" else columns_of(u_M, kind)
    ridge = RidgeCV(np.logspace(-8, 2, 11) * len(u_M)).fit(fitted_MK[known] / scale, target_MT)
    told_NT = ridge.predict(scores_NK / scale).reshape(len(scores_NK), -1)
    if kind == "categorical":
        return np.asarray(classes[told_NT.argmax(1)])
    if kind == "periodic":
        return np.asarray(np.arctan2(told_NT[:, 1], told_NT[:, 0]) / (2 * np.pi) % 1)
    return np.asarray(told_NT[:, 0])
