"""Intervals that cover what they say: conformal prediction with normalised residuals; and how odd a sample is.

A residual counts in units of what is usual for such a sample (Lei et al. 2018, JASA 113, section 5.2), which trees tell
(Geurts et al. 2006). Each comes from a line and from trees that were fitted to other samples (cross-conformal: Vovk
2015, Ann. Math. Artif. Intell. 74). Shape suffixes: N samples, M of the calibration, X features, T columns by which a
factor guides as many latents, or trees, K nodes of all trees.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array

LEVELS = (0.68, 0.95)
"""Shares that the intervals are to cover."""
FOLDS = 5
FEW = 100
"""Samples, below which residuals count as they are: too few tell which are usual where."""
_TREES, _LEAF, _DEPTH = 10, 20, 8
"""Trees of a fold, samples of a leaf at least, questions to a leaf at most. Deeper and more trees, nearest neighbours,
and ridge and gamma regression give the same widths within 3 % on galaxies."""
_LEAST = 0.01
"""Of the mean residual: what counts as usual anywhere at least."""
_NEIGHBOURS = 5
_AT_ONCE = 1024


@dataclass(frozen=True)
class Trees:
    """Regression trees, as arrays; their mean is what they tell. Without nodes all samples are alike: 1."""

    feature_K: NDArray[np.int32]
    """What is compared with the threshold."""
    threshold_K: NDArray[np.float64]
    next_K2: NDArray[np.int32]
    """The node where it is not larger, and where it is; of a leaf itself."""
    value_K: NDArray[np.float64]
    root_T: NDArray[np.int32]

    @classmethod
    def of(cls, forests: list) -> "Trees":
        """The trees of forests of scikit-learn."""
        nodes: list[tuple[NDArray, ...]] = [(np.empty(0), np.empty(0), np.empty((0, 2)), np.empty(0))]
        roots, first = [], 0
        for tree in (estimator.tree_ for forest in forests for estimator in forest.estimators_):
            own, leaf = np.arange(tree.node_count), tree.children_left < 0
            ways_K2 = [np.where(leaf, own, side) + first for side in (tree.children_left, tree.children_right)]
            feature_K = np.where(leaf, 0, tree.feature)
            nodes.append((feature_K, tree.threshold, np.stack(ways_K2, 1), tree.value[:, 0, 0]))
            roots.append(first)
            first += tree.node_count
        feature_K, threshold_K, next_K2, value_K = (np.concatenate(parts) for parts in zip(*nodes, strict=True))
        return cls(
            feature_K.astype(np.int32), threshold_K, next_K2.astype(np.int32), value_K, np.array(roots, np.int32)
        )

    def __call__(self, features_NX: NDArray) -> Array:
        """(N,), above 0."""
        seen_NX = features_NX.astype(np.float32)  # as scikit-learn compares them
        told_N = np.ones(len(seen_NX))
        for start in range(0, len(seen_NX) if len(self.root_T) else 0, _AT_ONCE):
            part_NX = seen_NX[start : start + _AT_ONCE]
            row_N1 = np.arange(len(part_NX))[:, None]
            node_NT = np.broadcast_to(self.root_T, (len(part_NX), len(self.root_T)))
            for _ in range(_DEPTH):
                right_NT = part_NX[row_N1, self.feature_K[node_NT]] > self.threshold_K[node_NT]
                node_NT = self.next_K2[node_NT, right_NT.astype(np.int8)]
            told_N[start : start + _AT_ONCE] = self.value_K[node_NT].mean(1)
        return told_N


@dataclass(frozen=True)
class Reader:
    """A factor from the means of its latents, with intervals; all on the scale on which its range is 0 to 1."""

    line_T2: Array
    """Slope and offset of each of its columns on its latent."""
    usual: Trees
    """Of how far it is off, from the features of a sample."""
    score_M: Array
    """Of M samples, in increasing order: how far they are off in units of what is usual."""

    def __call__(self, z_NT: NDArray, features_NX: NDArray) -> tuple[Array, list[tuple[Array, Array]]]:
        """What is read, (N,), and for each of LEVELS the lower and upper ends of its interval.

        The ends are infinite where too few samples tell.
        """
        told_N, usual_N = self.told(on_lines(self.line_T2, z_NT)), self.usual(features_NX)
        halves = [np.minimum(quantile(self.score_M, level) * usual_N, self.FARTHEST) for level in LEVELS]
        return told_N, [(told_N - half_N, told_N + half_N) for half_N in halves]

    def level(self, z_NT: NDArray, features_NX: NDArray, u_N: NDArray) -> Array:
        """Of the smallest interval in which the truth u_N lies, (N,); evenly spread over 0 to 1 if intervals cover what
        they say. NaN where u is not known."""
        off_N = self.off(on_lines(self.line_T2, z_NT), u_N)
        level_N = 1 - p_value(self.score_M, off_N / self.usual(features_NX))
        return np.where(np.isnan(u_N), np.nan, level_N)

    FARTHEST: ClassVar[float] = np.inf
    """That something can be off."""

    @staticmethod
    def told(columns_NT: NDArray) -> Array:
        """What columns say of the factor, (N,)."""
        return np.asarray(columns_NT[:, 0])

    @classmethod
    def off(cls, columns_NT: NDArray, u_N: NDArray) -> Array:
        """How far that is from the truth, (N,)."""
        return np.abs(u_N - cls.told(columns_NT))


class AngleReader(Reader):
    """An angle, in turns, from its cosine and sine, whose range is 0 to 1. It is off by what it is the shorter way
    round, half a turn at most; an interval about 0 or 1 has an end beyond it, and half a turn either way is all round.
    """

    FARTHEST: ClassVar[float] = 0.5

    @staticmethod
    def told(columns_NT: NDArray) -> Array:
        """As Reader."""
        x_N, y_N = 2 * columns_NT.T - 1
        return np.asarray(np.arctan2(y_N, x_N) / (2 * np.pi) % 1)

    @classmethod
    def off(cls, columns_NT: NDArray, u_N: NDArray) -> Array:
        """As Reader."""
        return np.abs((u_N - cls.told(columns_NT) + 0.5) % 1 - 0.5)


def fitted(
    u_N: NDArray, columns_NT: NDArray, z_NT: NDArray, features_NX: NDArray, kind: type[Reader] = Reader
) -> Reader:
    """A reader of u, by its columns, from z. u and columns: NaN where not measured. Neighbours should not be alike, or
    be in the same fold.

    The lines are those of least squares of columns on z, so that what is read has no bias: its error has mean 0 and
    goes with nothing that z tells. (The line of z on u, turned round, would spread a factor that is hardly read without
    bound.)
    """
    from sklearn.ensemble import ExtraTreesRegressor  # half a second, which training does without

    known = np.flatnonzero(~np.isnan(u_N))
    u_N, columns_NT, z_NT, features_NX = (of[known] for of in (u_N, columns_NT, z_NT, features_NX))
    n, scores, forests = len(known), [], []
    fold_N = folds(n)
    for fold in range(FOLDS):
        own, others = fold_N == fold, fold_N != fold
        residual_N = kind.off(on_lines(lines(columns_NT[others], z_NT[others]), z_NT), u_N)
        least = _LEAST * float(residual_N[others].mean()) if others.any() else 0.0
        usual = Trees.of([])
        if n >= FEW and least > 0:
            forest = ExtraTreesRegressor(_TREES, min_samples_leaf=_LEAF, max_depth=_DEPTH, random_state=fold)
            forests.append(forest.fit(features_NX[others], np.maximum(residual_N[others], least)))
            usual = Trees.of([forest])
        scores.append(residual_N[own] / usual(features_NX[own]))
    usual = Trees.of(forests if len(forests) == FOLDS else [])
    return kind(lines(columns_NT, z_NT), usual, np.sort(np.concatenate(scores)))


def folds(n: int) -> NDArray[np.int64]:
    """The fold of each of n samples, (n,): neighbours are in the same."""
    return np.arange(n) * FOLDS // max(n, 1)


def lines(columns_NT: NDArray, z_NT: NDArray) -> Array:
    """Slope and offset of the least squares of each column on its own latent, (T, 2)."""
    return np.array([_line(u_N, z_N) for u_N, z_N in zip(columns_NT.T, z_NT.T, strict=True)])


def on_lines(line_T2: Array, z_NT: NDArray) -> Array:
    """The columns (N, T) that latents tell."""
    return np.asarray(line_T2[:, 0] * z_NT + line_T2[:, 1])


def _line(u_N: Array, z_N: Array) -> tuple[float, float]:
    """Slope and offset of the least squares of u on z; slope 0 where z does not vary, the middle of the range where
    there is nothing."""
    if len(u_N) == 0:
        return 0.0, 0.5
    centred_N = z_N - z_N.mean()
    square = float(centred_N @ centred_N)
    slope = float(centred_N @ u_N) / square if square > 0 else 0.0
    return slope, float(u_N.mean()) - slope * float(z_N.mean())


def quantile(score_N: NDArray, level: float) -> float:
    """What a further score exceeds with a probability of at most 1 - level, if all are exchangeable.

    The ceil((n + 1) level)-th smallest; infinite where there are fewer.
    """
    place = int(np.ceil((len(score_N) + 1) * level))
    return float(np.partition(score_N, place - 1)[place - 1]) if place <= len(score_N) else float("inf")


def p_value(score_N: NDArray, new_M: NDArray) -> Array:
    """How probable a score at least so large is, (M,), for further samples that are exchangeable with the known ones.

    score_N: in increasing order; new_M: NaN, of which nothing is known, is 1.
    """
    larger_M = len(score_N) - np.searchsorted(score_N, new_M, side="left")
    return np.where(np.isnan(new_M), 1.0, (1 + larger_M) / (1 + len(score_N)))


def distance(points_NX: NDArray, known_MX: NDArray) -> Array:
    """Of each point from the fifth nearest known one, or the last where there are fewer, (N,)."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(known_MX)), algorithm="brute").fit(known_MX)
    return np.asarray(near.kneighbors(points_NX)[0][:, -1]) if len(points_NX) else np.empty(0)
