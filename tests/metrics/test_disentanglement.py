"""MIG, modularity, DCI, FactorVAE and beta-VAE scores against closed forms and scikit-learn."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mutual_info_score

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.dci import dci
from hpcauxvae.metrics.fixed_factor import beta_vae, factor_vae
from hpcauxvae.metrics.information import BINS, mig, modularity, mutual_information, tables_of

N = 3000


def codes(mean_NZ: NDArray, aux_ND: NDArray, seed: int = 0) -> Codes:
    names = [f"u{j}" for j in range(aux_ND.shape[1])]
    none: dict[str, Any] = {"hidden_NH": aux_ND[:, :0], "hidden_names": ()}
    return Codes(
        mean_NZ=mean_NZ, logvar_NZ=np.full_like(mean_NZ, -np.inf), aux_ND=aux_ND, aux_names=names, seed=seed, **none
    )


def factors(d: int, n: int = N, seed: int = 0) -> NDArray:
    return np.random.default_rng(seed).random((n, d))


def noise(z: int, n: int = N, seed: int = 1) -> NDArray:
    return np.random.default_rng(seed).standard_normal((n, z))


def rotated(u: NDArray) -> NDArray:
    """Two factors turned by 45 degrees: each latent tells as much of one as of the other."""
    return np.stack([u[:, 0] + u[:, 1], u[:, 0] - u[:, 1]], 1)


@pytest.mark.parametrize("n", [N, BINS, 10])
def test_binned_information_is_scikit_learns(n: int) -> None:
    """With so few samples that every value of a factor has a bin of its own, too; a latent's bins are always equal."""
    u, mean = factors(2, n), noise(3, n)
    mean[:, 0] += 4 * u[:, 0]
    u[::7, 1] = np.nan
    given = codes(mean, u)
    tables = tables_of(given).sum(0)

    def bins(x: NDArray) -> NDArray:
        edges = np.linspace(np.nanmin(x), np.nanmax(x), BINS + 1)
        return np.clip(np.searchsorted(edges, x, "right") - 1, 0, BINS - 1)

    for j, z in np.ndindex(2, 3):
        known = ~np.isnan(given.aux_ND[:, j])
        few, column = known.sum() <= BINS, given.aux_ND[known, j]
        levels = np.unique(column, return_inverse=True)[1] if few else bins(column)
        expected = mutual_info_score(levels, bins(given.mean_NZ[:, z])[known])
        assert mutual_information(tables[j, z]) == pytest.approx(expected, abs=2e-3)


def test_the_true_factors() -> None:
    u = factors(3)
    found = codes(np.concatenate([u, noise(2)], 1), u)
    bias = (BINS - 1) ** 2 / (2 * N)  # nats, of the information of independent columns
    assert mig(found)["value"] == pytest.approx(1 - bias / np.log(BINS), abs=0.01)
    assert modularity(found)["value"] > 0.6  # two of five latents are noise, and tell as little of each factor
    assert modularity(codes(u, u))["value"] == pytest.approx(1, abs=0.002)
    scores = dci(found)
    assert scores["disentanglement"]["value"] > 0.97 and scores["completeness"]["value"] > 0.97
    assert scores["informativeness"]["value"] > 0.999
    assert factor_vae(found)["value"] == 1
    assert beta_vae(found)["value"] == 1


def test_a_rotated_code() -> None:
    u = factors(2)
    found = codes(rotated(u), u)
    assert mig(found)["value"] == pytest.approx(0, abs=0.02)
    assert modularity(found)["value"] == pytest.approx(0, abs=0.05)
    scores = dci(found)
    assert scores["disentanglement"]["value"] == pytest.approx(0, abs=0.05)
    assert scores["completeness"]["value"] == pytest.approx(0, abs=0.05)
    assert scores["informativeness"]["value"] > 0.98
    for score in (factor_vae, beta_vae):
        assert score(found)["value"] == pytest.approx(0.5, abs=0.12)


@pytest.mark.slow
def test_a_random_code() -> None:
    u = factors(3)
    found = codes(noise(6), u)
    assert mig(found)["value"] < 0.02
    assert dci(found)["informativeness"]["value"] < 0.05
    assert dci(found)["disentanglement"]["value"] < 0.05
    assert factor_vae(found)["value"] == pytest.approx(1 / 3, abs=0.12)
    assert beta_vae(found)["value"] == pytest.approx(1 / 3, abs=0.12)


def test_shares_of_importance_give_eastwood_and_williams_formula() -> None:
    """Latent 0 = u0 + u1 tells both halves; latent 1 = u2 tells one. The shares are those of larger forests here; the
    dead latent has none."""
    u = factors(3)
    mean = np.stack([u[:, 0] + u[:, 1], u[:, 2], np.zeros(N)], 1)
    scores = dci(codes(mean, u))
    forests = [ExtraTreesRegressor(100, min_samples_leaf=3, random_state=9).fit(mean, column) for column in u.T]
    shares_DZ = np.stack([forest.feature_importances_ for forest in forests])[:, :2]
    by_latent = 1 - entropy(shares_DZ, axis=0, base=3)
    expected = by_latent @ shares_DZ.sum(0) / shares_DZ.sum()
    assert 0.3 < expected < 0.5
    assert scores["disentanglement"]["value"] == pytest.approx(expected, abs=0.05)
    assert scores["completeness"]["value"] == pytest.approx((1 - entropy(shares_DZ, axis=1, base=3)).mean(), abs=0.05)
    assert scores["informativeness"]["value"] == pytest.approx((0.5 + 0.5 + 1) / 3, abs=0.05)


