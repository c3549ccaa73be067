"""The Python door: `run = hpcauxvae.load("runs/x")`, then images to codes and back; numpy in, numpy out.

Shape legend in types.py; `...` is any number of axes, none too.
"""

import contextlib
import warnings
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcauxvae.data.functions import functions_of
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import with_unit
from hpcauxvae.data.missing import Filled, scored_by
from hpcauxvae.data.missing import shown as with_holes
from hpcauxvae.data.summary import Summary
from hpcauxvae.evaluate.by_factor import in_words, without_classes
from hpcauxvae.evaluate.command import check_run
from hpcauxvae.evaluate.records import METRICS, kept, read_metrics
from hpcauxvae.evaluate.sets import refuse_unguided, with_logarithm
from hpcauxvae.models.base import Model
from hpcauxvae.runtime.devices import device_of, place
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.checkpoint import BY_NAME
from hpcauxvae.train.run import Run, load_run, training_set
from hpcauxvae.types import Factor, InputError

if TYPE_CHECKING:
    from astropy.table import Table

    from hpcauxvae.evaluate.calibration import Calibration
    from hpcauxvae.evaluate.generate import Generator


class Code(NamedTuple):
    """The posterior of an image, or of many: N(mean, diag exp(logvar))."""

    mean: NDArray[np.float64]
    """(..., Z)"""
    logvar: NDArray[np.float64]
    """(..., Z)"""

    @property
    def sd(self) -> NDArray[np.float64]:
        """(..., Z), the standard deviations."""
        return np.exp(self.logvar / 2)


class Given:
    """Images as a user has them, read in pieces as (B, C, H, W) float32 with NaN for a missing pixel, and checked.

    Taken are (N, C, H, W) and one image (C, H, W), of both what is left where leading axes of length 1 of an image are
    not there: (N, H, W) and (H, W) of one band. What is masked in a masked array is missing.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, images: Any, image_shape: tuple[int, ...], holes: bool) -> None:
        """holes: whether pixels may be missing. Raises InputError for another shape or type."""
        if isinstance(images, str | PathLike | ImageSet):
            found = f"the set {images.path}" if isinstance(images, ImageSet) else f"{str(images)!r}, a path"
            raise InputError(
                f"images: {found}; allowed: an array, such as hpcauxvae.open_set(PATH).images; for files that are of "
                "other forms there is the command `hpcauxvae predict`"
            )
        self.images = images if hasattr(images, "shape") and hasattr(images, "dtype") else np.asarray(images)
        shape, self.holes = tuple(self.images.shape), holes
        own = [image_shape] + [image_shape[i:] for i in (1, 2) if set(image_shape[:i]) == {1}]
        self.single = shape in own
        if not self.single and not (shape and shape[1:] in own):
            allowed = " or ".join(f"(N, {str(one)[1:]}" for one in own)
            raise InputError(f"images of shape {shape}; allowed: {allowed}, or one")
        if np.asarray(self.images[:0]).dtype.kind not in "fiub":
            raise InputError(f"images of {self.images.dtype}; allowed: numbers")
        self.shape = (1 if self.single else shape[0], *image_shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Raises InputError, naming the first image, for pixels that are not finite or may not be missing."""
        rows = np.arange(len(self))[index]
        part = self.images if self.single else with_holes(self.images, index)
        if isinstance(part, np.ma.MaskedArray):
            part = np.ma.filled(part.astype(np.float32), np.nan)
        with np.errstate(over="ignore"):
            part = np.asarray(part, np.float32).reshape(-1, *self.shape[1:])
        bad = np.isinf(part) if self.holes else ~np.isfinite(part)
        bad |= np.isnan(part).all((1, 2, 3), keepdims=True)
        if bad.any():
            sample, *pixel = np.argwhere(bad)[0].tolist()
            also = ", or NaN where a pixel is missing, but not all of them" if self.holes else ""
            raise InputError(
                f"images: {part[sample, *pixel]} in image {rows.flat[sample]}, pixel {tuple(pixel)} (channel, row, "
                f"column); allowed: finite numbers{also}"
            )
        return part


