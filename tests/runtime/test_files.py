"""Files of every kind are whole or not there: where the disk is full, and where the writer is killed."""

import errno
import os
import resource
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from hpcauxvae.evaluate import generate, pictures
from hpcauxvae.evaluate.command import GenerateConfig
from hpcauxvae.runtime.files import (
    attempt,
    file_fault,
    followed,
    point,
    refuse_unwritable,
    whole,
    write_json,
    write_text,
)
from hpcauxvae.simulate.command import main as simulate
from hpcauxvae.train import checkpoint
from hpcauxvae.types import InputError


@contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def picture(path: Path) -> None:
    figure, axes = pictures.sheet(1, 1, 4, 4)
    axes[0, 0].imshow(np.random.default_rng(0).random((50, 50)))
    pictures.save(figure, path)


WRITERS = {
    "picture.png": picture,
    "metrics.json": lambda path: write_json(path, {"scores": list(range(5000))}),
    "results.csv": lambda path: write_text(path, "1,2,3\n" * 5000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_old_file_stands_until_the_new_one_is_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("the old one")
    with full_disk(1000), pytest.raises(InputError, match=f"{name}: cannot be written: File too large"):
        WRITERS[name](path)
    assert path.read_text() == "the old one"
    WRITERS[name](path)
    assert path.stat().st_size > 5000
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_a_file_is_left_to_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """safetensors makes files of mode 600; what a link of another's names keeps its mode."""
    before = os.umask(umask)
    try:
        checkpoint.write(tmp_path / "a.safetensors", {"weight": torch.zeros(3)}, {})
        write_text(tmp_path / "a.json", "{}")
        (tmp_path / "target").touch(0o400)
        point(tmp_path / "link", tmp_path / "target")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"a.safetensors": mode, "a.json": mode, "link": 0o400 & ~umask, "target": 0o400 & ~umask}


def test_no_half_fits_file_keeps_a_second_start_out(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    asked = GenerateConfig(run=trained_run, out=tmp_path / "new" / "x.fits", sweep=("g1=0:0.2:200",))
    with full_disk(10_000), pytest.raises(InputError, match=r"x.fits: cannot be written"):
        generate.generate(asked)
    assert list((tmp_path / "new").iterdir()) == []
    assert generate.generate(asked) == 200


def test_no_half_preview_keeps_a_second_start_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(tmp_path / "x.h5"), "--n", "10", "--preview"]
    with full_disk(1000):
        assert simulate(command) == 2
    assert "x.png: cannot be written: File too large" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert simulate(command) == 0


def test_a_kill_amid_the_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("the old one")
    child = os.fork()
    if child == 0:
        with whole(path) as part:
            part.write_text("the n")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_text() == "the old one"


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "x", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_ino, path.exists())))
    with whole(path) as part:
        part.write_text("content")
    assert synced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_a_link_names_the_old_target_until_it_names_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1", "2"):
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "there" / name).write_text(name)
    (tmp_path / f".last.{os.getpid()}.part").symlink_to("there/2")  # left by a kill
    point(tmp_path / "last", tmp_path / "there" / "1")
    moved = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda own, to: (moved.append(to.read_text()), rename(own, to)))
    point(tmp_path / "last", tmp_path / "there" / "2")
    assert moved == ["1"] and (tmp_path / "last").read_text() == "2"
    assert (tmp_path / "last").readlink() == Path("there/2"), "else the folder could not move"
    assert (tmp_path / "there" / "2").read_text() == "2"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_link_is_not_one_without_links(tmp_path, monkeypatch, number) -> None:
    (tmp_path / "1").write_text("1")
    point(tmp_path / "last", tmp_path / "1")

    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(InputError, match=rf"last: cannot be written: {os.strerror(number)}"):
        point(tmp_path / "last", tmp_path / "1")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "1", tmp_path / "last"] and (tmp_path / "last").is_symlink()


def test_a_folder_that_takes_no_file_is_refused_and_one_that_does_stays_empty(tmp_path, monkeypatch) -> None:
    refuse_unwritable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"gone: cannot be written: No such file or directory; --out"):
        refuse_unwritable(tmp_path / "gone", "; --out names another folder")

    def read_only(*arguments: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(InputError, match=r": cannot be written: Read-only file system$"):
        refuse_unwritable(tmp_path)


def test_a_read_only_file_system_is_said_by_the_name_of_the_file(tmp_path, monkeypatch) -> None:
    def read_only(*arguments: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "unlink", read_only)
    monkeypatch.setattr(Path, "write_text", read_only)
    with pytest.raises(InputError, match=r"/x: cannot be written: Read-only file system$"):
        write_text(tmp_path / "x", "content")


def test_a_file_stands_for_a_link_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def symlink(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as vfat says

    synced: list[int] = []
    monkeypatch.setattr(os, "symlink", symlink)
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    for name in ("1", "2"):
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "there" / name).write_text(name)
        point(tmp_path / "last", tmp_path / "there" / name)
        assert synced[-2:] == [(tmp_path / "last").stat().st_ino, tmp_path.stat().st_ino], "the file, then its name"
        assert followed(tmp_path / "last").read_text() == name
    assert (tmp_path / "last").read_text() == "link to there/2"
    assert followed(tmp_path / "there" / "1") == tmp_path / "there" / "1"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_left_to_the_system(tmp_path, monkeypatch, number) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(InputError, match="Input/output error"):
            write_text(tmp_path / "x", "content")
    else:
        write_text(tmp_path / "x", "content")
    assert (tmp_path / "x").read_text() == "content"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("--n 0: allowed is 1 or more"), "--n 0: allowed is 1 or more"),
        (FileNotFoundError(errno.ENOENT, "?", "x.h5"), "x.h5: No such file or directory"),
        (OSError(errno.ENOSPC, "?"), "No space left on device"),
        (OSError(errno.ENOSPC, "?", "x.h5"), "x.h5: No space left on device"),
    ],
    ids=repr,
)
def test_what_is_wrong_with_input_a_file_or_the_disk_is_told_to_the_other_ranks(error: Exception, words: str) -> None:
    assert attempt(raising(error)) == (None, words)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "of another rank"),
        ChildProcessError(errno.ECHILD, "no children", "worker"),
        TimeoutError(errno.ETIMEDOUT, "?"),
        OSError("without a number"),
        OSError(errno.EINVAL, "without a file"),
        RuntimeError("of the program"),
    ],
    ids=repr,
)
def test_what_is_no_fault_of_a_file_is_no_bad_input(error: Exception) -> None:
    with pytest.raises(type(error)):
        attempt(raising(error))
    if isinstance(error, OSError):
        assert file_fault(error) is None


def raising(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action
