"""Searches that tests start: their command lines, their processes, the lines of their trials."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hpo.logbook import Logbook


def arguments(data: Path, out: Path, *more: object) -> list[str]:
    given = [data, "--out", out, "--aux", "radius", "--fix", "network=mlp", "--fix", "batch_size=32", *more]
    return [str(argument) for argument in given]


def start(data: Path, out: Path, *more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "hpo.search", *arguments(data, out, *more)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def own_processes(out: Path) -> list[int]:
    """Every process that has to do with a search's folder, by its command line or mark; no zombies, not this one."""
    found = []
    mark = Logbook(out).sessions[-1]["mark"] if (out / "journal.jsonl").exists() else str(out)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(out).encode() in text or mark.encode() in text:
                    found.append(int(entry.name))
    return found


def lines(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
