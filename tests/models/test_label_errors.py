"""Labels with errors: what is likely of the true factors, the prior, and explicitness that learns no error by heart."""

import math

import numpy as np
import pytest
import torch

from hpcauxvae.dependence.past import dependence
from hpcauxvae.models import model_class
from hpcauxvae.models.aux_vae import Independence
from hpcauxvae.models.label_errors import LabelErrors
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.types import Batch, Factor, Reduction


def test_what_is_likely_has_the_slope_of_the_true_factor() -> None:
    """Half of the labels have an error of .05, half of .4; a latent that is the true factor has slope 1 on the guess,
    on the label itself much less, and its correlation with the guess is what is called attainable."""
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 1, (40_000, 1))
    errors = np.where(rng.random((40_000, 1)) < 0.5, 0.05, 0.4)
    labels = torch.from_numpy(true + errors * rng.standard_normal(true.shape))
    labels[:100] = math.nan
    made = LabelErrors(1).double()
    made.fit(labels, torch.from_numpy(errors), 1e-4)
    assert made.true_D.item() == pytest.approx(1 / 12, rel=0.03)
    likely = made.likely(labels, torch.from_numpy(errors)).numpy()[100:, 0]
    slope = [np.polyfit(given, true[100:, 0], 1)[0] for given in (likely, labels.numpy()[100:, 0])]
    assert slope[0] == pytest.approx(1, abs=0.02) and slope[1] < 0.6
    assert made.attainable_D.item() == pytest.approx(np.corrcoef(likely, true[100:, 0])[0, 1], abs=0.01)
    assert made.unknown_D.item() == pytest.approx(np.mean((true[100:, 0] - likely) ** 2), rel=0.03)


def test_exact_labels_are_what_they_are() -> None:
    made, labels = LabelErrors(2).double(), torch.rand(50, 2, dtype=torch.float64)
    errors = torch.zeros(50, 2, dtype=torch.float64)
    errors[:, 1] = 0.1
    made.fit(labels, errors, 0.01)
    torch.testing.assert_close(made.likely(labels, errors)[:, 0], labels[:, 0])
    assert made.attainable_D[0] > 1 > made.attainable_D[1] and made.unknown_D[0].abs() < 1e-12


def test_exact_labels_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss and its gradient are those of labels whose errors are 0, and nothing is asked of their errors."""
    sizes = {"image_shape": (1, 16, 16), "latents": 3, "network": "mlp", "columns": (0, 2), "n_train": 50}
    torch.manual_seed(1)
    made = model_class("aux-vae")(OBJECTIVES["bernoulli"], **sizes)
    images, factors, noise = torch.rand(16, 1, 16, 16), torch.rand(16, 3), torch.randn(16, made.noise_size)
    made.prepare(images, factors[:, made.columns], PixelRange(1.0))
    batch, found = Batch(images, factors, torch.arange(16)), []
    for exact in (False, True):
        if exact:
            monkeypatch.setattr(Independence, "short", lambda _: pytest.fail("asked of exact labels"))
        terms = made(batch._replace(errors=None if exact else torch.zeros(16, 3)), noise, Reduction(16))
        gradients = torch.autograd.grad(sum(terms.values()), list(made.parameters()), allow_unused=True)
        found.append([*terms.values(), *(gradient for gradient in gradients if gradient is not None)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True)) and len(found[0]) > 10


def test_an_error_widens_the_prior_about_its_label() -> None:
    """Of 50 samples by 1/50 and the square of the error; where the factor was not measured the error says nothing."""
    torch.manual_seed(1)
    sizes = {"image_shape": (1, 16, 16), "latents": 3, "network": "mlp", "columns": (0, 2), "n_train": 50}
    images = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    factors = torch.rand(6, 3, dtype=torch.float64)
    factors[0, 0] = math.nan
    errors = torch.tensor([[0.3, 0.7, 0.0]] * 5 + [[0.0, 0.7, 0.1]], dtype=torch.float64)
    for objective, own in (("bernoulli", 1.0), ("paper", 0.0)):
        made = model_class("aux-vae")(OBJECTIVES[objective], **sizes).double()
        u_ND = factors[:, made.columns]
        made.prepare(images, u_ND, PixelRange(1.0), errors_ND=errors[:, made.columns])
        mean, variance = made.eval().prior(Batch(images, factors, torch.arange(6), None, errors))
        assert variance[1:, :2].numpy() == pytest.approx(1 / 50 + own * errors[1:, [0, 2]].numpy() ** 2), objective
        assert variance[0, 0].item() == pytest.approx(1 / 50 + made.u_var[0].item())
        torch.testing.assert_close(mean[1:, :2], factors[1:, [0, 2]])


def test_explicitness_ends_where_the_true_factor_is() -> None:
    """A latent that follows its labels more than the true factor does is not drawn nearer to them; others are."""
    correlation = torch.full((2, 1, 3, 1), 0.5, dtype=torch.float64, requires_grad=True)
    slopes = torch.zeros(2, 1, 3, 1, dtype=torch.float64)
    intra, _ = dependence(correlation, slopes, torch.tensor([True, False]))
    intra.backward()
    assert correlation.grad is not None
    assert correlation.grad[:, 0, :2, 0].tolist() == [[-1, 0], [0, 0]]


def test_labels_learned_by_heart_stop_the_pull() -> None:
    """The latent is the label itself: with errors its explicitness has no gradient, with exact labels it has."""
    torch.manual_seed(2)
    sizes = {"image_shape": (1, 16, 16), "latents": 3, "network": "mlp", "columns": (0,), "n_train": 50}
    images, factors = torch.rand(64, 1, 16, 16, dtype=torch.float64), torch.rand(64, 1, dtype=torch.float64)
    for error, pulled in ((0.0, True), (0.2, False)):
        errors = torch.full((64, 1), error, dtype=torch.float64)
        made = model_class("aux-vae")(OBJECTIVES["bernoulli"], **sizes).double().train()
        made.prepare(images, factors, PixelRange(1.0), errors_ND=errors)
        made.guided.fill_(1.0)
        given = Batch(images, factors, torch.arange(64), None, errors)
        for _ in range(2):  # slopes are of the batch before
            mean = torch.cat([factors, torch.zeros(64, 2, dtype=torch.float64)], 1).requires_grad_()
            posterior = made.encode(images)._replace(mean=mean)
            intra = made.batch_terms(given, posterior, torch.zeros(64, 4, dtype=torch.float64), Reduction(64))["intra"]
            made.independence.advance(counts=False)
        (gradient,) = torch.autograd.grad(intra, mean)
        assert bool((gradient[:, 0].abs() > 1e-12).any()) == pulled


@pytest.mark.parametrize("transform", ["linear", "log10"])
def test_errors_on_the_scale_of_the_factor(transform: str) -> None:
    """By finite differences of the scale."""
    factor = Factor("mass", "kg", 2.0, 200.0, transform=transform)  # type: ignore[arg-type]
    values, errors = np.array([3.0, 50.0, 190.0]), np.array([1e-4, 2e-4, np.nan])
    expected = factor.scale(values + errors) - factor.scale(values)
    np.testing.assert_allclose(factor.scale_errors(errors, values), expected, rtol=1e-3)
