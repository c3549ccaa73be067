"""Trainings on an angle and on classes: as with hand-made columns, or raw where that is asked for."""

from pathlib import Path

import numpy as np
import pytest

from helpers.kinds import drawn
from helpers.trainings import alone, assert_same, config
from hpcauxvae.data.command import main as check
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.command import main
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.run import load_run
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Factor, InputError

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


@pytest.mark.parametrize(
    ("aux", "labels", "told"),
    [
        ("size,azimuth,front", "kinds", "front guides the same again, for azimuth guides by its own cosine and sine: "),
        ("side,azimuth", "kinds", "side guides the same again, for azimuth guides by its own cosine and sine: "),
        ("is5,shape", "kinds", "is5 guides the same again, for it is a copy of shape=5, by which shape guides: two"),
        ("size,grams", "kinds", "grams guides the same again, for it is a copy of size: two latents cannot be told"),
        ("size,azimuth,shape", "kinds", ""),
        ("azimuth,side,is5", "raw", ""),
    ],
)
def test_what_guides_the_same_again_is_told(
    aux: str, labels: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In whatever order; data check proposes no such command."""
    made = open_set(drawn(tmp_path / "drawn.h5"))
    grams, data = 7 - 3 * made.values[:, 2:3], tmp_path / "set.h5"
    grams[5] = np.nan
    values, factors = np.concatenate([made.values, grams], 1), [*made.factors, Factor("grams", "g", 0, 7)]
    chosen = made.column(aux.split(",")) if "grams" not in aux else [2, 7]
    write(data, made.images[:], values[:, chosen], [factors[column] for column in chosen], {})
    trainer = Trainer(
        config(data, tmp_path / "run", aux=aux, labels=labels, **FIELDS), start(find_world({}), "cpu"), open_set(data)
    )
    trainer.connect()
    said = capsys.readouterr().err
    assert f"warning: {told}" in said if told else "guides the same again" not in said
    if labels == "kinds":
        assert check(["check", str(data)]) == 0
        left_out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out below: ")]
        assert len(left_out) == bool(told) and all(told.split(" guides")[0] + ", for " in line for line in left_out)
