"""Checkpoints: what is read is what was written, or an error says why not."""

import json
import multiprocessing

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpcauxvae import checkpoint
from hpcauxvae.types import InputError

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(4, dtype=torch.float64)[::2]}


def test_tensors_and_state_come_back(tmp_path):
    checkpoint.write(tmp_path / "x", TENSORS, {"epoch": 3, "names": ["u"]})
    tensors, state = checkpoint.read(tmp_path / "x")
    assert state == {"epoch": 3, "names": ["u"]}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_damage_is_found(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 3})
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(InputError, match="damaged"):
        checkpoint.read(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="checksum"):
        checkpoint.read(path)
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.read(tmp_path / "y")


def test_another_format_version_is_refused(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 3})
    save_file(load_file(path), path, {"format_version": "99", "state": "{}", "sha256": ""})
    with pytest.raises(InputError, match="format_version 99; allowed: 1"):
        checkpoint.read(path)


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path):
    path = tmp_path / "x"
    checkpoint.write(path, TENSORS, {"epoch": 1})
    with pytest.raises(InputError, match="cannot be written"):
        limited(path)
    assert checkpoint.read(path)[1] == {"epoch": 1}


def limited(path):
    """Writes a checkpoint larger than this process may write files, in a child that then ends."""
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            checkpoint.write(path, {"big": torch.zeros(100_000)}, {"epoch": 2})
            queue.put(None)
        except InputError as error:
            queue.put(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    message = queue.get()
    process.join()
    if message:
        raise InputError(message)


def test_the_lock_keeps_others_out_and_is_taken_over_from_the_dead(tmp_path, monkeypatch):
    mine = checkpoint.RunLock(tmp_path / "run")
    mine.acquire()
    with pytest.raises(InputError, match="in use by process"):
        checkpoint.RunLock(tmp_path / "run").acquire()
    child = multiprocessing.get_context("fork").Process(target=lambda: None)
    child.start()
    child.join()
    mine.path.write_text(json.dumps(mine.owner | {"pid": child.pid}))
    checkpoint.RunLock(tmp_path / "run").acquire()
    assert json.loads(mine.path.read_text())["pid"] == mine.owner["pid"]

    mine.path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "job": "77"}))
    with pytest.raises(InputError, match="elsewhere"):
        checkpoint.RunLock(tmp_path / "run").acquire()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    requeued = checkpoint.RunLock(tmp_path / "run")
    requeued.acquire()
    requeued.release()
    assert not (tmp_path / "run").exists()
