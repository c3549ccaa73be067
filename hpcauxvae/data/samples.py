"""A data set as batches of tensors on a device, in an order and with noise that no number of processes changes.

Shape legend in types.py; S steps.
"""

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled
from hpcauxvae.runtime.devices import float64_device, free_memory
from hpcauxvae.types import Batch

_BLOCK_BYTES = 4 << 20  # of images fetched at once
_READ_AHEAD = 4  # blocks
_Read: TypeAlias = tuple[Tensor, Tensor | None]
_COORDINATES = 1 << 16  # more than any model has latents


class Samples:
    """A data set as batches on a device: held there whole, or read from its file by a thread that runs ahead."""

    def __init__(self, data: ImageSet, device: torch.device, dtype: torch.dtype, in_memory: bool) -> None:
        """in_memory: whether the device holds all images. Those of a mapped file cost no memory where it does not."""
        self.data, self.device, self.dtype = data, device, dtype
        self.factors = torch.from_numpy(data.scaled()).to(device, dtype)
        errors_NF = data.scaled_errors()
        self.errors = None if errors_NF is None else torch.from_numpy(errors_NF).to(device, dtype)
        self._pinned = free_memory(device) is not None
        self._image_bytes = int(np.prod(data.shape)) * data.images.dtype.itemsize
        self.images: Tensor | None = None
        self.weights: Tensor | None = None
        self._mapped: Tensor | None = None
        if in_memory and isinstance(data.images, Filled):
            held = (np.require(part, requirements="W") for part in data.images.zeroed(slice(None)))
            self.images, self.weights = (torch.from_numpy(part).to(device) for part in held)
        elif in_memory:
            self.images = torch.from_numpy(np.array(data.images[:])).to(device)
        elif isinstance(data.images, np.ndarray):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written
                self._mapped = torch.from_numpy(data.images)

    def batch(self, index_B: Tensor) -> Batch:
        """The samples of these numbers (int64, on the CPU)."""
        return self._batch(index_B, self._read(index_B) if self.images is None else None)

    def stream(self, index_SB: Tensor) -> Iterator[Batch]:
        """The batches of many steps, in their order."""
        size = max(1, _BLOCK_BYTES // max(1, self._image_bytes * index_SB.shape[1]))
        blocks = index_SB.split(size) if len(index_SB) else ()
        if self.images is not None:
            for block in blocks:
                yield from self._steps(block, None)
            return
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            waiting = [reader.submit(self._read, block.flatten()) for block in blocks[:_READ_AHEAD]]
            try:
                for number, block in enumerate(blocks):
                    images = waiting.pop(0).result()
                    if number + _READ_AHEAD < len(blocks):
                        waiting.append(reader.submit(self._read, blocks[number + _READ_AHEAD].flatten()))
                    yield from self._steps(block, images)
            finally:
                reader.shutdown(cancel_futures=True)

    def _steps(self, index_SB: Tensor, read: _Read | None) -> Iterator[Batch]:
        whole = self._batch(index_SB.flatten(), read).each(lambda part: part.unflatten(0, index_SB.shape))
        for step in range(len(index_SB)):  # B may be 0
            yield whole.each(lambda part, step=step: part[step])  # type: ignore[misc]

    def _batch(self, index_B: Tensor, read: _Read | None) -> Batch:
        index_B = index_B.to(self.device, non_blocking=True)
        if read is None:
            assert self.images is not None
            shared = self.weights is not None and len(self.weights) == 1
            read = self.images[index_B], self.weights if self.weights is None or shared else self.weights[index_B]
        images, weights = (part if part is None else self._there(part) for part in read)
        if weights is not None:
            weights = weights.expand(len(index_B), *weights.shape[1:])
        assert images is not None
        errors = None if self.errors is None else self.errors[index_B]
        return Batch(images, self.factors[index_B], index_B, weights, errors)

    def _there(self, part: Tensor) -> Tensor:
        return part.to(self.device, non_blocking=True).to(self.dtype)

    def _read(self, index_B: Tensor) -> _Read:
        """Images and weights from the file, into memory from which an accelerator copies by itself."""
        images, weights = self.data.images, None
        if isinstance(images, Filled):
            found, weights = map(torch.from_numpy, images.zeroed(index_B.numpy()))
        elif self._mapped is not None:
            found = self._mapped.index_select(0, index_B)
        else:
            found = torch.from_numpy(images[index_B.numpy()])
        if not self._pinned:
            return found, weights
        return found.pin_memory(), None if weights is None else weights.pin_memory()


def fits_in_memory(data: ImageSet, device: torch.device, processes_here: int) -> bool:
    """Whether the images take at most half of an accelerator's free memory, or, where it has none of its own, a quarter
    of this machine's for all processes."""
    size = int(np.prod(data.images.shape)) * data.images.dtype.itemsize
    if isinstance(data.images, Filled):
        shared = None if data.nan_is_missing else data.weights  # else each image has its own
        size += 4 * int(np.prod(data.images.shape if shared is None else shared.shape))
    if (free := free_memory(device)) is not None:
        return size <= free // 2
    return size * processes_here <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


def shuffled(index_N: Tensor, *key: int) -> Tensor:
    """The samples in an order that the key decides."""
    return index_N[torch.randperm(len(index_N), generator=torch.Generator().manual_seed(_integer(*key) & (2**63 - 1)))]


def noise(index_B: Tensor, latents: int, dtype: torch.dtype, *key: int) -> Tensor:
    """N(0, 1) for each sample and latent, (..., B, Z), on the device of the sample numbers (..., B).

    A number depends on the key, the sample's number and the latent alone, so that each process makes its own part:
    SplitMix64 (Steele, Lea & Flood 2014) at the counter (sample, latent), then Box and Muller (1958).
    """
    device, index_B = index_B.device, index_B.to(float64_device(index_B.device))
    counter = index_B[..., None] * _COORDINATES + torch.arange(1, latents + 1, device=index_B.device)
    bits = split_mix(_signed(_integer(*key)), counter)
    radius = (-2 * ((_shifted(bits, 32).double() + 0.5) * 2.0**-32).log()).sqrt()
    return (radius * ((bits & 0xFFFFFFFF).double() * (2 * torch.pi * 2.0**-32)).cos()).to(dtype).to(device)


def split_mix(state: int, counter: Tensor) -> Tensor:
    """What SplitMix64 from this state gives as its first, second, ... number; 64 bits, as int64."""
    bits = state + counter * _signed(0x9E3779B97F4A7C15)  # modulo 2^64, as all that follows
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shifted(bits, 31)


def _integer(*key: int) -> int:
    """64 bits for every tuple of numbers, the same on every machine."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _shifted(bits: Tensor, places: int) -> Tensor:
    """To the right, with zeros moving in: torch keeps the sign of its integers."""
    return (bits >> places) & ((1 << (64 - places)) - 1)
