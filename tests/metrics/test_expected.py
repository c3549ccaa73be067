"""What each score is for the true factors, for a code turned by 45 degrees, and for a code that knows nothing.

`pytest -s tests/metrics/test_expected.py` prints the table of docs/metrics.md: the mean over draws of factors and
codes. The expected values are closed forms, or of numbers drawn from a known distribution.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics import METRICS, score_images
from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.dci import dci
from hpcauxvae.metrics.information import BINS
from hpcauxvae.metrics.intervals import mean_score
from hpcauxvae.metrics.sap import category_gap

N = 2000
DRAWS = 20
FEW = {"dci": 3, "leakage": 3, "factor_vae": 3, "beta_vae": 3}
"""Draws of the scores that take their time."""
LATENTS = 4
"""Two for the two factors, and two of independent normal numbers."""
CHANCE = np.sqrt(2 / (np.pi * N))
"""Mean |corr| of independent columns."""


def codes_of(kind: str, u: NDArray, rng: np.random.Generator) -> NDArray:
    noise = rng.standard_normal((len(u), LATENTS))
    match kind:
        case "true":
            return np.c_[u, noise[:, 2:]]
        case "rotated":
            return np.c_[u[:, 0] + u[:, 1], u[:, 0] - u[:, 1], noise[:, 2:]]
    return noise


def flat(block: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """metrics.json's tree to one number a name; of the factors the first."""
    if "value" in block:
        return {prefix: block["value"]}
    return {name: value for key, part in block.items() for name, value in flat(part, f"{prefix} {key}".strip()).items()}


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for kind in ("true", "rotated", "random"):
        draws: dict[str, list[float]] = {}
        for seed in range(DRAWS):
            rng = np.random.default_rng([seed, 3])
            u, hidden = rng.random((N, 2)), rng.random((N, 1))
            mean = codes_of(kind, u, rng)
            codes = Codes(
                mean_NZ=mean, logvar_NZ=np.full_like(mean, -np.inf), aux_ND=u, hidden_NH=hidden,
                aux_names=["u", "v"], hidden_names=["h"], seed=seed,
            )  # fmt: skip
            for name in [name for name in METRICS if seed < FEW.get(name, DRAWS)]:
                for key, value in flat({name: METRICS[name](codes)}).items():
                    draws.setdefault(key, []).append(value)
        found[kind] = {name: float(np.mean(values)) for name, values in draws.items()}
    print(f"\n| score | {' | '.join(found)} |\n|---|---|---|---|")
    for name in sorted(found["true"]):
        print(f"| {name} | {' | '.join(f'{found[kind][name]:.3f}' for kind in found)} |")
    return found


def halves(columns: int, power: int) -> NDArray:
    """|N(0, 1)|^power in `columns` columns, largest last."""
    drawn = np.abs(np.random.default_rng(0).standard_normal((200_000, columns))) ** power
    return np.sort(drawn, 1)


def informations() -> NDArray:
    """Information of two factors in a latent that knows neither, up to a factor: chi-square of (BINS - 1)^2 degrees."""
    return np.sort(np.random.default_rng(0).chisquare((BINS - 1) ** 2, (200_000, 2)), 1)


def expected() -> dict[str, tuple[float, float, float, float]]:
    """True, rotated, random, tolerance."""
    r, gap = np.sqrt(0.5), halves(LATENTS, 2)
    of_four, of_two = (h[:, -1] / h.sum(1) for h in (halves(LATENTS, 1), halves(2, 1)))
    lds = (1 / (1 + 3 * CHANCE), r / (2 * r + 2 * CHANCE), of_four.mean(), 0.04)
    lds_d = (1 / (1 + CHANCE), 0.5, of_two.mean(), 0.04)
    unsure = (1 - (np.divide(*informations().T)) ** 2).mean()
    scores = {"lds": lds, "lds_mean": lds, "lds_d": lds_d, "lds_d_mean": lds_d}
    scores |= {
        "sap": (1 - 3 / N, 0, (gap[:, -1] - gap[:, -2]).mean() / N, 0.03),
        "mig": (1 - (BINS - 1) ** 2 / (2 * N) / np.log(BINS), 0, 0, 0.03),
        "modularity": ((1 + unsure) / 2, unsure / 2, unsure, 0.06),
        "dci disentanglement": (1, 0, 0, 0.08),
        "dci completeness": (1, 0.5, 0, 0.08),
        "dci informativeness": (1, 1, 0, 0.1),
        "factor_vae": (1, 0.5, 0.5, 0.12),
        "beta_vae": (1, 0.5, 0.5, 0.12),
        "leakage hidden_from_aux h": (0, 0, 0, 0.06),
    }
    return scores


@pytest.mark.slow
def test_every_score_of_codes_has_an_expected_value(scores: dict[str, dict[str, float]]) -> None:
    assert set(expected()) == set(scores["true"])


@pytest.mark.slow
@pytest.mark.parametrize("name", expected())
def test_scores_are_what_they_should_be(scores: dict[str, dict[str, float]], name: str) -> None:
    *values, tolerance = expected()[name]
    got = [scores[kind][name] for kind in ("true", "rotated", "random")]
    assert got == pytest.approx(values, abs=tolerance)


