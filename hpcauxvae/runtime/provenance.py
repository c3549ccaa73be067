"""What made a result: command, version, commit, machine and time. Imports nothing heavy."""

import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

from hpcauxvae import __version__

_SECONDS = 10  # that git may take on a slow file system


def provenance() -> dict[str, str]:
    """`time` (ISO 8601, with its zone), `command`, `hpcauxvae` (version), `commit` (`""` where the package lies in no
    checkout of git; ends with `+` where files of it had changed), `python` and `machine`."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": _command(),
        "hpcauxvae": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": f"{platform.node()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _command() -> str:
    """As it can be typed again; of a launcher such as torchrun it has no part, and what --notify runs is not told."""
    program, *arguments = sys.argv
    for place, word in enumerate(arguments):
        if word == "--notify" and place + 1 < len(arguments):
            arguments[place + 1] = "…"
        elif word.startswith("--notify="):
            arguments[place] = "--notify=…"
    module = getattr(sys.modules["__main__"], "__spec__", None)
    of_module = ["python", "-m", module.parent or module.name] if module else [Path(program).name]
    return shlex.join([*of_module, *arguments])


def _commit() -> str:
    folder = Path(__file__).parents[1]
    number, changed = (
        _git(folder, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno", "."))
    )
    tracked = number and _git(folder, "ls-files", "__init__.py")  # not of a project in whose folder it is installed
    return f"{number[:12]}{'+' if changed else ''}" if tracked else ""


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
