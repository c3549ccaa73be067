"""What a run's predictions are worth: made once from its validation part, and kept in its folder without any pickle.

The guided latents tell the factors, with intervals (metrics/conformal.py); reconstructions and codes tell images that
are unlike those of the training. Shape suffixes: N samples, M validation samples, D guided factors, Z latents, X
features, S scores of an image.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import hpcauxvae
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled, shown
from hpcauxvae.evaluate.sets import refuse_unguided
from hpcauxvae.metrics.conformal import FEW, LEVELS, Reader, Trees, distance, fitted, folds, p_value, quantile
from hpcauxvae.models.base import Model
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import Run
from hpcauxvae.types import Factor, InputError

ALARM = 0.001
"""Images that are so rare among those of the training are flagged; the fewest that can be told where that is more."""
_MOST = 16_384
"""Validation samples, at most."""
_VERSION = 1
_TESTS = 4
"""Whether an image is drawn worse, is brighter, is fainter, or has a stranger code than almost all others."""
KEPT = "calibration."
"""Before the names of its tensors in the single file of a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Turns codes into factors with intervals, and says which images are unlike those of the training."""

    factors: tuple[Factor, ...]
    """The columns that guide, D of them."""
    guides: tuple[Guide, ...]
    """What these stand for."""
    readers: tuple[Reader, ...]
    """Of each."""
    score_SM: NDArray[np.float64]
    """`Measured.score_NS` of validation samples, each in increasing order."""
    weighted: bool
    """Whether these are in units of each pixel's noise."""
    known_MZ: NDArray[np.float64]
    """Means of validation samples in units of `scale_Z`, to which the distance of others is taken."""
    scale_Z: NDArray[np.float64]
    distance_M: NDArray[np.float64]
    """Of validation samples from those of other folds, in increasing order."""
    about: dict[str, Any]
    """weights (their digest), data_fingerprint, hpcauxvae, and samples."""

    @property
    def alarm(self) -> float:
        """At which `unlike_p` an image is flagged, or below."""
        return max(ALARM, _TESTS / (1 + len(self.distance_M)))

    def predict(self, mean_NZ: NDArray, logvar_NZ: NDArray, score_NS: NDArray) -> dict[str, NDArray]:
        """Columns (N,) of images with these codes and scores (`measured`), in the factors' units.

        NAME, NAME_low68, NAME_high68, NAME_low95, NAME_high95 of each guided factor; `unlike_p`, how probable an image
        so odd is among those of the training; `unlike`, whether it is flagged.
        """
        found: dict[str, NDArray] = {}
        features_NX = _features(mean_NZ, logvar_NZ)
        for factor, reader, z_N in zip(self.factors, self.readers, mean_NZ.T[: len(self.factors)], strict=True):
            told_N, intervals = reader(z_N, features_NX)
            with np.errstate(over="ignore", under="ignore"):  # of logarithms far from those of the training
                found[factor.name] = factor.unscale(told_N)
                for level, ends in zip(LEVELS, intervals, strict=True):
                    for end, values_N in zip(("low", "high"), ends, strict=True):
                        found[f"{factor.name}_{end}{100 * level:.0f}"] = factor.unscale(values_N)
        for guide in self.guides:  # an angle, a class: by what its columns say together, without an interval
            if not guide.plain:
                columns_NT = np.stack([found[column.name] for column in guide.columns], 1)
                found[guide.factor.name] = guide.told(columns_NT)
        far_N = distance(mean_NZ / self.scale_Z, self.known_MZ)
        drawn_N, bright_N = score_NS.T
        tests = [
            p_value(self.score_SM[0], drawn_N),
            p_value(self.score_SM[1], bright_N),
            p_value(-self.score_SM[1, ::-1], -bright_N),
            p_value(self.distance_M, far_N),
        ]
        found["unlike_p"] = np.minimum(1.0, _TESTS * np.min(tests, 0))  # Bonferroni
        found["unlike"] = found["unlike_p"] <= self.alarm
        return found

    def level(self, number: int, found: "Measured", values_N: NDArray) -> NDArray:
        """Of the smallest interval of a factor in which its label is, (N,): `Reader.level`.

        values_N: labels in the factor's unit; NaN where there is none.
        """
        factor = self.factors[number]
        if factor.transform == "log10":
            values_N = np.where(values_N > 0, values_N, np.nan)
        features_NX = _features(found.mean_NZ, found.logvar_NZ)
        return self.readers[number].level(found.mean_NZ[:, number], features_NX, factor.scale(values_N))

    def remarks(self) -> Iterator[str]:
        """What is to be told of it."""
        for factor, reader in zip(self.factors, self.readers, strict=True):
            n = len(reader.score_M)
            if n < FEW:
                yield f"{factor.name}: {n} validation samples, fewer than {FEW}: all images have intervals of one width"
            for level in LEVELS:
                if np.isinf(quantile(reader.score_M, level)):
                    yield f"{factor.name}: {n} validation samples, too few for {100 * level:.0f} %: no end to intervals"

    def units(self) -> dict[str, str]:
        """The unit of each column of `predict`, empty where it has none."""
        ends = ("", *(f"_{end}{100 * level:.0f}" for level in LEVELS for end in ("low", "high")))
        found = {f.name + end: f.unit for f in self.factors for end in ends}
        found |= {guide.factor.name: guide.factor.unit for guide in self.guides}
        return found | {"unlike_p": "", "unlike": ""}

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As tensors and JSON values, from which `unpacked` makes it."""
        tensors: dict[str, NDArray] = {name: getattr(self, name) for name in _ARRAYS}
        readers = []
        for number, reader in enumerate(self.readers):
            if len(reader.usual.root_T):
                tensors |= {f"{number}.{name}": of for name, of in vars(reader.usual).items()}
            tensors[f"{number}.score_M"] = reader.score_M
            readers.append([reader.slope, reader.offset])
        state = {
            "calibration": _VERSION,
            "factors": [factor.record() for factor in self.factors],
            "readers": readers,
            "weighted": self.weighted,
            "about": self.about,
        }
        return {name: torch.from_numpy(np.array(of)) for name, of in tensors.items()}, state

    def write(self, folder: Path) -> Path:
        """Writes it into a folder, under a name that tells whose weights it is of. Raises InputError for a full disk,
        and where the folder takes no files."""
        path = path_of(folder, self.about["weights"])
        checkpoint.write(path, *self.packed())
        return path


_ARRAYS = ("score_SM", "known_MZ", "scale_Z", "distance_M")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the networks say of images."""

    mean_NZ: NDArray[np.float64]
    logvar_NZ: NDArray[np.float64]
    score_NS: NDArray[np.float64]
    """Mean squares over the pixels that are there, of the difference of an image and its reconstruction, and of the
    image itself: on the scale of the likelihood, or in units of each pixel's noise; NaN where that is asked for and
    not known. S = 2."""


