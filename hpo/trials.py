"""A trial: a real training as a process of its own, watched, stopped early if it is bad, never let go of.

The run folder of a trial is that of `hpcauxvae train`: it can be evaluated, resumed and looked at by itself.
"""

import dataclasses
import errno
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcauxvae.runtime.children import Child, end_all, environment, only_gpus
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError
from hpo.logbook import Row, State
from hpo.problem import Objectives, Point
from hpo.stopping import best_so_far, judge, read_curve, rungs

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_ASKED: "Verdict" = ("interrupted", "the search was asked to stop")

Verdict = tuple[State, str]
"""What a trial becomes, and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials of a search have in common; travels to MPI ranks."""

    out: Path
    """Folder of the search."""
    mark: str
    """Begins the marks of the search's processes."""
    fields: Mapping[str, Any]
    """Fields of TrainConfig that are not searched; a trial's `out` is its own."""
    processes: int
    """Processes of each trial."""
    early_stopping: bool
    trial_minutes: float | None
    """A trial that takes longer has failed; the time of earlier sessions does not count."""
    deadline: float | None = None
    """Seconds since 1970, when the search stops; the ranks of MPI hear of it in no other way."""

    @property
    def is_over(self) -> bool:
        """Whether the search's time is up."""
        return self.deadline is not None and time.time() > self.deadline

    def run_folder(self, trial: int) -> Path:
        """The run of a trial."""
        return self.out / "trials" / f"{trial:04}"

    def log_file(self, trial: int) -> Path:
        """Everything that a trial printed."""
        return self.out / "logs" / f"{trial:04}.log"

    def config(self, trial: int, point: Point) -> TrainConfig:
        """The training of a trial. Raises InputError where the point cannot be trained."""
        return TrainConfig(**{**self.fields, **point, "out": self.run_folder(trial), "resume": "auto"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """What a worker may use."""

    name: str
    """Number of the worker on its host."""
    gpus: tuple[str, ...] = ()
    """Names of its GPUs; none where there are no GPUs."""
    threads: int = 1
    """Of each process of a trial."""
    srun: tuple[str, ...] = ()
    """The srun command, but for the program, where trials are steps of a Slurm allocation."""


def command(setup: Setup, point: Point, trial: int, slot: Slot) -> list[str]:
    """The command of a trial."""
    program = ["-m", "hpcauxvae.train", *setup.config(trial, point).arguments()]
    if slot.srun:
        return [*slot.srun, f"--job-name={_step_name(trial)}", sys.executable, *program]
    if setup.processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={setup.processes}"]
        return [sys.executable, *launcher, *program]
    return [sys.executable, *program]


def trial_environment(setup: Setup, trial: int, slot: Slot) -> dict[str, str]:
    """The environment of a trial: its share of the machine, its mark, nothing of the search's own launcher."""
    own = environment(f"{setup.mark}{trial}/", launched=bool(slot.srun))
    given = own.get("OMP_NUM_THREADS", "")  # of a person, or of PBS, which sets it to all cores of the node's chunk
    threads = given if given.isdigit() and int(given) < slot.threads else str(slot.threads)
    return own | {"OMP_NUM_THREADS": threads} | (only_gpus(slot.gpus) if slot.gpus else {})


class Referee:
    """Looks at a trial while it runs, and decides that it has to stop."""

    def __init__(self, setup: Setup, trial: int, stopping: Callable[[], bool]) -> None:
        self.setup, self.trial, self.stopping = setup, trial, stopping
        self.ends = time.monotonic() + 60 * setup.trial_minutes if setup.trial_minutes else None
        passed = max(read_curve(setup.run_folder(trial)), default=0)  # by a trial that goes on after an interruption
        self.rungs_left = [e for e in rungs(setup.fields["epochs"]) if e > passed] if setup.early_stopping else []
        self.seen: list[dict[str, Any]] = []

    def verdict(self) -> Verdict | None:
        """None while the trial may go on."""
        if self.stopping() or self.setup.is_over:
            return _ASKED
        if self.ends and time.monotonic() > self.ends:
            return "failed", f"time: no end after {self.setup.trial_minutes:g} minutes"
        if self.rungs_left:
            curve = read_curve(self.setup.run_folder(self.trial))
            while self.rungs_left and self.rungs_left[0] in curve:
                epoch = self.rungs_left.pop(0)
                if not curve[epoch].finite:
                    continue
                judged = judge(best_so_far(curve, epoch), self._others(epoch))
                self.seen.append({"epoch": epoch, **curve[epoch]._asdict(), **judged})
                if not judged["goes_on"]:
                    median = f"the median trial by {judged['median']:g}"
                    return "stopped", f"beaten by {judged['beaten_by']} of {judged['of']} at epoch {epoch}, {median}"
        return None

    def _others(self, epoch: int) -> list[Objectives]:
        own = self.setup.run_folder(self.trial)
        curves = [read_curve(run) for run in sorted(own.parent.iterdir()) if run != own]
        return [best_so_far(curve, epoch) for curve in curves if epoch in curve]

    def follow(self, child: Child) -> Verdict | None:
        """Waits until the trial ends by itself, or has to stop, and then asks it to and gives it time to save."""
        looked = -_LOOK_SECONDS
        while child.code is None:
            if time.monotonic() - looked >= _LOOK_SECONDS:
                looked = time.monotonic()
                if verdict := self.verdict():
                    end_all([child])
                    return verdict
            time.sleep(_POLL_SECONDS)
        return self._stopped_from_above(child)

    def _stopped_from_above(self, child: Child) -> Verdict | None:
        """Whether a trial that ended by itself did so for the signal that the search is just about to hear as well.

        A batch system sends it to all processes of a job.
        """
        ends = time.monotonic() + _LOOK_SECONDS
        while child.code != 0 and time.monotonic() < ends:
            if self.stopping():
                return _ASKED
            time.sleep(_POLL_SECONDS)
        return None


def run_trial(setup: Setup, trial: int, point: Point, slot: Slot, stopping: Callable[[], bool]) -> Row:
    """Runs a trial to its end and says what came of it; never raises for what the trial does.

    Raises InputError where the disk is full, for the search cannot go on then.
    """
    started = time.time()
    try:
        ended = _run_trial(setup, trial, point, slot, stopping)
    except Exception as error:  # no trial, whatever lies in its folder, ends a search of a week
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{setup.log_file(trial)}: cannot be written: {error}") from error
        reason = f"{type(error).__name__}: {error}"
        ended = {"state": "failed", "reason": reason, "objectives": None, "epochs": 0, "rungs": []}
    worker = f"{socket.gethostname()}/{slot.name}"
    return Row(trial=trial, point=point, started=started, ended=time.time(), worker=worker, **ended)


def _run_trial(
    setup: Setup, trial: int, point: Point, slot: Slot, stopping: Callable[[], bool]
) -> dict[str, Any]:  # fields of Row
    referee = Referee(setup, trial, stopping)
    words = command(setup, point, trial, slot)
    shown = f"{shlex.join(words)}  # {time.strftime('%F %T')}"
    child = Child(words, setup.log_file(trial), trial_environment(setup, trial, slot), shown=shown)
    try:
        verdict = referee.follow(child)
    finally:
        if child.end() < 0 and slot.srun:
            cancel_steps(trial)
    return _outcome(setup, trial, child, verdict) | {"rungs": referee.seen}


def _step_name(trial: int) -> str:
    return f"trial-{trial:04}"


def cancel_steps(trial: int) -> None:
    """Ends the steps of a trial: they outlive an srun that was killed, perhaps on another node."""
    if "SLURM_JOB_ID" not in os.environ or not shutil.which("squeue"):
        return
    listed = ["squeue", "--steps", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%i %j"]
    for line in subprocess.run(listed, capture_output=True, text=True).stdout.splitlines():
        step, _, found = line.partition(" ")
        if found.strip() == _step_name(trial):
            subprocess.run(["scancel", step], capture_output=True)


def _outcome(setup: Setup, trial: int, child: Child, verdict: Verdict | None) -> dict[str, Any]:
    curve = read_curve(setup.run_folder(trial))
    epochs = max(curve, default=0)
    objectives = curve.get(epochs)
    is_whole = epochs == setup.fields["epochs"] and objectives is not None
    state, reason = verdict or ("finished" if child.code == 0 and is_whole else "failed", "")
    if is_whole and state != "failed":  # also where it was done before it heard that it should stop
        state, reason = "finished", ""
    if state == "failed" and not reason:
        reason = child.why()
    if state in ("finished", "stopped") and (objectives is None or not objectives.finite):
        state, reason = "failed", f"objectives at epoch {epochs} are not finite: {objectives}"
    objectives = None if state == "failed" else objectives
    return {"state": state, "reason": reason, "objectives": objectives, "epochs": epochs}
