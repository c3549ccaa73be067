"""A model from another package: trained on two ranks, killed, resumed, evaluated, encoded and generated from."""

import json
import re
import shutil
import signal
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from helpers import steps
from helpers.forked import on_ranks, run
from helpers.outside import NAME, package
from helpers.places import ROOT
from helpers.ranks import ends, running, start_ranks
from helpers.trainings import alone, config
from hpcauxvae.models import MODELS, check_name, model_class
from hpcauxvae.models.base import Model
from hpcauxvae.models.objectives import OBJECTIVES
from hpcauxvae.train.checkpoint import LAST, read
from hpcauxvae.train.run import load_run
from hpcauxvae.types import Batch, InputError, Posterior, Reduction


def weights(run: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in read(run / LAST)[0].items() if name.startswith("model.")}


@pytest.mark.processes
@pytest.mark.slow
def test_a_model_of_another_package_goes_the_whole_way(blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(package(tmp_path))  # the console script finds it in the working folder
    fields = ["--model", NAME, "--aux", "radius,g1", "--batch-size", 16, "--epochs", 30, "--device", "cpu"]
    fields += ["--resume", "auto", "--dtype", "float64"]
    ranks = start_ranks(2, blobs_file, *fields, "--out", "whole")
    assert ends(ranks)[0] == [0, 0]
    ranks = start_ranks(2, blobs_file, *fields, "--out", "killed")
    running(ranks, lambda: (tmp_path / "killed" / LAST).exists())
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    assert ends(ranks)[0] == [-signal.SIGKILL] * 2
    assert ends(start_ranks(2, blobs_file, *fields, "--out", "killed"))[0] == [0, 0]
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values)
    for words in (
        ("evaluate", "whole", "--no-pictures"),
        ("encode", "whole", str(blobs_file), "codes.h5"),
        ("generate", "whole", "--sweep", "radius=.2:.9:3", "--out", "swept.h5"),
    ):
        done = run("-m", "hpcauxvae", *words)
        assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert scores["sets"]["test"]["reading"]["radius"]["r"]["value"] > 0.5, "it learned what it was shown"
    with h5py.File("codes.h5") as codes, h5py.File("swept.h5") as swept:
        assert codes["mean"].shape == (160, 10) and len(swept["images"]) == 3


def test_of_a_model_with_a_loss_as_a_whole_no_parts_can_be_made(blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(package(tmp_path))
    with pytest.raises(InputError, match=r"accumulate = 2: stars.models:StarVAE has its loss as a whole"):
        alone(config(blobs_file, tmp_path / "run", model=NAME, accumulate=2))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "aux_vae",
            "model = aux_vae; allowed: aux-vae, beta-vae, idvae, .*, dip-vae-ii, or my_package.my_module:MyVAE",
        ),
        (
            "nowhere.at_all:VAE",
            "model = nowhere.at_all:VAE: No module named 'nowhere'; allowed: what Python can import",
        ),
        ("math:VAE", "model = math:VAE: module 'math' has no attribute 'VAE'; allowed"),
        ("math:pi", "model = math:pi: is 3.14.*; allowed: a subclass of hpcauxvae.models.base.Model"),
    ],
)
def test_a_model_that_cannot_be_had_is_named(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        model_class(name)


def test_every_model_has_its_class_and_the_name_of_another_is_taken_for_one() -> None:
    assert all(issubclass(model_class(name), Model) for name in MODELS)
    check_name(NAME)  # not imported


def test_a_class_that_lacks_something_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_made.py").write_text(
        "from hpcauxvae.models.base import Model\nclass VAE(Model):\n    def decode(self, z_BZ): return z_BZ\n"
    )
    with pytest.raises(InputError, match="model = half_made:VAE: has no encode and no sample_terms; allowed"):
        model_class("half_made:VAE")


ODD = '''
from torch import nn
from hpcauxvae.models.aux_vae import AuxVAE


class Odd(AuxVAE):
    """Weights that two layers share, a layer that is frozen, and another without a gradient."""

    def __init__(self, objective, **sizes):
        super().__init__(objective, **sizes)
        self.first, self.second = nn.Linear(self.latents, self.latents), nn.Linear(self.latents, self.latents)
        self.second.weight = self.first.weight
        self.frozen, self.unused = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)

    def decode(self, z_BZ):
        return super().decode(self.second(self.first(z_BZ)))


class Whole(AuxVAE):
    """A loss of its own around that of Aux-VAE."""

    def forward(self, batch, noise_BZ, reduction):
        terms = super().forward(batch, noise_BZ, reduction)
        return terms | {"mine": 7 * terms["kl"]}
'''


