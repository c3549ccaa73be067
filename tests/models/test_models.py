"""Losses of the models against torch.distributions and formulas written out."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from helpers import moments_cases as cases
from helpers.places import ROOT
from hpcauxvae.models import MODELS, model_class
from hpcauxvae.models.base import UsualNorm
from hpcauxvae.models.likelihoods import PixelRange, bernoulli_nll, optimal_gaussian_nll
from hpcauxvae.models.objectives import FIXED, OBJECTIVES
from hpcauxvae.types import Batch, InputError, Reduction

SIZES: dict[str, Any] = {"image_shape": (1, 16, 16), "latents": 3, "network": "mlp", "columns": (0, 2), "n_train": 50}


def batch(size: int = 6, shape: tuple[int, int, int] = (1, 16, 16)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, *shape, generator=generator, dtype=torch.float64)
    factors = torch.rand(size, 3, generator=generator, dtype=torch.float64)
    return Batch(images, factors, torch.arange(size))


def model(name: str, objective: str = "bernoulli", **sizes: Any) -> Any:
    torch.manual_seed(1)
    made = model_class(name)(OBJECTIVES[objective], **(SIZES | sizes)).double()
    made.prepare(batch().images, batch().factors[:, made.columns], PixelRange(float(batch().images.max())))
    return made


def noise(made: Any, size: int = 6) -> Tensor:
    return torch.randn(size, made.noise_size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_bernoulli_is_the_distributions() -> None:
    logits = torch.randn(4, 1, 5, 5, dtype=torch.float64)
    pixels = torch.bernoulli(torch.full_like(logits, 0.4))
    expected = -Bernoulli(logits=logits).log_prob(pixels).flatten(1).sum(1)
    torch.testing.assert_close(bernoulli_nll(pixels, logits), expected)


def test_optimal_variance_has_value_and_gradient_of_n_over_2_log_mse() -> None:
    target = torch.rand(7, 1, 4, 4, dtype=torch.float64)
    means = torch.rand(7, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = optimal_gaussian_nll(target, means, Reduction(7)).mean()
    direct = 16 / 2 * (target - means).square().mean().log()
    torch.testing.assert_close(loss, direct)
    torch.testing.assert_close(*(torch.autograd.grad(x, means)[0] for x in (loss, direct)))


def test_the_likelihood_and_kl_of_a_step_with_two_draws() -> None:
    """Encoder and decoder as they are; everything after them from torch.distributions."""
    from dataclasses import replace

    torch.manual_seed(1)
    made: Any = model_class("beta-vae")(replace(OBJECTIVES["bernoulli"], draws=2, beta=3.0), **SIZES).double()
    made.prepare(batch().images, batch().factors[:, [0, 2]], PixelRange(float(batch().images.max())))
    given, draws = batch(), noise(made)
    terms = made(given, draws, Reduction(6))
    posterior = made.encode(given.images)
    scaled = given.images / given.images.max()
    nll = 0.0
    for part in draws.split(3, 1):
        output = made.decoder(posterior.mean + (posterior.logvar / 2).exp() * part)
        nll -= Bernoulli(logits=output, validate_args=False).log_prob(scaled).sum((1, 2, 3)).mean() / 2
    q = Normal(posterior.mean, (posterior.logvar / 2).exp())
    kl = kl_divergence(q, Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))).sum(1).mean()
    torch.testing.assert_close(terms["reconstruction"], nll)
    torch.testing.assert_close(terms["kl"], 3 * kl)


@pytest.mark.parametrize("correlate", ["z", "means"])
def test_aux_vae_by_hand(correlate: str) -> None:
    """The prior of (3) with variance 1/n, or the marginal of a missing u; the weights of (9); z or means."""
    from dataclasses import replace

    torch.manual_seed(1)
    objective = replace(OBJECTIVES["tuned"], **FIXED, correlate=correlate, beta=2.0, lambda1=3.0, lambda2=5.0, degree=2)
    made: Any = model_class("aux-vae")(objective, **SIZES).double()
    whole = batch()
    made.prepare(whole.images, whole.factors[:, [0, 2]], PixelRange(float(whole.images.max())))
    start = made.encoder.output.bias[3:].tolist()
    assert start == pytest.approx([math.log(1 / 50)] * 2 + [0.0])
    given = batch()
    given.factors[1, 0] = math.nan
    terms = made(given, noise(made), Reduction(6))
    posterior, u = made.encode(given.images), given.factors[:, [0, 2]]
    mean, variance = torch.zeros(6, 3, dtype=torch.float64), torch.ones(6, 3, dtype=torch.float64)
    mean[:, :2], variance[:, :2] = u, 1 / 50
    all_u = whole.factors[:, 0]
    mean[1, 0], variance[1, 0] = all_u.mean(), 1 / 50 + all_u.var(correction=0)
    q = Normal(posterior.mean, (posterior.logvar / 2).exp())
    torch.testing.assert_close(terms["kl"], 2 * kl_divergence(q, Normal(mean, variance.sqrt())).sum(1).mean())
    spread = posterior.logvar.exp() if correlate == "z" else None
    intra, inter = cases.expected(cases.Case("", u, posterior.mean, spread, 2))
    torch.testing.assert_close(terms["intra"], 3 * intra)
    torch.testing.assert_close(terms["inter"], 5 * inter)


@pytest.mark.parametrize("objective", ["tuned", "bernoulli"])
def test_what_an_image_has_to_explain_is_what_principal_components_gain_over_the_mean_image(objective: str) -> None:
    """Images of three components and noise: scikit-learn's PCA of as many, the likelihood from torch.distributions."""
    from sklearn.decomposition import PCA

    generator = torch.Generator().manual_seed(3)
    parts = torch.rand(3, 256, generator=generator, dtype=torch.float64)
    images = 900 + 200 * torch.rand(80, 3, generator=generator, dtype=torch.float64) @ parts
    images = torch.poisson(images, generator=generator).view(80, 1, 16, 16)
    made: Any = model_class("aux-vae")(OBJECTIVES[objective], **SIZES).double()
    made.prepare(images, torch.rand(80, 2, generator=generator, dtype=torch.float64), PixelRange(float(images.max())))
    scaled = made.scale(images).flatten(1).numpy()
    pca = PCA(3, svd_solver="full").fit(scaled)
    drawn = [np.broadcast_to(scaled.mean(0), scaled.shape), pca.inverse_transform(pca.transform(scaled))]
    target = torch.from_numpy(scaled)
    likelihoods = [
        Normal(torch.tensor(x), 0.01) if objective == "tuned" else Bernoulli(torch.tensor(x), validate_args=False)
        for x in drawn
    ]
    mean, components = (-one.log_prob(target).sum(1).mean().item() for one in likelihoods)
    assert made.nats.item() == pytest.approx(max(1, mean - components), rel=1e-6)
    assert mean - components > 0


