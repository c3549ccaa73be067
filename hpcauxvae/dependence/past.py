"""Independence without a tax: the slopes of |corr| from earlier batches, and a weight that a tolerance decides.

|corr| of independent columns is about 1/sqrt(B) in a batch of B, and its slope is the sign of the batch's own chance
correlation: it always pushes a latent that is in use towards noise. Here the slope is taken where a running estimate
over earlier batches stands, and multiplied with the correlation of the present batch, which is linear in it: a batch
never pulls on its own chance correlations.

Shapes: B batch, D factors (or functions of them), Z latent coordinates (or features of them), K degree.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments, inverse_root
from hpcauxvae.runtime.devices import InFloat64


def moments(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, group: dist.ProcessGroup | None
) -> PolynomialMoments:
    """Those of the global batch, by the compiled module where it serves the device: not more factors than codes."""
    sizes = (u_BD.shape[1], codes_BZ.shape[1], degree)
    if native.serves(codes_BZ.device) and not torch.compiler.is_compiling() and sizes[0] <= sizes[1]:
        return PolynomialMoments.unpacked(native.moments(u_BD, codes_BZ, var_BZ, degree, group), *sizes)
    return PolynomialMoments.of(u_BD, codes_BZ, var_BZ, degree=degree).all_reduce(group)


_ROWS = 131_072
"""Samples that tell how factors correlate, at most."""
_CHANCE = 4.0
"""Correlations of n samples below so many times 1/sqrt(n) are none."""


class Past(InFloat64):
    """Moments of earlier global batches, decayed: buffers that state_dict saves, the same on every rank.

    A forward pass reads `moments` and writes `latest`, never both: what a compiled or captured step computes again in
    its backward pass is then what it was. `advance` comes between steps. S momenta: as many memories of the same.
    """

    moments: Tensor
    """(8, S, D, K, Z, K): for each pair of columns, which may have been forgotten at its own time, the sum of its
    samples' weights, that of their squares, both means, the variance within, both second moments, the cross moment."""
    latest: Tensor
    """PolynomialMoments of the last batch, packed."""
    momenta: Tensor
    expected: Tensor
    """(D, K, Z, K): correlations that are no fault, from which |corr| is the distance; 0 if nothing else is set."""

    def __init__(self, d: int, dz: int, *, degree: int, momenta: tuple[float, ...]) -> None:
        """momenta: the weight that each memory has when a batch is added to it."""
        super().__init__()
        self.sizes = d, dz, degree
        shape = (8, len(momenta), d, degree, dz, degree)
        self.register_buffer("moments", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("latest", torch.zeros(native.moments_size(d, dz, degree), dtype=torch.float64))
        self.register_buffer("expected", torch.zeros(shape[2:], dtype=torch.float64))
        self.register_buffer("momenta", torch.tensor(momenta, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def keep(self, batch: PolynomialMoments) -> None:
        """The batch that `advance` will add."""
        self.latest.copy_(batch.packed())

    @torch.no_grad()
    def advance(self) -> None:
        """Merges the batch that was kept with each decayed memory, once: as Chan, Golub and LeVeque (1983)."""
        batch = PolynomialMoments.unpacked(self.latest, *self.sizes)
        n = batch.n_D[:, None, None, None]
        mean_u, m2_u = batch.mean_u_DK[..., None, None], batch.m2_u_DK[..., None, None]
        mean_c, m2_c, within = (x[:, None] for x in (batch.mean_c_DZK, batch.m2_c_DZK, batch.within_DZK))
        n_0, square_0, mean_u_0, mean_c_0, *sums_0 = self.moments
        decay = self.momenta.view(-1, 1, 1, 1, 1)
        n_0 = decay * n_0
        both = n_0 + n
        share = n / both.clamp(min=1e-300)
        gap_u, gap_c, weight = mean_u - mean_u_0, mean_c - mean_c_0, n_0 * share
        gaps = (0.0, gap_u**2 * weight, gap_c**2 * weight, gap_u * gap_c * weight)
        sums = (within, m2_u, m2_c, batch.cross_DKZK)
        merged = [decay * old + new + gap for old, new, gap in zip(sums_0, sums, gaps, strict=True)]
        squares = decay**2 * square_0 + n  # a batch counts m, m^2, ... times
        means = mean_u_0 + gap_u * share, mean_c_0 + gap_c * share
        for own, value in zip(self.moments, (both, squares, *means, *merged), strict=True):
            own.copy_(value.expand_as(own))
        self.latest.zero_()

    def forget(self, columns: slice) -> None:
        """All that is known of these columns of the codes."""
        self.moments[..., columns, :] = 0

    def spread(self) -> Tensor:
        """(Z,): standard deviation of z, posterior included, by the first memory; 1 where nothing is known."""
        n, within, m2 = (self.moments[row, 0, :, 0, :, 0] for row in (0, 4, 6))  # (D, Z), of the first powers
        variance_Z = (m2 + within).sum(0) / n.sum(0).clamp(min=1e-300)
        return torch.where(variance_Z > 0, variance_Z, 1.0).sqrt()

    def reading(self) -> tuple[Tensor, Tensor, Tensor]:
        """(D,) each, by the first memory: the line by which the mean of code j follows u_j, its value at 0 and its
        slope, and the mean squared distance from it."""
        n, _, mean_u, mean_c, _, m2_u, m2_c, cross = (x[0, :, 0, :, 0].diagonal() for x in self.moments)
        slope_D = torch.where(m2_u > 1e-12 * n, cross / m2_u, 1.0)  # of a factor that does not vary: that of the prior
        return mean_c - slope_D * mean_u, slope_D, (m2_c - slope_D * cross).clamp(min=0) / n.clamp(min=1e-300)

    def following(self, memory: int = 0) -> Tensor:
        """(D,): correlation of u_j with the mean of code j; 0 where nothing is known."""
        m2_u, m2_c, cross = (self.moments[row, memory, :, 0, :, 0].diagonal() for row in (5, 6, 7))
        return cross / (m2_u * m2_c).sqrt().clamp(min=1e-300)

    def samples(self) -> Tensor:
        """(S, D, K, Z, K): as many samples, each counted once, would know the moments as well as the decayed ones do.

        Batches of B that count 1, m, m^2, ... are B / (1 - m) samples, and tell as much as B (1 + m) / (1 - m) of them.
        """
        weights, squares = self.moments[0], self.moments[1]
        return weights**2 / squares.clamp(min=1e-300)

    def correlation(self) -> Tensor:
        """(S, D, K, Z, K), as PolynomialMoments.correlation; 0 where nothing is known."""
        n, _, mean_u, mean_c, within, m2_u, m2_c, cross = self.moments
        of_u = (x.transpose(-1, -3) for x in (m2_u, mean_u, n))  # powers last
        m2_u, mean_u, n_u = of_u
        by_u = inverse_root(m2_u, None, mean_u, n_u).transpose(-1, -3)
        return cross * by_u * inverse_root(m2_c, within, mean_c, n)

    def slopes(self) -> Tensor:
        """(S, D, K, Z, K): of |corr| where the past stands, r / sqrt(r^2 + 1/n): a sign, smoothed at the noise of r,
        which is less what is expected."""
        r_SDKZK = self.correlation() - self.expected
        return r_SDKZK * (r_SDKZK.square() + 1 / self.samples().clamp(min=1)).rsqrt()

    def dependence(self, memory: int = 0) -> Tensor:
        """Mean over all pairs, weighted by their samples, of r^2 less what sampling adds to it: a scalar.

        n samples of independent columns have a mean r^2 of A / n, A the share of a column's variance that its mean
        over the posterior has.
        """
        within, m2_c = self.moments[4, memory], self.moments[6, memory]
        r_DKZK, n_DKZK = self.correlation()[memory], self.samples()[memory]
        share_DKZK = m2_c / (m2_c + within).clamp(min=1e-300)
        return (n_DKZK * r_DKZK.square() - share_DKZK).sum() / n_DKZK.sum().clamp(min=1)


def among_factors(u_ND: Tensor, degree: int) -> Tensor:
    """corr(u_i^k, u_j^k') of different factors over the samples where both are known, (D, K, D, K); 0 where it may be
    chance.

    u_ND: NaN where not measured. Raises InputError as PolynomialMoments.of.
    """
    u_ND, found = u_ND[:: -(-len(u_ND) // _ROWS) or 1], []
    for j, u_N in enumerate(u_ND.T):
        known_N = u_N.isfinite()
        pair = PolynomialMoments.of(u_ND[known_N], u_N[known_N, None], degree=degree)
        r_DK1K, n_D = pair.correlation(), pair.n_D.clamp(min=1)[:, None, None, None]
        found.append(torch.where(r_DK1K.square() * n_D > _CHANCE**2, r_DK1K, 0.0))
        found[j][j] = 0
    return torch.cat(found, 2)


def dependence(
    correlation_DKZK: Tensor,
    slopes_DKZK: Tensor,
    pulled_D: Tensor | None = None,
    expected_DKZK: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`regularizers.terms` with |corr| = slope corr, and the explicitness (8) signed: 1 - corr(u_j^k, z_j^k').

    A latent that falls with its factor is then no resting place. pulled_D: whose explicitness has a gradient.
    expected_DKZK: `Past.expected`.
    """
    d, degree, dz, _ = correlation_DKZK.shape
    apart_DKZK = correlation_DKZK if expected_DKZK is None else correlation_DKZK - expected_DKZK
    strength_DZ = (slopes_DKZK * apart_DKZK).sum((1, 3)) / degree
    own_D = correlation_DKZK[:, :, :d].sum((1, 3)).diagonal()
    if pulled_D is not None:
        own_D = own_D.where(pulled_D, own_D.detach())
    intra = d * degree - own_D.sum() / degree
    if d > 1:
        aux_DD = strength_DZ[:, :d]
        intra = intra + (aux_DD.sum() - aux_DD.diagonal().sum()) / (d - 1)
    return intra, strength_DZ[:, d:].sum() / (d * max(dz - d, 1))


class Constraint(InFloat64):
    """A weight that a tolerance of dependence decides (Platt and Barr 1988): base x dependence / tolerance.

    It is in units of the nats that an image has to explain, 3,400 of a galaxy and 80 of a digit, and a tolerance means
    the same everywhere. It begins where hardly a latent can gain by telling what it should not: what residual latents
    have once taken up is hard to win back from them. The second factor falls at once where the dependence does. The
    base sinks slowly to where dependence and tolerance are equal, and rises again no further than it began: its
    logarithm by `SPEED` a step times (dependence / tolerance)^2 - 1, cut at 1.
    """

    SPEED = 0.002
    LOWEST, HIGHEST = 0.003, 1.0
    MOST = 3.0
    """Times the tolerance that count."""
    state: Tensor
    """Logarithm of the base, and the second factor: torch.compile takes float64 without dimensions for a constant."""

    def __init__(self, tolerance: float) -> None:
        """tolerance: root mean square of correlations."""
        super().__init__()
        self.tolerance = tolerance
        self.register_buffer("state", torch.tensor([math.log(self.HIGHEST), 1.0], dtype=torch.float64))

    def weight(self) -> Tensor:
        """The weight, a scalar."""
        return self.state[0].exp() * self.state[1]

    @torch.no_grad()
    def move(self, squared: Tensor, *, base: bool) -> None:
        """After a step that found this mean squared correlation. base: whether the base moves, too."""
        excess = squared / self.tolerance**2
        step = base * self.SPEED * (excess - 1).clamp(-1, 1)
        log_base = (self.state[0] + step).clamp(math.log(self.LOWEST), math.log(self.HIGHEST))
        self.state.copy_(torch.stack([log_base, excess.clamp(0, self.MOST**2).sqrt()]))
