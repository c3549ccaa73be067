"""RunningRegularizer: its error against theory, its gradient against the torch formulation, its state."""

import math

import pytest
import torch

from helpers import moments_cases as cases
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.regularizers import RunningRegularizer, terms
from hpcauxvae.types import InputError


def test_error_shrinks_as_theory_says() -> None:
    """A batch that is j steps old counts m^j. The variance of a weighted estimate is that of
    (sum of weights)^2 / (sum of squared weights) = B (1 + m) / (1 - m) equal samples, and the error of a correlation
    goes with one over the root of their number: sqrt((1 + m) / (1 - m)) = 4.36 times smaller for m = 0.9.
    """
    momentum, rho, steps, run_in = 0.9, 0.6, 5000, 60
    generator = torch.Generator().manual_seed(3)
    running = RunningRegularizer(1, 1, degree=1, momentum=momentum)
    errors = []
    for _ in range(run_in + steps):
        u_B1 = torch.randn(64, 1, generator=generator)
        codes_B1 = rho * u_B1 + math.sqrt(1 - rho**2) * torch.randn(64, 1, generator=generator)
        both = 1 - running(u_B1, codes_B1)[0].item()  # degree 1, one factor: R1 = 1 - |corr|
        single = torch.corrcoef(torch.cat([u_B1, codes_B1], 1).T)[0, 1].item()
        errors.append((both - rho, single - rho))
    rms_running, rms_single = torch.tensor(errors[run_in:]).square().mean(0).sqrt().tolist()
    assert rms_single == pytest.approx((1 - rho**2) / 8, rel=0.1)  # (1 - rho^2) / sqrt(B)
    assert rms_single / rms_running == pytest.approx(math.sqrt((1 + momentum) / (1 - momentum)), rel=0.12)


def test_value_and_gradient_against_weighted_samples() -> None:
    """Two batches, the first counted 0.5 times: the same as the second taken twice over beside the first once."""
    u, codes, var = cases.draw(5, 60, 3, 5, spread=True, missing=0.2)
    assert var is not None
    running = RunningRegularizer(3, 5, degree=2, momentum=0.5)
    running(u[:40], codes[:40], var[:40])
    leaf, spread = codes[40:].clone().requires_grad_(), var[40:].clone().requires_grad_()
    got = running(u[40:], leaf, spread)
    order = [*range(40), *range(40, 60), *range(40, 60)]
    whole = PolynomialMoments.of(
        u[order], torch.cat([codes[:40], leaf, leaf]), torch.cat([var[:40], spread, spread]), degree=2
    )
    wanted = terms(whole.correlation())
    for value, want in zip(got, wanted, strict=True):
        assert value.item() == pytest.approx(want.item(), rel=1e-11)
    pairs = zip(cases.gradient(got, [leaf, spread]), cases.gradient(wanted, [leaf, spread]), strict=True)
    for grad, want in pairs:
        assert torch.allclose(grad, want, rtol=1e-9, atol=1e-13)


def test_state_is_saved_and_left_alone_in_evaluation() -> None:
    u, codes, _ = cases.draw(6, 40, 2, 4)
    first = RunningRegularizer(2, 4, momentum=0.9)
    first(u, codes)
    second = RunningRegularizer(2, 4, momentum=0.9)
    second.load_state_dict(first.state_dict())
    assert second.moments.dtype == torch.float64
    assert [value.item() for value in first(u, codes**2)] == [value.item() for value in second(u, codes**2)]
    before = second.moments.clone()
    second.eval()(u, codes**3)
    assert torch.equal(second.moments, before)


def test_in_a_compiled_graph() -> None:
    u, codes, _ = cases.draw(7, 40, 2, 4)
    plain, graph = (RunningRegularizer(2, 4, momentum=0.9) for _ in range(2))
    whole = torch.compile(graph, fullgraph=True, backend="aot_eager")
    for scale in (1.0, 2.0):
        leaf = (codes**2 + scale * codes).requires_grad_()
        results = [(value[0].item(), cases.gradient(value, [leaf])[0]) for value in (plain(u, leaf), whole(u, leaf))]
        assert results[0][0] == results[1][0]
        assert torch.allclose(results[0][1], results[1][1], rtol=1e-14)
    assert torch.equal(plain.moments, graph.moments)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="momentum is 1; allowed: at least 0, less than 1"):
        RunningRegularizer(2, 4, momentum=1)
    with pytest.raises(InputError, match="have 2 and 5 columns; allowed: 2, 4"):
        RunningRegularizer(2, 4, momentum=0.5)(torch.zeros(3, 2), torch.zeros(3, 5))
