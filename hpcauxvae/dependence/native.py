"""The terms of (9) and their gradient by the compiled module, around the reduction over ranks.

On a GPU everything is queued on the current stream and nothing waits for it: a whole step can be captured in a CUDA
graph.

Shapes: B batch, D auxiliary factors, Z latent coordinates, K degree. `moments` is a PolynomialMoments in its packed
form, `slopes` the derivatives of the terms with respect to it.
"""

import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from hpcauxvae.dependence.moments import PolynomialMoments, core

_OLDEST_GPU = (8, 0)
"""Compute capability of the oldest GPUs that CMakeLists.txt compiles for."""
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}


def serves(device: torch.device) -> bool:
    """Whether the compiled module serves tensors on this device: the CPU, or a GPU by NVIDIA."""
    if core is None or device.type not in ("cpu", "cuda"):
        return False
    return device.type == "cpu" or (not torch.version.hip and core.cuda_compiled and _serves_gpu(device.index))


def why_not(device: torch.device) -> str:
    """Why the compiled module does not serve this device; empty where it does."""
    if serves(device):
        return ""
    if core is None:
        return "the kernel is not compiled, or cannot be loaded here"
    if device.type != "cuda" or torch.version.hip:
        return f"the kernel is for CPUs and GPUs by NVIDIA, not for {'ROCm' if torch.version.hip else device.type}"
    if not core.cuda_compiled:
        return "the kernel is compiled without CUDA"
    return "the kernel cannot run on this GPU: it is older than an A100, or its driver than the CUDA of the kernel"


@torch.compiler.assume_constant_result
def _serves_gpu(index: int | None) -> bool:
    return _known_gpu(index)


@functools.lru_cache
def _known_gpu(index: int | None) -> bool:
    """Whether the driver knows the CUDA that built the module, which need not be torch's, and the GPU is new enough."""
    return core.cuda_device_count() > 0 and torch.cuda.get_device_capability(index) >= _OLDEST_GPU


def _on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _queue(tensor: Tensor) -> tuple[int, int]:
    """Device and current stream."""
    stream = torch.cuda.current_stream(tensor.device)
    return stream.device_index, stream.cuda_stream


def _rows(tensor: Tensor | None) -> tuple[int, int, int] | None:
    return None if tensor is None else (tensor.data_ptr(), tensor.stride(0), _TYPES[tensor.dtype])


