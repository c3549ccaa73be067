"""Encoders and decoders: image -> 2 Z numbers, Z numbers -> image, both on the scale of the likelihood.

Shape legend in types.py. `start_at` sets the biases of the last layer, so that training starts from a fit.
"""

import math
from itertools import pairwise

from torch import Tensor, nn

from hpcauxvae.types import InputError


class ConvEncoder(nn.Module):
    """Encoder of Table 3: four 4x4 convolutions of stride 2, a hidden layer of 256, then mean and log-variance.

    Input (B, C, H, W) with H, W >= 16; output (B, 2 Z). 33 x 33 becomes 16, 8, 4 and 2 pixels wide.
    """

    def __init__(self, image_shape: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 16:
            raise InputError(f"network 'conv': image size {height} x {width}; allowed: at least 16 x 16")
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, 32, 64, 128, 256)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        hidden = nn.Linear(256 * (height // 16) * (width // 16), 256)
        self.features = nn.Sequential(*layers, nn.Flatten(), hidden, nn.ReLU())
        self.output = nn.Linear(256, 2 * latents)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.output(self.features(images_BCHW))

    def start_at(self, logvar_Z: Tensor) -> None:
        """Sets the bias of the log-variances."""
        self.output.bias[len(logvar_Z) :] = logvar_Z


class ConvDecoder(nn.Module):
    """Decoder of Table 3: Z -> 32 x 1 x 1 by a linear layer, then transposed convolutions to 33 x 33.

    1, 2, 4, 8 and 33 pixels wide; the last layer has kernel 5 and stride 4. Output (B, C, 33, 33), no activation.
    """

    def __init__(self, image_shape: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if (height, width) != (33, 33):
            raise InputError(f"network 'conv': image size {height} x {width}; allowed: 33 x 33 (use network 'mlp')")
        layers: list[nn.Module] = [nn.Linear(latents, 32), nn.Unflatten(1, (32, 1, 1)), nn.ReLU()]
        for before, after in pairwise((32, 128, 64, 32)):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.output = nn.ConvTranspose2d(32, channels, 5, stride=4)

    def forward(self, z_BZ: Tensor) -> Tensor:
        return self.output(self.features(z_BZ))

    def start_at(self, mean_CHW: Tensor) -> None:
        """Sets the bias of the output to the mean of each channel."""
        assert self.output.bias is not None
        self.output.bias.copy_(mean_CHW.mean((1, 2)))


class MLPEncoder(nn.Module):
    """(B, C, H, W) of any size -> 512 -> 256 -> 2 Z."""

    def __init__(self, image_shape: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        first = nn.Linear(math.prod(image_shape), 512)
        self.features = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.output = nn.Linear(256, 2 * latents)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.output(self.features(images_BCHW))

    def start_at(self, logvar_Z: Tensor) -> None:
        """Sets the bias of the log-variances."""
        self.output.bias[len(logvar_Z) :] = logvar_Z


class MLPDecoder(nn.Module):
    """Z -> 256 -> 512 -> (B, C, H, W), no activation."""

    def __init__(self, image_shape: tuple[int, int, int], latents: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.features = nn.Sequential(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU())
        self.output = nn.Linear(512, math.prod(image_shape))

    def forward(self, z_BZ: Tensor) -> Tensor:
        return self.output(self.features(z_BZ)).unflatten(1, self.image_shape)

    def start_at(self, mean_CHW: Tensor) -> None:
        """Sets the bias of the output to the mean image."""
        self.output.bias.copy_(mean_CHW.flatten())


ENCODERS: dict[str, type[ConvEncoder] | type[MLPEncoder]] = {"conv": ConvEncoder, "mlp": MLPEncoder}
DECODERS: dict[str, type[ConvDecoder] | type[MLPDecoder]] = {"conv": ConvDecoder, "mlp": MLPDecoder}
