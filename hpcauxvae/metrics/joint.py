"""What the residual latents tell of the auxiliary factors all together, where no single correlation shows it.

Shape suffixes: N samples, D auxiliary factors, R residual latents, T columns of a target, G groups, P functions of the
factors, M random features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes, columns_of
from hpcauxvae.metrics.intervals import Array, Score, correlation_score, ratio_score
from hpcauxvae.metrics.objects import Numbers, mixed

LARGEST = 6000
"""Samples that the trees see at most."""
FOLDS = 3
LEAF = 20
"""Samples in a leaf of a tree, at least."""
FEWEST = -(-2 * LEAF * FOLDS // (FOLDS - 1))
"""Samples without which trees cannot split in every fold, and R^2 is about 0 whatever the latents tell: those that a
fold leaves must fill two leaves."""
TRUSTED = 100
"""Samples from which a table gives R^2 without a warning: with fewer, a tree has two or three leaves."""


def joint(codes: Codes) -> dict[str, dict[str, Any]]:
    """For each auxiliary factor the R^2 of boosted trees that see all residual latents; none without such latents.

    `means`: from posterior means, latents that are off left out. `samples`: from one draw of z. `chance`: the same of
    the factor in another order, a little below 0, because trees fit noise. Each sample is predicted by trees that were
    fitted to other objects (Friedman 2001, as scikit-learn's HistGradientBoostingRegressor). `single`: the residual
    latent whose mean correlates most, counted from 1, and its signed correlation. The intervals hold for the fitted
    trees. A periodic factor is told by cosine and sine, a categorical one by the number of its class.
    """
    d, latents = codes.aux_ND.shape[1], codes.mean_NZ.shape[1]
    if d == latents:
        return {}
    rng = np.random.default_rng([codes.seed, 3])
    mean_NR = codes.mean_NZ[:, d:][:, ~codes.left_out_Z[d:]]
    z_NR = codes.mean_NZ[:, d:] + np.exp(codes.logvar_NZ[:, d:] / 2) * rng.standard_normal((len(mean_NR), latents - d))
    kinds = codes.aux_kinds or ["continuous"] * d
    found = {}
    for j, (name, kind) in enumerate(zip(codes.aux_names, kinds, strict=True)):
        rows = np.flatnonzero(~np.isnan(codes.aux_ND[:, j]))[:LARGEST]
        target_NT = columns_of(codes.aux_ND[rows, j], kind)
        shown_N = codes.objects(rows)
        order = mixed(shown_N, rng)
        found[name] = {
            "means": explained(target_NT, mean_NR[rows], shown_N, codes.seed),
            "samples": explained(target_NT, z_NR[rows], shown_N, codes.seed),
            "chance": explained(target_NT[order], z_NR[rows], shown_N, codes.seed),
            "single": _single(codes, j),
        }
    return found


def of_residuals(codes: Codes, j: int) -> tuple[Array, Array, Numbers]:
    """`errors` of factor j from the means of all residual latents in use, and the object of each sample, (N,) each."""
    d = codes.aux_ND.shape[1]
    rows = np.flatnonzero(~np.isnan(codes.aux_ND[:, j]))[:LARGEST]
    target_NT = columns_of(codes.aux_ND[rows, j], (codes.aux_kinds or ["continuous"] * d)[j])
    shown_N = codes.objects(rows)
    mean_NR = codes.mean_NZ[rows, d:][:, ~codes.left_out_Z[d:]]
    return *errors(target_NT, mean_NR, shown_N, codes.seed), shown_N


def explained(target_NT: Array, features_NF: NDArray, object_N: Numbers, seed: int) -> Score:
    """R^2 of all columns of the target on objects that the trees did not see; 0 where there are no features.

    object_N: numbers from 0, a sample's object in the last row the largest.
    """
    error_N, spread_N = errors(target_NT, features_NF, object_N, seed)
    return ratio_score(spread_N - error_N, spread_N, object_N)


def errors(target_NT: Array, features_NF: NDArray, object_N: Numbers, seed: int) -> tuple[Array, Array]:
    """Squared errors of `explained`, and squares of the target about its mean, of each sample, (N,) both.

    They are equal where there are no features, or too few objects.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # half a second, which training does without

    error_N, spread_N = np.zeros(len(target_NT)), np.square(target_NT - target_NT.mean(0)).sum(1)
    if features_NF.shape[1] == 0 or object_N[-1] + 1 < 2 * FOLDS:
        return spread_N, spread_N
    fold_N = object_N % FOLDS
    for fold in range(FOLDS):
        out = fold_N == fold
        for target_N in target_NT.T:
            trees = HistGradientBoostingRegressor(
                max_iter=60, min_samples_leaf=LEAF, early_stopping=False, random_state=seed
            )
            trees.fit(features_NF[~out], target_N[~out])
            error_N[out] += np.square(target_N[out] - trees.predict(features_NF[out]))
    return error_N, spread_N


def _single(codes: Codes, j: int) -> dict[str, Any]:
    """The residual latent that correlates most with factor j."""
    means, d = codes.of_means, codes.aux_ND.shape[1]
    latent = d + int(np.abs(means.values_SDZ[0, j, d:]).argmax())
    score = correlation_score(lambda table: table[..., j, latent], means, int(means.n_D[j]), (-1, 1), codes.seed)
    return {"latent": latent + 1, "r": score}
