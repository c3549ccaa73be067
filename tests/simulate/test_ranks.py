"""The same data on any ranks after any kill, and nothing lost on a full disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.simulations import N, assert_refused, hashes, here, launcher, refuse, simulate
from hpcauxvae.data.hdf5 import validate

pytest.importorskip("galsim", reason="galsim is not installed: pip install 'hpcauxvae[simulate]'")

pytestmark = pytest.mark.processes
CHUNK_BYTES = 64 * 33 * 33 * 4


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.smoke), 3])
def test_same_data_for_any_number_of_ranks(alone: Path, tmp_path: Path, ranks: int) -> None:
    ended = simulate(tmp_path / "set.h5", "--n", str(N), "--seed", "7", ranks=ranks)
    assert ended.returncode == 0, ended.stderr
    assert f"{N} galaxies, {N} drawn now, ranks: {ranks}," in ended.stdout
    assert hashes(tmp_path / "set.h5") == hashes(alone)
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.h5"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where rank 0 of 2 was killed half way; a second run was refused while the first was alive."""
    folder = tmp_path_factory.mktemp("killed")
    out = folder / "set.h5"
    command = [*launcher(2), sys.executable, "-m", "hpcauxvae.simulate", str(out), "--n", str(N), "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: stored(out) >= 4 * CHUNK_BYTES and min(journals(out)) >= CHUNK_BYTES)
        first_rank = json.loads((folder / "set.h5.parts" / "lock").read_text())["pid"]
        os.kill(first_rank, signal.SIGSTOP)
        try:
            second = simulate(out, "--n", str(N), "--seed", "7")
        finally:
            os.kill(first_rank, signal.SIGKILL)
        assert process.wait(timeout=60) != 0
    assert_refused(second, f"{folder / 'set.h5.parts'}: in use by process {first_rank}")
    assert not out.exists()
    return folder


def stored(out: Path) -> int:
    """Bytes in the journals of a set that is being made; past them all once they are gone."""
    if out.exists():
        return 1 << 40
    return sum(journals(out))


def journals(out: Path) -> list[int]:
    """The bytes of each rank's journal; 0 for a rank of two that has none yet."""
    sizes = [path.stat().st_size for path in out.parent.glob(f"{out.name}.parts/*.journal")]
    return [*sizes, 0][: max(2, len(sizes))]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not in a minute"
        time.sleep(0.01)


@pytest.mark.parametrize("ranks", [None, 3])
def test_start_after_a_kill_goes_on(alone: Path, killed: Path, tmp_path: Path, ranks: int | None) -> None:
    shutil.copytree(killed, tmp_path / "copy")
    out = tmp_path / "copy" / "set.h5"
    ended = simulate(out, "--n", str(N), "--seed", "7", ranks=ranks)
    assert ended.returncode == 0, ended.stderr
    drawn = int(ended.stdout.split(", ")[1].split()[0])
    assert 0 < drawn <= N - 256
    assert hashes(out) == hashes(alone)
    assert [entry.name for entry in out.parent.iterdir()] == ["set.h5"]


def test_damaged_chunks_are_drawn_again(
    alone: Path, killed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(killed, tmp_path / "copy")
    out = tmp_path / "copy" / "set.h5"
    flipped, cut = sorted(out.parent.glob("set.h5.parts/*.journal"), key=lambda path: path.stat().st_size)
    whole = sum(path.stat().st_size // (CHUNK_BYTES + 20) for path in (flipped, cut))
    os.truncate(cut, cut.stat().st_size - 1000)  # as a crash of the machine leaves files
    content = bytearray(flipped.read_bytes())
    content[5000] ^= 1
    flipped.write_bytes(content)
    lost = 1 + (whole - sum(path.stat().st_size // (CHUNK_BYTES + 20) for path in (flipped, cut)))
    assert here(out, "--n", str(N), "--seed", "7") == 0
    drawn = int(capfd.readouterr().out.split(", ")[1].split()[0])
    assert drawn in (N - 64 * (whole - lost), N - 64 * (whole - lost - 1) - N % 64)
    assert hashes(out) == hashes(alone)


def test_chunks_of_another_run_are_not_used(killed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(killed, tmp_path / "copy")
    out = tmp_path / "copy" / "set.h5"
    chunks = sorted(out.parent.glob("set.h5.parts/*.journal"))
    refuse([out, "--n", str(N), "--seed", "8"], f"{out}.parts: left by an unfinished run with ", capfd)
    refuse([out, "--n", str(N), "--seed", "7", "--noiseless"], "with noise = Poisson, sky level 0, now none", capfd)
    assert sorted(out.parent.glob("set.h5.parts/*.journal")) == chunks


def test_kill_of_the_launcher_and_start_again(alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.h5"
    command = [*launcher(2), sys.executable, "-m", "hpcauxvae.simulate", str(out), "--n", str(N), "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: stored(out) >= 4 * CHUNK_BYTES)
        first_rank = json.loads((tmp_path / "set.h5.parts" / "lock").read_text())["pid"]
        process.kill()
    wait_for(lambda: not Path(f"/proc/{first_rank}").exists())
    if not out.exists():  # the ranks may have been faster than the news
        assert here(out, "--n", str(N), "--seed", "7") == 0
    assert hashes(out) == hashes(alone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_of_a_batch_system_leaves_no_lock(tmp_path: Path, number: signal.Signals) -> None:
    """The next start may be another job on another host, which could not tell that this one is dead."""
    out = tmp_path / "set.h5"
    command = [sys.executable, "-m", "hpcauxvae.simulate", str(out), "--n", str(40 * N), "--seed", "7"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: stored(out) >= 2 * CHUNK_BYTES)
        assert (tmp_path / "set.h5.parts" / "lock").exists()
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert not (tmp_path / "set.h5.parts" / "lock").exists() and stored(out) >= 2 * CHUNK_BYTES


def test_full_disk_and_room_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A limit on file size stands for the disk: a chunk needs 279 kB, the journal 1307, the set 1384."""
    out = tmp_path / "set.h5"
    command = [sys.executable, "-m", "hpcauxvae.simulate", str(out), "--n", "300"]
    for blocks, message in ((100, "000000-000000.journal: cannot be written: "), (1300, "set.h5: cannot be written: ")):
        limited = ["bash", "-c", f'ulimit -f {blocks}; exec "$@"', "bash", *command]
        ended = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=120)
        assert_refused(ended, f"{message}File too large")
        assert not out.exists()
    assert here(out, "--n", "300") == 0
    assert "300 galaxies, 0 drawn now" in capfd.readouterr().out
    assert validate(out) == []


def test_asked_to_stop_before_anything_is_drawn() -> None:
    """MPI must not take the signal for its own: the design of many galaxies takes long."""
    program = "from hpcauxvae.runtime.ranks import Ranks; import time; Ranks(); print('met', flush=True); time.sleep(9)"
    started = subprocess.Popen([*launcher(2), sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert started.stdout is not None
    said = b""
    while said.count(b"met") < 2:  # the launcher may put both words on one line
        read = os.read(started.stdout.fileno(), 100)
        assert read, said
        said += read
    started.send_signal(signal.SIGUSR1)
    started.stdout.read()
    assert started.wait(timeout=20) != 0
