"""A straight way between images and latents beside a network: linear, over principal components.

Where a few hundred smooth fields are all there is, ten principal components draw them better than a network does, and a
ridge regression reads their factors better. With this way a network begins as they are, and learns what is not linear.
Shape suffixes: B batch, N images, P numbers of an image, K components, Z latents.
"""

import math

import torch
from torch import Tensor, nn

from hpcauxvae.runtime.devices import in_float64

_LEAST = 1e-4
"""Standard deviation of a component, in units of the largest, below which it is none."""


class LinearPath(nn.Module):
    """Adds nothing until it is trained. In the parameters' own precision, also where autocast makes others coarse."""

    mean_P: Tensor
    axes_KP: Tensor
    """Of unit length; 0 where there are fewer."""
    spread_K: Tensor
    """Standard deviations of the images along them."""

    def __init__(self, image_shape: tuple[int, int, int], latents: int) -> None:
        """As many components as latents. image_shape: (C, H, W)."""
        super().__init__()
        numbers = math.prod(image_shape)
        components = min(latents, numbers)
        self.register_buffer("mean_P", torch.zeros(numbers))
        self.register_buffer("axes_KP", torch.zeros(components, numbers))
        self.register_buffer("spread_K", torch.ones(components))
        self.weight_ZK = nn.Parameter(torch.zeros(latents, components))

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Takes the components of these images (N, C, H, W), as the network is given them or gives them."""
        rows_NP = in_float64(images.flatten(1))
        mean_P = rows_NP.mean(0)
        _, spread_N, axes_NP = torch.linalg.svd(rows_NP - mean_P, full_matrices=False)
        found = min(len(self.spread_K), int((spread_N > _LEAST * spread_N[0]).sum()))
        self.mean_P.copy_(mean_P)
        self.axes_KP[:found] = axes_NP[:found].to(self.axes_KP)
        self.spread_K[:found] = (spread_N[:found] / math.sqrt(len(rows_NP))).to(self.spread_K)

    def read(self, images_BCHW: Tensor) -> Tensor:
        """What is added to the means of the latents, (B, Z)."""
        with torch.autocast(images_BCHW.device.type, enabled=False):
            centred_BP = images_BCHW.flatten(1).to(self.weight_ZK.dtype) - self.mean_P
            return (centred_BP @ self.axes_KP.T / self.spread_K) @ self.weight_ZK.T

    def draw(self, z_BZ: Tensor) -> Tensor:
        """What is added to the image, (B, P)."""
        with torch.autocast(z_BZ.device.type, enabled=False):
            return (z_BZ.to(self.weight_ZK.dtype) @ self.weight_ZK * self.spread_K) @ self.axes_KP
