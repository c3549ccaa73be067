"""A run whose training factors go together, off the correlation: python results/labels/correlated.py RUN FRESH

Fits the mean of each guided latent by all factors of FRESH together: its slope on its own factor, and on the others at
a fixed own one, all factors in units of their ranges. Then gives 1,000 galaxies other values of the guided factors,
decodes these with the residual latents as they are, and holds the images against the noiseless stamps of GalSim: the
light in them, and its root mean square radius.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from hpcauxvae import load, open_set
from hpcauxvae.paper.generated import truth_of

READ, ASKED = 16384, 1000
LOW, HIGH = (0.0, 0.3), (0.7, 1.0)


def measured(images: NDArray) -> NDArray:
    """The light within 10 pixels of the centre, and its root mean square radius in pixels: (N, 2)."""
    stamps = images.reshape(len(images), *images.shape[-2:]).astype(np.float64)
    y, x = np.indices(stamps.shape[1:]) - stamps.shape[1] // 2
    near = stamps * (np.hypot(x, y) <= 10)
    light = near.sum((1, 2))
    return np.stack([light, np.sqrt(np.abs((near * (x**2 + y**2)).sum((1, 2)) / light))], 1)


def main(folder: str, fresh: str) -> None:
    """Prints the slopes, and a line for each way to ask."""
    run, data = load(folder), open_set(fresh)
    names, columns = [factor.name for factor in data.factors], data.column(run.config.aux_names)
    rows = np.arange(min(READ, len(data)))
    u_NF, z_NZ = data.scaled()[rows], run.encode(data.images[rows]).mean
    print(f"{folder}; correlations of {', '.join(names)} in {fresh}:\n{np.round(np.corrcoef(u_NF.T), 2)}")
    fits = np.linalg.lstsq(np.column_stack([u_NF, np.ones(len(u_NF))]), z_NZ, rcond=None)[0]
    for latent, own in enumerate(columns):
        others = ", ".join(f"{name} {fits[k, latent]:.4f}" for k, name in enumerate(names) if k != own)
        r = np.corrcoef(u_NF[:, own], z_NZ[:, latent])[0, 1]
        print(f"  {names[own]}: r {r:.4f}, slope {fits[own, latent]:.3f}, on {others}")
    rng = np.random.default_rng(3)
    some = rng.permutation(rows)[:ASKED]
    first, rest = (ASKED, 1), (ASKED, len(columns) - 1)
    ways = {
        "as they are": u_NF[some][:, columns],
        "each drawn alone": rng.random((ASKED, len(columns))),
        "first low, others high": np.hstack([rng.uniform(*LOW, first), rng.uniform(*HIGH, rest)]),
        "first high, others low": np.hstack([rng.uniform(*HIGH, first), rng.uniform(*LOW, rest)]),
    }
    for way, asked in ways.items():
        whole, codes = u_NF[some], z_NZ[some]
        whole[:, columns] = codes[:, : len(columns)] = asked
        values = np.stack([factor.unscale(u) for factor, u in zip(data.factors, whole.T, strict=True)], 1)
        drawn, true = measured(run.decode(codes)), measured(truth_of(data, names, values))
        told = []
        for number, quantity in enumerate(("light", "radius")):
            share = drawn[:, number] / true[:, number]
            told.append(f"{quantity} {np.median(share):.3f} of the true one, 68 % within {_within(share):.3f}")
        print(f"  {way}: {'; '.join(told)}")


def _within(share: NDArray) -> float:
    return float(np.quantile(np.abs(share - 1), 0.68))


if __name__ == "__main__":
    main(*sys.argv[1:])
