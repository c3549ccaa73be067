"""The lock of a folder: one run at a time, also where several find a dead one's lock at once."""

import errno
import fcntl
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from hpcauxvae.runtime import lock
from hpcauxvae.runtime.lock import RunLock, held_elsewhere
from hpcauxvae.types import InputError


def test_the_lock_keeps_others_out_and_is_taken_over_from_the_dead(tmp_path, monkeypatch):
    mine = RunLock(tmp_path / "run")
    mine.acquire()
    with pytest.raises(InputError, match="in use by process"):
        RunLock(tmp_path / "run").acquire()
    child = multiprocessing.get_context("fork").Process(target=lambda: None)
    child.start()
    child.join()
    mine.path.write_text(json.dumps(mine.owner | {"pid": child.pid}))
    RunLock(tmp_path / "run").acquire()
    assert json.loads(mine.path.read_text())["pid"] == mine.owner["pid"]
    mine.path.write_text(json.dumps(mine.owner | {"started": 1}))  # a process of the same number, long ago
    RunLock(tmp_path / "run").acquire()
    assert json.loads(mine.path.read_text()) == mine.owner
    mine.path.write_text("")  # left by a crash of the machine
    RunLock(tmp_path / "run").acquire()

    mine.path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 1, "job": "77", "restart": 0}))
    with pytest.raises(InputError, match="elsewhere"):
        RunLock(tmp_path / "run").acquire()
    with monkeypatch.context() as successor:
        held = mine.path.read_text()
        successor.setenv("PBS_JOBID", "78")
        successor.setenv("PREDECESSOR", "76")
        with pytest.raises(InputError, match="elsewhere"):
            RunLock(tmp_path / "run").acquire()
        successor.setenv("PREDECESSOR", "77")
        RunLock(tmp_path / "run").acquire()
        mine.path.write_text(held)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(InputError, match="elsewhere"):  # another step of the same job
        RunLock(tmp_path / "run").acquire()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    requeued = RunLock(tmp_path / "run")
    requeued.acquire()
    requeued.release()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "run"):
        with pytest.raises(InputError, match=rf"{folder}: cannot be the folder of a run \(.*notes\.txt.*: "):
            RunLock(folder).acquire()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def none(*arguments: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("lacks", [(), ("flock",), ("flock", "link"), ("link",)])
def test_of_many_that_find_a_dead_holder_one_takes_over(tmp_path, monkeypatch, lacks):
    for name in lacks:
        monkeypatch.setattr({"flock": fcntl, "link": os}[name], name, none)
    context = multiprocessing.get_context("fork")
    dead = context.Process(target=lambda: None)
    dead.start()
    dead.join()
    stale = RunLock(tmp_path).owner | {"pid": dead.pid}
    for _ in range(6):
        (tmp_path / "lock").write_text(json.dumps(stale))
        gate, wins = context.Barrier(8), context.SimpleQueue()

        def contend(gate=gate, wins=wins) -> None:
            mine = RunLock(tmp_path)
            gate.wait()
            try:
                mine.acquire()
                wins.put(1)
            except InputError:
                wins.put(0)
            gate.wait()

        contenders = [context.Process(target=contend) for _ in range(8)]
        for contender in contenders:
            contender.start()
        assert sum(wins.get() for _ in contenders) == 1
        for contender in contenders:
            contender.join()


def test_without_flock_what_a_kill_left_keeps_nobody_out_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(lock, "_PATIENCE_S", 0.1)
    (tmp_path / ".lock.taking").touch()
    held = RunLock(tmp_path)
    held.acquire()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with pytest.raises(InputError, match="in use by process"):
        RunLock(tmp_path).acquire()
    held.release()
    assert not tmp_path.exists()


def test_a_zombie_is_dead(tmp_path):
    zombie = multiprocessing.get_context("fork").Process(target=lambda: None)
    zombie.start()
    mine = RunLock(tmp_path)
    deadline = time.monotonic() + 10
    while " Z " not in Path(f"/proc/{zombie.pid}/stat").read_text():
        assert time.monotonic() < deadline
    (tmp_path / "lock").write_text(json.dumps(mine.owner | {"pid": zombie.pid}))
    mine.acquire()
    zombie.join()


def test_a_lock_of_another_host_is_known(tmp_path):
    mine = RunLock(tmp_path / "run")
    mine.acquire()
    assert not held_elsewhere(tmp_path / "run")
    mine.path.write_text(json.dumps(mine.owner | {"host": "another"}))
    assert held_elsewhere(tmp_path / "run")
    assert not held_elsewhere(tmp_path / "nothing")
