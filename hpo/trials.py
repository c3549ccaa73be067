"""One trial: a real training as a process of its own, watched, stopped early if it is bad, never let go of.

The run folder of a trial is that of `hpcauxvae train`: it can be evaluated, resumed and looked at by itself.
"""

import contextlib
import dataclasses
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcauxvae.types import InputError
from hpo.journal import Row, State
from hpo.problem import Objectives, Point
from hpo.processes import MARK, kill_marked
from hpo.stopping import best_so_far, judge, read_curve, rungs

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 1.0
GRACE_SECONDS = 60.0
"""From asking a trial to stop, at its next step, to killing it."""

# What another launcher, of the search itself, left in the environment: a trial would take it for its own.
_LAUNCHERS = re.compile(
    r"(PMI_|PMIX_|PALS_|OMPI_|MPI_LOCAL|MPIR_|HYDRA_|HYDI_|MPIEXEC_|TORCHELASTIC_)"
    r"|SLURM_(?!JOB_ID$|CONF$|RESTART_COUNT$)"
    r"|^(RANK|LOCAL_RANK|GROUP_RANK|ROLE_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE)$"
)
_MEETING = ("MASTER_ADDR", "MASTER_PORT")
"""Where the ranks of the search's own launcher meet; a trial runs elsewhere, also where it is a Slurm step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials of a search have in common; travels to MPI ranks."""

    out: Path
    """Folder of the search."""
    mark: str
    """Marks the processes of the search."""
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
    def over(self) -> bool:
        """Whether the search's time is up."""
        return self.deadline is not None and time.time() > self.deadline

    def run_folder(self, trial: int) -> Path:
        """The run of a trial."""
        return self.out / "trials" / f"{trial:04}"

    def log_file(self, trial: int) -> Path:
        """Everything that a trial printed."""
        return self.out / "logs" / f"{trial:04}.log"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
    """What one worker may use."""

    name: str
    """Number of the worker on its host."""
    gpus: tuple[str, ...] = ()
    """Names for CUDA_VISIBLE_DEVICES; none where there are no GPUs."""
    threads: int = 1
    """Of each process of a trial."""
    srun: tuple[str, ...] = ()
    """The srun command, but for the program, where trials are steps of a Slurm allocation."""


def train_arguments(fields: Mapping[str, Any]) -> list[str]:
    """Fields of TrainConfig as arguments of `hpcauxvae train`."""
    arguments = [str(fields["data"])]
    for name, value in fields.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments += [option] * value
        elif name != "data":
            arguments += [option, str(value)]
    return [*arguments, "--resume", "auto"]


def command(plan: Plan, point: Point, trial: int, slot: Slot) -> list[str]:
    """The command of a trial."""
    program = ["-m", "hpcauxvae.train", *train_arguments({**plan.fields, **point, "out": plan.run_folder(trial)})]
    if slot.srun:
        return [*slot.srun, f"--job-name={_step_name(trial)}", sys.executable, *program]
    if plan.processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={plan.processes}"]
        return [sys.executable, *launcher, *program]
    return [sys.executable, *program]


def _step_name(trial: int) -> str:
    return f"trial-{trial:04}"


def environment(plan: Plan, trial: int, slot: Slot) -> dict[str, str]:
    """The environment of a trial: its share of the machine, its mark, nothing of the search's own launcher."""
    own = {name: value for name, value in os.environ.items() if name not in _MEETING}
    if not slot.srun:
        own = {name: value for name, value in own.items() if not _LAUNCHERS.search(name)}
    own[MARK] = f"{plan.mark}/{trial}/"
    own.setdefault("OMP_NUM_THREADS", str(slot.threads))
    if slot.gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
    return own


class Watch:
    """Looks at a trial while it runs, and decides that it has to stop."""

    def __init__(self, plan: Plan, trial: int, stopping: Callable[[], bool]) -> None:
        self.plan, self.trial, self.stopping = plan, trial, stopping
        self.ends = time.monotonic() + 60 * plan.trial_minutes if plan.trial_minutes else None
        passed = max(read_curve(plan.run_folder(trial)), default=0)  # by a trial that goes on after an interruption
        self.rungs_left = [e for e in rungs(plan.fields["epochs"]) if e > passed] if plan.early_stopping else []
        self.seen: list[dict[str, Any]] = []

    def verdict(self) -> tuple[State, str] | None:
        """None while the trial may go on, else what it becomes and why."""
        if self.stopping() or self.plan.over:
            return "interrupted", "the search was asked to stop"
        if self.ends and time.monotonic() > self.ends:
            return "failed", f"time: no end after {self.plan.trial_minutes:g} minutes"
        if self.rungs_left:
            curve = read_curve(self.plan.run_folder(self.trial))
            while self.rungs_left and self.rungs_left[0] in curve:
                epoch = self.rungs_left.pop(0)
                if not curve[epoch].finite:
                    continue
                judged = judge(best_so_far(curve, epoch), self._others(epoch))
                judged = {"epoch": epoch, **curve[epoch]._asdict(), **judged}
                self.seen.append(judged)
                if not judged["goes_on"]:
                    median = f"the median trial by {judged['median']:g}"
                    return "stopped", f"beaten by {judged['beaten_by']} of {judged['of']} at epoch {epoch}, {median}"
        return None

    def _others(self, epoch: int) -> list[Objectives]:
        own = self.plan.run_folder(self.trial)
        curves = [read_curve(run) for run in sorted(own.parent.iterdir()) if run != own]
        return [best_so_far(curve, epoch) for curve in curves if epoch in curve]


