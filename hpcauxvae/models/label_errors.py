"""Labels with errors: y = u + e, e of a known standard deviation s, different for each sample.

Shape suffixes: B batch, N training samples, D auxiliary factors.
"""

import torch
from torch import Tensor, nn

_LEAST = 1e-3
"""Share of the variance of the labels that the true factors have at least, whatever the errors claim."""


class LabelErrors(nn.Module):
    """What the errors of the training labels leave to be known of the true factors; nothing is lost until `fit`."""

    mean_D: Tensor
    true_D: Tensor
    """Variance of the true factors: that of the labels less the mean of s^2."""
    attainable_D: Tensor
    """Correlation of the true factors with what is likely of them; without errors more than any."""
    held_D: Tensor
    """The factor by which a prior about labels, of 1/n and s^2, has the precision n in the mean."""
    unknown_D: Tensor
    """Mean variance of the true factors about what is likely of them."""

    def __init__(self, d: int) -> None:
        super().__init__()
        for name, value in (
            ("mean_D", 0.0),
            ("true_D", 1.0),
            ("attainable_D", 2.0),
            ("held_D", 1.0),
            ("unknown_D", 0.0),
        ):
            self.register_buffer(name, torch.full((d,), value))

    @torch.no_grad()
    def fit(self, u_ND: Tensor, errors_ND: Tensor, exact: float) -> None:
        """u_ND: labels in [0, 1], NaN where not measured; errors_ND: s on that scale, 0 for an exact label.

        exact: variance of the prior about an exact label, 1/n.
        """
        unknown_ND = u_ND.isnan()
        square_ND = errors_ND.square().masked_fill(unknown_ND, torch.nan)
        self.mean_D.copy_(u_ND.nanmean(0))
        variance_D = (u_ND - self.mean_D).square().nanmean(0)
        self.true_D.copy_((variance_D - square_ND.nanmean(0)).maximum(_LEAST * variance_D))
        self.held_D.copy_((exact / (exact + square_ND)).nanmean(0))
        reliability_D = (self.true_D / (self.true_D + square_ND)).nanmean(0)
        self.attainable_D.copy_(torch.where((errors_ND > 0).any(0), reliability_D.sqrt(), 2.0))
        self.unknown_D.copy_(self.true_D * (1 - reliability_D))

    def likely(self, u_BD: Tensor, errors_BD: Tensor) -> Tensor:
        """The best linear guess of the true factors (B, D) from labels with errors: regression calibration.

        Carroll et al. (2006), Measurement Error in Nonlinear Models, chapter 4: what depends on the guess depends on
        the true factor by the same slope. A label that is very uncertain says little more than the mean.
        """
        return self.mean_D + (u_BD - self.mean_D) * (self.true_D / (self.true_D + errors_BD.square()))
