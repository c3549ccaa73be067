"""Trainings on labels whose errors are known: the same on any number of ranks."""

from pathlib import Path

import numpy as np
import pytest

from helpers import steps
from helpers.forked import on_ranks
from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, write


def erring(path: Path) -> Path:
    """The blobs with labels off by a fifth of their ranges; every tenth error is not known, some labels are missing."""
    data, rng = open_set(blobs(path.with_name("plain.h5"))), np.random.default_rng(4)
    errors = np.tile([0.2 * (factor.high - factor.low) for factor in FACTORS], (len(data), 1))
    errors[::10] = 0
    values = data.values + errors * rng.standard_normal(data.values.shape)
    values[5::20, 0] = np.nan
    errors[::10] = np.nan
    values[::10] = np.clip(values[::10], [f.low for f in FACTORS], [f.high for f in FACTORS])
    write(path, data.images[:], values, FACTORS, {}, factor_errors=errors)
    return path


@pytest.mark.slow
@pytest.mark.processes
def test_twenty_steps_are_the_same_on_one_two_and_three_processes(tmp_path: Path) -> None:
    path = erring(tmp_path / "erring.h5")
    recorded = {processes: on_ranks(processes, steps.record_erring, path)[0] for processes in (1, 2, 3)}
    for processes in (2, 3):
        together = recorded[processes]
        assert together.keys() == recorded[1].keys()
        for name, value in recorded[1].items():
            assert np.isfinite(value).all() or name.endswith("aux_ND"), name
            error, size = (np.linalg.norm(np.nan_to_num(x)) for x in (together[name] - value, value))
            assert error <= 1e-9 * size, name


def test_other_models_say_that_errors_are_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = erring(tmp_path / "erring.h5")
    rivals = [("idvae", {"model": "idvae"}), ("ar-vae", {"model": "ar-vae", "network": "mlp"})]
    for name, fields in (*rivals, ("fixed", {"lambda2": 10.0}), ("default", {})):
        alone(config(path, tmp_path / name, epochs=1, objective="tuned", **fields))
        says = (
            "factor_errors are not used by this model and objective: labels count as exact" in capsys.readouterr().err
        )
        assert says == (name != "default")
