"""SSIM and MSE of images, and what leaks between the two halves of a code."""

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from hpcauxvae.metrics import Codes, score_codes, score_images
from hpcauxvae.metrics.intervals import Score
from hpcauxvae.metrics.joint import joint
from hpcauxvae.metrics.random_features import random_features
from hpcauxvae.metrics.ssim import image_values, means_of
from hpcauxvae.types import InputError


def stamps(n: int, seed: int) -> NDArray:
    """Round exponential galaxies in counts, with Poisson noise: (n, 1, 33, 33)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-16:17, -16:17]
    sizes = rng.uniform(1, 4, (n, 1, 1))
    return rng.poisson(300 * np.exp(-np.hypot(x, y) / sizes)).astype(np.float32)[:, None]


def test_ssim_is_that_of_scikit_image_on_scaled_counts() -> None:
    a, b = stamps(5, 0), stamps(5, 1)
    result = score_images(a, b, 400.0)
    for i in range(5):
        x, y = a[i, 0].astype(float) / 400, b[i, 0].astype(float) / 400
        assert result.per_image["ssim"][i] == pytest.approx(
            structural_similarity(x, y, data_range=np.ptp(x)), abs=1e-12
        )
        assert result.per_image["ssim_range_1"][i] == pytest.approx(
            structural_similarity(x, y, data_range=1), abs=1e-12
        )
        assert result.per_image["mse"][i] == pytest.approx(np.mean((x - y) ** 2), rel=1e-12)
    assert result.means["ssim"]["value"] == pytest.approx(result.per_image["ssim"].mean())
    assert result.means["ssim"]["n"] == 5


def test_many_images_are_compared_piece_by_piece() -> None:
    a, b = stamps(250, 0), stamps(250, 1)
    got = image_values(a, b, 400.0)
    for i in (0, 119, 120, 121, 249):  # a piece is of 120 images
        x, y = a[i, 0].astype(float), b[i, 0].astype(float)
        assert got["ssim"][i] == pytest.approx(structural_similarity(x, y, data_range=np.ptp(x)), abs=1e-12)
    assert all(np.isfinite(values).all() for values in got.values())
    b[240, 0, 3, 3] = np.inf
    with pytest.raises(InputError, match="number 1240 has NaN or infinite pixels"):
        image_values(a, b, 400.0, first=1000)


def test_missing_pixels_take_no_part() -> None:
    """Each window written out from its known pixels; and what lies in the others changes nothing."""
    rng = np.random.default_rng(6)
    a, b = stamps(3, 0)[..., :12, :11].astype(float), stamps(3, 1)[..., :12, :11].astype(float)
    weights = rng.uniform(0.5, 2, a.shape)
    weights[rng.random(a.shape) < 0.3] = 0
    known, got = weights > 0, image_values(a, b, 400.0, weights=weights)
    for i in range(3):
        x, y, there = a[i, 0] / 400, b[i, 0] / 400, known[i, 0]
        c1, c2, values = (0.01 * np.ptp(x)) ** 2, (0.03 * np.ptp(x)) ** 2, []
        for row, column in zip(*np.nonzero(there[3:-3, 3:-3]), strict=True):
            window = slice(row, row + 7), slice(column, column + 7)
            p, q = x[window][there[window]], y[window][there[window]]
            cov = np.cov(p, q)
            luminance = (2 * p.mean() * q.mean() + c1) / (p.mean() ** 2 + q.mean() ** 2 + c1)
            values.append(luminance * (2 * cov[0, 1] + c2) / (cov[0, 0] + cov[1, 1] + c2))
        assert got["ssim"][i] == pytest.approx(np.mean(values), rel=1e-9)
        assert got["mse"][i] == pytest.approx(np.mean((x - y)[there] ** 2), rel=1e-12)
        assert got["chi2"][i] == pytest.approx(np.mean((weights[i] * (a[i] - b[i]) ** 2)[known[i]]), rel=1e-12)
    b[~known] = 1e4
    for name, values_N in image_values(a, b, 400.0, weights=weights).items():
        np.testing.assert_array_equal(values_N, got[name])
    mask = image_values(a, b, 400.0, weights=known)
    assert "chi2" not in mask
    np.testing.assert_array_equal(mask["ssim"], got["ssim"])
    whole = score_images(a, b, 400.0, 2, np.ones(a.shape))
    np.testing.assert_allclose(whole.per_image["ssim"], score_images(a, b, 400.0).per_image["ssim"], rtol=1e-12)


def test_ssim_from_its_formula() -> None:
    """Wang et al. (2004), written out for one window with sample covariances: images of 7 x 7 pixels."""
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 2, 1, 7, 7))
    expected = []
    for x, y in zip(a, b, strict=True):
        c1, c2 = (0.01 * np.ptp(x)) ** 2, (0.03 * np.ptp(x)) ** 2
        cov = np.cov(x.ravel(), y.ravel())
        luminance = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
        expected.append(luminance * (2 * cov[0, 1] + c2) / (cov[0, 0] + cov[1, 1] + c2))
    assert score_images(a, b, 1.0).per_image["ssim"] == pytest.approx(np.array(expected), abs=1e-12)


def test_channels_share_one_range_and_count_equally() -> None:
    a = np.concatenate([stamps(3, 3), 0.1 * stamps(3, 4)], 1)
    b = np.concatenate([stamps(3, 5), 0.1 * stamps(3, 6)], 1)
    got = score_images(a, b, 400.0).per_image["ssim"]
    for i in range(3):
        pairs = [(a[i, c].astype(float) / 400, b[i, c].astype(float) / 400) for c in range(2)]
        expected = np.mean([structural_similarity(x, y, data_range=np.ptp(a[i]) / 400) for x, y in pairs])
        assert got[i] == pytest.approx(expected, abs=1e-6)


def test_blank_reconstructions_separate_the_two_ranges() -> None:
    """With data range 1 a blank image looks good; with the original's own range it does not."""
    result = score_images(stamps(40, 7), np.zeros((40, 1, 33, 33)), 3000.0)
    assert result.means["ssim_range_1"]["value"] > 0.75
    assert result.means["ssim"]["value"] < 0.5


