"""Slopes from the past, the joint features and the constraint: against closed forms, theory and plain torch."""

import math

import numpy as np
import pytest
import torch

from helpers import moments_cases as cases
from hpcauxvae.dependence.joint import FEATURES, LIFE, PARTS, WAVES, JointFeatures
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.past import Constraint, Past, dependence, moments


def _add(past: Past, batch: PolynomialMoments) -> None:
    past.keep(batch)
    past.advance()


@pytest.mark.parametrize("degree", [1, 3])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_compiled_gradient_is_that_of_the_torch_formulation(degree: int, missing: float) -> None:
    u, codes, var = cases.draw(11, 50, 3, 5, spread=True, missing=missing)
    assert var is not None
    weights = torch.randn(3, degree, 5, degree, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for of in (lambda *rows: moments(*rows, degree, None), lambda *rows: PolynomialMoments.of(*rows, degree=degree)):
        leaves = [codes.clone().requires_grad_(), var.clone().requires_grad_()]
        correlation = of(u, *leaves).correlation()
        value = (weights * correlation * correlation.detach()).sum()
        found.append((value.detach(), *torch.autograd.grad(value, leaves)))
    for got, want in zip(*found, strict=True):
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-12)


def test_a_past_is_that_of_weighted_samples() -> None:
    """Two batches, the first counted .5 times: the same as the second taken twice over beside the first once."""
    u, codes, var = cases.draw(5, 60, 3, 5, offset=100.0, spread=True, missing=0.2)
    assert var is not None
    past = Past(3, 5, degree=2, momenta=(0.5, 0.9))
    for rows in (slice(0, 40), slice(40, 60)):
        _add(past, moments(u[rows], codes[rows], var[rows], 2, None))
    order = [*range(40), *range(40, 60), *range(40, 60)]
    whole = PolynomialMoments.of(u[order], codes[order], var[order], degree=2)
    assert torch.allclose(past.correlation()[0], whole.correlation(), rtol=0, atol=1e-9)


def test_a_slope_is_a_sign_smoothed_at_the_noise_of_the_past() -> None:
    """Codes r u + sqrt(1 - r^2) e in batches of 64 with momentum .9: as good as 64 / .1 * 1.9 = 1,216 samples."""
    generator = torch.Generator().manual_seed(0)
    past = Past(1, 2, degree=1, momenta=(0.9,))
    assert past.slopes().flatten().tolist() == [0, 0]  # of nothing
    for _ in range(100):
        u_B1 = torch.randn(64, 1, generator=generator, dtype=torch.float64)
        noise_B2 = torch.randn(64, 2, generator=generator, dtype=torch.float64)
        _add(
            past,
            PolynomialMoments.of(u_B1, torch.cat([-0.8 * u_B1 + 0.6 * noise_B2[:, :1], noise_B2[:, 1:]], 1), degree=1),
        )
    assert past.samples().flatten()[0].item() == pytest.approx(1216, rel=1e-3)
    reversed_, none = past.slopes().flatten().tolist()
    assert reversed_ == pytest.approx(-0.8 / math.sqrt(0.64 + 1 / 1216), rel=1e-2)
    r = past.correlation().flatten()[1].item()
    assert none == pytest.approx(r / math.sqrt(r**2 + 1 / 1216), rel=1e-3)


def test_a_latent_in_use_that_is_independent_pays_nothing() -> None:
    """The mean of |corr| of 64 independent pairs is sqrt(2 / (64 pi)) = .1, that of slope times corr is 0."""
    generator = torch.Generator().manual_seed(2)
    past = Past(1, 2, degree=1, momenta=(0.9,))
    paid, absolute = [], []
    for _ in range(3000):
        u_B1, codes_B2 = (torch.randn(64, k, generator=generator, dtype=torch.float64) for k in (1, 2))
        batch = PolynomialMoments.of(u_B1, codes_B2, degree=1)
        paid.append(dependence(batch.correlation(), past.slopes()[0])[1].item())
        absolute.append(batch.correlation()[0, 0, 1, 0].abs().item())
        _add(past, batch)
    assert torch.tensor(absolute).mean().item() == pytest.approx(math.sqrt(2 / (64 * math.pi)), rel=0.05)
    assert abs(torch.tensor(paid).mean().item()) < 4 * 0.09 / math.sqrt(3000)


