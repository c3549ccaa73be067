"""`python -m hpcauxvae data check FILE`: does the file keep the format? Also writes the public data sets in it."""

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import tyro

from hpcauxvae.data import cars3d, dsprites, quantities
from hpcauxvae.data.angles import themselves
from hpcauxvae.data.choice import choose
from hpcauxvae.data.guides import ROOM, Guide, guides_of, in_words, shown, texts_of
from hpcauxvae.data.hdf5 import ImageSet, open_set, refuse_existing, validate
from hpcauxvae.data.importing.options import Import
from hpcauxvae.data.missing import Filled, count_missing
from hpcauxvae.data.objects import Objects, objects_in
from hpcauxvae.data.remarks import about_labels, remarks, sentinels
from hpcauxvae.data.series import Series, series
from hpcauxvae.data.splits import described, parts
from hpcauxvae.data.sufficient import faults
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.files import refuse_unwritable
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.types import By, Factor, InputError

_GUIDES = 10 - ROOM
"""Latents that factors guide in the command which is proposed, of the usual ten."""
_ERRORS = {"e", "err", "error", "errors", "sigma", "sd", "std", "stddev", "unc", "uncertainty"}
"""What is written beside the name of a quantity where a column has its errors."""
_BATCH = 64
"""Samples of a step by default."""
_NAMED = 12
"""Classes whose names are printed, at most."""
_SAME = 0.01
"""Largest difference of columns that are cosine and sine of the same angle."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Checks a data set against docs/data-format.md and says what it holds; exit code 2 if anything is wrong.

    Warns of what the format allows but hardly anybody means: copies of images, hot pixels, sentinels among the labels.
    Ends with the objective that suits the pixels, and the command to train with.
    """

    file: Path
    """The HDF5 file."""
    preview: Path | None = None
    """Draws 24 images, spread over the file, with their labels, into this PNG."""

    def run(self) -> Path | None:
        """Draws, checks and prints; None. Raises InputError where something is wrong."""
        if self.preview:
            if self.preview.suffix != ".png":
                raise InputError(f"--preview {self.preview}: allowed: a name that ends in .png")
            refuse_existing(self.preview)
            refuse_unwritable(self.preview.parent)
        errors = validate(self.file)
        for error in errors:
            print(f"error: {error}", file=sys.stderr)
        for remark in remarks(open_set(self.file)) if not errors else ():
            print(f"warning: {self.file}: {remark}", file=sys.stderr)
        if self.preview and not errors:
            from hpcauxvae.data.preview import preview  # matplotlib takes its time

            preview(open_set(self.file), self.preview)
            print(f"picture: {self.preview}")
        return None if errors else self.file


@dataclass(frozen=True, kw_only=True)
class DSprites:
    """Writes dSprites, all of it or a part, drawn here or taken from the published archive."""

    out: Path
    """The HDF5 file to write."""
    shapes: str = ",".join(dsprites.SHAPES)
    """Comma-separated: square, ellipse, heart."""
    n: int | None = None
    """Images chosen at random; all of the shapes if not given."""
    seed: int = 0
    """Seed of that choice."""
    archive: Path | None = None
    """The published .npz, where its own images shall be used."""

    def run(self) -> Path:
        """Writes the file and returns its path."""
        dsprites.write(self.out, shapes=self.shapes.split(","), n=self.n, seed=self.seed, archive=self.archive)
        return self.out


@dataclass(frozen=True, kw_only=True)
class Cars3D:
    """Writes Cars3D from the folder of its .mat files."""

    source: Path
    """Folder of .mat files, or an HDF5 file of the images (hpcauxvae/data/cars3d.py)."""
    out: Path
    """The HDF5 file to write."""
    cars: int | None = None
    """The first so many cars; all if not given."""

    def run(self) -> Path:
        """Writes the file and returns its path."""
        cars3d.write(self.out, self.source, self.cars)
        return self.out


Action = (
    Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[DSprites, tyro.conf.subcommand("dsprites")]
    | Annotated[Cars3D, tyro.conf.subcommand("cars3d")]
)


