"""Encoders and decoders: image -> 2 Z numbers, Z numbers -> image, both on the scale of the likelihood.

Shape legend in types.py; L labels that an encoder may see beside the image. `start_at` sets the biases of the last
layer, so that training starts from a fit.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcauxvae.types import InputError

ImageShape = tuple[int, int, int]
_SMALL_BATCH = 256
_WORKING_BYTES = 430 << 20
_SMALL_IMAGE = 64 * 64


def images_at_once(image_shape: ImageShape, most: int) -> int:
    """How many images go through an encoder and a decoder without gradients at once: 1 to `most`.

    The widest layers of `conv` hold 8 numbers for each pixel; with what is made on the way, 24 beside the image's own.
    Small images take about half a GB, so that thousands go at once; those of more than 64 x 64 pixels a quarter of it.
    """
    channels, height, width = image_shape
    allowed = _WORKING_BYTES if height * width <= _SMALL_IMAGE else _WORKING_BYTES // 4
    return max(1, min(most, allowed // (4 * height * width * (channels + 24))))


def exactly(layer: nn.Linear | nn.ConvTranspose2d, values: Tensor) -> Tensor:
    """The last layer in its own precision, also where autocast has made the others coarse: codes and pixels must not be
    rounded to the 8 bits of bfloat16."""
    with torch.autocast(values.device.type, enabled=False):
        return layer(values.to(layer.weight.dtype))


class Conv2d(nn.Conv2d):
    """The same convolution, as a matrix product where a CPU makes images of at most 2 x 2 from a small batch: twice as
    fast there, and slower for large ones."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        (side,), (stride,), (padding,) = ({*pair} for pair in (self.kernel_size, self.stride, self.padding))
        height, width = ((size + 2 * padding - side) // stride + 1 for size in images_BCHW.shape[2:])
        if images_BCHW.device.type != "cpu" or max(height, width) > 2 or len(images_BCHW) > _SMALL_BATCH:
            return super().forward(images_BCHW)
        patches_BPL = functional.unfold(images_BCHW, side, padding=padding, stride=stride)
        # Two dimensions: of three, without gradients, torch makes a product for each image, many times as slow.
        patches = patches_BPL.transpose(1, 2).flatten(0, 1)
        out_BLO = functional.linear(patches, self.weight.flatten(1), self.bias).unflatten(0, (-1, height * width))
        return out_BLO.transpose(1, 2).unflatten(2, (height, width))


class Encoder(nn.Module):
    """`features` of the image (B, M), with the labels appended -> `head` -> 2 Z numbers: mean and log-variance."""

    def __init__(self, features: nn.Module, head: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.features, self.head, self.output = features, head, output

    def forward(self, images_BCHW: Tensor, labels_BL: Tensor | None = None) -> Tensor:
        features_BM = self.features(images_BCHW)
        if labels_BL is not None:
            features_BM = torch.cat([features_BM, labels_BL], 1)
        return exactly(self.output, self.head(features_BM))

    def start_at(self, logvar_Z: Tensor) -> None:
        """Sets the bias of the log-variances."""
        self.output.bias[len(logvar_Z) :] = logvar_Z


class Decoder(nn.Module):
    """z (B, Z) -> `features` -> `output`, an image (B, C, H, W) without activation."""

    def __init__(self, features: nn.Module, output: nn.ConvTranspose2d | nn.Linear, image_shape: ImageShape) -> None:
        super().__init__()
        self.features, self.output, self.image_shape = features, output, image_shape

    def forward(self, z_BZ: Tensor) -> Tensor:
        return exactly(self.output, self.features(z_BZ)).reshape(-1, *self.image_shape)

    def start_at(self, mean_CHW: Tensor, sigmoid: bool) -> None:
        """Sets the bias of the output, before a sigmoid or not, to the mean image or to that of each channel."""
        assert self.output.bias is not None
        mean = mean_CHW.flatten() if isinstance(self.output, nn.Linear) else mean_CHW.mean((1, 2))
        self.output.bias.copy_(mean.logit(eps=1e-3) if sigmoid else mean)


def conv_encoder(image_shape: ImageShape, latents: int, labels: int = 0) -> Encoder:
    """Four 4x4 convolutions of stride 2, a hidden layer of 256, then mean and log-variance; H, W >= 16.

    Of 32, 64, 128 and 256 channels, as in Table 3; at 64 x 64 of 32, 32, 64 and 64, as in Burgess et al. (2018) and
    Mita et al. (2021).
    """
    channels, height, width = image_shape
    if min(height, width) < 16:
        raise InputError(f"network 'conv': image size {height} x {width}; allowed: at least 16 x 16")
    widths = (32, 32, 64, 64) if (height, width) == (64, 64) else (32, 64, 128, 256)
    layers: list[nn.Module] = []
    for before, after in pairwise((channels, *widths)):
        layers += [Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    hidden = nn.Linear(widths[-1] * (height // 16) * (width // 16) + labels, 256)
    return Encoder(nn.Sequential(*layers, nn.Flatten()), nn.Sequential(hidden, nn.ReLU()), nn.Linear(256, 2 * latents))


def conv_decoder(image_shape: ImageShape, latents: int) -> Decoder:
    """At 33 x 33 that of Table 3: Z -> 32 x 1 x 1, then 2, 4, 8 and, by kernel 5 and stride 4, 33 pixels.

    At other sizes, multiples of 16, the mirror image of the encoder for 64 x 64.
    """
    channels, height, width = image_shape
    layers: list[nn.Module]
    if (height, width) == (33, 33):
        widths, kernel, stride, padding = (32, 128, 64, 32), 5, 4, 0
        layers = [nn.Linear(latents, 32), nn.Unflatten(1, (32, 1, 1)), nn.ReLU()]
    elif height % 16 == width % 16 == 0:
        widths, kernel, stride, padding = (64, 64, 32, 32), 4, 2, 1
        rows, columns = height // 16, width // 16
        layers = [nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 64 * rows * columns)]
        layers += [nn.Unflatten(1, (64, rows, columns)), nn.ReLU()]
    else:
        allowed = "33 x 33 and multiples of 16 (use network 'mlp')"
        raise InputError(f"network 'conv': image size {height} x {width}; allowed: {allowed}")
    for before, after in pairwise(widths):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    features = nn.Sequential(*layers)
    return Decoder(features, nn.ConvTranspose2d(32, channels, kernel, stride, padding), image_shape)


def mlp_encoder(image_shape: ImageShape, latents: int, labels: int = 0) -> Encoder:
    """(B, C, H, W) of any size -> 512 -> 256 -> 2 Z."""
    hidden = nn.Sequential(nn.Linear(math.prod(image_shape) + labels, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
    return Encoder(nn.Flatten(), hidden, nn.Linear(256, 2 * latents))


def mlp_decoder(image_shape: ImageShape, latents: int) -> Decoder:
    """Z -> 256 -> 512 -> (B, C, H, W)."""
    hidden = nn.Sequential(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU())
    return Decoder(hidden, nn.Linear(512, math.prod(image_shape)), image_shape)


ENCODERS: dict[str, Callable[..., Encoder]] = {"conv": conv_encoder, "mlp": mlp_encoder}
DECODERS: dict[str, Callable[..., Decoder]] = {"conv": conv_decoder, "mlp": mlp_decoder}
