"""Noise of a galaxy, from a stream that is its own.

`with_noise` is numpy's own generator, PCG64(SeedSequence(seed, spawn_key=(1, number))), one stamp at a time.
`with_noise_rows` draws many stamps together for the batch renderer: the same distribution, other numbers, less time.
B stamps, P pixels of one, M pixels of a kind.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaln
from scipy.stats import poisson

_NOISE = 1  # (1, index) is a galaxy's noise among the streams of a seed; (0,) is the design's
_SMALL = 10  # means below this are drawn by tables, the others by rejection
_GRID, _COUNTS = 16, 64  # tables for means a sixteenth apart, of counts 0 .. 63 (more: 1e-30)
_FIRST, _AGAIN, _READ = 0, 1, 2  # parts of a galaxy's stream


def stream_of(seed: int, index: int) -> np.random.Generator:
    """The stream of one galaxy."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_NOISE, index))))


def with_noise(stamp: np.ndarray, sky: float, read_noise: float, stream: np.random.Generator) -> np.ndarray:
    """Counts around expected counts (C, H, W) above the sky, float32.

    Poisson around stamp and sky, pixels below zero counting as zero, less the sky; then Gaussian read noise.
    """
    counts = stream.poisson(np.maximum(stamp + np.float32(sky), 0)).astype(np.float32)
    if sky:
        counts -= np.float32(sky)
    if read_noise:
        counts += stream.normal(0, read_noise, stamp.shape).astype(np.float32)
    return counts


class Streams:
    """Streams of a seed, keyed by the galaxy's number (Philox; Salmon et al. 2011), which are set in a microsecond."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed % 2**64, 0], np.uint64))
        self._state = self._bits.state
        self._generator = np.random.Generator(self._bits)

    def at(self, index: int, part: int) -> np.random.Generator:
        """The beginning of this part of a galaxy's stream; good until the next call."""
        inner = self._state["state"]
        inner["key"][1], inner["counter"][:] = index, (0, 0, 0, part)
        self._bits.state = self._state
        return self._generator


def with_noise_rows(
    stamps: np.ndarray, sky: float, read_noise: float, streams: Streams, numbers: Sequence[int]
) -> np.ndarray:
    """The same for many stamps (B, C, H, W), which have these numbers in their design."""
    means_BP = np.maximum(stamps.reshape(len(stamps), -1).astype(np.float64) + sky, 0)
    counts_BP = (poisson_rows(means_BP, streams, numbers) - sky).astype(np.float32)
    if read_noise:
        for row, number in zip(counts_BP, numbers, strict=True):
            row += streams.at(number, _READ).normal(0, read_noise, row.shape).astype(np.float32)
    return counts_BP.reshape(stamps.shape)


def poisson_rows(means_BP: np.ndarray, streams: Streams, numbers: Sequence[int]) -> np.ndarray:
    """Poisson counts (B, P) of means (B, P) float64, 0 or more, each row from the stream of its galaxy's number."""
    first_BP, second_BP = np.empty_like(means_BP), np.empty_like(means_BP)
    for first_P, second_P, number in zip(first_BP, second_BP, numbers, strict=True):
        stream = streams.at(number, _FIRST)
        stream.random(out=first_P)
        stream.random(out=second_P)
    small_BP = means_BP < _SMALL
    counts_BP = np.empty_like(means_BP)
    for kind, draw in ((small_BP, _by_table), (~small_BP, _by_rejection)):
        pixels_M = np.flatnonzero(kind)
        counts_BP.ravel()[pixels_M] = draw(*(x.take(pixels_M) for x in (means_BP, first_BP, second_BP)))
    for counts_P, means_P, number in zip(counts_BP, means_BP, numbers, strict=True):
        again_M = np.flatnonzero(counts_P < 0)
        counts_P[again_M] = streams.at(number, _AGAIN).poisson(means_P.take(again_M))
    return counts_BP


def _by_table(means_M: np.ndarray, first_M: np.ndarray, second_M: np.ndarray) -> np.ndarray:
    """A Poisson number of the mean below on the grid, by Walker's alias method (1977), and one of the rest."""
    shares, aliases = _alias_tables()
    table_M = (means_M * _GRID).astype(np.int32)
    rest_M = means_M - table_M / _GRID
    place_M = first_M * _COUNTS
    cell_M = place_M.astype(np.int32)
    entry_M = table_M * _COUNTS + cell_M
    counts_M = np.where(place_M - cell_M < shares.take(entry_M), cell_M, aliases.take(entry_M)).astype(np.float64)
    more = np.flatnonzero(second_M >= 1 - rest_M)  # a superset of those where the rest is not 0
    left, mean = second_M[more], rest_M[more]
    term = np.exp(-mean)
    left = left - term
    number = 0
    while (left >= 0).any():
        number += 1
        counts_M[more] += left >= 0
        term = term * mean / number
        left = left - term
    return counts_M


@lru_cache(maxsize=1)
def _alias_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each mean of the grid and each cell: the share of the cell that is its own, and whose the remainder is."""
    shares, aliases = np.ones((_SMALL * _GRID, _COUNTS)), np.tile(np.arange(_COUNTS), (_SMALL * _GRID, 1))
    for row in range(_SMALL * _GRID):
        left = poisson.pmf(np.arange(_COUNTS), row / _GRID)
        left *= _COUNTS / left.sum()
        poor, rich = [list(np.flatnonzero(side)) for side in (left < 1, left >= 1)]
        while poor and rich:
            low, high = poor.pop(), rich[-1]
            shares[row, low], aliases[row, low] = left[low], high
            left[high] -= 1 - left[low]
            if left[high] < 1:
                poor.append(rich.pop())
    return shares.ravel(), aliases.ravel()


def _by_rejection(means_M: np.ndarray, first_M: np.ndarray, second_M: np.ndarray) -> np.ndarray:
    """One round of PTRS (Hoermann 1993); -1 where it rejects."""
    b = 0.931 + 2.53 * np.sqrt(means_M)
    a = -0.059 + 0.02483 * b
    centred = first_M - 0.5
    edge = 0.5 - np.abs(centred)
    counts_M = np.floor((2 * a / edge + b) * centred + means_M + 0.43)
    open_M = np.flatnonzero((edge < 0.07) | (second_M > 0.9277 - 3.6224 / (b - 2)))
    a, b, edge, second, mean, count = (x.take(open_M) for x in (a, b, edge, second_M, means_M, counts_M))
    with np.errstate(divide="ignore", invalid="ignore"):  # log(0) and the logarithm factorial of a negative count
        ratio = np.log(second * (1.1239 + 1.1328 / (b - 3.4)) / (a / edge**2 + b))
        bad = (
            (count < 0)
            | ((edge < 0.013) & (second > edge))
            | (ratio > count * np.log(mean) - mean - gammaln(count + 1))
        )
    counts_M[open_M[bad]] = -1
    return counts_M
