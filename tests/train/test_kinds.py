"""Trainings on an angle and on classes: as with hand-made columns, or raw where that is asked for."""

from pathlib import Path

import pytest

from helpers.kinds import drawn
from helpers.trainings import alone, assert_same, config
from hpcauxvae.train.command import main
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError

FIELDS = {"network": "mlp", "epochs": 1, "latents": 8, "objective": "tuned"}


def test_weights_are_those_of_hand_made_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = drawn(tmp_path / "set.h5")
    alone(config(data, tmp_path / "kinds", aux="size,azimuth,shape", **FIELDS))
    told = capsys.readouterr()
    assert "azimuth guides latents 2 and 3: its cosine and sine\nshape guides latents 4 and 5: 3 classes" in told.out
    assert "taken as a number" not in told.err
    alone(config(data, tmp_path / "hand", aux="size,side,front,is2,is5", **FIELDS))
    assert_same(tmp_path / "kinds", tmp_path / "hand")
    run = load_run(tmp_path / "kinds")
    assert [guide.factor.name for guide in run.guides] == ["size", "azimuth", "shape"]
    assert run.guides[2].levels == (1, 2, 5) and [len(guide.columns) for guide in run.guides] == [1, 2, 2]
    with pytest.raises(InputError, match=r"guided by size, cos azimuth, .*, now by size, azimuth, shape; allowed: the"):
        raw = config(data, tmp_path / "kinds", aux="size,azimuth,shape", labels="raw", resume="auto", **FIELDS)
        alone(raw)


def test_a_run_of_a_version_without_kinds_had_raw_labels(tmp_path: Path) -> None:
    kept = config(tmp_path / "set.h5", tmp_path / "run", aux="azimuth").to_json()
    assert TrainConfig.from_json(kept).labels == "kinds"
    del kept["labels"]
    assert TrainConfig.from_json(kept).labels == "raw"


def test_too_few_latents_are_counted_by_factor(tmp_path: Path) -> None:
    data = drawn(tmp_path / "set.h5")
    with pytest.raises(
        InputError, match=r"azimuth needs 2 latents, shape needs 2 latents \(3 classes\): 4 in all, for"
    ):
        main([str(data), "--aux", "azimuth,shape", "--latents", "3", "--out", str(tmp_path / "run")])
