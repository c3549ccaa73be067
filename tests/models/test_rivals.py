"""Losses of the models of docs/rivals.md against the formulas of their papers, sample by sample in numpy."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from torch import Tensor

from helpers.places import ROOT
from hpcauxvae.models import MODELS, UNTOLD, model_class
from hpcauxvae.models.likelihoods import PixelRange, bernoulli_nll
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.types import Batch, InputError, Posterior, Reduction

B, Z, N = 6, 4, 50
SIZES: dict[str, Any] = {"image_shape": (1, 8, 8), "latents": Z, "network": "mlp", "columns": (0, 2), "n_train": N}
BETA, WEIGHT = 3.0, 7.0
RIVALS = [name for name in MODELS if name not in ("aux-vae", "beta-vae", "idvae", "idvae-x")]


def batch(*, missing: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(B, 1, 8, 8, generator=generator, dtype=torch.float64)
    factors = torch.rand(B, 3, generator=generator, dtype=torch.float64)
    if missing:
        factors[1, 0] = factors[4, 2] = math.nan
    return Batch(images, factors, torch.arange(B))


def model(name: str, **fields: Any) -> Any:
    """With log-variances and means that are far from the start."""
    torch.manual_seed(1)
    kind = model_class(name)
    weight = {"own_weight": WEIGHT} if kind.OWN_WEIGHT is not None else {}
    objective = dataclasses.replace(OBJECTIVES["bernoulli"], beta=BETA, **weight, **fields)
    made: Any = kind(objective, **SIZES).double()
    made.prepare(batch().images, batch().factors[:, made.columns], PixelRange(1.0))
    made.encoder.output.weight.data.mul_(5)
    return made


def noise(made: Any) -> Tensor:
    return torch.randn(B, made.noise_size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def terms_of(name: str, **fields: Any) -> tuple[Any, dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The model, its terms as numbers, posterior means and standard deviations, sampled z, and the factors."""
    made, given = model(name, **fields), batch()
    draws = noise(made)
    terms = {key: value.item() for key, value in made(given, draws, Reduction(B)).items()}
    mean, logvar = (code.detach().numpy() for code in made.encode(given.images, given.factors[:, [0, 2]]))
    std = np.exp(logvar / 2)
    return made, terms, mean, std, mean + std * draws[:, :Z].numpy(), given.factors[:, [0, 2]].numpy()


def kl(mean: np.ndarray, std: np.ndarray, prior_mean: Any, prior_std: Any) -> float:
    """Of one Gaussian to another, summed over all latents and samples."""
    return float(np.sum(np.log(prior_std / std) + (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2) - 0.5))


def test_there_is_a_formula_for_each_of_them() -> None:
    assert sorted(RIVALS) == sorted(
        ["supervised-vae", "ar-vae", "cvae", "ivae", "ci-ivae", "beta-tcvae", "factor-vae", "dip-vae-i", "dip-vae-ii"]
    )


@pytest.mark.parametrize("name", ["supervised-vae", "ar-vae"])
def test_a_guided_latent_has_the_mean_and_spread_of_its_factor(name: str) -> None:
    _, terms, mean, std, _, u = terms_of(name)
    prior_mean, prior_std = np.zeros(Z), np.ones(Z)
    prior_mean[:2], prior_std[:2] = np.nanmean(u, 0), np.nanstd(u, 0)
    assert terms["kl"] == pytest.approx(BETA * kl(mean, std, prior_mean, prior_std) / B)


def test_supervised_vae() -> None:
    _, terms, mean, _, _, u = terms_of("supervised-vae")
    expected = 0.0
    for b in range(B):
        for j in range(2):
            if not np.isnan(u[b, j]):
                expected += (mean[b, j] - u[b, j]) ** 2 / (2 * np.nanvar(u[:, j]))
    assert terms["regression"] == pytest.approx(WEIGHT * expected / B)


