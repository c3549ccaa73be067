"""An audit of a data set: its trainings, and the likelihood that it compares."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn

from helpers.trainings import FACTORS
from hpcauxvae.audit import findings, trainings
from hpcauxvae.audit.command import AuditConfig, main
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import Batch, Factor

SIGMA = 0.5
AXES = np.array([[1.0, 1, 1, 1], [1, -1, 1, -1], [0.5, 0.5, -0.5, -0.5]])
"""Pixels (Z, 4) of a latent, orthogonal; the first is guided."""


class Exact(nn.Module):
    """The posterior of the residual latents of a linear decoder with such axes; that of the guided one is far off."""

    linear = None

    def forward(self, seen: Tensor, labels: Tensor | None = None) -> Tensor:
        axes_ZP = torch.from_numpy(AXES).to(seen)
        precision_Z = 1 + axes_ZP.square().sum(1) / SIGMA**2
        mean_BZ = (seen[:, 0].flatten(1) @ axes_ZP.T) / SIGMA**2 / precision_Z
        mean_BZ[:, 0] += 7
        return torch.cat([mean_BZ, (-precision_Z.log()).expand_as(mean_BZ)], 1)


class Linear(nn.Module):
    def forward(self, z_BZ: Tensor) -> Tensor:
        return (z_BZ @ torch.from_numpy(AXES).to(z_BZ)).unflatten(1, (1, 2, 2))


def test_the_bound_is_the_likelihood_where_the_posterior_is_exact() -> None:
    """Of a linear decoder, log N(x; W_u u, sigma^2 + W_r W_r^T), but for the constant that it leaves out."""
    objective = dataclasses.replace(OBJECTIVES["paper"], sigmoid=False, sigma=SIGMA)
    model = AuxVAE(objective, image_shape=(1, 2, 2), latents=3, network="mlp", columns=(0,), n_train=10**10).double()
    assert objective.likelihood == "gaussian"
    model.eval().encoder, model.decoder = Exact(), Linear()
    rng = np.random.default_rng(0)
    u_N, images = rng.random(5), rng.random((5, 4))
    batch = Batch(torch.from_numpy(images).reshape(5, 1, 2, 2), torch.from_numpy(u_N)[:, None], torch.arange(5))
    with torch.no_grad():
        draws = [model.bound(batch, torch.from_numpy(rng.standard_normal((5, 3)))) for _ in range(4000)]
    covariance = SIGMA**2 * np.eye(4) + AXES[1:].T @ AXES[1:]
    exact = [multivariate_normal(u * AXES[0], covariance).logpdf(x) for u, x in zip(u_N, images, strict=True)]
    constant = 4 / 2 * math.log(2 * math.pi * SIGMA**2)
    np.testing.assert_allclose(torch.stack(draws).mean(0).numpy(), np.array(exact) + constant, atol=0.1)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """160 images with ten auxiliary variables, u0 to u9, the label errors of which are known, and three candidates:
    `a b`, `a_b` and `rare`, which is measured in 20."""
    rng = np.random.default_rng(0)
    names = [*(f"u{k}" for k in range(10)), "a b", "a_b", "rare"]
    values = rng.random((160, len(names)))
    values[20:, -1] = np.nan
    errors = np.full(values.shape, 0.1)
    factors = [Factor(name, "", 0.0, 1.0 if name == "u0" else 2.0) for name in names]
    images = rng.poisson(5, (160, 1, 8, 8)).astype(np.float32)
    write(tmp_path / "wide.h5", images, values, factors, {}, factor_errors=errors)
    return tmp_path / "wide.h5"


def test_what_is_trained_is_decided_before_any_training(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A candidate that is left out is not trained with; ten auxiliary variables and one more are not refused; names
    alike have folders of their own."""
    monkeypatch.setattr(findings, "FEWEST", 16)
    monkeypatch.setattr(trainings, "_gain", lambda *_: {})
    runs: list[TrainConfig] = []
    monkeypatch.setattr(trainings, "_trained", lambda config: runs.append(config) or 0)
    known = ",".join(f"u{k}" for k in range(10))
    asked = AuditConfig(source=wide, candidate="all", aux=known, with_candidate=True)
    names = trainings.fit_to_ask(asked)
    assert names == ("a b", "a_b") and runs == []
    assert "rare: measured in " in capsys.readouterr().err
    assert trainings.train_without(asked, tmp_path) == 0
    assert trainings.gain_of_each(asked, names, tmp_path) == (0, {"a b": {}, "a_b": {}})
    assert [run.latents for run in runs] == [10, 11, 11]
    assert len({run.out for run in runs}) == 3
    assert not any("rare" in run.aux for run in runs)


def test_labels_have_their_errors_in_the_likelihood(wide: Path) -> None:
    data = open_set(wide)
    batch = trainings.batch_of(data, data.scaled(), data.scaled_errors(), np.array([3, 5]))
    assert batch.errors is not None
    np.testing.assert_allclose(batch.errors.numpy()[:, :2], [[0.1, 0.05]] * 2)


@pytest.mark.slow
def test_a_set_is_trained_on_without_and_with_the_candidate(
    blobs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(findings, "FEWEST", 16)
    asked = [str(blobs_file), "--aux", "radius,g1", "--candidate", "flux", "--with", "--epochs", "1", "--device", "cpu"]
    for _ in range(2):  # the second finds the runs trained
        assert main([*asked, "--out", str(tmp_path / "out"), "--no-pictures"]) == 0
    runs = {
        name: json.loads((tmp_path / "out" / name / "config.json").read_text()) for name in ("without", "with-flux")
    }
    assert [run["aux"] for run in runs.values()] == ["radius,g1", "radius,g1,flux"]
    assert [run["latents"] for run in runs.values()] == [10, 11]
    found = json.loads((tmp_path / "out" / "audit.json").read_text())["candidates"]["flux"]
    gain = found["likelihood"]["nats"]
    assert gain["low"] < gain["value"] < gain["high"] and gain["n"] == len(np.arange(160)) // 10
    assert found["likelihood"]["words"] in capsys.readouterr().out
    assert FACTORS[2].name == "flux"
