"""Networks by their shapes, by the published ones, and by torch's own layers."""

import hashlib
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hpcauxvae.models.networks import Conv2d, ConvTranspose2d, halves
from hpcauxvae.types import InputError

SIZES = [
    (1, 8, 8), (1, 9, 9), (2, 13, 13), (1, 28, 28), (1, 33, 33), (3, 41, 41), (3, 64, 64), (1, 69, 69), (1, 100, 100),
    (1, 152, 152), (1, 37, 49), (5, 24, 40), (2, 32, 48), (1, 8, 512), (1, 1, 8), (1, 1, 100), (1, 1, 1000),
    (1, 1, 8192),
]  # fmt: skip
PUBLISHED = {
    (1, 33, 33): ("174d38dc0b21fb8a", "d15d3d287646c06a"),
    (1, 48, 48): ("146d388b763d96bc", "4e5744e70f776b85"),
    (1, 64, 64): ("1459e4c86f7496b9", "a0fa1970fb496496"),
    (3, 64, 64): ("d5e3b7eeafb9f6c5", "33653b00e806a74f"),
    (2, 32, 48): ("6ce4442b3b57a259", "5677ff3dadad3eb8"),
    (1, 144, 144): ("3770c9bc709f9af2", "5fd810b5db5cd1bd"),
}
"""Names, shapes and initial values of encoder and decoder of `conv`: finished runs are read by these."""
CONVOLUTIONAL = ["conv", "resnet"]


def pair(network: str, shape: tuple[int, int, int], seed: int = 0, **labels: int) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    encoder, decoder = halves(network)
    return encoder(shape, 5, **labels), decoder(shape, 5)


@pytest.mark.parametrize(
    ("network", "shape"),
    [*product(CONVOLUTIONAL, SIZES), ("mlp", (2, 7, 9)), ("mlp", (1, 33, 33)), ("mlp", (3, 1, 40))],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value)),
)
def test_networks_have_the_shape_of_the_images(network: str, shape: tuple[int, int, int]) -> None:
    encoder, decoder = pair(network, shape, labels=2)
    images, z = torch.rand(2, *shape), torch.rand(2, 5)
    with torch.no_grad():
        assert encoder(images, torch.rand(2, 2)).shape == (2, 10)
        drawn = decoder(z)
        assert drawn.shape == images.shape
        decoder.start_at(images.mean(0), False)
        decoder.output.weight.zero_()
        mean = images.mean(0) if network == "mlp" else images.mean((0, 2, 3))[:, None, None].expand(shape)
        torch.testing.assert_close(decoder(z)[1], mean)
        decoder.start_at(images.mean(0), True)
        torch.testing.assert_close(decoder(z)[0].sigmoid(), mean, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 33, 33), (1, 37, 49), (1, 8, 150), (1, 152, 69), (2, 1, 1000)])
@pytest.mark.parametrize("network", CONVOLUTIONAL)
def test_every_pixel_and_every_weight_takes_part(network: str, shape: tuple[int, int, int]) -> None:
    encoder, decoder = pair(network, shape)
    images, z = torch.rand(2, *shape, requires_grad=True), torch.randn(8, 5)
    drawn = decoder(z)
    (encoder(images).square().sum() + drawn.square().sum()).backward()
    for module in (encoder, decoder):
        for name, weights in module.named_parameters():
            assert weights.grad is not None and weights.grad.abs().max() > 0, name
    assert images.grad is not None and images.grad.abs().amax(0).min() > 0, "a pixel is not seen"
    assert drawn.std(0).min() > 0, "a pixel is the same in all images"


@pytest.mark.parametrize("shape", PUBLISHED, ids=lambda shape: "x".join(map(str, shape)))
def test_published_networks_begin_with_the_same_bits(shape: tuple[int, int, int]) -> None:
    def digest(module: nn.Module) -> str:
        found = hashlib.sha256()
        for name, value in module.state_dict().items():
            found.update(f"{name} {tuple(value.shape)}".encode())
            found.update(value.numpy().tobytes())
        return found.hexdigest()[:16]

    encoder, decoder = pair("conv", shape, labels=2)
    assert (digest(encoder), digest(decoder)) == PUBLISHED[shape]