def test_terms_of_two_factors_by_hand() -> None:
    """Explicitness with its sign; within the guided latents and towards the residual one by the slopes."""
    correlation = torch.tensor([[0.9, 0.2, -0.3], [0.1, -0.5, 0.4]], dtype=torch.float64)[:, None, :, None]
    slopes = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, 0.5]], dtype=torch.float64)[:, None, :, None]
    intra, inter = dependence(correlation, slopes)
    assert intra.item() == pytest.approx((1 - 0.9) + (1 + 0.5) + (-0.2 + 0.1) / 1)
    assert inter.item() == pytest.approx((0.3 + 0.2) / (2 * 1))


def test_features_have_the_moments_of_drawn_codes() -> None:
    joint = JointFeatures(2, 3)
    generator = torch.Generator().manual_seed(3)
    mean, var = (
        torch.randn(4, 3, generator=generator, dtype=torch.float64),
        torch.tensor([[1e-8, 0.1, 1.0]] * 4).double(),
    )
    expected, variance = joint.features(mean, var, torch.ones(3))
    z = mean + var.sqrt() * torch.randn(100_000, 4, 3, generator=generator, dtype=torch.float64)
    drawn = torch.cos(z @ joint.w_RM.double() + joint.b_M)
    assert torch.allclose(drawn.mean(0), expected, atol=5 / math.sqrt(100_000))
    assert torch.allclose(drawn.var(0), variance, atol=5 / math.sqrt(100_000))
    nothing = joint.features(mean, torch.full_like(var, 1e-14), torch.ones(3))[
        1
    ]  # E[f^2] - E[f]^2 would be lost in rounding
    slope = -torch.sin(mean @ joint.w_RM.double() + joint.b_M)
    assert torch.allclose(nothing, slope**2 * 1e-14 * joint.w_RM.double().square().sum(0), rtol=1e-5, atol=1e-26)


def test_functions_are_the_factors_their_products_and_waves_and_nan_where_one_is_missing() -> None:
    joint = JointFeatures(2, 3)
    values = joint.functions(torch.tensor([[0.7, 0.1], [0.7, torch.nan]], dtype=torch.float64))
    assert values.shape == (2, joint.functions_of) and joint.functions_of == 2 + 3 + WAVES
    assert values[0, :5].tolist() == pytest.approx([0.2, -0.4, 0.04, -0.08, 0.16])
    assert values[1].isnan().tolist() == [False, True, False, True, True] + [True] * WAVES


def test_what_two_latents_tell_only_together_and_a_product_of_factors_are_seen() -> None:
    """z1 z2 has the sign of u1, or z1 that of the product of two centred factors: no power of one latent tells one
    factor; the joint features see both, and nothing where there is nothing."""
    generator = torch.Generator().manual_seed(4)
    u = torch.rand(20_000, 2, generator=generator, dtype=torch.float64)
    z = torch.randn(20_000, 2, generator=generator, dtype=torch.float64)
    together, product = z.clone(), z.clone()
    together[:, 1] = z[:, 1].abs() * z[:, 0].sign() * (u[:, 0] - 0.5).sign()
    product[:, 1] = z[:, 1].abs() * ((u - 0.5).prod(1)).sign()
    joint, floor = JointFeatures(2, 2), torch.full_like(z, 1e-4)
    found = []
    for codes in (z, together, product):
        pairwise = PolynomialMoments.of(u, codes, floor, degree=3).correlation().abs().max().item()
        past = Past(joint.functions_of, FEATURES, degree=1, momenta=(0.5,))
        _add(past, moments(joint.functions(u), *joint.features(codes, floor, torch.ones(2)), 1, None))
        found.append((pairwise, past.correlation().abs().max().item()))
    assert all(pairwise < 0.03 for pairwise, _ in found)
    assert found[0][1] < 0.035 < 0.1 < min(found[1][1], found[2][1])


def test_dependence_has_no_bias_from_sampling_and_finds_what_is_there() -> None:
    """Of codes r u + sqrt(1 - r^2) e with a posterior variance, whose share of the means A = 1 / (1 + v)."""
    generator = torch.Generator().manual_seed(5)
    for r, v in ((0.0, 0.0), (0.0, 1.0), (0.2, 1.0)):
        found = []
        for _ in range(400):
            past = Past(1, 1, degree=1, momenta=(0.9,))
            for _ in range(20):
                u_B1, noise_B1 = (torch.randn(32, 1, generator=generator, dtype=torch.float64) for _ in range(2))
                codes_B1 = r * u_B1 + math.sqrt(1 - r * r) * noise_B1
                _add(past, PolynomialMoments.of(u_B1, codes_B1, torch.full_like(codes_B1, v), degree=1))
            found.append(past.dependence().item())
        values = torch.tensor(found)
        assert values.mean().item() == pytest.approx(r**2 / (1 + v), abs=4 * values.std().item() / 20)


