"""Runs with scores and pictures, for the pages that are made of them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcauxvae.report import command


@pytest.fixture(scope="session")
def evaluated_run(once: Callable, trained_run: Path) -> Path:
    """`trained_run` with scores, pictures and its page, without control. To read."""

    def make(folder: Path) -> None:
        shutil.copytree(trained_run, folder / "run", symlinks=True)
        assert command.evaluate([str(folder / "run"), "--no-control", "--device", "cpu"]) == 0

    return once("evaluated", make) / "run"


@pytest.fixture
def evaluated_copy(evaluated_run: Path, tmp_path: Path) -> Path:
    """That, to do with as a test likes."""
    return Path(shutil.copytree(evaluated_run, tmp_path / "copy", symlinks=True))
