"""The objectives by name, with every constant of a training. Without torch: command lines are parsed from these.

loss = reconstruction + beta KL + lambda1 (explicitness + intra-independence) + weight inter-independence, eq. (9),
where the first two are means over the global batch of sums over pixels and over latent coordinates, in nats. The weight
is lambda2, or what a tolerance of dependence makes it; with a tolerance come the joint features and what is asked for,
whose weights are in aux_vae.py.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from hpcauxvae.types import InputError

Scale = Literal["linear", "range", "anscombe", "standard"]
Dependence = Literal["joint", "hsic"]
LIKELIHOODS = {
    "gaussian": "hpcauxvae.models.likelihoods:gaussian_nll",
    "fitted": "",
    "weighted": "",
    "optimal": "",
    "bernoulli": "",
    "log10-mse": "",
}
"""MODULE:FUNCTION of (pixels, what is decoded, sigma), the first two (B, C, H, W) on the scale of the likelihood. It
gives -log p of each image, (B,), in nats. Empty: BetaVAE has a case for it, since it needs to know more."""
if TYPE_CHECKING:
    Likelihood = str
else:
    Likelihood = Literal[tuple(LIKELIHOODS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """Everything that decides which minimum is sought and how the search for it starts and runs.

    The values here are those of `tuned`.
    """

    scale: Scale = "anscombe"
    """Scale of the likelihood: counts over the training maximum; counts with the training minimum at 0 and the maximum
    at 1 (`range`); or their Anscombe transform over its own maximum."""
    likelihood: Likelihood = "gaussian"
    """Of a pixel on that scale: Gaussian of standard deviation `sigma`; Gaussian of the deviation that fits the global
    batch best (Rybkin et al. 2021), or each pixel (`fitted`), or of the noise that the file gives (`weighted`);
    Bernoulli, for pixels in [0, 1]. Each is summed over pixels: its weight is 1. With `log10-mse`, squared decades (see
    `log10_mse`), both this sum and the KL are divided by the number of pixels."""
    sigma: float = 0.01
    """Standard deviation of the Gaussian likelihood of a pixel, on that scale; read by `gaussian`, and
    by what is added to it."""
    peak_channel: bool = True
    """Give the encoder the image divided by its own peak as well (shape apart from flux)."""
    linear_path: bool = False
    """Let encoder and decoder have a linear way beside the network, over as many principal components as latents
    (models/linear_path.py)."""
    sigmoid: bool = False
    """Squash the decoder's output into (0, 1)."""
    draws: int = 1
    """Samples of z for each image and step, J of eq. (2)'s Monte Carlo estimate."""
    beta: float = 1.0
    """Weight of the KL term, eq. (4)."""
    gamma: float = 0.01
    """Weight of the conditional prior's own KL to N(0, I), in IDVAE only."""
    lambda1: float = 10.0
    """Weight of the explicitness and intra-independence terms of eq. (9)."""
    dependence_tolerance: float | None = 0.003
    """Largest root mean square of the correlations of all residual latents together with all auxiliary factors
    together, beyond chance, but at least .3/sqrt(n) for n training samples: the weight of independence moves until it
    is kept (dependence/past.py). None: `lambda2` is the weight."""
    dependence: Dependence = "joint"
    """The measure of that dependence, with a dependence_tolerance: random features of all residual latents against
    functions of all factors (dependence/joint.py), or `hsic`, features of Gaussian kernels of both."""
    lambda2: float = 1000.0
    """Weight of the inter-independence term of eq. (9), where there is no dependence_tolerance."""
    own_weight: float | None = None
    """Weight of what a model of docs/rivals.md adds to the loss of a VAE; None: the model's own value."""
    degree: int = 3
    """K, the highest power in the correlations, eq. (7) and (8)."""
    momentum: float = 0.9
    """Weight of earlier batches against the present batch in the moments from which the slopes of |corr| come, with a
    dependence_tolerance; a fixed weight takes each batch alone, and has 0."""
    guide: float = 0.5
    """Share of the training over which the prior's variance about u_j falls to its value, from where u_j is worth a
    hundredth of what an image has to explain, and the weights of the regularizers rise with the square of that
    progress, so that the residual latents come into use meanwhile; with 0 it has its value from the start. Validation
    always has the final ones."""
    correlate: Literal["means", "z", "authors"] = "z"
    """Correlations of u with the posterior means, eq. (6), or with z itself, eq. (20); or the regularizers of the
    authors' public code (see dependence.authors_regularizer)."""
    prior_variance: float | None = None
    """Variance of the prior of an auxiliary latent about u_j, eq. (3); None is 1/n, n the training samples, or less for
    small sets (docs/method.md, "Independence as a constraint", 5)."""
    informed_start: bool = True
    """Start from biases that fit the data: the output at the mean image, the log-variances at the prior's."""
    learning_rate: float = 2e-3
    """Adam's learning rate; its peak where a schedule changes it."""
    one_cycle: bool = True
    """Learning rate by one cycle of warm-up and annealing (Smith 2018) instead of a constant rate."""
    adam_beta2: float = 0.99
    """Decay of Adam's second moment."""
    clip_norm: float | None = 100.0
    """Largest norm of the gradient; None does not cut. With a dependence_tolerance aux-vae cuts at twice the usual."""
    batch_size: int = 64
    """Samples of a step, over all processes together."""

    @property
    def leaves_out(self) -> bool:
        """Whether missing pixels take no part."""
        return self.likelihood in ("fitted", "weighted")

    def __post_init__(self) -> None:
        for name in ("sigma", "learning_rate"):
            _require(name, getattr(self, name), getattr(self, name) > 0, "positive")
        for name in ("beta", "gamma", "lambda1", "lambda2"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "at least 0")
        if self.own_weight is not None:
            _require("own_weight", self.own_weight, self.own_weight >= 0, "at least 0")
        _require("guide", self.guide, 0 <= self.guide <= 1, "0 to 1")
        _require("degree", self.degree, 1 <= self.degree <= 6, "1 to 6")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "at least 0, less than 1")
        _require("batch_size", self.batch_size, self.batch_size >= 2, "at least 2")
        _require("draws", self.draws, self.draws >= 1, "at least 1")
        if self.likelihood == "bernoulli" and not (self.sigmoid and self.scale == "linear"):
            raise InputError("likelihood = bernoulli; allowed: with scale = linear and sigmoid = True")
        if self.likelihood == "weighted" and self.scale != "standard":
            raise InputError("likelihood = weighted; allowed: with scale = standard, as objective weighted has it")
        if self.likelihood == "log10-mse" and not (self.sigmoid and self.scale in ("linear", "range")):
            raise InputError("likelihood = log10-mse; allowed: with scale = linear or range and sigmoid = True")
        if self.correlate == "authors":
            _require("draws", self.draws, self.draws == 1, "1 with correlate = authors")
        if self.dependence_tolerance is None:
            _require("momentum", self.momentum, self.momentum == 0, "0 without dependence_tolerance")
            if self.dependence != "joint":
                raise InputError(f"dependence = {self.dependence}; allowed: with a dependence_tolerance, else joint")
        else:
            if self.correlate != "z":
                raise InputError(f"dependence_tolerance with correlate = {self.correlate}; allowed: correlate = z")
            _require("dependence_tolerance", self.dependence_tolerance, self.dependence_tolerance > 0, "positive")
            allowed = "above 0 with dependence_tolerance, in whose place lambda2 is a fixed weight"
            _require("momentum", self.momentum, self.momentum > 0, allowed)
        if self.prior_variance is not None:
            _require("prior_variance", self.prior_variance, self.prior_variance > 0, "positive")


