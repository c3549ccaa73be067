"""A regression that fits smooth functions and steps alike: of a few it takes the one that predicts best.

Shape suffixes: N samples, F features, T columns of a target.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array
from hpcauxvae.metrics.joint import LEAF
from hpcauxvae.metrics.objects import Numbers

Predict: TypeAlias = Callable[[NDArray], Array]
"""Features (N, F) -> columns (N, T)."""

Make: TypeAlias = Callable[[int, int], Any]
"""A regression of scikit-learn, given how many samples and features it will be fitted to."""

FOLDS = 3
_WIDTHS = (0.1, 0.5)
"""Of the Gaussian kernel: its exponent for a squared distance, over the number of features."""
_CENTRES = 200
"""Samples that the kernel is spanned by."""


def fitted(features_NF: NDArray, target_NT: Array, object_N: Numbers, seed: int, or_mean: bool = False) -> Predict:
    """The regression of T columns on F features whose errors on other objects are smallest.

    Candidates: ridge regression on the features and on a Gaussian kernel, of two widths (Nystroem, as scikit-learn has
    it), boosted trees, and with `or_mean` the mean. They are compared on `FOLDS` folds (the discrete super learner of
    van der Laan, Polley and Hubbard 2007), and the best is fitted to all. NaN among features counts as their mean, and
    as a feature by itself. object_N: samples of equal numbers are in one fold.
    """
    make = _best(features_NF, target_NT, object_N, seed, or_mean)[0]
    return _mean(target_NT) if make is None else _predictor(make, features_NF, target_NT)


def forest(features_NF: NDArray, target_NT: Array, seed: int) -> Predict:
    """A random forest (Breiman 2001): worse on smooth functions than `fitted`, better on some that are not."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    filled, columns = SimpleImputer(add_indicator=True, keep_empty_features=True), target_NT.shape[1]
    model = make_pipeline(filled, RandomForestRegressor(100, min_samples_leaf=3, random_state=seed))
    model.fit(features_NF, target_NT if columns > 1 else target_NT[:, 0])
    return lambda features: np.asarray(model.predict(features), np.float64).reshape(-1, columns)


def predicted_in_folds(features_NF: NDArray, target_NT: Array, object_N: Numbers, seed: int) -> Array:
    """What the regression that `fitted` takes, the mean included, predicts of each sample from the others, (N, T)."""
    return _best(features_NF, target_NT, object_N, seed, or_mean=True)[1]


def _best(
    features_NF: NDArray, target_NT: Array, object_N: Numbers, seed: int, or_mean: bool
) -> tuple[Make | None, Array]:
    """What makes the regression that predicts best, None for the mean; and what it predicts in folds."""
    whole = features_NF.shape[1] > 0 and len(features_NF) >= 2 * FOLDS
    found = [(make, _in_folds(make, features_NF, target_NT, object_N)) for make in _candidates(seed)] if whole else []
    makers: list[tuple[Make | None, Array]] = [*found]
    if or_mean or not whole:
        makers.append((None, _in_folds(None, features_NF, target_NT, object_N)))
    return min(makers, key=lambda one: float(np.square(target_NT - one[1]).sum()))


def shares(loss: Callable[[NDArray], float], features_NF: NDArray, groups: Sequence[Sequence[int]], seed: int) -> Array:
    """How much of what a regression tells each group of features holds, (groups,): permutation importance.

    By how much its loss grows where a group's columns are those of other samples (Breiman 2001), mean of five orders, 0
    where it falls; all scaled to sum to 1, or all 0.
    """
    rng, whole, lost = np.random.default_rng([seed, 5]), loss(features_NF), np.zeros(len(groups))
    for number, columns in enumerate(groups):
        for _ in range(5):
            other_NF = features_NF.copy()
            other_NF[:, columns] = other_NF[rng.permutation(len(other_NF))][:, columns]
            lost[number] += max(0.0, loss(other_NF) - whole)
    return np.asarray(lost / (lost.sum() or 1.0))


def _mean(target_NT: Array) -> Predict:
    mean_T = target_NT.mean(0)
    return lambda features_NF: np.tile(mean_T, (len(features_NF), 1))


def _candidates(seed: int) -> Iterator[Make]:
    """What makes a regression."""
    from sklearn.ensemble import (
        HistGradientBoostingRegressor,
    )  # half a second, which the start of a training does without
    from sklearn.impute import SimpleImputer
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import RidgeCV
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def ridge(width: float) -> Make:
        def make(n: int, features: int) -> Any:
            kernel = Nystroem(gamma=width / features, n_components=min(_CENTRES, n), random_state=seed)
            whole = SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler()
            return make_pipeline(*whole, make_union(FunctionTransformer(), kernel), RidgeCV(np.logspace(-6, 4, 11)))

        return make

    def trees(_n: int, _features: int) -> Any:
        how = {"max_iter": 60, "min_samples_leaf": LEAF, "early_stopping": False}
        return MultiOutputRegressor(HistGradientBoostingRegressor(**how, random_state=seed))

    yield from (ridge(width) for width in _WIDTHS)
    yield trees


def _predictor(make: Make, features_NF: NDArray, target_NT: Array) -> Predict:
    columns = target_NT.shape[1]
    model = make(*features_NF.shape).fit(features_NF, target_NT)
    return lambda features: np.asarray(model.predict(features), np.float64).reshape(-1, columns)


def _in_folds(make: Make | None, features_NF: NDArray, target_NT: Array, object_N: Numbers) -> Array:
    """None: the mean. Few samples of one object are predicted from themselves."""
    fold_N, told_NT = object_N % FOLDS, np.empty_like(target_NT)
    for fold in np.unique(fold_N):
        out = fold_N == fold
        fit = ~out if (~out).any() else out
        own, told = features_NF[fit], target_NT[fit]
        predict = _mean(told) if make is None else _predictor(make, own, told)
        told_NT[out] = predict(features_NF[out])
    return told_NT
