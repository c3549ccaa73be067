"""Codes and factors as every metric receives them, and their correlations.

Shape suffixes: N samples, D auxiliary factors, H other factors, F factors, Z latents, S draws of z, G groups, M samples
of a group, P sums.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.intervals import Array, Correlations
from hpcauxvae.metrics.objects import in_order
from hpcauxvae.types import InputError, Kind

DRAWS = 20
"""Draws of z over which a score on sampled z is averaged."""
GROUPS = 100
"""Groups of the jackknife: their sums cost next to nothing, and with so many the covariance of a whole table of
correlations is known."""
FEWEST = 4
"""Samples without which nothing can be scored."""
OFF = 0.1
"""A latent is off whose means vary by less than this share of its posterior's spread, both as standard deviations: they
then tell a hundredth of the variance of z, and what they tell drowns in its noise when an image is drawn from z."""
LEAST_RELIABLE = 1e-3
"""Share of the variance of a label that the true factor has at least, whatever its errors claim."""
ROUNDING = 1e-14
"""Variance, relative to that of the whole column, below which the measured part of a column counts as constant."""
POWERS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1))
"""Exponents (p, q) of the sums of u^p c^q that a correlation of u and c is made of."""


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Posteriors N(mean, exp(logvar)) of N samples beside their factors; rows are put in random order, those of an
    object (objects.py) one after the other.

    Factors are NaN where not measured: each correlation then uses the samples in which its factor is. Raises InputError
    where shapes do not match, a value is not finite, or fewer than 4 samples are there.
    """

    mean_NZ: NDArray
    logvar_NZ: NDArray
    """-inf for a code without noise."""
    aux_ND: NDArray
    """Auxiliary factors, scaled to [0, 1] as the model saw them; column j belongs to latent j."""
    hidden_NH: NDArray
    """Factors that are not auxiliary, in any unit."""
    aux_names: Sequence[str]
    hidden_names: Sequence[str]
    seed: int
    aux_kinds: Sequence[Kind] = ()
    """Of the auxiliary factors, see types.Factor; all continuous where not given. SAP grades a categorical factor by a
    classifier."""
    errors_ND: NDArray | None = None
    """Standard deviations of the auxiliary factors as labels, on their scale, 0 where exact; None: all are exact."""
    object_N: NDArray | None = None
    """Number of the object that each sample shows; every sample shows its own where not given."""

    def __post_init__(self) -> None:
        self._check()
        order = np.random.default_rng(self.seed).permutation(len(self.mean_NZ))
        if self.object_N is not None:
            order = order[in_order(self.object_N[order])]
            object.__setattr__(self, "object_N", self.object_N[order])
        for field in ("mean_NZ", "logvar_NZ", "aux_ND", "hidden_NH", "errors_ND"):
            if getattr(self, field) is None:
                continue
            values = getattr(self, field)[order]
            floating = np.issubdtype(values.dtype, np.floating)
            object.__setattr__(self, field, values if floating else values.astype(np.float64))

    def _check(self) -> None:
        n, latents = self.mean_NZ.shape
        d, hidden = len(self.aux_names), len(self.hidden_names)
        wanted = {"logvar_NZ": (n, latents), "aux_ND": (n, d), "hidden_NH": (n, hidden)}
        if self.errors_ND is not None:
            wanted["errors_ND"] = (n, d)
        for field, shape in wanted.items():
            if getattr(self, field).shape != shape:
                raise InputError(f"codes: {field} has shape {getattr(self, field).shape}, expected {shape}")
        if len(self.aux_kinds) not in (0, d):
            raise InputError(f"codes: {len(self.aux_kinds)} kinds for {d} auxiliary factors; allowed: none, or {d}")
        if self.object_N is not None and self.object_N.shape != (n,):
            raise InputError(f"codes: object_N has shape {self.object_N.shape}, expected {(n,)}")
        if n < FEWEST:
            raise InputError(f"codes: {n} samples, at least {FEWEST} are needed for a score")
        if not 1 <= d <= latents:
            raise InputError(f"codes: {d} auxiliary factors, allowed are 1 to {latents}, the number of latents")
        if not np.isfinite(self.mean_NZ).all():
            raise InputError("codes: mean_NZ has NaN or infinite values, expected finite numbers")
        if np.isnan(self.logvar_NZ).any() or np.isposinf(self.logvar_NZ).any():
            raise InputError("codes: logvar_NZ has NaN or +inf, expected numbers or -inf")
        for names, columns in ((self.aux_names, self.aux_ND), (self.hidden_names, self.hidden_NH)):
            for name, column in zip(names, columns.T, strict=True):
                if np.isinf(column).any():
                    raise InputError(f"codes: factor {name} has infinite values, expected numbers, or NaN if missing")
                measured = np.count_nonzero(~np.isnan(column))
                if measured < FEWEST:
                    raise InputError(f"codes: factor {name} is measured in {measured} samples, not in {FEWEST} or more")

    def objects(self, rows: NDArray) -> NDArray[np.int64]:
        """The object of each of these rows, rising from 0. Where they are fewer than 4, each row counts for itself."""
        if self.object_N is None:
            return np.arange(len(rows))
        number_N = self.object_N[rows]
        number_N = np.cumsum(np.append(False, number_N[1:] != number_N[:-1]))
        return number_N if number_N[-1] + 1 >= FEWEST else np.arange(len(rows))

    @cached_property
    def off_Z(self) -> NDArray[np.bool_]:
        """Which latents are off."""
        return off(self.mean_NZ, self.logvar_NZ)

    @cached_property
    def left_out_Z(self) -> NDArray[np.bool_]:
        """The residual latents that are off: scores of means do without them. Guided latents always count."""
        return self.off_Z & (np.arange(len(self.off_Z)) >= self.aux_ND.shape[1])

    @cached_property
    def live_NZ(self) -> NDArray:
        """Posterior means, 0 in the latents that are left out: correlation knows no scale, and theirs is noise."""
        return np.where(self.left_out_Z, np.zeros((), self.mean_NZ.dtype), self.mean_NZ)

    @cached_property
    def of_means(self) -> Correlations:
        """Of auxiliary factors and posterior means; 0 for the latents that are left out."""
        return correlate(self.aux_ND, [self.live_NZ])

    @cached_property
    def of_factors(self) -> Correlations:
        """Of auxiliary factors with one another."""
        return correlate(self.aux_ND, [self.aux_ND])

    @cached_property
    def reliability_D(self) -> Array:
        """Which share of the variance of each auxiliary factor, as a label, the true factor has."""
        if self.errors_ND is None:
            return np.ones(self.aux_ND.shape[1])
        square_ND = np.where(np.isnan(self.aux_ND), np.nan, np.square(self.errors_ND, dtype=np.float64))
        variance_D = np.nanvar(self.aux_ND, 0, dtype=np.float64)
        share_D = np.nanmean(square_ND, 0) / np.where(variance_D > 0, variance_D, 1)
        return np.clip(1 - share_D, LEAST_RELIABLE, 1)

    @cached_property
    def with_true_factors_DD(self) -> Array:
        """Correlations of auxiliary factors, as labels with errors of their own, with what is true of each."""
        table_DD = self.of_factors.values_SDZ[0].copy()
        np.fill_diagonal(table_DD, np.diag(table_DD) * self.reliability_D)
        return np.asarray(table_DD / np.sqrt(self.reliability_D))

    @cached_property
    def of_samples(self) -> Correlations:
        """Of auxiliary factors and sampled z, for `DRAWS` draws."""
        rng = np.random.default_rng([self.seed, 1])
        deviation_NZ = np.exp(0.5 * self.logvar_NZ, dtype=np.float64)
        noise = (deviation_NZ * rng.standard_normal(self.mean_NZ.shape) for _ in range(DRAWS))
        kind = self.mean_NZ.dtype  # so that a constant mean without noise keeps to the rounding of its own type
        return correlate(self.aux_ND, ((self.mean_NZ + noise_NZ).astype(kind) for noise_NZ in noise))


