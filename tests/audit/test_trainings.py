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
from hpcauxvae.audit import findings
from hpcauxvae.audit.command import main
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.types import Batch

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