def test_ar_vae() -> None:
    """Mean absolute error of tanh(delta D_r) against sign(D_a), D_r in units of the factor's spread."""
    _, terms, _, _, z, u = terms_of("ar-vae")
    expected = 0.0
    for j in range(2):
        errors = [
            abs(math.tanh((z[a, j] - z[b, j]) / np.nanstd(u[:, j])) - np.sign(u[a, j] - u[b, j]))
            for a in range(B)
            for b in range(B)
            if not np.isnan(u[a, j] + u[b, j])
        ]
        assert len(errors) == (B - 1) ** 2
        expected += np.mean(errors)
    assert terms["order"] == pytest.approx(WEIGHT * expected)


@pytest.mark.parametrize(("name", "diagonal"), [("dip-vae-i", 10.0), ("dip-vae-ii", 1.0)])
def test_dip_vae(name: str, diagonal: float) -> None:
    _, terms, mean, std, _, _ = terms_of(name)
    covariance = np.cov(mean.T, bias=True)
    if name == "dip-vae-ii":
        covariance = covariance + np.diag((std**2).mean(0))
    crossed = sum(covariance[i, j] ** 2 for i in range(Z) for j in range(Z) if i != j)
    variances = sum((covariance[i, i] - 1) ** 2 for i in range(Z))
    assert terms["covariance"] == pytest.approx(WEIGHT * crossed)
    assert terms["variance"] == pytest.approx(WEIGHT * diagonal * variances)
    assert terms["kl"] == pytest.approx(BETA * kl(mean, std, 0, 1) / B)


def test_beta_tcvae() -> None:
    """E[log q(z)] - sum of E[log q(z_j)] by minibatch-weighted sampling, N = 50 and M = 6."""
    _, terms, mean, std, z, _ = terms_of("beta-tcvae")
    expected = 0.0
    for b in range(B):
        log_q = np.array([norm.logpdf(z[b], mean[a], std[a]) for a in range(B)])
        joint = logsumexp(log_q.sum(1)) - math.log(N * B)
        marginals = [logsumexp(log_q[:, j]) - math.log(N * B) for j in range(Z)]
        expected += (joint - sum(marginals)) / B
    assert terms["total_correlation"] == pytest.approx(WEIGHT * expected)
    assert terms["kl"] == pytest.approx(BETA * kl(mean, std, 0, 1) / B)


def discriminated(made: Any, rows: np.ndarray) -> np.ndarray:
    """Log-odds that these are codes, by six hidden layers."""
    layers = [layer for layer in made.discriminator if hasattr(layer, "weight")]
    assert [layer.out_features for layer in layers] == [1000] * 6 + [1]
    for number, layer in enumerate(layers):
        rows = rows @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if number < 6:
            rows = np.where(rows > 0, rows, 0.2 * rows)
    return np.asarray(rows[:, 0])


def test_factor_vae() -> None:
    made, terms, _, _, z, _ = terms_of("factor-vae")
    draws = noise(made)[:, -Z:]
    mixed = made._mixed(torch.from_numpy(z), draws, Reduction(B)).numpy()
    for j in range(Z):
        assert sorted(mixed[:, j]) == sorted(z[:, j]) and not (mixed[:, j] == z[:, j]).any()
    places = [[int(np.argmin(abs(z[:, j] - mixed[b, j]))) for b in range(B)] for j in range(Z)]
    assert len({tuple(order) for order in places}) == Z, "each latent comes from another sample"
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = made._mixed(torch.from_numpy(z)[order], draws[order], Reduction(B)).numpy()
    np.testing.assert_array_equal(turned, mixed[order], "whatever the order of the samples")
    true, false = (1 / (1 + np.exp(-discriminated(made, rows))) for rows in (z, mixed))
    assert terms["total_correlation"] == pytest.approx(WEIGHT * np.mean(np.log(true / (1 - true))))
    expected = -(np.log(true) + np.log(1 - false)).mean() / 2
    assert terms["discriminator"] == pytest.approx(expected)
    assert "discriminator" not in made.eval()(batch(), noise(made), Reduction(B))


def test_each_of_vae_and_discriminator_learns_from_its_own_loss_alone() -> None:
    made = model("factor-vae")
    terms = made(batch(), noise(made), Reduction(B))
    inside = list(made.discriminator.parameters())
    outside = [*made.encoder.parameters(), *made.decoder.parameters()]
    for name, none, some in (("discriminator", outside, inside), ("total_correlation", inside, outside[:2])):
        for parameters, expected in ((none, False), (some, True)):
            found = torch.autograd.grad(terms[name], parameters, retain_graph=True, allow_unused=True)
            assert any(g is not None and bool((g != 0).any()) for g in found) == expected


