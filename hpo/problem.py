"""What is searched and what counts as better: the axes of the space, and the two objectives.

Both objectives are of the validation split and are to be small: the MSE of reconstructions, and 1 - LDS / attainable,
what is missing to the score of a perfect code. The MSE spans orders of magnitude, so it is compared by its logarithm.
"""

import ast
import dataclasses
import difflib
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from hpcauxvae.models import MODELS, model_class, refuse_unread
from hpcauxvae.models.objectives import LIKELIHOODS, Objective
from hpcauxvae.paper.experiments import PAPER_GRID
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import Around, InputError, Interval

Choices = tuple[Any, ...]
Axis = Interval | Choices
Space = dict[str, Axis]
Point = dict[str, Any]

GRIDS: dict[str, Space] = {"paper": dict(PAPER_GRID)}
"""Grids by name."""

SEARCH_SETS = ("data", "out", "model", "aux", "objective", "split", "seed", "device", "resume", "max_minutes", "epochs")
"""Fields of TrainConfig that the search itself gives to each trial."""
_OF_NO_TRIAL = ("folds", "fold")


class Objectives(NamedTuple):
    """The two objectives of a trial at one epoch; smaller is better."""

    mse: float
    """Mean over pixels of the squared error, images divided by the training maximum."""
    gap: float
    """1 - LDS / attainable; slightly negative where the code does better than the average perfect code."""

    @classmethod
    def of(cls, validation: Mapping[str, float]) -> "Objectives":
        """From the validation block of a row of metrics.jsonl."""
        return cls(validation["mse"], 1 - validation["lds"] / validation["lds_attainable"])

    @property
    def finite(self) -> bool:
        """Whether both are numbers, and the MSE has a logarithm."""
        return math.isfinite(self.mse) and math.isfinite(self.gap) and self.mse > 0

    @property
    def compared(self) -> tuple[float, float]:
        """(log10 MSE, gap): what is minimised."""
        return math.log10(self.mse), self.gap


def declared_space(config: TrainConfig, guided: int = 0) -> Space:
    """The space that the model of `config` declares, around the values of its objective.

    guided: how many latents the auxiliary variables guide, where the data are known; each one otherwise.
    Raises InputError where the model, as one from another package may, names what no search can set.
    """
    space: Space = {}
    numbers = {name: value for name, value in vars(config.resolved_objective).items() if _is_number(value)}
    if (own := model_class(config.model).OWN_WEIGHT) is not None:
        numbers.setdefault("own_weight", own)
    for name, values in model_class(config.model).SEARCHED.items():
        if _is_left_out(name, model_class(config.model).SEARCHED, config.resolved_objective):
            continue
        allowed = sorted(set(numbers) & set(_settable()) if isinstance(values, Around) else _settable())
        if name not in allowed:
            kind = "number of an objective" if isinstance(values, Around) else "hyperparameter of a run"
            raise InputError(
                f"model = {config.model}: SEARCHED has {name!r}, which is no {kind}; allowed: {', '.join(allowed)}"
            )
        if isinstance(values, Around):
            low, high = numbers[name] / values.factor, numbers[name] * values.factor
            space[name] = Interval(_rounded(low), _rounded(high), log=True)
        else:
            space[name] = values
    latents = space.get("latents")
    if isinstance(latents, Interval):  # at least one for what nobody measured
        least = max(latents.low, (guided or len(config.aux_names)) + 1)
        most = latents.high if least < latents.high else least + latents.high - latents.low
        space["latents"] = latents._replace(low=least, high=most)
    return space


def _is_left_out(name: str, declared: Collection[str], objective: Objective) -> bool:
    """Whether a declared hyperparameter does nothing with this objective, or is not searched beside another."""
    if name == "dependence_tolerance":
        return objective.dependence_tolerance is None
    if name == "lambda2" and "dependence_tolerance" in declared:
        return objective.dependence_tolerance is not None
    return name == "sigma" and not LIKELIHOODS[objective.likelihood]


def parse_axis(text: str) -> tuple[str, Axis]:
    """ "beta=0.5:20:log", "latents=6:16" or "batch_size=64,128" -> the field's name and its values.

    An interval has whole numbers only where the field has: latents, not beta.
    """
    name, _, values = text.partition("=")
    name = name.replace("-", "_")
    check_field(name, text)
    kinds = _kinds(name)
    match values.split(":"):
        case [low, high] | [low, high, "log"] if {int, float} & set(kinds):
            low_end, high_end = (_end(end, text, whole=int in kinds) for end in (low, high))
            axis = Interval(low_end, high_end, log=values.endswith(":log"))
        case [listed] if listed:
            choices = tuple(_value(name, value, text) for value in listed.split(","))
            if len(set(choices)) < len(choices):
                raise InputError(f"vary {text!r}: a value is listed twice; allowed: each once")
            return name, choices
        case _:
            raise InputError(
                f"vary {text!r}: allowed: NAME=LOW:HIGH or NAME=LOW:HIGH:log of a number, NAME=VALUE,VALUE,... of any"
            )
    if not axis.low < axis.high or (axis.log and not axis.low > 0):
        raise InputError(f"vary {text!r}: allowed: LOW below HIGH, and above 0 with log")
    return name, axis


