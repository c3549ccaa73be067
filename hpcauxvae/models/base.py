"""What a model is: all that training, evaluation, generation and the search ask of it, with defaults."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from hpcauxvae.models.fields import FieldScale
from hpcauxvae.models.likelihoods import ImageScale, PixelRange
from hpcauxvae.models.objectives import Objective
from hpcauxvae.runtime.devices import InFloat64, from_float64, in_float64
from hpcauxvae.types import Batch, InputError, LossTerms, Posterior, Reduction, Searched


class Model(nn.Module):
    """A subclass must have `encode`, `decode` and either `forward` or `sample_terms`. Shape legend in types.py.

    Gradients are summed over ranks, buffers are not: what changes beside parameters must change alike on all ranks.
    """

    SEARCHED: ClassVar[Searched] = {}
    """The hyperparameters that a search varies if it is not told otherwise."""
    SETTINGS: ClassVar[frozenset[str]] = frozenset()
    """Settings of the objective that are the model's own, beside those that are searched."""
    GUIDED: ClassVar[bool] = False
    """Whether latent j is that of auxiliary factor j: images can then be asked for by their factors."""
    SEES_LABELS: ClassVar[bool] = False
    """Whether `encode` needs the auxiliary factors beside the images."""
    LABELS_ARE_EXACT: ClassVar[bool] = False
    """Whether a guided model makes nothing of errors of labels: training then says so."""
    TRAINED_BY: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of tensors that training alone reads: a run without them still encodes and decodes."""

    OWN_WEIGHT: ClassVar[float | None] = None
    """Weight of what the model adds to the loss of a VAE, unless `own_weight` of the objective says another; None: it
    has no such weight."""

    def __init__(
        self,
        objective: Objective,
        *,
        image_shape: tuple[int, int, int],
        latents: int,
        network: str,
        columns: tuple[int, ...],
        n_train: int,
    ) -> None:
        """image_shape: (C, H, W). columns: the auxiliary factors among the F of a batch. n_train: n of eq. (3).

        Raises InputError for a weight of its own that the model does not have.
        """
        super().__init__()
        if objective.own_weight is not None and self.OWN_WEIGHT is None:
            allowed = "with a model that has one (docs/rivals.md)"
            raise InputError(f"own_weight = {objective.own_weight} for {type(self).__name__}; allowed: {allowed}")
        self.objective, self.image_shape, self.latents = objective, image_shape, latents
        self.network, self.columns, self.n_train = network, list(columns), n_train
        self.scale = FieldScale(image_shape) if objective.scale == "standard" else ImageScale(objective.scale)

    @property
    def noise_size(self) -> int:
        """Columns of standard normal noise that `forward` takes for each sample."""
        return self.latents

    @property
    def own_weight(self) -> float:
        """Of what the model adds to the loss of a VAE."""
        given = self.objective.own_weight
        return float(self.OWN_WEIGHT or 0.0) if given is None else given

    @property
    def maximum(self) -> Tensor:
        """The brightest training pixel, outliers left out, in linear data units: the unit of errors of pixels."""
        return self.scale.maximum

    def largest_norm(self, norm: Tensor) -> float | Tensor | None:
        """The norm at which the gradient of this step, whose own is given, is cut; None does not cut."""
        return self.objective.clip_norm

    @torch.no_grad()
    def prepare(self, images: Tensor, u_ND: Tensor, pixels: PixelRange, errors_ND: Tensor | None = None) -> None:
        """Takes from training data what is fixed before the first step: here the scale.

        images: (M, C, H, W), the first samples. u_ND: the auxiliary factors of all training samples in [0, 1], NaN
        where not measured; errors_ND: of these, where any is known, 0 where not. pixels: of all training images.
        Raises InputError as ImageScale.fit.
        """
        self.scale.fit(*pixels)
        self.scale.look(images)

    def take(self, weights: Tensor) -> None:
        """Told of the weights (M, C, H, W) of the first training images before `prepare`, where there are any.

        As those of a Batch. Here nothing.
        """

    def reach(self) -> tuple[float, float]:
        """The lowest and the highest pixel, in linear data units, that training sees as it is and `decode` can give."""
        low, high = float(self.scale.limits[0].min()), float(self.scale.limits[1].max())
        if not self.objective.sigmoid:
            return low, high
        darkest = 0.0 if self.scale.minimum is None else float(self.scale.minimum)
        return max(low, darkest), min(high, float(self.scale.maximum))

    def advance(self, progress: float) -> None:
        """Told before each training step which share of the training is done."""

    def gauges(self) -> dict[str, float]:
        """Numbers beside the loss that tell how a training goes, the same on all ranks: in the log of each epoch."""
        return {}

    def factors(self, batch: Batch) -> Tensor:
        """u (B, D): the auxiliary factors of a batch, in [0, 1], NaN where not measured."""
        return batch.factors[:, self.columns]

    def encode(self, images: Tensor, u_BD: Tensor | None = None) -> Posterior:
        """(B, C, H, W) in linear data units -> posterior of (B, Z). u_BD: for models whose encoder sees labels."""
        raise NotImplementedError

    def decode(self, z_BZ: Tensor) -> Tensor:
        """(B, Z) -> expected images (B, C, H, W) in linear data units."""
        raise NotImplementedError

    def forward(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The weighted terms of the loss, which is their sum; DDP wraps this.

        noise_BZ: (B, noise_size) from N(0, 1). reduction: how means over the global batch are made, of which this batch
        is a part; the mean of each term over ranks is its global value.
        """
        terms, posterior = self.sample_terms(batch, noise_BZ, reduction)
        return terms | self.batch_terms(batch, posterior, noise_BZ, reduction)

    def sample_terms(self, batch: Batch, noise_BZ: Tensor, reduction: Reduction) -> tuple[LossTerms, Posterior]:
        """The terms that are means over samples, and the codes; `forward` without the rest."""
        raise NotImplementedError

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """The terms that are functions of the codes of the whole global batch together: here none.

        In a validation in pieces `batch` has no images.
        """
        return {}

    @classmethod
    def overrides(cls, method: str) -> bool:
        """Whether this class, or a parent of it below Model, defines the method itself."""
        return getattr(cls, method) is not getattr(Model, method)

    @classmethod
    def missing(cls) -> list[str]:
        """What a subclass still lacks to be a model."""
        lacks = [method for method in ("encode", "decode") if not cls.overrides(method)]
        return lacks if cls.overrides("forward") or cls.overrides("sample_terms") else [*lacks, "sample_terms"]


class UsualNorm(InFloat64):
    """The geometric mean of the norms of earlier gradients, the last hundred or so; gradients are cut at twice it.

    A constant means something else for each data set.
    """

    log: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log", torch.full((1,), math.inf, dtype=torch.float64))

    @torch.no_grad()
    def twice(self, norm: Tensor) -> Tensor:
        """A scalar, and takes note of this norm, after the cut."""
        most = 2 * self.log.exp()[0]
        now = in_float64(norm).minimum(most).log()
        mean = torch.where(self.log.isfinite(), 0.99 * self.log + 0.01 * now, now)
        self.log.copy_(torch.where(now.isfinite(), mean, self.log))
        return from_float64(most, norm.device)
