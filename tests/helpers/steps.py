"""Program for test_train.py: 20 training steps in float64 of each of CASES, on the processes its launcher starts, and
the validation after them.

torchrun --nproc-per-node N steps.py DATA.h5 OUT.npz
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime.collectives import start, stop
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train import trainer as trainer_module
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.trainer import Trainer

# 8 and 11 do not divide evenly by 3.
CASES = {
    "tuned 12": {"objective": "tuned", "batch_size": 12},
    "tuned 8": {"objective": "tuned", "batch_size": 8, "ramp": 0.01, "symmetries": "left-right transpose:g1"},
    "paper 11": {"objective": "paper", "batch_size": 11},
    "momentum 9": {"objective": "tuned", "batch_size": 9, "momentum": 0.5, "network": "mlp"},
    "optimal 11": {"objective": "paper", "batch_size": 11, "likelihood": "optimal", "draws": 2},
    "reference 11": {"objective": "reference", "batch_size": 11},
    "idvae 8": {"objective": "paper", "batch_size": 8, "model": "idvae", "network": "mlp"},
}
trainer_module._VALIDATION_BATCH = 10  # of 32 samples: four batches, the last of 2, of which a third rank gets none


def endless(trainer):
    """The batches of epoch after epoch."""
    while True:
        yield from trainer.batches()
        trainer.finish_epoch(0.0)


def main() -> None:
    """Holds the last references to the processes and the trainers, so that gloo can end before Python does."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    processes = start(find_world(), "cpu")
    record = {}
    for case, fields in CASES.items():
        config = TrainConfig(data=data, out=out, aux="radius,g1", latents=4, dtype="float64", **fields)
        trainer = Trainer(config, processes, open_set(data))
        trainer.connect()
        losses = []
        for batch, noise_BZ in islice(endless(trainer), 20):
            terms = trainer.train_step(batch, noise_BZ)
            losses.append(list(trainer._mean_over_ranks(terms).values()))
            if len(losses) == 1:
                for name, parameter in trainer.model.named_parameters():
                    record[f"{case}/{name}"] = parameter.grad.numpy().copy()
        record[f"{case}/losses"] = np.array(losses)
        for name, parameter in trainer.model.named_parameters():
            record[f"{case}/{name} at the end"] = parameter.detach().numpy().copy()
        scores, codes = trainer.validate(lambda: False)
        record |= {f"{case}/validation/{name}": np.array(value) for name, value in scores.items()}
        for name in ("mean_NZ", "logvar_NZ", "aux_ND"):
            record[f"{case}/validation/{name}"] = getattr(codes, name)
    if processes.world.rank == 0:
        np.savez(out, **record)


main()
stop()
