"""Kills a search in every way, for real, and looks at what is left.

    PYTHONPATH=tests python -m helpers.hpo_soak DATA.h5 [FOLDER]

DATA.h5 has the factors radius, g1, g2 (python -m hpcauxvae.simulate DATA.h5 --n 600). Each line printed is one fault,
what the search made of it, and whether a process or a row was lost. Not part of the suite: it takes minutes.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hpo.logbook import Logbook

SEARCH = ["-m", "hpo.search"]
COMMON = ["--aux", "radius,g1,g2", "--fix", "network=mlp", "--fix", "batch_size=64", "--no-early-stopping"]
SPACE = ["--strategy", "random", "--vary", "beta=0.1:10:log"]


def until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def processes(out: Path, what: str = "") -> list[int]:
    """Of this search, by command line or mark; `what` must be in the command line."""
    marks = [session["mark"].encode() for session in Logbook(out).sessions[-1:]] + [str(out).encode()]
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                line = (entry / "cmdline").read_bytes()
                if what.encode() in line and any(mark in line + (entry / "environ").read_bytes() for mark in marks):
                    found.append(int(entry.name))
    return found


class Case:
    """One search in one folder, started again and again."""

    def __init__(self, data: Path, folder: Path, name: str, launcher: list[str], *settings: str) -> None:
        self.name, self.out = name, folder / name
        program = [*SEARCH, str(data), "--out", str(self.out), *COMMON, *SPACE, *settings, "--resume"]
        self.command = [*launcher, sys.executable, *program]
        self.log = folder / f"{name}.log"

    def start(self) -> "subprocess.Popen[bytes]":
        with open(self.log, "ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=log)

    def training(self, trials: int) -> bool:
        """Waits until so many trials write epochs."""
        return until(lambda: len(list(self.out.glob("trials/*/metrics.jsonl"))) >= trials, 240)

    def left(self) -> str:
        """Processes of the search that are still there ten seconds later."""
        return "none left" if until(lambda: not processes(self.out), 10) else f"LEFT: {processes(self.out)}"

    def finish(self) -> str:
        """Resumes to the end and counts."""
        known, running = len(Logbook(self.out).rows), Logbook(self.out).running
        code = self.start().wait(600)
        after = Logbook(self.out)
        points = [tuple(row.point.items()) for row in after.rows]
        told = {row.trial: row.point for row in after.rows}
        kept = all(told.get(trial) == point for trial, point in running.items())
        states = [f"{row.state}{f' ({row.reason})' if row.reason else ''}" for row in after.rows]
        return (
            f"resumed: exit {code}, rows {known} -> {len(points)}, repeated {len(points) - len(set(points))}, "
            f"interrupted trials went on: {kept}; {', '.join(states)}; {self.left()}"
        )

    def say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)


def main(data: Path, folder: Path) -> None:
    settings = ["--epochs", "60", "--max-evals", "3"]
    case = Case(data, folder, "main-killed", [], *settings, "--workers", "2")
    process = case.start()
    case.training(2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    case.say(f"kill -9 of the search: {case.left()}; {case.finish()}")

    case = Case(data, folder, "stopped", [], *settings, "--workers", "2")
    process = case.start()
    case.training(2)
    process.terminate()
    case.say(f"SIGTERM: exit {process.wait(120)}, {case.left()}; {case.finish()}")

    case = Case(data, folder, "group-stopped", ["setsid"], *settings, "--workers", "1", "--processes", "2")
    process = case.start()
    case.training(1)
    for pid in processes(case.out):  # as a batch system does
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    case.say(f"SIGTERM to every process: exit {process.wait(120)}, {case.left()}; {case.finish()}")

    case = Case(data, folder, "trial-killed", [], *settings, "--workers", "1")
    process = case.start()
    case.training(1)
    os.kill(processes(case.out, "hpcauxvae.train")[0], signal.SIGKILL)
    code = process.wait(600)
    reasons = [row.reason or row.state for row in Logbook(case.out).rows]
    case.say(f"kill -9 of a trial: exit {code}, {case.left()}; {', '.join(reasons)}")

    case = Case(data, folder, "rank-killed", ["mpirun", "-n", "3"], *settings)
    process = case.start()
    case.training(2)
    ranks = [pid for pid in processes(case.out, "hpo.search") if b"PMI_RANK=1" in environ(pid)]
    os.kill(ranks[0], signal.SIGKILL)
    case.say(f"kill -9 of MPI rank 1: exit {process.wait(120)}, {case.left()}; {case.finish()}")

    case = Case(data, folder, "mpirun-stopped", ["mpirun", "-n", "3"], *settings)
    process = case.start()
    case.training(2)
    process.terminate()
    case.say(f"SIGTERM to mpirun: exit {process.wait(120)}, {case.left()}; {case.finish()}")


def environ(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()))
