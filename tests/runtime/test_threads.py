"""How many threads compute beside other work, and what training says of them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.trainings import alone, blobs, config
from hpcauxvae.runtime import threads
from hpcauxvae.runtime.launchers import World

ALONE, CPU = World(0, 1, 0, 1, "alone"), torch.device("cpu")


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("number", "free", "told"), [(2, 2, False), (2, 1, True), (1, 0, False), (8, 24, False), (32, 24, True)]
)
def test_threads_that_find_no_core_are_named(
    number: int, free: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    said = threads.crowded(number, free)
    assert bool(said) == told
    assert not told or f"other work leaves {free} of 64 cores free: {number} threads wait" in said


@pytest.mark.parametrize(
    ("running", "number"), [("0.00 0.00 0.00 1/200 77", 8), ("9.00 9.00 9.00 4/200 77", 5), ("0 0 0 40/200 77", 1)]
)
def test_as_many_threads_as_cores_are_free_at_this_moment(
    running: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loadavg").write_text(running)
    monkeypatch.setattr(threads, "_RUNNING", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(8)
    threads.leave_room(ALONE, CPU)
    assert torch.get_num_threads() == number
    assert (f"{number} of 8 threads compute" in capsys.readouterr().out) == (number < 8)


def test_what_is_set_stands_and_a_share_of_the_cores_or_an_accelerator_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loadavg").write_text("9 9 9 40/200 77")
    monkeypatch.setattr(threads, "_RUNNING", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads.leave_room(ALONE, CPU)
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads.leave_room(World(0, 2, 0, 2, "torchrun"), CPU)
    threads.leave_room(ALONE, torch.device("cuda", 0))
    monkeypatch.setattr("os.cpu_count", lambda: 128)  # others run on the node; of its own 8 cores nothing is known
    threads.leave_room(ALONE, CPU)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "_RUNNING", tmp_path / "none")
    threads.leave_room(ALONE, CPU)
    assert torch.get_num_threads() == 2


def test_ranks_that_are_bound_to_cores_of_their_own_are_no_crowd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loadavg").write_text("4 4 4 4/200 77")
    monkeypatch.setattr(threads, "_RUNNING", tmp_path / "loadavg")
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 32)
    torch.set_num_threads(8)
    assert threads.about_crowd(World(0, 4, 0, 4, "slurm")) == ""
    (tmp_path / "loadavg").write_text("4 4 4 24/200 77")
    assert "leaves 12 of 32 cores free: 32 threads" in threads.about_crowd(World(0, 4, 0, 4, "slurm"))


def test_a_run_that_goes_on_has_as_many_threads_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another number its sums are rounded otherwise."""
    path = blobs(tmp_path / "blobs.h5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 128)
    torch.set_num_threads(3)
    assert alone(config(path, tmp_path / "run", network="mlp", epochs=1)) == 0
    torch.set_num_threads(2)
    assert alone(config(path, tmp_path / "run", network="mlp", epochs=2, resume="auto")) == 0
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(not threads._RUNNING.exists(), reason="the system does not tell how many tasks run (no /proc)")
def test_a_busy_loop_is_seen() -> None:
    def least() -> int:
        return min(threads.others_running() or 0 for _ in range(5))

    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(12)]
    try:
        assert least() >= 10
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_training_says_its_threads_and_that_the_machine_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = blobs(tmp_path / "blobs.h5")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    for number in (1, 2):
        torch.set_num_threads(number)
        assert alone(config(path, tmp_path / f"run{number}", network="mlp", epochs=1)) == 0
        told, errors = capsys.readouterr()
        assert f"on CPUs: 1 process of {number} thread{'s' * (number > 1)}\n" in told
        assert ("start it with OMP_NUM_THREADS=1" in errors) == (number > 1)
