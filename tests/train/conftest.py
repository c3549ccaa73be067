"""What the tests of stopped and resumed runs share."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.trainings import alone, config
from hpcauxvae.runtime.stop_requests import FINISHED
from hpcauxvae.train.trainer import Trainer


@pytest.fixture
def data(blobs_file: Path) -> Path:
    return blobs_file


@pytest.fixture(scope="session")
def whole(once: Callable, blobs_file: Path) -> Path:
    """A run of three epochs, never disturbed."""

    def train(folder: Path) -> None:
        assert alone(config(blobs_file, folder / "run", epochs=3, resume="auto")) == FINISHED

    return once("three-epochs", train) / "run"


@pytest.fixture
def signal_after(monkeypatch: pytest.MonkeyPatch):
    """Sends this process a signal after a step of the run."""
    real = Trainer.train_step

    def arrange(number: signal.Signals, step: int) -> None:
        def train_step(trainer, *arguments):
            terms = real(trainer, *arguments)
            if trainer.step == step:
                signal.raise_signal(number)
            return terms

        monkeypatch.setattr(Trainer, "train_step", train_step)

    return arrange


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch):
    """Does something after a step of the run."""
    real = Trainer.train_step

    def arrange(step: int, action: Callable[[], object]) -> None:
        def train_step(trainer, *arguments):
            terms = real(trainer, *arguments)
            if trainer.step == step:
                action()
            return terms

        monkeypatch.setattr(Trainer, "train_step", train_step)

    return arrange
