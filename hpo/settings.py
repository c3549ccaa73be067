"""The fields of `python -m hpo.search`, saved whole as search.json with the search."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from hpcauxvae.data.choice import choose
from hpcauxvae.data.guides import guides_of
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.models.objectives import AUTO, Named
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import By, InputError, Interval
from hpo.logbook import SETTINGS
from hpo.problem import (
    GRIDS,
    Point,
    Space,
    check_space,
    contains,
    declared_space,
    grid_points,
    named_once,
    parse_axis,
    parse_fixed,
    size,
)

MAY_CHANGE = (
    "data", "out", "device", "max_evals", "workers", "launcher", "max_minutes", "trial_minutes", "resume",
)  # fmt: skip
"""What a search may be resumed with that it was not started with."""
_DEVICES = ("auto", "cpu", "cuda", "xpu", "mps")  # which of several it is, a worker says


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search for hyperparameters."""

    data: Path
    """HDF5 file of labelled images (docs/data-format.md)."""
    out: Path = Path("search")
    """Folder of the search: journal.jsonl, results.csv, report.html, and the run of every trial in trials/."""
    model: str = "aux-vae"
    """Which model to train, by name, or a model of your own as my_package.my_module:MyVAE."""
    aux: str = ""
    """Auxiliary variables, comma-separated; the LDS of these is one of the two objectives, for every model."""
    objective: Named = AUTO
    """Training objective by name; the space lies around its constants. auto: what the images ask for."""
    split: By = "auto"
    """How every trial splits the data: auto, random, group, blocks or given, as in `hpcauxvae train`."""
    epochs: int = 20
    """Passes over the training split of a trial that is not stopped."""
    seed: int = 0
    """Seed of the search, and of every trial."""
    device: str = "auto"
    """auto, cpu, cuda (ROCm too), xpu or mps, for every trial."""
    strategy: Literal["cbo", "random", "grid"] = "cbo"
    """Bayesian optimisation by DeepHyper, random points, or every point of a grid."""
    grid: Literal["paper"] | None = None
    """A grid by name: paper has 27 points of beta, lambda1 and lambda2. Also the box for cbo and random, then."""
    vary: tuple[str, ...] = ()
    """The space, in place of the model's own: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE,..."""
    fix: tuple[str, ...] = ()
    """Further settings of every trial: NAME=VALUE, such as network=mlp; what is fixed leaves the space."""
    max_evals: int | None = None
    """Trials in all, those of earlier sessions and failed ones included; at most every point of a finite space.
    Without it 40, or every point of a grid."""
    workers: int | None = None
    """Trials at a time. Without it: one for each GPU, or what the allocation has room for, or one. Under MPI it is the
    number of ranks less one."""
    processes: int = 1
    """Processes of each trial (DDP)."""
    launcher: Literal["auto", "local", "mpi", "slurm"] = "auto"
    """Where trials run: on this machine; on MPI ranks, each where it is; as srun steps of this Slurm allocation."""
    early_stopping: bool = True
    """Stop a trial early if, at the same epoch, at least as many trials beat it as beat the median trial."""
    max_minutes: float | None = None
    """Stop the search after so long; running trials are saved, and --resume goes on with them. Exit code 75."""
    trial_minutes: float | None = None
    """A trial that takes longer has failed."""
    resume: bool = False
    """Go on from what `out` holds, if anything."""
    guided: Annotated[int, tyro.conf.Suppress] = 0
    """How many latents the auxiliary variables guide, as the data say; 0: not yet known, one each."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("processes", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} = {getattr(self, name)}; allowed: at least {least}")
        for name in ("max_evals", "workers", "max_minutes", "trial_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} = {value}; allowed: above 0")
        if not self.aux:
            raise InputError("aux is empty; allowed: one or more factor names, whose LDS is one of the two objectives")
        if self.grid and self.vary:
            raise InputError(f"grid = {self.grid} and vary = {' '.join(self.vary)}; allowed: one of the two")
        if self.strategy == "grid" and not (self.grid or self.vary):
            raise InputError("strategy = grid needs --grid paper, or --vary NAME=VALUE,VALUE,... for each axis")
        if self.device not in _DEVICES:
            raise InputError(f"device = {self.device}; allowed: {', '.join(_DEVICES)}")
        space = self.space()
        if not space:
            raise InputError(f"{self.model}: no hyperparameter is left to search; allowed: --vary NAME=LOW:HIGH")
        check_space(space, self.train_config())
        if self.strategy == "grid":
            grid_points(space)

    def train_fields(self) -> dict[str, Any]:
        """Fields of TrainConfig that every trial has; `out` aside."""
        names = "data", "model", "aux", "objective", "split", "epochs", "seed", "device"
        own = {name: getattr(self, name) for name in names} | {"keep_last": 1}  # of thousands of trials
        return own | {"data": self.data.absolute()} | self.fixed()

    def fixed(self) -> Point:
        """Names and values of `fix`. Raises InputError where they are wrong."""
        return named_once("fix", map(parse_fixed, self.fix))

    def train_config(self) -> TrainConfig:
        """A trial as it would be without the search. Raises InputError where a fixed setting is wrong."""
        return TrainConfig(**self.train_fields())

    def decided(self) -> "SearchConfig":
        """With what the data decide, which a search that goes on keeps: how many latents the auxiliary variables guide,
        and an objective by name, printed where it is chosen."""
        if self.resume and (self.out / SETTINGS).exists():
            kept = SearchConfig.load(self.out)
            objective = kept.objective if self.objective == AUTO else self.objective
            return dataclasses.replace(self, objective=objective, guided=kept.guided)
        data, run, objective = open_set(self.data), self.train_config(), self.objective
        if objective == AUTO:
            choice = choose(data, run.split_seed, self.split)
            print(choice, flush=True)
            objective = cast(Any, choice.objective)
        guided = sum(len(guide.columns) for guide in guides_of(data, run.aux_names, run.labels))
        return dataclasses.replace(self, objective=objective, guided=guided)

    def space(self) -> Space:
        """The axes of the search. Raises InputError where they are wrong."""
        if self.vary:
            space = named_once("vary", map(parse_axis, self.vary))
        elif self.grid:
            grid = GRIDS[self.grid]
            boxes: Space = {name: Interval(min(values), max(values), log=True) for name, values in grid.items()}
            space = dict(grid) if self.strategy == "grid" else boxes
        else:
            space = declared_space(self.train_config(), self.guided)
        fixed = self.fixed().keys()
        if self.vary and fixed & space.keys():
            raise InputError(f"{', '.join(fixed & space.keys())}: both in vary and in fix; allowed: one of the two")
        return {name: axis for name, axis in space.items() if name not in fixed}

    def first(self) -> Point | None:
        """The objective's own setting, where the space holds it: the first trial of cbo and random."""
        own, space = self.train_config(), self.space()
        if own.resolved_objective.dependence_tolerance is not None and "lambda2" in space:
            return None  # which has no weight
        values = {name: getattr(own.resolved_objective, name, getattr(own, name)) for name in space}
        return values if contains(space, values) else None

    @property
    def trials(self) -> int:
        """How many trials the search is to have; no more than there are points."""
        points = size(self.space())
        return int(min(self.max_evals or (points if self.strategy == "grid" else 40), points))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; the data are named so that they are found from any folder."""
        fields = {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}
        fields["data"] = str(self.data.absolute())
        return json.loads(json.dumps(fields))

    @classmethod
    def load(cls, folder: Path) -> "SearchConfig":
        """The settings of a search. Raises InputError where the folder holds none, or they are damaged."""
        try:
            saved = json.loads((folder / SETTINGS).read_text())["settings"]
            paths = {"data": Path(saved["data"]), "out": folder}
            return cls(**saved | paths | {"vary": tuple(saved["vary"]), "fix": tuple(saved["fix"])})
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{folder}: holds no search (no {SETTINGS})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder / SETTINGS}: damaged, or of another version of hpcauxvae: {error!r}; allowed: the file that "
                "the search wrote"
            ) from error

    def check_same(self, saved: "SearchConfig") -> None:
        """Raises InputError where the search in the folder was another one."""
        now, then = self.to_json(), saved.to_json()
        for name in now:
            if name not in MAY_CHANGE and now[name] != then[name]:
                raise InputError(f"{self.out}: the search there has {name} = {then[name]}, now {now[name]}")