def test_the_guide_comes_into_place_from_a_hundredth_of_the_nats_to_the_prior() -> None:
    made = model("aux-vae")
    made.nats.fill_(20.0)
    first = (made.u_var / (2 * 0.01 * 20)).tolist()
    for progress, power in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        made.advance(progress)
        variance = made.prior(batch())[1][:, :2]
        expected = [one * (1 / 50 / one) ** power for one in first]
        assert variance[0].tolist() == pytest.approx(expected), progress
        assert made.eval().prior(batch())[1][0, 0].item() == pytest.approx(1 / 50)
        made.train()
    made.nats.fill_(1.0)
    made.advance(0.0)
    assert made.prior(batch())[1][0, 0].item() == pytest.approx(0.3), "at most"


def test_few_samples_hold_their_latents_as_firmly_as_independence_pushes() -> None:
    """50 samples by a prior of 1/50 where the unit is less; where that is given, or there is no guide, it stays."""
    made = model("aux-vae")
    made.nats.fill_(20.0)
    for unit, variance in ((1000.0, 1 / 1000), (50.0, 1 / 50), (2.0, 1 / 50)):
        made.unit.fill_(unit)
        made.train().advance(0.5)
        assert made.prior(batch())[1][0, :3].tolist() == pytest.approx([variance, variance, 1])
        made.advance(0.25)
        first = (made.u_var[0] / (2 * 0.01 * 20)).item()
        assert made.prior(batch())[1][0, 0].item() == pytest.approx((first * variance) ** 0.5), "half the way"
        assert made.eval().prior(batch())[1][0, 0].item() == pytest.approx(variance)
    made.unit.fill_(1000.0)
    for fields in ({"prior_variance": 1 / 50}, {"guide": 0.0}):
        made.objective = dataclasses.replace(made.objective, **fields)
        assert made.prior(batch())[1][0, 0].item() == pytest.approx(1 / 50)