def off(mean_NZ: NDArray, logvar_NZ: NDArray) -> NDArray[np.bool_]:
    """Which latents (Z,) are off (`OFF`), or constant to the rounding of their type."""
    spread_Z = np.sqrt(np.exp(logvar_NZ, dtype=np.float64).mean(0))
    constant_Z = np.ptp(mean_NZ, 0) <= np.finfo(mean_NZ.dtype).eps * np.abs(mean_NZ).max(0)
    return np.asarray(constant_Z | (mean_NZ.std(0, dtype=np.float64) < OFF * spread_Z))


def correlated(codes: Codes) -> list[dict[str, Any]]:
    """Every two auxiliary factors with their correlation, `factors` and `r`, the largest first."""
    table_DD = codes.of_factors.values_SDZ[0]
    pairs = [
        {"factors": [one, other], "r": float(table_DD[i, i + 1 + j])}
        for i, one in enumerate(codes.aux_names)
        for j, other in enumerate(codes.aux_names[i + 1 :])
    ]
    return sorted(pairs, key=lambda pair: -abs(pair["r"]))


def columns_of(u_N: NDArray, kind: Kind) -> Array:
    """A factor in [0, 1] as columns (N, T) in which equal values are near: cosine and sine of a periodic one."""
    if kind == "periodic":
        return np.stack([np.cos(2 * np.pi * u_N), np.sin(2 * np.pi * u_N)], 1) / 2
    return np.asarray(u_N[:, None], np.float64)


