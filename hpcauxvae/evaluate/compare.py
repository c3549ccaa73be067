"""Runs side by side on the same images: `hpcauxvae compare RUN RUN ...`, with intervals of the differences.

What an evaluation left in a run's folder is used where it is that of the run's weights and of these images; else the
images are encoded. Shape legend in types.py; M the images that are scored, C runs.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hpcauxvae
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.guides import guided, guiding
from hpcauxvae.data.hdf5 import ImageSet, check_pixels, open_set, refuse_existing
from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate.command import CompareConfig
from hpcauxvae.evaluate.compared import differing, findings, named
from hpcauxvae.evaluate.compared_factors import left_out, of_factors
from hpcauxvae.evaluate.generate import doubts
from hpcauxvae.evaluate.records import write_metrics
from hpcauxvae.evaluate.scores import Later, Scored
from hpcauxvae.evaluate.sets import looked_at, refuse_missing
from hpcauxvae.metrics import Codes, score_images
from hpcauxvae.metrics.codes import FEWEST
from hpcauxvae.metrics.intervals import Score, mean_score
from hpcauxvae.metrics.joint import FEWEST as FEWEST_TOGETHER
from hpcauxvae.metrics.lds import lds, lds_mean
from hpcauxvae.metrics.objects import objects
from hpcauxvae.metrics.paired import SHARE, less, readings_less, residuals_less, smallest
from hpcauxvae.metrics.reading import readings
from hpcauxvae.metrics.sap import sap
from hpcauxvae.runtime.devices import device_of, place
from hpcauxvae.runtime.files import refuse_unwritable
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.runtime.threads import leave_room
from hpcauxvae.train.run import Run, check_factors, load_run, training_set
from hpcauxvae.types import InputError

_PROBE = 32
"""Images that are encoded and decoded again to see whether stored codes are those of these weights."""
_OF_SPREAD, _OF_SCORE = 0.01, 0.001
"""By so much of the posterior's spread, or of a score of an image, may they differ: float32 on another device."""
_OF_IMAGES = {"ssim": "higher", "mse": "lower", "chi2": "lower"}

