"""A run that is trained longer than was planned: the learning rate begins a new cycle."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from helpers.trainings import alone, assert_same, config
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.command import main
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import history
from hpcauxvae.types import InputError


def test_a_finished_run_is_trained_longer(data, whole, tmp_path, capsys, signal_after):
    """A second cycle of the learning rate, the same whether it is stopped on the way or not."""
    rates = {}
    for name, step in (("longer", -1), ("stopped", 25)):
        run = Path(shutil.copytree(whole, tmp_path / name, symlinks=True))
        signal_after(signal.SIGTERM, step)
        code = alone(config(data, run, epochs=5, resume="auto"))
        said = capsys.readouterr().out
        assert "step-000000021.safetensors: 3 of 5 epochs are done (step 21 of 35)" in said
        assert "planned for 3 epochs, trained on to 5: the learning rate begins a new cycle there" in said
        if code == MORE_TO_DO:
            assert alone(config(data, run, epochs=5, resume="auto")) == FINISHED
            said = capsys.readouterr().out
            assert "3 of 5 epochs are done, and 4 of the 7 steps of the next (step 25 of 35)" in said
        rates[name] = [row["learning_rate"] for row in history(run)]
        assert alone(config(data, run, epochs=5, resume="auto")) == FINISHED
        assert "it is finished: --epochs N, above 5, trains it longer" in capsys.readouterr().out
    assert_same(tmp_path / "longer", tmp_path / "stopped")
    one = torch.optim.Adam([torch.zeros(1)], 1.0)
    peak = config(data, run).scaled_learning_rate
    cycle = torch.optim.lr_scheduler.OneCycleLR(one, peak, total_steps=14)
    for _ in range(7):
        one.step()
        cycle.step()
    assert rates["longer"][2] < 0.02 * peak
    assert rates["longer"][3] == pytest.approx(cycle.get_last_lr()[0], rel=1e-6)
    assert load_run(run).state["cycles"] == [3, 5]


def test_without_epochs_a_run_keeps_its_own(data, whole, tmp_path, capsys):
    """Not those of a run of which nothing is said: a run that is finished stays so."""
    run = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
    command = [*config(data, run, resume="auto", epochs=3).arguments()]
    at = command.index("--epochs")
    assert main(command[:at] + command[at + 2 :]) == FINISHED
    assert "3 of 3 epochs are done (step 21 of 21); it is finished: --epochs N, above 3," in capsys.readouterr().out
    assert main([*command[:at], "--epochs=4", *command[at + 2 :]]) == FINISHED
    assert len(history(run)) == 4
    with pytest.raises(InputError, match=r"epochs = 3, but .* has done 4 of 4"):
        main(command)


def test_a_run_that_was_stopped_is_trained_longer_too(data, whole, tmp_path, capsys, signal_after, monkeypatch):
    """First to the end that was planned, as if nothing had been asked; what rises during a training stays up then."""
    told, advance = [], AuxVAE.advance

    def advances(model, progress):
        told.append(progress)
        advance(model, progress)

    monkeypatch.setattr(AuxVAE, "advance", advances)
    run = tmp_path / "run"
    signal_after(signal.SIGTERM, 10)
    assert alone(config(data, run, epochs=3)) == MORE_TO_DO
    assert alone(config(data, run, epochs=4, resume="auto")) == FINISHED
    assert "planned for 3 epochs, trained on to 4" in capsys.readouterr().out
    assert told == [min(1.0, step / 21) for step in range(28)]
    expected, rows = history(whole), history(run)
    assert [row["validation"] for row in rows[:3]] == [row["validation"] for row in expected]
    assert len(rows) == 4 and load_run(run).state["epoch"] == 4


def test_without_cycles_the_learning_rate_stays(data, tmp_path, capsys):
    run = tmp_path / "run"
    for epochs in (1, 2):
        assert alone(config(data, run, epochs=epochs, objective="paper", resume="auto", network="mlp")) == FINISHED
    said = capsys.readouterr().out
    assert f"nothing to resume in {run}: it begins with epoch 1" in said and "the learning rate stays as it is" in said
    assert len({row["learning_rate"] for row in history(run)}) == 1


@pytest.mark.parametrize("epochs", [1, 2])
def test_fewer_epochs_than_planned_are_refused(data, whole, epochs):
    with pytest.raises(InputError, match=rf"epochs = {epochs}, but .* has done 3 of 3 epochs.*allowed: 3, or more"):
        alone(config(data, whole, epochs=epochs, resume="auto"))


def test_a_cycle_that_is_shorter_than_its_warm_up_is_refused(data, tmp_path):
    run = tmp_path / "run"
    assert alone(config(data, run, epochs=3, warmup_epochs=1.5, network="mlp")) == FINISHED
    with pytest.raises(InputError, match=r"1\.5 for a new cycle of 1 epochs, from 3 on; .* = 3, or above 4\.5"):
        alone(config(data, run, epochs=4, warmup_epochs=1.5, network="mlp", resume="auto"))


def test_before_the_first_step_of_a_run_that_was_stopped(data, tmp_path, capsys, signal_after):
    run, fields = tmp_path / "run", {"warmup_epochs": 1.5, "network": "mlp", "resume": "auto"}
    signal_after(signal.SIGTERM, 8)
    assert alone(config(data, run, epochs=3, **fields)) == MORE_TO_DO
    capsys.readouterr()
    with pytest.raises(InputError, match="1 epochs, from 3 on"):
        alone(config(data, run, epochs=4, **fields))
    assert load_run(run).state["step"] == 8 and capsys.readouterr().out == ""
    assert alone(config(data, run, epochs=5, **fields)) == FINISHED
    assert load_run(run).state["cycles"] == [3, 5]
