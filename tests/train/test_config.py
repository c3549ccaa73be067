"""What a training is where it is not told: its length, and how independence is weighed."""

import json
from pathlib import Path

import pytest

from helpers.trainings import alone, config
from hpcauxvae.models.objectives import FIXED, TUNED
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.tracking import history
from hpcauxvae.types import InputError


@pytest.mark.parametrize(("steps", "epochs"), [(1, 500), (12, 500), (15, 400), (179, 34), (2999, 3), (10_000, 2)])
def test_a_training_has_six_thousand_steps_in_at_least_two_and_at_most_five_hundred_epochs(
    steps: int, epochs: int
) -> None:
    asked = TrainConfig(data=Path("x.h5"), aux="a")
    assert asked.with_epochs(steps).epochs == epochs
    assert TrainConfig(data=Path("x.h5"), aux="a", epochs=7).with_epochs(steps).epochs == 7


def test_the_epochs_of_a_run_stand_in_its_configuration(blobs_file: Path, tmp_path: Path) -> None:
    """112 training samples in batches of 8 are 14 steps; what resumes it is told nothing else."""
    run = tmp_path / "run"
    given = config(blobs_file, run, epochs=0, batch_size=8, max_minutes=0)
    assert alone(given) == MORE_TO_DO
    assert json.loads((run / "config.json").read_text())["epochs"] == 429
    assert given.as_planned().epochs == 429


def test_a_warm_up_must_be_shorter_than_the_epochs_that_are_found(blobs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"warmup_epochs = 500\.0; allowed: above 0 and below epochs = 429"):
        alone(config(blobs_file, tmp_path / "run", epochs=0, batch_size=8, warmup_epochs=500.0))


@pytest.mark.parametrize("fields", [{"lambda2": 5.0}, {"ramp": 0.5}])
def test_a_weight_of_independence_takes_the_place_of_the_tolerance(fields: dict[str, float]) -> None:
    asked = TrainConfig(data=Path("x.h5"), aux="a", **fields)
    found = asked.resolved_objective
    assert TUNED.dependence_tolerance is not None
    assert {name: getattr(found, name) for name in FIXED | fields} == FIXED | fields
    with pytest.raises(InputError, match=r"= .* with dependence_tolerance = 0\.01; allowed: one of the two"):
        TrainConfig(data=Path("x.h5"), aux="a", dependence_tolerance=0.01, **fields)


def test_the_log_of_an_epoch_has_the_tolerance_in_force(blobs_file: Path, tmp_path: Path) -> None:
    """No finer than .3 / sqrt(n) of 112 training samples; nothing of a fixed weight."""
    rows = []
    for name, fields in {"coarse": {"dependence_tolerance": 0.2}, "fine": {}, "weight": {"lambda2": 5.0}}.items():
        assert alone(config(blobs_file, tmp_path / name, epochs=1, network="mlp", **fields)) == FINISHED
        rows.append(history(tmp_path / name)[0])
    assert [row.get("tolerance") for row in rows] == [0.2, pytest.approx(0.3 / 112**0.5), None]
    assert rows[0]["weight"] >= 0 and rows[0]["dependence"] >= 0 and "weight" not in rows[2]
