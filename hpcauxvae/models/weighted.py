"""Images with the noise of each pixel: a Gaussian likelihood of that noise, and of an error relative to the image.

Pixels that are missing take no part. Shape legend in types.py.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcauxvae.types import Reduction

_MOMENTUM = 0.99
"""Weight of the earlier batches against the present one in the fitted error."""
_MOST = 1.0
"""Of the square of the relative error."""


class KnownNoise(nn.Module):
    """-log N(x; m, 1/w + e^2 m^2) of pixels x of inverse variance w about what is drawn, m; e is fitted.

    No decoder draws the brightest pixels to a thousandth, as their noise would have it: without e they alone would
    count. e^2 m^2 is taken as it stands, and e from the errors of earlier batches, by weighted least squares of
    (x - m)^2 - 1/w on m^2. All values are standardised, w with them. A forward pass reads `square` and writes `latest`;
    `advance` comes between steps. Buffers are the same on every rank.
    """

    square: Tensor
    """(1,): e^2."""
    most: Tensor
    """(1,): that of the start."""
    past: Tensor
    """(2,): numerator and denominator of e^2 over earlier batches."""
    latest: Tensor
    """(2,): the same of the last global batch, summed up from its parts."""
    usual: Tensor
    """(C, H, W): mean inverse variance over training images, data units to the power of -2."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        """image_shape: (C, H, W)."""
        super().__init__()
        for name, size in (("square", 1), ("most", 1), ("past", 2), ("latest", 2)):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("usual", torch.ones(image_shape))

    @torch.no_grad()
    def start(self, target: Tensor, drawn: Tensor, weights: Tensor, zero: Tensor) -> None:
        """With the relative error that images (B, C, H, W) drawn so would need."""
        self.square.zero_()
        for _ in range(20):
            top, bottom = self._sums(target, drawn, weights, zero)
            self.square.copy_((top / bottom.clamp(min=torch.finfo(bottom.dtype).tiny)).clamp(0, _MOST))
        self.most.copy_(self.square)

    def nll(self, target: Tensor, drawn: Tensor, weights: Tensor, zero: Tensor) -> Tensor:
        """-log N summed over pixels, without its constants: (B, C, H, W) each -> (B,), nats.

        weights: 0 where a pixel is missing. zero: (C, H, W), what is 0 in data units.
        """
        level = self.square * (drawn.detach() - zero).square() * weights
        own = weights / (1 + level)
        return (own * (target - drawn).square() + level.log1p()).flatten(1).sum(1) / 2

    @torch.no_grad()
    def keep(self, target: Tensor, drawn: Tensor, weights: Tensor, zero: Tensor, reduction: Reduction) -> None:
        """The errors that `advance` will add, of a global batch or a part of it."""
        sums = self._sums(target, drawn, weights, zero) / reduction.n
        if reduction.group is not None:
            dist.all_reduce(sums, group=reduction.group)
        self.latest += sums

    def _sums(self, target: Tensor, drawn: Tensor, weights: Tensor, zero: Tensor) -> Tensor:
        """(2,): sums over samples and pixels of m^2 ((x - m)^2 - 1/w) and of m^4, each over its variance squared."""
        brightness = (drawn - zero).square()
        share = 1 / (1 + self.square * brightness * weights)  # of the noise in the variance
        own = weights * share
        top = own * brightness * (own * (target - drawn).square() - share)
        return torch.stack([top.sum(), (own * brightness).square().sum()])

    @torch.no_grad()
    def advance(self) -> None:
        """Between two steps."""
        there = self.latest[1:] > 0
        self.past.copy_(torch.where(there, _MOMENTUM * self.past + (1 - _MOMENTUM) * self.latest, self.past))
        fitted = self.past[:1] / self.past[1:].clamp(min=torch.finfo(self.past.dtype).tiny)
        self.square.copy_(torch.where(there, fitted.clamp(min=0).minimum(self.most), self.square))
        self.latest.zero_()