def test_the_weight_follows_the_dependence_at_once_and_its_base_slowly_and_no_further_than_it_began() -> None:
    constraint = Constraint(0.01)
    log_base = math.log(Constraint.HIGHEST)
    assert constraint.weight().item() == pytest.approx(Constraint.HIGHEST)
    falls, rises = (0.005, 0.5, -0.75), (0.02, 2, 1)
    for dependence_, factor, step in (rises, (0.01, 1, 0), falls, (0.0, 0, -1), (1.0, 3, 1), rises, rises):
        for moves in (False, True):
            constraint.move(torch.tensor(dependence_**2, dtype=torch.float64), base=moves)
            log_base = min(math.log(Constraint.HIGHEST), log_base + Constraint.SPEED * step * moves)
            assert constraint.weight().item() == pytest.approx(factor * math.exp(log_base)), dependence_
    constraint.move(torch.tensor(-1e-5, dtype=torch.float64), base=True)  # less than sampling adds
    assert constraint.weight().item() == 0


def test_the_base_does_not_wind_up() -> None:
    constraint = Constraint(0.01)
    for _ in range(10_000):
        constraint.move(torch.tensor(0.0, dtype=torch.float64), base=True)
    constraint.move(torch.tensor(1e-4, dtype=torch.float64), base=True)
    assert constraint.weight().item() == pytest.approx(Constraint.LOWEST)


def test_a_model_that_is_cast_keeps_its_past_in_float64() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Past(2, 3, degree=1, momenta=(0.9,)), Constraint(0.01)).float()
    assert model[0].weight.dtype == torch.float32
    assert model[1].moments.dtype == model[2].state.dtype == torch.float64
    assert model[2].weight().item() == pytest.approx(Constraint.HIGHEST, rel=1e-14)


def test_a_past_stays_where_it_is_when_a_model_is_cast_or_laid_out_anew() -> None:
    """meta stands for an accelerator, of which a cast says nothing."""
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), Past(2, 3, degree=1, momenta=(0.9,))).to("meta")
    for way in ({"memory_format": torch.channels_last}, {"dtype": torch.float32}):
        model.to(**way)
        assert model[1].moments.device.type == "meta" and model[1].moments.dtype == torch.float64


