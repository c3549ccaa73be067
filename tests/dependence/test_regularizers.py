"""The regularizers of (9): every implementation against quadrature and loops, and against sampled z."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from helpers import moments_cases as cases
from helpers.regularizers import Implementation, assert_matches, compiled
from hpcauxvae.dependence import native
from hpcauxvae.dependence.moments import PolynomialMoments
from hpcauxvae.dependence.regularizers import regularizer, terms
from hpcauxvae.types import InputError


def reference(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None = None, *, degree: int = 3
) -> tuple[Tensor, Tensor]:
    """The torch formulation, also where the compiled module would serve."""
    return terms(PolynomialMoments.of(u_BD, codes_BZ, var_BZ, degree=degree).correlation())


@pytest.mark.parametrize(
    ("devices", "capability", "serves"), [(0, (9, 0), False), (1, (7, 5), False), (1, (8, 0), True), (2, (12, 0), True)]
)
def test_a_gpu_that_the_module_is_not_for_is_left_to_torch(monkeypatch, devices, capability, serves) -> None:
    """A driver too old for the module's CUDA shows it no device; where it shows one, the GPU may still be too old."""
    monkeypatch.setattr(native, "core", SimpleNamespace(cuda_compiled=True, cuda_device_count=lambda: devices))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(native, "_known_gpu", native._known_gpu.__wrapped__)
    assert native.serves(torch.device("cuda", 0)) == serves


