"""Networks by their shapes, by the published ones, and by torch's own layers."""

import pytest
import torch

from hpcauxvae.models.networks import DECODERS, ENCODERS, Conv2d
from hpcauxvae.types import InputError


@pytest.mark.parametrize("shape", [(1, 33, 33), (1, 64, 64), (3, 64, 64), (2, 32, 48)])
@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_networks_have_the_shape_of_the_images(network: str, shape: tuple[int, int, int]) -> None:
    images = torch.rand(2, *shape)
    encoder, decoder = ENCODERS[network](shape, 5, labels=2), DECODERS[network](shape, 5)
    assert encoder(images, torch.rand(2, 2)).shape == (2, 10)
    assert decoder(torch.rand(2, 5)).shape == images.shape
    with torch.no_grad():
        decoder.start_at(images.mean(0), True)
        decoder.output.weight.zero_()
    mean = images.mean(0) if network == "mlp" else images.mean((0, 2, 3))[:, None, None].expand(shape)
    torch.testing.assert_close(decoder(torch.rand(1, 5))[0].sigmoid(), mean, atol=2e-3, rtol=0)


def test_the_encoder_for_64_pixels_is_the_published_one() -> None:
    """Burgess et al. (2018): 32, 32, 64, 64 channels and 256 hidden units."""
    counts = [p.numel() for p in ENCODERS["conv"]((1, 64, 64), 10).parameters()]
    assert counts == [512, 32, 16384, 32, 32768, 64, 65536, 64, 262144, 256, 5120, 20]


@pytest.mark.parametrize("shape", [(1, 20, 20), (1, 33, 64)])
def test_sizes_without_a_decoder_are_named(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="allowed: 33 x 33 and multiples of 16"):
        DECODERS["conv"](shape, 5)


@pytest.mark.parametrize("size", [4, 5, 8])  # to 2 x 2 as a product, to 4 x 4 as torch does it
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_to_few_pixels_is_that_of_torch(size, layout):
    own = Conv2d(3, 5, 4, stride=2, padding=1, dtype=torch.float64)
    theirs = torch.nn.Conv2d(3, 5, 4, stride=2, padding=1, dtype=torch.float64)
    theirs.load_state_dict(own.state_dict())
    images = torch.randn(6, 3, size, size, dtype=torch.float64).to(memory_format=layout)
    leaves = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    for leaf, layer in zip(leaves, (own, theirs), strict=True):
        layer(leaf).pow(3).sum().backward()
    for got, want in zip((*own.parameters(), leaves[0]), (*theirs.parameters(), leaves[1]), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own(images), theirs(images), rtol=1e-12, atol=1e-12)
    assert own(images[:0]).shape == theirs(images[:0]).shape, "a rank may have no part of a batch"
