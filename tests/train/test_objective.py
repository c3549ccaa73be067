"""The objective that nobody named: chosen once, said in a line, kept by the run; and one that goes on is the same."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from helpers.trainings import alone, assert_same, blobs, config
from hpcauxvae.data.choice import Choice
from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.run import load_run


@pytest.fixture
def anomalies(tmp_path: Path) -> Path:
    """The blobs with another unit and zero: most pixels are negative."""
    data = open_set(blobs(tmp_path / "blobs.h5"))
    images = (np.asarray(data.images) - 40) / 7
    write(tmp_path / "anomalies.h5", images.astype(np.float32), data.values, data.factors, {})
    return tmp_path / "anomalies.h5"


def objective_of(run: Path) -> str:
    return str(json.loads((run / "config.json").read_text())["objective"])


def test_what_is_chosen_is_said_kept_and_read_again(
    anomalies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alone(config(anomalies, tmp_path / "run", network="mlp", epochs=1)) == FINISHED
    said = capsys.readouterr().out.splitlines()
    assert main(["check", str(anomalies)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("images:")]
    assert said.count(line) == 1 and "-> --objective gaussian (real-valued)" in line
    run = load_run(tmp_path / "run")
    assert objective_of(tmp_path / "run") == run.config.objective == "gaussian"
    assert run.config.resolved_objective.scale == "standard"
    assert "--objective gaussian" in " ".join(run.config.arguments())


def test_counts_are_trained_as_when_tuned_is_named(tmp_path: Path) -> None:
    path = blobs(tmp_path / "blobs.h5")
    for objective in ("tuned", "auto"):
        alone(config(path, tmp_path / objective, network="mlp", epochs=1, objective=objective))
    assert_same(tmp_path / "tuned", tmp_path / "auto")


def test_a_run_that_goes_on_keeps_its_objective_and_is_not_asked_again(
    anomalies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_after
) -> None:
    """Stopped within an epoch and gone on with, it ends as the run that was left alone: the fitted variance, too."""
    fields = {"network": "mlp", "resume": "auto", "accumulate": 2}
    assert alone(config(anomalies, tmp_path / "whole", **fields)) == FINISHED
    signal_after(signal.SIGTERM, 9)
    assert alone(config(anomalies, tmp_path / "stopped", **fields)) == MORE_TO_DO
    monkeypatch.setattr("hpcauxvae.train.trainer.choose", lambda *_: Choice("bernoulli", "", ""))
    assert alone(config(anomalies, tmp_path / "stopped", **fields)) == FINISHED
    assert objective_of(tmp_path / "stopped") == "gaussian"
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_field_that_suits_none_but_gaussian_is_drawn(anomalies: Path, tmp_path: Path) -> None:
    """Nearer to it than the mean image is, and in its own unit."""
    assert alone(config(anomalies, tmp_path / "run", network="mlp", epochs=30)) == FINISHED
    run, images = load_run(tmp_path / "run"), np.asarray(open_set(anomalies).images)
    drawn = run.decode(run.encode(images, np.zeros((len(images), 2)))[0])
    assert np.square(drawn - images).mean() < 0.5 * np.square(images.mean(0) - images).mean()
    assert run.model.variance.variance.mean() < 0.9, "what is drawn is no longer an error"


def test_other_options_are_checked_before_the_objective_is_chosen() -> None:
    assert TrainConfig(data=Path("x.h5"), aux="a", sigma=0.02).resolved_objective.sigma == 0.02