def measured(
    run: Run,
    images: Any,
    rows: NDArray | None = None,
    weighted: bool = False,
    mark: Callable[[], None] = lambda: None,
) -> Measured:
    """Codes and scores of images (N, C, H, W), linear data units, an array or `Filled`; no encoder sees labels.

    rows: which of them, all if not given; weighted: as a calibration is; mark: called after each piece.
    """
    rows = np.arange(len(images)) if rows is None else rows
    d, parts = len(run.guiding), []
    for start in range(0, len(rows), run.at_once):
        piece = rows[start : start + run.at_once]
        mean_NZ, logvar_NZ = run.encode(images, np.full((len(piece), d), np.nan), piece)
        decoded = torch.from_numpy(run.decode(mean_NZ))
        known = images.weights is not None if isinstance(images, Filled) else False
        weights = torch.from_numpy(images.weights_at(piece)) if weighted and known else None
        score_NS = squares(run.model, torch.from_numpy(np.array(shown(images, piece))), decoded, weights)
        parts.append((mean_NZ, logvar_NZ, np.full_like(score_NS, np.nan) if weighted and not known else score_NS))
        mark()
    if not parts:
        return Measured(np.empty((0, run.config.latents)), np.empty((0, run.config.latents)), np.empty((0, 2)))
    return Measured(*(np.concatenate(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def squares(model: Model, images: Tensor, decoded: Tensor, weights: Tensor | None) -> NDArray[np.float64]:
    """`Measured.score_NS` of images (N, C, H, W), NaN where a pixel is missing, and what was decoded of their means.

    weights: inverse variances, in whose units it is; None for the scale of the likelihood.
    """
    like = next(model.parameters())
    images, decoded = images.to(like.device, like.dtype), decoded.to(like.device, like.dtype)
    there = ~images.isnan()
    images, own = model.scale.clipped(images.where(there, 0)), torch.ones_like(images)
    if weights is None:
        images, decoded = model.scale(images), model.scale(decoded)
    else:
        own = weights.to(own).expand_as(images)
    means = [
        (value.square() * own).where(there, 0).flatten(1).double().cpu().sum(1)
        / there.flatten(1).cpu().sum(1).clamp(min=1)
        for value in (images - decoded, images)
    ]
    return np.asarray(torch.stack(means, 1).numpy())


def calibrate(run: Run, data: ImageSet, mark: Callable[[], None] = lambda: None) -> Calibration:
    """From the validation part of the set that the run was trained on. Raises InputError where nothing is guided.

    mark: called for each piece of images that is encoded.
    """
    refuse_unguided(run)
    row_M = _apart(run, data, run.parts(data)[1][:_MOST])
    weighted = isinstance(data.images, Filled) and data.images.weights is not None
    found = measured(run, data.images, row_M, weighted, mark)
    u_MD = data.scaled()[row_M][:, data.column([column.name for column in run.guiding])]
    features_MX = _features(found.mean_NZ, found.logvar_NZ)
    readers = (fitted(u_M, z_M, features_MX) for u_M, z_M in zip(u_MD.T, found.mean_NZ.T, strict=False))
    scale_Z = np.sqrt(found.mean_NZ.var(0) + np.exp(found.logvar_NZ).mean(0))
    known_MZ, fold_M = found.mean_NZ / scale_Z, folds(len(row_M))
    parts = ((known_MZ[fold_M == fold], known_MZ[fold_M != fold]) for fold in np.unique(fold_M))
    return Calibration(
        factors=tuple(run.guiding),
        guides=run.guides,
        readers=tuple(readers),
        score_SM=np.sort(found.score_NS.T),
        weighted=weighted,
        known_MZ=known_MZ,
        scale_Z=scale_Z,
        distance_M=np.sort(np.concatenate([distance(own, others) for own, others in parts])),
        about={
            "weights": checkpoint.digest(run.model.state_dict()),
            "data_fingerprint": data.fingerprint,
            "hpcauxvae": hpcauxvae.__version__,
            "samples": len(row_M),
        },
    )


def _apart(run: Run, data: ImageSet, row_M: NDArray) -> NDArray:
    """The rows so that those which are alike, of a group or neighbours, stand together, and others at random."""
    if run.split == "group" and data.group is not None:
        return row_M[np.argsort(data.group[row_M], kind="stable")]
    return np.sort(row_M) if run.split == "blocks" else row_M


def _features(mean_NZ: NDArray, logvar_NZ: NDArray) -> NDArray:
    """What tells how far predictions are off."""
    return np.concatenate([mean_NZ, logvar_NZ], 1)


def path_of(folder: Path, digest: str) -> Path:
    """Where the calibration of these weights lies."""
    return folder / f"calibration-{digest[:16]}.safetensors"


def load_calibration(run: Run, folder: Path | None = None) -> Calibration | None:
    """That of the run's weights, in its folder or another, or in its single file; None where there is none that can be
    read."""
    digest, place = checkpoint.digest(run.model.state_dict()), folder or run.folder
    try:
        tensors, state = checkpoint.read(place if place.is_file() else path_of(place, digest))
    except InputError:
        return None
    if place.is_file():
        tensors = {name.removeprefix(KEPT): of for name, of in tensors.items() if name.startswith(KEPT)}
        state = state.get("calibration", {})
    return unpacked(tensors, state, run.guides) if state.get("about", {}).get("weights") == digest else None


def unpacked(tensors: dict[str, Tensor], state: dict[str, Any], guides: tuple[Guide, ...]) -> Calibration | None:
    """The inverse of `packed`, of a run with these guides; None where it is of another version."""
    if state.get("calibration") != _VERSION:
        return None
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    readers = []
    for number, (slope, offset) in enumerate(state["readers"]):
        names = [f"{number}.{field.name}" for field in dataclasses.fields(Trees)]
        usual = Trees(*(arrays[name] for name in names)) if names[0] in arrays else Trees.of([])
        readers.append(Reader(slope, offset, usual, arrays[f"{number}.score_M"]))
    return Calibration(
        factors=tuple(Factor(*record) for record in state["factors"]),
        guides=guides,
        readers=tuple(readers),
        weighted=state["weighted"],
        about=state["about"],
        **{name: arrays[name] for name in _ARRAYS},
    )
