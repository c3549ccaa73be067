"""Loss and gradients of the regularizers on gloo processes, whose batches are uneven or empty, and on one process."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from helpers.forked import on_ranks
from helpers.native_build import cuda_on_host
from hpcauxvae.dependence import moments, native
from hpcauxvae.dependence.moments import PolynomialMoments, covariance
from hpcauxvae.dependence.past import Past, dependence
from hpcauxvae.dependence.past import moments as past_moments
from hpcauxvae.dependence.regularizers import authors_regularizer, regularizer, terms
from hpcauxvae.runtime.collectives import SumOverRanks, rows_of_all
from hpcauxvae.types import Reduction

COUNTS = {1: [23], 2: [23, 0], 3: [5, 17, 1], 4: [9, 0, 2, 12]}
Loss = Callable[[Tensor, Tensor, Tensor, dist.ProcessGroup | None], Tensor]


def samples() -> tuple[Tensor, Tensor, Tensor]:
    """Factors with a missing value, codes and variances of 23 samples, float64."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(23, 3, generator=generator, dtype=torch.float64)
    codes = torch.randn(23, 5, generator=generator, dtype=torch.float64)
    codes[:, :3] += 3 * u
    u[4, 1] = torch.nan
    return u, codes, 0.1 + torch.rand(23, 5, generator=generator, dtype=torch.float64)


def weighted(both: tuple[Tensor, Tensor]) -> Tensor:
    return 2 * both[0] + 7 * both[1]


def reference(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return weighted(terms(PolynomialMoments.of(u, codes, var, degree=3).all_reduce(group).correlation()))


def compiled(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return weighted(regularizer(u, codes, var, degree=3, group=group))


def graph(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return torch.compile(compiled, fullgraph=True, backend="aot_eager")(u, codes, var, group)


def authors(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Sampled codes beside their means, of a loss that is not `reference`."""
    return weighted(authors_regularizer(u, codes, codes + var.sqrt(), degree=3, group=group))


def past(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Slopes from a first batch, correlations of a second."""
    earlier = Past(3, 5, degree=3, momenta=(0.7,))
    earlier.keep(past_moments(u, codes.detach() ** 2, var.detach(), 3, group))
    earlier.advance()
    return weighted(dependence(past_moments(u, codes, var, 3, group).correlation(), earlier.slopes()[0]))


def pairs(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Of all pairs of samples."""
    whole = rows_of_all(torch.cat([codes, var.log()], 1), Reduction(23, group))
    return (whole[:, None] - whole).tanh().square().mean()


def covariances(u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return covariance(codes * var, Reduction(23, group)).square().sum()


LOSSES: dict[str, Loss] = {"reference": reference, "authors": authors, "pairs": pairs, "covariances": covariances}
if moments.core is not None:
    LOSSES |= {"compiled": compiled, "graph": graph, "past": past}


def take_cuda_on_host() -> None:
    """From here on the CUDA kernels, on CPU threads, serve this process."""
    native.core = cuda_on_host()
    native._on_gpu = lambda tensor: True
    native._queue = lambda tensor: (0, 0)


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd would do if the collective of the forward pass were not known to it."""
    monkeypatch.setattr(SumOverRanks, "backward", staticmethod(lambda ctx, gradient: (gradient, None)))
    monkeypatch.setattr(native, "_over_ranks", lambda upstream, group: upstream)


def gradients(loss_of: Loss, rows: slice, group: dist.ProcessGroup | None, ranks: int) -> dict[str, np.ndarray]:
    """Of these rows. DDP's mean over ranks is done here, by hand."""
    u, codes, var = (tensor[rows] for tensor in samples())
    codes, var = codes.requires_grad_(), var.requires_grad_()
    loss = loss_of(u, codes, var, group)
    loss.backward()
    assert codes.grad is not None and var.grad is not None
    return {
        "loss": loss.detach().numpy(),
        "codes": (codes.grad / ranks).numpy(),
        "var": (var.grad / ranks).numpy(),
    }


def rank_program(counts: list[int], names: tuple[str, ...], on_host: bool) -> dict[str, np.ndarray]:
    """Loss and gradients of this rank's rows, by every implementation, with and without the exchange."""
    torch.set_num_threads(1)
    if on_host:
        take_cuda_on_host()
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    record = {}
    for fault in (False, True):
        with pytest.MonkeyPatch.context() as monkeypatch:
            if fault:
                without_exchange(monkeypatch)
            for name in names:
                result = gradients(LOSSES[name], rows, dist.group.WORLD, len(counts))
                record |= {f"{name}/{fault}/{key}": value for key, value in result.items()}
    dist.destroy_process_group()
    return record


def losses_on_ranks(counts: list[int], names: tuple[str, ...], on_host: bool = False) -> list:
    """What the ranks of a world found; on_host: by the CUDA kernels on CPU threads."""
    return on_ranks(len(counts), rank_program, counts, names, on_host)


def alone(name: str) -> dict[str, np.ndarray]:
    """On one process; by the reference wherever that can be."""
    by_reference = name in ("reference", "compiled", "graph")
    return gradients(reference if by_reference else LOSSES[name], slice(None), None, 1)


def assert_equal_to_one_process(ranks: list, name: str) -> None:
    """Value and gradient to 1e-10."""
    one = alone(name)
    for part in ranks:
        np.testing.assert_allclose(part[f"{name}/False/loss"], one["loss"], rtol=1e-10)
    for leaf in ("codes", "var"):
        together = np.concatenate([part[f"{name}/False/{leaf}"] for part in ranks])
        np.testing.assert_allclose(together, one[leaf], atol=1e-10 * np.abs(one[leaf]).max(), rtol=1e-10)