def table_3() -> tuple[nn.Module, nn.Module]:
    """Of 33 x 33 pixels and five latents."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(64, 128, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(128, 256, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10),
    ), nn.Sequential(
        nn.Linear(5, 32), nn.Unflatten(1, (32, 1, 1)), nn.ReLU(),
        nn.ConvTranspose2d(32, 128, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 5, stride=4),
    )  # fmt: skip


def burgess() -> tuple[nn.Module, nn.Module]:
    """Burgess et al. (2018), of 64 x 64 pixels and five latents; with one hidden layer, as Mita et al. (2021)."""
    widths = (1, 32, 32, 64, 64)
    inward: list[nn.Module] = []
    outward = [nn.Linear(5, 256), nn.ReLU(), nn.Linear(256, 1024), nn.Unflatten(1, (64, 4, 4))]
    for before, after in pairwise(widths):
        inward += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    for before, after in pairwise(widths[::-1]):
        outward += [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    hidden = [nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10)]
    return nn.Sequential(*inward, *hidden), nn.Sequential(*outward)


@pytest.mark.parametrize(("side", "published"), [(33, table_3), (64, burgess)])
def test_published_networks_are_those_of_their_papers(side, published) -> None:
    inputs = torch.rand(2, 1, side, side), torch.randn(2, 5)
    for own, theirs, given in zip(pair("conv", (1, side, side)), published(), inputs, strict=True):
        with torch.no_grad():
            for weights, of_own in zip(theirs.parameters(), own.parameters(), strict=True):
                weights.copy_(of_own)
            torch.testing.assert_close(own(given), theirs(given), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 13, 13), (1, 64, 64), (1, 1, 1000)])
@pytest.mark.parametrize("network", CONVOLUTIONAL)
def test_steps_lower_the_error_of_the_images(network: str, shape: tuple[int, int, int]) -> None:
    encoder, decoder = pair(network, shape)
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    errors = []
    for _ in range(6):
        error = (decoder(encoder(images)[:, :5]) - images).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.95 * errors[0]


@pytest.mark.parametrize("shape", [(1, 152, 152), (1, 1, 8192)])
@pytest.mark.parametrize("network", CONVOLUTIONAL)
def test_many_stages_begin_as_awake_as_four(network: str, shape: tuple[int, int, int]) -> None:
    """The codes of different images differ at the start, and so do the images of different codes."""

    def spreads(shape: tuple[int, int, int]) -> tuple[float, float]:
        encoder, decoder = pair(network, shape)
        with torch.no_grad():
            return float(encoder(torch.rand(8, *shape)).std(0).mean()), float(decoder(torch.randn(8, 5)).std(0).mean())

    for found, of_four in zip(spreads(shape), spreads((1, 64, 64)), strict=True):
        assert found > of_four / 4


def test_the_residual_network_costs_three_times_the_plain_one_at_most() -> None:
    def operations(network: str) -> int:
        encoder, decoder = pair(network, (1, 64, 64))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encoder(torch.zeros(1, 1, 64, 64))
            decoder(torch.zeros(1, 5))
        return counter.get_total_flops()

    assert operations("conv") < operations("resnet") <= 3 * operations("conv")


@pytest.mark.parametrize("network", CONVOLUTIONAL)
def test_an_image_is_encoded_alike_in_whatever_batch(network: str) -> None:
    encoder, decoder = (module.double() for module in pair(network, (1, 28, 28)))
    images = torch.rand(4, 1, 28, 28, dtype=torch.float64) * torch.tensor([1, 10, 0.1, 0]).view(4, 1, 1, 1)
    codes = encoder(images)
    torch.testing.assert_close(codes, torch.cat([encoder(image[None]) for image in images]), rtol=1e-10, atol=1e-12)
    drawn = decoder(codes[:, :5])
    torch.testing.assert_close(drawn[3:], decoder(codes[3:, :5]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 7), (7, 64), (4, 100), (513, 33), (1, 7), (1, 8193), (100, 1), (2, 512)])
@pytest.mark.parametrize("network", CONVOLUTIONAL)
def test_sizes_that_are_not_taken_are_named(network: str, size: tuple[int, int]) -> None:
    says = (
        f"network '{network}': image size {size[0]} x {size[1]}; allowed: sides of 8 to 512 pixels, or one row of 8 to "
        "8192 "
    )
    for made in halves(network):
        with pytest.raises(InputError) as raised:
            made((1, *size), 5)
        assert str(raised.value).startswith(says)


@pytest.mark.parametrize(
    ("kernel", "size"),
    [((4, 4), (4, 4)), ((4, 4), (5, 5)), ((4, 4), (8, 8)), ((1, 4), (1, 4)), ((4, 1), (4, 1)), ((1, 4), (1, 9))],
)  # to 2 x 2 as a product, to 4 x 4 as torch does it
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_to_few_pixels_is_that_of_torch(kernel, size, layout):
    stride, padding = ([2 if side > 1 else 1 for side in kernel], [1 if side > 1 else 0 for side in kernel])
    own = Conv2d(3, 5, kernel, stride=stride, padding=padding, dtype=torch.float64)
    theirs = nn.Conv2d(3, 5, kernel, stride=stride, padding=padding, dtype=torch.float64)
    the_same(own, theirs, (6, 3, *size), layout)


@pytest.mark.parametrize(
    ("bands", "size", "kernel", "stride", "padding", "more"),
    [
        (7, (1, 1), 4, 2, 1, 0), (7, (1, 1), 4, 2, 1, 1), (7, (1, 1), 5, 4, 0, 0), (7, (1, 1), 4, 2, 0, 1),
        (7, (1, 1), (1, 4), (1, 2), (0, 1), 0), (2, (2, 3), 4, 2, 0, 1), (1, (3, 2), 4, 2, 1, (0, 1)),
        (1, (8, 8), 5, 4, 0, 0), (2, (1, 5), (1, 4), (1, 2), (0, 1), 0), (7, (2, 2), 4, 2, 1, 0),
    ],
)  # fmt: skip
# of one pixel, and to few bands, as a product; to seven bands as torch does it
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_transposed_convolution_is_that_of_torch(bands, size, kernel, stride, padding, more, layout):
    own, theirs = (
        of(3, bands, kernel, stride, padding, more, dtype=torch.float64) for of in (ConvTranspose2d, nn.ConvTranspose2d)
    )
    the_same(own, theirs, (6, 3, *size), layout)


def the_same(own, theirs, shape, layout):
    theirs.load_state_dict(own.state_dict())
    images = torch.randn(shape, dtype=torch.float64).to(memory_format=layout)
    leaves = [images.clone().requires_grad_(), images.clone().requires_grad_()]
    for leaf, layer in zip(leaves, (own, theirs), strict=True):
        layer(leaf).pow(3).sum().backward()
    for got, want in zip((*own.parameters(), leaves[0]), (*theirs.parameters(), leaves[1]), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own(images), theirs(images), rtol=1e-12, atol=1e-12)
    assert own(images[:0]).shape == theirs(images[:0]).shape, "a rank may have no part of a batch"