Block = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """The samples on which runs are compared."""

    name: str
    data: ImageSet
    index_N: NDArray[np.int64]
    """Which samples of the set, rising."""
    object_N: NDArray[np.int64]
    shown: int
    """M: the first of them, whose images are scored."""
    maximum: float
    """In whose square an MSE is: the brightest training pixel of all runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """These samples under one of the runs."""

    run: Run
    mean_NZ: NDArray
    logvar_NZ: NDArray
    per_image: Mapping[str, NDArray]
    """`ssim`, `mse`, and `chi2` where the noise is known: (M,) each."""


def compare(config: CompareConfig) -> Block:
    """Compares runs; returns what `--json` is to hold. Raises InputError where nothing can be compared."""
    runs = _runs(config)
    names = named(config.runs)
    result: Block = {
        "hpcauxvae": hpcauxvae.__version__,
        "settings": config.to_json(),
        "runs": [
            {"name": name, "folder": str(run.folder), "model": run.config.model, "epoch": run.state["epoch"]}
            | {"epochs": run.config.epochs, "differs": differing(runs[0], run)}
            for name, run in zip(names, runs, strict=True)
        ],
        "sets": {},
    }
    for images in _sets(config, runs):
        seen = []
        for name, run in zip(names, runs, strict=True):
            stored = _stored(run, images)
            done = "codes are there" if stored else f"encoding {len(images.index_N)} samples"
            print(f"{images.name}: {name}: {done}", file=sys.stderr, flush=True)
            seen.append(stored or _encoded(run, images, images.index_N, images.shown))
        block: Block = {
            "data": str(images.data.path),
            "samples": len(images.index_N),
            "scores": _scores(images, seen, config),
            "left_out": _left_out(names, runs),
            "compared": _compared(names, runs, _shared(images, runs)),
        }
        lines = [*findings(names, block["scores"]), *_not_compared(names, runs)]
        result["sets"][images.name] = block | {"verdicts": lines}
    if config.json:
        write_metrics(config.json, result)
    return result


def _not_compared(names: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """What `evaluate` has found against asking a run for factors: no score here sees it."""
    for name, run in zip(names, runs, strict=True):
        factors = dict.fromkeys(one.name for guide in run.guides for one in (guide.factor, *guide.columns))
        for line in doubts(run.folder, factors) if run.model.GUIDED else ():
            yield f"not compared here, but found by `evaluate` of {name}: {line}"


def _runs(config: CompareConfig) -> list[Run]:
    """The runs, on their device.

    Raises InputError unless they are of one data set, or there is a fresh one, and where a file to be made exists.
    """
    for path in (config.out, config.json):
        if path is not None:
            refuse_existing(path)
            refuse_unwritable(path.parent)
    runs = [load_run(folder) for folder in config.runs]
    first = runs[0]
    for run in runs[1:]:
        if run.state["fingerprint"] != first.state["fingerprint"] and config.fresh is None:
            raise InputError(
                f"{run.folder}: was trained on another data set ({run.config.data}) than {first.folder} "
                f"({first.config.data}); allowed: runs of one data set, or --fresh FILE to compare them on"
            )
    device = device_of(find_world(), config.device)
    leave_room(find_world(), device)
    for run in runs:
        place(run.model, device)
    return runs


def _sets(config: CompareConfig, runs: Sequence[Run]) -> Iterator[Images]:
    """The images that are test images of all runs, and the fresh ones. Raises InputError where there are none."""
    maximum = max(float(run.model.maximum) for run in runs)
    fresh = None if config.fresh is None else _fresh(config.fresh, runs)
    if len({run.state["fingerprint"] for run in runs}) == 1:
        data = training_set(runs[0], config.data)
        check_pixels(data)
        index_N = reduce(np.intersect1d, [run.parts(data)[2] for run in runs])
        if len(index_N) >= FEWEST:
            yield _images("test", data, index_N, config, maximum, runs)
        else:
            few = f"{data.path}: {len(index_N)} images are test images of all of these runs, a score needs {FEWEST}"
            if fresh is None:
                raise InputError(
                    f"{few}; allowed: runs of one split (--split-seed), or --fresh FILE to compare them on"
                )
            print(f"{few}: they are compared on {fresh.path} alone", file=sys.stderr, flush=True)
    if fresh is not None:
        yield _images("fresh", fresh, np.arange(len(fresh)), config, maximum, runs)


def _images(
    name: str, data: ImageSet, index_N: NDArray, config: CompareConfig, maximum: float, runs: Sequence[Run]
) -> Images:
    data, pixels = looked_at(guided(data, _comparable(runs)[0].guides))
    return Images(
        name=name,
        data=data,
        index_N=index_N,
        object_N=objects(data.values[index_N], pixels.digest[index_N]),
        shown=min(config.images, len(index_N)),
        maximum=maximum,
    )


def _fresh(path: Path, runs: Sequence[Run]) -> ImageSet:
    """Raises InputError unless all runs can score it, and none was trained on it."""
    fresh = in_order_of(open_set(path), runs[0].known)
    check_pixels(fresh)
    for run in runs:
        if list(fresh.shape) != run.state["image_shape"]:
            wanted = tuple(run.state["image_shape"])
            raise InputError(f"{path}: images of {fresh.shape}; allowed: those of {run.folder}, {wanted}")
        check_factors(fresh, run)
        refuse_missing(fresh, run)
        if fresh.fingerprint == run.state["fingerprint"]:
            raise InputError(f"{path}: is the data set that {run.folder} was trained on; allowed: another one")
    if len(fresh) < FEWEST:
        raise InputError(f"{path}: {len(fresh)} images; allowed: {FEWEST} or more, a score needs them")
    return fresh


def _encoded(run: Run, images: Images, index_N: NDArray, shown: int) -> Seen:
    """These samples of the set, the first `shown` with image scores."""
    data = images.data
    own = guided(data, run.guides)
    labels_ND = own.scaled()[index_N][:, guiding(own, run.config.aux_names)]
    mean_NZ, logvar_NZ = run.encode(data.images, labels_ND, index_N)
    scored = Scored(
        name=images.name, data=data, index_N=index_N, mean_NZ=mean_NZ, logvar_NZ=logvar_NZ, noiseless=None,
        originals=Later(lambda rows: np.array(data.images[rows]), index_N[:shown], data.shape),
        reconstructions=Later(run.decode, mean_NZ[:shown], data.shape),
    )  # fmt: skip
    found = score_images(scored.originals, scored.reconstructions, images.maximum, run.at_once, scored.weights())
    return Seen(run=run, mean_NZ=mean_NZ, logvar_NZ=logvar_NZ, per_image=found.per_image)


def _stored(run: Run, images: Images) -> Seen | None:
    """What an evaluation of the run left of these samples; None where it is of others, of other weights, or damaged."""
    path, wanted = run.folder / f"codes-{images.name}.h5", images.index_N
    try:
        with open_file(path) as file:
            there = {name: file[name][:] for name in file if name != "id"}
        place_N = np.searchsorted(there["index"], wanted)
        if not np.array_equal(there["index"][np.minimum(place_N, len(there["index"]) - 1)], wanted):
            return None
        per_image = {name: there[name][place_N[: images.shown]] for name in _OF_IMAGES if name in there}
        own = float(run.model.maximum)
        seen = Seen(
            run=run,
            mean_NZ=there["mean"][place_N],
            logvar_NZ=there["logvar"][place_N],
            per_image=per_image | {"mse": per_image["mse"] * (own / images.maximum) ** 2},
        )
        factors_NF = there["factors"][place_N]
    except (OSError, InputError, KeyError, IndexError):  # none there, of an older version, or with fewer image scores
        return None
    same = np.array_equal(factors_NF, images.data.values[wanted], equal_nan=True)
    return seen if same and _holds(seen, images) else None


def _holds(seen: Seen, images: Images) -> bool:
    """Whether some of these samples, encoded and decoded again, come to the same."""
    rows = np.unique(np.linspace(0, images.shown - 1, _PROBE).astype(int))
    again = _encoded(seen.run, images, images.index_N[rows], len(rows))
    if seen.mean_NZ.shape[1] != again.mean_NZ.shape[1]:
        return False
    close = np.abs(seen.mean_NZ[rows] - again.mean_NZ) <= _OF_SPREAD * np.exp(again.logvar_NZ / 2)
    spread = np.abs(seen.logvar_NZ[rows] - again.logvar_NZ) <= _OF_SPREAD
    scores = (
        name in seen.per_image
        and np.allclose(seen.per_image[name][rows], again.per_image[name], _OF_SCORE, _OF_SCORE**2, equal_nan=True)
        for name in _OF_IMAGES
        if name in again.per_image
    )
    return bool(close.all() and spread.all()) and all(scores)


def _scores(images: Images, seen: Sequence[Seen], config: CompareConfig) -> Block:
    """By its name each score: which way is `better`, its `values`, one for each run, and their `differences`, each less
    the first run's, with paired intervals, None where a run has no such score; and the `smallest` that matters."""
    found: Block = {}
    if shared := _shared(images, [one.run for one in seen]):
        codes = [_codes(images, one, shared, config.seed) for one in seen]
        differences = [less(codes[0], other) for other in codes]
        values = [{"lds": lds(one), "lds_mean": lds_mean(one), "sap": sap(one)} for one in codes]
        values = [of_run | _shares(of_run) for of_run in values]
        for name in sorted({name for one in differences for name in one}):
            of_runs, paired = ([one.get(name) for one in every] for every in (values, differences))
            found[name] = _entry("higher", of_runs, paired)
        found |= _guided(images, seen, shared, config.seed)
    found |= _in_own_terms(images, seen)
    for name, better in _OF_IMAGES.items():
        if all(name in one.per_image for one in seen):
            image_CM = np.stack([one.per_image[name] for one in seen])
            image_CM = image_CM[:, ~np.isnan(image_CM[0])]
            if image_CM.shape[1] > 1:
                found[name] = _entry(better, [*map(mean_score, image_CM)], [*map(mean_score, image_CM - image_CM[0])])
    return {name: of_runs | {"smallest": smallest(name, of_runs["values"][0])} for name, of_runs in found.items()}


