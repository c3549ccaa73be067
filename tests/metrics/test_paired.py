"""Differences of scores of the same samples: they are those of the scores, and their intervals cover and are narrow."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.metrics.joint import joint
from hpcauxvae.metrics.lds import lds, lds_mean
from hpcauxvae.metrics.paired import less, readings_less, residuals_less
from hpcauxvae.metrics.sap import sap
from hpcauxvae.types import Factor, InputError

FACTORS = (Factor("a", "m", 0.0, 2.0), Factor("b", "", 0.0, 1.0))


def pair(rng: np.random.Generator, n: int = 400, latents: int = 5, **fields) -> tuple[Codes, Codes]:
    """Two codes of two factors that err alike, the second more and with a trace of `a` in a residual latent."""
    u = rng.random((n, 2))
    alike, own = 0.2 * rng.standard_normal((n, 2)), 0.05 * rng.standard_normal((2, n, 2))
    rest = rng.standard_normal((n, 6))
    means = [
        np.c_[u + alike + own[0], rest[:, : latents - 2]],
        np.c_[u + alike + 2 * own[1], rest[:, 3:6] + [0.5, 0, 0] * (u[:, :1] - 0.5)],
    ]
    given = {"aux_ND": u, "hidden_NH": u[:, :0], "aux_names": ["a", "b"], "hidden_names": [], "seed": 3} | fields
    return tuple(Codes(mean_NZ=mean, logvar_NZ=np.full(mean.shape, -9.0), **given) for mean in means)


def test_differences_are_those_of_the_scores():
    one, other = pair(np.random.default_rng(0))
    found = less(one, other)
    for name, metric in (("lds", lds), ("lds_mean", lds_mean), ("sap", sap)):
        assert found[name]["value"] == pytest.approx(metric(other)["value"] - metric(one)["value"])
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert found[name]["n"] == 400
    read = readings_less(one, other, FACTORS)
    for j, factor in enumerate(FACTORS):
        u, z, its = one.aux_ND[:, j], one.mean_NZ[:, j], other.mean_NZ[:, j]
        assert read[factor.name]["r"]["value"] == pytest.approx(pearsonr(u, its)[0] - pearsonr(u, z)[0])
        error = factor.high * (np.sqrt(np.mean((its - u) ** 2)) - np.sqrt(np.mean((z - u) ** 2)))
        assert read[factor.name]["error"]["value"] == pytest.approx(error)


def test_equal_codes_do_not_differ():
    one, _ = pair(np.random.default_rng(1))
    again, _ = pair(np.random.default_rng(1))
    scores = [
        *less(one, again).values(),
        *(s for of in readings_less(one, again, FACTORS).values() for s in of.values()),
    ]
    assert all(score["value"] == score["low"] == score["high"] == 0 for score in scores)


@pytest.mark.slow
def test_intervals_cover_the_expected_difference_and_know_that_the_samples_are_the_same():
    rng, rows = np.random.default_rng(2), []
    for _ in range(120):
        one, other = pair(rng)
        found = less(one, other)
        found = [found["lds_mean"], found["sap"], readings_less(one, other, FACTORS)["a"]["r"]]
        apart = [np.hypot(*(s["high"] - s["low"] for s in scores)) for scores in ((lds_mean(one), lds_mean(other)),)]
        rows.append([[s["value"], s["low"], s["high"]] for s in found] + [[*apart, 0, 0]])
    value, low, high = np.moveaxis(np.array(rows)[:, :3], 2, 0)
    covered = ((low <= value.mean(0)) & (value.mean(0) <= high)).mean(0)
    width = (high - low).mean(0) / (2 * 1.96 * value.std(0))
    assert np.all(covered > 0.88) and np.all(width > 0.8), (covered, width)
    assert np.all(width < [1.4, 1.6, 1.3]), width


def test_where_ceilings_differ_shares_of_them_are_compared():
    one, other = pair(np.random.default_rng(4), latents=3)
    assert one.mean_NZ.shape[1] == 3 and other.mean_NZ.shape[1] == 5
    first, second = lds(one), lds(other)
    share = less(one, other)["lds / ceiling"]
    assert share["value"] == pytest.approx(
        second["value"] / second["attainable"] - first["value"] / first["attainable"]
    )
    assert "lds / ceiling" not in less(*pair(np.random.default_rng(4)))


def test_the_sap_of_a_categorical_factor_is_paired_sample_by_sample():
    rng = np.random.default_rng(5)
    u = rng.integers(0, 3, (300, 1)) / 2
    means = [np.c_[u + 0.3 * rng.standard_normal((300, 1)), rng.standard_normal((300, 2))] for _ in range(2)]
    one, other = (
        Codes(
            mean_NZ=mean, logvar_NZ=np.full(mean.shape, -9.0), aux_ND=u, hidden_NH=u[:, :0], aux_names=["class"],
            hidden_names=[], seed=0, aux_kinds=["categorical"],
        )
        for mean in means
    )  # fmt: skip
    found = less(one, other)["sap"]
    assert found["value"] == pytest.approx(sap(other)["value"] - sap(one)["value"])
    apart = np.hypot(*(sap(codes)["high"] - sap(codes)["low"] for codes in (one, other)))
    assert 0 < found["high"] - found["low"] < 1.1 * apart


def test_what_residual_latents_tell_is_paired_too():
    one, other = pair(np.random.default_rng(6))
    values, differences = residuals_less([one, other])["a"]
    for codes, value in zip((one, other), values, strict=True):
        assert value == pytest.approx(joint(codes)["a"]["means"])
    assert differences[0]["high"] == 0
    assert differences[1]["value"] == pytest.approx(values[1]["value"] - values[0]["value"])
    assert differences[1]["low"] < differences[1]["value"] < differences[1]["high"]


def test_codes_of_other_samples_are_refused():
    (one, _), (other, _) = pair(np.random.default_rng(7)), pair(np.random.default_rng(8))
    with pytest.raises(InputError, match="codes: are of other samples, factors or seeds"):
        less(one, other)
    one, other = pair(np.random.default_rng(7))[0], pair(np.random.default_rng(7), seed=4)[1]
    with pytest.raises(InputError, match="codes: are of other samples, factors or seeds"):
        readings_less(one, other, FACTORS)
