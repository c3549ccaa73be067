"""Finished runs, found by what they trained: the paper's tables and figures read them and never train."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hpcauxvae.data import cars3d, dsprites
from hpcauxvae.data.galaxies import CASES, FACTORS
from hpcauxvae.paper.recipes import Variant, command, galaxies
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.tracking import LOG, history
from hpcauxvae.types import InputError

CONFIG, METRICS = "config.json", "metrics.json"
PRECISION = ("bf16",)
"""Fields of a configuration that say how it was computed: runs that differ in no other are seeds of one experiment."""
Sweep = Literal["", "grid", "betas"]
"""Folder, below that of the runs, of trials of weights: the grid of Fig. 16, and beta-VAE's of section C.1."""

Data = Literal["galaxies", "cars3d", "dsprites"]

_CASES = {names: case for case, names in CASES.items()}
_GALAXY_FACTORS = {factor.name for factor in FACTORS}
_LABELS: dict[tuple[str, ...], tuple[Data, Variant]] = {
    cars3d.LABELS["raw"]: ("cars3d", "raw"),
    cars3d.LABELS["sound"]: ("cars3d", "sound"),
    dsprites.LABELS["raw"]: ("dsprites", "raw"),
    dsprites.LABELS["sound"]: ("dsprites", "sound"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An evaluated run."""

    folder: Path
    config: TrainConfig
    metrics: dict[str, Any]
    """The content of metrics.json."""

    @property
    def data(self) -> Data | None:
        """Which data set it is, by the auxiliary variables; None where it is another."""
        if self.config.aux and set(self.config.aux_names) <= _GALAXY_FACTORS:
            return "galaxies"
        return _LABELS.get(self.config.aux_names, (None, "raw"))[0]

    @property
    def case(self) -> int | None:
        """The galaxies' case; None for other data and other variables."""
        return _CASES.get(self.config.aux_names)

    @property
    def variant(self) -> Variant:
        """Which labels it was given."""
        return _LABELS.get(self.config.aux_names, (None, "raw"))[1]


def find(folder: Path, only: Collection[Path] | None = None) -> list[Found]:
    """The evaluated runs in the folders directly below `folder`, or in those of them that are in `only`, by name.

    Raises InputError, naming the file and what mends it, where one is damaged or not of this version: a table from
    which a run is missing without a word would be another table.
    """
    folders = [path.parent for path in sorted(folder.glob(f"*/{METRICS}"))]
    return [_read(run) for run in folders if only is None or run in only]


def _read(run: Path) -> Found:
    with _checked(run / CONFIG, f"train {run} again, or move it elsewhere"):
        config = TrainConfig.from_json(_object(run / CONFIG, "resolved_objective", "data", "out"))
    with _checked(run / METRICS, f"`hpcauxvae evaluate {run}` writes it anew, or move {run} elsewhere"):
        metrics = _object(run / METRICS, "epoch", "sets")
    return Found(folder=run, config=config, metrics=metrics)


@contextlib.contextmanager
def _checked(path: Path, remedy: str) -> Iterator[None]:
    """What is wrong with the content of a file, as an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}; {remedy}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: is missing; {remedy}") from error
    except KeyError as error:
        raise InputError(f"{path}: {error} is unknown to this version of hpcauxvae; {remedy}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is damaged: {error}; {remedy}") from error


def _object(path: Path, *needed: str) -> dict[str, Any]:
    """The JSON object in a file, which has these fields."""
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
        raise InputError(f"holds {json.dumps(content):.40}; allowed: a JSON object")
    if missing := [name for name in needed if name not in content]:
        raise InputError(f"has no field {', '.join(missing)}: it is damaged, or of another version of hpcauxvae")
    return content


def select(
    runs: list[Found],
    *,
    data: Data | None = None,
    case: int | None = None,
    model: str | None = None,
    objective: str | None = None,
    variant: Variant | None = None,
) -> list[Found]:
    """The runs that have what is given: by case, the raw labels before the sound ones, then by seed."""
    wanted = {"data": data, "case": case, "variant": variant}
    trained = {"model": model, "objective": objective}
    found = [
        run
        for run in runs
        if all(value in (None, getattr(run, name)) for name, value in wanted.items())
        and all(value in (None, getattr(run.config, name)) for name, value in trained.items())
    ]
    return sorted(found, key=lambda run: (run.case or 0, run.variant, run.config.seed, run.folder.name))


def galaxy_run(runs: list[Found], case: int, model: str, objective: str) -> Found | None:
    """The first run of a galaxy case, by its auxiliary variables, model and objective."""
    return next(iter(select(runs, data="galaxies", case=case, model=model, objective=objective)), None)


def needed(runs: list[Found], folder: Path, case: int) -> Found:
    """The `tuned` Aux-VAE run of a case. Raises InputError with the commands that make it where there is none."""
    run = galaxy_run(runs, case, "aux-vae", "tuned")
    if run is None:
        config = galaxies(case, data=Path("galaxies.h5"), out=folder / f"case{case}")
        raise InputError(
            f"{folder}: no evaluated run of galaxy case {case}; make one: "
            f"{command(config)} && hpcauxvae evaluate {config.out}"
        )
    return run


class Wants(NamedTuple):
    """Which runs an item reads; an empty field allows all."""

    data: tuple[Data, ...] = ()
    cases: tuple[int, ...] = ()
    """Of the galaxies; beta-VAE's one run is of all."""
    models: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ("tuned", "bernoulli")
    all_seeds: bool = False
    """Or else the first one is enough."""
    sweep: Sweep = ""
    """The trials in this folder, and no other runs."""

    def takes(self, data: Data | None, case: int | None, model: str, objective: str) -> bool:
        """Whether a run of these is read."""
        return (
            (not self.data or data in self.data)
            and (not self.cases or case in (None, *self.cases) or model == "beta-vae")
            and (not self.models or model in self.models)
            and (not self.objectives or objective in self.objectives)
        )

    def read(self, runs: list[Found]) -> list[Found]:
        """Those of these runs that the item reads, by name: of each kind the first, with our objective if there is one.

        All where none of them is there: the item says what is missing, or makes do with another.
        """
        if self.sweep:
            return runs
        of_any = self._replace(objectives=())
        fitting = [run for run in select(runs) if of_any.takes(run.data, run.case, run.config.model, "")]
        if not self.all_seeds:
            first: dict[tuple[Any, ...], Found] = {}
            for run in sorted(fitting, key=lambda run: run.config.objective not in self.objectives):
                case = None if run.config.model == "beta-vae" else run.case
                first.setdefault((run.data, case, run.variant, run.config.model), run)
            fitting = list(first.values())
        return sorted(fitting, key=lambda run: run.folder.name) or runs


def setting(run: Found, *free: str) -> dict[str, Any]:
    """What was trained, but for the free fields and the precision: runs that share it differ in no other field."""
    config = run.config.decisive() | dataclasses.asdict(run.config.resolved_objective)
    return {name: value for name, value in config.items() if name not in ("resolved_objective", *PRECISION, *free)}


def of_one_setting(runs: list[Found], *free: str) -> list[Found]:
    """The largest group of runs that differ in the free fields alone. Raises InputError where two differ in none."""
    groups: dict[str, dict[str, Found]] = {}
    for run in runs:
        group = groups.setdefault(json.dumps(setting(run, *free) | {"data": str(run.config.data)}, default=str), {})
        point = str([setting(run)[name] for name in free])
        if point in group:
            raise InputError(
                f"{run.folder}: {', '.join(free)} = {point[1:-1]}, as in {group[point].folder}, of which it differs "
                "in nothing; remove one of them"
            )
        group[point] = run
    return list(max(groups.values(), key=len).values()) if groups else []


def last_epoch(run: Found) -> dict[str, Any]:
    """The row of the run's last epoch in its log. Raises InputError where there is none."""
    rows = history(run.folder)
    if not rows:
        raise InputError(f"{run.folder / LOG}: is missing or empty; remove {run.folder}, and the run is made again")
    return rows[-1]


def codes_path(run: Path, name: str) -> Path:
    """Where the evaluation of a run puts the codes of a set (test or fresh)."""
    return run / f"codes-{name}.h5"


def codes_file(run: Path, name: str = "test") -> Path:
    """The codes of a set (test or fresh) that the evaluation of a run left. Raises InputError where they are gone."""
    path = codes_path(run, name)
    if not path.exists():
        raise InputError(f"{path}: no such file; `hpcauxvae evaluate {run}` writes it")
    return path


Item = Callable[[list[Found], Path, Path], list[Path]]
"""(runs, the folder they are in, folder for the results) -> files written."""


class Entry(NamedTuple):
    """An item, and the runs that are made for it."""

    draw: Item
    wants: Wants
