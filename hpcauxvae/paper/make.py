"""Makes what the items lack: data files, trainings, evaluations, in this order; what is there is left as it is.

Killed at any moment, the same command goes on. A data file stands under its name only when it is whole, a training goes
on from its last checkpoint, and an evaluation writes metrics.json last.
"""

import dataclasses
import importlib.util
import itertools
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.models.objectives import FIXED
from hpcauxvae.paper.beyond import NoneTaken, diverged, taken
from hpcauxvae.paper.experiments import TRIED, Data, Experiment
from hpcauxvae.paper.jobs import Failed, Job, alone_in, run
from hpcauxvae.paper.runs import CONFIG, METRICS, PRECISION, codes_path, decisive
from hpcauxvae.runtime.children import threads_each
from hpcauxvae.runtime.stop_requests import FINISHED
from hpcauxvae.train.checkpoint import LAST
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.loop import STATUS
from hpcauxvae.types import InputError

_IMAGES = 16_384
"""Of the fresh galaxies whose pixels are compared; all their codes are scored."""
SEED, FRESH_SEED = 7, 8
"""Of the simulated galaxies; those of the demo."""


FULL = {"galaxies": 16_384, "fresh": 131_072, "dsprites": 50_000}
SMALL = {"galaxies": 240, "fresh": 240, "dsprites": 240}
"""Samples of each data file; no training sees `fresh`. Of Cars3D all, or SMALL_CARS."""
SMALL_CARS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes experiments in a folder."""

    runs: Path
    cars3d: Path | None
    """The original Cars3D; without it, and without the data file, its experiments are left out."""
    dsprites: Path | None
    """The published archive; without it the pictures are drawn."""
    jobs: int
    small: bool
    bf16: bool = False
    """Train in bfloat16."""
    drawn: tuple[Experiment, ...] | None = None
    """Whose weights and images are needed, and not the scores alone; None: everyone's."""

    @property
    def data(self) -> Path:
        """Folder of the data files."""
        return self.runs / "data"

    def make(self, experiments: Sequence[Experiment], dry: bool) -> list[Experiment]:
        """Makes what is missing, or says what would be made; returns the experiments that could be.

        What fails of the trainings is raised when all others are through; a trial that diverged is no failure. Raises
        InputError where a run folder holds another training than its experiment, and what jobs.run raises.
        """
        possible = [experiment for experiment in experiments if experiment.data != "cars3d" or self._has_cars()]
        if left := len(experiments) - len(possible):
            print(f"Cars3D: skipped, {left} runs: no --cars3d PATH, the folder of its .mat files")
        if dry:
            phases = itertools.chain(self._data_phases(possible), self._training_phases(possible))
            for line in (line for phase in phases for job in phase for line in job.lines()):
                print(line)
            possible = self._without_hopeless(possible)
            if waiting := sum(self._waits(experiment) for experiment in possible):
                print(f"then {waiting} trainings, each with the weight that trials choose")
            finished = sum(self.stage(experiment) == "done" for experiment in possible)
            print(f"{len(possible)} runs are needed, {finished} of them are finished; nothing was made")
            return possible
        self.data.mkdir(parents=True, exist_ok=True)
        with alone_in(self.runs) as lock:
            for part in self.data.glob(".*.part"):  # of a process that was killed as it wrote
                part.unlink()
            for phase in self._data_phases(possible):
                run(phase, self.jobs, self.runs / "logs", lock)
            failures = []
            for phase in self._training_phases(possible):
                try:
                    run(phase, self.jobs, self.runs / "logs", lock)
                except Failed as error:
                    failures.append(error)
        possible = self._without_hopeless(possible)
        if failures and self._todo(possible):
            raise Failed("\n".join(map(str, failures)), failures[0].code)
        return possible

    def _data_phases(self, experiments: list[Experiment]) -> Iterator[list[Job]]:
        """The data files that are missing; each phase needs that before it."""
        todo = self._todo(experiments)
        yield from self._data_jobs(
            {experiment.data for experiment in experiments if experiment in todo or self._drawn(experiment)}
        )

    def _training_phases(self, experiments: list[Experiment]) -> Iterator[list[Job]]:
        """The runs that are missing; the second phase is looked at when the first is done, which chooses weights."""
        waiting = [experiment for experiment in experiments if self._waits(experiment)]
        yield self._run_jobs(self._todo([experiment for experiment in experiments if experiment not in waiting]))
        yield self._run_jobs(self._todo([experiment for experiment in waiting if not self._waits(experiment)]))

    def _todo(self, experiments: Sequence[Experiment]) -> "dict[Experiment, Stage]":
        some = [experiment for experiment in experiments if not self._hopeless(experiment)]
        return {experiment: stage for experiment in some if (stage := self.stage(experiment)) != "done"}

    def _chooses(self, experiment: Experiment) -> bool:
        """Whether it has the weight that trials choose."""
        return experiment.beyond and not experiment.is_trial

    def _waits(self, experiment: Experiment) -> bool:
        """Whether its weight is yet to be chosen."""
        if not self._chooses(experiment) or self._hopeless(experiment):
            return False
        return taken(self.runs, experiment, self.small) is None

    def _hopeless(self, experiment: Experiment) -> str:
        """Why its weight cannot be chosen; empty where it can, or has none to choose."""
        try:
            _ = self._chooses(experiment) and taken(self.runs, experiment, self.small)
        except NoneTaken as error:
            return str(error)
        return ""

    def _ran_away(self, experiment: Experiment) -> str:
        """That its training diverged, with the weight that was chosen; empty where it did not."""
        if not self._chooses(experiment) or not diverged(folder := self.runs / experiment.name):
            return ""
        return (
            f"{experiment.model} on {experiment.data}, {experiment.labels}, seed {experiment.seed}: diverged ({folder})"
        )

    def _without_hopeless(self, experiments: list[Experiment]) -> list[Experiment]:
        """Says what is left out."""
        reasons = {experiment: self._hopeless(experiment) or self._ran_away(experiment) for experiment in experiments}
        for reason in dict.fromkeys(filter(None, reasons.values())):
            print(f"warning: left out: {reason}", file=sys.stderr, flush=True)
        return [experiment for experiment in experiments if not reasons[experiment]]

    def _drawn(self, experiment: Experiment) -> bool:
        return self.drawn is None or experiment in self.drawn

    def _has_cars(self) -> bool:
        return self.cars3d is not None or self._path("cars3d").exists()

    def _path(self, name: str) -> Path:
        return self.data / f"{name}.h5"

    def _data_jobs(self, wanted: set[Data]) -> list[list[Job]]:
        """What makes the missing data files: first those that stand alone, then the noiseless draws of them."""
        sizes = SMALL if self.small else FULL
        first, second = [], []
        if "galaxies" in wanted:
            for name, n, seed in (("galaxies", sizes["galaxies"], SEED), ("fresh", sizes["fresh"], FRESH_SEED)):
                if not self._there(name, n):
                    first.append(self._simulation(name, "--n", str(n), "--seed", str(seed)))
                if not self._there(f"{name}-noiseless", n):
                    second.append(self._simulation(f"{name}-noiseless", "--like", str(self._path(name)), "--noiseless"))
        if "dsprites" in wanted and not self._there("dsprites", sizes["dsprites"]):
            words = ["--shapes", "ellipse", "--n", str(sizes["dsprites"])]
            words += ["--archive", str(self.dsprites)] if self.dsprites else []
            first.append(self._conversion("dsprites", words))
        if "cars3d" in wanted and not self._there("cars3d", None):
            assert self.cars3d is not None
            words = ["--cars", str(SMALL_CARS)] if self.small else []
            first.append(self._conversion("cars3d", words, str(self.cars3d)))
        return [first, second]

    def _there(self, name: str, n: int | None) -> bool:
        """Raises InputError where a file has another number of samples: it was made for something else."""
        path = self._path(name)
        if not path.exists():
            return False
        found = len(open_set(path))
        if n not in (None, found):
            raise InputError(f"{path}: {found} samples; allowed: {n}; remove it, or choose another folder by --runs")
        return True

    def _simulation(self, name: str, *words: str) -> Job:
        if importlib.util.find_spec("galsim") is None:
            raise InputError(
                f"{self._path(name)}: is missing, and galsim, which draws it, is not installed; "
                "`pip install 'hpcauxvae[simulate]'` mends it"
            )
        ranks = threads_each(self.jobs)
        own = Path(sys.executable).with_name("mpirun")
        mpirun = str(own) if own.exists() else shutil.which("mpirun")
        launcher = (mpirun, "-n", str(ranks)) if mpirun and ranks > 1 else ()
        return Job(name, [["simulate", str(self._path(name)), *words]], launcher)

    def _conversion(self, name: Data, words: list[str], *source: str) -> Job:
        return Job(name, [["data", name, *source, str(self._path(name)), *words]])

    def _run_jobs(self, todo: Mapping[Experiment, "Stage"]) -> list[Job]:
        """A process for each run; small runs share processes, for to start takes longer than to train them."""
        single = [Job(experiment.name, self._commands(experiment, stage)) for experiment, stage in todo.items()]
        if not self.small:
            return single
        shared = [single[start :: self.jobs] for start in range(self.jobs)]
        return [
            Job(f"part{number}", [command for job in jobs for command in job.commands])
            for number, jobs in enumerate(shared)
            if jobs
        ]

    def _commands(self, experiment: Experiment, stage: "Stage") -> list[list[str]]:
        config = self.config(experiment)
        evaluate = ["evaluate", str(config.out)]
        if experiment.data == "galaxies" and not experiment.is_trial:
            noiseless = [str(self._path(f"{name}-noiseless")) for name in ("galaxies", "fresh")]
            evaluate += ["--fresh", str(self._path("fresh")), "--noiseless", *noiseless, "--images", str(_IMAGES)]
        if self.small or experiment.is_trial:
            evaluate.append("--no-pictures")
        return [evaluate] if stage == "trained" else [["train", *config.arguments()], evaluate]

    def config(self, experiment: Experiment) -> TrainConfig:
        """What an experiment trains here."""
        config = experiment.config(self.runs, self.data, self.small, self.bf16)
        if not self._chooses(experiment):
            return config
        weight: dict[str, Any] = {TRIED[experiment.model][0]: taken(self.runs, experiment, self.small)}
        return dataclasses.replace(config, **weight)

    def stage(self, experiment: Experiment) -> "Stage":
        """How far an experiment is: a record of its scores, without weights, is enough where only scores are read.

        In which precision it was trained does not matter. Raises InputError, naming the field, where its folder holds
        another training.
        """
        config = self.config(experiment)
        saved = _read(config.out / CONFIG)
        if saved is None:
            return "missing"
        if not config.epochs:
            config = config.as_planned()
        was = _fields(decisive(TrainConfig.completed(saved, config.out)))
        free = PRECISION if config.model == "aux-vae" else (*PRECISION, *FIXED)  # of which no other model knows
        for field, value in _fields(json.loads(json.dumps(decisive(config.to_json())))).items():
            if field not in free and was.get(field) != value:
                raise InputError(
                    f"{config.out}: config {field} = {was.get(field)}, but the experiment {experiment.name} has "
                    f"{value}; remove the folder, or choose another by --runs"
                )
        if experiment.beyond and diverged(config.out):
            return "done"  # it would again
        metrics, status = _read(config.out / METRICS), _read(config.out / STATUS)
        trained = (config.out / LAST).exists() and status is not None and status["exit_code"] == FINISHED
        if metrics and metrics.get("epoch") == config.epochs and "sets" in metrics and _is_whole(experiment, metrics):
            # A record's scores are whole, whatever a training that began in its folder has left there since.
            codes = (codes_path(config.out, name) for name in metrics["sets"])
            if not self._drawn(experiment) or (trained and all(path.exists() for path in codes)):
                return "done"
        return "trained" if trained else "missing"


Stage = Literal["missing", "trained", "done"]


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    """Those of the objective beside the others."""
    return config | config.get("resolved_objective", {}) | {"resolved_objective": None}


def _is_whole(experiment: Experiment, metrics: dict[str, Any]) -> bool:
    return experiment.data != "galaxies" or experiment.is_trial or "fresh" in metrics["sets"]


def _read(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, or a kill left half of it."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content
