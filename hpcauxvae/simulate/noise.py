"""Noise of a galaxy, from the stream that is its own: numpy's PCG64(SeedSequence(seed, spawn_key=(1, its number))).

`with_noise` is numpy's own generator, one stamp at a time. `poisson_rows` draws many stamps at once, half as long, for
the batch renderer: the same distribution, other numbers. B stamps, P pixels of one, M those of a kind.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import gammaln
from scipy.stats import poisson

_NOISE = 1  # (1, index) is a galaxy's noise among the streams of a seed; (0,) is the design's
_SMALL = 10  # means below this are drawn by tables, the others by rejection
_GRID, _COUNTS = 16, 64  # tables for means a sixteenth apart, of counts 0 .. 63 (more: 1e-30)


def stream_of(seed: int, index: int) -> np.random.Generator:
    """The stream of one galaxy."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_NOISE, index))))


def with_noise(stamp: np.ndarray, sky: float, read_noise: float, stream: np.random.Generator) -> np.ndarray:
    """Counts around expected counts (C, H, W) above the sky, float32.

    Poisson around stamp and sky, pixels below zero counting as zero, less the sky; then Gaussian read noise.
    """
    counts = stream.poisson(np.maximum(stamp + np.float32(sky), 0)).astype(np.float32)
    return _finish(counts, sky, read_noise, [stream])


def with_noise_rows(
    stamps: np.ndarray, sky: float, read_noise: float, streams: Sequence[np.random.Generator]
) -> np.ndarray:
    """The same for many stamps (B, C, H, W), each from its own stream."""
    means_BP = np.maximum(stamps.reshape(len(stamps), -1).astype(np.float64) + sky, 0)
    counts = poisson_rows(means_BP, streams).astype(np.float32).reshape(stamps.shape)
    return _finish(counts, sky, read_noise, streams)


def _finish(counts: np.ndarray, sky: float, read_noise: float, streams: Sequence[np.random.Generator]) -> np.ndarray:
    if sky:
        counts -= np.float32(sky)
    if read_noise:
        rows = counts.reshape(len(streams), -1)
        for row, stream in zip(rows, streams, strict=True):
            row += stream.normal(0, read_noise, row.shape).astype(np.float32)
    return counts


def poisson_rows(means_BP: np.ndarray, streams: Sequence[np.random.Generator]) -> np.ndarray:
    """Poisson counts (B, P) of means (B, P) float64, 0 or more; row i from stream i."""
    uniform_BUP = np.empty((len(means_BP), 2, means_BP.shape[1]))
    for row, stream in zip(uniform_BUP, streams, strict=True):
        stream.random(out=row)
    first_BP, second_BP = uniform_BUP[:, 0], uniform_BUP[:, 1]
    small_BP = means_BP < _SMALL
    counts_BP = np.empty_like(means_BP)
    counts_BP[small_BP] = _by_table(means_BP[small_BP], first_BP[small_BP], second_BP[small_BP])
    large_BP = ~small_BP
    counts_BP[large_BP] = _by_rejection(means_BP[large_BP], first_BP[large_BP], second_BP[large_BP])
    for row, means_P, stream in zip(counts_BP, means_BP, streams, strict=True):
        again_M = np.flatnonzero(row < 0)
        row[again_M] = stream.poisson(means_P[again_M])
    return counts_BP


def _by_table(means_M: np.ndarray, first_M: np.ndarray, second_M: np.ndarray) -> np.ndarray:
    """A Poisson number of the mean below on the grid, by Walker's alias method (1977), and one of the rest."""
    shares, aliases = _alias_tables()
    table_M = (means_M * _GRID).astype(np.int32)
    rest_M = means_M - table_M / _GRID
    place_M = first_M * _COUNTS
    cell_M = place_M.astype(np.int32)
    entry_M = table_M * _COUNTS + cell_M
    counts_M = np.where(place_M - cell_M < shares[entry_M], cell_M, aliases[entry_M]).astype(np.float64)
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
    a, b, edge, second, mean, count = (x[open_M] for x in (a, b, edge, second_M, means_M, counts_M))
    with np.errstate(divide="ignore", invalid="ignore"):  # log(0) and the logarithm factorial of a negative count
        ratio = np.log(second * (1.1239 + 1.1328 / (b - 3.4)) / (a / edge**2 + b))
        bad = (
            (count < 0)
            | ((edge < 0.013) & (second > edge))
            | (ratio > count * np.log(mean) - mean - gammaln(count + 1))
        )
    counts_M[open_M[bad]] = -1
    return counts_M
