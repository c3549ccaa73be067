"""An import on real MPI ranks: the bytes of one process, whatever dies, and every error once."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.simulations import below, launcher
from hpcauxvae.data.command import main
from hpcauxvae.data.importing.options import Import
from hpcauxvae.data.importing.plan import plan_of
from hpcauxvae.data.importing.work import make
from hpcauxvae.data.journal import SUFFIX

pytestmark = pytest.mark.processes
N, BLOCK = 25600, 256
BLOCK_BYTES = BLOCK * 12 * 12 * 4
COMMAND = [sys.executable, "-m", "hpcauxvae", "data", "import"]
LINE = ["--images", "image"]


def images() -> np.ndarray:
    """(N, 12, 12), some pixels missing at either end."""
    found = np.random.default_rng(3).normal(20, 8, (N, 12, 12)).astype(np.float32)
    found[[2, -3], 5, 7] = np.nan
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "stamps.npz"
    np.savez(path, image=images(), radius=np.linspace(0, 1, N), id=np.arange(N) + 10**12)
    return path


@pytest.fixture(scope="module")
def alone(source: Path) -> bytes:
    """What one process makes."""
    assert main(["import", str(source), str(source.parent / "alone.h5"), *LINE, "--processes", "1"]) == 0
    return (source.parent / "alone.h5").read_bytes()


def ended(ranks: int, *arguments: str | Path, command: Sequence[str | Path] = COMMAND) -> tuple[list[str], str, str]:
    """Exit codes of all ranks, what they said, and their errors."""
    with tempfile.NamedTemporaryFile() as codes:
        program = [f'"$@"; echo $? >>{codes.name}', "bash", *command, *arguments]
        line = [*launcher(ranks), "bash", "-c", *map(str, program)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
        return Path(codes.name).read_text().split(), done.stdout, done.stderr


def stored(parts: Path) -> int:
    """Blocks in its journals."""
    return sum(path.stat().st_size for path in parts.glob(f"*{SUFFIX}")) // BLOCK_BYTES


def killed_at(process: subprocess.Popen, parts: Path, blocks: int, victim: str) -> None:
    """Kills a rank of it, or all of them, without a warning once so many blocks are stored."""
    until = time.monotonic() + 120
    while stored(parts) < blocks:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    started = below(process.pid)
    ranks = [pid for pid in started if Path(f"/proc/{pid}/comm").read_text().startswith("python")]
    for pid in ranks[-1:] if victim == "a rank" else [process.pid, *started]:
        with contextlib.suppress(ProcessLookupError):  # of a launcher that has ended
            os.kill(pid, signal.SIGKILL)
    assert process.wait(timeout=60) != 0


@pytest.fixture(scope="module")
def killed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where an import by two ranks was killed twice: one of them, then all."""
    folder = tmp_path_factory.mktemp("killed")
    for blocks, victim in ((12, "a rank"), (40, "all")):
        line = [*launcher(2), *COMMAND, str(source), str(folder / "set.h5"), *LINE]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        killed_at(process, folder / "set.h5.parts", blocks, victim)
        assert not (folder / "set.h5").exists()
    return folder


@pytest.mark.parametrize("ranks", [pytest.param(2, marks=pytest.mark.smoke), 3])
def test_the_bytes_of_one_process(source: Path, alone: bytes, tmp_path: Path, ranks: int) -> None:
    codes, said, errors = ended(ranks, source, tmp_path / "set.h5", *LINE)
    assert codes == ["0"] * ranks, errors
    assert (tmp_path / "set.h5").read_bytes() == alone
    assert said.count("missing pixels: 2, ") == said.count(f"{N} images read in ") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.h5"]


