"""Galaxies that are asked for against GalSim: python results/recipe/by_galsim.py RUN [RUN ...]

A's residual latents are decoded with the factors of B, as in `evaluate`, and compared with the noiseless stamp that has
the factors of B where they guide and those of A elsewhere. Each decoded image, less the stamp of mid-range psf, is
fitted by the derivatives of the stamp to all factors of the file: what the first order of GalSim reads as its psf.
Prints the distance to that stamp over the distance of A and B, and r and slope of the psf that is read so.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from hpcauxvae import load, open_set
from hpcauxvae.data.hdf5 import split
from hpcauxvae.evaluate.control import PAIRS, counterfactuals
from hpcauxvae.paper.generated import truth_of

STEP = 0.03  # of a factor's range, to either side


def main(folder: str) -> None:
    """Prints the line of a run."""
    run = load(folder)
    data = open_set(run.config.data)
    columns, names = data.column(run.config.aux_names), [factor.name for factor in data.factors]
    test, psf = split(len(data), run.config.split_seed)[2], names.index("psf")
    made = counterfactuals(run.run, data, test, 0)
    assert made is not None
    a_P = np.random.default_rng([0, 2]).permutation(test)[:PAIRS]  # as counterfactuals draws them
    u_PF = data.scaled()[a_P]
    u_PF[:, columns] = data.scaled()[np.roll(a_P, 1)][:, columns]

    def stamps(scaled_PF: NDArray) -> NDArray:
        values = np.stack([factor.unscale(u) for factor, u in zip(data.factors, scaled_PF.T, strict=True)], 1)
        return truth_of(data, names, values).astype(np.float64).reshape(len(values), -1)

    middle, slopes = u_PF.copy(), []
    middle[:, psf] = 0.5
    for number in range(len(names)):
        low, high = u_PF.copy(), u_PF.copy()
        low[:, number] = np.clip(u_PF[:, number] - STEP, 0, 1)
        high[:, number] = np.clip(u_PF[:, number] + STEP, 0, 1)
        slopes.append((stamps(high) - stamps(low)) / (high - low)[:, [number]])
    asked = made.asked.reshape(len(a_P), -1).astype(np.float64)
    change = asked - stamps(middle)
    fits = [np.linalg.lstsq(of.T, one, rcond=None)[0] for of, one in zip(np.stack(slopes, 1), change, strict=True)]
    read = 0.5 + np.array(fits)[:, psf]
    apart = np.square(made.a.astype(np.float64) - made.b).sum()
    print(
        f"{folder}: distance {np.square(asked - stamps(u_PF)).sum() / apart:.5f}; psf: "
        f"r {np.corrcoef(u_PF[:, psf], read)[0, 1]:.3f}, slope {np.polyfit(u_PF[:, psf], read, 1)[0]:.3f}"
    )


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        main(folder)
