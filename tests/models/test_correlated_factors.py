"""Factors that go together: their latents may, too, and are not pulled apart."""

import math

import pytest
import torch

from hpcauxvae.dependence.past import among_factors
from hpcauxvae.models import model_class
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.types import Batch, Reduction

N = 2000
"""Samples: correlations below .09 may be chance."""


def _factors(correlation: float, missing: float = 0.0) -> torch.Tensor:
    """(N, 2), in [0, 1], of this correlation; some of the second are not measured."""
    generator = torch.Generator().manual_seed(5)
    own, other, there = (torch.rand(N, generator=generator, dtype=torch.float64) for _ in range(3))
    factors = torch.stack([own, correlation * own + (1 - correlation) * other], 1)
    factors[there < missing, 1] = math.nan
    return factors


def test_correlations_among_factors_are_those_of_the_samples_that_have_both() -> None:
    u = _factors(0.5, missing=0.4)
    both = u[u.isfinite().all(1)]
    found = among_factors(u, 2)
    for k in (1, 2):
        for other in (1, 2):
            want = torch.corrcoef(torch.stack([both[:, 0] ** k, both[:, 1] ** other]))[0, 1].item()
            assert found[0, k - 1, 1, other - 1].item() == pytest.approx(want, rel=1e-9)
            assert found[1, other - 1, 0, k - 1].item() == pytest.approx(want, rel=1e-9)
    assert not found[0, :, 0].any() and not found[1, :, 1].any(), "of a factor with itself nothing is said"


def test_what_may_be_chance_is_none() -> None:
    """Of 2,000 samples a correlation of .07 may, one of .12 may not."""
    weak, strong = (among_factors(_factors(share), 1)[0, 0, 1, 0].item() for share in (0.06, 0.11))
    assert weak == 0 and strong > 4 / math.sqrt(N)


def _gradient(factors: torch.Tensor) -> torch.Tensor:
    """Of the intra term to the means (N, 3) of latents of which the first two are the factors themselves."""
    torch.manual_seed(3)
    sizes = {"image_shape": (1, 16, 16), "latents": 3, "network": "mlp", "columns": (0, 1), "n_train": N}
    made = model_class("aux-vae")(OBJECTIVES["bernoulli"], **sizes).double().train()
    images = torch.rand(N, 1, 16, 16, dtype=torch.float64)
    made.prepare(images, factors, PixelRange(1.0))
    made.guided.fill_(1.0)
    given = Batch(images, factors, torch.arange(N), None, None)
    posterior = made.encode(images)
    logvar = torch.full_like(posterior.logvar, -20.0)
    for _ in range(2):  # slopes are of the batch before
        mean = torch.cat([factors, torch.zeros(N, 1, dtype=torch.float64)], 1).requires_grad_()
        of_batch = posterior._replace(mean=mean, logvar=logvar)
        intra = made.batch_terms(given, of_batch, torch.zeros(N, 4, dtype=torch.float64), Reduction(N))["intra"]
        made.independence.advance(counts=False)
    return torch.autograd.grad(intra, mean)[0]


def test_latents_that_are_the_factors_are_not_pulled_apart() -> None:
    """However the factors correlate, a code without error is where it should be: hardly a gradient is left there.

    Pulled towards independence, as (7) has it, latents of factors that correlate by .7 had one many times as large.
    """
    alone, together = (_gradient(_factors(share)).norm().item() for share in (0.0, 0.5))
    assert together < 3 * alone
