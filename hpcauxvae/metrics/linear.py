"""What linear methods make of the images: principal components, and ridge regression of factors on them.

Shape suffixes: M training images, N images, P pixels of all channels, K components, T columns of a target.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import columns_of
from hpcauxvae.metrics.intervals import Array
from hpcauxvae.types import Kind

_ROUNDS, _SETTLED = 200, 1e-3
"""Times at most that missing pixels are drawn anew from the others of their image; the largest change, in units of the
pixels' spread, after which they are not."""


@dataclass(frozen=True)
class Components:
    """The mean image and the principal components of some images. A missing pixel is NaN."""

    mean_P: NDArray
    axes_KP: NDArray
    """Of unit length, the one with the largest variance first."""
    filling: int
    """Components that draw missing pixels."""

    @classmethod
    def of(cls, images_MP: NDArray, largest: int, filling: int = 0) -> "Components":
        """At most `largest` components, and no more than M - 1 or P.

        Missing pixels begin as those of the mean image, and are drawn by so many components and these fitted again,
        in turn (Kiers 1997), until they are settled.
        """
        from sklearn.decomposition import PCA  # half a second, which training does without

        missing_MP = np.isnan(images_MP)
        known_P = np.maximum(np.count_nonzero(~missing_MP, 0), 1)
        mean_P = (np.where(missing_MP, 0, images_MP).sum(0, dtype=np.float64) / known_P).astype(images_MP.dtype)
        whole_MP = np.where(missing_MP, mean_P, images_MP) if missing_MP.any() else images_MP

        def fitted(components: int) -> Components:
            with np.errstate(over="ignore", invalid="ignore"):  # of variances that nobody asks for
                own = PCA(min(components, len(whole_MP) - 1, whole_MP.shape[1]), random_state=0).fit(whole_MP)
            return cls(own.mean_, own.components_, filling)

        settled = not (missing_MP.any() and filling)
        for _ in range(_ROUNDS):
            if settled:
                break
            whole_MP, settled = fitted(filling)._redrawn(whole_MP, missing_MP)
        return fitted(largest)

    def scores(self, images_NP: NDArray) -> NDArray:
        """Coordinates (N, K)."""
        missing_NP = np.isnan(images_NP)
        if missing_NP.any():
            images_NP = np.where(missing_NP, self.mean_P, images_NP)
            settled = not self.filling
            for _ in range(_ROUNDS):
                if settled:
                    break
                images_NP, settled = self._redrawn(images_NP, missing_NP)
        return np.asarray((images_NP - self.mean_P) @ self.axes_KP.T)

    def _redrawn(self, whole_NP: NDArray, missing_NP: NDArray) -> tuple[NDArray, bool]:
        """With missing pixels as the first components have them; whether they hardly changed."""
        drawn_NP = self.draw((whole_NP - self.mean_P) @ self.axes_KP[: self.filling].T, self.filling)
        change = np.abs(drawn_NP - whole_NP)[missing_NP].max()
        return np.where(missing_NP, drawn_NP, whole_NP), bool(change <= _SETTLED * whole_NP.std(dtype=np.float64))

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