def run_trial(plan: Plan, trial: int, point: Point, slot: Slot, stopping: Callable[[], bool]) -> Row:
    """Runs a trial to its end and says what came of it; never raises for what the trial does.

    Raises InputError where the disk is full, for the search cannot go on then.
    """
    started = time.time()
    try:
        state, reason, objectives, epochs, rungs = _run_trial(plan, trial, point, slot, stopping)
    except Exception as error:  # no trial, whatever lies in its folder, ends a search of a week
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{plan.log_file(trial)}: cannot be written: {error}") from error
        state, reason, objectives, epochs, rungs = "failed", f"{type(error).__name__}: {error}", None, 0, []
    return Row(
        trial=trial,
        point=point,
        state=state,
        reason=reason,
        objectives=objectives,
        epochs=epochs,
        started=started,
        ended=time.time(),
        worker=f"{socket.gethostname()}/{slot.name}",
        rungs=rungs,
    )


def _run_trial(
    plan: Plan, trial: int, point: Point, slot: Slot, stopping: Callable[[], bool]
) -> tuple[State, str, Objectives | None, int, list[dict[str, Any]]]:
    watch = Watch(plan, trial, stopping)
    own = environment(plan, trial, slot)
    plan.log_file(trial).parent.mkdir(parents=True, exist_ok=True)
    with open(plan.log_file(trial), "a") as log:
        log.write(f"{time.strftime('%F %T')} {' '.join(command(plan, point, trial, slot))}\n")
        log.flush()
        process = subprocess.Popen(
            command(plan, point, trial, slot),
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            verdict = _follow(process, watch) or _stopped_from_above(process.returncode, stopping)
        finally:
            _end(process, own[MARK])
            if slot.srun and process.returncode < 0:
                cancel_steps(trial)
    return *_outcome(plan, trial, process.returncode, verdict), watch.seen


def _follow(process: "subprocess.Popen[bytes]", watch: Watch) -> tuple[State, str] | None:
    """Waits for the end; where the watch wants it, asks the trial to stop and gives it time to save."""
    looked = -_LOOK_SECONDS
    while process.poll() is None:
        if time.monotonic() - looked >= _LOOK_SECONDS:
            looked = time.monotonic()
            if verdict := watch.verdict():
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):  # killed by what comes next
                    process.wait(GRACE_SECONDS)
                return verdict
        time.sleep(_POLL_SECONDS)
    return None


def _stopped_from_above(code: int, stopping: Callable[[], bool]) -> tuple[State, str] | None:
    """Whether a trial that ended by itself did so for the signal that the search is just about to hear as well.

    A batch system sends it to all processes of a job.
    """
    ends = time.monotonic() + _LOOK_SECONDS
    while code != 0 and time.monotonic() < ends:
        if stopping():
            return "interrupted", "the search was asked to stop"
        time.sleep(_POLL_SECONDS)
    return None


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """Whatever is left of a trial, its launcher's orphans included, ends here."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill_marked(mark)


def cancel_steps(trial: int) -> None:
    """A step of this job outlives an srun that was killed, perhaps on another node."""
    if "SLURM_JOB_ID" not in os.environ or not shutil.which("squeue"):
        return
    listed = ["squeue", "--steps", "--noheader", f"--jobs={os.environ['SLURM_JOB_ID']}", "--format=%i %j"]
    for line in subprocess.run(listed, capture_output=True, text=True).stdout.splitlines():
        step, _, found = line.partition(" ")
        if found.strip() == _step_name(trial):
            subprocess.run(["scancel", step], capture_output=True)


def _outcome(
    plan: Plan, trial: int, code: int, verdict: tuple[State, str] | None
) -> tuple[State, str, Objectives | None, int]:
    curve = read_curve(plan.run_folder(trial))
    epochs = max(curve, default=0)
    objectives = curve.get(epochs)
    whole = epochs == plan.fields["epochs"] and objectives is not None
    state, reason = verdict or ("finished" if code == 0 and whole else "failed", "")
    if whole and state != "failed":  # also one that was done before it heard that it should stop
        state, reason = "finished", ""
    if state == "failed" and not reason:
        reason = _why(code, plan.log_file(trial))
    if state in ("finished", "stopped") and (objectives is None or not objectives.finite):
        state, reason = "failed", f"objectives at epoch {epochs} are not finite: {objectives}"
    return state, reason, None if state == "failed" else objectives, epochs


def _why(code: int, log: Path) -> str:
    """The reason of a failure in a line: the signal, or the last line of the log that tells of an error."""
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"killed by {known.get(-code, f'signal {-code}')}"
    lines = [line.strip(" │╭╮╰╯─") for line in log.read_text(errors="replace").splitlines()]
    telling = [line for line in lines if re.search(r"error:|Error\b|Diverged|OutOfMemory|[Kk]illed|signal", line)]
    root = [line for line in telling if not line.startswith(("[E", "[W", "torch.distributed.elastic", "E1"))]
    last = (root or telling or list(filter(None, lines)) or ["nothing was printed"])[-1]
    return f"exit code {code}: {last[:300]}"
