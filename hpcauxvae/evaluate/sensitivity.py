"""Which factor decides what is seen: `python -m hpcauxvae sensitivity RUN` -> sensitivity.json in its folder.

Sobol indices of pixel statistics over the factor space, with the trained decoder in place of the simulator (Ganguli et
al., contribution ii). Shape legend in types.py; I inputs, Q quasi-random points.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, sobol_indices

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.evaluate.command import SensitivityConfig
from hpcauxvae.evaluate.generate import Generator
from hpcauxvae.metrics.intervals import Score
from hpcauxvae.runtime.files import refuse_unwritable, write_json
from hpcauxvae.train.run import load_run, training_set

STATISTICS = ("sum", "peak", "size", "e1", "e2")
Indices = dict[str, dict[str, dict[str, Score]]]
_CODES = 4096  # images whose codes tell how a latent is distributed
_RESAMPLES = 500
_ROUNDED = -0.005  # is shown as -0.01
_SLACK = 0.1  # of a share, which quasi-random points leave open


class Input(NamedTuple):
    """What is varied independently of all else, as its values in the data are distributed."""

    name: str
    columns: Sequence[int]
    """Of the code in physical units (factors, then latents that none guides): one, or cosine and sine of an angle."""
    values_N: NDArray
    discrete: bool = False

    def ppf(self, share_Q: NDArray) -> NDArray[np.float64]:
        """The value below which a share of the data lies; a value of the data itself where it is discrete."""
        return np.quantile(self.values_N, share_Q, method="lower" if self.discrete else "linear")

    def set(self, codes_QZ: NDArray, values_Q: NDArray) -> None:
        """Writes values into their columns."""
        of_angle = len(self.columns) == 2
        codes_QZ[:, self.columns] = np.stack([np.cos(values_Q), np.sin(values_Q)] if of_angle else [values_Q], 1)


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


def inputs_of(generator: Generator, data: ImageSet, seed: int) -> list[Input]:
    """Each factor as the training data have it (an angle by its cosine and sine together), and each other latent by its
    own marginal among codes drawn for test images: the indices are those of independent inputs."""
    run, d, latents = generator.run, len(generator.factors), generator.latents
    train, _, test = (np.sort(part) for part in run.parts(data))
    values_ND = data.values[train][:, generator.columns]
    of_angles = {column for pair in generator.angles for column in pair}
    found = [
        Input(factor.name, [j], values_ND[np.isfinite(values_ND[:, j]), j], generator.guides[j].by_classes)
        for j, factor in enumerate(generator.factors)
        if j not in of_angles
    ]
    for one, other in generator.angles:
        angle_N = np.arctan2(values_ND[:, other], values_ND[:, one])
        name = f"{generator.factors[one].name}, {generator.factors[other].name}"
        found.append(Input(name, [one, other], angle_N[np.isfinite(angle_N)]))
    test = test[:_CODES]
    mean_NZ, logvar_NZ = run.encode(data.images, generator.scaled(data.values[test][:, generator.columns]), test)
    z_NZ = mean_NZ + np.exp(logvar_NZ / 2) * np.random.default_rng([seed, 3]).standard_normal(mean_NZ.shape)
    return found + [Input(f"z{z + 1}", [d + z - latents], z_NZ[:, z]) for z in range(latents, z_NZ.shape[1])]


def sobol(
    images: Callable[[NDArray], NDArray],
    inputs: Sequence[Input],
    *,
    samples: int = 1024,
    seed: int = 0,
    at_once: int = 512,
) -> Indices:
    """Sobol indices (Sobol 2001; Saltelli et al. 2010, by scipy) of `pixel_statistics`, with bootstrapped intervals.

    images: from codes (Q, Z) in physical units. For each statistic and input: `first`, the share of the variance that
    the input explains alone, and `total`, with all its interactions. samples: a power of 2. at_once: images that are
    made and measured at once.
    """
    latents = 1 + max(column for of_input in inputs for column in of_input.columns)

    def function(x_IQ: NDArray) -> NDArray:
        codes_QZ = np.empty((x_IQ.shape[1], latents))
        for of_input, values_Q in zip(inputs, x_IQ, strict=True):
            of_input.set(codes_QZ, values_Q)
        pieces = (codes_QZ[start : start + at_once] for start in range(0, len(codes_QZ), at_once))
        return np.concatenate([np.stack(list(pixel_statistics(images(piece)).values())) for piece in pieces], 1)

    found = sobol_indices(func=function, n=samples, dists=list(inputs), rng=np.random.default_rng(seed))
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a statistic that is the same in all images
        before = np.random.get_state()
        np.random.seed(seed % 2**32)  # scipy's bootstrap of indices takes no generator
        spread = found.bootstrap(n_resamples=_RESAMPLES)
        np.random.set_state(before)
    kinds = {"first": (found.first_order, spread.first_order), "total": (found.total_order, spread.total_order)}

    def score(kind: str, i: int, j: int) -> Score:
        value, interval = kinds[kind][0], kinds[kind][1].confidence_interval
        own, low, high = np.nan_to_num([value[i, j], interval.low[i, j], interval.high[i, j]]).tolist()
        return Score(value=own, low=low, high=high, n=samples)

    return {
        statistic: {of_input.name: {kind: score(kind, i, j) for kind in kinds} for j, of_input in enumerate(inputs)}
        for i, statistic in enumerate(STATISTICS)
    }


def remarks(indices: Indices) -> Iterator[str]:
    """Where the indices of a statistic cannot be shares of its variance, or are not told from 0."""
    below = []
    for statistic, of_inputs in indices.items():
        totals = {name: found["total"]["value"] for name, found in of_inputs.items()}
        above = [f"{name} {total:.2f}" for name, total in totals.items() if total > 1 + _SLACK]
        alone = sum(found["first"]["value"] for found in of_inputs.values())
        if above or alone > 1 + _SLACK:
            why = f"a total index above 1 ({', '.join(above)})" if above else f"first indices add up to {alone:.2f}"
            yield (
                f"{statistic}: {why}: no shares of a variance, which some extreme images decide here; look at the "
                "intervals, and take more --samples"
            )
        firsts = ((name, found["first"]) for name, found in of_inputs.items())
        below += [f"{name} of {statistic}" for name, first in firsts if first["value"] < _ROUNDED and first["high"] > 0]
    if below:
        yield f"first indices below 0 that are not told from 0: {', '.join(below)}"


def table(indices: Indices) -> str:
    """A row for each input, first-order and total index of each statistic with half the width of their intervals."""
    inputs = list(indices[STATISTICS[0]])
    wide = max(16, *(len(name) + 2 for name in inputs))
    lines = [f"{'first / total':{wide}}" + "".join(f"{name:>24}" for name in STATISTICS)]
    for name in inputs:
        cells = (indices[statistic][name] for statistic in STATISTICS)
        lines.append(
            f"{name:{wide}}" + "".join(f"{_cell(cell['first']):>13} /{_cell(cell['total'])}" for cell in cells)
        )
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks(indices))])


def _cell(score: Score) -> str:
    return f"{score['value']:.2f}±{(score['high'] - score['low']) / 2:.2f}"


def sensitivity(config: SensitivityConfig) -> str:
    """Writes sensitivity.json into the folder of the run; returns its table. Raises InputError."""
    trained = load_run(config.run)
    refuse_unwritable(config.run)
    data = training_set(trained, config.data)
    generator = Generator(trained, data)
    d = len(generator.factors)
    indices = sobol(
        lambda codes_QZ: generator.images(codes_QZ[:, :d], codes_QZ[:, d:]),
        inputs_of(generator, data, config.seed),
        samples=config.samples,
        seed=config.seed,
        at_once=trained.at_once,
    )
    out = config.run / "sensitivity.json"
    said = list(remarks(indices))
    write_json(out, {"samples": config.samples, "seed": config.seed, "indices": indices, "remarks": said})
    return f"{table(indices)}\nwritten: {out}"
