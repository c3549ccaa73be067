"""How much two sets of columns depend on each other, by several measures: a value, its interval, and what chance gives.

A new measure is a file beside this one and a line in `MEASURES`. Shape suffixes: N samples, D factors, R residual
latents, G groups left out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes, columns_of
from hpcauxvae.metrics.dependence.distance import distance
from hpcauxvae.metrics.dependence.hsic import hsic
from hpcauxvae.metrics.dependence.infonce import halves, infonce
from hpcauxvae.metrics.dependence.joint import joint
from hpcauxvae.metrics.dependence.polynomial import polynomial
from hpcauxvae.metrics.dependence.statistic import Measure
from hpcauxvae.metrics.intervals import GROUPS, Array, Score, jackknife_score
from hpcauxvae.metrics.objects import Numbers, in_order, mixed
from hpcauxvae.types import InputError

__all__ = ["MEASURES", "dependence_of_codes", "dependence_scores"]

MEASURES: dict[str, Measure] = {
    "polynomial": Measure(polynomial, squared=True, largest=32_768),
    "joint": Measure(joint, squared=True, largest=32_768),
    "hsic": Measure(hsic, squared=True, largest=32_768),
    "distance": Measure(distance, squared=True, largest=2048),
    "infonce": Measure(infonce, squared=False, largest=32_768),
}
ORDERS = 99
"""Other orders of the objects, which tell what chance gives."""
FEWEST = 2 * GROUPS
"""Objects without which nothing is said."""


def dependence_scores(
    u_ND: NDArray,
    z_NR: NDArray,
    object_N: NDArray | None = None,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    orders: int = ORDERS,
    intervals: bool = True,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """For each measure `value` (a Score), `floor` and `p`: how much the columns of z depend on those of u.

    u_ND: (N, D) factors, NaN where not measured; samples with one are left out. z_NR: (N, R) finite codes. object_N:
    number of the object that each sample shows, None: each its own; objects count as one. The value of `infonce` is in
    nats, that of the others like a correlation, 0 where less was found than sampling adds. Its interval is that of the
    grouped jackknife (intervals=False: value alone). `floor`: what codes that know nothing stay below in 19 of 20
    cases, and `p`: the share of all orders, the true one included, with at least as much; both from `orders` orders of
    the objects. Where u and z are independent, p <= .05 comes in at most one case of 20 (with 19, 39, 59, ... orders in
    just as many), whatever their distributions (Hemerik and Goeman 2018). Raises InputError for arguments that do not
    fit, and for fewer than 40 objects.
    """
    u_ND, z_NR, object_N = _checked(u_ND, z_NR, object_N, measures, orders, seed)
    found: dict[str, dict[str, Any]] = {}
    for name in measures:
        measure = MEASURES[name]
        n = min(len(u_ND), measure.largest)
        statistic = measure.prepare(u_ND[:n], z_NR[:n], object_N[:n], seed)
        own, rng = np.arange(n), np.random.default_rng([seed, 5])
        value = statistic(own, own)
        shuffled = np.array([statistic(own, _other(object_N[:n], rng)) for _ in range(orders)])
        p = float((1 + np.count_nonzero(shuffled >= value)) / (1 + orders))
        floor = float(np.quantile(shuffled, 0.95, method="higher"))
        chance = shuffled.mean() if object_N[n - 1] + 1 < n else 0.0  # several samples of an object agree by themselves
        value, floor = value - chance, floor - chance
        score = Score(value=value, low=np.nan, high=np.nan, n=n)
        if intervals:
            group_N = object_N[:n] * GROUPS // (object_N[n - 1] + 1)
            others = [statistic(kept, kept) for kept in (np.flatnonzero(group_N != g) for g in range(GROUPS))]
            score = jackknife_score(value, np.array(others) - chance, n, (-np.inf, np.inf))
        found[name] = _reported(measure, score, floor, p)
    return found


def dependence_of_codes(codes: Codes, measures: Sequence[str] = tuple(MEASURES)) -> dict[str, dict[str, Any]]:
    """`dependence_scores` of all auxiliary factors and one draw of all residual latents; nothing without such latents,
    or where fewer than 40 objects have all factors. A periodic factor is told by cosine and sine."""
    d, kinds = codes.aux_ND.shape[1], codes.aux_kinds or ["continuous"] * codes.aux_ND.shape[1]
    rows = np.flatnonzero(~np.isnan(codes.aux_ND).any(1))
    if codes.mean_NZ.shape[1] == d or len(rows) == 0 or codes.objects(rows)[-1] + 1 < FEWEST:
        return {}
    u_ND = np.concatenate([columns_of(codes.aux_ND[rows, j], kind) for j, kind in enumerate(kinds)], 1)
    mean_NR, deviation_NR = codes.mean_NZ[rows, d:], np.exp(codes.logvar_NZ[rows, d:] / 2)
    z_NR = mean_NR + deviation_NR * np.random.default_rng([codes.seed, 6]).standard_normal(mean_NR.shape)
    return dependence_scores(u_ND, z_NR, codes.objects(rows), measures=measures, seed=codes.seed)


def _checked(
    u_ND: NDArray, z_NR: NDArray, object_N: NDArray | None, measures: Sequence[str], orders: int, seed: int
) -> tuple[Array, Array, Numbers]:
    """Rows in random order, those of an object together, objects numbered from 0 and the incomplete left out."""
    for name in measures:
        if name not in MEASURES:
            raise InputError(f"measures: {name}; allowed: {', '.join(MEASURES)}")
    if orders < 19:
        raise InputError(f"orders = {orders}; allowed: 19 or more, fewer have no level of .05")
    if u_ND.ndim != 2 or z_NR.ndim != 2 or len(u_ND) != len(z_NR) or 0 in (u_ND.shape[1], z_NR.shape[1]):
        raise InputError(f"u_ND {u_ND.shape} and z_NR {z_NR.shape}; allowed: two tables with as many rows")
    if object_N is not None and np.shape(object_N) != (len(u_ND),):
        raise InputError(f"object_N has shape {np.shape(object_N)}; allowed: {(len(u_ND),)}")
    if not np.isfinite(z_NR).all() or np.isinf(u_ND).any():
        raise InputError("u_ND or z_NR has infinite values, or z_NR NaN; allowed: finite numbers, in u_ND NaN too")
    rows = np.random.default_rng([seed, 4]).permutation(np.flatnonzero(~np.isnan(u_ND).any(1)))
    shown_N = np.arange(len(rows))
    if object_N is not None:
        rows = rows[in_order(np.asarray(object_N)[rows])]
        number_N = np.asarray(object_N)[rows]
        shown_N = np.cumsum(np.append(False, number_N[1:] != number_N[:-1]))[: len(rows)]
    if len(rows) == 0 or shown_N[-1] + 1 < FEWEST:
        objects = 0 if len(rows) == 0 else shown_N[-1] + 1
        raise InputError(f"u_ND has {objects} objects with all factors; allowed: {FEWEST} or more")
    return u_ND[rows].astype(np.float64), z_NR[rows].astype(np.float64), shown_N


def _other(object_N: Numbers, rng: np.random.Generator) -> Numbers:
    """For each row one of another object of its half, in which `infonce` has one critic."""
    half = halves(object_N)
    second = half + mixed(object_N[half:] - object_N[half], rng)
    return np.concatenate([mixed(object_N[:half], rng), second])


def _reported(measure: Measure, score: Score, floor: float, p: float) -> dict[str, Any]:
    if measure.squared:
        value, low, high, floor = (
            float(np.sqrt(max(x, 0))) for x in (score["value"], score["low"], score["high"], floor)
        )
        score = Score(value=value, low=low, high=high, n=score["n"])
    return {"value": score, "floor": floor, "p": p}