def test_a_random_codes_sap_is_four_over_pi_n() -> None:
    """Two latents: E|x^2 - y^2| = 2 E|a| E|b| = 4 / pi, of standard normal x, y, a, b."""
    gap = halves(2, 2)
    assert (gap[:, 1] - gap[:, 0]).mean() == pytest.approx(4 / np.pi, rel=0.02)


def test_sap_of_categories() -> None:
    """Two factors of four classes: a perfect code has 1 less chance, a rotated one no gap, a random one neither."""
    found = []
    for kind in ("true", "rotated", "random"):
        rng = np.random.default_rng([1, 3])
        u = rng.integers(0, 4, (N, 2)) / 3
        mean = codes_of(kind, u, rng)
        nothing = np.full_like(mean, -np.inf)
        codes = Codes(
            mean_NZ=mean, logvar_NZ=nothing, aux_ND=u, hidden_NH=u[:, :0], aux_names=["u", "v"], hidden_names=[],
            seed=0, aux_kinds=["categorical", "categorical"],
        )  # fmt: skip
        found.append(METRICS["sap"](codes)["value"])
    print("\n| sap, categorical | " + " | ".join(f"{value:.3f}" for value in found) + " |")
    assert found == pytest.approx([1 - 1 / 4, 0, 0], abs=0.04)


def images(n: int, seed: int) -> NDArray:
    """Independent normal pixels of variance 1 about 5: (n, 1, 33, 33)."""
    return 5 + np.random.default_rng(seed).standard_normal((n, 1, 33, 33))


def test_images_that_are_equal_and_unrelated() -> None:
    """Unrelated pixels have no covariance, so only SSIM's constants keep it above 0; the MSE is the two variances."""
    a, b = images(200, 0), images(200, 1)
    same, other = score_images(a, a, 10).means, score_images(a, b, 10).means
    assert (same["ssim"]["value"], same["ssim_range_1"]["value"], same["mse"]["value"]) == (1, 1, 0)
    assert other["mse"]["value"] == pytest.approx(2 / 10**2, rel=0.02)
    c2 = (0.03 * np.ptp(a, (1, 2, 3)).mean()) ** 2  # structure: (2 cov + c2) / (var + var + c2), cov about 0
    assert other["ssim"]["value"] == pytest.approx(c2 / (2 + c2), abs=0.02)
    print(f"\nSSIM of unrelated noise {other['ssim']['value']:.3f}, MSE {other['mse']['value']:.4f}")


def covered(found: list[Any]) -> tuple[float, float]:
    """Share of the intervals with the mean of all values in them, and their median width over that of the spread."""
    values, low, high = (np.array([score[key] for score in found]) for key in ("value", "low", "high"))
    inside = (low <= values.mean()) & (values.mean() <= high)
    return float(inside.mean()), float(np.median(high - low) / (2 * 1.96 * values.std()))


def half_right(n: int, seed: int) -> Codes:
    """Three latents of three factors, each with a share of its neighbour and noise."""
    rng = np.random.default_rng([seed, 5])
    u = rng.random((n, 3))
    mean = u @ np.array([[1, 0.3, 0], [0, 1, 0.3], [0.3, 0, 1]]) + 0.3 * rng.standard_normal((n, 3))
    return Codes(
        mean_NZ=mean, logvar_NZ=np.full_like(mean, -np.inf), aux_ND=u, hidden_NH=u[:, :0],
        aux_names=list("abc"), hidden_names=(), seed=seed,
    )  # fmt: skip


@pytest.mark.slow
def test_intervals_of_dci_cover() -> None:
    found = [dci(half_right(300, seed)) for seed in range(24)]
    for name in ("disentanglement", "completeness"):
        share, width = covered([score[name] for score in found])
        print(f"\ndci {name}: {share:.3f} of intervals cover, {width:.2f} times as wide as needed")
        assert share >= 0.84  # .95 less two and a half standard errors
        assert width < 2


@pytest.mark.slow
def test_intervals_of_categorical_sap_cover() -> None:
    """Two latents that tell two classes apart, one better than the other."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng([seed, 7])
        u = rng.integers(0, 2, 300).astype(float)
        found.append(category_gap(rng.standard_normal((300, 2)) + u[:, None] * [2.5, 1], u))
    share, width = covered(found)
    print(f"\ncategorical SAP: {share:.3f} of intervals cover, {width:.2f} times as wide as needed")
    assert 0.9 <= share <= 0.99
    assert width < 1.5


def test_intervals_of_image_scores_cover() -> None:
    """Of 100 images each, whose decoded image lacks a random share of the original."""
    rng = np.random.default_rng(7)
    originals = images(3000, 8)[:, :, :11, :11]
    per_image = score_images(originals, originals * rng.uniform(0.5, 1, (3000, 1, 1, 1)), 10).per_image
    for name, values in per_image.items():
        chosen = (values[rng.integers(0, 3000, 100)] for _ in range(400))
        scores = [mean_score(part) for part in chosen]
        share = np.mean([score["low"] <= values.mean() <= score["high"] for score in scores])
        print(f"\n{name}: {share:.3f} of intervals cover")
        assert 0.9 <= share <= 0.99
