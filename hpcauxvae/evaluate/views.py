"""Is what was asked for what the same object really looks like? Only sets that show objects again and again can tell.

A reader finds a factor in an image that no object has. Where the set has the same object (a toy, a car, a galaxy) with
other factors, the image that was asked for is held against that very one. Shape legend in types.py; P pairs, O objects,
S settings of the factors.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing
from hpcauxvae.data.guides import guides_in, guiding
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import short, with_unit
from hpcauxvae.data.missing import shown
from hpcauxvae.data.stored import images_in
from hpcauxvae.evaluate import pictures
from hpcauxvae.metrics.intervals import Score, mean_score, ratio_score, student
from hpcauxvae.metrics.ssim import image_values
from hpcauxvae.train.run import Run

Block = dict[str, Any]

PAIRS, FEWEST = 512, 20
"""Pairs at most, and at least."""
_BYTES = 64 << 20  # of one image of every pair
_OBJECTS, _SETTINGS = 5, 3
"""Objects, and settings of the factors, that there must be: two scenarios of a climate are no objects. A factor with
more values than an object can have is measured, and no setting."""
_FILLED, _TWICE = 0.5, 0.01
"""Share of all settings of all objects that the set must have, and of those that it may have more than once."""
_SHOWN, _WORST, _OF_AN_OBJECT = 8, 3, 3
_FEW = 3
"""Objects among the pairs without which no share is told."""
_LEAST = 0.1
"""Share of the way from what stays to the true view by which the view's own reconstruction must be nearer, surely."""


class Objects(NamedTuple):
    """What the samples of a set show."""

    name: str
    """Of the factor that tells them, or `group`."""
    number_N: NDArray[np.int64]
    """From 0; -1 where nothing is known."""
    names: Sequence[str]
    """O of them."""
    settings_N: NDArray[np.int64]


class Views(NamedTuple):
    """Pairs (A, C) of the same object; images (P, C, H, W) in linear data units."""

    objects: Objects
    object_P: NDArray[np.int64]
    a: NDArray
    still: NDArray
    """A, encoded and decoded."""
    asked: NDArray
    """A with the factors of C."""
    real: NDArray
    """C."""
    own: NDArray
    """C, encoded and decoded."""
    guides: bool
    """Whether the objects guide, so that the model is told which it is."""
    factors: list[str]
    """Those that were asked for, with their units."""
    told: list[str]
    """Their values, P times."""
    trained: int
    """How many objects of the pairs the training has, too."""


def objects_of(data: ImageSet, names: Sequence[str]) -> Objects | None:
    """The objects that a set shows once in each of many settings of its guided factors; None where it shows none.

    They are told by a categorical factor, or by the groups of the file. Such a factor may as well be a class of
    different things, as a digit is: so each object must be there once, and not more often, in most settings, which a
    class of things that differ is not. names: the guided factors.
    """
    own = [guide.factor.name for guide in guides_in(data, names)]
    for name, values_N in _tellers(data):
        told, number_N = np.unique(values_N, return_inverse=True)
        told = told[told == told]  # NaN is no object
        number_N = np.where(values_N == values_N, number_N.reshape(-1), -1)
        most = len(values_N) / max(1, len(told)) / _FILLED
        others = data.column([factor for factor in own if factor != name])
        columns = [column for column in others if _differ(data.values[:, column]) <= most]
        settings = data.values[:, columns]
        known = (number_N >= 0) & ~np.isnan(settings).any(1)
        kinds, place = np.unique(settings[known], axis=0, return_inverse=True)
        setting_N = np.full(len(known), -1)
        setting_N[known] = place.reshape(-1)
        cells = np.unique(np.stack([number_N[known], setting_N[known]], 1), axis=0)
        enough = bool(columns) and len(told) >= _OBJECTS and len(kinds) >= _SETTINGS
        filled = len(cells) >= _FILLED * len(told) * len(kinds)
        if enough and filled and np.count_nonzero(known) <= (1 + _TWICE) * len(cells):
            texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in told.tolist()]
            return Objects(name, number_N.astype(np.int64), texts, setting_N)
    return None


def _differ(values_N: NDArray) -> int:
    """How many different values there are."""
    return len(np.unique(values_N[~np.isnan(values_N)]))


def _tellers(data: ImageSet) -> list[tuple[str, NDArray]]:
    own = [
        (factor.name, data.values[:, number])
        for number, factor in enumerate(data.factors[: data.own])
        if factor.kind == "categorical"
    ]
    return own if data.group is None else [*own, ("group", data.group)]


def views(run: Run, data: ImageSet, index_N: NDArray, train: NDArray, names: Sequence[str], seed: int) -> Views | None:
    """Pairs among these samples; None without objects, or with fewer than `FEWEST` pairs. A missing pixel is NaN.

    train: the samples that the run was trained on; empty where these are of another set. names: the guided factors.
    """
    found = objects_of(data, names)
    if found is None:
        return None
    columns = guiding(data, names)
    u_ND = data.scaled()[:, columns]
    most = max(FEWEST, min(PAIRS, images_in(_BYTES, data.shape)))
    a_P, c_P = _pairs(found, index_N[np.isfinite(u_ND[index_N]).all(1)], most, np.random.default_rng([seed, 3]))
    if len(a_P) < FEWEST:
        return None
    a, real = (shown(data.images, rows) for rows in (a_P, c_P))
    code_PZ, of_c_PZ = run.encode(a, u_ND[a_P])[0], run.encode(real, u_ND[c_P])[0]
    told = [
        ", ".join(
            short(guide.factor, data.values[row, data.column([guide.factor.name])[0]])
            for guide in guides_in(data, names)
        )
        for row in c_P
    ]
    trained = np.intersect1d(found.number_N[a_P], found.number_N[train]) if len(train) else np.empty(0)
    return Views(
        objects=found,
        object_P=found.number_N[a_P],
        a=a,
        still=run.decode(code_PZ),
        asked=run.decode(np.concatenate([u_ND[c_P], code_PZ[:, len(columns) :]], 1)),
        real=real,
        own=run.decode(of_c_PZ),
        guides=found.name in [guide.factor.name for guide in guides_in(data, names)],
        factors=[with_unit(guide.factor) for guide in guides_in(data, names)],
        told=told,
        trained=len(trained),
    )


