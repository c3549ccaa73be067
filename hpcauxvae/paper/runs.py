"""Evaluated runs, by what they trained; and what tables and figures read of a run. They never train."""

import contextlib
import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.galaxies import FACTORS
from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.records import read_metrics
from hpcauxvae.evaluate.scores import Evaluator, Scored
from hpcauxvae.paper.experiments import LABELS, Data, kind
from hpcauxvae.paper.items import Item
from hpcauxvae.train.config import NOT_DECISIVE, TrainConfig, fold_folder
from hpcauxvae.train.run import Run
from hpcauxvae.train.tracking import LOG, history
from hpcauxvae.types import InputError

CONFIG, METRICS = "config.json", "metrics.json"
PRECISION = ("bf16",)
"""Fields of a configuration that say how it was computed: runs that differ in nothing else are of one kind."""
_GALAXY_FACTORS = {factor.name for factor in FACTORS}
_BY_NAMES = {names: (data, labels) for data, kinds in LABELS.items() for labels, names in kinds.items()}


class StoredCodes(NamedTuple):
    """The codes of a run's test split, from its codes-test.h5."""

    data: ImageSet
    index_N: NDArray[np.int64]
    """Which samples of `data`."""
    mean_NZ: NDArray[np.float64]
    logvar_NZ: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """A run with its scores."""

    folder: Path
    config: TrainConfig
    metrics: dict[str, Any]
    """The content of metrics.json."""

    @property
    def data(self) -> Data | None:
        """Which data set it is, by the auxiliary variables; None where it is another."""
        if self.config.aux and set(self.config.aux_names) <= _GALAXY_FACTORS:
            return "galaxies"
        return self._known[0]

    @property
    def labels(self) -> str:
        """Which of LABELS it has; empty for other variables."""
        return self._known[1]

    @property
    def _known(self) -> tuple[Data | None, str]:
        """Data set and labels by the auxiliary variables; raw ones are others where they guide by their kinds."""
        found: tuple[Data | None, str] = _BY_NAMES.get(self.config.aux_names, (None, ""))
        return (None, "") if found[1] == "raw" and self.config.labels != "raw" else found

    @property
    def case(self) -> int | None:
        """The galaxies' case; None for other data and other variables."""
        return int(self.labels.removeprefix("case")) if self.labels.startswith("case") else None

    @property
    def kind(self) -> str:
        """As the name of an experiment but for the seed; empty where it is none of the paper's, or split otherwise."""
        if self.config.folds or self.config.split not in ("auto", "random"):
            return ""
        if not self.data or not (self.labels or self.config.model == "beta-vae"):
            return ""
        return kind(self.data, self.labels, self.config.model, self.config.objective)

    @property
    def about(self) -> dict[str, str]:
        """Which run it is, for the numbers beside a picture."""
        return {"run": self.folder.name, "objective": self.config.objective}

    @property
    def data_path(self) -> Path:
        """Where the data set lay when the run was evaluated."""
        moved = self.metrics.get("settings", {}).get("data")
        return Path(moved) if moved else self.config.data

    def setting(self, *free: str) -> dict[str, Any]:
        """What was trained, but for the free fields and the precision."""
        config = decisive(self.config.to_json()) | dataclasses.asdict(self.config.resolved_objective)
        return {name: value for name, value in config.items() if name not in ("resolved_objective", *PRECISION, *free)}

    def last_epoch(self) -> dict[str, Any]:
        """The row of the last epoch in the log. Raises InputError where there is none."""
        rows = history(self.folder)
        if not rows:
            path = self.folder / LOG
            raise InputError(f"{path}: is missing or empty; remove {self.folder}, and the run is made again")
        return rows[-1]

    def codes_file(self, name: str = "test") -> Path:
        """The codes of a set (test or fresh). Raises InputError where they are gone."""
        path = codes_path(self.folder, name)
        if not path.exists():
            raise InputError(f"{path}: no such file; `hpcauxvae evaluate {self.folder}` writes it")
        return path

    def codes(self, most: int) -> StoredCodes:
        """At most `most` test codes, spread evenly. Raises InputError where they or the data set are not there."""
        with open_file(self.codes_file()) as file:
            rows = np.unique(np.linspace(0, len(file["index"]) - 1, most).astype(int))
            index, mean, logvar = (file[name][:][rows] for name in ("index", "mean", "logvar"))
        return StoredCodes(open_set(self.data_path), index, mean, logvar)

    def opened(self, images: int) -> tuple[Evaluator, Scored]:
        """The model and the test split, of which the first `images` are decoded too.

        Raises InputError where the data set is not where the evaluation found it, or what check_scored raises.
        """
        evaluator = Evaluator(EvaluateConfig(run=self.folder, data=self.data_path, images=images))
        self.check_scored(evaluator.run)
        return evaluator, next(evaluator.sets())

    def check_scored(self, trained: Run) -> None:
        """Raises InputError where the weights are of another epoch than the scores."""
        epoch, scored = trained.state["epoch"], self.metrics["epoch"]
        if epoch != scored:
            raise InputError(
                f"{self.folder / METRICS}: is of epoch {scored}, but the weights beside it are of epoch {epoch}; "
                f"`hpcauxvae evaluate {self.folder}` scores these, or train it to its end"
            )


