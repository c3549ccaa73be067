"""The commands that use a trained run: evaluate, compare, encode, predict, generate, sensitivity, export.

Here are their options; what they do is in the module of that name (evaluate: scores.py), imported once the options are
read and the run is there.
"""

import dataclasses
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from hpcauxvae.data.importing.options import Images
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.config import fold_folder
from hpcauxvae.types import InputError

T = TypeVar("T")
_HDF5 = b"\x89HDF\r\n\x1a\n"
"""Begins such a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """An evaluation."""

    run: Path
    """Folder of a training run, or of a cross-validation: then each fold is evaluated, and their scores are pooled."""
    data: Path | None = None
    """Where its data set lies now; the recorded path if not given."""
    fresh: Path | None = None
    """A further data set, drawn independently, all of it scored: small test splits hide small dependences."""
    noiseless: tuple[Path, ...] = ()
    """Noiseless draws of the same samples, for the ceiling of SSIM; each is matched to the set with its factors, and a
    file that fits no set is refused."""
    out: Path | None = None
    """Folder for metrics.json, codes and pictures; that of the run if not given."""
    seed: int = 0
    """Seed of the draws of z and of the intervals."""
    images: int = 32_768
    """Score at most this many images of a set by SSIM and MSE."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the run: of its last epoch, or of that with the lowest validation loss."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""
    pictures: bool = True
    """Draw the pictures, which take longer than the scores of a small set."""
    control: bool = True
    """Ask for images with the factors of others, and have a reader find what they show. It is a network that is trained
    once for a data set, about a minute of a core, and kept beside it (in the run's folder where that cannot be)."""

    def __post_init__(self) -> None:
        _check_scoring(self.images, self.seed)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        fields = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}
        return fields | {"noiseless": [str(path) for path in self.noiseless]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Scores of several runs side by side on the same images, each with the interval of what it differs by from the
    first run.

    Codes that `evaluate` left in the folder of a run are used.
    """

    runs: tuple[Path, ...]
    """Folders of two or more training runs of one data set. Models, objectives, seeds and factors may differ; where
    splits do, the images are those that are test images of all."""
    data: Path | None = None
    """Where their data set lies now; the path that the first run recorded if not given."""
    fresh: Path | None = None
    """A further data set, drawn independently, all of it scored. Runs of several data sets are compared on it alone."""
    out: Path | None = None
    """PNG to draw the comparison into."""
    json: Path | None = None
    """File to write all scores, differences and intervals to."""
    seed: int = 0
    """Seed of the draws of z and of the intervals."""
    images: int = 32_768
    """Score at most this many images of a set by SSIM and MSE."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError(f"{len(self.runs)} run is given; allowed: 2 or more to compare")
        for run in self.runs:
            if sum(run.resolve() == other.resolve() for other in self.runs) > 1:
                raise InputError(f"{run}: is given more than once; allowed: different runs")
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise InputError(f"out = {self.out}; allowed: a name that ends in .png")
        _check_scoring(self.images, self.seed)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        fields = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}
        return fields | {"runs": [str(path) for path in self.runs]}