def correlate(factors_NF: NDArray, draws_of_codes_NZ: Iterable[NDArray]) -> Correlations:
    """Pairwise-complete Pearson correlations (F, Z), whole and with each of at most `GROUPS` runs of rows left out.

    Every draw has the same samples; NaN is a missing value. Rows must be in random order. A column that is constant, up
    to the rounding of its own type, has correlation 0.
    """
    size = -(-len(factors_NF) // min(GROUPS, len(factors_NF)))
    of_factors = _powers(factors_NF, size)
    values, replicates = [], []
    for codes_NZ in draws_of_codes_NZ:
        of_codes = _powers(codes_NZ, size)
        sums_PGFZ = [of_factors[p].swapaxes(1, 2) @ of_codes[q] for p, q in POWERS]
        totals_PFZ = [group.sum(0) for group in sums_PGFZ]
        values.append(_correlation(*totals_PFZ))
        others = [total - group for total, group in zip(totals_PFZ, sums_PGFZ, strict=True)]
        replicates.append(_correlation(*others))
    measured = np.count_nonzero(~np.isnan(factors_NF), 0)
    return Correlations(np.stack(values), np.stack(replicates, 1), measured)


def _powers(values_NF: NDArray, size: int) -> list[Array]:
    """x^0, x^1, x^2 of the standardised columns, 0 where not measured, in groups of `size` rows: (G, M, F) each.

    The last group is filled up with 0, as if not measured.
    """
    padding = np.zeros((-len(values_NF) % size, values_NF.shape[1]))
    measured_NF, values_NF = ~np.isnan(values_NF), _standardised(values_NF)
    powers = (measured_NF, values_NF, values_NF**2)
    return [np.concatenate([power, padding]).reshape(-1, size, values_NF.shape[1]) for power in powers]


def _correlation(n: Array, u: Array, uu: Array, c: Array, cc: Array, uc: Array) -> Array:
    """Pearson correlation from the sums of `POWERS`, of columns of about unit variance."""
    n = np.maximum(n, 1)
    var_u, var_c = uu / n - (u / n) ** 2, cc / n - (c / n) ** 2
    varies = (var_u > ROUNDING) & (var_c > ROUNDING)
    scale = np.sqrt(np.where(varies, var_u * var_c, 1))
    return np.where(varies, np.clip((uc / n - u * c / n**2) / scale, -1, 1), 0)


def _standardised(values_NF: NDArray) -> Array:
    """Columns of mean 0 and variance 1 in float64; 0 where NaN, and all 0 where a column does not vary."""
    values_NF = np.where(np.isnan(values_NF).all(0), values_NF.dtype.type(0), values_NF)  # known nowhere
    smallest = np.finfo(values_NF.dtype).eps * np.nanmax(np.abs(values_NF), 0)
    centred = values_NF - np.nanmean(values_NF, 0, dtype=np.float64)
    deviation = np.nanstd(centred, 0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > smallest)
    return np.nan_to_num(centred * scale, copy=False)
