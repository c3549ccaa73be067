"""The CUDA kernels on the samples of every device: on a GPU where there is one, and everywhere on CPU threads
(tests/native/cuda_on_host.h), where native.py takes tensors of the CPU for those of a GPU.

Needs no more than torch, numpy, pytest and hypothesis. On a machine with a GPU: make gpu-check.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from helpers import moments_cases as cases
from helpers.native_build import cuda_on_host
from helpers.regularizers import assert_matches
from helpers.regularizers_on_ranks import COUNTS, assert_equal_to_one_process, losses_on_ranks
from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.regularizers import regularizer, terms

Implementation = Callable[..., tuple[Tensor, Tensor]]


def why_no_gpu() -> str:
    """Empty where the kernels can run on a GPU."""
    if not torch.cuda.is_available():
        return f"no GPU that torch {torch.__version__} can use"
    return "" if native.serves(torch.device("cuda")) else "the kernel is compiled without CUDA"


needs_gpu = pytest.mark.skipif(bool(why_no_gpu()), reason=why_no_gpu() or "there is one")


def on(device: torch.device, tensor: Tensor) -> Tensor:
    """There, with the same strides, and differentiable."""
    if 0 in tensor.stride():
        return tensor[:1].to(device).expand(tensor.shape)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device).copy_(tensor)


@pytest.fixture(params=[pytest.param("cpu threads", marks=pytest.mark.native), "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    if request.param == "gpu":
        if why_no_gpu():
            pytest.skip(why_no_gpu())
        return torch.device("cuda")
    monkeypatch.setattr(native, "core", cuda_on_host())
    monkeypatch.setattr(native, "_on_gpu", lambda tensor: True)
    monkeypatch.setattr(native, "_queue", lambda tensor: (0, 0))
    return torch.device("cpu")


@pytest.fixture
def kernels(device: torch.device) -> Implementation:
    def implementation(
        u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None = None, *, degree: int = 3
    ) -> tuple[Tensor, Tensor]:
        var_BZ = None if var_BZ is None else on(device, var_BZ)
        intra, inter = regularizer(on(device, u_BD), on(device, codes_BZ), var_BZ, degree=degree)
        return intra.cpu(), inter.cpu()

    return implementation


def reference(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int) -> tuple[Tensor, Tensor]:
    return terms(PolynomialMoments.of(u_BD.double(), codes_BZ, var_BZ, degree=degree).correlation())


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_value_and_gradient(kernels: Implementation, case: cases.Case) -> None:
    assert_matches(kernels, case)


@pytest.mark.parametrize(
    ("n", "d", "dz", "degree", "missing"),
    [(150, 18, 35, 1, 0.02), (140, 6, 12, 3, 0.0), (2300, 1, 2, 1, 0.0)],
    ids=["four tiles, missing", "four tiles, degree 3", "two levels of merging"],
)
def test_tiles_and_parts(kernels: Implementation, n: int, d: int, dz: int, degree: int, missing: float) -> None:
    u, codes, var = cases.draw(3, n, d, dz, spread=True, missing=missing)
    leaves = [codes.requires_grad_(), var.requires_grad_() if var is not None else codes]
    got, wanted = kernels(u, codes, var, degree=degree), reference(u, codes, var, degree)
    for value, want in zip(got, wanted, strict=True):
        assert value.item() == pytest.approx(want.item(), rel=1e-10)
    for grad, want in zip(cases.gradient(got, leaves), cases.gradient(wanted, leaves), strict=True):
        assert (grad - want).norm() <= 1e-8 * want.norm()


def test_the_same_bits_every_time(kernels: Implementation) -> None:
    """Though the parts are finished in another order each time."""
    u, codes, var = cases.draw(6, 600, 2, 5, spread=True, missing=0.01, dtype=torch.float32)
    results = []
    for _ in range(3):
        leaf = codes.clone().requires_grad_()
        got = kernels(u, leaf, var)
        results.append((*got, *cases.gradient(got, [leaf])))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_no_samples(kernels: Implementation) -> None:
    codes = torch.zeros(0, 4, requires_grad=True)
    intra, inter = kernels(torch.zeros(0, 2), codes)
    assert (intra.item(), inter.item()) == (6.0, 0.0)
    assert cases.gradient((intra, inter), [codes])[0].shape == (0, 4)


def test_graph_of_torch_compile(device: torch.device) -> None:
    u, codes, var = cases.draw(9, 64, 3, 6, spread=True)
    assert var is not None
    u, leaves = on(device, u), [on(device, codes).requires_grad_(), on(device, var).requires_grad_()]

    def loss(c: Tensor, v: Tensor) -> Tensor:
        intra, inter = regularizer(u, c, v)
        return (0.7 * intra + 1.3 * inter) * 2

    whole = torch.compile(loss, fullgraph=True, backend="inductor" if device.type == "cuda" else "aot_eager")
    got, wanted = whole(*leaves), loss(*leaves)
    assert torch.equal(got, wanted)
    for grad, want in zip(torch.autograd.grad(got, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        assert torch.allclose(grad, want, rtol=1e-14, atol=0)


@pytest.mark.native
@pytest.mark.processes
def test_ranks() -> None:
    """Three gloo processes, their kernels on CPU threads."""
    cuda_on_host()
    ranks = losses_on_ranks(COUNTS[3], ("compiled",), on_host=True)
    assert_equal_to_one_process(ranks, "compiled")


@needs_gpu
def test_the_largest_shape_on_a_gpu() -> None:
    u, codes, var = (rows.cuda() for rows in cases.draw(5, 150, 32, 256, spread=True) if rows is not None)
    for value, want in zip(regularizer(u, codes, var, degree=6), reference(u, codes, var, 6), strict=True):
        assert value.item() == pytest.approx(want.item(), rel=1e-10)


@needs_gpu
def test_many_samples_on_a_gpu() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    u = torch.rand(3_000_017, 5, device="cuda", generator=generator)
    codes = torch.randn(3_000_017, 10, device="cuda", generator=generator)
    codes[:, :5] += u
    results = [regularizer(u, codes.requires_grad_()) for _ in range(2)]
    grads = [torch.autograd.grad(sum(result), codes)[0] for result in results]
    assert torch.equal(grads[0], grads[1]) and torch.equal(torch.stack(results[0]), torch.stack(results[1]))
    for value, want in zip(results[0], reference(u, codes, None, 3), strict=True):
        assert value.item() == pytest.approx(want.item(), rel=1e-9)


def _step(u: Tensor, codes: Tensor, var: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def step() -> tuple[Tensor, ...]:
        intra, inter = regularizer(u, codes, var)
        return (intra, inter, *torch.autograd.grad(0.7 * intra + 1.3 * inter, (codes, var)))

    return step


@needs_gpu
@pytest.mark.parametrize("n", [64, 4096])
def test_a_step_in_a_cuda_graph(n: int) -> None:
    """Captured once, replayed on other samples; nothing in it may wait for the GPU."""
    u, codes, var = (rows.cuda() for rows in cases.draw(1, n, 5, 10, spread=True) if rows is not None)
    step = _step(u, codes.requires_grad_(), var.requires_grad_())
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # loads the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for to, rows in zip((u, codes, var), cases.draw(2, n, 5, 10, spread=True), strict=True):
            to.copy_(rows)
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))


@needs_gpu
def test_another_stream() -> None:
    """The kernels wait for what the current stream does before them, and for no other."""
    u, codes, var = (rows.cuda() for rows in cases.draw(1, 4096, 5, 10, spread=True) if rows is not None)
    wanted = regularizer(u, codes, var)[0].item()
    late = torch.zeros_like(codes)
    with torch.cuda.stream(torch.cuda.Stream()) as _:
        torch.cuda._sleep(50_000_000)
        late.copy_(codes)
        got = regularizer(u, late, var)[0]
    torch.cuda.synchronize()
    assert got.item() == wanted


@needs_gpu
def test_nothing_waits() -> None:
    u, codes, var = (rows.cuda() for rows in cases.draw(1, 4096, 5, 10, spread=True) if rows is not None)
    step = _step(u, codes.requires_grad_(), var.requires_grad_())
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