def _check_scoring(images: int, seed: int) -> None:
    if images < 2:
        raise InputError(f"images = {images}; allowed: at least 2, an interval needs them")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed = {seed}; allowed: 0 to {2**32 - 1}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """An encoding."""

    run: Path
    """Folder of a training run, or a file that `export` made of it."""
    data: Path
    """HDF5 file of images (docs/data-format.md), labelled or not, of the shape that the run was trained on."""
    out: Path
    """HDF5 file to make: mean and logvar (N, Z), ssim and mse (N,), and id (N,) where the data have it, in the order of
    the data. `mean` has the names, units and ranges of the guided latents, its first, as attributes. Must not exist."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the run."""
    image_scores: bool = True
    """Decode the means and compare: SSIM, at each image's own range, and MSE, of images over the training maximum."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig(Images):
    """Predicts the guided factors of images, with intervals, and flags images unlike those of the training.

    The first time a run is calibrated on the validation part of its own data set, which must be there; from then on its
    folder alone is enough. docs/predict.md says what the columns promise. The options that say where images lie are for
    files that are not of docs/data-format.md, as `data import` has them.
    """

    run: Path
    """Folder of a training run with auxiliary variables."""
    source: Path
    """The images: a file of docs/data-format.md, labelled or not, or anything else that `data import` takes first."""
    out: Path
    """The table to make: .ecsv, .fits, .parquet or .h5, a row for each image, in their order. Must not exist."""
    json: Path | None = None
    """File to write the figures to that are printed: how many images are flagged and, where they have labels, the
    error of each factor and what its intervals cover."""
    data: Path | None = None
    """Where the run's data set lies now; the recorded path if not given."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the run."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Draws images from a trained model for auxiliary factors in physical units."""

    run: Path
    """Folder of a training run with auxiliary variables, or a file that `export` made of it."""
    out: Path = Path("generated.png")
    """File to write: .h5 (docs/data-format.md), .fits or .png. FITS headers are ASCII: other letters of names and
    paths are escaped there as in a Python string."""
    set: tuple[str, ...] = ()
    """Factors held at a value, NAME=VALUE in the factor's unit, several with commas; of an angle 400
    degrees are 40. Those not named stand at the median of the training data, or with --like at the image's own; of an
    angle's cosine and sine the other goes with the one named. A factor that guides several latents, an angle or
    classes, sets them all."""
    sweep: tuple[str, ...] = ()
    """Factors that vary, NAME=FIRST:LAST:COUNT; several make a grid, the last of them varying fastest. Of classes those
    from FIRST to LAST, COUNT of them."""
    like: str | None = None
    """FILE.h5:NUMBER: give the image of this sample new factors. Those not named stay its own (its labels; without a
    label what its code tells), and so do the other latents. Without --like these are 0, the mean of their prior."""
    data: Path | None = None
    """Where the run's data set lies now; the recorded path if not given. Only a run of an earlier version needs it; of
    others it tells how pictures are drawn."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Makes a trained model one file to share: everything in safetensors, or encoder and decoder in ONNX."""

    run: Path
    """Folder of a training run, or a file that `export` made of it."""
    out: Path
    """NAME.safetensors: weights, settings, what is known of the data, scores of the last evaluation and the calibration
    of predictions, for `hpcauxvae.load`, `encode`, `predict` and `generate`. NAME.onnx: NAME.encoder.onnx (images to
    mean and logvar) and NAME.decoder.onnx (z to images), in linear data units. None of these may exist."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the run."""
    data: Path | None = None
    """Where the run's data set lies now; the recorded path if not given. Only a run of an earlier version needs it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SensitivityConfig:
    """Which factor decides what is seen: Sobol indices of pixel statistics for a trained model, into sensitivity.json.

    Of each statistic's variance, the share that an input causes alone (first) and with all others (total), with 95 %
    intervals. Inputs, independent of one another: each auxiliary variable as the training data have it (an angle by its
    cosine and sine together), each other latent as the codes of the test images have it. Statistics: sum and peak of
    the pixels, size (root of half the trace of their second moments, in pixels), and ellipticity e1, e2.
    """

    run: Path
    """Folder of a training run with auxiliary variables."""
    samples: int = 1024
    """Base samples, a power of 2; images decoded: this number times (latents + 2)."""
    seed: int = 0
    """Seed of the quasi-random points."""
    data: Path | None = None
    """Where the run's data set lies now; the recorded path if not given."""

    def __post_init__(self) -> None:
        if self.samples < 2 or self.samples & (self.samples - 1):
            raise InputError(f"samples = {self.samples}; allowed: powers of 2")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}; allowed: at least 0")


def evaluate(argv: list[str] | None = None, write_page: Callable[[Path, Path, Path | None], Path] | None = None) -> int:
    """Scores, codes and pictures of a run: what the command `hpcauxvae evaluate` does (report/command.py).

    write_page: makes a page of the run in the first folder with results in the second, and says where it lies; third is
    where the data set lies, if not where it did.
    """
    config = _of_a_run(EvaluateConfig, "evaluate", argv, folds=True)
    gc.collect()
    gc.disable()
    from hpcauxvae.evaluate import folds, scores
    from hpcauxvae.evaluate.table import table

    gc.freeze()  # modules stay: to look through them at every collection took a sixth of a small evaluation's time
    gc.enable()
    out, of_folds = config.out or config.run, _holds_folds(config.run)
    print(table((folds.evaluate if of_folds else scores.evaluate)(config)["sets"]))
    drawn = f" and the pictures in {out}/{'fold*/' * of_folds}pictures/" if config.pictures else ""
    page = ""
    if write_page:
        try:
            page = f"; to look at: {write_page(config.run, out, config.data)}"
        except InputError as error:  # the scores are there
            print(f"warning: no page: {error}", file=sys.stderr, flush=True)
    print(f"written: {out}/metrics.json, {'fold*/' * of_folds}codes-*.h5{drawn}{page}")
    return 0


