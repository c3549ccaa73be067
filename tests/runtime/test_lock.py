"""The lock of a folder: one run at a time, also where several find a dead one's lock at once."""

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpcauxvae.runtime import lock
from hpcauxvae.runtime.lock import RunLock, held_elsewhere, inside
from hpcauxvae.types import InputError


def test_the_lock_keeps_others_out_and_is_taken_over_from_the_dead(tmp_path, monkeypatch):
    mine = RunLock(tmp_path / "run")
    mine.acquire()
    with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on \S+; choose"):
        RunLock(tmp_path / "run").acquire()
    mine.path.write_text(json.dumps(mine.owner | {"job": "42"}))
    with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on \S+ \(job 42\); choose"):
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


@pytest.fixture
def dead() -> dict[str, Any]:
    """The owner of a lock that is gone."""
    child = multiprocessing.get_context("fork").Process(target=lambda: None)
    child.start()
    child.join()
    return RunLock(Path()).owner | {"pid": child.pid}


def claims(folder: Path, owners: list[dict[str, Any]]) -> None:
    """The lock of the first owner, and the claim of each further one on the place of the one before."""
    (folder / "lock").write_text(json.dumps(owners[0]) if owners[0] else "")
    for before, owner in pairwise(owners):
        claim = folder / f".lock.after.{lock._digest(before)}"
        claim.mkdir()
        (claim / "owner").write_text(json.dumps(owner))


@pytest.mark.parametrize("killed", [0, 1, 2], ids=lambda n: f"{n} killed as they took over")
@pytest.mark.parametrize("empty", [False, True])
def test_of_many_that_find_a_dead_holder_one_takes_over(tmp_path, monkeypatch, dead, killed, empty):
    """On any file system: without flock and hard links, too."""
    for module, name in ((fcntl, "flock"), (os, "link")):
        monkeypatch.setattr(module, name, none)
    context = multiprocessing.get_context("fork")
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        first = {} if empty else dead
        claims(folder, [first, *(dead | {"started": -number} for number in range(1, killed + 1))])
        gate, wins = context.Barrier(8), context.SimpleQueue()

        def contend(folder=folder, gate=gate, wins=wins) -> None:
            mine = RunLock(folder)
            gate.wait()
            try:
                mine.acquire()
                wins.put(os.getpid())
            except InputError:
                wins.put(0)
            gate.wait()

        contenders = [context.Process(target=contend) for _ in range(8)]
        for contender in contenders:
            contender.start()
        (winner,) = filter(None, [wins.get() for _ in contenders])
        for contender in contenders:
            contender.join()
        assert json.loads((folder / "lock").read_text())["pid"] == winner
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_claim_of_a_living_process_keeps_others_out(tmp_path, dead):
    living = RunLock(tmp_path).owner
    claims(tmp_path, [dead, dead | {"started": 1}, living])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=rf"in use by process {os.getpid()} .* remove .*\.lock\.after\..*owner if it"):
        RunLock(tmp_path).acquire()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_process_that_finds_another_in_the_place_that_it_claimed_gives_up(tmp_path, monkeypatch, dead):
    """It read who was inside, and slept while a run came, or came and went."""
    real = lock._moved
    for comes in (lambda: (tmp_path / "lock").write_text(json.dumps(dead | {"pid": 1})), None):
        claims(tmp_path, [dead] if comes else [{}, dead])
        old = tmp_path / f".lock.after.{lock._digest({})}"

        def moved(folder: Path, to: Path, comes=comes, old=old) -> bool:
            if not old.exists():
                comes()
            elif to != old:
                (tmp_path / "lock").unlink()  # the place is nobody's again, the claim before its own is gone
                shutil.rmtree(old)
            return real(folder, to)

        monkeypatch.setattr(lock, "_moved", moved)
        with pytest.raises(InputError, match="another run took the folder just now"):
            RunLock(tmp_path).acquire()
        assert [path.name for path in tmp_path.iterdir()] == (["lock"] if comes else [])


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


def test_who_is_inside_is_told_unless_it_is_gone(tmp_path):
    mine = RunLock(tmp_path)
    assert inside(tmp_path) is None
    mine.acquire()
    assert inside(tmp_path) == f"process {os.getpid()} on {mine.owner['host']}"
    mine.path.write_text(json.dumps(mine.owner | {"started": 1}))  # the number was another process's
    assert inside(tmp_path) is None
    mine.path.write_text(json.dumps(mine.owner | {"host": "another", "pid": 7}))
    assert inside(tmp_path) == "process 7 on another"


def test_a_lock_of_another_host_is_known(tmp_path):
    mine = RunLock(tmp_path / "run")
    mine.acquire()
    assert not held_elsewhere(tmp_path / "run")
    mine.path.write_text(json.dumps(mine.owner | {"host": "another"}))
    assert held_elsewhere(tmp_path / "run")
    assert not held_elsewhere(tmp_path / "nothing")
