"""Noise of a galaxy, from a stream that is its own: Poisson around stamp and sky, less the sky; Gaussian read noise."""

from collections.abc import Sequence

import numpy as np

_NOISE = 1  # (1, index) is a galaxy's noise among the streams of a seed; (0,) is the design's
_STREAMS = 2**32  # seeds that torch's generator tells apart


def with_noise(stamp: np.ndarray, sky: float, read_noise: float, seed: int, index: int) -> np.ndarray:
    """Counts around expected counts (C, H, W) above the sky, float32; pixels below zero count as zero.

    From numpy's PCG64(SeedSequence(seed, spawn_key=(1, index))).
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_NOISE, index))))
    counts = stream.poisson(np.maximum(stamp + np.float32(sky), 0)).astype(np.float32)
    if sky:
        counts -= np.float32(sky)
    if read_noise:
        counts += stream.normal(0, read_noise, stamp.shape).astype(np.float32)
    return counts


def add_noise_by_torch(stamps: np.ndarray, sky: float, read_noise: float, seed: int, numbers: Sequence[int]) -> None:
    """The same distribution from torch's generator, in place and in two thirds of the time: stamps (B, C, H, W).

    Galaxy i has the stream of the Mersenne twister (CPU) seeded with i plus a hash of `seed`, modulo 2**32.
    """
    import torch

    base = int(np.random.SeedSequence(seed, spawn_key=(_NOISE,)).generate_state(1)[0])
    stream = torch.Generator()
    for stamp, number in zip(torch.from_numpy(stamps), numbers, strict=True):
        stream.manual_seed((base + number) % _STREAMS)
        stamp.copy_(torch.poisson((stamp + sky).clamp_(min=0), stream))
        stamp -= sky
        if read_noise:
            stamp += read_noise * torch.randn(stamp.shape, generator=stream)