class _Step(torch.nn.Module):
    """What a training step does of it."""

    def __init__(self) -> None:
        super().__init__()
        self.past, self.constraint = Past(2, 4, degree=1, momenta=(0.9,)), Constraint(0.01)

    def forward(self, u: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        batch = moments(u, codes, None, 1, None)
        self.past.keep(batch)
        return self.constraint.weight() * (self.past.slopes()[0] * batch.correlation()).mean()

    def advance(self) -> None:
        self.past.advance()
        self.constraint.move(self.past.dependence(), base=True)


def test_in_a_compiled_graph() -> None:
    u, codes, _ = cases.draw(7, 40, 2, 4)
    plain, graph = _Step(), _Step()
    whole = torch.compile(graph, fullgraph=True, backend="aot_eager")
    for scale in (1.0, 2.0, 3.0):
        leaf = (codes**2 + scale * codes).requires_grad_()
        values = plain(u, leaf), whole(u, leaf)
        assert values[0].item() == pytest.approx(values[1].item(), rel=1e-12)
        gradients = [torch.autograd.grad(value, leaf)[0] for value in values]
        assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
        plain.advance()
        graph.advance()
    assert torch.allclose(plain.past.moments, graph.past.moments, rtol=1e-12)
    assert plain.constraint.weight().item() == pytest.approx(graph.constraint.weight().item(), rel=1e-12)


def test_the_spread_is_that_of_z_itself() -> None:
    u, codes, var = cases.draw(8, 500, 2, 4, spread=True)
    assert var is not None
    past = Past(2, 4, degree=2, momenta=(0.9,))
    assert past.spread().tolist() == [1, 1, 1, 1]
    _add(past, moments(u, codes, var, 2, None))
    assert past.spread().tolist() == pytest.approx((codes.var(0, correction=0) + var.mean(0)).sqrt().tolist())


def test_the_line_of_what_is_read_is_that_of_least_squares() -> None:
    """Of the samples whose factor is measured, two batches of equal weight."""
    u, codes, var = cases.draw(5, 60, 2, 4, spread=True, missing=0.2)
    past = Past(2, 4, degree=2, momenta=(1.0, 0.5))
    assert [x.tolist() for x in past.reading()] == [[0, 0], [1, 1], [0, 0]]
    for rows in (slice(0, 20), slice(20, 60)):
        _add(past, PolynomialMoments.of(u[rows], codes[rows], var if var is None else var[rows], degree=2))
    for j, (at_0, slope, square) in enumerate(zip(*past.reading(), strict=True)):
        known = u[:, j].isfinite()
        x, y = u[known, j].numpy(), codes[known, j].numpy()
        line = np.polyfit(x, y, 1)
        assert (slope.item(), at_0.item()) == pytest.approx(tuple(line), rel=1e-9)
        assert square.item() == pytest.approx(np.mean((y - np.polyval(line, x)) ** 2), rel=1e-9)


def test_a_factor_that_has_not_varied_for_long_is_read_on_the_line_of_the_prior() -> None:
    """Rounding over rounding has no slope: 3e12 was seen."""
    generator = torch.Generator().manual_seed(0)
    past = Past(1, 2, degree=1, momenta=(0.9,))
    for step in range(700):
        u = torch.ones(64, 1, dtype=torch.float64)
        u[::5] -= float(step < 20)
        codes = u + 0.1 * torch.randn(64, 2, generator=generator, dtype=torch.float64)
        _add(past, PolynomialMoments.of(u, codes, torch.full_like(codes, 0.01), degree=1))
    at_0, slope, square = (x.item() for x in past.reading())
    assert slope == 1 and abs(at_0) < 0.02 and square == pytest.approx(0.01, rel=0.2)


def test_memories_decay_each_in_its_own_time_and_columns_are_forgotten() -> None:
    """Two batches, the first counted .5 times in one memory and 0 times in the other; a column that knows but one."""
    u, codes, var = cases.draw(9, 60, 2, 3, spread=True)
    assert var is not None
    past = Past(2, 3, degree=2, momenta=(0.5, 0.0))
    _add(past, moments(u[:40], codes[:40], var[:40], 2, None))
    past.forget(slice(1, 2))
    _add(past, moments(u[40:], codes[40:], var[40:], 2, None))
    order = [*range(40), *range(40, 60), *range(40, 60)]  # the second taken twice over beside the first once
    both = PolynomialMoments.of(u[order], codes[order], var[order], degree=2).correlation()
    second = PolynomialMoments.of(u[40:], codes[40:], var[40:], degree=2).correlation()
    found = past.correlation()
    assert torch.allclose(found[0, :, :, [0, 2]], both[:, :, [0, 2]], rtol=1e-10)
    assert torch.allclose(found[0, :, :, 1], second[:, :, 1], rtol=1e-10)
    assert torch.allclose(found[1], second, rtol=1e-10)
    n = past.samples()[0, 0, 0, :, 0]
    assert n.tolist() == pytest.approx([40**2 / (0.25 * 40 + 20), 20, 40**2 / (0.25 * 40 + 20)])


def test_features_are_renewed_part_by_part_and_alike_in_every_run() -> None:
    joint, other = JointFeatures(2, 3), JointFeatures(2, 3)
    first = joint.w_RM.clone()
    renewed = [joint.renew(step) for step in range(LIFE + 1)]
    assert [step for step, columns in enumerate(renewed) if columns] == [k * LIFE // PARTS for k in range(1, PARTS + 1)]
    assert not (joint.w_RM == first).any()
    second = joint.w_RM.clone()
    for step in range(LIFE + 1, 2 * LIFE + 1):
        joint.renew(step)
    assert not (joint.w_RM == second).any() and len(set(second[0].tolist())) == FEATURES
    joint = JointFeatures(2, 3)
    joint.renew(LIFE)
    other.renew(LIFE)
    size = FEATURES // PARTS
    assert torch.equal(other.w_RM[:, :size], joint.w_RM[:, :size]) and torch.equal(other.b_M[:size], joint.b_M[:size])
    assert torch.equal(other.w_RM[:, size:], first[:, size:])
