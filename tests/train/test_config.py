"""What a training is where it is not told: its length, and how independence is weighed."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import alone, config
from hpcauxvae.models.objectives import FIXED, TUNED
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.checkpoint import LAST, read, write
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


def test_a_weight_of_independence_takes_the_place_of_the_tolerance() -> None:
    given = {"data": Path("x.h5"), "aux": "a", "lambda2": 5.0}
    found = TrainConfig(**given).resolved_objective
    assert TUNED.dependence_tolerance is not None
    assert dataclasses.asdict(found) == dataclasses.asdict(TUNED) | FIXED | {"lambda2": 5}
    with pytest.raises(InputError, match=r"lambda2 = 5.0 with dependence_tolerance = 0\.01; allowed: one of the two"):
        TrainConfig(**given, dependence_tolerance=0.01)
    with pytest.raises(InputError, match=r"momentum = 0\.5; allowed: 0 without dependence_tolerance"):
        TrainConfig(**given, momentum=0.5)


def of_an_earlier_version(objective: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """config.json of a run that had no tolerance, and constants of its own."""
    saved = TrainConfig(data=Path("x.h5"), aux="a", objective="tuned", lambda2=1000.0).to_json()
    had = {name: value for name, value in saved.pop("resolved_objective").items() if name not in FIXED}
    saved = {name: value for name, value in saved.items() if name not in FIXED} | {"lambda2": None}
    saved |= {"ramp": None, "momentum": None, "symmetries": ""} | fields
    return saved | {"resolved_objective": had | {"ramp": 0.0, "momentum": 0.0} | objective}


def test_a_run_of_a_version_without_a_tolerance_had_a_fixed_weight_and_constants_of_its_own() -> None:
    saved = of_an_earlier_version({"batch_size": 128})
    read = TrainConfig.from_json(saved)
    assert dataclasses.asdict(read.resolved_objective) | {"ramp": 0} == FIXED | saved["resolved_objective"]
    assert (read.lambda2, read.batch_size) == (1000, 128)
    assert TrainConfig.from_json(json.loads(json.dumps(read.to_json()))) == read


@pytest.mark.parametrize(
    ("objective", "fields", "message"),
    [
        ({"ramp": 0.5}, {"ramp": 0.5}, "was trained with ramp = 0.5, which this version of hpcauxvae does not have"),
        ({}, {"symmetries": "left-right"}, "was trained with symmetries = left-right, which this version"),
        ({"momentum": 0.75}, {"momentum": 0.75}, "momentum = 0.75; allowed: 0 without dependence_tolerance"),
        ({"clip_norm": 7.0}, {}, "objective 'tuned' had clip_norm = 7.0 and has 100.0 in this version"),
        ({}, {"depth": 3}, "unexpected keyword argument 'depth'"),
    ],
)
def test_a_run_that_did_what_none_does_any_more_is_refused(
    objective: dict[str, Any], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig.from_json(of_an_earlier_version(objective, **fields))


def test_a_run_that_did_what_none_does_any_more_is_not_gone_on_with(blobs_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert alone(config(blobs_file, run, epochs=1, network="mlp")) == FINISHED
    for path in (run / LAST, *run.glob("checkpoints/*")):
        tensors, state = read(path)
        state["config"]["symmetries"] = "left-right"
        write(path, tensors, state)
    with pytest.raises(InputError, match=rf"{run}.*: was trained with symmetries = left-right, which"):
        alone(config(blobs_file, run, epochs=2, network="mlp", resume="auto"))


def test_the_log_of_an_epoch_has_the_tolerance_in_force(blobs_file: Path, tmp_path: Path) -> None:
    """No finer than .3 / sqrt(n) of 112 training samples; nothing of a fixed weight."""
    rows = []
    for name, fields in {"coarse": {"dependence_tolerance": 0.2}, "fine": {}, "weight": {"lambda2": 5.0}}.items():
        assert alone(config(blobs_file, tmp_path / name, epochs=1, network="mlp", **fields)) == FINISHED
        rows.append(history(tmp_path / name)[0])
    assert [row.get("tolerance") for row in rows] == [0.2, pytest.approx(0.3 / 112**0.5), None]
    assert rows[0]["weight"] >= 0 and rows[0]["dependence"] >= 0 and "weight" not in rows[2]


def test_a_run_of_a_version_without_a_linear_way_had_none() -> None:
    for objective, now in (("tuned", False), ("gaussian", True)):
        saved = TrainConfig(data=Path("x.h5"), aux="a", objective=objective).to_json()
        assert saved["resolved_objective"].pop("linear_path") == now
        if now:
            with pytest.raises(InputError, match="'gaussian' had linear_path = False and has True in this version"):
                TrainConfig.from_json(saved)
        else:
            assert not TrainConfig.from_json(saved).resolved_objective.linear_path