def _buffer(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()


def _adjacent(tensor: Tensor) -> Tensor:
    """The tensor with adjacent columns; rows may lie any distance apart."""
    return tensor if tensor.stride(1) == 1 or tensor.shape[1] == 1 else tensor.contiguous()


def _group(name: str) -> dist.ProcessGroup | None:
    """Registered ops take no objects: the group of this name, or None for ""."""
    return distributed_c10d._resolve_process_group(name) if name else None  # type: ignore[attr-defined, arg-type]


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def moments_size(d: int, dz: int, degree: int) -> int:
    """Numbers in packed moments."""
    return d + 2 * d * degree + 3 * d * dz * degree + d * degree * dz * degree


def slopes_size(d: int, dz: int, degree: int) -> int:
    """Numbers in the slopes: (D, Z, K) of the total variances, then (D, K, Z, K) of the cross moments."""
    return d * dz * degree + d * degree * dz * degree


def _together(
    moments: Tensor, history: Tensor | None, shape: tuple[int, int, int, int], group: dist.ProcessGroup | None
) -> Tensor:
    """Packed moments of all ranks' samples and the history."""
    whole = PolynomialMoments.unpacked(moments, *shape[1:]).all_reduce(group)
    if history is not None:
        whole = PolynomialMoments.unpacked(history, *shape[1:]) + whole
    return whole.packed()


def _forward(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None,
    history: Tensor | None,
    degree: int,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(intra, inter, moments, slopes), of the global batch and the history."""
    u_BD, codes_BZ, var_BZ = _adjacent(u_BD), _adjacent(codes_BZ), None if var_BZ is None else _adjacent(var_BZ)
    (n, d), dz = u_BD.shape, codes_BZ.shape[1]
    shape = (n, d, dz, degree)
    sizes = ((), (), moments_size(d, dz, degree), slopes_size(d, dz, degree))
    intra, inter, moments, slopes = (torch.empty(size, dtype=torch.float64, device=codes_BZ.device) for size in sizes)
    terms = (_buffer(intra), _buffer(inter), _buffer(slopes))
    rows = (_rows(u_BD), _rows(codes_BZ), _rows(var_BZ))
    reduced = group is not None or history is not None
    if not _on_gpu(codes_BZ):
        core.statistics(shape, *rows, _buffer(moments), None if reduced else terms, torch.get_num_threads())
        if reduced:
            moments = _together(moments, history, shape, group)
            core.finalize(shape, _buffer(moments), terms)
        return intra, inter, moments, slopes
    workspace = torch.empty(core.cuda_workspace(shape), dtype=torch.float64, device=codes_BZ.device)
    where = (_buffer(workspace), _queue(codes_BZ))
    core.cuda_statistics(shape, *rows, _buffer(moments), None if reduced else terms, *where)
    if reduced:
        moments = _together(moments, history, shape, group)
        core.cuda_finalize(shape, _buffer(moments), terms, *where)
    return intra, inter, moments, slopes


def _backward(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None,
    moments: Tensor,
    slopes: Tensor,
    d_intra: Tensor,
    d_inter: Tensor,
    degree: int,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, Tensor]:
    """(d/d codes, d/d variances), the second empty without variances. All ranks hold the same terms, so the sum over
    ranks of what comes from upstream is all that has to be exchanged."""
    if group is not None:
        upstream = torch.stack([d_intra, d_inter])
        dist.all_reduce(upstream, group=group)
        d_intra, d_inter = upstream.unbind()
    d_codes_BZ, d_var_BZ = _like(codes_BZ), _like(codes_BZ if var_BZ is None else var_BZ)
    u_BD, codes_BZ, var_BZ = _adjacent(u_BD), _adjacent(codes_BZ), None if var_BZ is None else _adjacent(var_BZ)
    shape, rows = (*u_BD.shape, codes_BZ.shape[1], degree), (_rows(u_BD), _rows(codes_BZ), _rows(var_BZ))
    behind = (_buffer(moments), _buffer(slopes))
    out = (_rows(d_codes_BZ), None if var_BZ is None else _rows(d_var_BZ))
    if _on_gpu(codes_BZ):
        core.cuda_gradient(shape, *rows, *behind, _buffer(d_intra), _buffer(d_inter), *out, _queue(codes_BZ))
    else:
        core.gradient(shape, *rows, *behind, (d_intra.item(), d_inter.item()), torch.get_num_threads(), *out)
    return d_codes_BZ, d_var_BZ


class _Terms(torch.autograd.Function):
    """Eager mode: half the cost per step of the registered op."""

    @staticmethod
    def forward(
        ctx: Any,
        u_BD: Tensor,
        codes_BZ: Tensor,
        var_BZ: Tensor | None,
        history: Tensor | None,
        degree: int,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, ...]:
        intra, inter, moments, slopes = _forward(u_BD, codes_BZ, var_BZ, history, degree, group)
        ctx.save_for_backward(u_BD, codes_BZ, var_BZ, moments, slopes)
        ctx.degree, ctx.group = degree, group
        if history is None:
            return intra, inter
        ctx.mark_non_differentiable(moments)
        return intra, inter, moments

    @staticmethod
    def backward(ctx: Any, d_intra: Tensor, d_inter: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph=True: the compiled gradient of the regularizers has no second derivative")
        u_BD, codes_BZ, var_BZ, moments, slopes = ctx.saved_tensors
        d_codes_BZ, d_var_BZ = _backward(
            u_BD, codes_BZ, var_BZ, moments, slopes, d_intra, d_inter, ctx.degree, ctx.group
        )
        return None, d_codes_BZ, d_var_BZ if ctx.needs_input_grad[2] else None, None, None, None


@torch.library.custom_op("hpcauxvae::terms", mutates_args=())
def _terms_op(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, history: Tensor | None, degree: int, group: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _forward(u_BD, codes_BZ, var_BZ, history, degree, _group(group))


@_terms_op.register_fake
def _terms_fake(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, history: Tensor | None, degree: int, group: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d, dz = u_BD.shape[1], codes_BZ.shape[1]
    sizes = ((), (), (moments_size(d, dz, degree),), (slopes_size(d, dz, degree),))
    intra, inter, moments, slopes = (codes_BZ.new_empty(size, dtype=torch.float64) for size in sizes)
    return intra, inter, moments, slopes


@torch.library.custom_op("hpcauxvae::terms_backward", mutates_args=())
def _terms_backward_op(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None,
    moments: Tensor,
    slopes: Tensor,
    d_intra: Tensor,
    d_inter: Tensor,
    degree: int,
    group: str,
) -> tuple[Tensor, Tensor]:
    return _backward(u_BD, codes_BZ, var_BZ, moments, slopes, d_intra, d_inter, degree, _group(group))


@_terms_backward_op.register_fake
def _terms_backward_fake(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None,
    moments: Tensor,
    slopes: Tensor,
    d_intra: Tensor,
    d_inter: Tensor,
    degree: int,
    group: str,
) -> tuple[Tensor, Tensor]:
    return _like(codes_BZ), _like(codes_BZ if var_BZ is None else var_BZ)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u_BD, codes_BZ, var_BZ, _, ctx.degree, ctx.group = inputs
    _, _, moments, slopes = output
    ctx.save_for_backward(u_BD, codes_BZ, var_BZ, moments, slopes)


def _differentiate(ctx: Any, d_intra: Tensor, d_inter: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    d_codes_BZ, d_var_BZ = _terms_backward_op(*ctx.saved_tensors, d_intra, d_inter, ctx.degree, ctx.group)
    return None, d_codes_BZ, d_var_BZ if ctx.saved_tensors[2] is not None else None, None, None, None


_terms_op.register_autograd(_differentiate, setup_context=_save)


def terms(
    u_BD: Tensor,
    codes_BZ: Tensor,
    var_BZ: Tensor | None,
    history: Tensor | None,
    degree: int,
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, ...]:
    """(intra, inter) as hpcauxvae.dependence.regularizers computes them, for arguments it has checked.

    history: packed moments that the batch's are merged with, or None. Where given, the third result is both together.
    """
    if torch.compiler.is_compiling():
        name = "" if group is None else group.group_name
        results = _terms_op(u_BD, codes_BZ, var_BZ, history, degree, name)
        return results[:2] if history is None else results[:3]
    return _Terms.apply(u_BD, codes_BZ, var_BZ, history, degree, group)
