"""The scale of images: the way there and back for counts and for what is none, and pixels beyond its limits."""

import numpy as np
import pytest
import torch

from hpcauxvae.models.likelihoods import ImageScale, PixelRange
from hpcauxvae.types import InputError


@pytest.mark.parametrize("peak", [1.0, 1e-3, 19.0, 1e6])
def test_what_is_not_counted_comes_back_as_it_was(peak: float) -> None:
    scale = ImageScale("anscombe")
    scale.fit(peak, counts=False)
    shares = torch.tensor([0.0, 0.1, 0.5, 1.0])
    back = scale.inverse(scale(shares * peak)) / peak
    torch.testing.assert_close(back, shares, rtol=1e-4, atol=max(1e-6, 1e-7 / peak))


def test_pixels_of_0_and_1_are_no_counts() -> None:
    scale = ImageScale("anscombe")
    scale.fit(1.0, counts=True)
    shares = torch.tensor([0.0, 0.1, 0.5, 1.0])
    torch.testing.assert_close(scale.inverse(scale(shares)), shares, rtol=0, atol=1e-6)


@pytest.mark.parametrize("expected", [2.0, 5.0, 40.0])
def test_counts_come_back_as_their_expected_value(expected: float) -> None:
    """The transform's mean over a million draws, not the transform of the mean, is what a decoder learns."""
    scale = ImageScale("anscombe").double()
    scale.fit(100.0)
    drawn = torch.from_numpy(np.random.default_rng(0).poisson(expected, 1_000_000).astype(float))
    counted = float(scale.inverse(scale(drawn).mean()))
    assert counted == pytest.approx(expected, rel=0.01)
    scale.fit(100.0, counts=False)
    assert float(scale.inverse(scale(drawn).mean())) == pytest.approx(expected - 0.25, abs=0.06), "of counts, biased"


@pytest.mark.parametrize(("dtype", "peak", "allowed"), [(torch.float32, 1e-8, "4.5e-05"), (torch.float64, 1e-14, "8")])
def test_a_peak_without_digits_is_refused(dtype: torch.dtype, peak: float, allowed: str) -> None:
    scale = ImageScale("anscombe").to(dtype)
    with pytest.raises(InputError, match=f"brightest training pixel is {peak:g}, too small.*at least {allowed}"):
        scale.fit(peak, counts=False)
    ImageScale("linear").fit(1e-8)  # has all of them


@pytest.mark.parametrize("kind", ["linear", "range", "anscombe"])
def test_pixels_beyond_the_limits_count_as_these(kind: str) -> None:
    scale = ImageScale(kind)  # type: ignore[arg-type]
    images = torch.tensor([-9999.0, -3.0, 0.0, 50.0, 120.0, 1e8])
    scale.fit(*PixelRange(100.0, -3.0))
    lowest = 0.0 if kind == "anscombe" else -9999.0
    assert scale.clipped(images).tolist() == [lowest, max(lowest, -3.0), 0, 50, 120, 1e8], "nothing but negative counts"
    scale.fit(*PixelRange(100.0, -3.0, lowest=-3.0, highest=100.0))
    lowest = 0.0 if kind == "anscombe" else -3.0
    assert scale.clipped(images).tolist() == [lowest, lowest, 0, 50, 100, 100]
    assert float(scale(images).max()) == pytest.approx(1)


def test_what_was_decided_is_kept() -> None:
    scale, again = ImageScale("anscombe"), ImageScale("anscombe")
    scale.fit(100.0, counts=False, highest=100.0)
    again.load_state_dict(scale.state_dict())
    images = torch.tensor([0.0, 7.0, 1e8])
    assert torch.equal(again(images), scale(images)) and torch.equal(
        again.inverse(scale(images)), scale.inverse(scale(images))
    )
