"""What a run says at the end of an epoch: how the factors are read, and how many latents are in use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcauxvae.metrics.codes import Codes
from hpcauxvae.train.tracking import EpochLog

ROW: dict[str, Any] = {
    "epoch": 1, "step": 5, "seconds": 1.0, "images_per_s": 100.0, "learning_rate": 0.1, "gradient_norm": 1.0,
    "train": {"loss": 2.0, "kl": 1.0}, "validation": {"loss": 3.0, "lds": 1.02, "lds_attainable": 1.0},
}  # fmt: skip


def codes() -> Codes:
    """Slant runs backwards and is squeezed, azimuth is off by a constant; one of three residual latents is in use."""
    rng = np.random.default_rng(0)
    u = rng.random((500, 2))
    mean = np.c_[0.5 - 0.07 * u[:, 0], (u[:, 1] + 0.3) % 1, rng.standard_normal((500, 3)) * [1, 0.001, 0.001]]
    return Codes(
        mean_NZ=mean, logvar_NZ=np.full_like(mean, -6.0), aux_ND=u, hidden_NH=u[:, :0],
        aux_names=["slant", "azimuth"], hidden_names=(), seed=0, aux_kinds=["continuous", "periodic"],
    )  # fmt: skip


def scalars(folder: Path) -> dict[str, float]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def test_an_epochs_line_row_and_scalars_show_a_factor_that_runs_backwards(tmp_path: Path, capsys) -> None:
    log = EpochLog(tmp_path, 1, 0)
    log.write(ROW, codes(), guided=True)
    log.close()
    assert (
        "LDS 1.020 of 1.000  r slant -1.00, azimuth 1.00; 1 of 3 residual latents in use  100"
        in capsys.readouterr().out
    )
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["latents_in_use"] == 3
    assert row["reading"]["slant"] == {"r": pytest.approx(-1), "slope": pytest.approx(-0.07)}
    assert row["reading"]["azimuth"] == {"r": pytest.approx(1)}
    shown = scalars(tmp_path)
    assert (shown["r/slant"], shown["slope/slant"]) == (pytest.approx(-1), pytest.approx(-0.07))
    assert shown["latents_in_use"] == 3
    assert "slope/azimuth" not in shown


def test_of_a_model_that_guides_no_latent_no_reading_is_said(tmp_path: Path, capsys) -> None:
    log = EpochLog(tmp_path, 1, 0)
    log.write(ROW, codes(), guided=False)
    log.write(ROW | {"epoch": 2}, None, guided=False)
    log.close()
    first, second = capsys.readouterr().out.splitlines()
    assert "1.000  3 of 5 latents in use  100" in first
    assert "in use" not in second