def compare(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae compare`."""
    config = parse(CompareConfig, argv, "hpcauxvae compare")
    for run in config.runs:
        check_run(run)
    from hpcauxvae.evaluate import compare
    from hpcauxvae.evaluate.compared import table

    found = compare.compare(config)
    print(table(found))
    if config.out:
        from hpcauxvae.evaluate.comparison_picture import comparison

        comparison(found, config.out)
    if written := [str(path) for path in (config.json, config.out) if path]:
        print(f"written: {' and '.join(written)}")
    return 0


def encode(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae encode`: its exit code."""
    config = _of_a_run(EncodeConfig, "encode", argv, ranks=True, files=True)
    from hpcauxvae.evaluate.encode import run

    return run(config, find_world())


def predict(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae predict`: its exit code."""
    config = _of_a_run(PredictConfig, "predict", argv, ranks=True, files=True)
    from hpcauxvae.evaluate.predict import run

    return run(config, find_world())


def generate(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae generate`."""
    config = _of_a_run(GenerateConfig, "generate", argv, append=True, files=True)
    from hpcauxvae.evaluate import generate

    print(f"{config.out}: {generate.generate(config)} images")
    return 0


def export(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae export`."""
    config = _of_a_run(ExportConfig, "export", argv, files=True)
    from hpcauxvae.evaluate import export

    for path, found in export.export(config).items():
        print(f"written: {path}, {found}")
    return 0


def sensitivity(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae sensitivity`."""
    config = _of_a_run(SensitivityConfig, "sensitivity", argv)
    from hpcauxvae.evaluate import sensitivity

    print(sensitivity.sensitivity(config))
    return 0


def _holds_folds(folder: Path) -> bool:
    """Whether a folder holds the folds of a cross-validation."""
    return fold_folder(folder, 0).is_dir()


def _of_a_run(
    fields: type[T],
    name: str,
    argv: list[str] | None,
    *,
    append: bool = False,
    ranks: bool = False,
    folds: bool = False,
    files: bool = False,
) -> T:
    """The options of a command, which may run on several ranks. Raises InputError where the run is not there.

    folds: it may be a cross-validation, too; files: or a single file.
    """
    config: Any = parse(fields, argv, f"hpcauxvae {name}", append=append)
    check_run(config.run, there=not (ranks and find_world().world_size > 1), folds=folds, files=files)
    return config


def _begins(path: Path, with_bytes: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(with_bytes)) == with_bytes


def check_run(run: Path, *, there: bool = True, folds: bool = False, files: bool = False) -> None:
    """Raises InputError where no folder of a run is, or a cross-validation.

    there: not of several ranks, which agree on it later. folds: it may be a cross-validation, too; files: or a single
    file.
    """
    if there and run.is_file() and _begins(run, _HDF5):
        or_made = ", or a file that `hpcauxvae export` has made" if files else ""
        raise InputError(f"{run}: is an HDF5 file, as data sets are; allowed: the folder of a training run{or_made}")
    if there and not run.is_dir() and not (files and run.is_file()):
        or_file = " or file" if files else ""
        raise InputError(f"{run}: no such folder{or_file}; allowed: that of a training run")
    if there and files and run.is_file() and run.suffix != ".safetensors":
        raise InputError(
            f"{run}: is no trained model; allowed: the folder of a training run, or a file that `hpcauxvae export` has "
            "made, NAME.safetensors"
        )
    if not folds and _holds_folds(run):
        one = fold_folder(run, 0)
        raise InputError(f"{run}: holds a cross-validation; allowed: the run of one fold, such as {one}")
