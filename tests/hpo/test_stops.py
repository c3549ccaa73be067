"""What stops a search or a trial: time, on every rank of MPI; a logbook that cannot be written; a failed seed."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.searches import arguments, command_line, lines, own_processes, until
from hpcauxvae.runtime import stop_requests
from hpcauxvae.runtime.stop_requests import MORE_TO_DO
from hpcauxvae.types import InputError
from hpo import best, pools, trials
from hpo.command import BestConfig
from hpo.logbook import Logbook, Row
from hpo.pools import threads_of
from hpo.problem import Objectives, Point
from hpo.search import main
from hpo.settings import SearchConfig
from hpo.stopping import read_curve
from hpo.trials import Setup, Slot

MPIRUN = Path(sys.executable).with_name("mpirun")


@pytest.fixture
def calm() -> Iterator[None]:
    yield
    pools.STOP.clear()


@pytest.fixture
def on_ranks() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a search by two workers, which ends with the test."""
    started = []

    def start(*given: object) -> "subprocess.Popen[str]":
        command = [str(MPIRUN), "-n", "3", sys.executable, "-c", PROGRAM, *map(str, given)]
        own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own))
        return started[-1]

    yield start
    for process in started:
        process.kill()  # of which the ranks' minders hear
        process.wait()


TRAINING = """
import itertools, json, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
run.mkdir(parents=True, exist_ok=True)
scores = {"mse": 1e-6, "lds": 0.5, "lds_attainable": 0.9}
with open(run / "metrics.jsonl", "a") as file:
    for epoch in itertools.count(1):
        print(json.dumps({"epoch": epoch, "validation": scores}), file=file, flush=True)
        time.sleep(0.05)
"""

PROGRAM = f"""
import sys
from hpcauxvae.cli import run
from hpo import trials
from hpo.search import main
TRAINING = {TRAINING!r}
trials.command = lambda setup, _, trial, slot: [sys.executable, "-c", TRAINING, str(setup.run_folder(trial))]
run(main)
"""
"""A search whose trials do nothing but write epochs for ever."""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside python")
def test_time_and_failure_of_the_first_rank_reach_the_trials_of_the_others(data, tmp_path, on_ranks):
    """--max-minutes stops running trials; where the logbook cannot be written, they end too, with exit code 2."""
    out = tmp_path / "search"
    axes = ["--strategy", "grid", "--vary", "beta=1,2", "--epochs", 1_000_000, "--no-early-stopping", "--resume"]
    search = on_ranks(*arguments(data, out, *axes, "--max-minutes", 0.05))
    printed = search.communicate(timeout=240)[0]
    assert search.returncode == 75, printed
    assert set(Logbook(out).running) == {0, 1}, "interrupted, not failed"
    assert not own_processes(out)

    runs = [out / "trials" / name for name in ("0000", "0001")]
    before = [len(lines(run)) for run in runs]
    search = on_ranks(*arguments(data, out, *axes))
    assert until(lambda: all(len(lines(run)) > n for run, n in zip(runs, before, strict=True)), 200)
    (out / "journal.jsonl").rename(tmp_path / "journal.jsonl")
    (out / "journal.jsonl").mkdir()
    victim = next(pid for pid in own_processes(tmp_path) if b"trials/0001" in command_line(pid))
    os.kill(victim, signal.SIGKILL)
    printed = search.communicate(timeout=200)[0]
    assert search.returncode == 2, printed
    assert "journal.jsonl: cannot be written" in printed
    assert not own_processes(tmp_path)


def test_a_failed_seed_stops_the_others_and_starts_no_further_one(data, tmp_path, monkeypatch, calm):
    """Seed 1 fails while seed 2 trains, and 3 perhaps; the others wait for a worker and never get one."""
    search = SearchConfig(data=data, out=tmp_path, aux="radius", strategy="random")
    seen: list[tuple[int, bool]] = []

    def run(setup, trial, point, slot, stopping):
        began = time.monotonic()
        while trial > 1 and not stopping() and time.monotonic() - began < 20:
            time.sleep(0.01)
        seen.append((trial, stopping()))
        return row(trial, "failed" if trial == 1 else "interrupted")

    monkeypatch.setattr(pools, "run_trial", run)
    before = set(threading.enumerate())  # other tests' too
    with pytest.raises(InputError, match="seed 1 of no avail; start again"):
        best.retrain(BestConfig(search=tmp_path, seeds=6, workers=2), search, row(0, "finished"))
    assert (2, True) in seen
    assert len(seen) <= 3, "one may have started before the failure was seen"
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("ThreadPool")]


def row(trial: int, state: str) -> Row:
    reason, objectives = ("of no avail", None) if state == "failed" else ("", Objectives(1e-6, 0.1))
    return Row(
        trial=trial, point={"beta": 1.0}, state=state, reason=reason, objectives=objectives, epochs=1, started=0.0,
        ended=1.0, worker="here/0", rungs=[],
    )  # fmt: skip


UNEVEN = """
import json, pathlib, sys, time
trial, run = int(sys.argv[1]), pathlib.Path(sys.argv[2])
while trial == 2:
    time.sleep(1)
scores = {"mse": 1e-6, "lds": float("nan") if trial == 1 else 0.5, "lds_attainable": 0.9}
run.mkdir(parents=True)
(run / "metrics.jsonl").write_text('{"cut by a k\\n' + json.dumps({"epoch": 1, "validation": scores}) + "\\n")
"""