needs_core = pytest.mark.skipif(not native.serves(torch.device("cpu")), reason="the kernel is not compiled")
IMPLEMENTATIONS = [reference, pytest.param(compiled, marks=needs_core)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_value_and_gradient(implementation: Implementation, case: cases.Case) -> None:
    assert_matches(implementation, case)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gradcheck(implementation: Implementation) -> None:
    u, codes, var = cases.draw(3, 12, 2, 4, spread=True, missing=0.2)
    assert var is not None
    leaves = (codes.requires_grad_(), var.requires_grad_())
    assert torch.autograd.gradcheck(lambda c, v: implementation(u, c, v, degree=3), leaves)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_agrees_with_sampled_latents(implementation: Implementation) -> None:
    """(20): with variances given, the correlations are those of z ~ N(mean, var) itself."""
    u, codes, var = cases.draw(8, 50, 2, 4, spread=True)
    assert var is not None
    generator = torch.Generator().manual_seed(1)
    repeats = 20_000  # 1e6 draws in all
    noise = torch.randn(repeats, *codes.shape, generator=generator, dtype=torch.float64)
    z = (codes + var.sqrt() * noise).flatten(0, 1)
    sampled = cases.expected(cases.Case("", u.repeat(repeats, 1), z, None, 3))
    for value, want in zip(implementation(u, codes, var, degree=3), sampled, strict=True):
        assert value.item() == pytest.approx(want.item(), abs=3 * 12 * 1e-3)
    by_means = implementation(u, codes, None, degree=3)
    assert abs(by_means[0].item() - sampled[0].item()) > 0.1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_perfect_and_independent_codes(implementation: Implementation) -> None:
    """Degree 1: codes that equal u give intra = 0; codes on an orthogonal grid give R1 = d, R0 = 0."""
    u = torch.cartesian_prod(torch.arange(4.0), torch.arange(5.0)).double()
    own, inter = implementation(u, torch.cat([3 * u - 1, -u[:, :1]], 1), degree=1)
    assert own.item() == pytest.approx(0, abs=1e-12)
    assert inter.item() == pytest.approx(0.5)
    swapped, nothing = implementation(u, u.flip(1), degree=1)
    assert (swapped.item(), nothing.item()) == pytest.approx((4.0, 0.0))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_collapse_is_not_rewarded(implementation: Implementation) -> None:
    """The terms do not depend on the codes' scale down to 1e-9, and nothing is NaN below."""
    u, codes, _ = cases.draw(4, 200, 2, 5)
    wanted = implementation(u, codes)
    for scale in (1e-3, 1e-9):
        for value, want in zip(implementation(u, codes * scale), wanted, strict=True):
            assert value.item() == pytest.approx(want.item(), rel=1e-9)
    for scale in (1e-35, 1e-60, 0.0):
        leaf = (codes.float() * scale).requires_grad_()
        got = implementation(u, leaf)
        assert math.isfinite(got[0].item()) and math.isfinite(got[1].item())
        assert cases.gradient(got, [leaf])[0].isfinite().all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_code_is_not_hidden(implementation: Implementation) -> None:
    u, codes, _ = cases.draw(4, 200, 2, 5)
    codes[7, 3] = math.nan
    assert implementation(u, codes)[1].isnan()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_samples(implementation: Implementation) -> None:
    codes = torch.zeros(0, 4, requires_grad=True)
    intra, inter = implementation(torch.zeros(0, 2), codes)
    assert (intra.item(), inter.item()) == (6.0, 0.0)
    assert cases.gradient((intra, inter), [codes])[0].shape == (0, 4)


@needs_core
def test_large_shape_in_tiles() -> None:
    u, codes, var = cases.draw(5, 150, 32, 256, spread=True)
    got = compiled(u, codes, var, degree=6)
    for value, want in zip(got, reference(u, codes, var, degree=6), strict=True):
        assert value.item() == pytest.approx(want.item(), rel=1e-10)


@needs_core
def test_threads_do_not_change_a_bit() -> None:
    u, codes, var = cases.draw(6, 150_001, 5, 10, spread=True, missing=1e-5, dtype=torch.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = codes.clone().requires_grad_()
            got = compiled(u, leaf, var)
            results.append((*got, *cases.gradient(got, [leaf])))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    wanted = reference(u.double(), codes.double(), var.double() if var is not None else None)
    assert results[0][1].item() == pytest.approx(wanted[1].item(), rel=1e-6)


@needs_core
@pytest.mark.slow
def test_compiled_graph_gives_the_same() -> None:
    u, codes, var = cases.draw(9, 64, 3, 6, spread=True)
    assert var is not None
    leaves = [codes.requires_grad_(), var.requires_grad_()]

    def loss(c: Tensor, v: Tensor) -> Tensor:
        intra, inter = regularizer(u, c, v)
        return (0.7 * intra + 1.3 * inter) * 2

    whole = torch.compile(loss, fullgraph=True)
    got, wanted = whole(*leaves), loss(*leaves)
    assert torch.equal(got, wanted)
    for grad, want in zip(torch.autograd.grad(got, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        assert torch.allclose(grad, want, rtol=1e-14, atol=0)


@needs_core
def test_registered_op_is_sound() -> None:
    u, codes, var = cases.draw(9, 20, 2, 4, spread=True)
    assert var is not None
    arguments = (u, codes.requires_grad_(), var.requires_grad_(), 2, "")
    torch.library.opcheck(native._terms_op, arguments, test_utils=("test_schema", "test_faketensor"))


@needs_core
def test_double_backward_is_refused() -> None:
    u, codes, _ = cases.draw(9, 20, 2, 4)
    leaf = codes.requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(compiled(u, leaf)[0], leaf, create_graph=True)


def test_autocast_leaves_the_moments_alone() -> None:
    u, codes, var = cases.draw(9, 20, 2, 4, spread=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = reference(u, codes, var)
    assert [value.item() for value in inside] == [value.item() for value in reference(u, codes, var)]


@pytest.mark.parametrize(
    ("u", "codes", "var", "degree", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(4, 3), None, 7, "degree is 7; allowed: 1 to 6"),
        (torch.zeros(4, 4), torch.zeros(4, 3), None, 3, "u_BD has 4 columns; allowed: at most those of codes_BZ, 3"),
        (torch.zeros(5, 2), torch.zeros(4, 3), None, 3, "u_BD has 5 rows; allowed: as many as codes_BZ, 4"),
        (torch.zeros(4), torch.zeros(4, 3), None, 3, r"u_BD has shape \(4,\); allowed: two dimensions"),
        (torch.zeros(4, 2), torch.zeros(4, 3), torch.zeros(4, 2), 3, r"var_BZ has shape \(4, 2\); allowed: .*\(4, 3\)"),
        (torch.zeros(4, 2), torch.zeros(4, 3).half(), None, 3, "codes_BZ has dtype torch.float16; allowed: float32"),
        (torch.zeros(4, 2).int(), torch.zeros(4, 3), None, 3, "u_BD has dtype torch.int32; allowed: float32"),
    ],
)
def test_arguments_that_do_not_fit(u: Tensor, codes: Tensor, var: Tensor | None, degree: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        regularizer(u, codes, var, degree=degree)