def test_blank_originals_are_left_out_of_ssim_only() -> None:
    originals = stamps(6, 8)
    originals[2] = 0
    result = score_images(originals, stamps(6, 9), 400.0)
    assert np.flatnonzero(np.isnan(result.per_image["ssim"])).tolist() == [2]
    assert (result.means["ssim"]["n"], result.means["mse"]["n"]) == (5, 6)


@pytest.mark.parametrize("shape", [(6, 7), (1, 100)])
def test_images_smaller_than_the_window_have_no_ssim(shape: tuple[int, int]) -> None:
    """But an MSE, also where they do not vary."""
    a, b = np.ones((3, 2, *shape)), np.full((3, 2, *shape), 3.0)
    a[0, 0, 0, 0] = 5
    result = score_images(a, b, 2.0)
    for name in ("ssim", "ssim_range_1"):
        assert np.isnan(result.per_image[name]).all() and result.means[name]["n"] == 0
        assert np.isnan([result.means[name][end] for end in ("value", "low", "high")]).all()
    assert result.per_image["mse"] == pytest.approx([1, 1, 1])
    assert result.means["mse"]["n"] == 3


@pytest.mark.parametrize(
    ("a", "b", "top", "words"),
    [
        (np.ones((3, 1, 9, 9)), np.ones((3, 1, 9, 8)), 1.0, "shapes"),
        (np.ones((1, 1, 9, 9)), np.ones((1, 1, 9, 9)), 1.0, "at least 2"),
        (np.ones((3, 1, 9, 9)), np.ones((3, 1, 9, 9)), 0.0, "train_max is 0.0"),
        (np.ones((3, 1, 9, 9)), np.full((3, 1, 9, 9), np.nan), 1.0, "number 0 has NaN"),
        (np.ones((3, 1, 9, 9)), np.ones((3, 1, 9, 9)), 1.0, "fewer than 2 originals vary"),
    ],
)
def test_bad_images_are_named(a: NDArray, b: NDArray, top: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        score_images(a, b, top)


def leakage(mean: NDArray, u: NDArray, hidden: NDArray) -> tuple[Score, Score]:
    """Of the one hidden factor into z_aux, and of the first auxiliary factor into the means of z_recon."""
    names = [f"u{j}" for j in range(u.shape[1])]
    codes = Codes(
        mean_NZ=mean, logvar_NZ=np.zeros(mean.shape), aux_ND=u, hidden_NH=hidden,
        aux_names=names, hidden_names=["h"], seed=0,
    )  # fmt: skip
    return score_codes(codes)["leakage"]["hidden_from_aux"]["h"], joint(codes)["u0"]["means"]


@pytest.mark.parametrize("missing", [0, 0.3])
def test_nothing_leaks_from_independent_numbers(missing: float) -> None:
    rng = np.random.default_rng(10)
    u, hidden = rng.random((6000, 2)), rng.random((6000, 1))
    mean = np.c_[u + 0.01 * rng.standard_normal((6000, 2)), rng.standard_normal((6000, 2))]
    u[rng.random(u.shape) < missing] = np.nan
    for score in leakage(mean, u, hidden):
        assert score["value"] == pytest.approx(0, abs=0.05)


def test_leakage_without_correlation_is_found() -> None:
    """A random sign hides the factors from every correlation, but not from the regressor."""
    rng = np.random.default_rng(18)
    u, hidden = rng.random((6000, 1)), rng.random((6000, 1))
    sign = rng.choice([-1, 1], (6000, 1))
    assert abs(np.corrcoef(sign[:, 0] * hidden[:, 0], hidden[:, 0])[0, 1]) < 0.03
    for score in leakage(np.c_[u + 0.01 * sign * hidden, sign * u], u, hidden):
        assert score["value"] > 0.95


def test_what_u_itself_tells_of_a_hidden_factor_is_no_leakage() -> None:
    rng = np.random.default_rng(19)
    u = rng.random((4000, 1))
    hidden = u + 0.1 * rng.standard_normal((4000, 1))
    mean = np.c_[u + 0.01 * rng.standard_normal((4000, 1)), rng.standard_normal((4000, 1))]
    assert leakage(mean, u, hidden)[0]["value"] == pytest.approx(0, abs=0.03)


def test_leakage_of_a_monotone_trace_is_its_explained_variance() -> None:
    """Half and half: a normal number in normal noise, and a uniform number in uniform noise."""
    rng = np.random.default_rng(16)
    n = 8000
    u, hidden = rng.random((n, 1)), rng.standard_normal((n, 1))
    trace = hidden + rng.standard_normal((n, 1))
    mean = np.c_[u + 1e-3 * trace, u + rng.uniform(0, 1, (n, 1))]
    hidden_from_aux, aux_from_residual = leakage(mean, u, hidden)
    assert hidden_from_aux["value"] == pytest.approx(0.5, abs=0.05)
    assert hidden_from_aux["low"] < hidden_from_aux["value"] < hidden_from_aux["high"]
    assert hidden_from_aux["n"] == 4000
    assert aux_from_residual["value"] == pytest.approx(0.5, abs=0.05)


def test_no_residual_latents_no_leakage_into_them() -> None:
    rng = np.random.default_rng(17)
    u = rng.random((100, 2))
    codes = Codes(mean_NZ=u, logvar_NZ=u * 0, aux_ND=u, hidden_NH=u[:, :0], aux_names="ab", hidden_names="", seed=0)
    assert score_codes(codes)["leakage"] == {"hidden_from_aux": {}}
    assert joint(codes) == random_features(codes) == {}


@pytest.mark.filterwarnings("error")
def test_images_without_a_window_have_no_similarity() -> None:
    """All pixels that windows lie about are missing; the others are scored, without a warning."""
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 5, 1, 12, 12))
    known = np.ones(a.shape, bool)
    known[1:3, :, 3:-3, 3:-3] = False
    found = image_values(a, b, 1.0, weights=known)
    assert np.isnan(found["ssim"]).tolist() == [False, True, True, False, False]
    np.testing.assert_allclose(found["ssim"][[0, 3, 4]], image_values(a, b, 1.0)["ssim"][[0, 3, 4]], rtol=1e-12)
    assert means_of([found]).means["ssim"]["n"] == 3
    for left in (0, 1):
        known[left:, :, 3:-3, 3:-3] = False
        few = means_of([image_values(a, b, 1.0, weights=known)]).means
        assert np.isnan(few["ssim"]["value"]) and few["ssim"]["n"] == 0 and few["mse"]["n"] == 5