class Trained:
    """A trained model; the data that it was trained on are not needed.

    To print it says what it is. `.model` is the torch module, `.config` and `.state` say how it was made.
    """

    def __init__(self, run: Run, data: ImageSet | None = None) -> None:
        """data: of the run, by which it is calibrated; one of an earlier version needs them to generate, too."""
        self.run, self.config, self.state, self.data = run, run.config, run.state, data
        self.model: Model = run.model
        self.factors: list[Factor] = run.factors
        """The auxiliary factors."""
        self.guides = run.guides
        """How each of them guides latents: one by its own values, or several as an angle or classes."""

    def encode(self, images: Any, factors: Any = None) -> Code:
        """The codes of images (N, C, H, W), or of one; see `Given` for what is taken.

        images: linear data units; NaN where a pixel is missing, if the objective of the run can leave it out. factors:
        the auxiliary factors in their units, (N, D) or by name, where the encoder sees them (IDVAE). Raises InputError.
        """
        given = self._given(images)
        mean_NZ, logvar_NZ = self.run.encode(given, self._seen(factors, len(given)))
        return Code(mean_NZ[0], logvar_NZ[0]) if given.single else Code(mean_NZ, logvar_NZ)

    def decode(self, z: ArrayLike | Code) -> NDArray[np.float32]:
        """(..., Z) -> expected images (..., C, H, W), linear data units; of what `encode` gives that of the means.

        Raises InputError for other shapes and NaN.
        """
        codes = _numbers("z", z.mean if isinstance(z, Code) else z)
        if codes.shape[-1:] != (self.config.latents,) or not np.isfinite(codes).all():
            what = f"shape {codes.shape}" if np.isfinite(codes).all() else "numbers that are not finite"
            raise InputError(f"z has {what}; allowed: finite numbers of shape (..., {self.config.latents})")
        images = self.run.decode(codes.reshape(-1, self.config.latents))
        return images.reshape(*codes.shape[:-1], *images.shape[1:])

    def generate(
        self, factors: Mapping[str, ArrayLike] | None = None, /, *, like: Any = None, **named: ArrayLike
    ) -> NDArray[np.float32]:
        """Expected images for factors in their units: `generate(radius=.5, g1=np.linspace(-.3, .3, 9))`.

        Numbers and arrays are broadcast together, to a shape S; the images are (*S, C, H, W). factors: the same by
        name, where a name is no word of Python. like: one image: factors that are not named are those that the encoder
        reads in it, and the other latents are its own. Without it they are what is typical of the training data, and 0.
        Of an angle's cosine and sine the one that is not named goes with the other. Warns of values outside the range
        that the model was trained on. Raises InputError for names, values and shapes that are not taken.
        """
        if not isinstance(factors or {}, Mapping):
            raise InputError(f"factors = {factors!r:.99}; allowed: a dictionary of values by name")
        if twice := named.keys() & (factors or {}).keys():
            raise InputError(f"factors: {min(twice)} is given twice; allowed: in the dictionary, or by name")
        generator, names = self._generator, [factor.name for factor in self.factors]
        asked = {name: self._asked(name, value) for name, value in {**(factors or {}), **named}.items()}
        try:
            shape = np.broadcast_shapes(*(values.shape for values in asked.values()))
        except ValueError as error:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in asked.items())
            raise InputError(f"factors of shapes {shapes}; allowed: numbers, and shapes that broadcast") from error
        base_D, residual = generator.typical() if like is None else generator.of_code(self._code_of(like))
        u_ND = np.tile(base_D, (int(np.prod(shape)), 1))
        for name, values in asked.items():
            u_ND[:, names.index(name)] = np.broadcast_to(values, shape).ravel()
        generator.turn(u_ND, [names.index(name) for name in asked])
        images = generator.images(u_ND, np.tile(residual, (len(u_ND), 1)))
        return images.reshape(*shape, *images.shape[1:])

    def predict(self, images: Any) -> "Table":
        """The factors of images (N, C, H, W), or of one, as an astropy Table: a row for each, with intervals.

        NAME, NAME_low68, NAME_high68, NAME_low95, NAME_high95 in the factor's unit; of classes NAME, NAME_p, NAME_set68
        and NAME_set95; `unlike_p` and `unlike`: whether an image is unlike those of the training. `meta` says of which
        run they are. The first call calibrates the run on the validation part of its data set,
        unless that was done; the result is kept in its folder. Raises InputError where the data set is not there then.
        """
        from hpcauxvae.evaluate.calibration import measured

        if find_spec("astropy") is None:
            raise InputError("predict needs astropy; `pip install astropy` mends it")
        from astropy.table import Table

        given, calibration = self._given(images), self._calibration
        found = measured(self.run, images if isinstance(images, Filled) else given, weighted=calibration.weighted)
        columns = calibration.predict(found.mean_NZ, found.logvar_NZ, found.score_NS)
        table = Table(columns, meta=calibration.head(self.run))
        for name, unit in calibration.units().items():
            table[name].unit = unit or None
        return table

    def score(self, images: Any, factors: Any = None, *, seed: int = 0) -> dict[str, Any]:
        """Scores on images (N, C, H, W) with factors by name (hidden ones too), or (N, D): those of hpcauxvae/metrics.

        By name, most of them with `value`, `low`, `high` (of a 95 % interval) and `n`; `reading` has for each guided
        factor how it is read. Without factors the scores of images alone. NaN: not measured. seed: of the draws of z.
        Raises InputError.
        """
        from hpcauxvae.evaluate.scores import Later
        from hpcauxvae.metrics import Codes, score_codes, score_images
        from hpcauxvae.metrics.reading import readings

        given, shape = self._given(images), self.model.image_shape
        known = self._labels(factors, len(given))
        mean_NZ, logvar_NZ = self.run.encode(given, self._seen(factors, len(given)))
        filled = Filled(given, None, nan=True)
        there = Later(lambda rows: scored_by(filled, rows), np.arange(len(given)), shape) if given.holes else None
        decoded = Later(self.run.decode, mean_NZ, shape)
        found: dict[str, Any] = dict(
            score_images(filled, decoded, float(self.model.maximum), self.run.at_once, there).means
        )
        names, columns = [factor.name for factor in self.factors], [f for guide in self.guides for f in guide.columns]
        if not known or not names:
            return found
        if lacking := [name for name in names if name not in known]:
            raise InputError(f"factors: {lacking[0]} is not there; allowed: at least {', '.join(names)}")
        others, values_NF = [j for j, name in enumerate(known) if name not in names], np.stack([*known.values()], 1)
        follow = functions_of(values_NF, set(range(len(known))) - set(others), others)
        hidden = [name for j, name in enumerate(known) if j in others and j not in follow]
        codes = Codes(
            mean_NZ=mean_NZ, logvar_NZ=logvar_NZ, aux_ND=self._scaled(known),
            hidden_NH=np.stack([known[name] for name in hidden], 1) if hidden else np.empty((len(given), 0)),
            aux_names=[f.name for f in columns], hidden_names=hidden, seed=seed, aux_kinds=[f.kind for f in columns],
        )  # fmt: skip
        found |= score_codes(codes)
        return found | ({"reading": readings(codes, columns)} if self.model.GUIDED else {})

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """What metrics.json of the last evaluation holds; empty without one. Raises InputError where it is damaged."""
        try:
            return dict(read_metrics(kept(self.run).get(METRICS, "{}")))
        except ValueError as error:
            raise InputError(f"{self.run.folder}: {METRICS}: no scores can be read in it: {error}") from error

    def __repr__(self) -> str:
        """What was trained on what, the factors with units and ranges, what the last evaluation said."""
        config, state = self.config, self.state
        kept = Summary.of(state["summary"]) if "summary" in state else None
        size = " x ".join(map(str, state["image_shape"]))
        unit = f" ({kept.provenance['image_unit']})" if kept and "image_unit" in kept.provenance else ""
        device = next(self.model.parameters()).device
        latents = sum(len(guide.columns) for guide in self.guides)
        by = {guide.factor.name: f"{len(guide.levels)} classes" for guide in self.guides if guide.by_classes}
        guided = f"the first {latents} guided by" if self.model.GUIDED else "none of them guided"
        lines = [
            f"{config.model} of {self.run.folder}: {state['epoch']} of {config.epochs} epochs (step {state['step']})",
            f"trained on {state['n_train']:,} images of {size} pixels{unit} of {config.data}; now on {device}",
            f"{config.latents} latents, {guided}",
        ]
        for j, factor in enumerate(self.factors if self.model.GUIDED else []):
            range_of, classes = f"{factor.low:g} to {factor.high:g}", by.get(factor.name)
            most = f"   9 of 10 labels {kept.quantiles[0][j]:.3g} to {kept.quantiles[-1][j]:.3g}" if kept else ""
            range_of, most = (classes, "") if classes else (range_of, most)
            lines.append(f"    {with_unit(factor):24}{range_of:20}{most}".rstrip())
        for name, block in self.metrics.get("sets", {}).items():
            lines.append(f"evaluated at epoch {self.metrics['epoch']}, {name}: " + "; ".join(_scores(block)))
            lines += (f"  - {line}" for line in block["verdicts"])
        asked = ".encode(images), .decode(z), .generate(…, like=image), .predict(images), .score(images, factors)"
        return "\n".join([*lines, asked])

    @cached_property
    def _generator(self) -> "Generator":
        from hpcauxvae.evaluate.generate import Generator  # with matplotlib

        return Generator(self.run, self.data)

    @cached_property
    def _calibration(self) -> "Calibration":
        from hpcauxvae.evaluate.calibration import calibrate, load_calibration

        refuse_unguided(self.run)
        if (found := load_calibration(self.run)) is not None:
            return found
        try:
            made = calibrate(self.run, self.data or training_set(self.run))
        except InputError as error:
            where = f"{self.run.folder} is not calibrated yet, which takes the data set it was trained on"
            raise InputError(f"{where}: {error}; in Python load(…, data=FILE)") from error
        with contextlib.suppress(InputError):  # of a folder that takes no files
            made.write(self.run.folder)
        return made

    def _given(self, images: Any) -> Given:
        return Given(images, self.model.image_shape, self.config.resolved_objective.leaves_out)

    def _code_of(self, like: Any) -> NDArray[np.float64]:
        given = self._given(like)
        if len(given) != 1:
            raise InputError(f"like has {len(given)} images; allowed: one, of shape {self.model.image_shape}")
        return self.run.encode(given)[0][0]

    def _asked(self, name: str, value: ArrayLike) -> NDArray[np.float64]:
        """Raises InputError for a factor or a value that cannot be asked for, and warns of one outside the range."""
        known = {factor.name: factor for factor in self.factors}
        if name not in known:
            raise InputError(f"factor {name!r} is unknown; allowed: {', '.join(known)}")
        factor = known[name]
        values = _numbers(name, _place(value, factor))
        low = 0.0 if factor.transform == "log10" else -np.inf
        if not values.size or not (np.isfinite(values) & (values > low)).all():
            allowed = "numbers above 0, whose logarithm scales this factor" if low == 0 else "finite numbers"
            raise InputError(f"{name} = {value!r}; allowed: {allowed}")
        guide = next(guide for guide in self.guides if guide.factor == factor)
        if guide.by_classes and not np.isin(values, guide.levels).all():
            raise InputError(f"{name} = {value!r}; allowed: classes of the training, {', '.join(guide.texts)}")
        if factor.kind != "periodic" and (values.min() < factor.low or values.max() > factor.high):
            found = f"{values.min():g}" + f" to {values.max():g}" * (values.size > 1)
            range_of = f"{factor.low:g} to {factor.high:g} {factor.unit}".strip()
            warnings.warn(f"{name} = {found}: the model was trained on {range_of}", stacklevel=3)
        return values

    def _seen(self, factors: Any, n: int) -> NDArray[np.float64] | None:
        """What the encoder sees beside n images, (N, D) scaled; None for those that do without."""
        if not self.model.SEES_LABELS:
            return None
        known = self._labels(factors, n)
        if lacking := [factor.name for factor in self.factors if factor.name not in known]:
            raise InputError(f"factors: {lacking[0]} is not there, and the encoder of {self.config.model} sees it")
        return self._scaled(known)

    def _scaled(self, values: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """What the guided latents have for values (N,) of each auxiliary factor, (N, D)."""
        return np.concatenate([guide.scaled(values[guide.factor.name]) for guide in self.guides], 1)

    def _labels(self, factors: Any, n: int) -> dict[str, NDArray[np.float64]]:
        """(N,) values of each factor that is given, in its unit; NaN where not measured."""
        if factors is None:
            return {}
        known = {f.name: f for f in (*(Factor.of_record(fields) for fields in self.state["factors"]), *self.factors)}
        if not hasattr(factors, "keys"):
            values = _numbers("factors", factors)
            values = values.reshape(1, -1) if values.ndim == 1 and n == 1 else values
            if values.shape != (n, len(self.factors)):
                names = ", ".join(factor.name for factor in self.factors)
                raise InputError(f"factors of shape {values.shape}; allowed: {(n, len(self.factors))}, of {names}")
            factors = {factor.name: column for factor, column in zip(self.factors, values.T, strict=True)}
        found = {}
        for name in factors.keys():  # noqa: SIM118  a table goes through its rows
            values = np.atleast_1d(_numbers(f"factors, {name}", factors[name]))
            if name not in known or values.shape != (n,):
                of = f"of shape {values.shape}; allowed: {(n,)}" if name in known else f"unknown; allowed: {[*known]}"
                raise InputError(f"factors: {name} is {of}")
            found[name] = with_logarithm(known[name], values, Path("factors"))
        return found


def _place(value: Any, factor: Factor) -> Any:
    """The number of a class that is asked for by its name."""
    return factor.classes.index(value) if isinstance(value, str) and value in factor.classes else value


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    """Raises InputError where it is none."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} = {value!r:.99}; allowed: numbers") from error


def _scores(block: dict[str, Any]) -> list[str]:
    """`LDS 0.93 of 0.96` and the like, of a block of metrics.json."""
    lds, ssim = block["codes"].get("lds"), block["images"]["ssim"]["value"]
    words = [f"LDS {lds['value']:.3f} of {lds['attainable']:.3f}"] if lds else []
    words += [f"{name} r {one['r']['value']:.3f}" for name, one in without_classes(block, "reading").items()]
    words += [f"{name} {in_words(of['latents'], of)}" for name, of in block.get("factors", {}).items() if of["classes"]]
    return [*words, *([] if np.isnan(ssim) else [f"SSIM {ssim:.3f}"])]


def load(
    path: str | Path, *, device: str = "auto", checkpoint: str = "last", data: str | Path | None = None
) -> Trained:
    """A trained model, of the folder of a run or of a single file that `hpcauxvae export` has made.

    device: auto, cpu, or an accelerator of torch, such as cuda, cuda:1, xpu or mps. checkpoint: of a folder, last or
    best. data: where its data set lies now, if not where it did; only a run that is not calibrated yet needs it, to
    predict, and one of an earlier version, to generate. Raises InputError where the run is missing, damaged or from an
    incompatible version.
    """
    if checkpoint not in BY_NAME:
        raise InputError(f"checkpoint = {checkpoint}; allowed: last, best")
    if not isinstance(path, str | Path):
        raise InputError(f"path = {path!r:.99}; allowed: that of a run's folder, or of a file that export has made")
    check_run(Path(path), files=True)
    if Path(path).is_dir() and not any(Path(path, name).exists() for name in ("config.json", *BY_NAME.values())):
        raise InputError(f"{path}: holds no training run; allowed: the folder that `train --out` named")
    run = load_run(path, BY_NAME[checkpoint])
    place(run.model, device_of(find_world({}), device))
    return Trained(run, None if data is None else training_set(run, Path(data)))
