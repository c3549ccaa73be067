"""Real-valued fields and images of any sign: standardised pixels, what the encoder sees of them, a fitted variance.

Shape legend in types.py.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcauxvae.models.likelihoods import ImageScale
from hpcauxvae.runtime.devices import in_float64
from hpcauxvae.types import InputError, Reduction

_PIECE = 256
"""Images looked at at once."""
_SEEN = 512
"""Images that tell medians."""
_LEAST_SPREAD = 0.1
"""Of a pixel, in units of its channel's: what hardly varies must not become noise as loud as all else."""
_SOFT = 2.576 / 0.6745
"""Times the median distance from the median: of normal pixels 99 % lie within, and are seen nearly as they are."""
_SOFTEST = 1e-5
"""That point at least, of standardised pixels."""
_LEAST_VARIANCE = 1e-4
"""Of a standardised pixel."""
_MOMENTUM = 0.99
"""Weight of the earlier batches against the present one in the fitted variance."""


class FieldScale(ImageScale):
    """Linear data units <-> standardised pixels: less the mean training image, over the standard deviation.

    What the encoder sees is another thing: their asinh about the median image, which bends where hardly a pixel of a
    normal channel is, so that where few images are a thousand times as bright as most it sees both.
    """

    centre: Tensor
    """(C, H, W), linear data units: the mean training image."""
    spread: Tensor
    """(C, H, W), linear data units: the standard deviation of each pixel, at least a tenth of its channel's."""
    usual: Tensor
    """(C, H, W), standardised: the median image, which is where most images are, whatever the bright ones do."""
    soft: Tensor
    """(C, 1, 1), standardised: where what is seen bends from the pixel to its logarithm."""
    gain: Tensor
    """(C, 1, 1): makes the mean square of what is seen 1."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        """image_shape: (C, H, W)."""
        super().__init__("standard")
        for name in ("centre", "spread", "usual"):
            self.register_buffer(name, torch.ones(image_shape))
        for name in ("soft", "gain"):
            self.register_buffer(name, torch.ones(image_shape[0], 1, 1))

    def fit(
        self,
        brightest: float,
        darkest: float = 0.0,
        counts: bool = True,
        lowest: float = -math.inf,
        highest: float | NDArray[np.float64] = math.inf,
    ) -> None:
        """As ImageScale, for pixels of any sign: `maximum`, the unit of errors, is the pixel farthest from 0.

        Raises InputError where all are the same.
        """
        if not darkest < brightest:
            raise InputError(f"images: every training pixel is {darkest}; allowed: more than one value")
        super().fit(max(brightest, -darkest), lowest=lowest, highest=highest)

    def look(self, images: Tensor) -> None:
        """As ImageScale."""
        total_CHW = torch.stack([in_float64(part).sum(0) for part in self._pieces(images)]).sum(0)
        self.centre.copy_(total_CHW / len(images))
        square = sum((in_float64(part) - in_float64(self.centre)).square().sum(0) for part in self._pieces(images))
        variance_CHW = torch.as_tensor(square) / len(images)
        channel_C11 = variance_CHW.mean((1, 2), keepdim=True).sqrt()
        least_C11 = torch.where(channel_C11 > 0, _LEAST_SPREAD * channel_C11, 1.0)
        self.spread.copy_(variance_CHW.sqrt().maximum(least_C11))
        some = self(images[:_SEEN])
        self.usual.copy_(some.median(0).values)
        for channel, values in enumerate((some - self.usual).transpose(0, 1).flatten(1)):
            if len(varied := values[values != 0]):
                self.soft[channel] = (_SOFT * varied.abs().median()).clamp(min=_SOFTEST)
                self.gain[channel] = (values / self.soft[channel]).asinh().square().mean().rsqrt()

    def _pieces(self, images: Tensor) -> Iterator[Tensor]:
        return (self.clipped(part) for part in images.split(_PIECE))

    def forward(self, images: Tensor) -> Tensor:
        """Linear data units -> standardised pixels, (B, C, H, W)."""
        return (self.clipped(images) - self.centre) / self.spread

    def inverse(self, scaled: Tensor) -> Tensor:
        """Standardised pixels -> linear data units, (B, C, H, W)."""
        return self.centre + scaled * self.spread

    def seen(self, scaled: Tensor) -> Tensor:
        """As ImageScale."""
        return self.gain * ((scaled - self.usual) / self.soft).asinh()


class FittedVariance(nn.Module):
    """The variance of a Gaussian likelihood, one for each pixel, from the errors of earlier batches.

    It begins with that of the images, so that an image has few nats in the first steps, and follows the errors down. A
    forward pass reads `variance` and writes `latest`; `advance` comes between steps. Every rank has the same buffers.
    """

    variance: Tensor
    """(C, H, W), on the scale of the likelihood."""
    latest: Tensor
    """(C, H, W): mean squared error of the last global batch, summed up from its parts."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        """image_shape: (C, H, W)."""
        super().__init__()
        for name in ("variance", "latest"):
            self.register_buffer(name, torch.zeros(image_shape))

    def start(self, error_CHW: Tensor) -> None:
        """With these mean squared errors."""
        self.variance.copy_(error_CHW.clamp(min=_LEAST_VARIANCE))

    def nll(self, target: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """-log N(target; mean, variance) summed over pixels, without its constant: (B, C, H, W) twice -> (B,), nats.

        known: which pixels are not missing, (B, C, H, W) or broadcastable; all if not given.
        """
        nats = (target - mean).square() / self.variance + self.variance.log()
        return (nats if known is None else nats.where(known, 0)).flatten(1).sum(1) / 2

    @staticmethod
    def fitted_nll(error_NP: Tensor) -> float:
        """The mean of `nll` with the variances that fit these errors best, but for what does not depend on them; nats.

        error_NP: of N images, P pixels.
        """
        return float(error_NP.square().mean(0).clamp(min=_LEAST_VARIANCE).log().sum()) / 2

    @torch.no_grad()
    def keep(self, target: Tensor, mean: Tensor, reduction: Reduction, known: Tensor | None = None) -> None:
        """The errors that `advance` will add, of a global batch or a part of it.

        known: as in `nll`; a missing pixel counts as being as far off as the others are.
        """
        square = (target - mean).square()
        error_CHW = (square if known is None else square.where(known, self.variance)).sum(0) / reduction.n
        if reduction.group is not None:
            dist.all_reduce(error_CHW, group=reduction.group)
        self.latest += error_CHW

    @torch.no_grad()
    def advance(self) -> None:
        """Between two steps."""
        moved = _MOMENTUM * self.variance + (1 - _MOMENTUM) * self.latest
        self.variance.copy_(torch.where(self.latest > 0, moved.clamp(min=_LEAST_VARIANCE), self.variance))
        self.latest.zero_()
