"""Trials leave nothing behind: every process of a trial carries a mark in its environment, by which it is found again.

Process groups are not enough: torchrun gives each of its workers a session of its own, and they outlive it when it is
killed. The minder is a small process that outlives the search: when the search is gone, however it went, the minder
ends what still carries its mark. Linux only (/proc); elsewhere process groups must do.

This file is also the minder's program and so imports the standard library alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "HPCAUXVAE_TRIAL"
TERM_SECONDS = 5.0
"""How long the minder waits between asking and killing."""


def marked(mark: str) -> Iterator[int]:
    """Processes whose mark begins with this text; those that ended and wait for their parents do not count."""
    wanted = f"\0{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and wanted in b"\0" + (entry / "environ").read_bytes():
                yield int(entry.name)


def signal_marked(mark: str, number: signal.Signals) -> int:
    """Signals them all; returns how many there were."""
    count = 0
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            count += 1
    return count


def kill_marked(mark: str) -> None:
    """Kills them until there are none: one may start another meanwhile."""
    while signal_marked(mark, signal.SIGKILL):
        time.sleep(0.05)


class Minder:
    """Watches over the trials of this process from outside; `with Minder(mark):`."""

    def __init__(self, mark: str) -> None:
        command = [sys.executable, "-I", "-S", __file__, mark]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> "Minder":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def mind(mark: str) -> None:
    """The minder: waits for the end of its standard input, which only the death of the search brings about."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    signal_marked(mark, signal.SIGTERM)
    end = time.monotonic() + TERM_SECONDS
    while any(marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    kill_marked(mark)


if __name__ == "__main__":
    mind(sys.argv[1])
