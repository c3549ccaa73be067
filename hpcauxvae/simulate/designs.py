"""Which galaxies a set holds: a design gives row i of n its factor values.

Sobol, uniform and table designs give row i whatever n is, so a set can be extended; the points of a Latin hypercube are
others for another n. N rows, F factors.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import qmc

from hpcauxvae.types import Factor, InputError

_DESIGN = 0  # (0,) is the design's among the streams of a seed; (1, index) are the galaxies'
_SOBOL_BITS = 32  # more, scipy cannot wind forward


def _stream(seed: int) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_DESIGN,)))


def latin_hypercube(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of n: each factor once in each of n strata (McKay, Beckman, Conover 1979)."""
    return qmc.LatinHypercube(dimensions, rng=np.random.Generator(_stream(seed))).random(n)[start:stop]


def sobol(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of the scrambled Sobol sequence of this seed, which has 2**32 points."""
    if stop > 2**_SOBOL_BITS:
        raise InputError(f"--n {n}: allowed with --design sobol is up to {2**_SOBOL_BITS}")
    sequence = qmc.Sobol(dimensions, scramble=True, bits=_SOBOL_BITS, rng=np.random.Generator(_stream(seed)))
    if start:
        sequence.fast_forward(start)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The balance properties of Sobol", category=UserWarning)
        return sequence.random(stop - start)


def uniform(n: int, seed: int, start: int, stop: int, dimensions: int) -> np.ndarray:
    """Rows start to stop of independent uniform draws."""
    stream = _stream(seed)
    stream.advance(start * dimensions)
    return np.random.Generator(stream).random((stop - start, dimensions))


DESIGNS: dict[str, Callable[[int, int, int, int, int], np.ndarray]] = {
    "latin-hypercube": latin_hypercube,
    "sobol": sobol,
    "uniform": uniform,
}
"""(n, seed, start, stop, dimensions) -> (stop - start, dimensions) in [0, 1)."""

FIXED_SIZE = ("latin-hypercube",)
"""Designs whose points are others for every n, so that they can never be extended."""


def rows(design: str, n: int, seed: int, start: int, stop: int, factors: Sequence[Factor]) -> np.ndarray:
    """(stop - start, F) float64 in physical units."""
    unit = DESIGNS[design](n, seed, start, stop, len(factors))
    return np.stack([f.unscale(column) for f, column in zip(factors, unit.T, strict=True)], axis=1)


def check_ranges(values: np.ndarray, factors: Sequence[Factor], source: str) -> None:
    """Raises InputError naming the first row of values (N, F) that lies outside a factor's range, or is NaN."""
    for factor, column in zip(factors, values.T, strict=True):
        good = (column >= factor.low) & (column <= factor.high)
        if not good.all():
            first = int(np.argmin(good))
            raise InputError(
                f"{source}: row {first}: {factor.name} = {column[first]} is outside {factor.low:g} to {factor.high:g} "
                f"{factor.unit}".rstrip()
                + f" ({int((~good).sum())} such rows); --ranges {factor.name}=LOW:HIGH allows more"
            )
