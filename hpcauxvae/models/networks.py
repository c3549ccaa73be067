"""Encoders and decoders: image -> 2 Z numbers, Z numbers -> image, both on the scale of the likelihood.

Shape legend in types.py; L labels that an encoder may see beside the image. `start_at` sets the biases of the last
layer, so that training starts from a fit.
"""

import math
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcauxvae.models import NETWORKS
from hpcauxvae.models.linear_path import LinearPath
from hpcauxvae.types import InputError

ImageShape = tuple[int, int, int]
Size = tuple[int, int]
Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d)
LEAST, MOST, LONGEST = 8, 512, 8192
"""Pixels of a side of an image, at least and at most; of one row (a spectrum, a light curve) at most."""
_STAGES, _LAST = 4, 8
"""How often an image is halved at least, if it is not one pixel before; and pixels of a side down to which it is."""
_WIDE, _NARROW, _RESNET = (32, 64, 128, 256), (32, 32, 64, 64), (32, 32, 64, 128)
"""Channels after each stage, the last after all further ones."""
_SMALL_BATCH = 256
_FEW = 5
"""Numbers that are summed for a pixel of all channels, up to which a matrix product and their sums are faster."""
_WORKING_BYTES = 430 << 20
_SMALL_IMAGE = 64 * 64


def images_at_once(image_shape: ImageShape, most: int) -> int:
    """How many images go through an encoder and a decoder without gradients at once: 1 to `most`.

    The widest layers of `conv` and `resnet` hold 8 numbers for each pixel, of one row 16; with what is made on the way,
    24 or 48 beside the image's own. Small images take about half a GB, so that thousands go at once; those of more than
    64 x 64 pixels a quarter of it.
    """
    channels, height, width = image_shape
    allowed = _WORKING_BYTES if height * width <= _SMALL_IMAGE else _WORKING_BYTES // 4
    return max(1, min(most, allowed // (4 * height * width * (channels + (24 if height > 1 else 48)))))


def exactly(layer: nn.Linear | nn.ConvTranspose2d, values: Tensor) -> Tensor:
    """The last layer in its own precision, also where autocast has made the others coarse: codes and pixels must not be
    rounded to the 8 bits of bfloat16."""
    with torch.autocast(values.device.type, enabled=False):
        return layer(values.to(layer.weight.dtype))


class Conv2d(nn.Conv2d):
    """The same convolution, as a matrix product where a CPU makes images of at most 2 x 2 from a small batch: up to
    twice as fast there, and slower for large ones."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), as torch."""
        (tall, wide), (down, along), (top, left) = self.kernel_size, self.stride, map(int, self.padding)
        height = (images_BCHW.shape[2] + 2 * top - tall) // down + 1
        width = (images_BCHW.shape[3] + 2 * left - wide) // along + 1
        if images_BCHW.device.type != "cpu" or max(height, width) > 2 or len(images_BCHW) > _SMALL_BATCH:
            return super().forward(images_BCHW)
        padded_BHWC = functional.pad(images_BCHW.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
        corners = [(y * down, x * along) for y in range(height) for x in range(width)]
        patches = torch.stack([padded_BHWC[:, y : y + tall, x : x + wide].flatten(1) for y, x in corners], 1)
        # Two dimensions: of three, without gradients, torch makes a product for each image, many times as slow.
        out = functional.linear(patches.flatten(0, 1), self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return out.view(len(images_BCHW), height, width, self.out_channels).permute(0, 3, 1, 2)


class ConvTranspose2d(nn.ConvTranspose2d):
    """The same transposed convolution, as a matrix product where that is faster on a CPU: of images of one pixel, and
    where few numbers make a pixel, as in the last layer."""

    def forward(self, images_BCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W), as torch."""
        (tall, wide), (top, left) = self.kernel_size, map(int, self.padding)
        if images_BCHW.device.type != "cpu" or output_size is not None or self.bias is None:
            return super().forward(images_BCHW, output_size)
        sides = zip(images_BCHW.shape[2:], self.kernel_size, self.stride, (top, left), self.output_padding, strict=True)
        height, width = ((side - 1) * step + kernel - 2 * edge + more for side, kernel, step, edge, more in sides)
        if images_BCHW.shape[2:] == (1, 1) and top + height <= tall and left + width <= wide:
            seen = self.weight[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1)
            of_each = functional.linear(images_BCHW.flatten(1), seen.flatten(1).T)
            return (of_each.unflatten(1, seen.shape[1:]) + self.bias.to(of_each)).permute(0, 3, 1, 2)
        if self.out_channels * math.prod(self.kernel_size) > _FEW * math.prod(self.stride):
            return super().forward(images_BCHW)
        of_each = self.weight.flatten(1).T @ images_BCHW.flatten(2)
        padding, stride = (top, left), self.stride
        images = functional.fold(of_each, (height, width), self.kernel_size, padding=padding, stride=stride)
        return images + self.bias.to(images)[:, None, None]


def plain(model: nn.Module) -> None:
    """Gives a model torch's own convolutions: those above ask for the size of the batch, which a graph for batches of
    any size cannot."""
    own: dict[type[nn.Module], type[nn.Module]] = {Conv2d: nn.Conv2d, ConvTranspose2d: nn.ConvTranspose2d}
    for module in model.modules():
        module.__class__ = own.get(type(module), type(module))


class Encoder(nn.Module):
    """`features` of the image (B, M), with the labels appended -> `head` -> 2 Z numbers: mean and log-variance.

    `linear` adds to the means, where there is one; it needs to know which pixels are there.
    """

    def __init__(self, features: nn.Module, head: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.linear: LinearPath | None = None
        self.features, self.head, self.output = features, head, output

    def forward(self, images_BCHW: Tensor, labels_BL: Tensor | None = None, known: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and labels (B, L) where it has them, to means and log-variances, (B, 2 Z)."""
        features_BM = self.features(images_BCHW)
        if labels_BL is not None:
            features_BM = torch.cat([features_BM, labels_BL], 1)
        out = exactly(self.output, self.head(features_BM))
        if self.linear is None:
            return out
        mean_BZ, logvar_BZ = out.chunk(2, 1)
        return torch.cat([mean_BZ + self.linear.read(images_BCHW, known), logvar_BZ], 1)

    def start_at(self, logvar_Z: Tensor) -> None:
        """Sets the bias of the log-variances."""
        self.output.bias[len(logvar_Z) :] = logvar_Z


class Decoder(nn.Module):
    """z (B, Z) -> `features` -> `output`, and what `linear` adds: an image (B, C, H, W) without activation."""

    def __init__(self, features: nn.Module, output: nn.ConvTranspose2d | nn.Linear, image_shape: ImageShape) -> None:
        super().__init__()
        self.linear: LinearPath | None = None
        self.features, self.output, self.image_shape = features, output, image_shape

    def forward(self, z_BZ: Tensor) -> Tensor:
        """(B, Z) to (B, C, H, W)."""
        out = exactly(self.output, self.features(z_BZ)).reshape(-1, *self.image_shape)
        return out if self.linear is None else out + self.linear.draw(z_BZ).view_as(out)

    def start_at(self, mean_CHW: Tensor, sigmoid: bool) -> None:
        """Sets the bias of the output, before a sigmoid or not, to the mean image or to that of each channel."""
        assert self.output.bias is not None
        mean = mean_CHW.flatten() if isinstance(self.output, nn.Linear) else mean_CHW.mean((1, 2))
        self.output.bias.copy_(mean.logit(eps=1e-3) if sigmoid else mean)


def _sizes(network: str, image_shape: ImageShape) -> list[Size]:
    """Of the image and of what each stage makes of it: a side of more than one pixel is halved, rounded down.

    Raises InputError for a size that is not taken.
    """
    _, height, width = image_shape
    is_image = min(height, width) >= LEAST and max(height, width) <= MOST
    if not is_image and not (height == 1 and LEAST <= width <= LONGEST):
        raise InputError(
            f"network {network!r}: image size {height} x {width}; allowed: sides of {LEAST} to {MOST} pixels, or one "
            f"row of {LEAST} to {LONGEST} (network 'mlp': any)"
        )
    sizes = [(height, width)]
    while max(sizes[-1]) > (1 if len(sizes) <= _STAGES else _LAST):
        height, width = sizes[-1]
        sizes.append((max(1, height // 2), max(1, width // 2)))
    return sizes


def _conv_sizes(image_shape: ImageShape) -> list[Size]:
    """As `_sizes`, but multiples of 16 are halved four times however large they are."""
    sizes = _sizes("conv", image_shape)
    return sizes[: 1 + _STAGES] if all(side % 16 == 0 for side in sizes[0]) else sizes


def _stages(sizes: list[Size], channels: int, widths: tuple[int, ...]) -> list[tuple[int, int, Size]]:
    """For each stage, that of the image first: channels before and after it, and the size before it."""
    numbers = (channels, *widths, *widths[-1:] * len(sizes))
    return [*zip(numbers, numbers[1:], sizes[:-1], strict=False)]


def _along(size: Size, of_many: int, of_one: int) -> Size:
    """A number for each side: one where it has many pixels, and another where it has a single one."""
    height, width = (of_many if side > 1 else of_one for side in size)
    return height, width


def _halve(before: int, after: int, size: Size) -> Conv2d:
    """A convolution of 4 x 4 from an image of this size to half of it, rounded down; of one row 1 x 4."""
    return Conv2d(before, after, _along(size, 4, 1), _along(size, 2, 1), _along(size, 1, 0))


def _double(before: int, after: int, size: Size) -> ConvTranspose2d:
    """The way back, to exactly an image of this size."""
    height, width = (side % 2 if side > 1 else 0 for side in size)
    kernel, stride, padding = _along(size, 4, 1), _along(size, 2, 1), _along(size, 1, 0)
    return ConvTranspose2d(before, after, kernel, stride, padding, output_padding=(height, width))


def _kept(layer: Layer, share: float = 1.0) -> Layer:
    """The layer, with a start at which what comes out varies as much as what goes into the ReLU before it, or this
    share of it (He et al. 2015). With torch's own start a fifth is left, and behind nine layers nothing."""
    inputs = layer.in_channels * math.prod(layer.kernel_size)
    if isinstance(layer, nn.ConvTranspose2d):
        inputs //= math.prod(layer.stride)  # so many go into a pixel
    nn.init.normal_(layer.weight, std=share * math.sqrt(2 / inputs))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _encoder(layers: list[nn.Module], numbers: int, latents: int, labels: int) -> Encoder:
    """Of layers that make so many numbers of an image, and a hidden layer of 256."""
    hidden = nn.Linear(numbers + labels, 256)
    return Encoder(nn.Sequential(*layers, nn.Flatten()), nn.Sequential(hidden, nn.ReLU()), nn.Linear(256, 2 * latents))


def _smallest(latents: int, channels: int, size: Size) -> list[nn.Module]:
    """Z -> 256 -> the image of this size with which a decoder begins."""
    first, second = nn.Linear(latents, 256), nn.Linear(256, channels * math.prod(size))
    return [first, nn.ReLU(), second, nn.Unflatten(1, (channels, *size))]


def conv_encoder(image_shape: ImageShape, latents: int, labels: int = 0) -> Encoder:
    """4x4 convolutions of stride 2, four or as many as it takes to no more than 8 pixels, and a hidden layer of 256.

    Of 32, 64, 128 and 256 channels, as in Table 3, and 256 from there on; at 64 x 64 of 32, 32, 64 and 64, as in
    Burgess et al. (2018) and Mita et al. (2021). Raises InputError for a size that is not taken.
    """
    sizes = _conv_sizes(image_shape)
    stages = _stages(sizes, image_shape[0], _NARROW if sizes[0] == (64, 64) else _WIDE)
    layers: list[nn.Module] = []
    for number, (before, after, size) in enumerate(stages):
        layer = _halve(before, after, size)
        layers += [layer if number < _STAGES else _kept(layer), nn.ReLU()]
    return _encoder(layers, stages[-1][1] * math.prod(sizes[-1]), latents, labels)


def conv_decoder(image_shape: ImageShape, latents: int) -> Decoder:
    """The sizes of the encoder from the last to the first, with the channels of that for 64 x 64.

    At 33 x 33 that of Table 3: Z -> 32 x 1 x 1, then 2, 4, 8 and, by kernel 5 and stride 4, 33 pixels.
    """
    sizes, layers = _conv_sizes(image_shape), list[nn.Module]()
    if sizes[0] == (33, 33):
        layers += [nn.Linear(latents, 32), nn.Unflatten(1, (32, 1, 1)), nn.ReLU()]
        for before, after, side in ((32, 128, 2), (128, 64, 4), (64, 32, 8)):
            layers += [_double(before, after, (side, side)), nn.ReLU()]
        return Decoder(nn.Sequential(*layers), ConvTranspose2d(32, image_shape[0], 5, stride=4), image_shape)
    stages = _stages(sizes, image_shape[0], _NARROW)
    layers += _smallest(latents, stages[-1][1], sizes[-1])
    for number, (after, before, size) in reversed([*enumerate(stages)]):
        layer = _double(before, after, size)
        layers += [nn.ReLU(), layer if number < _STAGES else _kept(layer)]
    return Decoder(nn.Sequential(*layers[:-1]), layer, image_shape)


class Residual(nn.Module):
    """x -> x + f(x), f two convolutions of 3 x 3, each of a ReLU (He et al. 2016, "Identity Mappings").

    Nothing is normalised: an image's brightness stays in its code, and the loss is the same for any number of ranks.
    """

    def __init__(self, channels: int, size: Size) -> None:
        """size: of the images; across a side of one pixel nothing is done."""
        super().__init__()
        kernel, padding = _along(size, 3, 1), _along(size, 1, 0)
        first, second = (Conv2d(channels, channels, kernel, padding=padding) for _ in range(2))
        self.change = nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return torch.as_tensor(x_BCHW + self.change(x_BCHW))


def resnet_encoder(image_shape: ImageShape, latents: int, labels: int = 0) -> Encoder:
    """As `conv_encoder`, of 32, 32, 64 and from there on 128 channels, with a residual block after each stage but the
    first, and for multiples of 16 with as many stages as for other sizes."""
    sizes = _sizes("resnet", image_shape)
    stages = _stages(sizes, image_shape[0], _RESNET)
    layers: list[nn.Module] = []
    for number, (before, after, size) in enumerate(stages):
        layers.append(_kept(_halve(before, after, size)))
        if number > 0:
            layers.append(Residual(after, sizes[number + 1]))
        layers.append(nn.ReLU())
    return _encoder(layers, stages[-1][1] * math.prod(sizes[-1]), latents, labels)


def resnet_decoder(image_shape: ImageShape, latents: int) -> Decoder:
    """The mirror image of the encoder. It begins near the image that `start_at` sets."""
    sizes = _sizes("resnet", image_shape)
    stages = _stages(sizes, image_shape[0], _RESNET)
    layers = _smallest(latents, stages[-1][1], sizes[-1])
    for number, (after, before, size) in reversed([*enumerate(stages)]):
        if number > 0:
            layers.append(Residual(before, sizes[number + 1]))
        layer = _kept(_double(before, after, size), 1.0 if number > 0 else 0.1)
        layers += [nn.ReLU(), layer]
    return Decoder(nn.Sequential(*layers[:-1]), layer, image_shape)


def mlp_encoder(image_shape: ImageShape, latents: int, labels: int = 0) -> Encoder:
    """(B, C, H, W) of any size -> 512 -> 256 -> 2 Z."""
    hidden = nn.Sequential(nn.Linear(math.prod(image_shape) + labels, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
    return Encoder(nn.Flatten(), hidden, nn.Linear(256, 2 * latents))


def mlp_decoder(image_shape: ImageShape, latents: int) -> Decoder:
    """Z -> 256 -> 512 -> (B, C, H, W)."""
    hidden = nn.Sequential(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU())
    return Decoder(hidden, nn.Linear(512, math.prod(image_shape)), image_shape)


def halves(network: str) -> tuple[Callable[..., Encoder], Callable[..., Decoder]]:
    """What makes the encoder and the decoder of a network of `NETWORKS`."""
    module, _, name = NETWORKS[network].partition(":")
    found = import_module(module)
    return getattr(found, f"{name}_encoder"), getattr(found, f"{name}_decoder")
