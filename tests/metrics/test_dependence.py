"""Measures of dependence against closed forms for normal pairs, definitions written out, and what chance gives."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.dependence import MEASURES, dependence_of_codes, dependence_scores
from hpcauxvae.metrics.dependence.hsic import EXACT, _features, _kernel
from hpcauxvae.metrics.dependence.statistic import inner, mean_square
from hpcauxvae.types import InputError

QUICK = ("polynomial", "joint", "hsic", "distance")
R = 0.6


def normal_pairs(n: int, r: float = R, seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    u, e = rng.standard_normal((2, n, 1))
    return u, r * u + np.sqrt(1 - r**2) * e


def value_of(name: str, u: NDArray, z: NDArray) -> float:
    return float(dependence_scores(u, z, measures=[name], orders=19, intervals=False)[name]["value"]["value"])


def test_the_inner_product_is_that_of_matrices_centred_as_szekely_and_rizzo_write_it() -> None:
    """Their definition 2: each less the sums of row and column over n - 2, plus the whole over (n - 1)(n - 2)."""
    n, rng = 7, np.random.default_rng(0)
    a, b = (np.abs(x[:, None] - x[None]) for x in rng.standard_normal((2, n)))
    total = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                parts = (m[i, j] - (m[i].sum() + m[:, j].sum()) / (n - 2) + m.sum() / (n - 1) / (n - 2) for m in (a, b))
                total += float(np.prod([*parts]))
    assert inner(a, b) == pytest.approx(total / (n * (n - 3)), rel=1e-12)


def test_the_distance_correlation_of_normal_pairs_is_that_of_szekely_rizzo_and_bakirov() -> None:
    """Their theorem 7."""
    above = R * np.arcsin(R) + np.sqrt(1 - R**2) - R * np.arcsin(R / 2) - np.sqrt(4 - R**2) + 1
    expected = np.sqrt(above / (1 + np.pi / 3 - np.sqrt(3)))
    assert value_of("distance", *normal_pairs(2000)) == pytest.approx(expected, abs=0.03)


def test_distances_are_euclidean_of_columns_in_units_of_their_spread() -> None:
    rng = np.random.default_rng(7)
    u, z = rng.random((60, 2)), rng.standard_normal((60, 3)) * [1, 5, 0.1]
    z[:, 0] += 3 * u[:, 0]
    a, b = (np.sqrt(((x[:, None] - x[None]) ** 2 / x.var(0)).sum(2)) for x in (u, z))
    expected = np.sqrt(inner(a, b) / np.sqrt(inner(a, a) * inner(b, b)))
    assert value_of("distance", u, z) == pytest.approx(expected, rel=1e-9)


def test_products_of_features_are_the_kernel_in_the_mean() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((6, 8))
    products = np.mean([f @ f.T for f in (_features(x, rng) for _ in range(400))], 0)
    np.testing.assert_allclose((products - np.diag(products.diagonal())), _kernel(x), atol=0.02)
    assert np.median(_kernel(x)[np.triu_indices(6, 1)]) == pytest.approx(np.exp(-0.5), abs=1e-12)


@pytest.mark.parametrize("n", [EXACT, 4 * EXACT], ids=["kernel", "features"])
def test_hsic_of_normal_pairs_is_what_gaussian_integrals_give(n: int) -> None:
    """E k(u, u') l(z, z') of differences N(0, 2 S) is det(1 + 2 S / s^2)^(-1/2), and so on for the other two terms."""
    square = (np.sqrt(2) * 0.674490) ** 2  # of the median distance of two N(0, 1)

    def criterion(r: float) -> float:
        s, one = np.array([[1, r], [r, 1]]), np.eye(2)
        both = np.linalg.det(one + 2 * s / square) ** -0.5
        each = square / (square + 1) * np.linalg.det(one + s / (square + 1)) ** -0.5
        return float(both + 1 / (1 + 2 / square) - 2 * each)

    expected = np.sqrt(criterion(R) / criterion(1))
    assert value_of("hsic", *normal_pairs(n)) == pytest.approx(expected, abs=0.04)


@pytest.mark.slow
def test_infonce_finds_most_of_the_information_of_normal_pairs_and_not_more() -> None:
    information = -0.5 * np.log(1 - 0.8**2)
    found = dependence_scores(*normal_pairs(2000, 0.8), measures=["infonce"], orders=19)["infonce"]
    assert 0.75 * information < found["value"]["value"] < 1.05 * information
    assert found["value"]["low"] < information and found["value"]["value"] > found["floor"]


def test_polynomials_and_joint_features_are_mean_squares_of_correlations() -> None:
    rng = np.random.default_rng(1)
    f, e = rng.standard_normal((50, 3)), rng.standard_normal((50, 4))
    table = np.corrcoef(f.T, e.T)[:3, 3:]
    assert mean_square(f, e) == pytest.approx((table**2).mean() - 1 / 49, rel=1e-10)
    assert mean_square(f, np.c_[e, np.ones(50)]) == pytest.approx(mean_square(f, e), rel=1e-10)
    u, z = normal_pairs(5000)
    powers = (np.concatenate([x, x**2, x**3], 1).T for x in (u, z))
    table = np.corrcoef(*powers)[:3, 3:]
    assert value_of("polynomial", u, z) == pytest.approx(np.sqrt((table**2).mean() - 1 / 4999), rel=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_independent_columns_are_told_in_one_case_of_twenty(name: str) -> None:
    """Heavy tails included; and what depends is told."""
    told = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        found = dependence_scores(
            rng.random((48, 2)), rng.standard_t(2, (48, 2)), measures=[name], orders=19, intervals=False, seed=seed
        )
        told += found[name]["p"] <= 0.05
    assert told <= 8  # of 60 by chance more than 8 in 1 of 300
    found = dependence_scores(*normal_pairs(200), measures=[name], orders=39)
    assert found[name]["p"] == 1 / 40 and found[name]["value"]["low"] > 0


@pytest.mark.slow
def test_a_critic_judges_samples_that_it_did_not_see() -> None:
    """Else it finds what it learned by heart, in every second set of 100 independent samples."""
    told = 0
    for seed in range(16):
        rng = np.random.default_rng(seed)
        u, z = rng.standard_normal((2, 100, 4))
        found = dependence_scores(u, z, measures=["infonce"], orders=19, intervals=False, seed=seed)["infonce"]
        told += found["p"] <= 0.05
    assert told <= 3  # by chance more in 1 of 150


@pytest.mark.parametrize("name", MEASURES)
def test_samples_of_an_object_count_as_one(name: str) -> None:
    """50 objects, each drawn eight times: as samples they seem to depend, as objects they do not."""
    rng = np.random.default_rng(4)
    each = np.repeat(np.arange(50), 8)
    u, z = rng.random((50, 1))[each], (rng.standard_normal((50, 1)))[each] + 0.01 * rng.standard_normal((400, 1))
    shuffled = rng.permutation(400)
    u, z, each = u[shuffled], z[shuffled], each[shuffled]
    alone, together = (
        dependence_scores(u, z, objects, measures=[name], orders=39, intervals=False)[name] for objects in (None, each)
    )
    assert together["p"] > 0.05
    assert alone["p"] <= 0.05
    assert together["value"]["n"] == 400


def test_a_product_is_seen_by_all_but_pairs_of_powers() -> None:
    rng = np.random.default_rng(5)
    u, z = rng.random((1000, 2)), rng.standard_normal((1000, 2))
    z[:, 0] = np.abs(z[:, 0]) * np.sign((u[:, 0] - 0.5) * (u[:, 1] - 0.5))
    found = dependence_scores(u, z, orders=19)
    assert [name for name, score in found.items() if score["p"] > 0.05] == ["polynomial"]
    for name, score in found.items():
        assert score["value"]["low"] <= score["value"]["value"] <= score["value"]["high"]
        assert (score["value"]["low"] > score["floor"]) == (name != "polynomial")


def test_samples_without_a_factor_are_left_out_and_wrong_arguments_named() -> None:
    u, z = normal_pairs(300)
    holed = np.r_[u, np.full((20, 1), np.nan)]
    found = dependence_scores(holed, np.r_[z, np.ones((20, 1))], measures=["hsic"], orders=19)["hsic"]
    assert found["value"]["n"] == 300
    for arguments, words in (
        ((u, z[:-1]), "as many rows"),
        ((u[:30], z[:30]), "30 objects"),
        ((u, z * np.nan), "z_NR NaN"),
        ((u, z, np.zeros(3)), "object_N has shape"),
    ):
        with pytest.raises(InputError, match=words):
            dependence_scores(*arguments)
    with pytest.raises(InputError, match="mutual; allowed: polynomial, joint"):
        dependence_scores(u, z, measures=["mutual"])
    with pytest.raises(InputError, match="orders = 9; allowed: 19"):
        dependence_scores(u, z, orders=9)


def test_codes_are_measured_by_one_draw_of_all_residual_latents() -> None:
    """Posteriors much wider than what their means tell hide it; an angle is told by cosine and sine."""
    rng = np.random.default_rng(6)
    u = rng.random((400, 1))
    residual = np.c_[np.cos(2 * np.pi * u), rng.standard_normal((400, 1))]

    def codes(deviation: float, latents: int = 3) -> Codes:
        mean = np.c_[u, residual][:, :latents]
        return Codes(
            mean_NZ=mean, logvar_NZ=np.full_like(mean, 2 * np.log(deviation)), aux_ND=u, hidden_NH=u[:, :0],
            aux_names=["angle"], hidden_names=(), seed=0, aux_kinds=("periodic",),
        )  # fmt: skip

    measured = [dependence_of_codes(codes(d), ["distance"])["distance"] for d in (0.01, 30.0)]
    assert measured[0]["p"] == 0.01 and measured[0]["value"]["value"] > 0.5
    assert measured[1]["value"]["value"] < 0.2
    assert dependence_of_codes(codes(0.01, 1)) == {}