def test_cvae() -> None:
    """The decoder is given factors as they are, and draws of the reader where one is missing."""
    made, given = model("cvae"), batch()
    draws, u = noise(made), batch().factors[:, [0, 2]].numpy()
    terms = {key: value.item() for key, value in made(given, draws, Reduction(B)).items()}
    scaled = made.scale(given.images)
    read_mean, read_logvar = (x.detach().numpy() for x in made.reader(scaled).chunk(2, 1))
    missing, width = np.isnan(u), np.exp(read_logvar) + 1 / N  # of the likelihood, of codes and of what is drawn
    told = np.where(missing, read_mean, u)
    rest_mean, rest_logvar = (x.detach().numpy() for x in made.encoder(scaled, torch.from_numpy(told)).chunk(2, 1))
    drawn_u = np.where(missing, read_mean + np.sqrt(width) * draws[:, :2].numpy(), u)
    z = np.concatenate([drawn_u, rest_mean + np.exp(rest_logvar / 2) * draws[:, 2:].numpy()], 1)
    nll = bernoulli_nll(scaled, made.decoder(torch.from_numpy(z))).mean().item()
    assert terms["reconstruction"] == pytest.approx(nll)
    expected, labels = kl(rest_mean, np.exp(rest_logvar / 2), 0, 1), 0.0
    for b in range(B):
        for j in range(2):
            spread = np.nanstd(u[:, j])
            if missing[b, j]:
                expected += kl(read_mean[b, j], np.sqrt(width[b, j]), np.nanmean(u[:, j]), spread)
            else:
                labels -= norm.logpdf(u[b, j], read_mean[b, j], np.sqrt(width[b, j]))
                labels -= np.log(2 * np.pi) / 2 + np.log(spread)
    assert terms["kl"] == pytest.approx(BETA * expected / B)
    assert terms["labels"] == pytest.approx(labels / B)
    code = made.encode(given.images, given.factors[:, [0, 2]])
    assert torch.equal(code.mean[:, :2], made.reader(scaled).chunk(2, 1)[0]), "labels are not looked at"
    np.testing.assert_allclose(code.logvar[:, :2].exp().detach(), width)
    z = torch.from_numpy(z)
    torch.testing.assert_close(made.decode(z), made.scale.inverse(made.decoder(z).sigmoid()))
    with pytest.raises(InputError, match="latents = 2 for cvae with 2 guided ones; allowed: at least 3"):
        model_class("cvae")(made.objective, **SIZES | {"latents": 2})


