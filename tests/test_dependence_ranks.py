"""The regularizers over the batches of several gloo processes, some of them uneven or empty, against one process."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from hpcauxvae import dependence, moments, native
from hpcauxvae.dependence import terms
from hpcauxvae.moments import PolynomialMoments
from tests.native_build import cuda_on_host

COUNTS = {1: [23], 2: [23, 0], 3: [5, 17, 1], 4: [9, 0, 2, 12]}
IMPLEMENTATIONS = ["reference"] + (["compiled"] if moments.native_available() else [])


def samples() -> tuple[Tensor, Tensor, Tensor]:
    """Factors with a missing value, codes and variances of 23 samples, float64."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(23, 3, generator=generator, dtype=torch.float64)
    codes = torch.randn(23, 5, generator=generator, dtype=torch.float64)
    codes[:, :3] += 3 * u
    u[4, 1] = torch.nan
    return u, codes, 0.1 + torch.rand(23, 5, generator=generator, dtype=torch.float64)


def take_cuda_on_host() -> None:
    """From here on the CUDA kernels, on CPU threads, serve this process."""
    native.core = cuda_on_host()
    native._on_gpu = lambda tensor: True
    native._queue = lambda tensor: (0, 0)


def loss_of(implementation: str, u: Tensor, codes: Tensor, var: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    if implementation == "reference":
        intra, inter = terms(PolynomialMoments.of(u, codes, var, degree=3).all_reduce(group).correlation())
    else:
        intra, inter = dependence.regularizer(u, codes, var, degree=3, group=group)
    return 2 * intra + 7 * inter


def rank_program(rank: int, folder: Path, implementation: str, counts: list[int], plain_backward: bool) -> None:
    """One rank: loss and gradients of its rows into a file. DDP's mean over ranks is done here, by hand."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(counts))
    if implementation == "cuda on host":
        take_cuda_on_host()
    if plain_backward:  # what autograd would do if the collective were not known to it
        moments._SumOverRanks.backward = staticmethod(lambda ctx, gradient: (gradient, None))
    rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
    u, codes, var = (tensor[rows] for tensor in samples())
    codes, var = codes.requires_grad_(), var.requires_grad_()
    loss = loss_of(implementation, u, codes, var, dist.group.WORLD)
    loss.backward()
    gradients = [(leaf.grad / len(counts)).numpy() for leaf in (codes, var)]
    np.savez(folder / f"{rank}.npz", loss=loss.detach().numpy(), codes=gradients[0], var=gradients[1])
    dist.destroy_process_group()


def on_ranks(folder: Path, implementation: str, counts: list[int], plain_backward: bool = False) -> dict:
    """Losses of all ranks, and the gradients of all rows in order."""
    mp.spawn(rank_program, (folder, implementation, counts, plain_backward), nprocs=len(counts))
    parts = [np.load(folder / f"{rank}.npz") for rank in range(len(counts))]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in ("codes", "var")}
    return {"loss": np.array([part["loss"] for part in parts])} | rows


def alone() -> dict:
    u, codes, var = samples()
    codes, var = codes.requires_grad_(), var.requires_grad_()
    loss = loss_of("reference", u, codes, var, None)
    loss.backward()
    return {"loss": loss.detach().numpy(), "codes": codes.grad.numpy(), "var": var.grad.numpy()}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("world_size", COUNTS)
def test_value_and_gradient_are_those_of_one_process(tmp_path, implementation, world_size):
    together, one = on_ranks(tmp_path, implementation, COUNTS[world_size]), alone()
    np.testing.assert_allclose(together["loss"], one["loss"], rtol=1e-10)
    for name in ("codes", "var"):
        np.testing.assert_allclose(together[name], one[name], atol=1e-10 * np.abs(one[name]).max(), rtol=1e-10)


def test_without_the_sum_in_the_backward_pass_the_gradient_would_be_wrong(tmp_path):
    """The silent bug of this family of losses: right value, gradient too small by the world size."""
    together, one = on_ranks(tmp_path, "reference", COUNTS[3], plain_backward=True), alone()
    np.testing.assert_allclose(together["loss"], one["loss"], rtol=1e-10)
    assert np.abs(together["codes"] - one["codes"]).max() > 0.3 * np.abs(one["codes"]).max()