def advise(image_set: ImageSet) -> str:
    """The objective that suits the pixels, and the command that trains with it, in two lines.

    Factors guide from the first on while they guide five latents or fewer, an angle by itself; none that is a copy of
    one before, seems to be its errors, or has a number that stands for no value. Above the two lines stands what is
    left out and why, and what guides several latents; in place of a command that would be refused what is missing.
    """
    chosen = choose(image_set)
    found = series(image_set)
    by: By = "blocks" if found and found.timed else "auto"
    try:
        found_parts = parts(image_set, 0, by)
    except InputError as error:
        return f"{chosen}\nnot enough to train on: {error}"
    left_out = _no_quantity(image_set) | _told_by_others(image_set)
    able = [n for n in range(len(image_set.factors)) if n not in left_out]
    each = {n: guides_of(image_set, [image_set.factors[n].name], "kinds")[0] for n in able}
    lacking = {n: fault for n in able if (fault := next(faults(image_set, each[n], found_parts), ""))}
    able = [n for n in able if n not in lacking]
    few = [fault for n, fault in lacking.items() if not each[n].by_classes]
    if few and not able:
        return f"{chosen}\nnot enough to train on: {few[0]}"
    guides, further = list[Guide](), list[str]()
    most, told = _GUIDES, list[str]()
    if objects := objects_in(image_set, [n for n in able if n not in left_out]):
        whole = sorted((objects.column, *objects.views))
        most, words_of = sum(len(each[n].columns) for n in whole), [image_set.factors[n].name for n in whole]
        reason = f"there is one image of each {' and '.join(words_of)}, so that it may be a function of them"
        left_out |= dict.fromkeys([n for n in able if n not in (*whole, *left_out)], reason)
        told.append(_in_words(image_set, objects))
    room = [n for n in able if len(each[n].columns) <= most]
    copies = quantities.doubled(image_set, [each[n] for n in room])
    left_out |= {room[place]: reason for place, reason in copies.items()}
    for column, guide in ((n, each[n]) for n in able if n not in left_out):
        total = sum(len(other.columns) for other in guides) + len(guide.columns)
        if total <= most:
            guides.append(guide)
        elif guide.plain:
            further.append(guide.factor.name)
        else:
            what = f"its {len(guide.levels)} classes" if guide.by_classes else "it"
            left_out[column] = f"{what} would guide {len(guide.columns)} latents: with it --latents {total + ROOM}"
    words = ["hpcauxvae", "train", str(image_set.path)]
    words += ["--aux", ",".join(guide.factor.name for guide in guides)] if guides else ["--model", "beta-vae"]
    words += ["--latents", str(most + ROOM)] if most > _GUIDES else []
    if (n_train := len(found_parts[0])) < _BATCH:
        words += ["--batch-size", str(max(2, n_train // 2))]
    if by == "blocks":
        words += ["--split", by]
    words += ["--out", f"runs/{image_set.path.stem}"]
    names = [factor.name for factor in image_set.factors]
    reasons = {n: f"{names[n]}, for {reason}" for n, reason in left_out.items()} | lacking
    told += [f"left out below: {reasons[n]}" for n in sorted(reasons)]
    if further:
        latents = sum(len(guide.columns) for guide in guides) + len(further) + ROOM
        told.append(
            f"left out below, so that half of the latents are free: {', '.join(further)}; with all --latents {latents}"
        )
    told += [_of_a_series(found)] if found and (found.timed or not objects) else []  # views of an object are alike
    return "\n".join([*told, *in_words(guides), str(chosen), shlex.join(words)])


def _of_a_series(found: Series) -> str:
    """That neighbours are alike, and what a split at random makes of it."""
    what = "a series" if found.timed else "neighbours are alike, as in a series or where rows are sorted"
    keeps = "--split blocks keeps neighbours together" + ", if this is a series" * (not found.timed)
    return (
        f"{what}: {found.alike:.0%} of the images are nearer to their neighbour than to another one, so that at "
        f"random a test image has its like among the training images; {keeps}"
    )


def _in_words(image_set: ImageSet, objects: Objects) -> str:
    """What a column of objects means for training and for scores."""
    name, *views = (image_set.factors[n].name for n in (objects.column, *objects.views))
    anew = shlex.join(["hpcauxvae", "data", "import", str(image_set.path), "NEW.h5", "--group", name])
    return (
        f"{name} names objects, each seen at all values of {' and '.join(views)}: told of both, the model draws other "
        f"views of objects that it was trained on, and scores are of such views; where it is to be judged by objects "
        f"that are new to it, {anew}"
    )


def _no_quantity(image_set: ImageSet) -> dict[int, str]:
    """Columns that seem to measure nothing that an image shows, with the reason why they do not guide."""
    names, found = [factor.name for factor in image_set.factors], dict[int, str]()
    for column, (factor, values_N) in enumerate(zip(image_set.factors, image_set.values.T, strict=True)):
        of = next((name for name in names if name != factor.name and _is_error(image_set, factor.name, name)), None)
        said = sentinels(factor, values_N)
        if said.certain:
            found[column] = f"{said.words}: where that stands for no value, import with --missing"
        elif of is not None:
            found[column] = f"it seems to be the error of {of}: import with --errors {of}={factor.name}"
    return found


def _is_error(image_set: ImageSet, name: str, of: str) -> bool:
    """R50_ERR, e_R50 or sigma_R50 of R50: by name, and by values that are positive and small beside its spread."""
    last, first = name.lower().removeprefix(f"{of.lower()}_"), name.lower().removesuffix(f"_{of.lower()}")
    if not (last in _ERRORS - {"e"} and last != name.lower()) and not (first in _ERRORS and first != name.lower()):
        return False
    error_N, values_N = (image_set.values[:, image_set.column([one])[0]] for one in (name, of))
    return bool(np.nanmin(error_N) >= 0 and np.nanmedian(error_N) < np.nanstd(values_N))


def _told_by_others(image_set: ImageSet) -> dict[int, str]:
    """Columns that say what another does, with the reason why they do not guide beside it."""
    found: dict[int, str] = {}
    for column, pair in themselves(image_set.values).items():
        names, sides_N2 = [image_set.factors[n].name for n in (column, *pair)], image_set.values[:, pair]
        own_N2 = guides_of(image_set, names[:1], "kinds")[0].code(image_set.values[:, column])
        same = own_N2.shape[1] == 2 and min(np.nanmax(np.abs(own_N2 - sides_N2[:, way])) for way in ([0, 1], [1, 0]))
        if image_set.factors[column].kind == "periodic" and same < _SAME:
            found |= dict.fromkeys(pair, f"{names[0]} guides by its own cosine and sine")
        else:
            found[column] = f"{names[1]} and {names[2]} are its cosine and sine, or those of what looks the same"
    return found


def describe(image_set: ImageSet) -> str:
    """Size, factors, how these go together, and provenance, one a line."""
    size = "x".join(map(str, image_set.shape))
    lines = [f"{image_set.path}: {len(image_set)} images of {size} (C x H x W), no errors found"]
    for f, column in zip(image_set.factors, image_set.values.T, strict=True):
        kind = "" if f.kind == "continuous" else f", {f.kind}"
        missing = np.count_nonzero(np.isnan(column))
        gaps = f", measured in {len(column) - missing} of {len(column)} samples" if missing else ""
        scale = ", scaled by its logarithm" if f.transform == "log10" else ""
        of = _classes(f, column) if f.classes else f"{shown(f.low)} to {shown(f.high)} {f.unit}".rstrip()
        lines.append(f"  {f.name}: {of}{kind}{scale}{gaps}")
    lines += [f"  {line}" for line in quantities.described(image_set)]
    lines += [f"  {line}" for line in _beside(image_set)]
    lines += [f"  {name} = {value}" for name, value in image_set.provenance.items()]
    stored = getattr(image_set.images, "raw", image_set.images)  # raw: where pixels may be missing
    return "\n".join([*lines, f"  fingerprint {image_set.fingerprint}, read by {type(stored).__name__}"])


def _classes(factor: Factor, values_N: np.ndarray) -> str:
    """`elliptical (40), spiral (60)`: the names of classes, and how many images each has."""
    levels, counts = np.unique(values_N[~np.isnan(values_N)], return_counts=True)
    texts = texts_of(factor, levels.tolist())
    told = ", ".join(f"{text} ({count})" for text, count in zip(texts[:_NAMED], counts, strict=False))
    return told + f" and {len(texts) - _NAMED} more" * (len(texts) > _NAMED)


def _beside(data: ImageSet) -> Iterator[str]:
    """What is there beside images and factors, and that there are no factors."""
    if not data.factors:
        yield "no factors: encode takes it, and train as --model beta-vae, for training alone"
    if isinstance(data.images, Filled):
        count = count_missing(data.images)
        yield f"missing pixels: {f'{count / np.prod(data.images.shape):.3%} of all' if count else 'none'}"
    if data.weights is not None:
        yield f"weights: inverse variances {'x'.join(map(str, data.weights.shape))} (N x C x H x W)"
    if data.factor_errors is not None:
        known = np.count_nonzero(~np.isnan(data.factor_errors))
        yield f"factor_errors: {known} of {data.factor_errors.size} are known"
    if data.id is not None:
        yield f"id: {data.id[0]!s}, …, {data.id[-1]!s}"
    if data.group is not None:
        sizes = np.unique(data.group, return_counts=True)[1]
        yield f"group: {len(sizes)} groups of {sizes.min()} to {sizes.max()} samples"
    with contextlib.suppress(InputError):  # too few, of which training tells
        yield described(data, 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with every error on stderr. Of the ranks of MPI all import; the first does anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    ranks = Ranks()
    return ranks.command(lambda: _on(ranks, arguments))


def _parsed(arguments: Sequence[str]) -> Any:
    return parse(cast(Any, Action), arguments, "hpcauxvae data")


def _on(ranks: Ranks, arguments: Sequence[str]) -> int:
    def options() -> Any:
        try:
            return _parsed(arguments)
        except SystemExit as end:  # of --help, or of a line that cannot be read: the other ranks must hear of it
            return int(end.code or 0)

    action = ranks.first(options)
    if isinstance(action, int):
        return action
    good = action.run(ranks) if isinstance(action, Import) else ranks.first(action.run)
    if good is None:
        return 2
    if isinstance(action, Import):
        ranks.first(lambda: _warn(good))
    ranks.first(lambda: _tell(good))
    return 0


def _tell(good: Path) -> None:
    image_set = open_set(good)
    print(describe(image_set))
    print(advise(image_set))


def _warn(good: Path) -> None:
    """Of what is imported: `check` does it with all else that it finds."""
    for remark in about_labels(open_set(good)):
        print(f"warning: {good}: {remark}", file=sys.stderr, flush=True)
