"""The regularizers of (9), forward + backward, one thread: hpcauxvae against what a user would write in torch.

    python benchmarks/moments.py [--repeats 30]

(a) is the straightforward form, K^2 calls of torch.corrcoef; (b) the best eager one, powers side by side and one matrix
product. All in one run, interleaved; printed are medians, quartiles of the ratios, and the largest difference in value.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hpcauxvae.dependence import regularizer, terms

SAMPLES = (64, 512, 4096, 65_536, 1_000_000)
SHAPES = ((5, 10, 3), (3, 10, 3), (16, 64, 4))
MOST_NUMBERS = 3e7  # of the largest shapes (a) would take minutes


def corrcoef_calls(u_ND: Tensor, codes_NZ: Tensor, degree: int) -> Tensor:
    """(a)"""
    d, dz = u_ND.shape[1], codes_NZ.shape[1]
    table = torch.empty(d, degree, dz, degree)
    for k in range(degree):
        for m in range(degree):
            both = torch.cat([u_ND ** (k + 1), codes_NZ ** (m + 1)], 1)
            table[:, k, :, m] = torch.corrcoef(both.T)[:d, d:]
    return sum(terms(table))


def one_product(u_ND: Tensor, codes_NZ: Tensor, degree: int) -> Tensor:
    """(b)"""
    d, dz = u_ND.shape[1], codes_NZ.shape[1]
    sides = []
    for values in (u_ND, codes_NZ):
        powers = torch.stack([values ** (k + 1) for k in range(degree)], -1).flatten(1)
        centred = powers - powers.mean(0)
        sides.append(centred / centred.norm(dim=0))
    return sum(terms((sides[0].T @ sides[1]).view(d, degree, dz, degree)))


def native(u_ND: Tensor, codes_NZ: Tensor, degree: int) -> Tensor:
    return sum(regularizer(u_ND, codes_NZ, degree=degree))


def seconds(function: Callable[[Tensor, Tensor, int], Tensor], u: Tensor, codes: Tensor, degree: int) -> float:
    codes.grad = None
    began = time.perf_counter()
    function(u, codes, degree).backward()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(f"{'N':>9} {'d, dz, K':>10} {'hpcauxvae':>12} {'over (a)':>22} {'over (b)':>22} {'difference':>11}")
    for d, dz, degree in SHAPES:
        for n in SAMPLES:
            if n * (d + dz) > MOST_NUMBERS:
                continue
            generator = torch.Generator().manual_seed(0)
            u = torch.rand(n, d, generator=generator)
            codes = torch.randn(n, dz, generator=generator).requires_grad_()
            functions = (native, corrcoef_calls, one_product)
            values = [float(function(u, codes, degree).detach()) for function in functions]
            count = repeats if n < 100_000 else 3
            rows = [[seconds(function, u, codes, degree) for function in functions] for _ in range(count)]
            cells = []
            for other in (1, 2):
                low, middle, high = statistics.quantiles([row[other] / row[0] for row in rows], n=4)
                cells.append(f"{middle:.1f}x [{low:.1f}, {high:.1f}]")
            median = statistics.median(row[0] for row in rows)
            gap = max(abs(value - values[0]) for value in values)
            shape = f"{d}, {dz}, {degree}"
            print(f"{n:9,} {shape:>10} {median * 1e6:9,.0f} us {cells[0]:>22} {cells[1]:>22} {gap:11.1e}", flush=True)


if __name__ == "__main__":
    main()
