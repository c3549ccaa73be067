"""Programs in processes that are forked from one with torch and the package loaded: tens of milliseconds instead of the
seconds that a new interpreter imports for. What launchers do and what is loaded needs real interpreters instead."""

import atexit
import contextlib
import ctypes
import multiprocessing
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import pytest

from helpers.places import ROOT

LIVING: "set[Forked]" = set()


@cache
def server() -> Any:
    """The multiprocessing context of the process that all are forked from, once that has started."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.loaded"])
    with pytest.MonkeyPatch.context() as patch:  # it imports before it is told sys.path
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        ensure_running()
    return context


class Forked:
    """A program that runs, with the methods of `subprocess.Popen`; its output goes to files."""

    def __init__(
        self, program: tuple[str | Path, ...], *arguments: object, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """program: as behind `python`, with ("-m", NAME), ("-c", CODE) or (FILE,)."""
        self._folder = tempfile.TemporaryDirectory(prefix="hpcauxvae-forked-")
        self.args = [str(part) for part in (*program, *arguments)]
        self._process = server().Process(
            target=_become, args=(self.args, dict(env), str(cwd or Path.cwd()), self._folder.name)
        )
        for name in ("out", "err"):
            Path(self._folder.name, name).touch()
        self._process.start()
        LIVING.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0, *self._printed())
        LIVING.discard(self)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        return self._printed()

    def _printed(self) -> tuple[str, str]:
        out, err = (Path(self._folder.name, name).read_text() for name in ("out", "err"))
        return out, err

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@atexit.register
def _kill_the_living() -> None:
    for forked in LIVING:
        with contextlib.suppress(ProcessLookupError):
            forked.kill()


def run(
    *program: object, env: Mapping[str, object] | None = None, cwd: Path | None = None, timeout: float = 240
) -> Any:
    """As `subprocess.run` with captured text: `run("-m", "hpcauxvae", "train", data, env={"RANK": "0"})`.

    env: variables beside those of this process.
    """
    given = os.environ | {name: str(value) for name, value in (env or {}).items()}
    forked = Forked(tuple(str(part) for part in program), env=given, cwd=cwd)
    try:
        printed = forked.communicate(timeout)
    except subprocess.TimeoutExpired:
        forked.kill()
        raise
    return subprocess.CompletedProcess(forked.args, forked.returncode, *printed)


def ranks_env(count: int) -> list[dict[str, str]]:
    """The variables by which torchrun tells each of so many processes of this machine where they meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        {name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        for rank in range(count)
    ]


CALL = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    function, arguments = pickle.load(file)
result = function(*arguments)
with open(sys.argv[2], "wb") as file:
    pickle.dump(result, file)
"""


def on_ranks(count: int, function: Callable[..., Any], *arguments: object, timeout: float = 120) -> list[Any]:
    """What a function returns on each of so many ranks, which it finds in the environment as under torchrun.

    function: of a module that can be imported (tests/helpers).
    """
    with tempfile.TemporaryDirectory(prefix="hpcauxvae-ranks-") as folder:
        call = Path(folder, "call")
        call.write_bytes(pickle.dumps((function, arguments)))
        ranks = [
            Forked(("-c", CALL), call, Path(folder, str(rank)), env=os.environ | own)
            for rank, own in enumerate(ranks_env(count))
        ]
        try:
            errors = [rank.communicate(timeout)[1] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        assert all(rank.returncode == 0 for rank in ranks), "\n".join(errors)
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(count)]


def _become(args: list[str], env: dict[str, str], cwd: str, folder: str) -> None:
    """Runs in the forked process: takes on the environment, the folder and the output, then runs the program."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not to outlive the tests
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_APPEND), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    try:
        _interpret(args)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()


def _interpret(args: list[str]) -> None:
    sys.path.insert(0, str(ROOT))
    match args:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.argv = ["-c", *rest]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        case [file, *rest]:
            sys.argv = [file, *rest]
            runpy.run_path(file, run_name="__main__")
