"""What many GPUs would give, by the model of docs/scaling.md, which has its sources; draws docs/scaling.png.

python benchmarks/scaling_model.py [--step-64 MS] [--step-1024 MS]

The two options are the milliseconds of a step on one GPU at 64 and 1024 images, as benchmarks/step.py measures them.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GRADIENT_BYTES = 4.76e6
"""Of the convolutional network at 33 x 33 in float32."""
MOMENTS_BYTES = (1.4e3, 6.1e3, 16.0)
"""The three sums of a step at d = 5, dz = 10, K = 3: means, second moments, and the derivatives of the two terms."""
GPUS_PER_NODE = 4
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Link:
    """A network between GPUs."""

    bytes_per_s: float
    """Of one GPU, one way, as it is reached in an all-reduce."""
    seconds_per_hop: float


NVLINK = Link(bytes_per_s=0.7 * 300e9, seconds_per_hop=2e-6)
SLINGSHOT = Link(bytes_per_s=0.7 * 25e9, seconds_per_hop=5e-6)
LAUNCH = 15e-6
"""Seconds that any collective takes, were the network infinitely fast."""


def all_reduce(size: float, gpus: int) -> float:
    """Seconds: a tree of hops, and the ring's 2 (n - 1) / n passes over the slowest link."""
    if gpus == 1:
        return 0.0
    nodes = math.ceil(gpus / GPUS_PER_NODE)
    inside = 2 * math.ceil(math.log2(min(gpus, GPUS_PER_NODE))) * NVLINK.seconds_per_hop
    between = 2 * math.ceil(math.log2(nodes)) * SLINGSHOT.seconds_per_hop
    rate = (SLINGSHOT if nodes > 1 else NVLINK).bytes_per_s
    return LAUNCH + inside + between + 2 * (gpus - 1) / gpus * size / rate


def step(alone: float, gpus: int) -> float:
    """Seconds of a step: gradients are summed while the backward pass, two thirds of the step, still runs, all but a
    last quarter of them; the moments' sums are waited for."""
    gradient = all_reduce(GRADIENT_BYTES, gpus)
    exposed = max(gradient / 4, gradient - alone * 2 / 3)
    return alone + exposed + sum(all_reduce(size, gpus) for size in MOMENTS_BYTES)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-64", type=float, default=1.0)
    parser.add_argument("--step-1024", type=float, default=4.0)
    parser.add_argument("--picture", type=Path, default=Path(__file__).parents[1] / "docs" / "scaling.png")
    options = parser.parse_args()
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="GPUs", ylabel="images a second")
    print(f"{'batch a GPU':>12}{'GPUs':>6}{'step ms':>9}{'moments ms':>12}{'images/s':>12}{'efficiency':>12}")
    for batch, alone in ((64, options.step_64 / 1e3), (1024, options.step_1024 / 1e3)):
        rates = []
        for gpus in COUNTS:
            seconds = step(alone, gpus)
            rates.append(batch * gpus / seconds)
            if gpus in (1, 8, 64, 512):
                moments = sum(all_reduce(size, gpus) for size in MOMENTS_BYTES)
                print(
                    f"{batch:12}{gpus:6}{1e3 * seconds:9.2f}{1e3 * moments:12.3f}{rates[-1]:12.3g}"
                    f"{alone / seconds:12.2f}"
                )
        axes.plot(COUNTS, rates, marker="o", label=f"{batch} images a GPU")
        axes.plot(COUNTS, [batch * gpus / alone for gpus in COUNTS], ":", color="grey", linewidth=1)
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.legend(frameon=False)
    figure.savefig(options.picture, dpi=160)


if __name__ == "__main__":
    main()
