"""The types that every other module speaks.

Shape suffixes, here and everywhere: B batch, N samples, C channels, H height, W width (of an image), F factors,
D auxiliary factors (d of the paper), Z latent coordinates (dz of the paper), K polynomial degree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # torch takes a second to import, and simulation does without it
    import numpy as np
    from torch import Tensor
    from torch.distributed import ProcessGroup


class InputError(Exception):
    """Something the user gave is wrong: the message names what, its value and what is allowed. Exit code 2.

    Not a ValueError, which the command-line parser would dress up as its own.
    """

    def __init__(self, message: str, *, reported: bool = False) -> None:
        """reported: another process tells the user."""
        super().__init__(message)
        self.reported = reported


class Batch(NamedTuple):
    """The samples of a step."""

    images: Tensor
    """(B, C, H, W), linear data units (counts for galaxies)."""
    factors: Tensor
    """(B, F) in [0, 1]; NaN where not measured."""
    index: Tensor  # type: ignore[assignment]  # tuple has a method of this name
    """(B,) int64, each sample's number in the whole data set."""
    weights: Tensor | None = None
    """(B, C, H, W) or broadcastable: inverse variance of each pixel; 0 where it is missing, and so is the image there.
    1 elsewhere where only that is known; None where nothing is."""
    errors: Tensor | None = None
    """(B, F), standard deviations of the labels on the scale of `factors`; 0 where a label is exact or its error is
    not known. None where all are exact."""

    def each(self, do: Callable[[Tensor], Tensor]) -> Batch:
        """With something done to each tensor that is there."""
        return Batch(*(None if part is None else do(part) for part in self))  # type: ignore[arg-type]

    @staticmethod
    def joined(batches: Sequence[Batch], join: Callable[[tuple[Tensor, ...]], Tensor]) -> Batch:
        """One of several, all with the same parts."""
        return Batch(*(None if parts[0] is None else join(parts) for parts in zip(*batches, strict=True)))  # type: ignore[arg-type]

    def tensors(self) -> list[Tensor]:
        """Those that are there."""
        return [part for part in self if part is not None]

    def mean(self, values: Tensor) -> Tensor:
        """Over the pixels that are not missing, (B, C, H, W) -> (B,)."""
        if self.weights is None:
            return values.mean((1, 2, 3))
        known = (self.weights > 0).expand_as(values)
        return values.where(known, 0).sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)

    def shown(self) -> Tensor:
        """The images as an encoder is given them, (B, C, H, W): NaN where a pixel is missing."""
        return self.images if self.weights is None else self.images.where(self.weights > 0, float("nan"))


Kind: TypeAlias = Literal["continuous", "ordinal", "periodic", "categorical"]
KINDS: tuple[Kind, ...] = get_args(Kind)
By: TypeAlias = Literal["auto", "random", "group", "blocks", "given"]
"""How samples are split into training, validation and test (data/splits.py)."""
Labels: TypeAlias = Literal["kinds", "raw"]
"""How factors guide latents: as their kinds want it, or by one column each (data/guides.py)."""


class Fold(NamedTuple):
    """One of the splits of a cross-validation."""

    number: int
    """From 0; its share of the samples is for test."""
    of: int


Transform: TypeAlias = Literal["linear", "log10"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


class Factor(NamedTuple):
    """A labelled quantity of a data set."""

    name: str
    unit: str
    low: float
    """Lower end of the range, in `unit`; scaled to 0."""
    high: float
    """Upper end of the range, in `unit`; scaled to 1."""
    kind: Kind = "continuous"
    """ordinal: a few values in order; periodic: both ends of the range are the same; categorical: without order."""

    transform: Transform = "linear"
    """log10: the range is scaled by its logarithm, for what is positive and spans decades; low > 0."""
    classes: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, … of a categorical factor; none where its numbers are the names."""

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Physical units to the range [0, 1] that models see."""
        if self.transform == "log10":
            return self._log10(values / self.low) / self._log10(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """[0, 1] to physical units."""
        if self.transform == "log10":
            ratio: np.ndarray = self.low * (self.high / self.low) ** values
            return ratio
        return self.low + values * (self.high - self.low)

    def scale_errors(self, errors: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Standard deviations of these values, both in physical units, on the scale from 0 to 1; NaN stays."""
        if self.transform == "log10":
            import numpy as np

            return np.asarray(errors / (values * np.log(self.high / self.low)))
        return errors / (self.high - self.low)

    @staticmethod
    def _log10(values: np.ndarray | float) -> np.ndarray:
        import numpy as np  # command lines that only need the names of this module do not wait for it

        return np.asarray(np.log10(values))

    @property
    def span(self) -> tuple[float, str]:
        """What 1 is on the scale from 0 to 1, and its unit: the range's width, or how many dex (decades) it spans."""
        if self.transform == "log10":
            return float(self._log10(self.high / self.low)), "dex"
        return self.high - self.low, self.unit

    def record(self) -> list[str | float | list[str]]:
        """As runs keep it: the fields, the last ones only where they say something."""
        if self.classes:
            return [*self[:-1], list(self.classes)]
        return list(self[:-1] if self.transform != "linear" else self[:-2])

    @classmethod
    def of_record(cls, record: Sequence[Any]) -> Factor:
        """The inverse of `record`, also where JSON has made lists of tuples."""
        return cls(*record[:6])._replace(classes=tuple(*record[6:]))


class Reduction(NamedTuple):
    """How a mean over the global batch is made from the parts that the ranks hold."""

    n: int
    """Samples of the global batch."""
    group: ProcessGroup | None = None
    """The ranks; None for this process alone."""
    first: int = 0
    """Place of this part's first sample in the global batch."""

    def mean(self, values_B: Tensor) -> Tensor:
        """This rank's share of the mean, a scalar: its sum times ranks over n, so that the mean over ranks is right.

        values_B (B,): a value of each sample of this rank, B >= 0. DDP takes the mean of the ranks' gradients, which is
        then the gradient of the global mean.
        """
        return values_B.sum() * ((1 if self.group is None else self.group.size()) / self.n)

    def after(self, samples: int) -> Reduction:
        """That of a part which begins so many samples after this one."""
        return self._replace(first=self.first + samples)

    def every(self, step: int) -> tuple[slice, Reduction]:
        """Each `step`-th sample of the global batch: which of this part's these are, and how a mean over them is made.

        They are the same ones however the batch is shared out.
        """
        return slice(-self.first % step, None, step), self._replace(n=-(-self.n // step))


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(logvar))."""

    mean: Tensor
    """(B, Z)"""
    logvar: Tensor
    """(B, Z)"""

    def sample(self, noise_BZ: Tensor) -> Tensor:
        """z = mean + standard deviation * noise, (B, Z); noise from N(0, 1)."""
        return self.mean + (0.5 * self.logvar).exp() * noise_BZ


class Interval(NamedTuple):
    """A hyperparameter's values from `low` to `high`; whole numbers where both are."""

    low: float
    high: float
    log: bool
    """Equal ratios are equally likely, not equal differences."""


class Around(NamedTuple):
    """A hyperparameter's values around that of the objective: from value / factor to value * factor."""

    factor: float


Searched: TypeAlias = "dict[str, Interval | Around | tuple[int, ...]]"
"""What a model declares worth searching: fields of TrainConfig with the values to try."""

LossTerms: TypeAlias = "dict[str, Tensor]"
"""Weighted scalars by name; the loss is their sum."""
