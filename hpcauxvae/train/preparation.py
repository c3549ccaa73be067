"""What a training takes from its data before the first step, and what it has to say about them.

Scale and starting biases come from the training part alone, the same on every rank whatever their number. Shape legend
in types.py.
"""

import math
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpcauxvae.data.guides import guides_in, measured
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.likely_kinds import likely_kinds
from hpcauxvae.data.missing import count_missing
from hpcauxvae.data.pixels import Pixels, Stuck, beyond, bounds, look_at, outlying, stuck
from hpcauxvae.data.quantities import doubled
from hpcauxvae.data.remarks import about_angles, about_copies, about_labels, about_layout, about_places, about_units
from hpcauxvae.data.samples import Samples
from hpcauxvae.data.splits import parts
from hpcauxvae.data.sufficient import doubts, faults
from hpcauxvae.data.summary import Summary, summarise
from hpcauxvae.models import UNTOLD, model_class
from hpcauxvae.models.base import Model
from hpcauxvae.models.likelihoods import PixelRange
from hpcauxvae.runtime.collectives import Processes, on_each_rank, on_first_rank, slice_of
from hpcauxvae.train.config import STEPS, TrainConfig
from hpcauxvae.types import Factor, InputError

_SAMPLES, _BYTES = 8192, 400 << 20
"""Images, and bytes of images, whose mean is where the decoder starts."""
_FEW_STEPS = 1000
"""Of COIL-20 after 500 the images are worse than those of principal components, after 1,000 better (docs/method.md)."""


