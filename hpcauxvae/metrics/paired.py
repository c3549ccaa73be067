"""Differences of the scores of two codes of the same samples, with intervals of the differences themselves.

What is hard about a set of samples is hard for both codes: a difference is known far better than either score. So the
same groups of samples are left out of both, and both are disturbed by the same noise. Shape suffixes: N samples, D
auxiliary factors.
"""

from collections.abc import Sequence

import numpy as np

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Score, mean_score, ratio_score
from hpcauxvae.metrics.joint import of_residuals
from hpcauxvae.metrics.lds import lds, lds_mean, of_all
from hpcauxvae.metrics.reading import read_beside
from hpcauxvae.metrics.sap import categorical, category_gaps, mean_of, of_others
from hpcauxvae.types import Factor, InputError

_FREE = (-np.inf, np.inf)
SHARE = " / ceiling"
"""Ends the name of a score that is given as a share of its ceiling."""
CEILINGS_APART = 1e-3
"""Ceilings of the LDS that differ by more are told: as many latents, and as many of them off, give the same."""

_SCORE, _SSIM, _RELATIVE = 0.005, 0.001, 0.01
_OF_ITSELF = "error of", "mean error of", "mse", "chi2"


def smallest(name: str, first: Score | None) -> float:
    """The smallest difference of a score that matters, in its unit; `first` is what the first run has.

    What hardly shows in the digits in which it is quoted: .005 of LDS, SAP, r, R^2, accuracy and shares, of two digits
    as in the paper's tables; .001 of SSIM, of three. Errors, MSE and chi2 have a unit, or none that says what is much:
    a hundredth of the first run's. Two trainings that differ by rounding alone differ by less, and consistently.
    """
    if name.startswith(_OF_ITSELF):
        return _RELATIVE * abs(first["value"]) if first is not None else 0.0
    return _SSIM if name == "ssim" else _SCORE


def less(one: Codes, other: Codes) -> dict[str, Score]:
    """`other` less `one`: `lds`, `lds_mean`, where their ceilings differ the same as shares of them, and `sap`.

    Raises InputError unless both are of the same samples and factors, with the same seed.
    """
    check_paired(one, other)
    n, found = len(one.mean_NZ), dict[str, Score]()
    for metric, of in ((lds, "of_samples"), (lds_mean, "of_means")):
        first, second = (of_all(codes, getattr(codes, of)) for codes in (one, other))
        found[metric.__name__] = second.less(first).score(n, _FREE)
        ceiling, its = (metric(codes)["attainable"] for codes in (one, other))
        if abs(ceiling - its) > CEILINGS_APART:
            found[metric.__name__ + SHARE] = second.over(its).less(first.over(ceiling)).score(n, _FREE)
    found["sap"] = _sap(one, other)
    return found


def check_paired(one: Codes, other: Codes) -> None:
    """Raises InputError unless two codes are of the same samples and factors, with the same seed."""
    same = (
        np.array_equal(one.aux_ND, other.aux_ND, equal_nan=True)
        and list(one.aux_names) == list(other.aux_names)
        and one.seed == other.seed
    )
    if not same:
        raise InputError("codes: are of other samples, factors or seeds; allowed: two codes of the same")


def _sap(one: Codes, other: Codes) -> Score:
    discrete_D, n = categorical(one), len(one.mean_NZ)
    parts: list[Score] = []
    if not discrete_D.all():
        score = of_others(other).less(of_others(one)).score(n, _FREE)
        parts += [score] * int(np.count_nonzero(~discrete_D))
    for j in np.flatnonzero(discrete_D):
        first_N, second_N = (category_gaps(codes.live_NZ, codes.aux_ND[:, j]) for codes in (one, other))
        parts.append(mean_score(second_N - first_N))
    return mean_of(parts, n, _FREE)


def readings_less(one: Codes, other: Codes, factors: Sequence[Factor]) -> dict[str, dict[str, Score]]:
    """`r` and `error` of each auxiliary factor (D of them) and its own latent, those of `other` less those of `one`.

    Raises InputError as `less` does.
    """
    check_paired(one, other)
    columns = zip(one.aux_ND.T, one.mean_NZ.T, other.mean_NZ.T, strict=False)
    return {
        factor.name: read_beside(u_N, z_N, other_N, factor)
        for factor, (u_N, z_N, other_N) in zip(factors, columns, strict=True)
    }


def residuals_less(codes: Sequence[Codes]) -> dict[str, tuple[list[Score], list[Score]]]:
    """By the name of a factor the `means` of `joint` of each of these codes, and those less that of the first.

    Raises InputError unless all are of the same samples and factors, with the same seed.
    """
    for other in codes:
        check_paired(codes[0], other)
    found = {}
    for j, name in enumerate(codes[0].aux_names):
        error_CN, spread_CN, object_CN = (
            np.stack(part) for part in zip(*(of_residuals(c, j) for c in codes), strict=True)
        )
        spread_N, object_N = spread_CN[0], object_CN[0]
        values = [ratio_score(spread_N - error_N, spread_N, object_N) for error_N in error_CN]
        found[name] = values, [ratio_score(error_CN[0] - error_N, spread_N, object_N) for error_N in error_CN]
    return found
