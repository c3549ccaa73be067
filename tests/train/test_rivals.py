"""The models of docs/rivals.md: the same on one, two and three ranks; trained, evaluated, reported, generated from."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers import steps
from helpers.forked import on_ranks, run
from helpers.trainings import alone, assert_same, blobs, config, tensors
from hpcauxvae.models import MODELS, UNTOLD, factor_vae, model_class
from hpcauxvae.runtime.stop_requests import FINISHED, MORE_TO_DO
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError

RIVALS = [name for name in MODELS if name not in ("aux-vae", "beta-vae", "idvae", "idvae-x")]


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs of which every fifth label is missing."""
    path = blobs(tmp_path_factory.mktemp("data") / "blobs.h5")
    with h5py.File(path, "r+") as file:
        values = file["factors"][:]
        values[np.arange(160) % 5 == 1, 0] = np.nan
        values[np.arange(160) % 5 == 3, 1] = np.nan
        file["factors"][:] = values
    return path


@pytest.mark.slow
@pytest.mark.processes
def test_steps_gradients_and_validation_are_the_same_on_one_two_and_three_processes(holed: Path) -> None:
    """Eight steps of batches that divide unevenly, some labels missing; a validation of which a rank has no part."""
    recorded = {processes: on_ranks(processes, steps.record_rivals, holed)[0] for processes in (1, 2, 3)}
    assert {name.partition("/")[0].split()[0] for name in recorded[1]} == set(RIVALS)
    for processes in (2, 3):
        assert recorded[processes].keys() == recorded[1].keys()
        for name, value in recorded[1].items():
            found = recorded[processes][name]
            assert np.isfinite(value).all() or name.endswith("aux_ND"), name
            columns = (np.nan_to_num(x).reshape(*x.shape[:1], -1) for x in (found - value, value))
            errors, sizes = (np.linalg.norm(x, axis=0 if name.endswith("/losses") else None) for x in columns)
            assert (errors <= 1e-9 * sizes + 1e-15).all(), (processes, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_each_trains_and_is_evaluated_reported_and_generated_from(name: str, holed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert alone(config(holed, out, model=name, network="mlp", objective="tuned")) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(list(row["validation"].values())).all() for row in rows)
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]
    commands = [("evaluate", out, "--no-pictures"), ("report", out)]
    if model_class(name).GUIDED:
        commands.append(("generate", out, "--sweep", "radius=.2:.9:3", "--out", tmp_path / "swept.h5"))
    for words in commands:
        done = run("-m", "hpcauxvae", *words)
        assert done.returncode == 0, done.stderr
    scores = json.loads((out / "metrics.json").read_text())["sets"]["test"]
    assert ("reading" in scores and bool(scores["reading"])) == model_class(name).GUIDED
    if model_class(name).GUIDED:
        with h5py.File(tmp_path / "swept.h5") as file:
            assert np.isfinite(file["images"][:]).all() and len(file["images"]) == 3


@pytest.mark.parametrize("name", ["factor-vae", "cvae"])
def test_one_that_is_stopped_and_resumed_ends_as_one_that_is_left_alone(
    name: str, holed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal_after: Callable
) -> None:
    """The usual norm of gradients, and the discriminator with its Adam, go on where they were."""
    monkeypatch.setattr(factor_vae, "_WIDTH", 50)
    fields = {"model": name, "network": "mlp", "resume": "auto", "objective": "tuned"}
    assert alone(config(holed, tmp_path / "whole", **fields)) == FINISHED
    signal_after(signal.SIGTERM, 9)
    assert alone(config(holed, tmp_path / "stopped", **fields)) == MORE_TO_DO
    assert alone(config(holed, tmp_path / "stopped", **fields)) == FINISHED
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    assert np.isfinite(tensors(tmp_path / "whole")["model.norms.log"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", RIVALS)
def test_each_trains_in_bfloat16(name: str, holed: Path, tmp_path: Path) -> None:
    assert alone(config(holed, tmp_path / "run", model=name, network="mlp", objective="tuned", bf16=True)) == FINISHED
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(list(row["validation"].values())).all() for row in rows)
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]


def test_factors_are_needed_by_those_that_are_told_of_them(tmp_path: Path) -> None:
    for name in RIVALS:
        if name in UNTOLD:
            config(tmp_path / "x.h5", tmp_path, model=name, aux="")
        else:
            with pytest.raises(InputError, match=f"aux is empty; allowed for {name}"):
                config(tmp_path / "x.h5", tmp_path, model=name, aux="")


def test_a_discriminator_is_no_part_of_what_encodes_and_decodes(blobs_file: Path, tmp_path: Path) -> None:
    alone(config(blobs_file, tmp_path / "run", model="factor-vae", network="mlp", epochs=1, own_weight=3.0))
    loaded = load_run(tmp_path / "run")
    assert loaded.model.own_weight == 3
    before = loaded.digest
    loaded.model.discriminator[0].weight.data += 1
    assert loaded.digest == before


def test_the_loss_of_factor_vae_is_a_whole(blobs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accumulate = 2: factor-vae has its loss as a whole"):
        alone(config(blobs_file, tmp_path / "run", model="factor-vae", accumulate=2))
