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
_SHARE = 0.1
"""Of an axis that is known, by which its score is divided at least."""


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
        centred_NP = rows_NP - mean_P
        square_N, basis_NN = torch.linalg.eigh(centred_NP @ centred_NP.T)  # far cheaper than of P x P, or an SVD
        length_K = square_N.flip(0)[: len(self.spread_K)].clamp(min=0).sqrt()
        found = int((length_K > _LEAST * length_K[0]).sum())
        axes_KP = basis_NN.flip(1)[:, :found].T @ centred_NP / length_K[:found, None]
        self.mean_P.copy_(mean_P)
        self.axes_KP[:found] = axes_KP.to(self.axes_KP)
        self.spread_K[:found] = (length_K[:found] / math.sqrt(len(rows_NP))).to(self.spread_K)

    def read(self, images_BCHW: Tensor, known: Tensor | None = None) -> Tensor:
        """What is added to the means of the latents, (B, Z).

        known: which pixels are not missing, (B, C, H, W). The others tell nothing: a score is that of the known ones,
        by their share of its axis.
        """
        with torch.autocast(images_BCHW.device.type, enabled=False):
            centred_BP = images_BCHW.flatten(1).to(self.weight_ZK.dtype) - self.mean_P
            share_BK: Tensor | float = 1.0
            if known is not None:
                known_BP = known.expand_as(images_BCHW).flatten(1).to(centred_BP.dtype)
                centred_BP = centred_BP * known_BP
                share_BK = (known_BP @ self.axes_KP.square().T).clamp(min=_SHARE)
            return (centred_BP @ self.axes_KP.T / share_BK / self.spread_K) @ self.weight_ZK.T

    def draw(self, z_BZ: Tensor) -> Tensor:
        """What is added to the image, (B, P)."""
        with torch.autocast(z_BZ.device.type, enabled=False):
            return (z_BZ.to(self.weight_ZK.dtype) @ self.weight_ZK * self.spread_K) @ self.axes_KP