def test_modularity_of_two_factors_in_one_latent_is_its_formula() -> None:
    u = factors(2)
    mean = np.stack([u[:, 0], u[:, 0] + 0.5 * u[:, 1]], 1)
    given = codes(mean, u)
    information = mutual_information(tables_of(given).sum(0))
    expected = np.mean([1 - (min(c) / max(c)) ** 2 for c in information.T])
    assert modularity(given)["value"] == pytest.approx(expected)


def test_mig_is_the_gap_to_the_second_best_latent() -> None:
    u = factors(2)
    mean = np.stack([u[:, 0], u[:, 1], u[:, 0] + u[:, 1], noise(1)[:, 0]], 1)
    given = codes(mean, u)
    first, second, both, _ = mutual_information(tables_of(given).sum(0)).T
    expected = ((first - both)[0] + (second - both)[1]) / 2 / np.log(BINS)
    assert mig(given)["value"] == pytest.approx(expected, abs=3e-3) and expected < 0.9


def test_dead_latents_and_categories_do_no_harm() -> None:
    u = np.stack([np.arange(N) % 5 / 4, factors(1)[:, 0]], 1)
    mean = np.concatenate([u, np.zeros((N, 2))], 1)
    found = codes(mean, u)
    assert mig(found)["value"] == pytest.approx(1, abs=0.02)
    assert modularity(found)["value"] == pytest.approx(1, abs=0.01)
    assert factor_vae(found)["value"] > 0.98
    nothing = codes(np.zeros((N, 3)), u)
    for score in (mig(nothing), *dci(nothing).values()):
        assert abs(score["value"]) < 0.01
    assert modularity(nothing)["value"] == 0
    assert factor_vae(nothing)["value"] == beta_vae(nothing)["value"] == 0.5


@pytest.mark.parametrize(("n", "measured"), [(16, 4), (300, 4), (300, 9), (300, 30)])
def test_a_factor_that_is_seldom_measured_is_scored(n: int, measured: int) -> None:
    """A perfect code of two factors, one of them known for a few samples: nothing crashes, and intervals say how
    little is known."""
    u = factors(2, n)
    mean = np.concatenate([u, noise(1, n)], 1)
    known = u.copy()
    known[np.random.default_rng(2).permutation(n)[measured:], 1] = np.nan
    given = codes(mean, known)
    for score in (*dci(given).values(), factor_vae(given), beta_vae(given), mig(given), modularity(given)):
        assert np.isfinite([score["value"], score["low"], score["high"]]).all()
        assert score["low"] <= score["value"] <= score["high"]
    if measured == 30:
        assert beta_vae(given)["value"] > 0.9
        assert dci(given)["completeness"]["value"] > 0.6


def test_a_factor_that_is_measured_in_one_part_of_the_samples_has_an_interval() -> None:
    """The first six of 1,000 in the codes' own order: without any group of samples some of them are left."""
    u = factors(2, 1000)
    known = u.copy()
    known[np.random.default_rng(0).permutation(1000)[6:], 1] = np.nan
    for score in (mig, modularity):
        found = score(codes(np.concatenate([u, noise(1, 1000)], 1), known))
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1


def test_where_no_part_has_two_factors_the_score_is_chance() -> None:
    """The parts are rows 0, 5, 10 ... of the codes' own order; each factor is measured in five rows, one a part."""
    u, order = factors(2, 100), np.random.default_rng(0).permutation(100)
    known = np.full_like(u, np.nan)
    known[order[:5]] = u[order[:5]]
    given = codes(np.concatenate([u, noise(1, 100)], 1), known)
    for score in (factor_vae, beta_vae):
        assert score(given) == {"value": 0.5, "low": 0, "high": 1, "n": 100}


def informativeness_of_one(given: Codes) -> Any:
    return dci(codes(given.mean_NZ, given.aux_ND[:, :1], given.seed))["informativeness"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "n"),
    [(mig, 600), (modularity, 600), (factor_vae, 2000), (beta_vae, 2000), (informativeness_of_one, 150)],
)
def test_intervals_cover(score: Any, n: int) -> None:
    """A code that is half right, drawn 40 times: the mean of all lies in nearly every interval."""
    found = []
    for seed in range(40):
        u = factors(3, n, seed)
        mean = u @ np.array([[1, 0.3, 0], [0, 1, 0.3], [0.3, 0, 1]]) + 0.3 * noise(3, n, seed + 1000)
        found.append(score(codes(mean, u, seed)))
    centre = np.mean([s["value"] for s in found])
    assert 0.87 <= np.mean([s["low"] <= centre <= s["high"] for s in found]) <= 1  # .95 less two standard errors
    spread = np.std([s["value"] for s in found])
    assert np.median([s["high"] - s["low"] for s in found]) < 2 * 2 * 1.96 * spread