def test_independence_is_in_units_of_the_nats_and_comes_with_the_guide() -> None:
    """Against the same terms without nats and before the guide: intra has the guide alone."""
    made, given = model("aux-vae"), batch()
    found = []
    for nats, progress in ((1.0, 0.5), (30.0, 0.5), (30.0, 0.25)):
        made.unit.fill_(nats)
        made.independence = type(made.independence)(2, 3, made.objective, 50).double()
        for step in range(2):  # slopes are of the batch before
            made.guided.fill_(min(1.0, progress / 0.5))
            terms = made.batch_terms(given, made.encode(given.images), noise(made), Reduction(6))
            if step == 0:
                made.independence.pairs.advance()
                made.independence.together.advance()
        found.append([terms[name].item() for name in ("intra", "inter", "joint")])
    one, whole, half = np.array(found)
    assert (np.abs(one) > 1e-6).all()
    np.testing.assert_allclose(whole, one * [1, 30, 30], rtol=1e-6)
    np.testing.assert_allclose(half, whole / 4, rtol=1e-6)
    validated = made.eval().batch_terms(given, made.encode(given.images), noise(made), Reduction(6))
    assert validated.keys() == {"intra"}, "what has a weight that moves says not which model is better"
    assert validated["intra"].item() == pytest.approx(whole[0], rel=1e-6)


def test_what_is_asked_for_is_read_as_in_real_images() -> None:
    """Rows, codes, image and reading one by one; the line and its scatter by numpy over the batch before.

    One sample in four of a global batch of 10 is asked of, whose last 6 these are: numbers 4 and 8.
    """
    made, given = model("aux-vae", latents=4), batch()
    made.train()
    made.encoder.output.weight.data.mul_(30)  # some are read far from the line
    made(given, noise(made), Reduction(6))
    before = made.encode(given.images).mean.detach().numpy()
    made.advance(1.0)
    draws = noise(made)
    term = made(given, draws, Reduction(10, first=4))["asked"]
    u, posterior, expected = given.factors[:, [0, 2]], made.encode(given.images), 0.0
    distances: list[float] = []
    for b in (0, 4):
        row = int(Normal(0.0, 1.0).cdf(draws[b, -1]) * 1024)
        asked = u[row * 6 // 1024]
        assert torch.equal(asked, made.rows_ND[row])
        z = posterior.mean[b] + (posterior.logvar[b] / 2).exp() * draws[b, :4]
        z = torch.cat([asked + draws[b, :2] / math.sqrt(50), z[2:]])
        read = made.encoder(made.decoder(z[None]).sigmoid())[0]
        for j in range(2):
            line = np.polyfit(u[:, j].numpy(), before[:, j], 1)
            square = np.mean((before[:, j] - np.polyval(line, u[:, j].numpy())) ** 2)
            distance = (read[j] - float(np.polyval(line, asked[j].item()))) ** 2 / max(square, 1 / 50)
            distances.append(distance.item())
            expected += 5 * (distance.clamp(min=1).sqrt() - 1) / 3
    assert min(distances) < 1 < max(distances)
    torch.testing.assert_close(term, expected)
    term.backward()
    bias = made.encoder.output.bias.grad
    assert bias[:2].tolist() == bias[4:6].tolist() == [0, 0]  # of the guided latents: whoever reads learns nothing here
    assert (bias[2:4] != 0).all() and (bias[6:] != 0).all() and (made.decoder.output.bias.grad != 0).any()


@pytest.mark.parametrize(("hidden", "share"), [(0.0, 1.0), (1.0, 0.5), (1e3, 0.0)])
def test_residual_latents_wait_where_the_factors_tell_all(hidden: float, share: float) -> None:
    """Images of patterns of equal strength, as many by two factors as by numbers that nobody measured: what residual
    latents tell costs more by a hundredth of the nats that the factors tell, until the guide is in place."""
    generator = torch.Generator().manual_seed(3)
    patterns = torch.linalg.qr(torch.randn(256, 3, generator=generator, dtype=torch.float64))[0].T
    seen = torch.rand(400, 3, generator=generator, dtype=torch.float64)
    strength = torch.tensor([1.0, 1.0, hidden * math.sqrt(2)], dtype=torch.float64)
    images = (5 * ((seen - 0.5) * strength / max(1.0, hidden)) @ patterns + 0.5).view(400, 1, 16, 16)
    made: Any = model_class("aux-vae")(OBJECTIVES["bernoulli"], **SIZES).double()
    made.prepare(images, seen[:, :2], PixelRange(1.0))
    dearer, whole = made.independence.dearer.item(), 0.01 * made.explainable(images)
    assert dearer == pytest.approx(share * whole, rel=0.1, abs=0.05 * whole)  # a little by chance
    assert made.unit.item() == pytest.approx(3**share * max(1.0, made.explainable(images)), rel=0.1)
    given = Batch(images[:6], seen[:6], torch.arange(6))
    mean, logvar = (code[:, 2] for code in made.encode(given.images))
    kl = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).mean().item()
    for progress, left in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (0.9, 0.0)):
        made.advance(progress)
        early = made.train()(given, noise(made), Reduction(6))["early"].item()
        assert early == pytest.approx(left * made.independence.dearer.item() * kl)
    assert "early" not in made.eval()(given, noise(made), Reduction(6))


