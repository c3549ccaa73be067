"""What a run's predictions are worth: made once from its validation part, and kept in its folder without any pickle.

The guided latents tell the factors, with intervals (metrics/conformal.py) and sets (metrics/prediction_sets.py);
reconstructions and codes tell images that are unlike those of the training. Shape suffixes: N samples, M of validation,
F factors, T columns by which one guides as many latents, Z latents, K classes, X features, S scores of an image.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import hpcauxvae
from hpcauxvae.data.guides import Guide, spans
from hpcauxvae.data.guides import shown as class_as_text
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.missing import Filled, shown
from hpcauxvae.evaluate.result_tables import as_precise
from hpcauxvae.evaluate.sets import refuse_unguided
from hpcauxvae.metrics.conformal import (
    FEW,
    LEVELS,
    AngleReader,
    Reader,
    Trees,
    distance,
    fitted,
    folds,
    p_value,
    quantile,
)
from hpcauxvae.metrics.prediction_sets import ClassReader, fitted_classes
from hpcauxvae.models.base import Model
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import Run
from hpcauxvae.types import InputError

ALARM = 0.001
"""Images that are so rare among those of the training are flagged; the fewest that can be told where that is more."""
_MOST = 16_384
"""Validation samples, at most."""
_VERSION = 2
BESIDE = "unlike_p", "unlike"
"""Columns that a table of predictions has beside those of factors."""
_TESTS = 4
"""Whether an image is drawn worse, is brighter, is fainter, or has a stranger code than almost all others."""
KEPT = "calibration."
"""Before the names of its tensors in the single file of a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Turns codes into factors with intervals, and says which images are unlike those of the training."""

    guides: tuple[Guide, ...]
    """The guided factors."""
    readers: tuple[Reader | ClassReader, ...]
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

        NAME, NAME_low68, NAME_high68, NAME_low95, NAME_high95 of each guided factor; of an angle the ends lie about it
        and may be beyond its range. Of classes NAME, NAME_p, the probability of this class, and NAME_set68 and
        NAME_set95, texts of the classes that it may be. `unlike_p`, how probable an image so odd is among those of the
        training; `unlike`, whether it is flagged.
        """
        return self.with_texts(self.numbers(mean_NZ, logvar_NZ, score_NS))

    def numbers(self, mean_NZ: NDArray, logvar_NZ: NDArray, score_NS: NDArray) -> dict[str, NDArray]:
        """As `predict`; sets of K classes as (N, K), whether each is in it."""
        found: dict[str, NDArray] = {}
        features_NX = _features(mean_NZ, logvar_NZ)
        for guide, span, reader in self._each():
            name, z_NT = guide.factor.name, mean_NZ[:, span]
            if isinstance(reader, ClassReader):
                told_N, p_N, sets = reader(z_NT)
                found |= {name: np.array(guide.levels)[told_N], f"{name}_p": as_precise(p_N)}
                found |= {f"{name}_set{_percent(level)}": of for level, of in zip(LEVELS, sets, strict=True)}
                continue
            read_N, intervals = reader(z_NT, features_NX)
            found[name] = _in_units(guide, read_N)
            for level, ends in zip(LEVELS, intervals, strict=True):
                for end, values_N in zip(("low", "high"), ends, strict=True):
                    found[f"{name}_{end}{_percent(level)}"] = _in_units(guide, values_N)
        far_N = distance(mean_NZ / self.scale_Z, self.known_MZ)
        drawn_N, bright_N = score_NS.T
        tests = [
            p_value(self.score_SM[0], drawn_N),
            p_value(self.score_SM[1], bright_N),
            p_value(-self.score_SM[1, ::-1], -bright_N),
            p_value(self.distance_M, far_N),
        ]
        unlike_N = np.minimum(1.0, _TESTS * np.min(tests, 0))  # Bonferroni
        found |= {"unlike_p": as_precise(unlike_N), "unlike": unlike_N <= self.alarm}
        return {name: found[name] for name in self.units()}

    def with_texts(self, numbers: dict[str, NDArray]) -> dict[str, NDArray]:
        """`numbers` with sets as texts: their classes, with a space between two."""
        found = dict(numbers)
        for name, words in self.words().items():
            rows = (" ".join(itertools.compress(words, row)) for row in numbers[name].tolist())
            found[name] = np.array(list(rows), dtype=np.str_)
        return found

    def words(self) -> dict[str, list[str]]:
        """By the name of a column of sets the classes that may be in them."""
        return {
            f"{guide.factor.name}_set{_percent(level)}": [class_as_text(of) for of in guide.levels]
            for guide in self.guides
            if guide.by_classes
            for level in LEVELS
        }

    def level(self, number: int, found: "Measured", values_N: NDArray) -> NDArray:
        """Of the smallest interval, or set, of a factor in which its label is, (N,): `Reader.level`.

        values_N: labels in the factor's unit; NaN where there is none.
        """
        guide, span, reader = list(self._each())[number]
        z_NT = found.mean_NZ[:, span]
        if isinstance(reader, ClassReader):
            return reader.level(z_NT, _number_of(guide, values_N))
        return reader.level(z_NT, _features(found.mean_NZ, found.logvar_NZ), _target(guide, values_N))

    def remarks(self) -> Iterator[str]:
        """What is to be told of it."""
        for guide, _, reader in self._each():
            name, n = guide.factor.name, len(reader.score_M)
            if n < FEW and isinstance(reader, Reader):
                yield f"{name}: {n} validation samples, fewer than {FEW}: all images have intervals of one width"
            for level in LEVELS:
                if np.isinf(quantile(reader.score_M, level)):
                    without = "sets have all classes" if guide.by_classes else "no end to intervals"
                    yield f"{name}: {n} validation samples, too few for {_percent(level)} %: {without}"

    def units(self) -> dict[str, str]:
        """The unit of each column of `predict`, empty where it has none."""
        of_factors = {name: unit for guide in self.guides for name, unit in columns_of(guide).items()}
        return of_factors | dict.fromkeys(BESIDE, "")

    def head(self, run: Run) -> dict[str, str | int | float]:
        """What a table of predictions says of itself, by names that FITS takes: the run, its `step` and `weights`, the
        version, how many samples the run was calibrated on, the levels in per cent, and `alarm`."""
        return {
            "weights": run.digest,
            "software": f"hpcauxvae {hpcauxvae.__version__}",
            "run": str(run.folder),
            "step": run.state["step"],
            "samples": self.about["samples"],
            "levels": ",".join(map(_percent, LEVELS)),
            "alarm": self.alarm,
        }

    def _each(self) -> Iterator[tuple[Guide, slice, Reader | ClassReader]]:
        """Each factor with the latents that it guides."""
        return zip(self.guides, spans(self.guides), self.readers, strict=True)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As tensors and JSON values, from which `unpacked` makes it."""
        tensors: dict[str, NDArray] = {name: getattr(self, name) for name in _ARRAYS}
        for number, reader in enumerate(self.readers):
            tensors |= {f"{number}.line_T2": reader.line_T2, f"{number}.score_M": reader.score_M}
            if isinstance(reader, ClassReader):
                tensors[f"{number}.temperature"] = np.array(reader.temperature)
            elif len(reader.usual.root_T):
                tensors |= {f"{number}.{name}": of for name, of in vars(reader.usual).items()}
        state = {
            "calibration": _VERSION,
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


def columns_of(guide: Guide) -> dict[str, str]:
    """The columns of a factor in a table of predictions, and the unit of each."""
    name, unit = guide.factor[:2]
    if guide.by_classes:
        return {name: unit, f"{name}_p": ""} | {f"{name}_set{_percent(level)}": "" for level in LEVELS}
    ends = ("", *(f"_{end}{_percent(level)}" for level in LEVELS for end in ("low", "high")))
    return {name + end: unit for end in ends}


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
    features_MX, values_MF = _features(found.mean_NZ, found.logvar_NZ), data.values[row_M]
    readers = (
        _fitted(guide, values_MF[:, column], found.mean_NZ[:, span], features_MX)
        for guide, column, span in zip(
            run.guides, data.column([factor.name for factor in run.factors]), spans(run.guides), strict=True
        )
    )
    scale_Z = np.sqrt(found.mean_NZ.var(0) + np.exp(found.logvar_NZ).mean(0))
    known_MZ, fold_M = found.mean_NZ / scale_Z, folds(len(row_M))
    parts = ((known_MZ[fold_M == fold], known_MZ[fold_M != fold]) for fold in np.unique(fold_M))
    return Calibration(
        guides=run.guides,
        readers=tuple(readers),
        score_SM=np.sort(found.score_NS.T),
        weighted=weighted,
        known_MZ=known_MZ,
        scale_Z=scale_Z,
        distance_M=np.sort(np.concatenate([distance(own, others) for own, others in parts])),
        about={
            "weights": run.digest,
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


def _fitted(guide: Guide, values_M: NDArray, z_MT: NDArray, features_MX: NDArray) -> Reader | ClassReader:
    columns_MT = guide.scaled(values_M)
    if guide.by_classes:
        return fitted_classes(_number_of(guide, values_M), columns_MT, z_MT)
    return fitted(_target(guide, values_M), columns_MT, z_MT, features_MX, _kind(guide))


def _kind(guide: Guide) -> type[Reader]:
    return AngleReader if guide.by_angle else Reader


def _target(guide: Guide, values_N: NDArray) -> NDArray[np.float64]:
    """What is read of a factor that is no class, on the scale from 0 to 1, (N,): an angle in turns, or a rank."""
    if guide.factor.transform == "log10":
        values_N = np.where(values_N > 0, values_N, np.nan)
    return np.asarray(guide.factor.scale(values_N) if guide.by_angle else guide.scaled(values_N)[:, 0])


def _number_of(guide: Guide, values_N: NDArray) -> NDArray[np.int64]:
    """Which of the classes each value is, (N,); -1 where it is none of them."""
    place_N = np.minimum(np.searchsorted(guide.levels, values_N), len(guide.levels) - 1)
    return np.where(np.array(guide.levels)[place_N] == values_N, place_N, -1)


def _in_units(guide: Guide, read_N: NDArray) -> NDArray[np.float64]:
    """The inverse of `_target`. A rank is one that occurs, or between two of these."""
    with np.errstate(over="ignore", under="ignore"):  # of logarithms far from those of the training
        found_N = guide.factor.unscale(read_N) if guide.by_angle else guide.unscaled(read_N[:, None])
    return as_precise(found_N, guide.factor)


def _percent(level: float) -> str:
    return f"{100 * level:.0f}"


def _features(mean_NZ: NDArray, logvar_NZ: NDArray) -> NDArray:
    """What tells how far predictions are off."""
    return np.concatenate([mean_NZ, logvar_NZ], 1)


def path_of(folder: Path, digest: str) -> Path:
    """Where the calibration of these weights lies."""
    return folder / f"calibration-{digest[:16]}.safetensors"


def load_calibration(run: Run, folder: Path | None = None) -> Calibration | None:
    """That of the run's weights, in its folder or another, or in its single file; None where there is none that can be
    read."""
    digest, place = run.digest, folder or run.folder
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
    readers: list[Reader | ClassReader] = []
    for number, guide in enumerate(guides):
        of = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{number}.")}
        if guide.by_classes:
            readers.append(ClassReader(of["line_T2"], float(of["temperature"]), of["score_M"]))
        else:
            names = [field.name for field in dataclasses.fields(Trees)]
            usual = Trees(*(of[name] for name in names)) if names[0] in of else Trees.of([])
            readers.append(_kind(guide)(of["line_T2"], usual, of["score_M"]))
    return Calibration(
        guides=guides,
        readers=tuple(readers),
        weighted=state["weighted"],
        about=state["about"],
        **{name: arrays[name] for name in _ARRAYS},
    )
