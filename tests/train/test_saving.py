"""What is trained is not lost where validation fails or is stopped, where the log is damaged, where the folder goes."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.trainings import STEPS, alone, assert_same, config
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import history
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import InputError


def test_a_disk_without_room_for_a_checkpoint_is_named_before_the_first_step(data, tmp_path, monkeypatch):
    """Not after an epoch, which would be lost; where there is nothing left to save, no room is needed."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**9, free=2 * 10**5))
    with pytest.raises(InputError, match=r"run: 0\.2 MB are free on its disk; a checkpoint takes \d+\.\d MB$"):
        alone(config(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=0, free=0))
    assert alone(config(data, tmp_path / "run", epochs=1)) == FINISHED
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=10**9, free=0))
    assert alone(config(data, tmp_path / "run", epochs=1, resume="auto")) == FINISHED


@pytest.mark.parametrize(
    "damage", [b'{"epoch": 1\n', b"\0\0\0\0\n", b"\xff\xfe\n", b"7\n", b'{"step": 7}\n', b'{"epoch": null}\n']
)
def test_a_damaged_line_is_left_out_with_a_warning(tmp_path, capsys, damage):
    (tmp_path / "metrics.jsonl").write_bytes(damage + b'{"epoch": 2}\n' + damage[:-1])
    assert history(tmp_path) == [{"epoch": 2}]
    assert capsys.readouterr().err == f"warning: {tmp_path / 'metrics.jsonl'}: line 1 is damaged and left out\n"


def test_a_finished_epoch_is_saved_before_its_validation(data, whole, tmp_path, monkeypatch):
    """A validation that fails costs nothing but itself, at whatever epoch; the next start begins with it."""
    run, settings = tmp_path / "run", {"epochs": 3, "keep_last": 1, "resume": "auto"}
    real = Trainer.validate
    for epoch in (1, 2, 3):

        def validate(trainer, stop, epoch=epoch):
            if trainer.epoch + 1 == epoch:
                raise MemoryError
            return real(trainer, stop)

        monkeypatch.setattr(Trainer, "validate", validate)
        monkeypatch.setattr(Trainer, "train_step", TRAIN_STEP)
        for _ in range(2):  # the second finds no step that is left
            with pytest.raises(MemoryError):
                alone(config(data, run, **settings))
            state = checkpoint.read(run / checkpoint.LAST)[1]
            assert (state["epoch"], state["epoch_step"], state["step"]) == (epoch, 0, epoch * STEPS)
            assert len(history(run)) == epoch - 1
            assert load_run(run).state["epoch"] == epoch
            monkeypatch.setattr(Trainer, "train_step", no_step)
    monkeypatch.setattr(Trainer, "validate", real)
    assert alone(config(data, run, **settings)) == FINISHED
    assert_same(whole, run)
    assert best_of(run) == best_of(whole)


TRAIN_STEP = Trainer.train_step


def no_step(*arguments):
    raise AssertionError("a step was done again")


def test_a_run_that_is_killed_behind_a_validation_has_the_best_of_it(data, tmp_path, at_step):
    def killed() -> None:
        raise RuntimeError

    at_step(10, killed)
    with pytest.raises(RuntimeError):
        alone(config(data, tmp_path / "run", network="mlp"))
    assert checkpoint.read(tmp_path / "run" / checkpoint.BEST)[1]["step"] == STEPS


def best_of(run: Path) -> int:
    """The step of the best checkpoint, which is the one that metrics.jsonl says."""
    rows = history(run)
    best = min(rows, key=lambda row: row["validation"]["loss"])["step"]
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == best
    return best


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_stop_amid_the_validation_is_exact(data, whole, tmp_path, monkeypatch, epoch):
    run, real = tmp_path / "run", Trainer.validate

    def validate(trainer, stop):
        if trainer.epoch + 1 == epoch:
            signal.raise_signal(signal.SIGTERM)
        return real(trainer, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", validate)
        assert alone(config(data, run, epochs=3, resume="auto")) == MORE_TO_DO
    assert len(history(run)) == epoch - 1
    assert json.loads((run / "status.json").read_text())["step"] == epoch * STEPS
    assert alone(config(data, run, epochs=3, resume="auto")) == FINISHED
    assert_same(whole, run)
    assert best_of(run) == best_of(whole)


def test_a_best_that_is_kept_is_the_best_of_finite_ones(data, tmp_path, monkeypatch):
    """Whatever the first validation says; the checkpoints of others go."""
    run, losses, real = tmp_path / "run", [float("nan"), 3.0, 5.0, 4.0, float("nan")], Trainer.validate

    def validate(trainer, stop):
        scores, codes = real(trainer, stop)
        return scores | {"loss": losses[trainer.epoch]}, codes

    monkeypatch.setattr(Trainer, "validate", validate)
    assert alone(config(data, run, epochs=5, network="mlp")) == FINISHED
    assert checkpoint.read(run / checkpoint.BEST)[1]["step"] == 14
    assert checkpoint.Checkpoints(run, 1, lambda step: False).steps() == [35, 28, 14], "the last two and the best"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard
def test_a_folder_that_vanished_is_made_again_and_what_is_trained_is_not_lost(data, tmp_path, capsys, at_step):
    run = tmp_path / "run"
    at_step(10, lambda: shutil.rmtree(run))
    assert alone(config(data, run, network="mlp")) == FINISHED
    assert f"warning: {run} was gone and is made again, without what it held\n" in capsys.readouterr().err
    assert load_run(run).state["epoch"] == 2 and [row["epoch"] for row in history(run)] == [2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard
def test_what_ends_a_run_is_said_where_the_lock_has_gone_too(data, tmp_path, at_step):
    (tmp_path / "runs").mkdir()
    at_step(10, lambda: (shutil.rmtree(tmp_path / "runs"), (tmp_path / "runs").write_text("mine")))
    with pytest.raises(InputError, match=r"checkpoints: cannot be written: Not a directory"):
        alone(config(data, tmp_path / "runs" / "x", network="mlp"))
    assert (tmp_path / "runs").read_text() == "mine"
