"""SAP for categorical factors: closed forms, all thresholds tried, and scikit-learn's balanced accuracy."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.sap import FOLDS, category_gap, right_answers, sap, thresholds
from hpcauxvae.types import InputError, Kind

K = 6


def codes(mean_NZ: np.ndarray, aux_ND: np.ndarray, kinds: tuple[Kind, ...]) -> Codes:
    return Codes(
        mean_NZ=mean_NZ,
        logvar_NZ=np.full(mean_NZ.shape, -np.inf),
        aux_ND=aux_ND,
        hidden_NH=aux_ND[:, :0],
        aux_names=[f"u{j}" for j in range(aux_ND.shape[1])],
        hidden_names=(),
        seed=0,
        aux_kinds=kinds,
    )


def classes(n: int, k: int = K, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.arange(n) % k)


def test_a_perfect_code_in_any_order_of_the_classes() -> None:
    """The other latent is constant and names one class: 1 / K. R^2 of the first is .01, for its order is no order."""
    u = classes(600).astype(float)
    places = np.array([3.0, 0, 5, 1, 4, 2])[u.astype(int)]
    assert np.corrcoef(places, u)[0, 1] ** 2 < 0.1
    found = sap(codes(np.stack([np.zeros(600), places], 1), u[:, None] / 5, ("categorical",)))
    assert found["value"] == pytest.approx(1 - 1 / K)
    assert found["low"] <= found["value"] <= found["high"] <= 1


def test_a_random_code_knows_nothing_whatever_the_share_of_the_classes() -> None:
    rng = np.random.default_rng(1)
    mean = rng.standard_normal((30_000, 3))
    for u in (classes(30_000).astype(float), (rng.random(30_000) < 0.05).astype(float)):
        shares = [right_answers(latent, u.astype(np.int64)) for latent in mean.T]
        k = len(np.unique(u))
        weight = 1 / (k * np.bincount(u.astype(int))[u.astype(int)])
        for right in shares:
            assert (weight * right).sum() == pytest.approx(1 / k, abs=0.03)
        assert 0 <= category_gap(mean, u)["value"] < 0.05


def test_two_normal_classes_are_told_apart_as_well_as_they_can_be() -> None:
    """Balanced accuracy of the best threshold between N(0, 1) and N(delta, 1): Phi(delta / 2), however rare one is."""
    rng = np.random.default_rng(2)
    u = (rng.random(40_000) < 0.2).astype(float)
    deltas = np.array([1.0, -2.5, 0.0])
    mean = rng.standard_normal((len(u), 3)) + deltas * u[:, None]
    found = category_gap(mean, u)
    assert found["value"] == pytest.approx(norm.cdf(1.25) - norm.cdf(0.5), abs=0.01)
    assert 0.002 < found["high"] - found["low"] < 0.03
    u[::2] = np.nan
    assert category_gap(mean, u)["n"] == 20_000


def test_one_latent_is_compared_with_chance() -> None:
    u = classes(300).astype(float)
    assert category_gap(u[:, None], u)["value"] == pytest.approx(1 - 1 / K)


@pytest.mark.parametrize("seed", range(20))
def test_thresholds_are_the_best_of_all(seed: int) -> None:
    """Every set of thresholds tried, ties between samples included; graded by scikit-learn."""
    rng = np.random.default_rng(seed)
    label = classes(14, 3, seed)
    latent = np.round(rng.standard_normal(14) + 0.5 * label, 1)
    order, cuts = thresholds(latent, label)
    assert order.tolist() == sorted(range(3), key=lambda k: latent[label == k].mean())

    def grade(at: np.ndarray) -> float:
        return balanced_accuracy_score(label, order[np.searchsorted(at, latent, side="right")])

    gaps = [-9.0, *np.unique(latent) + 0.05]
    best = max(grade(np.array(pair)) for pair in itertools.combinations_with_replacement(gaps, 2))
    assert grade(cuts) == pytest.approx(best)


def test_samples_are_graded_by_thresholds_that_did_not_see_them() -> None:
    """Values that name their own sample would be told perfectly by thresholds that saw them."""
    label = classes(40, 20)
    latent = np.random.default_rng(3).random(40)
    assert right_answers(latent, label).mean() < 0.3
    lonely = np.zeros(FOLDS * 4, np.int64)
    lonely[3] = 1
    assert not right_answers(lonely.astype(float), lonely)[3]


def test_kinds_are_averaged() -> None:
    u = np.stack([classes(900) / 5, np.random.default_rng(4).random(900)], 1)
    mean = np.stack([u[:, 0], u[:, 1], np.zeros(900)], 1)
    kinds: tuple[Kind, ...] = ("categorical", "continuous")
    given = codes(mean, u, kinds)
    apart = [
        category_gap(given.mean_NZ, given.aux_ND[:, 0])["value"],
        sap(codes(mean, u[:, 1:], ("continuous",)))["value"],
    ]
    assert sap(given)["value"] == pytest.approx(np.mean(apart), abs=1e-12)
    assert apart[0] == pytest.approx(1 - 1 / K, abs=0.05) and apart[1] > 0.95
    ordinal: tuple[Kind, ...] = ("ordinal", "periodic")
    assert sap(codes(mean, u, ordinal)) == sap(codes(mean, u, ()))
    with pytest.raises(InputError, match="1 kinds for 2 auxiliary factors"):
        codes(mean, u, ("categorical",))
