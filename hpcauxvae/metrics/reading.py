"""How each factor is read from the latent that it guides: sign, scale and error, to which LDS is blind.

Shape suffixes: N samples, D auxiliary factors.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.intervals import Array, Score, jackknifed
from hpcauxvae.metrics.true_factor import read_true
from hpcauxvae.types import Factor

NOT_READ = 0.3
"""|r| below which a latent tells less than a tenth of its factor's variance."""


def readings(codes: Codes, factors: Sequence[Factor]) -> dict[str, dict[str, Any]]:
    """`read` of each auxiliary factor (D of them) and the mean of its own latent, by name.

    Of labels with errors, too, what would be read of the `true` factor: see `true_factor.read_true`.
    """
    columns = zip(codes.aux_ND.T, codes.mean_NZ.T, strict=False)
    found = {factor.name: read(u_N, z_N, factor) for factor, (u_N, z_N) in zip(factors, columns, strict=True)}
    for j, factor in enumerate(factors):
        if codes.errors_ND is not None and codes.reliability_D[j] < 1 and "slope" in found[factor.name]:
            columns_of_one = codes.aux_ND[:, j], codes.mean_NZ[:, j], codes.errors_ND[:, j]
            found[factor.name]["true"] = read_true(*columns_of_one, factor)
    return found


def at_a_glance(codes: Codes) -> dict[str, dict[str, float]]:
    """`r` and `slope` (none of a periodic factor) of each factor and the mean of its own latent, without intervals."""
    found: dict[str, dict[str, float]] = {}
    kinds = codes.aux_kinds or ["continuous"] * len(codes.aux_names)
    for j, (name, kind) in enumerate(zip(codes.aux_names, kinds, strict=True)):
        known = ~np.isnan(codes.aux_ND[:, j])
        u_N, z_N = codes.aux_ND[known, j].astype(np.float64), codes.mean_NZ[known, j].astype(np.float64)
        periodic = kind == "periodic"
        found[name] = (
            {"r": directions(u_N, z_N)} if periodic else {"r": correlation(u_N, z_N), "slope": _slope(u_N, z_N)}
        )
    return found


def read(u_N: NDArray, z_N: NDArray, factor: Factor) -> dict[str, Any]:
    """What z_N tells of the factor u_N, both on the scale on which the factor's range is [0, 1]; u is NaN if unknown.

    `r`: signed correlation (of a periodic factor that of directions, Fisher and Lee 1983). `slope`: of z on u; 1 is
    right, and an estimate that is uncertain has r^2. `error`: root of the mean squared difference, in `unit`, which is
    dex (decades) for a factor with a logarithmic range.
    `error_fitted`: the same after the linear fit of u on z, which mends sign, scale and offset. `offset`: the mean
    difference z - u, and `spread` the standard deviation of u, 0 where all values are equal, both in the factor's unit.
    A periodic factor has neither slope nor fit, and its differences go the shorter way round; the error of a
    categorical one is the share of samples for which z is nearer to another class. Rows are in random order.
    """
    known = ~np.isnan(u_N)
    u_N, z_N = u_N[known].astype(np.float64), z_N[known].astype(np.float64)
    width, unit = factor.span
    turns = factor.kind == "periodic"
    found: dict[str, Any] = {
        "unit": unit,
        "offset": jackknifed(
            lambda _, d: width * float(d.mean()), u_N, _differences(u_N, z_N, turns), (-np.inf, np.inf)
        ),
        "spread": width * float(u_N.std()) if np.ptp(u_N) else 0.0,
    }
    if factor.kind == "categorical":
        found["unit"] = "of the samples"
    for name, (statistic, limits) in _judged(factor, u_N).items():
        found[name] = jackknifed(statistic, u_N, z_N, limits)
    return found


