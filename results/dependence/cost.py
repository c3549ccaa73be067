"""What a measure costs as a term of a training step: python results/dependence/cost.py

Value and gradient in the means and variances of N = 64 codes, D = 5 factors and R = 5 residual latents, float32, one
thread. The measures take turns, the polynomial kernel beside each, and the ratio of each pair counts. Memory: what
torch and the compiled kernel allocate at most in one value and gradient, by the process's own count for torch.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hpcauxvae.dependence.hsic import OF_FACTORS
from hpcauxvae.dependence.joint import FEATURES
from hpcauxvae.dependence.measures import MEASURES
from hpcauxvae.dependence.past import moments
from hpcauxvae.dependence.regularizers import regularizer
from hpcauxvae.metrics.dependence.infonce import HIDDEN, OUT

N, D, R = 64, 5, 5
TURNS = 400
Term = Callable[[Tensor, Tensor, Tensor], Tensor]


def polynomial(u: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Both lines of (9), by the compiled kernel: of D guided latents and R residual ones."""
    intra, inter = regularizer(u, torch.cat([u, mean], 1), torch.cat([torch.full_like(u, 0.01), var], 1))
    return intra + inter


def of_moments(name: str) -> Term:
    """As `train --dependence`, the slopes from the past included."""
    columns, norm = MEASURES[name]
    features = columns(D, R)
    past = norm(features.functions_of, FEATURES, degree=1, momenta=(0.9, 0.99))

    def term(u: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        batch = moments(features.of_factors(u), *features.features(mean, var, torch.ones(R)), 1, None)
        value = (past.slopes()[0] * batch.correlation()).mean()
        past.keep(batch)
        past.advance()
        return value

    return term


def distance(u: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """The squared distance correlation, U-centred, of one draw of z: all pairs of the batch."""
    z, n = mean + var.sqrt() * torch.randn_like(mean), len(u)
    apart = ~torch.eye(n, dtype=torch.bool)

    def centred(x: Tensor) -> Tensor:
        square = (x[:, None] - x[None]).square().sum(2)
        a = square.where(apart, 1.0).sqrt() * apart
        rows = a.sum(1) / (n - 2)
        return (a - rows[:, None] - rows[None] + a.sum() / (n - 1) / (n - 2)) * apart

    a, b = centred(u), centred(z)
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt()


def infonce() -> Term:
    """The bound by a critic of the size of the score's, and the step of Adam that trains the critic beside."""
    nets = [
        torch.nn.Sequential(torch.nn.Linear(width, HIDDEN), torch.nn.SiLU(), torch.nn.Linear(HIDDEN, OUT))
        for width in (D, R)
    ]
    ascent = torch.optim.Adam([weights for net in nets for weights in net.parameters()])

    def bound(u: Tensor, z: Tensor) -> Tensor:
        return np.log(len(u)) - torch.nn.functional.cross_entropy(nets[0](u) @ nets[1](z).T, torch.arange(len(u)))

    def term(u: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        z = mean + var.sqrt() * torch.randn_like(mean)
        ascent.zero_grad()
        (-bound(u, z.detach())).backward()
        ascent.step()
        return bound(u, z)

    return term


def once(term: Term, u: Tensor, mean: Tensor, var: Tensor) -> float:
    """Seconds of a value and its gradient."""
    began = time.perf_counter()
    torch.autograd.grad(term(u, mean, var), (mean, var))
    return time.perf_counter() - began


def allocated(term: Term, u: Tensor, mean: Tensor, var: Tensor) -> float:
    """KiB that torch's allocator holds more at most than before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        once(term, u, mean, var)
    held = most = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 1024


def main() -> None:
    """Prints a line for each measure."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    u, mean, var = torch.rand(N, D), torch.randn(N, R), torch.full((N, R), 0.1)
    mean.requires_grad_(), var.requires_grad_()
    terms = {"joint": of_moments("joint"), "hsic": of_moments("hsic"), "distance": distance, "infonce": infonce()}
    ratios: dict[str, list[float]] = {name: [] for name in terms}
    own = []
    for turn in range(TURNS):
        for name, term in terms.items():
            before, took, after = (once(t, u, mean, var) for t in (polynomial, term, polynomial))
            own.append(before)
            if turn >= TURNS // 10:
                ratios[name].append(2 * took / (before + after))
    print(f"{N} samples, {D} factors, {R} latents; hsic has {OF_FACTORS} x {FEATURES} pairs of features")
    print("| measure | times the polynomial kernel, median (quarter, three quarters) | KiB |\n|---|---|---|")
    print(f"| polynomial | 1 ({1e6 * np.median(own):.0f} us) | {allocated(polynomial, u, mean, var):.0f} |")
    for name, found in ratios.items():
        low, middle, high = np.quantile(found, (0.25, 0.5, 0.75))
        print(f"| {name} | {middle:.1f} ({low:.1f}, {high:.1f}) | {allocated(terms[name], u, mean, var):.0f} |")


if __name__ == "__main__":
    main()