def test_few_images_say_nothing_of_what_the_factors_explain() -> None:
    """Thirteen functions of two factors, each with four samples at least, of which no factor is missing."""
    made, images, u = model("aux-vae"), torch.rand(60, 1, 16, 16).double(), torch.rand(60, 2).double()
    images[:] = u.mean(1)[:, None, None, None]
    for missing, says in ((0, True), (8, True), (9, False)):
        u[:missing, 0] = math.nan
        made.prepare(images, u, PixelRange(1.0))
        dearer = made.independence.dearer.item()
        assert dearer > 0.007 * made.explainable(images) > 0 if says else dearer == 0


def test_many_columns_guide_too() -> None:
    """Of 16, as of many classes, there are more functions than features of the residual latents."""
    torch.manual_seed(1)
    sizes = SIZES | {"latents": 20, "columns": tuple(range(16))}
    made: Any = model_class("aux-vae")(OBJECTIVES["bernoulli"], **sizes).double().train()
    assert made.independence.joint.functions_of > 128
    images, factors = torch.rand(40, 1, 16, 16).double(), torch.rand(40, 16).double()
    made.prepare(images, factors, PixelRange(1.0))
    for progress in (0.5, 0.6, 0.7):
        made.advance(progress)
        terms = made(Batch(images, factors, torch.arange(40)), noise(made, 40), Reduction(40))
        sum(terms.values()).backward()
    assert all(term.isfinite() for term in terms.values()) and terms["joint"].item() != 0


def test_nothing_is_asked_for_in_validation_or_where_no_latent_is_free() -> None:
    made = model("aux-vae")
    assert "asked" in made.train()(batch(), noise(made), Reduction(6))
    assert "asked" not in made.eval()(batch(), noise(made), Reduction(6))
    full = model("aux-vae", latents=2)
    assert full.noise_size == 2 and "asked" not in full.train()(batch(), noise(full), Reduction(6))


def test_factors_that_are_never_measured_together_are_asked_for_at_their_means() -> None:
    made: Any = model_class("aux-vae")(OBJECTIVES["bernoulli"], **SIZES).double()
    u = batch().factors[:, [0, 2]].clone()
    u[:3, 0], u[3:, 1] = math.nan, math.nan
    made.prepare(batch().images, u, PixelRange(1.0))
    assert torch.equal(made.rows_ND, made.u_mean.expand(1024, 2))
    u[0, 0] = 0.25
    made.prepare(batch().images, u, PixelRange(1.0))
    assert torch.equal(made.rows_ND, u[:1].expand(1024, 2))


