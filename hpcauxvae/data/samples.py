"""A data set as batches of tensors on a device, in an order and with noise that no number of processes changes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.types import Batch

_ON_DEVICE_BYTES = 4 << 30
_COORDINATES = 1 << 16  # more than any model has latents


class Samples:
    """A data set as batches on a device; held there whole where it is small."""

    def __init__(self, data: ImageSet, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.factors = torch.from_numpy(data.scaled()).to(device, dtype)
        self.images: Any = data.images
        if np.prod(data.images.shape) * dtype.itemsize <= _ON_DEVICE_BYTES:
            self.images = torch.from_numpy(np.array(data.images[:])).to(device, dtype)

    def batch(self, index_B: Tensor) -> Batch:
        """The samples of these numbers (int64, on the CPU)."""
        index = index_B.to(self.device)
        if isinstance(self.images, Tensor):
            images = self.images[index]
        else:
            images = torch.from_numpy(self.images[index_B.numpy()]).to(self.device, self.dtype)
        return Batch(images, self.factors[index], index)


def shuffled(index_N: Tensor, *key: int) -> Tensor:
    """The samples in an order that the key decides."""
    return index_N[torch.randperm(len(index_N), generator=torch.Generator().manual_seed(_integer(*key) & (2**63 - 1)))]


def noise(index_B: Tensor, latents: int, dtype: torch.dtype, *key: int) -> Tensor:
    """N(0, 1) for each sample and latent, (..., B, Z), on the device of the sample numbers (..., B).

    A number depends on the key, the sample's number and the latent alone, so that each process makes its own part:
    SplitMix64 (Steele, Lea & Flood 2014) at the counter (sample, latent), then Box and Muller (1958).
    """
    counter = index_B[..., None] * _COORDINATES + torch.arange(1, latents + 1, device=index_B.device)
    bits = _signed(_integer(*key)) + counter * _signed(0x9E3779B97F4A7C15)  # modulo 2^64, as all that follows
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    bits = bits ^ _shifted(bits, 31)
    radius = (-2 * ((_shifted(bits, 32).double() + 0.5) * 2.0**-32).log()).sqrt()
    return (radius * ((bits & 0xFFFFFFFF).double() * (2 * torch.pi * 2.0**-32)).cos()).to(dtype)


def _integer(*key: int) -> int:
    """64 bits for every tuple of numbers, the same on every machine."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, with zeros moving in: torch keeps the sign of its integers."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
