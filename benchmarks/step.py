"""Images per second of a training step: a loop as researchers write it, and ours with one thing switched on at a time.

python benchmarks/step.py DATA.h5 [--batch-size 64] [--rounds 5] [--results FILE.json]

The researcher's loop has the same model and optimizer, and the objective with a fixed weight of independence; it takes
batches from a DataLoader, asks for the loss's value at each step, and takes each of the K^2 correlation matrices by
itself. All loops take turns in each round; a ratio is the median over the rounds, with the smallest and the largest.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.models.networks import Conv2d, ConvTranspose2d
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import Batch, LossTerms, Posterior, Reduction

BASE = "a researcher's loop"
WEIGHED: dict[str, Any] = {"lambda2": 1000.0}
"""A fixed weight of independence, as the researcher's loop has it."""
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, constraint": {"lambda2": None},
    "ours, channels last": {"channels_last": True},
    "ours, bfloat16": {"bf16": True},
    "ours, bfloat16, channels last": {"bf16": True, "channels_last": True},
    "ours, compiled": {"compile": True},
    "ours, compiled, bfloat16, channels last": {"compile": True, "bf16": True, "channels_last": True},
}
GRAPHED: dict[str, dict[str, Any]] = {
    "ours, CUDA graph": {"cuda_graph": True},
    "ours, CUDA graph, bfloat16": {"cuda_graph": True, "bf16": True, "channels_last": True},
}


def correlations_one_by_one(u_BD: Tensor, z_BZ: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    """(intra, inter) of (9) on sampled z, by K^2 calls of torch.corrcoef, as in the method's description."""
    d, dz = u_BD.shape[1], z_BZ.shape[1]
    intra = inter = u_BD.new_zeros(())
    for k in range(1, degree + 1):
        for other in range(1, degree + 1):
            matrix = torch.corrcoef(torch.cat([u_BD**k, z_BZ**other], 1).T)[:d, d:].abs()
            for i in range(d):
                intra = intra + (1 - matrix[i, i]) / degree
                for j in range(dz):
                    if j >= d:
                        inter = inter + matrix[i, j] / (degree * d * (dz - d))
                    elif j != i:
                        intra = intra + matrix[i, j] / (degree * (d - 1))
    return intra, inter


class Plain(AuxVAE):
    """The same model with the regularizers of the researcher's loop."""

    def batch_terms(self, batch: Batch, posterior: Posterior, noise_BZ: Tensor, reduction: Reduction) -> LossTerms:
        """Of sampled z."""
        z_BZ = posterior.sample(noise_BZ)
        intra, inter = correlations_one_by_one(self.factors(batch), z_BZ, self.objective.degree)
        return {"intra": self.objective.lambda1 * intra, "inter": self.objective.lambda2 * inter}


def researcher(config: TrainConfig, data: ImageSet) -> Iterator[None]:
    """One step at each turn."""
    trainer = Trainer(config, start(find_world({}), config.device), data)
    trainer.connect()
    device, objective = trainer.processes.device, trainer.objective
    model = Plain(
        objective, image_shape=data.shape, latents=config.latents, network=config.network,
        columns=tuple(trainer.columns), n_train=len(trainer.train_index),
    ).to(device)  # fmt: skip
    model.load_state_dict(trainer.model.state_dict())
    for module in model.modules():
        for of, plain in ((Conv2d, torch.nn.Conv2d), (ConvTranspose2d, torch.nn.ConvTranspose2d)):
            if isinstance(module, of):
                object.__setattr__(module, "__class__", plain)
    optimizer = torch.optim.Adam(model.parameters(), objective.learning_rate, betas=(0.9, objective.adam_beta2))
    index = trainer.train_index.numpy()
    stored = torch.utils.data.TensorDataset(
        torch.tensor(data.images[index]), torch.tensor(data.scaled()[index], dtype=torch.float32), trainer.train_index
    )
    loader = torch.utils.data.DataLoader(stored, objective.batch_size, shuffle=True, drop_last=True)
    total = 0.0
    while True:
        for images, factors, number in loader:
            batch = Batch(images.to(device), factors.to(device), number.to(device))
            optimizer.zero_grad()
            terms = model(batch, torch.randn(len(images), config.latents, device=device), Reduction(len(images)))
            loss = torch.stack(list(terms.values())).sum()
            loss.backward()
            if objective.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), objective.clip_norm)
            optimizer.step()
            total += loss.item()
            yield


def ours(config: TrainConfig, data: ImageSet) -> Iterator[None]:
    """One step at each turn."""
    trainer = Trainer(config, start(find_world({}), config.device), data)
    trainer.connect()
    while True:
        for batch, noise_BZ in trainer.batches():
            trainer.train_step(batch, noise_BZ)
            yield
        trainer.check()
        trainer.finish_epoch(0.0)


def processor() -> str:
    """Name of the CPU, and its cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def timed(loops: dict[str, Iterator[None]], rounds: int, batch_size: int) -> dict[str, list[float]]:
    """Images per second of each loop in each round; a round's turn takes about as long for each."""
    for loop in loops.values():
        next(islice(loop, 15, None))
    steps = {name: max(5, int(1.0 / _seconds(loop, 5) * 5)) for name, loop in loops.items()}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            rates[name].append(steps[name] * batch_size / _seconds(loop, steps[name]))
    return rates


def _seconds(loop: Iterator[None], steps: int) -> float:
    finish: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    finish()
    began = time.perf_counter()
    next(islice(loop, steps - 1, None))
    finish()
    return time.perf_counter() - began


def keep(path: Path, rows: dict[str, Any]) -> None:
    """Writes what was measured, with the command, the day and the machine."""
    about = {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": time.strftime("%F"),
        "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    path.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--aux", default="radius,g1,g2,flux,psf", help="case 1 of the paper")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=sorted(OURS | GRAPHED), help="one of our loops beside the researcher's")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    data = open_set(options.data)
    variants = OURS | (GRAPHED if torch.cuda.is_available() else {})
    variants = {name: switches for name, switches in variants.items() if options.only in (None, name)}
    with tempfile.TemporaryDirectory() as folder:
        fields: dict[str, Any] = {"data": options.data, "out": Path(folder), "aux": options.aux}
        fields["batch_size"] = options.batch_size
        loops = {BASE: researcher(TrainConfig(**fields, **WEIGHED), data)}
        loops |= {name: ours(TrainConfig(**fields | WEIGHED | switches), data) for name, switches in variants.items()}
        rates = timed(loops, options.rounds, options.batch_size)
    print(f"{'':42}{'images/s':>10}{'ratio':>8}  smallest, largest")
    rows = {}
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates[BASE], strict=True)]
        middle = statistics.median(ratios)
        rows[name] = {"images/s": statistics.median(values), "ratio": middle, "range": [min(ratios), max(ratios)]}
        print(f"{name:42}{rows[name]['images/s']:10.0f}{middle:8.2f}  {min(ratios):.2f}, {max(ratios):.2f}")
    if options.results:
        keep(options.results, rows)


if __name__ == "__main__":
    main()
