"""Which factor decides what is seen: `python -m hpcauxvae sensitivity RUN` -> sensitivity.json in its folder.

Sobol indices of pixel statistics over the factor space, with the trained decoder in place of the simulator (Ganguli et
al., contribution ii). Shape legend in types.py; I inputs.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, sobol_indices, uniform

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.evaluate.command import SensitivityConfig
from hpcauxvae.evaluate.generate import Generator
from hpcauxvae.runtime.files import write_json
from hpcauxvae.train.run import data_path, load_run

STATISTICS = ("sum", "peak", "size", "e1", "e2")
Indices = dict[str, dict[str, dict[str, float]]]


def pixel_statistics(images_NCHW: NDArray) -> dict[str, NDArray[np.float64]]:
    """What a survey would measure first, (N,) each, of images summed over channels.

    `sum`, `peak` in linear data units; `size`, the root of half the trace of the second moments, in pixels; `e1` and
    `e2`, their ellipticity (Mxx - Myy) / (Mxx + Myy) and 2 Mxy / (Mxx + Myy); unweighted, pixels below 0 count as 0.
    """
    images = images_NCHW.sum(1).clip(0).astype(np.float64)
    y, x = np.indices(images.shape[1:])
    total = images.sum((1, 2))
    weight = images / np.where(total > 0, total, 1)[:, None, None]

    def mean(values: NDArray) -> NDArray:
        return np.asarray((weight * values).sum((1, 2)))

    mean_x, mean_y = (mean(axis)[:, None, None] for axis in (x, y))
    xx, yy, xy = mean((x - mean_x) ** 2), mean((y - mean_y) ** 2), mean((x - mean_x) * (y - mean_y))
    trace = np.where(xx + yy > 0, xx + yy, 1)
    return {
        "sum": total,
        "peak": images.max((1, 2)),
        "size": np.sqrt((xx + yy) / 2),
        "e1": (xx - yy) / trace,
        "e2": 2 * xy / trace,
    }


def sobol(generator: Generator, *, samples: int = 1024, seed: int = 0) -> Indices:
    """Sobol indices (Sobol 2001; Saltelli et al. 2010, by scipy) of `pixel_statistics` over the factor space.

    Factors are uniform over their ranges, the other latents N(0, 1). For each statistic and input: `first`, the share
    of the variance that the input explains alone, and `total`, with all its interactions. samples: a power of 2.
    """
    free = generator.run.config.latents - len(generator.factors)
    names = [factor.name for factor in generator.factors] + [f"z{len(generator.factors) + i + 1}" for i in range(free)]
    inputs = [uniform(f.low, f.high - f.low) for f in generator.factors] + [norm()] * free

    def function(x_IN: NDArray) -> NDArray:
        statistics = pixel_statistics(
            generator.images(x_IN[: len(generator.factors)].T, x_IN[len(generator.factors) :].T)
        )
        return np.stack(list(statistics.values()))

    found = sobol_indices(func=function, n=samples, dists=inputs, rng=np.random.default_rng(seed))
    return {
        statistic: {
            name: {"first": float(found.first_order[i, j]), "total": float(found.total_order[i, j])}
            for j, name in enumerate(names)
        }
        for i, statistic in enumerate(STATISTICS)
    }


def table(indices: Indices) -> str:
    """A row for each input, first-order and total index of each statistic."""
    inputs = list(indices[STATISTICS[0]])
    lines = [f"{'first / total':16}" + "".join(f"{name:>16}" for name in STATISTICS)]
    for name in inputs:
        cells = (indices[statistic][name] for statistic in STATISTICS)
        lines.append(f"{name:16}" + "".join(f"{cell['first']:8.3f} /{cell['total']:6.3f}" for cell in cells))
    return "\n".join(lines)


def sensitivity(config: SensitivityConfig) -> str:
    """Writes sensitivity.json into the folder of the run; returns its table. Raises InputError."""
    trained = load_run(config.run)
    generator = Generator(trained, open_set(data_path(trained, config.data)))
    indices = sobol(generator, samples=config.samples, seed=config.seed)
    out = config.run / "sensitivity.json"
    write_json(out, {"samples": config.samples, "seed": config.seed, "indices": indices})
    return f"{table(indices)}\nwritten: {out}"