def test_shared_frozen_and_unused_weights_are_saved_and_resumed(blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "odd_weights.py").write_text(ODD)
    fields = {"model": "odd_weights:Odd", "network": "mlp", "resume": "auto"}
    assert alone(config(blobs_file, tmp_path / "whole", epochs=2, **fields)) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "run", symlinks=True)
    first, second = sorted((tmp_path / "run" / "checkpoints").iterdir())
    second.unlink()  # from the end of the first epoch on
    assert alone(config(blobs_file, tmp_path / "run", epochs=2, **fields)) == 0
    assert first.exists() and second.exists()
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values)
    assert load_run(tmp_path / "run").model.second.weight.shape == (10, 10)


def test_parts_of_a_batch_cannot_leave_out_what_a_subclass_adds(blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "added_term.py").write_text(ODD)
    with pytest.raises(InputError, match="accumulate = 2: added_term:Whole has its loss as a whole"):
        alone(config(blobs_file, tmp_path / "run", model="added_term:Whole", accumulate=2))


def test_a_run_whose_model_is_gone_says_so(run_copy: Path) -> None:
    from hpcauxvae.train.checkpoint import write

    tensors, state = read(run_copy / LAST)
    state["config"]["model"] = "gone.away:VAE"
    (run_copy / LAST).unlink()
    write(run_copy / LAST, tensors, state)
    with pytest.raises(InputError, match=r"last.safetensors: model = gone.away:VAE: No module named 'gone'"):
        load_run(run_copy)


def printed(after: str) -> str:
    """The indented block of CONTRIBUTING.md behind these words, as Python."""
    example = re.match(r"(?:    .*\n|\n)+", (ROOT / "CONTRIBUTING.md").read_text().split(f"{after}\n\n")[1])
    assert example is not None
    return textwrap.dedent(example[0])


def test_the_example_of_contributing_trains_as_it_is_printed(blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "printed.py").write_text(printed("a model of your own needs:"))
    monkeypatch.syspath_prepend(tmp_path)
    alone(config(blobs_file, tmp_path / "run", model="printed:MyVAE"))
    assert load_run(tmp_path / "run").model.GUIDED


def test_the_rival_of_contributing_computes_what_it_says(tmp_path: Path, monkeypatch) -> None:
    """The squared MMD by its definition, as a sum over all pairs, the prior's part from many draws of it."""
    (tmp_path / "printed_rival.py").write_text(printed("with `rows_of_all`:"))
    monkeypatch.syspath_prepend(tmp_path)
    rival: Any = model_class("printed_rival:MMDVAE")
    sizes: dict[str, Any] = {"image_shape": (1, 8, 8), "latents": 3, "network": "mlp", "columns": (), "n_train": 50}
    made = rival(OBJECTIVES["tuned"], **sizes).double()
    generator = torch.Generator().manual_seed(0)
    posterior = Posterior(*torch.randn(2, 6, 3, generator=generator, dtype=torch.float64))
    noise = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    given = Batch(torch.zeros(6, 1, 8, 8), torch.zeros(6, 0), torch.arange(6))
    found = made.batch_terms(given, posterior, noise, Reduction(6))["mmd"].item()
    z = (posterior.mean + (posterior.logvar / 2).exp() * noise).numpy()
    prior = np.random.default_rng(1).normal(size=(400_000, 3))

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a - b) ** 2).sum(1) / 6)

    inside = np.mean([kernel(a[None], b[None]) for a in z for b in z])
    between = np.mean([kernel(a[None], prior) for a in z])
    assert found == pytest.approx(100 * (inside - 2 * between + kernel(prior[::2], prior[1::2]).mean()), abs=0.2)
    assert found > 2


@pytest.mark.slow
@pytest.mark.processes
def test_the_rival_of_contributing_is_the_same_on_any_number_of_ranks(blobs_file: Path, tmp_path: Path) -> None:
    (tmp_path / "printed_rival.py").write_text(printed("with `rows_of_all`:"))
    one, *others = (on_ranks(count, steps.record_outside, blobs_file, tmp_path)[0] for count in (1, 2, 3))
    for name, value in one.items():
        for found in others:
            assert np.linalg.norm(found[name] - value) <= 1e-9 * np.linalg.norm(value), name
