"""A data set as batches of tensors on a device."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.types import Batch

_ON_DEVICE_BYTES = 4 << 30


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
