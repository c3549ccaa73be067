"""20 training steps in float64 of each of CASES, on the ranks of the environment, and the validation."""

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.models import factor_vae
from hpcauxvae.runtime.collectives import start, stop
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train import trainer as trainer_module
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.trainer import Trainer

# 8 and 11 do not divide evenly by 3.
CASES = {
    "tuned 12": {"objective": "tuned", "batch_size": 12},
    "tolerance 8": {"objective": "tuned", "batch_size": 8, "dependence_tolerance": 0.05, "guide": 0.01},
    "tuned hsic 9": {"objective": "tuned", "batch_size": 9, "dependence": "hsic", "guide": 0.01, "network": "mlp"},
    "paper 11": {"objective": "paper", "batch_size": 11},
    "lambda2 9": {"objective": "tuned", "batch_size": 9, "lambda2": 1000.0, "guide": 0.01, "network": "mlp"},
    "gaussian 8": {"objective": "gaussian", "batch_size": 8, "draws": 2, "accumulate": 2},
    "optimal 11": {"objective": "paper", "batch_size": 11, "likelihood": "optimal", "draws": 2},
    "reference 11": {"objective": "reference", "batch_size": 11},
    "idvae 8": {"objective": "paper", "batch_size": 8, "model": "idvae", "network": "mlp"},
}


# Of images with missing pixels.
HOLED = {
    "weighted 11": {"objective": "weighted", "batch_size": 11, "guide": 0.01, "network": "mlp"},
    "gaussian 8": {"objective": "gaussian", "batch_size": 8, "guide": 0.01, "network": "mlp"},
}


# Those of docs/rivals.md, of which some have terms of all pairs of a batch.
RIVALS = {
    f"{model} {size}": {"objective": objective, "batch_size": size, "model": model, "network": "mlp"}
    for model, size, objective in (
        ("supervised-vae", 11, "paper"),
        ("ar-vae", 11, "paper"),
        ("cvae", 11, "paper"),
        ("ivae", 8, "paper"),
        ("ci-ivae", 8, "gaussian"),
        ("beta-tcvae", 11, "paper"),
        ("factor-vae", 11, "paper"),
        ("dip-vae-i", 8, "tuned"),
        ("dip-vae-ii", 11, "paper"),
    )
}


def endless(trainer):
    """The batches of epoch after epoch."""
    while True:
        yield from trainer.batches()
        trainer.finish_epoch(0.0)


def record(data: Path) -> dict[str, np.ndarray]:
    """By case and name; the first gradients, all losses, the last weights, and what validation returns."""
    found = _record(data)
    stop()  # once no trainer is left: gloo must end before Python does
    return found


def prepared(data: Path) -> dict[str, np.ndarray]:
    """What a new model has taken from the data on these ranks."""
    trainer = Trainer(
        TrainConfig(data=data, out=data.parent, aux="radius,g1"), start(find_world(), "cpu"), open_set(data)
    )
    trainer.connect()
    found = {name: tensor.numpy().copy() for name, tensor in trainer.model.state_dict().items()}
    del trainer
    stop()
    return found


def record_holed(data: Path) -> dict[str, np.ndarray]:
    """The same of HOLED, on a file with missing pixels and weights."""
    found = _record(data, HOLED)
    stop()
    return found


def record_erring(data: Path) -> dict[str, np.ndarray]:
    """The same of a case with a tolerance, on a file whose labels have errors."""
    found = _record(data, {"tolerance 8": CASES["tolerance 8"]})
    stop()
    return found


def record_rivals(data: Path) -> dict[str, np.ndarray]:
    """The same of RIVALS, on a file of which some labels are missing."""
    factor_vae._WIDTH = 50
    found = _record(data, RIVALS, 8)
    stop()
    return found


def record_outside(data: Path, folder: Path) -> dict[str, np.ndarray]:
    """The same of the rival that CONTRIBUTING.md prints, written to a module in this folder."""
    sys.path.append(str(folder))
    fields = {"objective": "paper", "batch_size": 11, "model": "printed_rival:MMDVAE", "network": "mlp"}
    found = _record(data, {"printed 11": fields}, 8)
    stop()
    return found


def _record(data: Path, cases: dict[str, dict[str, Any]] = CASES, count: int = 20) -> dict[str, np.ndarray]:
    # Of 32 samples: four batches, the last of 2, of which a third rank gets none.
    trainer_module._VALIDATION_BATCH = 10
    processes = start(find_world(), "cpu")
    record = {}
    for case, fields in cases.items():
        config = TrainConfig(data=data, out=data.parent, aux="radius,g1", latents=4, dtype="float64", **fields)
        trainer = Trainer(config, processes, open_set(data))
        trainer.connect()
        if case.startswith("tolerance"):  # what is asked for is then read farther from the line than real images are
            trainer.model.encoder.output.weight.data.mul_(30)
        losses = []
        for batch, noise_BZ in islice(endless(trainer), count):
            terms = trainer.train_step(batch, noise_BZ)
            losses.append(list(trainer.mean_over_ranks(terms).values()))
            if len(losses) == 1:
                for name, parameter in trainer.model.named_parameters():
                    record[f"{case}/{name}"] = parameter.grad.numpy().copy()
        record[f"{case}/losses"] = np.array(losses)
        for name, parameter in trainer.model.named_parameters():
            record[f"{case}/{name} at the end"] = parameter.detach().numpy().copy()
        for name, buffer in trainer.model.named_buffers():
            if name.startswith(("noise.", "variance.")):  # what is fitted, also where a bound holds what comes of it
                record[f"{case}/{name} at the end"] = buffer.numpy().copy()
        scores, codes = trainer.validate(lambda: False)
        record |= {f"{case}/validation/{name}": np.array(value) for name, value in scores.items()}
        for name in ("mean_NZ", "logvar_NZ", "aux_ND"):
            record[f"{case}/validation/{name}"] = getattr(codes, name)
    return record
