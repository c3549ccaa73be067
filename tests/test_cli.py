"""The command `hpcauxvae`: quick to help, one line for bad input, the same exit codes from every command."""

import errno
import importlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpcauxvae import __version__, cli
from hpcauxvae.types import InputError


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "hpcauxvae", *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    done = command("--help")
    assert re.search(r"^  data +import ", done.stdout, re.MULTILINE)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in ("simulate", "train", "evaluate", "paper", "submit", "doctor"))
    program = "import hpcauxvae.cli, sys; print(*{'torch', 'numpy', 'h5py', 'tyro'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == ""
    assert command("--version").stdout == f"hpcauxvae {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "given"), [(["trian"], "command 'trian' is unknown"), ([], "no command is given")]
)
def test_unknown_command(arguments: list[str], given: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stderr == f"error: {given}; allowed: {', '.join(cli.COMMANDS)}\n"
    assert {"simulate", "train", "evaluate", "generate", "predict", "export"} <= set(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_loaded(name: str) -> None:
    module, _, function = cli.COMMANDS[name][0].partition(":")
    assert callable(getattr(importlib.import_module(module), function or "main"))


def test_what_is_done_by_default_is_told_of_the_option_that_does_it() -> None:
    assert "--pictures, --no-pictures" in command("evaluate", "--help").stdout


def test_bad_input_to_a_command_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "no.h5"
    done = command("train", str(missing), "--out", str(tmp_path / "run"), "--aux", "radius")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert str(missing) in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_leaves_is_no_defect(lines: int) -> None:
    """As behind `| head`: the command ends quietly, whether the pipe breaks as it prints or at its end."""
    program = f"from hpcauxvae.cli import run; run(lambda: print('a line\\n' * {lines}) or 0)"
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as output:
        done = subprocess.run([sys.executable, "-c", program], stdout=output, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_that_breaks_elsewhere_is_a_failure() -> None:
    program = "from hpcauxvae.cli import run\ndef main(): raise BrokenPipeError(32, 'a worker')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError: [Errno 32] a worker\n")


def raising(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "", "runs/x"), "runs/x: Permission denied"),
        (FileExistsError(errno.EEXIST, "", "notes.txt"), "notes.txt: File exists"),
        (NotADirectoryError(errno.ENOTDIR, "", Path("a/b")), "a/b: Not a directory"),
        (OSError(errno.EROFS, "", "/mnt/x"), "/mnt/x: Read-only file system"),
        (OSError(errno.ENOSPC, "as HDF5 says it, at length"), "No space left on device"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(error: OSError, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: raising(error))
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "by peer"),
        ProcessLookupError(errno.ESRCH, "no such process"),
        ChildProcessError(errno.ECHILD, "no child"),
        OSError(errno.EBADF, "a defect"),
        OSError("without a number"),
    ],
)
def test_a_failure_that_is_not_of_files_stays_one(error: OSError) -> None:
    with pytest.raises(type(error)):
        cli.run(lambda: raising(error))


def test_a_letter_that_the_terminal_does_not_have_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: print("0 to 1 µm") or 0)
    assert end.value.code == 0
    assert terminal.buffer.getvalue() == b"0 to 1 \\xb5m\n"  # type: ignore[attr-defined]


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    ends = [(lambda: 0, 0), (lambda: 3, 3), (lambda: raising(InputError("x = 1; allowed: 2")), 2)]
    for main, code in [*ends, (lambda: raising(KeyboardInterrupt()), 130)]:
        with pytest.raises(SystemExit) as end:
            cli.run(main)
        assert end.value.code == code
    assert capsys.readouterr().err == "error: x = 1; allowed: 2\n"
    with pytest.raises(ValueError, match="a defect"):
        cli.run(lambda: raising(ValueError("a defect, not bad input")))
