"""What the explorer is told of a run: factors and their ranges, codes of test and training images, where labels lie.

Shape suffixes: N samples, D auxiliary factors, Z latents, T columns that guide, R the other latents.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from hpcauxvae.data import drawing
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import short
from hpcauxvae.data.missing import shown as with_holes
from hpcauxvae.evaluate.effects import SAMPLES, STILL, effects, follows
from hpcauxvae.evaluate.generate import Generator
from hpcauxvae.metrics.codes import off
from hpcauxvae.report.panels import packed, panels_of
from hpcauxvae.train.run import Run

GALLERY = 30
"""Starts that have a picture to press."""
_MOST, _PICTURE_BYTES = 300, 2 << 20
"""Images of a part that travel with the page, at most, and bytes of their pictures; the gallery in any case."""
_ENCODED, _ENCODED_BYTES = 1000, 64 << 20
"""Training images whose codes tell which latents are in use and how far they go."""
_LABELS = 2000
"""Training samples whose labels travel, and validation samples that set the threshold, at most."""
_COMMON = 0.99
"""Share of the validation samples that count as near to those of the training."""
_NEARLY_ALL = 0.9
"""Of the steps between neighbouring values of a label."""
_NOT_OF_ANGLE = re.compile("cosine|cos|sine|sin", re.IGNORECASE)
"""What names of cosine and sine do not share."""


def told_of(run: Run, data: ImageSet) -> dict[str, Any]:
    """As plain JSON values. Raises InputError where the run has no guided latents."""
    generator = Generator(run, data)
    train, validation, test = run.parts(data)  # each in random order: the first of them stand for all
    labels_ND = _labels(run, data, train)
    seen = train[: max(GALLERY, min(_ENCODED, _ENCODED_BYTES // (4 * int(np.prod(data.shape)))))]
    mean_NZ, logvar_NZ = run.encode(data.images, None, seen)
    used_Z = ~off(mean_NZ, logvar_NZ)
    used_Z &= effects(run, with_holes(data.images, seen[:SAMPLES]), mean_NZ[:SAMPLES], used_Z) >= STILL
    used_Z[: generator.latents] = True
    look = drawing.look_of(data)
    gallery = _drawn(data, look, test[:GALLERY])
    panels = panels_of(gallery, look)
    few = max(GALLERY, min(_MOST, _PICTURE_BYTES // panels.sheet(gallery[:1])["bytes"]))
    tests = test[:few]
    codes_NZ = run.encode(data.images, None, tests)[0]
    factors_D, residual_R = generator.typical()
    return {
        "run": os.fspath(run.folder),
        "data": os.fspath(data.path),
        "shape": list(data.shape),
        "unit": look.unit,
        "turn": data.provenance.get("image_origin") == "lower",
        "unknown": None if look.unknown is None else packed(look.unknown.astype(np.uint8)),
        "look": panels.told(),
        "latents": run.config.latents,
        "guides": [_guide(*one) for one in zip(run.guides, labels_ND.T, strict=True)],
        "angles": [_angle(pair, [factor.name for factor in run.factors]) for pair in generator.angles],
        "residuals": _residuals(mean_NZ, used_Z, generator.latents, follows(data, seen, mean_NZ, used_Z)),
        "typical": {"factors": factors_D.tolist(), "residual": residual_R.tolist()},
        "gallery": min(GALLERY, len(tests)),
        "test": panels.sheet(_drawn(data, look, tests))
        | {
            "rows": tests.tolist(),
            "names": _names(run, data, tests),
            "codes": packed(codes_NZ.astype(np.float32)),
            "factors": [generator.of_code(code_Z)[0].tolist() for code_Z in codes_NZ],
        },
        "train": panels.sheet(_drawn(data, look, seen[:few]))
        | {"rows": seen[:few].tolist(), "codes": packed(mean_NZ[:few].astype(np.float32))},
        "spread": np.where(used_Z, mean_NZ.std(0), 0).tolist(),
        "axes": _axes(mean_NZ, used_Z, run.guides),
        "density": density(run.guides, labels_ND, _labels(run, data, validation)),
    }


def density(guides: Sequence[Guide], train_ND: NDArray, validation_ND: NDArray) -> dict[str, Any]:
    """Where labels of the training lie, and how far from them is far.

    The distance is that to the nearest of some training samples, in the columns that guide, each divided by its
    standard deviation. Far is what 99 of 100 validation samples are not, and what is farther from a grid of labels than
    the middle of its cells. Labels are in their units; samples that lack one tell nothing.
    """
    train_NT, validation_NT = (
        np.concatenate([guide.scaled(u_N) for guide, u_N in zip(guides, u_ND.T, strict=True)], 1)
        for u_ND in (train_ND, validation_ND)
    )
    train_NT, validation_NT = (part[~np.isnan(part).any(1)][:_LABELS] for part in (train_NT, validation_NT))
    spread_T = train_NT.std(0) if len(train_NT) else np.zeros(train_NT.shape[1])
    unit_T = np.where(spread_T > 0, spread_T, 1)
    points_NT = np.unique(train_NT, axis=0)
    between_T = [not guide.by_classes for guide in guides for _ in guide.columns]  # of two classes nothing is between
    threshold = float(np.linalg.norm(_steps(points_NT)[between_T] / unit_T[between_T])) / 2
    if len(points_NT) and len(validation_NT):
        own_N = KDTree(points_NT / unit_T).query(validation_NT / unit_T)[0]
        threshold = max(threshold, float(np.quantile(own_N, _COMMON)))
    return {"points": packed(points_NT.astype(np.float32)), "spread": spread_T.tolist(), "threshold": threshold}


def _steps(points_NT: NDArray) -> NDArray[np.float64]:
    """(T,), how far neighbouring values of a column are apart, nearly all of them: next to nothing where no grid is."""
    gaps = (np.diff(np.unique(values_N.round(6))) for values_N in points_NT.T)
    return np.array([np.quantile(gap, _NEARLY_ALL) if len(gap) else 0.0 for gap in gaps])


def _drawn(data: ImageSet, look: drawing.Look, rows: NDArray) -> NDArray[np.float32]:
    images = [np.asarray(with_holes(data.images, np.array([row])), np.float32)[0] for row in rows]
    return look.hidden(drawing.upright(np.stack(images), data))


def _labels(run: Run, data: ImageSet, rows: NDArray) -> NDArray[np.float64]:
    """(N, D), of the auxiliary factors in their units; NaN where not measured, or without the logarithm it needs."""
    labels_ND = data.values[rows][:, data.column([factor.name for factor in run.factors])].copy()
    for j, factor in enumerate(run.factors):
        if factor.transform == "log10":
            labels_ND[labels_ND[:, j] <= 0, j] = np.nan
    return labels_ND


def _guide(guide: Guide, values_N: NDArray) -> dict[str, Any]:
    """values_N: training labels."""
    by = "value" if guide.plain else "angle" if guide.by_angle else "classes" if guide.by_classes else "ranks"
    known_N = values_N[~np.isnan(values_N)]
    low, high = (float(known_N.min()), float(known_N.max())) if len(known_N) else (guide.factor.low, guide.factor.high)
    seen = [low, high] if low < high else [guide.factor.low, guide.factor.high]
    return {"factor": guide.factor._asdict(), "by": by, "levels": list(guide.levels), "seen": seen}


def _angle(pair: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Which of two factors is the cosine, as their names tell, where they do; and what both have in common."""
    cosine, sine = sorted(pair, key=lambda column: "sin" in names[column].lower().replace("cosine", "cos"))
    both = f"{names[cosine]} and {names[sine]}"
    common = {_NOT_OF_ANGLE.sub("", names[column]).strip(" _-.()") for column in pair}
    name = f"{common.pop()} ({both})" if len(common) == 1 and common != {""} else both
    return {"pair": [cosine, sine], "name": name}