def _shares(values: Mapping[str, Any]) -> dict[str, Score]:
    """Those scores that have a ceiling as a share of it."""
    return {
        name + SHARE: Score(value=s["value"] / top, low=s["low"] / top, high=s["high"] / top, n=s["n"])
        for name, s in values.items()
        if (top := s.get("attainable"))
    }


def _entry(better: str, values: Sequence[Score | None], differences: Sequence[Score | None], unit: str = "") -> Block:
    """The first run is what the others are compared with."""
    return {"better": better, "unit": unit, "values": list(values), "differences": [None, *differences[1:]]}


def _guided(images: Images, seen: Sequence[Seen], shared: Sequence[str], seed: int) -> Block:
    """Of the runs with guided latents how they read each factor, and what the residual latents tell of it together."""
    own = [number for number, one in enumerate(seen) if one.run.model.GUIDED]
    if not own:
        return {}
    factors = [images.data.factors[column] for column in images.data.column(list(shared))]
    codes = [_codes(images, seen[number], shared, seed, residual=True) for number in own]
    values = [readings(one, factors) for one in codes]
    differences = [readings_less(codes[0], one, factors) for one in codes]
    from_residuals = residuals_less(codes)
    found: Block = {}

    def put(name: str, better: str, of_runs: Sequence[Score], paired: Sequence[Score], unit: str = "") -> None:
        found[name] = _entry_of(own, len(seen), better, of_runs, paired, unit)

    for name in shared:
        for key, better in (("r", "higher"), ("error", "lower")):
            of_runs, paired = ([one[name][key] for one in every] for every in (values, differences))
            put(f"{key} of {name}", better, of_runs, paired, values[0][name]["unit"] * (key == "error"))
        if from_residuals[name][0][0]["n"] >= FEWEST_TOGETHER:
            put(f"residual R2 of {name}", "lower", *from_residuals[name])
    return found


