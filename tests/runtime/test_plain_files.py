"""On a file system without hard links, symbolic links and locks every command works as anywhere else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.places import ROOT
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.train import checkpoint

pytestmark = [pytest.mark.native, pytest.mark.processes, pytest.mark.slow]


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs Python in tmp_path, which has none of these."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on the PATH")
    library, source = tmp_path.parent / f"{tmp_path.name}.so", ROOT / "tests" / "native" / "plain_files.c"
    subprocess.run(["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    env = os.environ | {"LD_PRELOAD": str(library), "PLAIN_FILES": str(tmp_path.resolve())}

    def run(*arguments: str | Path, given: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=env, input=given, capture_output=True, text=True, timeout=280)

    return run


REFUSED = """
import fcntl, os
open("there", "w").write("a file")
for call in (
    lambda: os.link("there", "a"), lambda: os.symlink("there", "b"), lambda: fcntl.flock(open("there"), fcntl.LOCK_EX),
    lambda: fcntl.lockf(open("there", "a"), fcntl.LOCK_EX), lambda: __import__("h5py").File("locked.h5", "w"),
):
    try:
        call()
    except OSError as error:
        print(error.errno)
"""


def test_links_and_locks_are_refused_there(python):
    """Else the next test could not fail."""
    assert python("-c", REFUSED).stdout.split() == ["95", "95", "37", "37", "37"]


def test_every_writer_and_reader_works(python, tmp_path):
    pytest.importorskip("galsim")
    train = ["train", "set.h5", "--aux", "radius,g1", "--batch-size", "16", "--network", "mlp", "--resume", "auto"]
    commands = [
        ["simulate", "set.h5", "--n", "160"],
        ["simulate", "shards.h5", "--n", "128", "--shard-size", "64"],
        ["data", "check", "shards.h5"],
        [*train, "--epochs", "1"],
        [*train, "--epochs", "1"],
        ["evaluate", "run"],
        ["encode", "run", "shards.h5", "codes.h5", "--checkpoint", "best"],
        ["generate", "run", "--sweep", "g1=0:0.2:3", "--out", "drawn.h5"],
        ["sensitivity", "run", "--samples", "2"],
    ]
    done = python("-m", "hpcauxvae", "-", given=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / checkpoint.LAST).is_symlink()
    assert checkpoint.read(tmp_path / "run" / checkpoint.BEST)[1]["step"] == 7
    assert (len(open_set(tmp_path / "shards.h5")), len(open_set(tmp_path / "drawn.h5"))) == (128, 3)


def test_a_search_and_the_paper_work(python, tmp_path):
    pytest.importorskip("galsim")
    assert python("-m", "hpcauxvae", "simulate", "set.h5", "--n", "160").returncode == 0
    search = ["set.h5", "--aux", "radius", "--out", "search", "--max-evals", "2", "--epochs", "1", "--workers", "1"]
    done = python("-m", "hpo.search", *search, "--strategy", "random", "--fix", "network=mlp")
    assert done.returncode == 0, done.stderr
    hold = "from pathlib import Path; from hpcauxvae.paper.jobs import alone_in\nwith alone_in(Path()): "
    refused = python("-c", f"{hold}\n with alone_in(Path()): print('two at once')")
    assert "in use by process" in refused.stderr and not refused.stdout
    assert python("-c", f"{hold}print('alone')").stdout == "alone\n"
