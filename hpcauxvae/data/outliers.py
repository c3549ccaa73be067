"""What lies so far from the rest that it was hardly measured: hot pixels, and numbers that stand for "no value"."""

import numpy as np

_TIMES = 10.0
"""How many times further out than 99 % of the images a peak may lie."""
_FEWEST = 20
"""Images, of which a single bright source is no wonder."""


def outlying(low_N: np.ndarray, high_N: np.ndarray) -> np.ndarray:
    """Images whose darkest pixel low_N or brightest pixel high_N lies far outside those of the others: (N,) bool.

    Far is more than ten times as far from the median darkest pixel as the 99th percentile of the brightest pixels; the
    same, turned round, holds for dark pixels. So at most 1 % of the images, or a single image of fewer than 200, can
    be far out on either side, and the unit and the zero of the pixels play no part. No image is far out where all peaks
    are alike, or of fewer than 20.
    """

    def beyond(far_N: np.ndarray, near_N: np.ndarray) -> np.ndarray:
        middle = np.median(near_N.astype(np.float64))
        reach = np.quantile(far_N.astype(np.float64), 0.99, method="lower") - middle
        return (reach > 0) & (len(far_N) >= _FEWEST) & (far_N - middle > _TIMES * reach)

    return beyond(high_N, low_N) | beyond(-low_N.astype(np.float64), -high_N.astype(np.float64))