def _residuals(mean_NZ: NDArray, used_Z: NDArray, guided: int, follow: dict[str, Any]) -> list[dict[str, Any]]:
    """The latents in use that no factor guides, what they follow, and from where to where their means go."""
    beside = {key: f" ({of['factor']}, r {of['r']:.2f})" for key, of in follow.items()}
    return [
        {
            "place": column - guided,
            "name": f"latent {column + 1}{beside.get(str(column + 1), '')}",
            "low": float(np.floor(10 * mean_NZ[:, column].min()) / 10),
            "high": float(np.ceil(10 * mean_NZ[:, column].max()) / 10),
        }
        for column in np.flatnonzero(used_Z).tolist()
        if column >= guided
    ]


def _names(run: Run, data: ImageSet, rows: NDArray) -> list[str]:
    """A line for each sample: its number, and up to three of its labels."""
    labels_ND = _labels(run, data, rows)[:, :3]
    lines = []
    for row, labels in zip(rows.tolist(), labels_ND, strict=True):
        pairs = zip(run.factors[:3], labels, strict=True)
        told = [f"{factor.name} {short(factor, value)}" for factor, value in pairs if not np.isnan(value)]
        lines.append(", ".join([f"image {row}", *told]))
    return lines


def _axes(mean_NZ: NDArray, used_Z: NDArray, guides: Sequence[Guide]) -> list[dict[str, Any]]:
    """What the scatter may show: the first two principal components of the latents in use, and each of these."""
    middle_Z, spread_Z = mean_NZ.mean(0), np.where(used_Z & (mean_NZ.std(0) > 0), mean_NZ.std(0), np.inf)
    vectors = np.linalg.svd((mean_NZ - middle_Z) / spread_Z, full_matrices=False)[2]
    found = []
    for number, vector_Z in enumerate(vectors[:2]):
        weights_Z = vector_Z / spread_Z
        about = {"weights": weights_Z.tolist(), "shift": -float(weights_Z @ middle_Z)}
        found.append({"name": f"principal component {number + 1}"} | about)
    names = [column.name for guide in guides for column in guide.columns]
    for column in np.flatnonzero(used_Z).tolist():
        name = f"latent {column + 1}" + (f": {names[column]}" if column < len(names) else "")
        found.append({"name": name, "weights": np.eye(len(used_Z))[column].tolist(), "shift": 0.0})
    return found