def test_each_rank_has_a_part(source: Path, tmp_path: Path) -> None:
    """The last step cannot be done: what both stored is still there."""
    (tmp_path / "set.h5.parts" / "set.h5").mkdir(parents=True)
    codes, _, errors = ended(2, source, tmp_path / "set.h5", *LINE)
    assert codes == ["2"] * 2 and errors.count("error: ") == 1
    sizes = [path.stat().st_size // BLOCK_BYTES for path in (tmp_path / "set.h5.parts").glob(f"*{SUFFIX}")]
    assert len(sizes) == 2 and sum(sizes) == N // BLOCK and min(sizes) >= N // BLOCK // 4


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [None, 2, 3])
def test_killed_twice_and_the_same_bytes(
    source: Path, alone: bytes, killed: Path, tmp_path: Path, ranks: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """Goes on by as many ranks, by more, and by processes of one machine."""
    out = Path(shutil.copytree(killed, tmp_path / "copy")) / "set.h5"
    if ranks is None:
        assert main(["import", str(source), str(out), *LINE, "--processes", "2"]) == 0
        said = capfd.readouterr().out
    else:
        codes, said, errors = ended(ranks, source, out, *LINE)
        assert codes == ["0"] * ranks, errors
    (made,) = (line for line in said.splitlines() if "an earlier start made" in line)
    assert 40 * BLOCK <= int(made.split(" made ")[1].split()[0]) < N and "missing pixels: 2, " in said
    assert out.read_bytes() == alone and [entry.name for entry in out.parent.iterdir()] == ["set.h5"]


def test_processes_go_on_by_ranks(source: Path, alone: bytes, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    line = [*COMMAND, str(source), str(out), *LINE, "--processes", "2"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    killed_at(process, tmp_path / "set.h5.parts", 12, "all")
    codes, said, errors = ended(2, source, out, *LINE)
    assert codes == ["0"] * 2 and "an earlier start made" in said, errors
    assert out.read_bytes() == alone


def test_an_image_that_a_rank_refuses(tmp_path: Path) -> None:
    """The last image, which is in no first share of rank 0: one line, every rank ends, nothing is left."""
    found = images()
    found[-1, 3, 4] = np.inf
    np.savez(tmp_path / "bad.npz", image=found)
    codes, _, errors = ended(3, tmp_path / "bad.npz", tmp_path / "set.h5", *LINE)
    assert codes == ["2"] * 3 and errors.count("\n") == 1, errors
    assert errors.startswith("error: ") and f"image in row {N - 1}: pixel (0, 3, 4) is infinite" in errors
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.npz"]


def test_the_others_stop_when_one_fails(source: Path, alone: bytes, tmp_path: Path) -> None:
    """Rank 1 may write no file of a block; rank 0 could make all the rest, and leaves it for the next start."""
    full = tmp_path / "full.py"
    full.write_text(
        "import resource\n"
        "from mpi4py import MPI\n"
        "from hpcauxvae.cli import main\n"
        "if MPI.COMM_WORLD.rank == 1:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "main('data', 'import')\n"
    )
    codes, _, errors = ended(2, source, tmp_path / "set.h5", *LINE, command=[sys.executable, full])
    assert codes == ["2"] * 2 and errors.count("\n") == 1, errors
    assert "000000-000001.journal: cannot be written: File too large (rank 1 of 2)" in errors
    assert stored(tmp_path / "set.h5.parts") < N // BLOCK // 2 and not (tmp_path / "set.h5").exists()
    codes, _, _ = ended(2, source, tmp_path / "set.h5", *LINE)
    assert codes == ["0"] * 2 and (tmp_path / "set.h5").read_bytes() == alone


@pytest.mark.parametrize(
    ("options", "code", "out", "err"),
    [
        (["--help"], 0, "usage: hpcauxvae data import", ""),
        (["--nonsense", "1"], 2, "", "nonsense"),
        (["--processes", "2"], 2, "", "--processes 2: allowed is none beside MPI, of which 2 ranks read"),
        (["--columns", "mass"], 2, "", "stamps.npz: no column mass"),
    ],
)
def test_a_line_is_answered_once(
    source: Path, tmp_path: Path, options: list[str], code: int, out: str, err: str
) -> None:
    codes, said, errors = ended(2, source, tmp_path / "set.h5", *LINE, *options)
    assert codes == [str(code)] * 2
    assert (said.count(out), errors.count(err)) == (1 if out else len(said) + 1, 1 if err else len(errors) + 1)
    assert list(tmp_path.iterdir()) == []


def test_a_check_on_ranks_is_told_once(alone: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_bytes(alone)
    codes, said, errors = ended(2, tmp_path / "set.h5", command=[sys.executable, "-m", "hpcauxvae", "data", "check"])
    assert codes == ["0"] * 2 and said.count("fingerprint") == 1, errors


def test_predict_reads_by_processes_of_its_own(
    source: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranks are torch's, and rank 0 alone imports; MPI would wait there for the others."""
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    make(plan_of(Import(source=source, out=tmp_path / "set.h5", images="image")), 1)
    assert (tmp_path / "set.h5").read_bytes() == alone
