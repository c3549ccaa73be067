"""The Python door: what `import hpcauxvae` offers, and that it costs nothing until it is used."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hpcauxvae
from hpcauxvae.types import InputError


def test_the_import_brings_nothing() -> None:
    program = "import sys; before = {*sys.modules}; import hpcauxvae; print(sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    brought = done.stdout.strip()
    assert not any(name in brought for name in ("torch", "numpy", "h5py", "hpcauxvae.")), brought


def test_a_run_a_set_and_a_loss(trained_run: Path, blobs_file: Path) -> None:
    run, data = hpcauxvae.load(trained_run), hpcauxvae.open_set(blobs_file)
    posterior = run.model.encode(torch.from_numpy(data.images[:3].copy()), torch.from_numpy(data.scaled()[:3]).float())
    assert posterior.mean.shape[0] == 3
    u = torch.linspace(0, 1, 50)[:, None]
    intra, inter = hpcauxvae.regularizer(u, torch.cat([u, u], 1), degree=1)
    assert intra.item() == pytest.approx(0, abs=1e-6), "R1 (8) of u and itself"
    assert inter.item() == pytest.approx(1, abs=1e-6), "R0 (7) of u and a residual latent that is u"


def test_what_it_does_not_have() -> None:
    assert {*hpcauxvae.__all__} <= {*dir(hpcauxvae)}
    with pytest.raises(AttributeError, match="'hpcauxvae' has no attribute 'train_all'"):
        hpcauxvae.train_all  # noqa: B018
    with pytest.raises(InputError, match="no such file"):
        hpcauxvae.open_set("nowhere.h5")