Runs = Mapping[str, EvaluatedRun]
"""What an item reads, by label."""


def decisive(config: dict[str, Any]) -> dict[str, Any]:
    """What decides a result, of the fields of a configuration: how the set was split, too.

    The paper's sets have no groups, and no parts of their own: what `auto` comes to there is `random`.
    """
    split = "random" if config["split"] == "auto" else config["split"]
    return {name: value for name, value in config.items() if name not in NOT_DECISIVE} | {"split": split}


def codes_path(run: Path, name: str) -> Path:
    """Where the evaluation of a run puts the codes of a set (test or fresh)."""
    return run / f"codes-{name}.h5"


def find(folder: Path, only: Collection[Path] | None = None) -> list[EvaluatedRun]:
    """The evaluated runs in the folders directly below `folder`, or in those of them that are in `only`, by name.

    Raises InputError, naming the file and what mends it, where a run is damaged or not of this version: a table from
    which a run is missing without a word would be another table.
    """
    folders = [path.parent for path in sorted(folder.glob(f"*/{METRICS}"))]
    folders = [run for run in folders if not fold_folder(run, 0).is_dir()]  # a cross-validation is none of the paper's
    return [_read(run) for run in folders if only is None or run in only]


def runs_of(name: str, item: Item, runs: Path, made: Collection[str] | None) -> dict[str, EvaluatedRun]:
    """The runs that an item reads, by label. Raises InputError where there is none.

    made: the names of the experiments that are there. None: each run counts as the experiment that it is by its
    configuration, whatever its folder is called, and of several that differ in the seed the first is taken.
    """
    first, *others = item.experiments.values()
    folder = (runs / first).parent
    folders = dict.fromkeys((runs / name).parent for name in item.experiments.values())
    if made is not None:
        only = [runs / experiment for experiment in made]
        by_folder = {run.folder: run for each in folders for run in find(each, only)}
        found = {label: by_folder[runs / name] for label, name in item.experiments.items() if runs / name in by_folder}
    elif item.every:
        found = {str(run.folder.relative_to(folder)): run for each in folders for run in find(each)}
    else:
        there = sorted(find(folder), key=lambda run: (run.config.seed, run.folder.name))
        by_kind = {run.kind: run for run in reversed(there)}
        kinds = {label: name.rpartition("-")[0] for label, name in item.experiments.items()}
        found = {label: by_kind[kind] for label, kind in kinds.items() if kind in by_kind}
        if not found and item.any_will_do:
            found = {run.folder.name: run for run in there if run.data == first.split("-")[0]}
    if not found:
        more = f" or the {len(others)} others of {name}" if others else ""
        raise InputError(f"{folder}: no evaluated run of {first}{more}; hpcauxvae paper {name} makes them")
    return found


def _read(run: Path) -> EvaluatedRun:
    with _checked(run / CONFIG, f"train {run} again, or move it elsewhere"):
        config = TrainConfig.from_json(_object(run / CONFIG, "resolved_objective", "data", "out"))
    with _checked(run / METRICS, f"`hpcauxvae evaluate {run}` writes it anew, or move {run} elsewhere"):
        metrics = _object(run / METRICS, "epoch", "sets")
    return EvaluatedRun(folder=run, config=config, metrics=metrics)


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
    content = read_metrics(path.read_text())
    if not isinstance(content, dict):
        raise InputError(f"holds {json.dumps(content):.40}; allowed: a JSON object")
    if missing := [name for name in needed if name not in content]:
        raise InputError(f"has no field {', '.join(missing)}: it is damaged, or of another version of hpcauxvae")
    return content


def of_one_setting(runs: Collection[EvaluatedRun], *free: str) -> list[EvaluatedRun]:
    """The largest group of runs that differ in the free fields alone. Raises InputError where two differ in none."""
    groups: dict[str, dict[str, EvaluatedRun]] = {}
    for run in runs:
        group = groups.setdefault(json.dumps(run.setting(*free) | {"data": str(run.config.data)}, default=str), {})
        setting = run.setting()
        point = str([setting[name] for name in free])
        if point in group:
            raise InputError(
                f"{run.folder}: {', '.join(free)} = {point[1:-1]}, as in {group[point].folder}, of which it differs "
                "in nothing; remove one of them"
            )
        group[point] = run
    return list(max(groups.values(), key=len).values()) if groups else []
