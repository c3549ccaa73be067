"""Files of every kind are whole or not there: where the disk is full, and where the writer is killed."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from helpers.trainings import alone, blobs, config
from hpcauxvae.evaluate import generate, pictures
from hpcauxvae.evaluate.command import GenerateConfig
from hpcauxvae.evaluate.scores import write_json
from hpcauxvae.runtime.files import whole
from hpcauxvae.simulate.command import main as simulate
from hpcauxvae.types import InputError
from hpo import journal


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
    "results.csv": lambda path: journal.write_whole(path, "1,2,3\n" * 5000),
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


def test_no_half_fits_file_keeps_a_second_start_out(tmp_path: Path) -> None:
    alone(config(blobs(tmp_path / "blobs.h5"), tmp_path / "run", epochs=1))
    (tmp_path / "new").mkdir()
    asked = GenerateConfig(run=tmp_path / "run", out=tmp_path / "new" / "x.fits", sweep=("g1=0:0.2:200",))
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