def _entry_of(
    own: Sequence[int], runs: int, better: str, of_runs: Sequence[Score], paired: Sequence[Score], unit: str
) -> Block:
    """As `_entry`, of scores that these runs alone have."""
    one_each: list[list[Score | None]] = [[None] * runs, [None] * runs]
    for given, row in zip((of_runs, paired), one_each, strict=True):
        for number, score in zip(own, given, strict=True):
            row[number] = score
    return _entry(better, one_each[0], one_each[1] if own[0] == 0 else [None] * runs, unit)


def _in_own_terms(images: Images, seen: Sequence[Seen]) -> Block:
    """Of factors that guide by several columns in some run the error, or the accuracy, of the factor itself."""
    own = [number for number, one in enumerate(seen) if one.run.model.GUIDED]
    if not own:
        return {}
    guides, means = (
        [of(seen[number]) for number in own] for of in (lambda one: one.run.guides, lambda one: one.mean_NZ)
    )
    rows = of_factors(images.data, images.index_N, guides, means)
    return {
        name: _entry_of(own, len(seen), better, values, paired, unit) for name, better, unit, values, paired in rows
    }


def _shared(images: Images, runs: Sequence[Run]) -> list[str]:
    """The columns on which codes are compared: those that guide a latent in every run that has guided latents, or the
    auxiliary variables of all where none has; in the order of the first. Those hardly measured are left out."""
    first, *others = (run.guides for run in _comparable(runs))
    same = [guide for guide in first if all(guide in guides for guides in others)]  # by the same classes and levels
    names = [column.name for guide in same for column in guide.columns]
    known_F = np.count_nonzero(~np.isnan(images.data.values[images.index_N]), 0)
    return [name for name in names if known_F[images.data.column([name])[0]] >= FEWEST]


def _comparable(runs: Sequence[Run]) -> Sequence[Run]:
    """Those with guided latents; all where none has any."""
    return [run for run in runs if run.model.GUIDED] or runs


def _left_out(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    pairs = [*zip(names, runs, strict=True)]
    pairs = [pair for pair in pairs if pair[1].model.GUIDED] or pairs
    return left_out([name for name, _ in pairs], [run.guides for _, run in pairs])


def _compared(names: Sequence[str], runs: Sequence[Run], columns: Sequence[str]) -> str:
    """Of which factors the scores of codes are, where some of the runs have guided latents and others none."""
    guided_by = [name for name, run in zip(names, runs, strict=True) if run.model.GUIDED]
    others = [name for name in names if name not in guided_by]
    if not (guided_by and others and columns):
        return ""
    return (
        f"LDS and SAP of all runs are of {', '.join(columns)}, which guide latents of {', '.join(guided_by)}; "
        f"{', '.join(others)} was told of none of them, and its own latents are searched for them"
    )


def _codes(images: Images, seen: Seen, shared: Sequence[str], seed: int, residual: bool = False) -> Codes:
    """With the latent that a shared factor guides at that factor's place.

    residual: all others are residual latents; latents that other factors guide are left out.
    """
    data, latents = images.data, seen.mean_NZ.shape[1]
    aux = [column.name for column in seen.run.guiding] if seen.run.model.GUIDED else []
    own = [aux.index(name) for name in shared if aux]
    others = [latent for latent in range(len(aux) if residual else 0, latents) if latent not in own]
    columns, order = data.column(list(shared)), own + others
    aux_ND = data.scaled()[images.index_N][:, columns]
    return Codes(
        mean_NZ=seen.mean_NZ[:, order],
        logvar_NZ=seen.logvar_NZ[:, order],
        aux_ND=aux_ND,
        hidden_NH=aux_ND[:, :0],
        aux_names=shared,
        hidden_names=[],
        seed=seed,
        aux_kinds=[data.factors[column].kind for column in columns],
        errors_ND=data.scaled_errors(images.index_N, columns),
        object_N=images.object_N,
    )
