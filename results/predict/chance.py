"""How far coverage strays by the chance of which images calibrate: python results/predict/chance.py RUN FRESH

Encodes 65,536 images of FRESH. Draws as many as calibrated the run from the first half again and again, calibrates by
them as `predict` does, and counts how many of the second half their intervals cover: over all images, and in fifths of
the true flux. Then calibrates by all of the first half.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from hpcauxvae import load, open_set
from hpcauxvae.metrics.conformal import LEVELS, fitted

HALF, DRAWS, NEAR = 32768, 20, 1.5  # NEAR: points


def main(folder: str, fresh: str) -> None:
    """Prints, for each factor and level: mean and standard deviation of the coverage, and that by the whole half."""
    run, data = load(folder), open_set(fresh)
    n = len(run.run.parts(open_set(run.config.data))[1])
    row_N = np.arange(2 * HALF)
    u_NF, names = data.scaled()[row_N], run.config.aux_names
    codes = run.encode(data.images[row_N])
    z_NZ = codes.mean
    x_NX = np.concatenate([z_NZ, codes.logvar], 1)
    flux_N = u_NF[HALF:, data.column(["flux"])[0]]
    fifth_N = np.searchsorted(np.quantile(flux_N, [0.2, 0.4, 0.6, 0.8]), flux_N)
    parts = [fifth_N >= 0, *(fifth_N == k for k in range(5))]

    def covered(own_M: NDArray) -> NDArray:
        """(D, levels, 1 + 5), per cent."""
        found = []
        for z_N, u_N in zip(z_NZ.T, u_NF[:, data.column(names)].T, strict=False):
            reader = fitted(u_N[own_M], z_N[own_M], x_NX[own_M])
            level_N = reader.level(z_N[HALF:], x_NX[HALF:], u_N[HALF:])
            found.append([[100 * np.mean(level_N[part] <= level) for part in parts] for level in LEVELS])
        return np.array(found)

    rng = np.random.default_rng(0)
    draws = np.array([covered(rng.choice(HALF, n, replace=False)) for _ in range(DRAWS)])
    whole = covered(np.arange(HALF))
    for j, name in enumerate(names):
        for k, level in enumerate(LEVELS):
            of_all, of_fifths = draws[:, j, k, 0], draws[:, j, k, 1:]
            print(
                f"{name} {100 * level:.0f} %: {n} images {of_all.mean():.1f} +- {of_all.std():.1f}, fifths "
                f"+- {of_fifths.std(0).mean():.1f}; {HALF} images {whole[j, k, 0]:.1f}, {np.round(whole[j, k, 1:], 1)}"
            )
    for name, of in ((f"{n} images", draws), (f"{HALF} images", whole[None])):
        off = np.abs(of - 100 * np.array(LEVELS)[:, None])
        parts_off = off[..., 0], off[..., 1:]
        shares = [f"{100 * np.mean(part <= NEAR):.0f} % (largest {part.max():.1f})" for part in parts_off]
        print(f"by {name}: within {NEAR} points {shares[0]} of all images, {shares[1]} of fifths")


if __name__ == "__main__":
    main(*sys.argv[1:])