@pytest.mark.processes
@pytest.mark.slow
def test_a_score_that_is_no_number_and_a_trial_that_hangs_are_failed_rows_among_others(
    data,
    tmp_path,
    monkeypatch,
    calm,
):
    def command(setup: Setup, point: Point, trial: int, slot: Slot) -> list[str]:
        return [sys.executable, "-c", UNEVEN, str(trial), str(setup.run_folder(trial))]

    monkeypatch.setattr(trials, "command", command)
    out = tmp_path / "search"
    settings = ["--strategy", "cbo", "--vary", "beta=0.1:10:log", "--epochs", 1, "--max-evals", 4, "--workers", 2]
    assert main(arguments(data, out, *settings, "--trial-minutes", 0.05)) == 0
    rows = {row.trial: row for row in Logbook(out).rows}
    assert [rows[trial].state for trial in range(4)] == ["finished", "failed", "failed", "finished"]
    assert "objectives at epoch 1 are not finite" in rows[1].reason and "nan" in rows[1].reason
    assert rows[2].reason == "time: no end after 0.05 minutes"
    assert 3 <= rows[2].ended - rows[2].started < 20
    assert "F_time: no end" in (out / "results.csv").read_text()
    assert not own_processes(out)


def test_ctrl_c_pressed_again_and_again_only_asks_a_search_to_stop(data, tmp_path, monkeypatch, calm):
    """Saving may take a minute, in which people press again."""
    monkeypatch.setattr(stop_requests, "_SAME_PRESS_S", 0.0)
    patient = "import os, signal; os.kill(os.getppid(), signal.SIGINT); os.kill(os.getppid(), signal.SIGINT); "
    patient += "import time; time.sleep(60)"
    monkeypatch.setattr(trials, "command", lambda *_: [sys.executable, "-c", patient])
    settings = ["--strategy", "random", "--vary", "beta=0.1:10:log", "--epochs", 1, "--max-evals", 2]
    assert main(arguments(data, tmp_path / "search", *settings)) == MORE_TO_DO
    assert not own_processes(tmp_path / "search")


def test_a_search_without_any_trial_that_finished_has_failed(data, tmp_path, monkeypatch, calm, capsys):
    monkeypatch.setattr(trials, "command", lambda *_: [sys.executable, "-c", "print('error: out of paper'); exit(3)"])
    settings = ["--strategy", "random", "--vary", "beta=0.1:10:log", "--epochs", 1, "--max-evals", 2]
    assert main(arguments(data, tmp_path / "search", *settings)) == 2
    assert "error: all 2 trials failed, the last one: exit code 3: error: out of paper" in capsys.readouterr().err
    assert (tmp_path / "search" / "report.html").exists()


def test_whatever_goes_wrong_with_a_trial_is_its_failed_row(tmp_path, monkeypatch):
    """A process that cannot be started, a signal without a name, a file of another trial that is not text."""
    setup = Setup(out=tmp_path, mark="m", fields={"epochs": 8}, processes=1, early_stopping=True, trial_minutes=None)
    damaged = setup.run_folder(0) / "metrics.jsonl"
    damaged.parent.mkdir(parents=True)
    scores = {"mse": 1e-6, "lds": 0.5, "lds_attainable": 0}
    line = json.dumps({"epoch": 1, "validation": scores}).encode()
    damaged.write_bytes(b"\xff\xfe\n" + line + b"\n" + line.replace(b": 0}", b": 1}") + b"\n")
    assert read_curve(damaged.parent) == {1: Objectives(1e-6, 0.5)}

    def row_of(*command: str) -> Row:
        monkeypatch.setattr(trials, "command", lambda *_: list(command))
        return trials.run_trial(setup, 1, {"beta": 1.0}, Slot(name="0"), lambda: False)

    assert row_of("/no/such/program").reason.startswith("FileNotFoundError")
    monkeypatch.setattr(trials, "Referee", lambda *_: {}["nothing"])
    assert row_of("true").reason == "KeyError: 'nothing'"
    monkeypatch.undo()
    named = row_of(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)")
    assert (named.state, named.reason) == ("failed", f"killed by signal {signal.SIGRTMIN + 3}")

    def full(*_: object) -> Row:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trials, "_run_trial", full)
    with pytest.raises(InputError, match=r"0001.log: cannot be written: .*No space left"):
        row_of("true")


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not MPIRUN.exists(), reason="no mpirun beside python")
def test_what_one_rank_cannot_do_ends_all_of_them(data, tmp_path):
    """The others would wait for it until the job's time is over."""
    program = ["-n", "1", sys.executable, "-m", "hpo.search", *arguments(data, tmp_path / "x", "--processes", 2)]
    one_gpu = ["-n", "1", "env", "CUDA_VISIBLE_DEVICES=0", *program[2:]]
    own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [str(MPIRUN), *program, ":", *program, ":", *one_gpu], capture_output=True, text=True, timeout=120, env=own
    )
    assert done.returncode != 0
    said = "error: processes = 2 a trial for 1 GPUs; allowed: at most 1, or device cpu"
    assert (done.stdout + done.stderr).count(said) == 1


@pytest.mark.parametrize(
    ("own", "workers", "processes", "threads"),
    [
        ({0, 1, 2, 3}, [{0, 1, 2, 3}, {4, 5, 6, 7}], 1, 4),  # PALS: --cpu-bind depth --depth 4
        ({0, 1, 2, 3}, [{0, 1, 2, 3}, {4, 5, 6, 7}], 2, 2),
        (set(range(8)), [set(range(8))] * 4, 1, 2),  # all the same
        ({0, 1}, [{0, 1}, {0, 1}, {2, 3}], 1, 1),  # one socket for two ranks
        ({0}, [{0}] * 3, 2, 1),
    ],
)
def test_a_rank_with_its_own_cores_shares_them_with_nobody(own, workers, processes, threads):
    assert threads_of(own, workers, processes) == threads
