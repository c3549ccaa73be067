"""How often the test of `hpcauxvae audit` says that something is added, on codes that are known.

    python results/audit/level.py [DRAWS]     # a line for each share of the variance that is added

No training: two auxiliary variables tell of the target in curves, with errors of different size; two of three latents
lean on them. As many samples as 4,000 images give: 2,800 for the regression on the auxiliary variables, 800 for that on
the latents, 400 to judge. N samples.
"""

import sys

import numpy as np

from hpcauxvae.metrics.beyond import Part, beyond
from hpcauxvae.metrics.regression import fitted

SIZES = 2800, 800, 400
SHARES = 0.0, 0.01, 0.03, 0.1
LEVELS = 0.05, 0.005


def p_of(seed: int, share: float) -> float:
    """Of one draw, in which a latent adds this share of the target's variance."""
    rng, n = np.random.default_rng(seed), sum(SIZES)
    u_N2, z_N3 = rng.random((n, 2)), rng.standard_normal((n, 3))
    new_N = z_N3[:, 1].copy()
    z_N3[:, 0] += 0.5 * np.sin(5 * u_N2[:, 0])
    z_N3[:, 2] *= 0.5 + u_N2[:, 1]
    old_N = 2 * np.sin(4 * u_N2[:, 0]) + u_N2[:, 0] * u_N2[:, 1] + rng.standard_normal(n) * (0.5 + u_N2[:, 0])
    target_N1 = (old_N + np.sqrt(share / (1 - share)) * old_N.std() * new_N)[:, None]
    first, second, judged = np.split(np.arange(n), np.cumsum(SIZES)[:2])
    error_N1 = target_N1 - fitted(u_N2[first], target_N1[first], np.arange(len(first)), 0, or_mean=True)(u_N2)
    parts = [Part(z_N3[rows], u_N2[rows], error_N1[rows], np.arange(len(rows))) for rows in (second, judged)]
    spread_N = np.square(target_N1[judged] - target_N1[judged].mean(0)).sum(1)
    return beyond(parts[0], parts[1], spread_N, 0).p


def main(draws: str = "200") -> None:
    """The command; a fifth as many draws where something is added."""
    for share in SHARES:
        p = np.array([p_of(seed, share) for seed in range(int(draws) // (1 if share == 0 else 5))])
        rates = ", ".join(f"p < {level:g} in {(p < level).mean():.1%}" for level in LEVELS)
        print(f"{share:g} of the variance is added: {rates} of {len(p)} draws", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
