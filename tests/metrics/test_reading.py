"""How a factor is read from its latent, and which latents are off, against closed forms and plain loops."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import OFF, Codes
from hpcauxvae.metrics.fixed_factor import beta_vae, factor_vae
from hpcauxvae.metrics.information import mig, modularity
from hpcauxvae.metrics.lds import lds, lds_mean
from hpcauxvae.metrics.reading import directions, read, readings
from hpcauxvae.metrics.sap import sap
from hpcauxvae.types import Factor, Kind

RADIUS = Factor("radius", "arcsec", 0.1, 2.1)


def codes(mean_NZ: NDArray, aux_ND: NDArray, spread: float = 0.0) -> Codes:
    """With posteriors of this standard deviation."""
    with np.errstate(divide="ignore"):
        logvar_NZ = np.full_like(mean_NZ, 2 * np.log(spread))
    names = [f"u{j}" for j in range(aux_ND.shape[1])]
    return Codes(
        mean_NZ=mean_NZ, logvar_NZ=logvar_NZ, aux_ND=aux_ND, hidden_NH=aux_ND[:, :0], aux_names=names, hidden_names=(),
        seed=0,
    )  # fmt: skip


def factor(kind: Kind, low: float = 0, high: float = 1) -> Factor:
    return Factor("u", "deg", low, high, kind)


def test_sign_scale_and_error_of_a_latent() -> None:
    """z = a + b u + noise: r and slope from the variances; the error has the offset, the fitted error does not."""
    rng = np.random.default_rng(0)
    u = rng.random(20_000)
    z = 0.9 - 0.07 * u + 0.01 * rng.standard_normal(len(u))
    found, var_u = read(u, z, RADIUS), 1 / 12
    r = -0.07 * np.sqrt(var_u) / np.sqrt(0.07**2 * var_u + 0.01**2)
    assert found["r"]["value"] == pytest.approx(r, abs=0.005)
    assert found["slope"]["value"] == pytest.approx(-0.07, abs=0.001)
    assert found["error"]["value"] == pytest.approx(2 * np.sqrt((0.4 - 0.035) ** 2 + 1.07**2 * var_u + 1e-4), abs=0.01)
    assert found["error_fitted"]["value"] == pytest.approx(2 * np.sqrt(var_u * (1 - r**2)), abs=0.005)
    assert found["offset"]["value"] == pytest.approx(2 * (0.4 - 0.035), abs=0.01)
    assert found["spread"] == pytest.approx(2 * np.sqrt(var_u), abs=0.01)
    assert found["unit"] == "arcsec"
    for name in ("r", "slope", "error", "error_fitted", "offset"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert found[name]["n"] == 20_000


def test_missing_factors_and_latents_that_do_not_vary() -> None:
    u = np.array([0.1, np.nan, 0.9, 0.5, 0.3, 0.2])
    assert read(u, u, RADIUS)["r"]["value"] == pytest.approx(1)
    still = read(u, np.full(6, 0.5), RADIUS)
    assert (still["r"]["value"], still["slope"]["value"], still["r"]["n"]) == (0, 0, 5)
    same = read(np.full(300, 0.1), 0.1 * np.arange(300.0), RADIUS)  # 300 times .1 have a mean other than .1
    assert (same["r"]["value"], same["slope"]["value"], same["spread"]) == (0, 0, 0)


def test_the_correlation_of_directions_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(1)
    u = rng.random(60)
    for z in (rng.random(60), u + 0.1 * rng.random(60), -u):
        i, j = np.triu_indices(60, 1)
        a, b = np.sin(2 * np.pi * (u[i] - u[j])), np.sin(2 * np.pi * (z[i] - z[j]))
        assert directions(u, z) == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()), abs=1e-12)


def test_a_periodic_factor_goes_the_shorter_way_round() -> None:
    """z errs by a twentieth of a turn, across the seam too; r does not see where zero is, and sees direction."""
    rng = np.random.default_rng(2)
    u, side = rng.random(4000), rng.choice([-0.05, 0.05], 4000)
    found = read(u, (u + side) % 1, factor("periodic", 0, 360))
    assert found["error"]["value"] == pytest.approx(18)
    assert "slope" not in found
    assert found["r"]["value"] == pytest.approx(np.cos(0.1 * np.pi) ** 2, abs=0.01)
    assert found["offset"]["value"] == pytest.approx(0, abs=1)
    assert read(u, (u + 0.3) % 1, factor("periodic"))["r"]["value"] == pytest.approx(1)
    half = read(u, (u + 0.5 + 0.1 * (side > 0)) % 1, factor("periodic", 0, 360))["offset"]
    assert half["value"] % 360 == pytest.approx(198, abs=1) and half["high"] - half["low"] < 3
    assert read(u, -u % 1, factor("periodic"))["r"]["value"] == pytest.approx(-1)


def test_a_category_is_that_of_the_nearest_class() -> None:
    u = np.tile([0, 0.5, 1], 100)
    z = np.where(np.arange(300) < 30, 0.7, u)  # 10 of each class: two thirds of 30 are wrong
    found = read(u, z, factor("categorical"))
    assert found["error"]["value"] == pytest.approx(20 / 300)
    assert found["unit"] == "of the samples"


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_latent_is_off_below_a_share_of_the_spread(share: float) -> None:
    rng = np.random.default_rng(3)
    u, still = rng.random((400, 1)), rng.standard_normal((400, 1))
    given = codes(np.c_[u, 5 + share * OFF * 0.3 * still / still.std()], u, spread=0.3)
    assert given.off_Z.tolist() == [False, share < 1]
    assert given.live_NZ[:, 1].std() == pytest.approx(0 if share < 1 else given.mean_NZ[:, 1].std())


def test_latents_that_are_off_do_not_count_in_scores_of_means() -> None:
    """Residual means of .001 that all follow the factors: the code of two factors alone, and its scores and ceiling."""
    rng = np.random.default_rng(4)
    u = rng.random((4000, 2))
    noise = rng.standard_normal((4000, 4))
    traces = 0.001 * (u @ rng.standard_normal((2, 4)) + noise)
    found, alone = codes(np.c_[u, traces], u, 0.9), codes(u, u, 0.9)
    assert found.off_Z.tolist() == [False, False, True, True, True, True]
    assert lds_mean(found)["value"] == pytest.approx(lds_mean(alone)["value"], abs=1e-12)
    assert lds_mean(found)["attainable"] == pytest.approx(lds_mean(alone)["attainable"], abs=1e-12)
    assert lds_mean(found)["value"] == pytest.approx(lds_mean(found)["attainable"], abs=0.01)
    for score in (sap, mig, modularity):
        assert score(found)["value"] == pytest.approx(score(alone)["value"], abs=1e-12)


def test_guided_latents_that_are_off_count() -> None:
    rng = np.random.default_rng(5)
    u = rng.random((2000, 2))
    given = codes(np.c_[0.001 * u[:, 0], u[:, 1], rng.standard_normal((2000, 2))], u, 1.0)
    assert given.off_Z.tolist() == [True, False, False, False]
    assert not given.left_out_Z.any()
    assert readings(given, [RADIUS._replace(name=n) for n in ("a", "b")])["a"]["r"]["value"] == pytest.approx(1)


@pytest.mark.parametrize("score", [factor_vae, beta_vae])
@pytest.mark.parametrize("units", [(1, 1, 1), (1, 30, 900)])
def test_a_perfect_code_whose_guided_latents_are_narrow_scores_one(score: Any, units: tuple[int, ...]) -> None:
    """Latents are compared in units of their own spread, a guided one of .04 and a residual one of 1."""
    rng = np.random.default_rng(0)
    u = 0.5 + 0.13 * rng.random((2000, 3))
    assert score(codes(np.c_[u * units, rng.standard_normal((2000, 3))], u))["value"] == 1


def test_labels_with_errors_hide_neither_a_true_factor_nor_its_slope() -> None:
    """The code is the true factor: of labels with errors r, slope and error are worse, without the errors as they are;
    the ceiling of LDS is that of the true factors, and a perfect code reaches it."""
    rng = np.random.default_rng(3)
    true = rng.uniform(0, 1, (20_000, 2))
    errors = np.where(rng.random(true.shape) < 0.5, 0.1, [[0.3, 0.0]])
    codes = Codes(
        mean_NZ=np.hstack([0.2 + 0.9 * true, rng.standard_normal((20_000, 6))]),
        logvar_NZ=np.full((20_000, 8), -np.inf), aux_ND=true + errors * rng.standard_normal(true.shape),
        hidden_NH=np.empty((20_000, 0)), aux_names=("mass", "turn"), hidden_names=(), seed=0, errors_ND=errors,
    )  # fmt: skip
    found = readings(codes, [Factor("mass", "kg", 0.0, 10.0), Factor("turn", "", 0.0, 1.0)])
    mass, turn = found["mass"], found["turn"]
    assert mass["r"]["value"] < 0.85 and mass["slope"]["value"] < 0.6 < 0.9 < turn["r"]["value"] < 1
    for of_factor in (mass, turn):
        assert of_factor["true"]["r"]["value"] == pytest.approx(1, abs=0.01)
        assert of_factor["true"]["slope"]["value"] == pytest.approx(0.9, abs=0.02)
        assert of_factor["true"]["r"]["low"] <= of_factor["true"]["r"]["value"] <= of_factor["true"]["r"]["high"]
    assert mass["true"]["error"]["value"] == pytest.approx(
        10 * np.sqrt(np.mean((0.2 - 0.1 * true[:, 0]) ** 2)), rel=0.2
    )
    assert lds(codes)["value"] == pytest.approx(lds(codes)["attainable"], rel=0.01)
    exact = dataclasses.replace(codes, errors_ND=None)
    assert "true" not in readings(exact, [Factor("mass", "kg", 0.0, 10.0), Factor("turn", "", 0.0, 1.0)])["mass"]
    assert lds(exact)["attainable"] > lds(codes)["attainable"]
