"""What features tell of a target beyond other variables: a test with a level, and a gain with an interval.

Shape suffixes: N samples, F features, U columns of the other variables, T columns of the target.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array, Score, ratio_score
from hpcauxvae.metrics.objects import Numbers
from hpcauxvae.metrics.regression import Predict, fitted, predicted_in_folds


class Part(NamedTuple):
    """Samples that are fitted to, or that are judged."""

    features_NF: NDArray
    others_NU: NDArray
    """NaN where not measured."""
    error_NT: Array
    """The target less what the others predict of it, by a regression that has not seen these samples."""
    object_N: Numbers
    """Samples of equal numbers count as one."""


class Beyond(NamedTuple):
    """What features tell of a target beyond other variables."""

    gain: Score
    """R^2 of the others and what the features add, less R^2 of the others alone."""
    z: float
    """About standard normal, or below, where the target is independent of the features given the others."""
    p: float
    """Of one side."""
    added_NT: Array
    """What the features add to the prediction of each sample that is judged."""
    predict: Predict
    """From features, before what the others tell of it is taken off."""


def beyond(fit: Part, judged: Part, spread_N: Array, seed: int) -> Beyond:
    """Whether features tell of a target what other variables do not: the projected covariance measure.

    Lundborg, Kim, Shah and Samworth (2024), a generalised covariance measure (Shah and Peters 2020) in the direction
    that a regression has found. On `fit` it predicts the errors of the target from the features alone. On `judged` the
    prediction, less its own regression on the others, is multiplied with the errors. Where target and features are
    independent given the others, these products have mean 0, whatever the regression has found: z is their mean over
    its standard error, and p Student's probability of a larger one. The level holds as far as the products of the
    errors of the two regressions on the others are small beside 1 / sqrt(N). Alternatives in which the features tell
    something only together with the others are not looked for.

    spread_N: squares of the target about its mean, of the samples judged. The interval of the gain is that of the
    fitted regressions. Without features, or where these are constant, nothing is gained: z = 0, p = 1.
    Raises ValueError where less than two objects are judged.
    """
    if len(np.unique(judged.object_N)) < 2:
        raise ValueError("all samples that are judged are of one object; allowed: two objects or more")
    predict = fitted(fit.features_NF, fit.error_NT, fit.object_N, seed)
    told_NT = predict(judged.features_NF)
    added_NT = told_NT - predicted_in_folds(judged.others_NU, told_NT, judged.object_N, seed)
    gain = gain_of(added_NT, judged.error_NT, spread_N, judged.object_N)
    product_G = np.bincount(judged.object_N, (judged.error_NT * added_NT).sum(1))
    deviation = float(product_G.std(ddof=1))
    if np.ptp(told_NT, 0).max() == 0 or deviation == 0:
        return Beyond(gain, 0.0, 1.0, added_NT, predict)
    from scipy.special import stdtr  # a fifth of a second, which the start of a training does without

    z = float(product_G.mean()) / deviation * np.sqrt(len(product_G))
    return Beyond(gain, float(z), float(stdtr(len(product_G) - 1, -z)), added_NT, predict)


def gain_of(added_NT: Array, error_NT: Array, spread_N: Array, object_N: Numbers) -> Score:
    """The share of the target's variance by which errors fall where a prediction is added."""
    return ratio_score((np.square(error_NT) - np.square(error_NT - added_NT)).sum(1), spread_N, object_N)


def missed(more_NT: Array, error_NT: Array, spread_N: Array, object_N: Numbers) -> Score:
    """The share of the target's variance that a regression misses and another finds, neither fitted to these samples.

    more_NT: the prediction of the other less that of the one; error_NT: the target less that of the one. The gain where
    the multiple of `more_NT` that fits best is added, so that what the other does worse does not hide what it finds.
    """
    scale = max(0.0, float((more_NT * error_NT).sum() / (np.square(more_NT).sum() or 1.0)))
    return gain_of(scale * more_NT, error_NT, spread_N, object_N)
