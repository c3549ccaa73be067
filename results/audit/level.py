"""How often the test of `hpcauxvae audit` says that something is added, on codes that are known.

    python results/audit/level.py [DRAWS]     # a line for each share of the variance that is added, and three more

No training: two auxiliary variables tell of the target in curves, with errors of different size; two of three latents
lean on them, for one line by the very curve that the target has. In the last two lines auxiliary variables
tell of the target in a way that the regressions miss in part, and a feature tells the same, as a reader does: nothing
is added, and a caution should say so. As many samples as 4,000 images give: 2,800 for the regression on the auxiliary
variables, 800 for that on the latents, 400 to judge. N samples, U auxiliary variables, F features.
"""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.audit.verdict import LEAST
from hpcauxvae.metrics.beyond import Part, beyond, missed
from hpcauxvae.metrics.regression import fitted, forest

SIZES = 2800, 800, 400
SHARES = 0.0, 0.01, 0.03, 0.1
LEVELS = 0.05, 0.005


def p_of(seed: int, share: float, alike: bool = False) -> float:
    """Of one draw, in which a latent adds this share of the target's variance; alike: another follows its curve."""
    rng, n = np.random.default_rng(seed), sum(SIZES)
    u_N2, z_N3 = rng.random((n, 2)), rng.standard_normal((n, 3))
    new_N = z_N3[:, 1].copy()
    curve_N = 2 * np.sin(4 * u_N2[:, 0]) + u_N2[:, 0] * u_N2[:, 1]
    z_N3[:, 0] = curve_N + 0.5 * z_N3[:, 0] if alike else z_N3[:, 0] + 0.5 * np.sin(5 * u_N2[:, 0])
    z_N3[:, 2] *= 0.5 + u_N2[:, 1]
    old_N = curve_N + rng.standard_normal(n) * (0.5 + u_N2[:, 0])
    target_N1 = (old_N + np.sqrt(share / (1 - share)) * old_N.std() * new_N)[:, None]
    return judged_of(u_N2, z_N3, target_N1, cautions=False)[0]


def judged_of(u_NU: NDArray, z_NF: NDArray, target_N1: NDArray, cautions: bool = True) -> tuple[float, bool]:
    """p, and whether a caution says that the regressions on the auxiliary variables miss something."""
    first, second, judged = np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:2])
    told_N1 = fitted(u_NU[first], target_N1[first], np.arange(len(first)), 0, or_mean=True)(u_NU)
    error_N1, spread_N = target_N1 - told_N1, np.square(target_N1 - target_N1.mean(0)).sum(1)
    parts = [Part(z_NF[rows], u_NU[rows], error_N1[rows], np.arange(len(rows))) for rows in (second, judged)]
    p = beyond(parts[0], parts[1], spread_N[judged], 0).p
    if not cautions:
        return p, False
    held, more_N1 = np.concatenate([second, judged]), forest(u_NU[first], target_N1[first], 0)(u_NU) - told_N1
    found = missed(more_N1[held], error_N1[held], spread_N[held], np.arange(len(held)))
    return p, found["low"] > 0 and found["value"] >= LEAST


HARD: dict[str, tuple[int, Callable[[NDArray], NDArray]]] = {
    "which of five is largest": (5, lambda u_NU: u_NU.argmax(1)),
    "waves of four": (4, lambda u_NU: np.sin(6 * (u_NU[:, 0] + u_NU[:, 1])) * np.cos(6 * (u_NU[:, 2] - u_NU[:, 3]))),
}


def hard_of(seed: int, others: int, law: Callable[[NDArray], NDArray]) -> tuple[float, bool]:
    """As judged_of, where so many auxiliary variables tell by this law; errors are half as large as what they tell."""
    rng, n = np.random.default_rng(seed), sum(SIZES)
    u_NU = rng.random((n, others))
    law_N1 = law(u_NU)[:, None] / law(u_NU).std()
    return judged_of(u_NU, *(law_N1 + 0.5 * rng.standard_normal((2, n, 1))))


def main(draws: str = "200") -> None:
    """The command; half as many draws of a latent alike, a fifth where something is added, a tenth of the last two."""
    for share in SHARES:
        p = np.array([p_of(seed, share) for seed in range(int(draws) // (1 if share == 0 else 5))])
        rates = ", ".join(f"p < {level:g} in {(p < level).mean():.1%}" for level in LEVELS)
        print(f"{share:g} of the variance is added: {rates} of {len(p)} draws", flush=True)
    p = np.array([p_of(seed, 0.0, alike=True) for seed in range(int(draws) // 2)])
    rates = ", ".join(f"p < {level:g} in {(p < level).mean():.1%}" for level in LEVELS)
    print(f"nothing is added, a latent follows the same curve: {rates} of {len(p)} draws", flush=True)
    for name, (others, law) in HARD.items():
        found = [hard_of(seed, others, law) for seed in range(int(draws) // 10)]
        sure, warned = (sum(values) for values in zip(*((p < LEVELS[1], said) for p, said in found), strict=True))
        print(f"{name}: p < {LEVELS[1]:g} in {sure} of {len(found)} draws, with a caution in {warned}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
