"""An import that is killed goes on: the file is whole or not there, and its bytes are always the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.foreign import catalogue, counts, write_csv
from helpers.simulations import below
from hpcauxvae.data.command import main
from hpcauxvae.data.importing import work
from hpcauxvae.data.journal import SUFFIX
from hpcauxvae.types import InputError


def tiny_stamps(folder: Path, n: int) -> Path:
    """A catalogue of FITS files of 4 x 4 pixels."""
    fits = pytest.importorskip("astropy.io.fits")
    (folder / "stamps").mkdir()
    for number in range(n):
        fits.PrimaryHDU(np.full((4, 4), number, np.float32)).writeto(folder / "stamps" / f"{number}.fits")
    names = [f"stamps/{number}.fits" for number in range(n)]
    return write_csv(folder / "cat.csv", id=range(n), file=names, radius=np.linspace(0, 1, n))


def start(path: Path, out: str, processes: int = 2) -> subprocess.Popen:
    command = [sys.executable, "-m", "hpcauxvae", "data", "import", str(path), str(path.parent / out)]
    return subprocess.Popen([*command, "--processes", str(processes)], stdout=-1, stderr=-1, text=True)


def grown(process: subprocess.Popen, parts: Path, n_bytes: int) -> None:
    """Waits until its journals, and those before, have grown to so many bytes."""
    until = time.monotonic() + 240
    while sum(path.stat().st_size for path in parts.glob(f"*{SUFFIX}")) < n_bytes:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)


def killed_at(process: subprocess.Popen, parts: Path, n_bytes: int) -> None:
    """Kills it without a warning then."""
    grown(process, parts, n_bytes)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
@pytest.mark.processes
def test_killed_twice_and_the_same_bytes(tmp_path: Path) -> None:
    path, out = tiny_stamps(tmp_path, 2000), tmp_path / "out.h5"
    parts = tmp_path / "out.h5.parts"
    for blocks in (1, 4):
        killed_at(start(path, "out.h5"), parts, blocks * 256 * 64)
        assert not out.exists() and parts.exists()
    last = start(path, "out.h5")
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0 and "an earlier start made" in said
    assert not parts.exists()
    assert main(["import", str(path), str(tmp_path / "alone.h5"), "--processes", "1"]) == 0
    assert out.read_bytes() == (tmp_path / "alone.h5").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["alone.h5", "cat.csv", "out.h5", "stamps"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_reader_is_told_and_the_next_start_goes_on(tmp_path: Path) -> None:
    path = tiny_stamps(tmp_path, 2000)
    first = start(path, "out.h5")
    grown(first, tmp_path / "out.h5.parts", 256 * 64)
    reader = next(pid for pid in below(first.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(reader, signal.SIGKILL)
    _, errors = first.communicate(timeout=120)
    told = "error: a process that read images ended unasked, perhaps for lack of memory; "
    kept = f"{tmp_path / 'out.h5.parts'} keeps what was read, and the same line goes on with it\n"
    assert (first.returncode, errors) == (2, told + kept)
    assert not (tmp_path / "out.h5").exists()
    last = start(path, "out.h5")
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0 and "an earlier start made" in said


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_of_a_batch_system_leaves_no_lock(tmp_path: Path, number: signal.Signals) -> None:
    """The next start may be another job on another host, which could not tell that this one is dead."""
    process, parts = start(tiny_stamps(tmp_path, 2000), "out.h5"), tmp_path / "out.h5.parts"
    grown(process, parts, 256 * 64)
    assert (parts / "lock").exists()
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == -number and not (parts / "lock").exists() and list(parts.glob(f"*{SUFFIX}"))


def interrupted(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an import that was stopped when all images were read."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(work, "_store", stop)
        assert main(["import", str(path), str(path.parent / "out.h5"), "--processes", "1"]) == 130
    return path.parent / "out.h5.parts"


def test_a_damaged_block_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = catalogue(tmp_path, counts())
    parts = interrupted(path, monkeypatch)
    (journal,) = parts.glob(f"*{SUFFIX}")
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    assert main(["import", str(path), str(tmp_path / "out.h5"), "--processes", "1"]) == 0
    assert main(["import", str(path), str(tmp_path / "other.h5"), "--processes", "1"]) == 0
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_another_import_does_not_go_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = catalogue(tmp_path, counts())
    interrupted(path, monkeypatch)
    again = ["import", str(path), str(tmp_path / "out.h5")]
    with pytest.raises(
        InputError, match=r"left by an unfinished import with size = None, now '5,5'; allowed: the same"
    ):
        main([*again, "--size", "5,5"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(InputError, match=r"left by an unfinished import with lists = "):
        main(again)
    path.write_text("\n".join(lines) + "\n")
    assert main(again) == 0


def test_a_journal_that_was_never_begun_is_not_missed(tmp_path: Path) -> None:
    """Of two processes one was killed before it had a journal: the next start must not take the other's name."""
    path = tiny_stamps(tmp_path, 1500)
    with start(path, "set.h5") as process:
        killed_at(process, tmp_path / "set.h5.parts", 1)
    parts = sorted((tmp_path / "set.h5.parts").glob(f"*{SUFFIX}"))
    for other in parts[1:]:
        other.unlink()
    parts[0].rename(tmp_path / "set.h5.parts" / f"000001{SUFFIX}")
    assert main(["import", str(path), str(tmp_path / "set.h5"), "--processes", "2"]) == 0
