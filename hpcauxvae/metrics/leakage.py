"""What the guided latents know of the factors that are not auxiliary, which LDS and SAP do not see.

Shape suffixes: N samples, D auxiliary factors, F features.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Score, ratio_score
from hpcauxvae.metrics.joint import LEAF

LARGEST = 8000
"""Samples used at most; the first half of their objects to fit, the other to test."""
FEWEST = math.ceil(2 * LEAF / (1 - math.exp(-1)))
"""Samples of a half without which most trees cannot split, and the gain is 0 whatever the latents tell: a tree sees
1 - 1/e of them, which must fill two leaves."""


def leakage(codes: Codes) -> dict[str, dict[str, Score]]:
    """`hidden_from_aux`: for each factor that is not auxiliary, R^2 from (u, mean_aux - u) less R^2 from u alone.

    R^2 on the test half of a random forest (Breiman 2001; 100 trees, `LEAF` samples in a leaf or more). Without leakage
    the values lie about 0, to within some hundredths on either side. The intervals hold for the fitted regressor: they
    tell how sure the test half makes us, and not how much a better regressor would find. What the residual latents know
    of the auxiliary factors is in joint.py.
    """
    d = codes.aux_ND.shape[1]
    beyond = np.concatenate([codes.aux_ND, codes.mean_NZ[:, :d] - codes.aux_ND], 1)
    hidden = zip(codes.hidden_names, codes.hidden_NH.T, strict=True)
    return {"hidden_from_aux": {name: _gain(codes, column, beyond) for name, column in hidden}}


def _gain(codes: Codes, target_N: NDArray, features_NF: NDArray) -> Score:
    """R^2 of the target from the features less that from the auxiliary factors."""
    rows = np.flatnonzero(~np.isnan(target_N))[:LARGEST]
    half, shown_N = len(rows) // 2, codes.objects(rows)
    half = int(np.searchsorted(shown_N, shown_N[half])) or half  # no object on both sides
    fit, test = np.split(rows, [half])
    spread = (target_N[test] - target_N[test].mean(dtype=np.float64)) ** 2
    before = _squared_errors(target_N, codes.aux_ND, fit, test, codes.seed)
    after = _squared_errors(target_N, features_NF, fit, test, codes.seed)
    return ratio_score(before - after, spread, shown_N[half:] - shown_N[half])


def _squared_errors(target_N: NDArray, features_NF: NDArray, fit: NDArray, test: NDArray, seed: int) -> Array:
    from sklearn.ensemble import RandomForestRegressor  # half a second, which training does without

    forest = RandomForestRegressor(100, min_samples_leaf=LEAF, max_features=0.5, random_state=seed, n_jobs=1)
    forest.fit(features_NF[fit], target_N[fit])
    return (target_N[test] - forest.predict(features_NF[test])) ** 2
