"""Child processes: their environment, their logs, how they end, and who ends them when their parent is gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcauxvae.runtime.children import (
    MARK,
    Child,
    Minder,
    _environ,
    end_all,
    environment,
    kill_marked,
    marked,
    only_gpus,
    threads_each,
    visible_gpus,
)
from hpcauxvae.runtime.launchers import World, find_world

LAUNCHED = {
    "mpich": {"PMI_RANK": "1", "PMI_SIZE": "3", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "3"},
    "openmpi": {f"OMPI_COMM_WORLD_{name}": "2" for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")},
    "pals": {"PALS_RANKID": "1", "PALS_LOCAL_RANKID": "1", "PALS_SIZE": "4", "PALS_LOCAL_SIZE": "2"},
    "slurm": {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"},
    "torchrun": {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "9"},
}


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def mark() -> Iterator[str]:
    own = f"test-{os.getpid()}-{time.time_ns()}/"
    yield own
    kill_marked(own)


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_a_child_does_not_take_its_parents_launcher_for_its_own(monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    kept = {"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "2", "OMP_NUM_THREADS": "3"}
    for name, value in (LAUNCHED[launcher] | kept).items():
        monkeypatch.setenv(name, value)
    own = environment("m/")
    assert find_world(own) == World(0, 1, 0, 1, "alone")
    assert (kept | {MARK: "m/"}).items() <= own.items(), "a lock of a requeued job is given up by its restart count"


def test_gpus_and_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-1a")
    assert visible_gpus() == ["4", "GPU-1a"]
    assert only_gpus(["4", "5"])["CUDA_VISIBLE_DEVICES"] == "4,5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [threads_each(n) for n in (1, 3, 20)] == [16, 5, 1]


@pytest.mark.parametrize(
    ("env", "seen", "written"),
    [
        ({"HIP_VISIBLE_DEVICES": "2,3"}, ["2", "3"], {"HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}),
        ({"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "1"}, ["1"], {"HIP_VISIBLE_DEVICES"}),
        ({"HIP_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "4,5"}, ["0"], {"HIP_VISIBLE_DEVICES"}),
        ({"ZE_AFFINITY_MASK": "0.1,1.0"}, ["0.1", "1.0"], {"ZE_AFFINITY_MASK"}),
        ({"ROCR_VISIBLE_DEVICES": "4,5"}, ["4", "5"], {"ROCR_VISIBLE_DEVICES"}),
    ],
)
def test_a_child_gets_the_gpus_of_every_maker_where_they_are_counted_as_here(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], seen: list[str], written: set[str]
) -> None:
    kinds = {"HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "ROCR_VISIBLE_DEVICES"}
    for name in kinds:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert visible_gpus() == seen
    own = only_gpus(seen[-1:])
    assert set(own.values()) == {seen[-1]} and written <= own.keys()
    # AMD's driver picks its devices first, then HIP numbers what is left: never both from one list of numbers.
    assert ("ROCR_VISIBLE_DEVICES" in own) != ("HIP_VISIBLE_DEVICES" in own)


def shell(words: str, log: Path, mark: str, **more: str) -> Child:
    return Child(["sh", "-c", words], log, os.environ | {MARK: mark}, **more)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ("exit 3", 3, "exit code 3: nothing was printed"),
        ("echo loss 1; echo 'ValueError: too much'; echo bye; exit 1", 1, "exit code 1: ValueError: too much"),
        ("echo '[E1] signal'; echo 'error: a root'; echo 'E1128 Error'; exit 1", 1, "exit code 1: error: a root"),
        ("echo 'error: a root'; echo 'E0703 12:00:00 7 t/x.py:9] Error'; exit 1", 1, "exit code 1: error: a root"),
        ("echo 'error: a root'; echo 'W0215 12:00:00 7 t/x.py:9] signal'; exit 1", 1, "exit code 1: error: a root"),
        ("echo 'error: a root'; echo 'E1 Error'; exit 1", 1, "exit code 1: E1 Error"),
        ("echo '│ error: no such option │'; echo; exit 2", 2, "exit code 2: error: no such option"),
        ("echo 'error: first'; echo '$ next'; echo done; exit 4", 4, "exit code 4: done"),
        ("kill -9 $$", -9, "killed by SIGKILL"),
    ],
)
def test_a_failure_has_its_reason(tmp_path: Path, mark: str, words: str, code: int, reason: str) -> None:
    (tmp_path / "log").write_text("error: of an earlier start\n")
    child = shell(words, tmp_path / "log", mark)
    assert (child.end(20), child.why()) == (code, reason)


def test_a_log_shows_the_command_and_what_it_was_given(tmp_path: Path, mark: str) -> None:
    shell("cat", tmp_path / "logs" / "1", mark, shown="cat it", given="some words").end(20)
    again = shell("cat", tmp_path / "logs" / "1", mark, given="others")
    again.end(20)
    assert (tmp_path / "logs" / "1").read_text() == "$ cat it\nsome wordsothers"
    assert (again.said(), again.shown()) == (["others"], "")


def test_marks_find_their_own_processes_only(tmp_path: Path, mark: str) -> None:
    children = [shell("exec sleep 60", tmp_path / "log", f"{mark}{name}/") for name in ("7", "77")]
    pids = [child.process.pid for child in children]
    assert until(lambda: sorted(marked(mark)) == sorted(pids))
    assert list(marked(f"{mark}7/")) == pids[:1]
    assert list(marked(mark[1:])) == []
    children[0].end()
    assert children[0].code == -signal.SIGKILL and children[1].code is None


def test_an_environment_is_awaited_in_the_middle_of_an_exec(tmp_path: Path) -> None:
    (tmp_path / "environ").write_bytes(b"")
    with pytest.raises(FileNotFoundError):  # as of a thread of the kernel
        _environ(tmp_path)
    (tmp_path / "exe").symlink_to(sys.executable)
    assert _environ(tmp_path) == b""
    later = threading.Timer(0.02, lambda: (tmp_path / "environ").write_bytes(b"A=1"))
    later.start()
    assert _environ(tmp_path) == b"A=1"
    later.join()


LAUNCHER = """
import subprocess, sys, time
worker = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('up', flush=True); time.sleep(900)"
subprocess.Popen([sys.executable, "-c", worker], start_new_session=True)
time.sleep(60)
"""


@pytest.mark.processes
def test_an_orphan_that_does_not_listen_ends_with_its_launcher(tmp_path: Path, mark: str) -> None:
    child = Child([sys.executable, "-c", LAUNCHER], tmp_path / "log", os.environ | {MARK: mark})
    assert until(child.said)
    end_all([child], grace=600)  # beyond the limit of a test: only the launcher is waited for
    assert child.code == -signal.SIGTERM
    assert list(marked(mark)) == []


PARENT = """
import os, sys, time
from pathlib import Path
from hpcauxvae.runtime.children import MARK, Child, Minder
with Minder(sys.argv[2], 0.5):
    Child([sys.executable, "-c", sys.argv[3]], Path(sys.argv[1]), os.environ | {MARK: sys.argv[2]})
    time.sleep(60)
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="marks are read from /proc")
def test_the_minder_ends_what_a_killed_parent_left(tmp_path: Path, mark: str) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log), mark, LAUNCHER])
    assert until(lambda: log.exists() and log.read_text())
    assert len(list(marked(mark))) == 2
    parent.kill()
    parent.wait()
    assert until(lambda: not list(marked(mark)))


def test_a_minder_of_nothing_ends_with_its_parents_block(mark: str) -> None:
    with Minder(mark) as minder:
        assert minder.process.poll() is None
    assert minder.process.returncode == 0
