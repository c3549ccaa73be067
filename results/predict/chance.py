"""How far coverage strays by the chance of which images calibrate: python results/predict/chance.py RUN FRESH

Encodes FRESH, at most 65,536 images. Draws as many as calibrated the run again and again, calibrates by them as
`predict` does, and counts how many of the rest, at most 32,768, their intervals cover: over all images, and in fifths
of the true flux. Where FRESH is large it calibrates by half of it as well.
"""

import sys

import numpy as np
from numpy.typing import NDArray

from hpcauxvae import load, open_set
from hpcauxvae.metrics.conformal import LEVELS, fitted

MOST, DRAWS = 65536, 20
NEAR = {"all images": 1.5, "fifths": 4.0}
"""Points."""


def main(folder: str, fresh: str) -> None:
    """Prints, for each factor and level: mean and standard deviation of the coverage, and by half of a large set."""
    run, data = load(folder), open_set(fresh)
    own = len(run.run.parts(open_set(run.config.data))[1])
    row_N = np.arange(min(MOST, len(data)))
    u_NF, names = data.scaled()[row_N], run.config.aux_names
    codes = run.run.encode(data.images, u_NF, row_N)
    x_NX = np.concatenate(codes, 1)
    flux_N = u_NF[:, data.column(["flux"])[0]]
    rng = np.random.default_rng(0)

    def covered(calibrating: int) -> NDArray:
        """By so many at random, of the others, per cent: (D, levels, 1 + 5)."""
        order_N = rng.permutation(row_N)
        some_M, others_O = order_N[:calibrating], order_N[calibrating:][: MOST // 2]
        fifth_O = np.searchsorted(np.quantile(flux_N[others_O], [0.2, 0.4, 0.6, 0.8]), flux_N[others_O])
        parts = [fifth_O >= 0, *(fifth_O == k for k in range(5))]
        found = []
        for z_N, u_N in zip(codes[0].T, u_NF[:, data.column(names)].T, strict=False):
            reader = fitted(u_N[some_M], u_N[some_M, None], z_N[some_M, None], x_NX[some_M])
            level_O = reader.level(z_N[others_O, None], x_NX[others_O], u_N[others_O])
            found.append([[100 * np.mean(level_O[part] <= level) for part in parts] for level in LEVELS])
        return np.array(found)

    sizes = {own: np.array([covered(own) for _ in range(DRAWS)])}
    if len(row_N) == MOST:
        sizes[MOST // 2] = covered(MOST // 2)[None]
    for n, of in sizes.items():
        for j, name in enumerate(names):
            for k, level in enumerate(LEVELS):
                each, fifths = of[:, j, k, 0], of[:, j, k, 1:]
                print(
                    f"by {n} images, {name} {100 * level:.0f} %: {each.mean():.1f} +- {each.std():.1f}, fifths "
                    f"{np.round(fifths.mean(0), 1)} +- {fifths.std(0).mean():.1f}"
                )
        off = np.abs(of - 100 * np.array(LEVELS)[:, None])
        for (of_what, near), part in zip(NEAR.items(), (off[..., 0], off[..., 1:]), strict=True):
            share = 100 * np.mean(part <= near)
            print(f"by {n} images, {of_what}: {share:.1f} % within {near} points, at most {part.max():.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
