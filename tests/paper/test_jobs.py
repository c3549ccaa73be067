"""Processes of the paper command: their order, those that fail, and what a kill leaves."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.paper import command
from hpcauxvae.paper.jobs import Failed, Job, alone_in, run
from hpcauxvae.paper.make import Maker
from hpcauxvae.runtime.children import cores
from hpcauxvae.types import InputError

STEPS = """
import os, sys, time
from pathlib import Path
def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
def main(arguments):
    match arguments:
        case ["write", path]:
            Path(path).write_text(os.environ["OMP_NUM_THREADS"])
        case ["wait", other, path]:
            while not Path(other).exists():
                time.sleep(0.02)
            Path(path).touch()
        case ["outlive", pid, path]:
            while not Path(pid).exists() or not gone(int(Path(pid).read_text() or 0)):
                time.sleep(0.02)
            time.sleep(0.3)
            Path(path).touch()
        case ["pid", path]:
            Path(path).write_text(str(os.getpid()))
        case ["sleep", path]:
            Path(path).write_text(str(os.getpid()))
            time.sleep(60)
        case ["warn", words]:
            print("loss 1.0\\nwarning:", words, file=sys.stderr)
        case ["fail", code]:
            print("error: this went wrong")
            return int(code)
        case ["die"]:
            os.kill(os.getpid(), 9)
    return 0
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of the command `steps`, which Python adds to the others as it starts there."""
    (tmp_path / "steps.py").write_text(STEPS)
    program = "from hpcauxvae import cli\ncli.COMMANDS['steps'] = ('steps', 'what a test does')\n"
    (tmp_path / "sitecustomize.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return tmp_path


def job(name: str, *commands: list[str]) -> Job:
    return Job(name, [["steps", *words] for words in commands])


def gone(pid: int, within: float = 10.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_jobs_run_in_order_with_their_share_of_the_cores(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job("a", ["write", f"{steps}/1"], ["write", f"{steps}/2"]), job("b", ["write", f"{steps}/3"])]
    with alone_in(steps) as lock:
        run(jobs, 1, steps / "logs", lock)
    assert [(steps / name).read_text() for name in "123"] == [str(cores())] * 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"hpcauxvae steps write {steps}/1", f"hpcauxvae steps write {steps}/2"]
    assert lines[2].startswith("done: a,") and lines[3] == f"hpcauxvae steps write {steps}/3"
    assert (steps / "logs" / "b.txt").read_text() == f"$ hpcauxvae steps write {steps}/3\n"


@pytest.mark.parametrize("code", ["1", "75"])
def test_a_failure_is_named_and_the_others_go_on(steps: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    """Also one that runs beside it and ends after it, and one that waits; not the command that follows in its job."""
    jobs = [
        job("a", ["write", f"{steps}/1"], ["fail", code], ["write", f"{steps}/never"]),
        job("beside", ["wait", f"{steps}/2", f"{steps}/3"]),
        job("later", ["write", f"{steps}/2"]),
    ]
    words = rf"hpcauxvae steps fail {code}: exit code {code}: error: this went wrong \(all of it in .*a.txt\)"
    with alone_in(steps) as lock, pytest.raises(Failed, match=f"^{words}$") as raised:
        run(jobs, 2, steps / "logs", lock)
    assert raised.value.code == int(code)
    assert (steps / "3").exists() and not (steps / "never").exists()
    said = capsys.readouterr().out
    assert re.search(rf"^failed: {words}; 1 to go$", said, re.M), "said at once: the others may take hours"
    assert set(re.findall(r"^done: (\w+),", said, re.M)) == {"later", "beside"}


def test_warnings_are_seen_and_not_only_logged(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of this start: the log has earlier ones, too."""
    with alone_in(steps) as lock:
        run([job("a", ["warn", "180 of 183 cars"])], 1, steps / "logs", lock)
        assert capsys.readouterr().err == "warning: 180 of 183 cars\n"
        run([job("a", ["write", f"{steps}/1"]), job("b", ["warn", "β"])], 1, steps / "logs", lock)
    assert capsys.readouterr().err == "warning: β\n"


def test_every_failure_is_named(steps: Path) -> None:
    jobs = [job("a", ["fail", "1"]), job("b", ["write", f"{steps}/1"]), job("c", ["die"]), job("d", ["fail", "2"])]
    with alone_in(steps) as lock, pytest.raises(Failed) as raised:
        run(jobs, 1, steps / "logs", lock)
    logs = steps / "logs"
    assert str(raised.value).splitlines() == [
        "3 of 4 jobs failed:",
        f"hpcauxvae steps fail 1: exit code 1: error: this went wrong (all of it in {logs}/a.txt)",
        f"hpcauxvae steps die: killed by SIGKILL (all of it in {logs}/c.txt)",
        f"hpcauxvae steps fail 2: exit code 2: error: this went wrong (all of it in {logs}/d.txt)",
    ]
    assert raised.value.code == 1


@pytest.mark.parametrize("beside", ["done", "failed"])
def test_after_bad_input_what_runs_comes_to_its_end_and_no_more_is_begun(steps: Path, beside: str) -> None:
    jobs = [job("a", ["pid", f"{steps}/pid"], ["fail", "2"]), job("b", ["outlive", f"{steps}/pid", f"{steps}/1"])]
    if beside == "failed":
        jobs[1].commands.append(["steps", "fail", "2"])
    with alone_in(steps) as lock, pytest.raises(InputError) as raised:
        run([*jobs, *(job(name, ["write", f"{steps}/never"]) for name in "cde")], 2, steps / "logs", lock)
    ends = [f"hpcauxvae steps fail 2: exit code 2: error: this went wrong (all of it in {steps}/logs/a.txt)"]
    if beside == "failed":
        ends = ["2 of 5 jobs failed:", *ends, ends[0].replace("a.txt", "b.txt")]
    assert str(raised.value).splitlines() == [*ends, "3 more were not begun after exit code 2"]
    assert (steps / "1").exists() and not (steps / "never").exists()


def test_when_one_data_file_fails_the_others_are_made_and_no_training_is_begun(
    steps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = [
        [job("data", ["fail", "1"]), job("other", ["write", f"{steps}/1"])],
        [job("run", ["write", f"{steps}/never"])],
    ]
    monkeypatch.setattr(Maker, "_data_phases", lambda *_: phases[:1])
    monkeypatch.setattr(Maker, "_training_phases", lambda *_: phases[1:])
    assert command.main(["fig9", "--small", "--runs", str(steps), "--jobs", "1"]) == 1
    assert capsys.readouterr().err.startswith("error: hpcauxvae steps fail 1: exit code 1: error: this went wrong")
    assert (steps / "1").exists() and not (steps / "never").exists()


PROGRAM = """
import sys
from pathlib import Path
from hpcauxvae.paper.jobs import Job, alone_in, run
folder = Path(sys.argv[1])
with alone_in(folder) as lock:
    run([Job("sleeper", [["steps", "sleep", str(folder / "pid")]])], 1, folder / "logs", lock)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="marks are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_kill(steps: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(steps)], stdout=subprocess.DEVNULL)
    while not (steps / "pid").exists() or not (steps / "pid").read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    process.wait(20)
    assert gone(int((steps / "pid").read_text()))
    with alone_in(steps):
        pass


def test_the_second_start_waits_for_the_first(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the first was killed and only what it had started is left: that holds the lock."""
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); time.sleep(1)"
    process = subprocess.Popen([sys.executable, "-c", holder, steps / ".lock"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with alone_in(steps):
        assert process.wait(0.5) == 0
    assert "waiting for another start of this command" in capsys.readouterr().out
