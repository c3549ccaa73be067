"""What residual latents tell together of factors, where single correlations and single factors show nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.joint import FEWEST, FOLDS, explained, joint
from hpcauxvae.metrics.leakage import FEWEST as FEWEST_OF_A_HALF
from hpcauxvae.metrics.leakage import leakage
from hpcauxvae.metrics.random_features import random_features
from hpcauxvae.types import Kind

N = 2000


def codes(u_ND: NDArray, residual_NR: NDArray, spread: float = 0.1, kinds: tuple[Kind, ...] = ()) -> Codes:
    mean_NZ = np.c_[u_ND, residual_NR]
    return Codes(
        mean_NZ=mean_NZ, logvar_NZ=np.full_like(mean_NZ, 2 * np.log(spread)), aux_ND=u_ND, hidden_NH=u_ND[:, :0],
        aux_names=[f"u{j}" for j in range(u_ND.shape[1])], hidden_names=(), seed=0, aux_kinds=kinds,
    )  # fmt: skip


def drawn(seed: int = 0, latents: int = 4) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    return rng.random((N, 2)), rng.standard_normal((N, latents))


def test_two_latents_that_tell_a_factor_only_together_are_found() -> None:
    """sign(z1 z2) says in which half u0 lies: three quarters of its variance, and no latent alone knows any of it."""
    u, z = drawn()
    z[:, 1] = np.abs(z[:, 1]) * np.sign(z[:, 0]) * np.where(u[:, 0] > 0.5, 1, -1)
    both = joint(codes(u, z))
    found = both["u0"]
    assert abs(found["single"]["r"]["value"]) < 0.08
    assert found["means"]["value"] == pytest.approx(0.75, abs=0.1)
    assert 0.4 < found["samples"]["value"] < found["means"]["value"]
    assert found["means"]["low"] > found["chance"]["high"]
    assert found["means"]["n"] == N
    assert both["u1"]["means"]["value"] < 0.02


def test_a_latent_that_follows_a_product_of_factors_is_found_by_random_features() -> None:
    """Trees on single factors see nothing: who knows one factor learns the other's side."""
    u, z = drawn(1)
    z[:, 2] = np.sign((u[:, 0] - 0.5) * (u[:, 1] - 0.5)) + 0.3 * z[:, 2]
    assert explained(u[:, :1], z, np.arange(N), 0)["value"] < 0.02
    found = random_features(codes(u, z))
    assert found["rms"]["low"] > 5 * found["floor"]


def test_independent_codes_are_below_the_floor_in_19_of_20_cases() -> None:
    """Whatever their posteriors: what sampling adds depends on how much of a feature the means decide."""
    above = below_zero = 0
    for seed in range(20):
        u, z = drawn(seed + 10)
        found = random_features(codes(u[:400], z[:400], spread=[0.1, 1.0][seed % 2]))
        above += found["rms"]["value"] > found["floor"]
        below_zero += found["rms"]["value"] == 0
    assert above <= 4
    assert 3 <= below_zero <= 17, "the mean square lies about 0, as often below as above"


def test_the_features_expectation_is_that_of_many_draws() -> None:
    """Closed forms under the posterior give what draws of z give, whose means have no variance of their own."""
    u, z = drawn(3, latents=2)
    z[:, 0] += 2 * u[:, 0]
    noisy = z + 0.7 * np.random.default_rng(4).standard_normal(z.shape)
    closed, sampled = (random_features(codes(u, part, spread=s))["rms"] for part, s in ((z, 0.7), (noisy, 1e-9)))
    assert closed["value"] == pytest.approx(sampled["value"], rel=0.05)


def test_latents_that_are_off_tell_nothing_by_their_means() -> None:
    u, z = drawn(5)
    found = joint(codes(u[:300], 0.001 * (z + u[:, :1])[:300], spread=1.0))["u0"]
    assert found["means"]["value"] == 0
    assert max(found[name]["value"] for name in ("samples", "chance")) < 0.05
    assert found["single"]["r"]["value"] == 0


def test_a_periodic_factor_is_told_by_its_direction() -> None:
    """cos u: half of the variance of cosine and sine, and no step at the seam."""
    u = np.random.default_rng(6).random(600)
    cosine = np.cos(2 * np.pi * u)[:, None]
    found = joint(codes(u[:, None], cosine, 1e-3, ("periodic",)))["u0"]
    assert found["means"]["value"] == pytest.approx(0.5, abs=0.08)


def test_fewer_samples_than_the_fewest_let_no_tree_split() -> None:
    """The factor itself is a residual latent, and the errors of the guided one are a hidden factor."""
    u, z = drawn(8)
    z[:, 1] = u[:, 0]
    below, enough = (explained(u[:n, :1], z[:n], np.arange(n), 0)["value"] for n in (FEWEST - FOLDS, FEWEST))
    assert below < 0 < 0.5 < enough
    told = []
    for n in (FEWEST_OF_A_HALF, 2 * FEWEST_OF_A_HALF):
        mean_NZ = np.c_[u[:n, 0] + 0.1 * z[:n, 0], z[:n, 2:]]
        shown = Codes(
            mean_NZ=mean_NZ, logvar_NZ=np.full_like(mean_NZ, -9.0), aux_ND=u[:n, :1], hidden_NH=z[:n, :1],
            aux_names=["u"], hidden_names=["h"], seed=0,
        )  # fmt: skip
        told.append(leakage(shown)["hidden_from_aux"]["h"]["value"])
    assert told[0] == pytest.approx(0, abs=0.02) and told[1] > 0.2


def test_intervals_hold_the_share_that_is_told() -> None:
    """Half of the target's variance, on samples that the trees did not see."""
    rng = np.random.default_rng(7)
    z = rng.choice([-1.0, 1.0], (N, 1))
    score = explained(z + rng.standard_normal((N, 1)), z, np.arange(N), 0)
    assert score["low"] < 0.5 < score["high"]
    assert score["high"] - score["low"] < 0.06