def test_the_joint_features_are_not_rounded_to_bfloat16() -> None:
    made, given = model("aux-vae"), batch()
    made.float()
    given = Batch(given.images.float(), given.factors.float(), given.index)
    posterior, found = made.encode(given.images), []
    for enabled in (False, True):
        made.independence = type(made.independence)(2, 3, made.objective, 50).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            made.batch_terms(given, posterior, noise(made).float(), Reduction(6))
        found.append(made.independence.together.latest.clone())
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_a_label_that_is_missing_leaves_every_gradient_finite(name: str) -> None:
    made, given = model(name), batch()
    given.factors[1, 0] = math.nan
    torch.stack(list(made(given, noise(made), Reduction(6)).values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["idvae", "idvae-x"])
def test_idvae_by_hand(name: str) -> None:
    made = model(name)
    given, draws = batch(), noise(model(name))
    given.factors[1, 0] = math.nan
    terms = made(given, draws, Reduction(6))
    u = given.factors[:, [0, 2]]
    filled = torch.where(u.isnan(), batch().factors[:, [0, 2]].mean(0), u)
    mean, logvar = made.prior_encoder(filled).chunk(2, 1)
    prior, standard = Normal(mean, (logvar / 2).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    posterior = made.encode(given.images, u)
    q = Normal(posterior.mean, (posterior.logvar / 2).exp())
    torch.testing.assert_close(terms["kl"], kl_divergence(q, prior).sum(1).mean())
    drawn = made.decoder(q.mean + q.stddev * draws[:, :3])  # once: the other noise is the prior's
    torch.testing.assert_close(terms["reconstruction"], bernoulli_nll(made.scale(given.images), drawn).mean())
    read = made.prior_decoder(mean + prior.stddev * draws[:, 3:])
    errors = (read - u).square()
    expected = (errors[:, 0].nansum() + errors[:, 1].sum()) / 6
    torch.testing.assert_close(terms["labels"], expected)
    torch.testing.assert_close(terms["prior_kl"], 0.01 * kl_divergence(prior, standard).sum(1).mean())
    terms["kl"].backward()
    assert all(p.grad is None for p in made.prior_encoder.parameters()), "the prior is constant in the image's loss"


def test_only_the_published_idvae_sees_labels() -> None:
    given = batch()
    for name, sees in (("idvae", True), ("idvae-x", False)):
        made = model(name)
        one, other = (made.encode(given.images, u).mean for u in (given.factors[:, :2], 1 - given.factors[:, :2]))
        assert torch.equal(one, other) != sees
    with pytest.raises(InputError, match="needs the auxiliary factors"):
        model("idvae").encode(given.images)


def test_a_bernoulli_likelihood_needs_pixels_between_0_and_1() -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match="likelihood = bernoulli; allowed: with scale = linear and sigmoid = True"):
        replace(OBJECTIVES["tuned"], likelihood="bernoulli")


def test_the_page_of_the_method_has_the_constants_of_every_objective() -> None:
    page = (ROOT / "docs" / "method.md").read_text()
    head, *rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][:11]
    names = [cell.strip("`").split("`")[0] for cell in head]
    assert [*names, "weighted"] == sorted(OBJECTIVES, key=[*names, "weighted"].index), "which the page leaves to words"
    assert dataclasses.replace(OBJECTIVES["weighted"], likelihood="fitted") == OBJECTIVES["gaussian"]
    table = {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows if not row[0].startswith("---")}
    for name in names:
        one = OBJECTIVES[name]
        weight = f"{one.lambda2:g}" if one.dependence_tolerance is None else "none"
        weights = f"{one.beta:g}, {one.lambda1:g}, {weight}, {one.degree}"
        if one.dependence_tolerance is not None:
            tolerance = f"tolerance {one.dependence_tolerance:g}".replace("0.", ".")
            assert table["independence"][name] in (f"{tolerance}, guide .5, momentum .9", "the same")
        assert table["β, λ1, λ2, K"][name].split(" (")[0] == weights
        assert table["batch"][name] == str(one.batch_size)
        assert table["scale of the likelihood"][name].startswith(one.scale)
        assert table["prior variance of z_aux"][name] == ("1/n" if one.prior_variance is None else "1")


def test_gradients_are_cut_at_twice_their_usual_norm() -> None:
    norms = UsualNorm()
    assert norms.twice(torch.tensor(8.0)) == math.inf, "of nothing"
    assert norms.twice(torch.tensor(8.0)).item() == pytest.approx(16)
    assert norms.twice(torch.tensor(1000.0)).item() == pytest.approx(16)
    assert norms.twice(torch.tensor(2.0)).item() == pytest.approx(16 * 2**0.01), "what was cut counts as cut"
    for _ in range(1000):
        norms.twice(torch.tensor(3.0, dtype=torch.float64))
    assert norms.twice(torch.tensor(3.0)).item() == pytest.approx(6, rel=1e-4)