def prepare(
    model: Model, config: TrainConfig, samples: Samples, processes: Processes, mark: Callable[[], None]
) -> Summary:
    """Fits a new model to the training part, and says on rank 0 to what in the data it cannot do justice.

    Returns what the run keeps of the data, the same on all ranks.

    mark: called for each part that is read. All ranks must call. Raises InputError, on all of them, where the data do
    not suit the objective.
    """
    data, world = samples.data, processes.world
    found_parts = parts(data, *config.how_split)
    lacking = on_each_rank(lambda: check_parts(data, config), processes)
    own = range(len(data))[slice_of(len(data), world.rank, world.world_size)]
    missing = _gather(np.array([on_each_rank(lambda: count_missing(data.images, own), processes)]), processes).sum()
    lacking += on_each_rank(lambda: about_beside(data, config, int(missing)), processes)
    fixed = on_each_rank(lambda: stuck(data.images), processes)
    seen = gathered(on_each_rank(lambda: look_at(data.images, own, mark, fixed), processes), processes)
    on_each_rank(lambda: _check_dark(seen, data, config), processes)
    found, far = _range_of(seen, found_parts[0], fixed, data.shape)
    on_each_rank(lambda: _fit(model, config, samples, found), processes)
    if processes.group is not None:
        for buffer in model.buffers():  # unlike machines round unlike
            if buffer.is_floating_point():
                torch.distributed.broadcast(buffer, 0, processes.group)
    remarks = (
        about_layout(data.shape),
        about_labels(measured(data)),
        about_angles(measured(data), model.columns),
        about_places(fixed, seen, data.shape),
        about_copies(seen.digest, found_parts, config.split_seed),
    )
    units = about_units(seen) if config.resolved_objective.scale == "anscombe" else ()
    words = [f"{data.path}: {remark}" for remark in chain(*remarks, units)]
    words += lacking + _about_outliers(found, far, seen, data.path)
    if config.model not in UNTOLD:
        words += about_kinds([data.factors[column] for column in model.columns])
        own_columns = [column for column in model.columns if column < len(measured(data).factors)]
        words += on_first_rank(lambda: [str(likely) for likely in likely_kinds(measured(data), own_columns)], processes)
        words += on_each_rank(lambda: about_doubled(data, config), processes)
    words += about_length(model, config.epochs, model.n_train // model.objective.batch_size)
    low, high = model.reach()
    for name, part in zip(("training", "validation"), found_parts, strict=False):
        outside = np.setdiff1d(part[((seen.low < low) | (seen.high > high))[part]], far)
        mine = outside[slice_of(len(outside), world.rank, world.world_size)]
        counts = np.array([on_each_rank(lambda mine=mine: beyond(data.images, mine, low, high, fixed), processes)])  # type: ignore[misc]
        below, above = _gather(counts, processes).sum(0).tolist()
        words += about_reach(model, config, (below, above), len(part), f"{name} pixels in {data.path}")
    if world.rank == 0:
        for line in words:
            print(f"warning: {line}", file=sys.stderr, flush=True)
    return summarise(data, config.aux_names, found_parts[0], seen, fixed)


_TAKEN = {
    "periodic": "its two ends mean the same but lie farthest apart; with --labels kinds its cosine and sine guide",
    "categorical": "as if its classes had an order; with --labels kinds each of them but the first guides a latent",
}


def about_kinds(factors: Sequence[Factor]) -> list[str]:
    """What is done with auxiliary variables that are no plain numbers."""
    return [
        f"{f.name} is {f.kind}, and is taken as a number from {f'{f.low:g} to {f.high:g} {f.unit}'.strip()}: "
        f"{_TAKEN[f.kind]}"
        for f in factors
        if f.kind in _TAKEN
    ]


def about_doubled(data: ImageSet, config: TrainConfig) -> list[str]:
    """Sentences on auxiliary variables that guide by what another one guides by."""
    guides = guides_in(data, config.aux_names)
    return [
        f"{guides[place].factor.name} guides the same again, for {reason}: two latents cannot be told apart by one "
        "quantity; leave it out of --aux"
        for place, reason in sorted(doubled(data, guides).items())
    ]


def about_length(model: Model, epochs: int, of_epoch: int) -> list[str]:
    """A sentence on a training of so few steps that little can come of it. of_epoch: steps of one epoch."""
    steps = epochs * of_epoch
    if model.objective.dependence_tolerance is None or steps >= _FEW_STEPS:
        return []
    guided = "latents may not have learned their factors, and " * model.GUIDED
    return [
        f"{steps} steps in all: below {_FEW_STEPS} {guided}images stay blurred; "
        f"--epochs {math.ceil(STEPS / of_epoch)} makes {STEPS:,} of them"
    ]


def about_reach(model: Model, config: TrainConfig, outside: tuple[int, int], images: int, what: str) -> list[str]:
    """Sentences on the pixels of so many images that are below and above what the model sees and draws as it is."""
    words, n = [], images * int(np.prod(model.image_shape))
    for count, bound, side in zip(outside, model.reach(), ("below", "above"), strict=True):
        if not count:
            continue
        share = f"{count / n:.1%} of the" if count >= 0.0005 * n else f"{count} of the {n}"
        fate = f"and count as {bound:g}"
        if model.objective.sigmoid:
            fate = f"which objective {config.objective} cannot draw (docs/data-format.md)"
        elif bound == 0:
            fate += (
                f": objective {config.objective} is made for counts; --objective gaussian takes pixels of any sign, as "
                "anomalies and images without their sky have them (docs/data-format.md)"
            )
        words.append(f"{share} {what} are {side} {bound:g}{',' if model.objective.sigmoid else ''} {fate}")
    return words


def _check_dark(seen: Pixels, data: ImageSet, config: TrainConfig) -> None:
    """Raises InputError where the training part of any fold has a pixel below 0 that the objective cannot take."""
    if config.resolved_objective.likelihood != "bernoulli":
        return
    for split in config.splits():
        train: np.ndarray = parts(data, *split)[0]
        fold = split[2]
        if (darkest := bounds(Pixels(*(values[train] for values in seen)))[0]) < 0:
            of = f" of fold {fold.number} of {fold.of}" if fold else ""
            raise InputError(
                f"{data.path}: images: the lowest training pixel{of} is {darkest}; allowed with likelihood bernoulli: "
                "at least 0; --objective gaussian takes pixels of any sign"
            )


def _fit(model: Model, config: TrainConfig, samples: Samples, found: PixelRange) -> None:
    data = samples.data
    train = torch.from_numpy(parts(data, *config.how_split)[0])
    of_train = train.to(samples.device)
    u_ND = samples.factors[of_train][:, model.columns]
    errors_ND = None if samples.errors is None else samples.errors[of_train][:, model.columns]
    size = min(_SAMPLES, max(1, _BYTES // (int(np.prod(data.shape)) * samples.dtype.itemsize)))
    try:
        first = samples.batch(train[:size])
        if first.weights is not None:
            model.take(first.weights)
        known = {} if errors_ND is None or not model.GUIDED else {"errors_ND": errors_ND}
        model.prepare(filled(first.images, first.weights), u_ND, found, **known)
    except InputError as error:
        raise InputError(f"{data.path}: {error}") from error


def filled(images: Tensor, weights: Tensor | None) -> Tensor:
    """Images (M, C, H, W) with the mean of a pixel where it is missing; of a channel where it always is."""
    if weights is None or (known := (weights > 0).expand_as(images)).all():
        return images
    count, sums = known.sum(0), images.where(known, 0).sum(0)
    of_channel = sums.sum((1, 2), keepdim=True) / count.sum((1, 2), keepdim=True).clamp(min=1)
    return images.where(known, torch.where(count > 0, sums / count.clamp(min=1), of_channel))


def _range_of(
    seen: Pixels, train: np.ndarray, fixed: Stuck, shape: tuple[int, int, int]
) -> tuple[PixelRange, np.ndarray]:
    """Of the training images without those far outside the others; and the numbers of these, the worst first.

    Where any image of the set, of whatever part, lies far outside the others, or a pixel in every image does, pixels
    beyond the training range count as its ends, and stuck ones as the lowest: so no hot pixel decides a validation.
    """
    (low, high), own = bounds(seen), Pixels(*(values[train] for values in seen))
    darkest, brightest = bounds(own)
    below, above = (
        min(own.low.min() - darkest, seen.low.min() - low),
        max(own.high.max() - brightest, seen.high.max() - high),
    )
    return PixelRange(
        brightest=brightest,
        darkest=darkest,
        counts=bool(own.whole.all()),
        lowest=darkest if below or fixed else -math.inf,
        highest=fixed.highest(darkest, brightest, shape) if fixed else brightest if above else math.inf,
    ), train[outlying(own)]


def _about_outliers(found: PixelRange, far: np.ndarray, seen: Pixels, path: Path) -> list[str]:
    """A sentence on the training images whose extremes do not count."""
    if len(far) == 0:
        return []
    more = f" and {len(far) - 3} more" if len(far) > 3 else ""
    return [
        f"{path}: images: {len(far)} of the training part hold pixels far outside the others' {found.darkest:g} to "
        f"{found.brightest:g}: sample {', '.join(map(str, far[:3]))}{more}, {seen.low[far].min():g} to "
        f"{seen.high[far].max():g}; pixels beyond the others' count as the nearest of these"
    ]


def about_beside(data: ImageSet, config: TrainConfig, missing: int) -> list[str]:
    """Sentences on what a data set holds beside images and factors, and a training does not use.

    missing: how many pixels are. Raises InputError where any is, and the objective takes it for a value.
    """
    words, objective = [], config.resolved_objective
    if missing and not objective.leaves_out:
        raise InputError(
            f"{data.path}: images: {missing} pixels are missing, which objective {config.objective} cannot leave out; "
            "allowed: objective weighted, or gaussian without weights"
        )
    if data.weights is None and objective.likelihood == "weighted":
        raise InputError(f"{data.path}: has no weights; allowed with objective {config.objective}: a file with them")
    if data.weights is not None and objective.likelihood != "weighted":
        words.append(f"{data.path}: weights are not used by objective {config.objective}: its noise is its own")
    model = model_class(config.model)
    takes_errors = model.GUIDED and not model.LABELS_ARE_EXACT and objective.dependence_tolerance is not None
    if data.factor_errors is not None and not takes_errors:
        words.append(f"{data.path}: factor_errors are not used by this model and objective: labels count as exact")
    return words


def check_parts(data: ImageSet, config: TrainConfig) -> list[str]:
    """Sentences on auxiliary factors that validation or test cannot judge.

    Raises InputError where a factor cannot be trained on, in any fold: none shall fail behind hours of the others.
    """
    guides = guides_in(data, config.aux_names)
    for split in config.splits():
        found, fold = parts(data, *split), split[2]
        where = f"{data.path}: " + (f"fold {fold.number} of {fold.of}: " if fold else "")
        for fault in chain.from_iterable(faults(data, guide, found) for guide in guides):
            raise InputError(f"{where}factors, {fault}")
    own = parts(data, *config.how_split)
    return [f"{data.path}: factors, {doubt}" for guide in guides for doubt in doubts(data, guide, own)]


def gathered(own: Pixels, processes: Processes) -> Pixels:
    """Of the images of all ranks, in their order. All ranks must call."""
    return Pixels(*(_gather(values, processes) for values in own))


def _gather(values_N: np.ndarray, processes: Processes) -> np.ndarray:
    """Those of all ranks, in their order."""
    if processes.group is None:
        return values_N
    parts: list[np.ndarray] = [values_N] * processes.world.world_size
    torch.distributed.all_gather_object(parts, values_N, processes.group)
    return np.concatenate(parts)