def prior_of(made: Any, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of p(z|u), a missing label at its mean."""
    filled = torch.from_numpy(np.where(np.isnan(u), np.nanmean(u, 0), u))
    mean, logvar = (x.detach().numpy() for x in made.prior_network(filled).chunk(2, 1))
    return mean, np.exp(logvar / 2)


def test_ivae() -> None:
    made, terms, mean, std, z, u = terms_of("ivae")
    assert terms["kl"] == pytest.approx(BETA * kl(mean, std, *prior_of(made, u)) / B)
    nll = bernoulli_nll(made.scale(batch().images), made.decoder(torch.from_numpy(z))).mean().item()
    assert terms["reconstruction"] == pytest.approx(nll)
    loss = made(batch(), noise(made), Reduction(B))["kl"]
    assert (torch.autograd.grad(loss, made.prior_network[0].weight)[0] != 0).any(), "the prior learns"
    with pytest.raises(InputError, match="needs the auxiliary factors"):
        made.encode(batch().images)


def test_ci_ivae() -> None:
    """Every a of the grid for every sample; log-densities by scipy."""
    made, terms, mean, std, _, u = terms_of("ci-ivae")
    prior_network = made.prior_network[-1]
    prior_network.weight.data.mul_(5)  # a prior that differs from sample to sample
    draws = noise(made)
    terms = {key: value.item() for key, value in made(batch(), draws, Reduction(B)).items()}
    prior_mean, prior_std = prior_of(made, u)
    precision = 1 / std**2 + 1 / prior_std**2
    both_mean, both_std = (mean / std**2 + prior_mean / prior_std**2) / precision, precision**-0.5
    scaled, best, chosen = made.scale(batch().images), [], set()
    for b in range(B):
        one, other = ((m[b], s[b]) for m, s in ((mean, std), (both_mean, both_std)))
        densities = [multivariate_normal(m, np.diag(s**2)) for m, s in (one, other)]
        nll = [
            bernoulli_nll(scaled[b : b + 1], made.decoder(torch.from_numpy((m + s * eps.numpy())[None]))).item()
            for (m, s), eps in ((one, draws[b, :Z]), (other, draws[b, Z : 2 * Z]))
        ]
        found = []
        for a in np.linspace(0, 1, 41):
            apart = []
            for (m, s), density in zip((one, other), densities, strict=True):
                z = m + s * draws[b, 2 * Z :].view(16, Z).numpy()
                mixture = a * densities[0].pdf(z) + (1 - a) * densities[1].pdf(z)
                apart.append(np.mean(density.logpdf(z) - np.log(mixture)))
            own = [kl(m, s, prior_mean[b], prior_std[b]) for m, s in (one, other)]
            divergence = a * (own[0] - apart[0]) + (1 - a) * (own[1] - apart[1])
            found.append((a * nll[0] + (1 - a) * nll[1], BETA * divergence, a))
        best.append(min(found, key=lambda one: one[0] + one[1]))
        chosen.add(best[-1][2])
    assert terms["reconstruction"] == pytest.approx(np.mean([one[0] for one in best]))
    assert terms["kl"] == pytest.approx(np.mean([one[1] for one in best]))
    assert len(chosen) > 1


def test_the_divergence_of_a_mixture_is_that_of_an_integral() -> None:
    """KL(a q1 + (1 - a) q2 || p) of one latent by Simpson's rule, from many draws."""
    from scipy.integrate import simpson

    from hpcauxvae.models.ci_ivae import _apart, _product

    one, prior = (
        Posterior(torch.tensor([[0.3]]), torch.tensor([[-2.0]])),
        (torch.tensor([[1.0]]), torch.tensor([[0.2]])),
    )
    other = _product(one, *prior)
    x = np.linspace(-4, 5, 20001)
    first, second = (norm.pdf(x, q.mean.item(), math.exp(q.logvar.item() / 2)) for q in (one, other))
    target = norm.pdf(x, 1.0, 0.2**0.5)
    np.testing.assert_allclose(second, first * target / simpson(first * target, x=x), rtol=1e-4, atol=1e-12)
    eps = torch.randn(1, 200_000, 1, generator=torch.Generator().manual_seed(4))
    shares = torch.tensor([0.3, 0.8])
    for q, p, found in (
        (first, second, _apart(one, other, shares, eps)),
        (second, first, _apart(other, one, 1 - shares, eps)),
    ):
        for a, value in zip(shares.tolist(), found[0].tolist(), strict=True):
            own = a if q is first else 1 - a
            mixture = own * q + (1 - own) * p
            expected = simpson(q * np.log(np.maximum(q, 1e-300) / np.maximum(mixture, 1e-300)), x=x)
            assert value == pytest.approx(expected, abs=5e-3), "by the noise of so many draws"


@pytest.mark.parametrize("name", RIVALS)
def test_labels_that_are_missing_leave_every_loss_finite(name: str) -> None:
    """Also where a factor is missing in the whole batch."""
    made, given = model(name), batch()
    given.factors[:, 0] = math.nan
    terms = made(given, noise(made), Reduction(B))
    assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in made.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", RIVALS)
def test_what_a_model_adds_is_divided_by_the_pixels_where_the_kl_is(name: str) -> None:
    """With the same weights and codes; the mixture of ci-ivae is another one, a discriminator has no nats."""
    whole, divided = (
        made(batch(), noise(made), Reduction(B)) for made in (model(name), model(name, likelihood="log10-mse"))
    )
    others = {"reconstruction", "discriminator", *(["kl"] if name == "ci-ivae" else [])}
    for term in whole.keys() - others:
        assert divided[term].item() == pytest.approx(whole[term].item() / 64), term


def test_gradients_of_rivals_are_cut_at_twice_their_usual_norm_as_those_of_aux_vae() -> None:
    for name in MODELS:
        made = model_class(name)(OBJECTIVES["tuned"], **SIZES)
        found = [float(made.largest_norm(torch.tensor(norm))) for norm in (4000.0, 5000.0)]
        constant = name in ("beta-vae", "idvae", "idvae-x")
        assert found == pytest.approx([100, 100] if constant else [math.inf, 8000]), name
        assert model_class(name)(OBJECTIVES["paper"], **SIZES).largest_norm(torch.tensor(4000.0)) is None, name
        assert any(key.endswith("norms.log") for key in made.state_dict()) != constant, "a resumed run goes on with it"


def test_a_weight_that_a_model_does_not_have_is_refused() -> None:
    objective = dataclasses.replace(OBJECTIVES["bernoulli"], own_weight=2.0)
    with pytest.raises(InputError, match=r"own_weight = 2.0 for BetaVAE; allowed: with a model that has one"):
        model_class("beta-vae")(objective, **SIZES)
    with pytest.raises(InputError, match=r"own_weight = -1; allowed: at least 0"):
        dataclasses.replace(OBJECTIVES["bernoulli"], own_weight=-1)
    assert model_class("ar-vae")(OBJECTIVES["bernoulli"], **SIZES).own_weight == 10


def test_who_is_told_of_factors_is_listed() -> None:
    """The losses of the others are the same whatever the factors."""
    for name in RIVALS:
        made = model(name)
        one, other = (
            sum(made(batch()._replace(factors=u), noise(made), Reduction(B)).values()).item()
            for u in (batch().factors, 1 - batch().factors)
        )
        assert (one == other) == (name in UNTOLD), name


def test_the_page_of_rivals_has_what_each_is() -> None:
    rows = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "rivals.md").read_text().splitlines()]
    table = {name.strip("`"): row[1:] for row in rows if len(row) == 5 for name in row[0].split(", ")}
    for name in [*RIVALS, "beta-vae", "idvae", "idvae-x"]:
        kind = model_class(name)
        told, guided, reads, weight = table[name]
        assert (told == "no", guided == "yes", reads == "no") == (name in UNTOLD, kind.GUIDED, kind.SEES_LABELS), name
        assert weight.endswith(f", {kind.OWN_WEIGHT:g}") if kind.OWN_WEIGHT else weight.startswith("none"), name
        assert kind.OWN_WEIGHT is None or "own_weight" in kind.SEARCHED