def parse_fixed(text: str) -> tuple[str, Any]:
    """ "latents=12" -> name and value of a field of TrainConfig."""
    name, sign, value = text.partition("=")
    name = name.replace("-", "_")
    if not sign:
        raise InputError(f"fix {text!r}: allowed: NAME=VALUE")
    check_field(name, text)
    return name, _value(name, value, text)


def named_once(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names and values of an option that may be given several times. Raises InputError for a name given twice."""
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise InputError(f"{option}: {name} is given twice; allowed: each name once")
        named[name] = value
    return named


def check_space(space: Space, config: TrainConfig) -> None:
    """That each end of an axis, or listed value, can be trained, the other axes being at their first value.

    Raises InputError, also for hyperparameters of other models than that of `config`.
    """
    refuse_unread(config.model, config.overrides)
    own = model_class(config.model).SEARCHED
    others = {name for model in MODELS for name in model_class(model).SEARCHED} - own.keys()
    if (unread := [name for name in space if name in others]) and config.model in MODELS:  # others may read anything
        raise InputError(
            f"{', '.join(unread)} in the space: {config.model} has no such hyperparameter, its trials would repeat; "
            f"allowed: {', '.join(own)}, and settings that are no model's own, such as network"
        )
    tried = {name: axis[:2] if isinstance(axis, Interval) else axis for name, axis in space.items()}
    first = {name: values[0] for name, values in tried.items()}
    for name, values in tried.items():
        for point in ({**first, name: value} for value in values):
            try:
                dataclasses.replace(config, **point)
            except InputError as error:
                raise InputError(f"{error}; the space has the point {point}") from error


def check_field(name: str, text: str) -> None:
    """Raises InputError unless `name` is a field of TrainConfig that the search may set."""
    fields = _settable()
    if name not in fields:
        near = [f"perhaps {close}, of " for close in difflib.get_close_matches(name, fields, 1)]
        allowed = "".join(near) + ", ".join(fields)
        if name in SEARCH_SETS and name != "data":
            allowed = f"--{name.replace('_', '-')} of the search itself"
        raise InputError(f"{text!r}: {name!r} is no hyperparameter of a run; allowed: {allowed}")


def _settable() -> list[str]:
    """The fields of TrainConfig that the search may set."""
    return sorted(set(TrainConfig.__dataclass_fields__) - {*SEARCH_SETS, *_OF_NO_TRIAL})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value(name: str, value: str, whole: str) -> Any:
    """A value of a field of TrainConfig. Raises InputError where the field is a number or a choice, and this is not."""
    kinds, given = _kinds(name), _literal(value)
    for kind in kinds:
        if get_origin(kind) is Literal and given not in get_args(kind):
            raise InputError(f"{whole!r}: {value!r}; allowed: {', '.join(get_args(kind))}")
    if {int, float, bool} & set(kinds) and not isinstance(given, int | float if float in kinds else int):
        raise InputError(f"{whole!r}: {value!r}; allowed: a {'whole ' * (float not in kinds)}number")
    return given


def _kinds(name: str) -> tuple[Any, ...]:
    """The types that a field of TrainConfig may have, a field without a default of its own aside."""
    kind: Any = TrainConfig.__dataclass_fields__[name].type
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _literal(text: str) -> Any:
    """The number that a text is, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _end(text: str, axis: str, *, whole: bool) -> float:
    """An end of an interval; an int where the field has `whole` numbers only."""
    value = _literal(text)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"vary {axis!r}: {text!r} is no number; allowed: NAME=LOW:HIGH with numbers")
    if whole and value != int(value):
        raise InputError(f"vary {axis!r}: {text!r}; allowed: whole numbers")
    return int(value) if whole else float(value)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def is_whole(axis: Interval) -> bool:
    """Whether an interval has whole numbers only."""
    return isinstance(axis.low, int) and isinstance(axis.high, int)


def tidy(point: Mapping[str, Any], space: Space) -> Point:
    """Plain Python values, real numbers with four digits: a point is read, typed again and compared as it is told."""
    tidied = {}
    for name, axis in space.items():
        value = point[name]
        if not isinstance(axis, Interval):
            tidied[name] = next(choice for choice in axis if choice == value)
        elif is_whole(axis):
            tidied[name] = int(value)
        else:
            tidied[name] = min(max(_rounded(value), axis.low), axis.high)
    return tidied


def key(point: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two equal points have in common."""
    return tuple(sorted(point.items()))


def size(space: Space) -> float:
    """How many points there are; infinity where an axis is continuous."""
    return math.prod(len(all_values(axis) or ()) or math.inf for axis in space.values())


def all_values(axis: Axis) -> Sequence[Any] | None:
    """All values of an axis; None for a continuous axis."""
    if not isinstance(axis, Interval):
        return axis
    return range(int(axis.low), int(axis.high) + 1) if is_whole(axis) else None


def grid_points(space: Space) -> list[Point]:
    """All combinations, the last axis running fastest. Raises InputError for an axis without listed values."""
    for name, axis in space.items():
        if isinstance(axis, Interval):
            raise InputError(f"grid: {name} has the range {axis.low} to {axis.high}; allowed: NAME=VALUE,VALUE,...")
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def contains(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether a point lies in the space."""
    return all(
        values[name] in axis
        if not isinstance(axis, Interval)
        else values[name] is not None and axis.low <= values[name] <= axis.high
        for name, axis in space.items()
    )