def _require(name: str, value: float, holds: bool, allowed: str) -> None:
    if not holds or not math.isfinite(value):
        raise InputError(f"{name} = {value}; allowed: {allowed}")


TUNED = Objective()
"""Ours: the default for every set of auxiliary variables. docs/method.md says what each choice is worth."""
BERNOULLI = dataclasses.replace(
    TUNED, scale="linear", likelihood="bernoulli", sigma=1.0, peak_channel=False, sigmoid=True
)
"""As TUNED, for pictures whose pixels lie between black and white: Cars3D, dSprites."""
GAUSSIAN = dataclasses.replace(
    TUNED, scale="standard", likelihood="fitted", sigma=1.0, peak_channel=False, linear_path=True
)
"""As TUNED, for real-valued fields and images of any sign: standardised pixels, a fitted variance."""
WEIGHTED = dataclasses.replace(GAUSSIAN, likelihood="weighted")
"""As GAUSSIAN, for images whose file has the noise of each pixel (models/weighted.py)."""
FIXED: dict[str, Any] = {"dependence_tolerance": None, "momentum": 0.0, "guide": 0.0}
"""What a weight of independence that is given brings along in place of an objective's own values."""
PAPER = dataclasses.replace(
    TUNED, scale="linear", sigma=1.0, peak_channel=False, sigmoid=True, beta=5.0, gamma=1.0, lambda1=1.0, lambda2=0.1,
    correlate="means", informed_start=False, learning_rate=1e-3, one_cycle=False, adam_beta2=0.999, clip_norm=None,
    **FIXED,
)  # fmt: skip
"""The text of Ganguli et al.: unit-variance Gaussian likelihood, eq. (6) on means, Table 4 (galaxies), section C.1."""
REFERENCE = dataclasses.replace(
    PAPER, scale="range", likelihood="log10-mse", beta=20.0, lambda1=0.5, lambda2=0.4, correlate="authors",
    prior_variance=1.0,
)  # fmt: skip
"""What the public code of Ganguli et al. (2024) computes and sets; it differs from their text in nearly every line."""
OBJECTIVES = {
    "tuned": TUNED, "bernoulli": BERNOULLI, "gaussian": GAUSSIAN, "weighted": WEIGHTED, "paper": PAPER,
    "reference": REFERENCE,
}  # fmt: skip
OVERRIDES = (
    "likelihood", "draws", "beta", "lambda1", "lambda2", "gamma", "own_weight", "degree", "momentum",
    "dependence_tolerance", "dependence", "guide", "sigma", "learning_rate", "batch_size",
)  # fmt: skip
"""The fields that a training may set beside the name of its objective: options of `hpcauxvae train`."""
AUTO = "auto"
"""The objective that is yet to be chosen (data/choice.py)."""
if TYPE_CHECKING:
    Named = str
else:
    Named = Literal[(AUTO, *OBJECTIVES)]
