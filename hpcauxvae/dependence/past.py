"""Independence without a tax: the slopes of |corr| from earlier batches, and a weight that a tolerance decides.

|corr| of independent columns is about 1/sqrt(B) in a batch of B, and its slope is the sign of the batch's own chance
correlation: it always pushes a latent that is in use towards noise. Here the slope is taken where a running estimate
over earlier batches stands, and multiplied with the correlation of the present batch, which is linear in it: a batch
never pulls on its own chance correlations.

Shapes: B batch, D factors (or functions of them), Z latent coordinates (or features of them), K degree.
"""

import math
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.runtime.devices import float64_device


def moments(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, group: dist.ProcessGroup | None
) -> PolynomialMoments:
    """Those of the global batch, by the compiled module where it serves the device."""
    if native.serves(codes_BZ.device) and not torch.compiler.is_compiling():
        sizes = (u_BD.shape[1], codes_BZ.shape[1], degree)
        return PolynomialMoments.unpacked(native.moments(u_BD, codes_BZ, var_BZ, degree, group), *sizes)
    return PolynomialMoments.of(u_BD, codes_BZ, var_BZ, degree=degree).all_reduce(group)


class _InFloat64(nn.Module):
    """Keeps its buffers in float64 where a model is cast, unless the device has none."""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, cast in self._buffers.items():
            was = before[name]
            if was is not None and cast is not None and float64_device(cast.device) == cast.device:
                self._buffers[name] = was.to(cast.device)
        return self


class Past(_InFloat64):
    """Moments of earlier global batches, decayed: buffers that state_dict saves, the same on every rank.

    A forward pass reads `moments` and writes `latest`, never both: what a compiled or captured step computes again in
    its backward pass is then what it was. `advance` comes between steps.
    """

    moments: Tensor
    latest: Tensor

    def __init__(self, d: int, dz: int, *, degree: int, momentum: float) -> None:
        """momentum: the weight of the past when a batch is added to it."""
        super().__init__()
        self.sizes, self.momentum = (d, dz, degree), momentum
        for name in ("moments", "latest"):
            self.register_buffer(name, torch.zeros(native.moments_size(d, dz, degree), dtype=torch.float64))

    def __call__(self) -> PolynomialMoments:
        """Views of the buffer."""
        return PolynomialMoments.unpacked(self.moments, *self.sizes)

    @torch.no_grad()
    def keep(self, batch: PolynomialMoments) -> None:
        """The batch that `advance` will add."""
        self.latest.copy_(batch.packed())

    @torch.no_grad()
    def advance(self, latest: Tensor | None = None) -> None:
        """Merges the batch that was kept, or `latest`, with the decayed past; once."""
        batch = PolynomialMoments.unpacked(self.latest if latest is None else latest, *self.sizes)
        self.moments.copy_((self().decayed(self.momentum) + batch).packed())
        self.latest.zero_()

    def samples(self) -> Tensor:
        """(D,): as many samples, each counted once, would know the moments as well as the decayed ones do.

        Batches of B that count 1, m, m^2, ... are together n = B / (1 - m), and tell as much as n (1 + m) samples.
        """
        return self().n_D * (1 + self.momentum)

    def slopes(self) -> Tensor:
        """(D, K, Z, K): of |corr| where the past stands, r / sqrt(r^2 + 1/n): a sign, smoothed at the noise of r."""
        r_DKZK, n_D = self().correlation(), self.samples()
        noise_D = torch.where(n_D > 0, 1 / n_D.clamp(min=1), 1.0)
        return r_DKZK * (r_DKZK.square() + noise_D[:, None, None, None]).rsqrt()

    def dependence(self) -> Tensor:
        """Mean over all pairs of r^2, less what sampling adds to it: a scalar.

        n samples of independent columns have a mean r^2 of A / n, A the share of a column's variance that its mean
        over the posterior has.
        """
        past, n_D = self(), self.samples()
        total_DZK = past.m2_c_DZK + past.within_DZK
        share_DZK = torch.where(
            total_DZK > 0, past.m2_c_DZK / total_DZK.clamp(min=torch.finfo(total_DZK.dtype).tiny), 0
        )
        chance_DZK = share_DZK / n_D.clamp(min=1)[:, None, None]
        return (past.correlation().square() - chance_DZK[:, None]).mean()


def dependence(correlation_DKZK: Tensor, slopes_DKZK: Tensor) -> tuple[Tensor, Tensor]:
    """`regularizers.terms` with |corr| = slope corr, and the explicitness (8) signed: 1 - corr(u_j^k, z_j^k').

    A latent that falls with its factor is then no resting place.
    """
    d, degree, dz, _ = correlation_DKZK.shape
    strength_DZ = (slopes_DKZK * correlation_DKZK).sum((1, 3)) / degree
    intra = d * degree - correlation_DKZK[:, :, :d].sum((1, 3)).diagonal().sum() / degree
    if d > 1:
        aux_DD = strength_DZ[:, :d]
        intra = intra + (aux_DD.sum() - aux_DD.diagonal().sum()) / (d - 1)
    return intra, strength_DZ[:, d:].sum() / (d * max(dz - d, 1))


class Constraint(_InFloat64):
    """A weight that rises while a dependence is above its tolerance, and falls while it is below (Platt and Barr 1988).

    A weight is in nats, of which a galaxy has 7,000 to explain and a digit 150; a tolerance means the same everywhere.
    log weight moves by `SPEED` a step times d / tolerance^2 - 1, cut at 1, within bounds, so that it cannot wind up.
    """

    SPEED = 0.01
    FIRST, LOWEST, HIGHEST = 300.0, 1.0, 1e6
    log_weight: Tensor

    def __init__(self, tolerance: float) -> None:
        """tolerance: root mean square of correlations."""
        super().__init__()
        self.tolerance = tolerance
        # torch.compile takes float64 without dimensions for a constant.
        self.register_buffer("log_weight", torch.full((1,), math.log(self.FIRST), dtype=torch.float64))

    def weight(self) -> Tensor:
        """The weight, a scalar."""
        return self.log_weight[0].exp()

    @torch.no_grad()
    def move(self, squared: Tensor) -> None:
        """After a step that found this mean squared correlation."""
        step = self.SPEED * (squared / self.tolerance**2 - 1).clamp(-1, 1)
        self.log_weight.copy_((self.log_weight + step).clamp(math.log(self.LOWEST), math.log(self.HIGHEST)))
