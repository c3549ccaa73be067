"""What the convolutional and the residual network cost at each image size: memory, operations, images per second.

python benchmarks/networks.py [--sizes 28 33 1x1000] [--batch-size 64] [--rounds 5] [--no-times] [--results FILE.json]

Parameters; the operations of one encoding and decoding of an image, a multiply-add as two; the memory of a training
step of the default model: weights, gradients and Adam's two moments, and what the forward pass keeps for the backward
pass, counted in batches of 4 and 8 images and scaled to the batch. Then, unless --no-times: images per second of
training steps, the two networks in turn, and their ratio in each round: its median, smallest and largest. The images
are made here.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step import keep, ours, timed
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.models.networks import ImageShape, halves
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import Factor

NETWORKS = ("conv", "resnet")
LATENTS = 10
FEW, MORE = 4, 8
"""Images of the batches in which memory is counted."""


def size_of(text: str) -> ImageShape:
    """28 -> (1, 28, 28); 1x1000 -> (1, 1, 1000)."""
    height, _, width = text.partition("x")
    return 1, int(height), int(width or height)


def counted(network: str, shape: ImageShape) -> dict[str, int]:
    """Parameters, and floating-point operations of an encoding and a decoding of one image."""
    encoder, decoder = (make(shape, LATENTS) for make in halves(network))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, *shape))
        decoder(torch.zeros(1, LATENTS))
    parameters = sum(weights.numel() for module in (encoder, decoder) for weights in module.parameters())
    return {"parameters": parameters, "flop": counter.get_total_flops()}


def made(path: Path, shape: ImageShape, batch_size: int) -> Path:
    """Counts, and two factors, as many as two batches need."""
    rng = np.random.default_rng(0)
    images = rng.poisson(50, (-(-2 * batch_size * 10 // 7) + 10, *shape)).astype(np.float32)
    write(path, images, rng.random((len(images), 2)), [Factor("a", "", 0, 1), Factor("b", "", 0, 1)], {})
    return path


def kept(config: TrainConfig) -> int:
    """Bytes that a training step keeps for its backward passes, each storage once; weights left out."""
    loop, seen = ours(config, open_set(config.data)), dict[int, Tensor]()
    next(loop)

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            seen[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no storage is used again
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        next(loop)
    return sum(tensor.untyped_storage().nbytes() for tensor in seen.values())


def measured(shape: ImageShape, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """A row for each network."""
    rows: dict[str, dict[str, Any]] = {network: counted(network, shape) for network in NETWORKS}
    with tempfile.TemporaryDirectory() as folder:
        data = made(Path(folder) / "set.h5", shape, options.batch_size)
        fields: dict[str, Any] = {"data": data, "out": Path(folder), "aux": "a,b", "latents": LATENTS}
        for network, row in rows.items():
            few, more = (
                kept(TrainConfig(**fields | {"network": network, "batch_size": images, "device": "cpu"}))
                for images in (FEW, MORE)
            )
            an_image = (more - few) / (MORE - FEW)
            row["bytes"] = round(16 * row["parameters"] + few + (options.batch_size - FEW) * an_image)
        if options.times:
            fields["batch_size"] = options.batch_size
            configs = {name: TrainConfig(**fields | {"network": name}) for name in NETWORKS}
            loops = {name: ours(config, open_set(data)) for name, config in configs.items()}
            rates = timed(loops, options.rounds, options.batch_size)
            for network, row in rows.items():
                ratios = [one / base for one, base in zip(rates[network], rates[NETWORKS[0]], strict=True)]
                row |= {"images/s": statistics.median(rates[network]), "ratio": statistics.median(ratios)}
                row["range"] = [min(ratios), max(ratios)]
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["28", "33", "64", "128", "256"])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-times", dest="times", action="store_false")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    heads = f"{'images/s':>10}{'ratio':>8}  smallest, largest" if options.times else ""
    print(f"{'pixels':10}{'network':8}{'parameters':>12}{'MFLOP':>9}{'GB a step':>11}{heads}")
    table = {}
    for text in options.sizes:
        table[text] = measured(size_of(text), options)
        for network, row in table[text].items():
            line = f"{text:10}{network:8}{row['parameters']:12,}{row['flop'] / 1e6:9.1f}{row['bytes'] / 1e9:11.2f}"
            if options.times:
                low, high = row["range"]
                line += f"{row['images/s']:10.0f}{row['ratio']:8.2f}  {low:.2f}, {high:.2f}"
            print(line, flush=True)
    if options.results:
        keep(options.results, table)


if __name__ == "__main__":
    main()
