"""CI-iVAE (Kim, Liu & Wei, AISTATS 2023): iVAE whose posterior is a mixture with an encoder of the image alone.

L = min over a of a (-log p(x|z), z ~ q(z|x)) + (1 - a) (-log p(x|z), z ~ q(z|x, u)) + beta KL(M_a || p(z|u)), for each
sample by itself, where M_a = a q(z|x) + (1 - a) q(z|x, u), q(z|x, u) is q(z|x) p(z|u) normalised, and
KL(M_a || p) = a KL(q(z|x) || p) + (1 - a) KL(q(z|x, u) || p) - a KL(q(z|x) || M_a) - (1 - a) KL(q(z|x, u) || M_a).
Shape legend in types.py; A values of a, S draws.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from hpcauxvae.models.ivae import ConditionalPrior
from hpcauxvae.models.likelihoods import gaussian_kl
from hpcauxvae.types import Batch, LossTerms, Posterior, Reduction


class CIIVAE(ConditionalPrior):
    """As published: both posteriors, the prior network that is learned, the best a of each sample on a grid.

    Not as published: the divergences to the mixture are taken from 16 draws, not 100, the same for both posteriors;
    they are subtracted, as the bound has them, where the authors' public code adds their size. `encode` is q(z|x): its
    codes can be scored against u, and come from new images.
    """

    STEPS: ClassVar[int] = 40
    """Of a from 0 to 1, as in the authors' code."""
    DRAWS: ClassVar[int] = 16

    @property
    def noise_size(self) -> int:
        """For z of either posterior, and for the divergences to the mixture."""
        return 2 * super().noise_size + self.DRAWS * self.latents

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """The two parts of L, each at the best a."""
        scaled, prior = self.scale(batch.images), self.prior(batch)
        alone = self._encode_scaled(scaled, None, self._known(batch))
        informed = _product(alone, *prior)
        own, other, rest = noise_BZ.tensor_split([super().noise_size, 2 * super().noise_size], 1)
        drawn = (
            self._drawn(batch, scaled, alone, own, reduction, keep=self.training),
            self._drawn(batch, scaled, informed, other, reduction, keep=False),
        )
        a_A = torch.linspace(0, 1, self.STEPS + 1, dtype=scaled.dtype, device=scaled.device)
        nll_BA = a_A * drawn[0][:, None] + (1 - a_A) * drawn[1][:, None]
        noise_BSZ = rest.unflatten(1, (self.DRAWS, self.latents))
        kl_BA = a_A * (gaussian_kl(alone, *prior)[:, None] - _apart(alone, informed, a_A, noise_BSZ))
        kl_BA = kl_BA + (1 - a_A) * (
            gaussian_kl(informed, *prior)[:, None] - _apart(informed, alone, 1 - a_A, noise_BSZ)
        )
        loss_BA = nll_BA + self.objective.beta * kl_BA
        best_B1 = loss_BA.detach().argmin(1, keepdim=True)
        terms = {"reconstruction": nll_BA, "kl": self.objective.beta * kl_BA}
        return {
            name: self.per_pixel * reduction.mean(term_BA.gather(1, best_B1)[:, 0]) for name, term_BA in terms.items()
        }, alone


def _product(one: Posterior, mean_BZ: Tensor, var_BZ: Tensor) -> Posterior:
    """The normalised product of a posterior and a Gaussian."""
    precision_BZ = (-one.logvar).exp() + 1 / var_BZ
    mean = (one.mean * (-one.logvar).exp() + mean_BZ / var_BZ) / precision_BZ
    return Posterior(mean, -precision_BZ.log())


def _apart(one: Posterior, other: Posterior, share_A: Tensor, noise_BSZ: Tensor) -> Tensor:
    """KL(one || share one + (1 - share) other) from draws of one, nats, (B, A)."""
    mean_B1Z, logvar_B1Z = one.mean[:, None], one.logvar[:, None]
    z_BSZ = mean_B1Z + (logvar_B1Z / 2).exp() * noise_BSZ
    ratio_BS = _density(other, z_BSZ) - _density(one, z_BSZ)
    least = math.log(torch.finfo(share_A.dtype).tiny)  # of a share that is 0
    of_one_A, of_other_A = (share.log().clamp(min=least) for share in (share_A, 1 - share_A))
    return -torch.logaddexp(of_one_A, of_other_A + ratio_BS[..., None]).mean(1)


def _density(code: Posterior, z_BSZ: Tensor) -> Tensor:
    """log N(z; code), without its constant, (B, S)."""
    square_BSZ = (z_BSZ - code.mean[:, None]).square() * (-code.logvar[:, None]).exp()
    return -(square_BSZ + code.logvar[:, None]).sum(2) / 2