@pytest.mark.parametrize("name", RIVALS)
def test_what_lies_in_a_missing_pixel_changes_nothing(name: str) -> None:
    torch.manual_seed(1)
    made: Any = model_class(name)(OBJECTIVES["weighted"], **SIZES).double()
    weights = torch.full((B, 1, 8, 8), 25.0, dtype=torch.float64)
    weights[::2, :, 2:4, 5:] = 0
    made.take(weights)
    made.prepare(batch().images, batch().factors[:, made.columns], PixelRange(1.0))
    for parameter in made.parameters():
        parameter.data += 0.01 * torch.randn(parameter.shape, dtype=torch.float64)  # the linear way is there too
    losses = []
    for inside in (0.0, 7.0):
        given = batch()._replace(images=batch().images.where(weights > 0, inside), weights=weights)
        losses.append({key: term.item() for key, term in made.eval()(given, noise(made), Reduction(B)).items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-12) and all(map(math.isfinite, losses[0].values()))
    if name == "cvae":  # either encoder is told which pixels are missing
        known = given.weights > 0
        seen = made._seen(made.scale(given.images), known=known)
        code, told = made.encode(given.shown()), {"known": known}
        torch.testing.assert_close(code.mean[:, :2], made.reader(seen, **told).chunk(2, 1)[0])
        torch.testing.assert_close(code.mean[:, 2:], made.encoder(seen, code.mean[:, :2], **told).chunk(2, 1)[0])