def read_beside(u_N: NDArray, z_N: NDArray, other_N: NDArray, factor: Factor) -> dict[str, Score]:
    """What `read` finds in other_N less what it finds in z_N, two latents of the same samples: `r` and `error`.

    The interval is that of the difference: groups of samples are left out of both.
    """
    known = ~np.isnan(u_N)
    u_N, pair_N2 = u_N[known].astype(np.float64), np.stack([z_N, other_N], 1)[known].astype(np.float64)

    def difference(statistic: Callable[[Array, Array], float]) -> Score:
        return jackknifed(lambda u, z: statistic(u, z[:, 1]) - statistic(u, z[:, 0]), u_N, pair_N2, (-np.inf, np.inf))

    return {name: difference(_judged(factor, u_N)[name][0]) for name in ("r", "error")}


def _judged(factor: Factor, u_N: Array) -> dict[str, tuple[Callable[[Array, Array], float], tuple[float, float]]]:
    """The statistics of `read` that have intervals, and the limits of each. u_N: all values of the factor."""
    width = factor.span[0]
    if factor.kind == "periodic":
        return {
            "r": (directions, (-1, 1)),
            "error": (lambda u, z: width * _rms((z - u + 0.5) % 1 - 0.5), (0, np.inf)),
        }
    found = {"r": (correlation, (-1, 1)), "slope": (_slope, (-np.inf, np.inf))}
    if factor.kind == "categorical":
        classes = np.unique(u_N)
        return found | {"error": (lambda u, z: float((nearest(z, classes) != u).mean()), (0, 1))}
    return found | {
        "error": (lambda u, z: width * _rms(z - u), (0, np.inf)),
        "error_fitted": (lambda u, z: width * float(u.std()) * np.sqrt(1 - correlation(u, z) ** 2), (0, np.inf)),
    }


def correlation(u_N: Array, z_N: Array) -> float:
    """Pearson's; 0 where either does not vary."""
    scale = float(u_N.std() * z_N.std()) if np.ptp(u_N) and np.ptp(z_N) else 0.0  # equal numbers have a std by rounding
    return float(np.clip(_covariance(u_N, z_N) / scale, -1, 1)) if scale > 0 else 0.0


def directions(u_N: Array, z_N: Array) -> float:
    """Fisher and Lee's (1983) T-linear correlation of two directions, in turns: 1 for z = u + constant, -1 for -u.

    The sum over all pairs of sin(u_i - u_j) sin(z_i - z_j), over the root of those of the squares.
    """
    a, b, n = 2 * np.pi * u_N, 2 * np.pi * z_N, len(u_N)
    products = (np.cos(a) @ np.cos(b)) * (np.sin(a) @ np.sin(b)) - (np.cos(a) @ np.sin(b)) * (np.sin(a) @ np.cos(b))
    square_a, square_b = (n**2 - np.cos(2 * x).sum() ** 2 - np.sin(2 * x).sum() ** 2 for x in (a, b))
    scale = float(np.sqrt(max(square_a, 0) * max(square_b, 0)))
    return float(np.clip(4 * products / scale, -1, 1)) if scale > 0 else 0.0


def nearest(values_N: Array, classes_K: Array) -> Array:
    """For each value the class (rising numbers) that is next to it."""
    return np.asarray(classes_K[np.searchsorted((classes_K[1:] + classes_K[:-1]) / 2, values_N)])


def _slope(u_N: Array, z_N: Array) -> float:
    return _covariance(u_N, z_N) / float(u_N.var()) if np.ptp(u_N) else 0.0


def _covariance(u_N: Array, z_N: Array) -> float:
    return float(((u_N - u_N.mean()) * (z_N - z_N.mean())).mean())


def _differences(u_N: Array, z_N: Array, turns: bool) -> Array:
    """z - u; of directions, in turns, as near to their mean direction as whole turns bring them."""
    middle = float(np.angle(np.exp(2j * np.pi * (z_N - u_N)).mean())) / (2 * np.pi)
    return middle + (z_N - u_N - middle + 0.5) % 1 - 0.5 if turns else z_N - u_N


def _rms(difference_N: Array) -> float:
    return float(np.sqrt(np.square(difference_N).mean()))
