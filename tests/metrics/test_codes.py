"""LDS and SAP against closed forms, brute force and other people's code."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from hpcauxvae.metrics import METRICS, score_codes
from hpcauxvae.metrics.codes import Codes, correlate
from hpcauxvae.metrics.lds import attainable, linear_disentanglement
from hpcauxvae.types import InputError


def scores(mean: NDArray, aux: NDArray, logvar: NDArray | None = None, hidden: NDArray | None = None) -> dict[str, Any]:
    hidden = np.empty((len(mean), 0)) if hidden is None else hidden
    logvar = np.full_like(mean, -np.inf) if logvar is None else logvar
    names = [f"u{j}" for j in range(aux.shape[1])]
    hidden_names = [f"h{j}" for j in range(hidden.shape[1])]
    return score_codes(
        Codes(
            mean_NZ=mean, logvar_NZ=logvar, aux_ND=aux, hidden_NH=hidden,
            aux_names=names, hidden_names=hidden_names, seed=3,
        )
    )  # fmt: skip


def grid(side: int = 40) -> NDArray:
    """Two exactly uncorrelated factors."""
    return np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * 2), -1).reshape(-1, 2)


def test_true_factors_score_one() -> None:
    result = scores(np.c_[grid(), np.full(1600, 0.7)], grid())
    for name in ("lds", "lds_d", "lds_mean", "lds_d_mean", "sap"):
        assert result[name]["value"] == pytest.approx(1, abs=1e-12), name


def test_factors_rotated_by_45_degrees_score_one_half() -> None:
    """Each factor has |corr| 1/sqrt(2) with both latents: LDS 1/2, and no gap for SAP."""
    u = grid()
    result = scores(np.c_[u[:, 0] + u[:, 1], u[:, 0] - u[:, 1]], u)
    assert result["lds"]["value"] == pytest.approx(0.5, abs=1e-12)
    assert result["sap"]["value"] == pytest.approx(0, abs=1e-12)


def test_denominators_over_all_latents_and_over_the_first_d() -> None:
    """Latent 2 repeats factor 0, so its ratio is 1/2 over all latents and 1 over the first two; SAP loses its gap."""
    u = grid()
    result = scores(np.c_[u, u[:, 0]], u)
    assert result["lds"]["value"] == pytest.approx((0.5 + 1) / 2)
    assert result["lds_d"]["value"] == pytest.approx(1)
    assert result["sap"]["value"] == pytest.approx((0 + 1) / 2)


def test_random_code_scores_its_closed_form() -> None:
    """Two independent half-normal numbers: E[max / sum] = 1/2 + ln 2 / pi."""
    u = np.random.default_rng(0).random((2000, 2))
    nothing = np.zeros((2000, 2))
    given: dict[str, Any] = {"mean_NZ": nothing, "logvar_NZ": nothing, "aux_ND": u, "hidden_NH": u[:, :0]}
    given |= {"aux_names": ["a", "b"], "hidden_names": []}
    repeats = [score_codes(Codes(**given, seed=seed)) for seed in range(9)]
    assert np.mean([r["lds"]["value"] for r in repeats]) == pytest.approx(0.5 + np.log(2) / np.pi, abs=0.025)
    assert repeats[0]["lds"]["attainable"] > 0.95


def test_collapsed_code_scores_zero() -> None:
    """Constant columns have correlation 0, whatever constant it is and however their type rounds it."""
    rng = np.random.default_rng(0)
    u = rng.random((500, 2))
    constant = np.full((500, 3), 0.1) * [1, 1e4, 0]
    rounded = np.tile(1e4 + 6e-4 * u[:, :1], 3).astype(np.float32)
    for mean in (constant, constant.astype(np.float32), rounded):
        result = scores(mean, u)
        assert [result[k]["value"] for k in ("lds", "lds_mean", "sap")] == [0, 0, 0]


def test_correlations_are_pairwise_complete_and_survive_a_large_mean() -> None:
    rng = np.random.default_rng(1)
    u = rng.random((731, 3))
    codes = u @ rng.standard_normal((3, 4)) + rng.standard_normal((731, 4)) + 1e6
    u[rng.random(u.shape) < 0.3] = np.nan
    codes[rng.random(codes.shape) < 0.2] = np.nan
    result = correlate(u, [codes])
    for j, z in np.ndindex(3, 4):
        both = ~np.isnan(u[:, j]) & ~np.isnan(codes[:, z])
        assert result.values_SDZ[0, j, z] == pytest.approx(np.corrcoef(u[both, j], codes[both, z])[0, 1], abs=1e-10)
        kept = both & (np.arange(731) >= 8)
        expected = np.corrcoef(u[kept, j], codes[kept, z])[0, 1]
        assert result.replicates_GSDZ[0, 0, j, z] == pytest.approx(expected, abs=1e-10)
    assert result.n_D.tolist() == np.count_nonzero(~np.isnan(u), 0).tolist()


def test_sampled_z_is_the_mean_plus_the_posterior_noise() -> None:
    """Noise of variance 1/4 on a uniform factor: corr = 1 / sqrt(1 + 12/4) = 1/2, beside a latent without noise: 1."""
    u = np.random.default_rng(2).random((60_000, 1))
    logvar = np.tile([np.log(0.25), -np.inf], (60_000, 1))
    result = scores(np.c_[u, u], u, logvar=logvar)
    assert result["lds"]["value"] == pytest.approx(1 / 1.5, abs=0.003)
    assert result["lds_mean"]["value"] == pytest.approx(1 / 2)


def test_sap_is_the_gap_of_linear_regressions() -> None:
    rng = np.random.default_rng(3)
    u = rng.random((300, 3))
    mean = u @ rng.standard_normal((3, 5)) + 0.3 * rng.standard_normal((300, 5))
    gaps = []
    for target in u.T:
        fits = sorted(LinearRegression().fit(mean[:, [z]], target).score(mean[:, [z]], target) for z in range(5))
        gaps.append(fits[-1] - fits[-2])
    assert scores(mean, u)["sap"]["value"] == pytest.approx(np.mean(gaps), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "d", "all_latents", "first_d"),
    [
        (1000, 5, 0.816, 0.910),
        (1000, 3, 0.816, 0.952),
        (1000, 2, 0.816, 0.976),
        (1638, 5, 0.850, 0.926),
        (16384, 5, 0.946, 0.974),
    ],
)
def test_attainable_is_what_was_measured_by_drawing_samples(n: int, d: int, all_latents: float, first_d: float) -> None:
    rng = np.random.default_rng(4)
    counts = np.full(d, n)
    tables = [np.asarray(np.corrcoef(rng.random((n, d)).T)) for _ in range(120)]
    assert np.mean([attainable(t, counts, 10 - d, 0) for t in tables]) == pytest.approx(all_latents, abs=0.006)
    assert np.mean([attainable(t, counts, 0, 0) for t in tables]) == pytest.approx(first_d, abs=0.006)


def test_attainable_with_missing_and_correlated_factors_is_brute_force() -> None:
    rng = np.random.default_rng(5)
    u = rng.random((400, 3)) @ np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]])
    u[rng.random(u.shape) < [0, 0.5, 0.9]] = np.nan
    drawn = [correlate(u, [np.c_[u, rng.standard_normal((400, 5))]]).values_SDZ for _ in range(400)]
    result = scores(np.c_[np.nan_to_num(u), rng.standard_normal((400, 5))], u)
    assert result["lds"]["attainable"] == pytest.approx(linear_disentanglement(np.concatenate(drawn)).mean(), abs=0.008)


def test_every_metric_reports_and_the_block_is_json() -> None:
    rng = np.random.default_rng(6)
    u = rng.random((200, 2)).astype(np.float32)
    mean = np.c_[u, rng.standard_normal((200, 2))].astype(np.float32)
    result = scores(mean, u, logvar=np.full_like(mean, -4), hidden=rng.random((200, 1)))
    assert list(json.loads(json.dumps(result))) == list(METRICS)
    assert set(result["lds"]) == {"value", "low", "high", "n", "attainable"}
    assert set(result["sap"]) == {"value", "low", "high", "n"}
    assert result["lds"]["low"] < result["lds"]["value"] < result["lds"]["high"]


def test_four_samples_are_enough_to_score() -> None:
    rng = np.random.default_rng(7)
    result = scores(rng.random((4, 3)), rng.random((4, 2)), hidden=rng.random((4, 1)))
    assert 0 < result["lds"]["value"] <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_NZ": np.full((9, 3), np.nan)}, "mean_NZ has NaN"),
        ({"logvar_NZ": np.full((9, 3), np.inf)}, "logvar_NZ has"),
        ({"logvar_NZ": np.zeros((9, 2))}, r"logvar_NZ has shape \(9, 2\), expected \(9, 3\)"),
        ({"aux_ND": np.full((9, 2), np.inf)}, "factor radius has infinite"),
        ({"hidden_NH": np.full((9, 1), np.nan)}, "factor flux is measured in 0 samples"),
        ({"aux_ND": np.zeros((9, 4)), "aux_names": "abcd"}, "4 auxiliary factors, allowed are 1 to 3"),
    ],
)
def test_bad_arrays_are_named(change: dict[str, Any], words: str) -> None:
    arguments: dict[str, Any] = {
        "mean_NZ": np.random.default_rng(0).random((9, 3)),
        "logvar_NZ": np.zeros((9, 3)),
        "aux_ND": np.random.default_rng(1).random((9, 2)),
        "hidden_NH": np.random.default_rng(2).random((9, 1)),
        "aux_names": ["radius", "g1"],
        "hidden_names": ["flux"],
    }
    with pytest.raises(InputError, match=words):
        Codes(**{**arguments, **change}, seed=0)


def test_three_samples_are_refused() -> None:
    with pytest.raises(InputError, match="3 samples, at least 4"):
        scores(np.eye(3), np.eye(3))
