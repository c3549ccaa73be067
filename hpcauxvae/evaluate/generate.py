"""Images for factors in physical units: `python -m hpcauxvae generate RUN --set radius=0.5 --sweep g1=-.3:.3:9`.

Controlled generation (Ganguli et al., contribution ii). Shape legend in types.py; R other latents, Z - D of them.
"""

import importlib.util
import itertools
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing, hdf5
from hpcauxvae.data.angles import partner
from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.guides import shown, spans
from hpcauxvae.data.lettering import short
from hpcauxvae.data.summary import Summary
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.command import GenerateConfig
from hpcauxvae.evaluate.result_tables import ascii_only, fits_unit
from hpcauxvae.evaluate.sets import refuse_missing, refuse_unguided, warn_if_unlike, with_logarithm
from hpcauxvae.runtime.files import whole
from hpcauxvae.train.run import Run, check_factors, load_run, summary_of, training_set
from hpcauxvae.types import Factor, InputError

_MOST_IMAGES = 1_000_000
_MOST_DRAWN = 400
_BESIDE = 6  # factors that are named beside a row
_OFF = 0.01  # of the sum of the squares of cosine and sine
_FITS_LETTERS = 68  # of the name and the unit of a column, a quote counting twice


class Generator:
    """A trained model that takes factors instead of latents."""

    def __init__(self, run: Run, data: hdf5.ImageSet | None = None) -> None:
        """data: of the run, which an earlier version asks for what is typical of them. Raises InputError."""
        refuse_unguided(run)
        if data is not None:
            check_factors(data, run)
        self.run, self.guides, self.factors = run, run.guides, run.factors
        known = [name for name, *_ in run.state["factors"]]
        self.columns = [known.index(factor.name) for factor in self.factors]
        self.latents = sum(len(guide.columns) for guide in self.guides)
        """How many of them factors guide."""
        self.summary = summary_of(run, data)
        self.angles = self.summary.angles

    def images(self, u_ND: NDArray, residual_NR: NDArray) -> NDArray[np.float32]:
        """Expected images (N, C, H, W), linear data units, for factors in physical units and Z - D other latents."""
        return self.run.decode(np.concatenate([self.scaled(u_ND), residual_NR], 1))

    def scaled(self, u_ND: NDArray) -> NDArray[np.float64]:
        """What the guided latents have for these factors."""
        pairs = zip(self.guides, u_ND.T, strict=True)
        return np.concatenate([guide.scaled(turned(guide.factor, u_N)) for guide, u_N in pairs], 1)

    def typical(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factors (D,) in physical units and Z - D other latents of no image: what is typical of the training data
        (data/angles.py); and 0, the mean of the prior."""
        return np.array(self.summary.typical), np.zeros(self.run.config.latents - self.latents)

    def of_code(self, code_Z: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factors (D,) in physical units as a code tells them, and the latents that none of them guides."""
        told = zip(self.guides, spans(self.guides), strict=True)
        return np.array([guide.unscaled(code_Z[None, span])[0] for guide, span in told]), code_Z[self.latents :]

    def of_image(self, like: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factors (D,) in physical units and Z - D other latents of an image FILE.h5:NUMBER.

        The factors are its labels in that file; where it has none, what the code tells. Raises InputError.
        """
        path, _, number = like.rpartition(":")
        if not path or not number.isdecimal():
            raise InputError(f"like = {like}; allowed: FILE.h5:NUMBER")
        source, shape = in_order_of(hdf5.open_set(path), self.factors), tuple(self.run.state["image_shape"])
        if source.shape != shape or int(number) >= len(source):
            raise InputError(
                f"like = {like}: {len(source)} images of {source.shape}; "
                f"allowed: a number below that, and images of {shape}"
            )
        hdf5.check_pixels(source, slice(int(number), int(number) + 1))
        refuse_missing(source, self.run, range(int(number), int(number) + 1))
        warn_if_unlike(source, self.run, self.summary, [int(number)])
        row = int(number)
        labels = {f[:2]: value for f, value in zip(source.factors, source.values[row], strict=True)}
        given = (np.array([labels.get(f[:2], np.nan)]) for f in self.factors)  # by name and unit
        pairs = zip(self.factors, given, strict=True)
        own_D = np.concatenate([with_logarithm(f, value, source.path, row) for f, value in pairs])
        for j, guide in enumerate(self.guides):
            if np.isnan(guide.code(own_D[j : j + 1])).any() and not np.isnan(own_D[j]):
                told = f"{guide.factor.name} = {shown(own_D[j])} in row {row} is no class that the run was trained on"
                print(f"warning: {source.path}: {told}; what its code tells is taken", file=sys.stderr, flush=True)
                own_D[j] = np.nan
        of_code_D, residual = self.of_code(
            self.run.encode(source.images, self.scaled(own_D[None]), np.array([row]))[0][0]
        )
        return np.where(np.isnan(own_D), of_code_D, own_D), residual

    def grid(
        self, fixed: Sequence[str], sweeps: Sequence[str], unnamed_D: NDArray
    ) -> tuple[NDArray[np.float64], list[int]]:
        """Factors (N, D) in physical units, and the column of each sweep. Raises InputError.

        unnamed_D: the values of factors that are not named. Of cosine and sine of an angle the one that is not named
        goes with the other.
        """
        axes: list[NDArray[np.float64]] = [np.array([value]) for value in unnamed_D]
        swept: list[int] = []
        named, total = [], 1
        faults = []
        for text in itertools.chain.from_iterable(map(self._parts, fixed)):
            try:
                column, value = self._parse(text, "set")
                axes[column] = np.array([self._number(column, value, text)])
                named.append(column)
            except InputError as error:
                faults.append(str(error))
        if faults:
            raise InputError("; ".join(faults))
        for text in sweeps:
            column, value = self._parse(text, "sweep")
            parts = value.split(":")
            if len(parts) != 3 or not parts[2].isdecimal() or int(parts[2]) < 2:
                raise InputError(f"sweep {text}; allowed: NAME=FIRST:LAST:COUNT with a count of at least 2")
            first, last = (self._number(column, part, text) for part in parts[:2])
            if first == last:
                raise InputError(f"sweep {text}; allowed: a FIRST other than LAST; --set holds a factor at one value")
            total *= int(parts[2])
            if total > _MOST_IMAGES:
                raise InputError(f"sweep {text}: {total} images; allowed: at most {_MOST_IMAGES}")
            axes[column] = self._between(column, first, last, int(parts[2]), text)
            swept.append(column)
            named.append(column)
        if len(named) != len(set(named)):
            raise InputError(f"set and sweep name a factor twice: {', '.join([*fixed, *sweeps])}")
        order = [column for column in range(len(axes)) if column not in swept] + swept
        u_ND = np.empty((total, len(axes)))
        for row, values in enumerate(itertools.product(*(axes[column] for column in order))):
            u_ND[row, order] = values
        self.turn(u_ND, named)
        return u_ND, swept

    def turn(self, u_ND: NDArray, named: Sequence[int]) -> None:
        """Lets cosine and sine be those of an angle where one of them is named; warns where both are and are not."""
        for pair in self.angles:
            free = [column for column in pair if column not in named]
            names = " and ".join(self.factors[column].name for column in pair)
            if len(free) == 1:
                (given,) = set(pair) - set(free)
                u_ND[:, free[0]] = partner(u_ND[:, given], u_ND[0, free[0]])
            elif not free and (off := int((np.abs(np.square(u_ND[:, pair]).sum(1) - 1) > _OFF).sum())):
                print(
                    f"warning: {names} are cosine and sine of an angle; those of {off} of {len(u_ND)} images are of "
                    "none, as their squares do not add up to 1; name one of them, and the other goes with it",
                    file=sys.stderr,
                )

    def _parts(self, text: str) -> list[str]:
        """`a=1,b=2` as its parts; a name may have a comma."""
        if text.rpartition("=")[0] in {factor.name for factor in self.factors}:
            return [text]
        return text.split(",")

    def _parse(self, text: str, option: str) -> tuple[int, str]:
        name, equals, value = text.rpartition("=")  # a name may have one
        names = [factor.name for factor in self.factors]
        if not equals or name not in names:
            raise InputError(f"{option} {text}; allowed: NAME=…, where NAME is one of {', '.join(names)}")
        return names.index(name), value

    def _between(self, column: int, first: float, last: float, count: int, given: str) -> NDArray[np.float64]:
        """So many values, evenly spread on the scale of the factor; of one that guides by classes such of these."""
        guide = self.guides[column]
        if not guide.by_classes:
            evenly = np.geomspace if self.factors[column].transform == "log10" else np.linspace
            return evenly(first, last, count)
        levels = [level for level in guide.levels if min(first, last) <= level <= max(first, last)]
        if count > len(levels):
            raise InputError(
                f"sweep {given}: {count} of {len(levels)} classes; allowed: a count of at most {len(levels)}"
            )
        return np.array(levels)[:: 1 if first < last else -1][
            np.linspace(0, len(levels) - 1, count).round().astype(int)
        ]

    def _number(self, column: int, text: str, given: str) -> float:
        factor, guide = self.factors[column], self.guides[column]
        try:
            value = float(factor.classes.index(text) if text in factor.classes else text)
        except ValueError:
            value = np.nan
        if guide.by_classes and value not in guide.levels:
            classes = ", ".join(guide.texts)
            raise InputError(f"{given}: {text}; allowed: the classes that the model was trained on, {classes}")
        if not (np.isfinite(value) if factor.kind == "periodic" else factor.low <= value <= factor.high):
            allowed = f"{factor.low:g} to {factor.high:g} {factor.unit}".strip()
            if factor.kind == "periodic":
                raise InputError(f"{given}: {text}; allowed: numbers, such as from {allowed}")
            raise InputError(
                f"{given}: {text}; allowed: numbers from {allowed}, the range that the model was trained on"
            )
        return value


def turned(factor: Factor, values_N: NDArray) -> NDArray[np.float64]:
    """Values (N,), of a periodic factor by whole turns brought into its range where they are outside."""
    if factor.kind != "periodic":
        return np.asarray(values_N, np.float64)
    outside_N = (values_N < factor.low) | (values_N > factor.high)
    return np.where(outside_N, factor.low + (values_N - factor.low) % (factor.high - factor.low), values_N)


class Generated(NamedTuple):
    """Images with the factors that they were drawn for."""

    images_NCHW: NDArray[np.float32]
    u_ND: NDArray[np.float64]
    """In physical units."""
    factors: Sequence[Factor]
    data: hdf5.ImageSet | Summary
    """What the model was trained on, or what is known of it."""
    provenance: hdf5.Provenance
    swept: Sequence[int]
    """The columns of u that were swept; the last changes from image to image."""

    def varying(self) -> list[int]:
        """The columns of u that vary."""
        return [column for column in range(self.u_ND.shape[1]) if np.ptp(self.u_ND[:, column]) > 0]


def _write_hdf5(path: Path, made: Generated) -> None:
    varies = made.varying()
    u_ND = np.stack([turned(f, u_N) for f, u_N in zip(made.factors, made.u_ND.T, strict=True)], 1)
    fixed = {f.name: float(u_ND[0, j]) for j, f in enumerate(made.factors) if j not in varies}
    factors = [made.factors[column] for column in varies]
    hdf5.write(path, made.images_NCHW, u_ND[:, varies], factors, dict(made.provenance) | fixed)


def _write_fits(path: Path, made: Generated) -> None:
    from astropy.io import fits

    hdf5.refuse_existing(path)
    columns = [
        fits.Column(name=ascii_only(f.name), format="D", unit=fits_unit(f.unit) or None, array=u_N)
        for f, u_N in zip(made.factors, made.u_ND.T, strict=True)
    ]
    primary = fits.PrimaryHDU(made.images_NCHW)
    for name, value in made.provenance.items():
        primary.header[f"HIERARCH {name}"] = ascii_only(value) if isinstance(value, str) else value
    if unit := str(made.data.provenance.get("image_unit", "")):
        primary.header["BUNIT"] = fits_unit(unit)
    with whole(path) as part:
        fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="FACTORS")]).writeto(part)


def _write_png(path: Path, made: Generated) -> None:
    hdf5.refuse_existing(path)
    u_ND = made.u_ND
    down, across = list(made.swept[:-1]), made.swept[-1] if made.swept else None
    if not down:  # one row: beside it stand the factors that are held
        down = [j for j in range(len(made.factors)) if j != across][:_BESIDE]
    wide = 1 if across is None else len(np.unique(u_ND[:, across]))
    rows = made.images_NCHW.reshape(-1, wide, *made.images_NCHW.shape[1:])
    labels = [""] if across is None else [_named(made.factors[across], value) for value in u_ND[:wide, across]]
    names = ["\n".join(_named(made.factors[j], u[j]) for j in down) for u in u_ND[::wide]]
    shown = drawing.upright(rows, made.data)
    pictures.traversal(shown, names, [labels] * len(rows), path, look=drawing.look_of(made.data))


def _named(factor: Factor, value: float) -> str:
    told = short(factor, value) if factor.classes else f"{value:.3g}"
    return f"{factor.name} {told} {factor.unit}".strip()


WRITERS = {".h5": _write_hdf5, ".fits": _write_fits, ".png": _write_png}


def _check(path: Path, u_ND: NDArray, factors: Sequence[Factor]) -> None:
    """Raises InputError where a file of this kind cannot take the images of these factors (N, D)."""
    if path.suffix == ".h5" and not np.ptp(u_ND, axis=0).any():
        raise InputError(f"{path}: one image has no factor that varies; allowed: a sweep, or .fits or .png")
    if path.suffix == ".png" and len(u_ND) > _MOST_DRAWN:
        raise InputError(f"{path}: {len(u_ND)} images in one picture; allowed: at most {_MOST_DRAWN}, or .h5")
    if path.suffix != ".fits":
        return
    if importlib.util.find_spec("astropy") is None:
        raise InputError(f"{path}: FITS needs astropy; `pip install astropy` mends it")
    for text in [ascii_only(f.name) for f in factors] + [fits_unit(f.unit) for f in factors]:
        if (letters := len(text.replace("'", "''"))) > _FITS_LETTERS:
            raise InputError(f"{path}: {text}: {letters} letters; allowed in FITS: at most {_FITS_LETTERS}, or .h5")


def _data(run: Run, given: Path | None) -> hdf5.ImageSet | None:
    """The data set of a run, where it is at hand: it tells how pictures of it are drawn.

    Raises InputError where the one that is given is another, or where a run of an earlier version cannot do without.
    """
    try:
        return training_set(run, given)
    except InputError:
        if given or "summary" not in run.state:
            raise
        return None


def doubts(run: Path, names: Iterable[str]) -> list[str]:
    """What `evaluate` has found against asking this run for these factors; nothing where it was not evaluated.

    run: its folder.
    """
    try:
        blocks = json.loads((run / "metrics.json").read_text())["sets"].values()
        lines = [line for block in blocks for line in block["verdicts"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    asked = [re.compile(rf"(?<!\w){re.escape(name)}(?!\w).*\bsteers?\b") for name in names]
    asked += [re.compile("what is asked for is .* what the same")] * bool(asked)
    return [*dict.fromkeys(line for line in lines if any(one.search(line) for one in asked))]


def generate(config: GenerateConfig) -> int:
    """Writes the images that were asked for; returns their number. Raises InputError, if it can before any is made."""
    if config.out.suffix not in WRITERS:
        raise InputError(f"out = {config.out}; allowed: a name that ends in {', '.join(WRITERS)}")
    hdf5.refuse_existing(config.out)
    trained = load_run(config.run)
    data = _data(trained, config.data)
    generator = Generator(trained, data)
    unnamed_D, residual = generator.of_image(config.like) if config.like else generator.typical()
    u_ND, swept = generator.grid(config.set, config.sweep, unnamed_D)
    _check(config.out, u_ND, generator.factors)
    images = generator.images(u_ND, np.tile(residual, (len(u_ND), 1)))
    provenance: dict[str, str | int | float] = {
        "model": str(config.run),
        "like": config.like or "",
        "epoch": int(trained.state["epoch"]),
    }
    given = generator.summary.provenance
    provenance |= {name: given[name] for name in ("image_unit", "image_origin") if name in given}
    made = Generated(images, u_ND, generator.factors, data or generator.summary, provenance, swept)
    WRITERS[config.out.suffix](config.out, made)
    named = ",".join((*config.set, *config.sweep)).split(",")
    for line in doubts(config.run, [one.partition("=")[0].strip() for one in named if "=" in one]):
        print(f"warning: `evaluate` has found: {line}", file=sys.stderr, flush=True)
    return len(images)
