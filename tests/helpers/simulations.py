"""What the tests of the simulation have in common: runs of the command, and what a set holds."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers import forked
from hpcauxvae.data.hdf5 import open_set

N = 1400  # 21 whole chunks and a part of one
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def simulate(
    *arguments: str | Path, ranks: int | None = None, env: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """The command, by mpirun on so many ranks, or without it in a forked process."""
    if ranks is None:
        return forked.run("-m", "hpcauxvae.simulate", *arguments, env=env)
    command = [*launcher(ranks), sys.executable, "-m", "hpcauxvae.simulate", *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


def launcher(ranks: int | None) -> list[str]:
    if ranks is None:
        return []
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'hpcauxvae[simulate]'")
    if MPIRUN is None:
        pytest.skip("no mpirun: pip install mpich")
    return [MPIRUN, "-n", str(ranks)]


def below(pid: int) -> list[int]:
    """The processes that it started, and those that these started."""
    own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [child for one in own for child in below(one)]


def assert_refused(ended: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit code 2 and one line on stderr."""
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1 and message in ended.stderr, (
        ended.stderr
    )


def here(*arguments: str | Path) -> int:
    """The command in this process, which has what a new one must import."""
    from hpcauxvae.simulate.command import main

    return main([str(argument) for argument in arguments])


def images(path: Path) -> np.ndarray:
    """(N, 33, 33)"""
    return np.asarray(open_set(path).images[:])[:, 0]


def hashes(path: Path) -> tuple[str, str]:
    """Of the images and the factors."""
    return hashlib.sha256(images(path).tobytes()).hexdigest(), hashlib.sha256(
        open_set(path).values.tobytes()
    ).hexdigest()


def make_alone(path: Path) -> Path:
    """N galaxies of seed 7, drawn without MPI."""
    ended = simulate(path, "--n", str(N), "--seed", "7")
    assert ended.returncode == 0, ended.stderr
    return path


def refuse(arguments: Sequence[str | Path], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """In this process: exit code 2 and one line on stderr."""
    code = here(*arguments)
    captured = capfd.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and message in captured.err, (
        captured.err
    )
