"""Noise on parts of the code against closed forms of a linear decoder."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.paper.perturbation import KINDS, Perturbation, deviation, perturb, summary, table
from hpcauxvae.types import InputError

N, Z, D, SIDE = 400, 5, 2, 9
PLAIN, AUX, RECON = KINDS


@pytest.fixture(scope="module")
def weights() -> NDArray:
    """(Z, pixels) of a linear decoder that ignores the last two latents."""
    weights = np.random.default_rng(1).normal(size=(Z, SIDE * SIDE))
    weights[3:] = 0
    return weights


@pytest.fixture(scope="module")
def found(weights: NDArray) -> Perturbation:
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(N, Z))
    originals = (mean @ weights).reshape(N, 1, SIDE, SIDE) + 0.1 * rng.normal(size=(N, 1, SIDE, SIDE))
    return perturb(
        lambda z: (z @ weights).reshape(-1, 1, SIDE, SIDE), originals, mean, SPREAD, d=D, maximum=2.0, seed=3
    )


SPREAD = np.array([0.5, 1.0, 2.0, 3.0, 1.0])


def test_the_error_is_that_of_the_weights_and_the_deviations(found: Perturbation, weights: NDArray) -> None:
    """E of the mean squared change = sum over the noisy latents of deviation^2 times the mean squared weight."""
    power = SPREAD**2 * np.square(weights).mean(1) / 2.0**2
    for kind, latents in ((PLAIN, []), (AUX, [0, 1]), (RECON, [2, 3, 4])):
        score = summary(found)[kind]["mse_unperturbed"]
        assert score["value"] == pytest.approx(power[latents].sum(), rel=0.15)
        assert score["low"] <= power[latents].sum() <= score["high"] and score["n"] == N


def test_without_noise_only_what_the_model_missed_is_left(found: Perturbation) -> None:
    scores = summary(found)[PLAIN]
    assert scores["mse"]["value"] == pytest.approx(0.1**2 / 4, rel=0.05)
    assert scores["ssim_unperturbed"]["value"] == pytest.approx(1)


def test_latents_that_the_decoder_ignores_do_not_matter(weights: NDArray) -> None:
    """d = 3: all that matters is auxiliary, as in case 1 of the paper."""
    mean = np.random.default_rng(4).normal(size=(20, Z))
    images = (mean @ weights).reshape(-1, 1, SIDE, SIDE)
    found = perturb(lambda z: (z @ weights).reshape(-1, 1, SIDE, SIDE), images, mean, SPREAD, d=3, maximum=1.0)
    assert found.to_original[RECON]["ssim"] == pytest.approx(1)
    assert found.to_original[AUX]["ssim"].mean() < 0.9


def test_the_deviation_is_that_of_z() -> None:
    rng = np.random.default_rng(5)
    mean, logvar = rng.normal(0, 0.3, (100_000, 2)), np.log(rng.uniform(0.5, 1.5, (100_000, 2)))
    z = mean + np.exp(logvar / 2) * rng.normal(size=mean.shape)
    assert deviation(mean, logvar) == pytest.approx(z.std(0), rel=0.01)


def test_both_parts_must_exist(weights: NDArray) -> None:
    with pytest.raises(InputError, match="d = 5 auxiliary latents of 5; allowed: 1 to 4"):
        perturb(lambda z: z, np.zeros((2, 1, 9, 9)), np.zeros((2, Z)), SPREAD, d=5, maximum=1.0)


def test_the_table_has_a_line_for_each_case_and_kind(found: Perturbation) -> None:
    lines = table({"case 1": summary(found), "case 3": summary(found)}).splitlines()[2:]
    assert len(lines) == 2 + 2 * len(KINDS) and len({line.count("|") for line in lines}) == 1
    value = summary(found)[AUX]["ssim"]["value"]
    assert lines[3].startswith(f"| 1 | {AUX} | {value:.4g} [")