def _pairs(found: Objects, rows: NDArray, most: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """At most so many samples, in random order, and for each another one of its object in another setting."""
    rows = rng.permutation(rows[(found.number_N[rows] >= 0) & (found.settings_N[rows] >= 0)])
    by_object = rows[np.argsort(found.number_N[rows], kind="stable")]
    numbers = found.number_N[by_object]
    first, second = [], []
    for row in rows:
        low, high = np.searchsorted(numbers, [found.number_N[row], found.number_N[row] + 1])
        others = by_object[low:high]
        others = others[found.settings_N[others] != found.settings_N[row]]
        if len(others):
            first.append(row)
            second.append(rng.choice(others))
        if len(first) == most:
            break
    return np.array(first, np.int64), np.array(second, np.int64)


def score(made: Views, maximum: float) -> Block:
    """The block `views` of metrics.json.

    `ssim`, `mse`: beside the true view, of what was asked for (`asked`), of the view's own reconstruction (`own`) and
    of A's reconstruction (`still`), which stays as it is. `share`: where between these two the first lies by SSIM, 0
    where nothing has turned and 1 where it is as good as the reconstruction; by MSE where images have no SSIM; None
    where the reconstruction is hardly nearer than what stays, or there are fewer than 3 objects. `worst`: the share of
    the objects that have the lowest. `objects`: what tells them; `of`, how many there are here; `trained`, how many of
    them the training shows as well; `guides`, whether they guide. Objects count as one in intervals. maximum: the
    brightest training pixel.
    """
    known = np.isfinite(made.real)
    given = {} if known.all() else {"weights": known}
    drawn = {"asked": made.asked, "own": made.own, "still": made.still}
    values = {name: image_values(np.nan_to_num(made.real), of, maximum, **given) for name, of in drawn.items()}
    seen = np.all([np.isfinite(of["ssim"]) for of in values.values()], 0)
    by = "ssim" if np.count_nonzero(seen) >= FEWEST else "mse"
    kept = seen if by == "ssim" else np.isfinite(values["own"]["mse"])
    asked, own, still = (values[name][by][kept] for name in drawn)
    gained_P, most_P, apart = (
        (asked - still, own - still, 1 - still) if by == "ssim" else (still - asked, still - own, still)
    )
    told, object_P = np.unique(made.object_P[kept], return_inverse=True)
    names, object_P = [made.objects.names[number] for number in told], object_P.reshape(-1)
    block: Block = {
        "objects": made.objects.name,
        "of": len(told),
        "trained": made.trained,
        "guides": made.guides,
        "pairs": len(asked),
        "by": by,
        "share": _share(gained_P, most_P, object_P, _LEAST * float(apart.mean())),
        "worst": _worst(names, object_P, gained_P, most_P, _LEAST * apart),
    }
    for name in dict.fromkeys((by, "mse")):
        block[name] = {which: mean_score(values[which][name][kept]) for which in drawn}
    return block


def _share(gained_P: NDArray, most_P: NDArray, object_P: NDArray, least: float) -> Score | None:
    """mean(gained) / mean(most) with Student's interval over objects; None where that cannot be told."""
    gained_O, most_O, count_O = (np.bincount(object_P, part) for part in (gained_P, most_P, np.ones(len(most_P))))
    n = len(most_O)
    if n < _FEW:
        return None
    wide = student(n - 1) / np.sqrt(n)
    if (most_O - least * count_O).mean() - wide * (most_O - least * count_O).std(ddof=1) < 0:
        return None
    value = float(gained_O.sum() / most_O.sum())
    half = float(wide * (gained_O - value * most_O).std(ddof=1) / most_O.mean())
    return Score(value=value, low=value - half, high=value + half, n=len(most_P))


def _worst(
    names: Sequence[str], object_P: NDArray, gained_P: NDArray, most_P: NDArray, least_P: NDArray
) -> dict[str, Score]:
    """Of the objects of which there are some pairs, and whose reconstructions are nearer than what stays."""
    shares = {
        name: ratio_score(gained_P[own], most_P[own])
        for number, name in enumerate(names)
        if np.count_nonzero(own := object_P == number) >= _OF_AN_OBJECT and most_P[own].mean() > least_P[own].mean()
    }
    return dict(sorted(shares.items(), key=lambda found: found[1]["value"])[:_WORST])


def draw(made: Views, data: ImageSet, path: Path) -> None:
    """A, A with the factors of C, C, and C's reconstruction: a column for each of some pairs, other objects each."""
    first = np.sort(np.unique(made.object_P, return_index=True)[1])
    rows = first[drawing.spread(len(first), _SHOWN)]
    images = np.stack([part[rows] for part in (made.a, made.asked, made.real, made.own)])
    none = [""] * len(rows)
    names = ["A", "A, asked to\nlook like C", "C, the\ntrue view", "C's recon-\nstruction"]
    labels = [
        [f"{made.objects.names[made.object_P[row]]}" for row in rows],
        [made.told[row] for row in rows],
        none,
        none,
    ]
    heads = [made.objects.name, "asked for:\n" + ", ".join(made.factors), "", ""]
    pictures.traversal(drawing.upright(images, data), names, labels, path, look=drawing.look_of(data), heads=heads)
