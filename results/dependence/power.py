"""Which measure sees which dependence: python results/dependence/power.py FOUND.jsonl [--repeats 100,60,20]

Three factors, uniform in [0, 1], and three latents N(0, 1), of which in a share 16/sqrt(n) of the samples (at most all)
the first depends on the factors. Each of `CASES` has a null beside it, with the same marginals.
A line of FOUND.jsonl is a test at level .05 by 19 orders; what it has already is not tested again. Prints the table.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.metrics.dependence import MEASURES, dependence_scores

SIZES = (64, 1024, 16384)
ORDERS = 19
Case = Callable[[NDArray, NDArray, np.random.Generator], tuple[NDArray, NDArray]]


def linear(u: NDArray, e: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Correlation .6 with the first factor."""
    return u, 0.6 * np.sqrt(12) * (u[:, 0] - 0.5) + 0.8 * e


def quadratic(u: NDArray, e: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Correlation .6 with the square of the first factor about its middle, 0 with itself."""
    square = np.sqrt(180) * ((u[:, 0] - 0.5) ** 2 - 1 / 12)
    return u, 0.6 * square + 0.8 * e


def circle(u: NDArray, e: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """First factor and latent on a circle, with noise: neither tells the other's side."""
    angle = rng.uniform(0, 2 * np.pi, len(u))
    return np.c_[(1 + np.cos(angle)) / 2, u[:, 1:]], 0.9 * np.sqrt(2) * np.sin(angle) + np.sqrt(1 - 0.9**2) * e


def product(u: NDArray, e: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """The sign of (u_1 - 1/2)(u_2 - 1/2), in nine of ten; beside each factor alone the latent is N(0, 1)."""
    flip = np.where(rng.random(len(u)) < 0.1, -1, 1)
    return u, flip * np.sign((u[:, 0] - 0.5) * (u[:, 1] - 0.5)) * np.abs(e)


def heteroscedastic(u: NDArray, e: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Standard deviation sqrt(3) u_1, mean 0."""
    return u, np.sqrt(3) * u[:, 0] * e


CASES: dict[str, Case] = {case.__name__: case for case in (linear, quadratic, circle, product, heteroscedastic)}


def drawn(case: str, null: bool, n: int, repeat: int) -> tuple[NDArray, NDArray]:
    """Factors (n, 3) and latents (n, 3)."""
    rng = np.random.default_rng([n, repeat, sorted(CASES).index(case), null])
    u, z = rng.random((n, 3)), rng.standard_normal((n, 3))
    u, dependent = CASES[case](u, z[:, 0], rng)
    _, independent = CASES[case](rng.random((n, 3)), rng.standard_normal(n), rng)  # with the same marginals
    depends = np.zeros(n, bool) if null else rng.random(n) < 16 / np.sqrt(n)
    z[:, 0] = np.where(depends, dependent, independent)
    return u, z


def main() -> None:
    """Tests what is not there yet, small and large sets in turn, and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("found", type=Path)
    parser.add_argument("--repeats", default="100,60,20", help="of n = 64, 1,024 and 16,384")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no further test begins")
    options = parser.parse_args()
    repeats = [int(count) for count in options.repeats.split(",")]
    lines = options.found.read_text().splitlines() if options.found.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    done, began = {(row["n"], row["repeat"]) for row in rows}, time.monotonic()
    todo = [((r + 0.5) / count, n, r) for n, count in zip(SIZES, repeats, strict=True) for r in range(count)]
    for _, n, repeat in sorted(todo):
        if (n, repeat) in done or time.monotonic() - began > 60 * options.minutes:
            continue
        new = []
        for case in CASES:
            for null in (False, True):
                found = dependence_scores(*drawn(case, null, n, repeat), orders=ORDERS, intervals=False, seed=repeat)
                told = {name: score["p"] <= 0.05 for name, score in found.items()}
                new.append({"n": n, "repeat": repeat, "case": case, "null": null, "told": told})
        with options.found.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in new))
        rows += new
    table(rows)


def table(rows: list[dict]) -> None:
    """Share of the tests that tell a dependence: a line for each case, and all nulls of a size together."""
    print(f"| n | dependence | tests | {' | '.join(MEASURES)} |\n|---|---|---|{'---|' * len(MEASURES)}")
    for n in SIZES:
        for name in [*CASES, "none"]:
            kind = ("none" if r["null"] else r["case"] for r in rows)
            own = [r["told"] for r, case in zip(rows, kind, strict=True) if r["n"] == n and case == name]
            if own:
                shares = [f"{np.mean([told[m] for told in own]):.2f}" for m in MEASURES]
                print(f"| {n:,} | {name} | {len(own)} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
