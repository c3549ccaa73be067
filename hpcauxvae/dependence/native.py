"""The terms of (9) and their gradient by the compiled module, around the reduction over ranks.

On a GPU everything is queued on the current stream and nothing waits for it: a whole step can be captured in a CUDA
graph.

Shapes: B batch, D auxiliary factors, Z latent coordinates, K degree. `moments` is a PolynomialMoments in its packed
form, `slopes` the derivatives of the terms with respect to it.
"""

import functools
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from hpcauxvae.dependence.moments import PolynomialMoments, core

_OLDEST_GPU = (8, 0)
"""Compute capability of the oldest GPUs that CMakeLists.txt compiles for."""
Group: TypeAlias = dist.ProcessGroup | None
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


def _serves_gpu(index: int | None) -> bool:
    return _known_gpu(index)


# What torch.compiler.assume_constant_result sets, after it has loaded the compiler: a second of CPU in every command.
_serves_gpu._dynamo_marked_constant = True  # type: ignore[attr-defined]


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


def moments_size(d: int, dz: int, degree: int) -> int:
    """Numbers in packed moments."""
    return d + 2 * d * degree + 3 * d * dz * degree + d * degree * dz * degree


def slopes_size(d: int, dz: int, degree: int) -> int:
    """Numbers in the slopes: (D, Z, K) of the total variances, then (D, K, Z, K) of the cross moments."""
    return d * dz * degree + d * degree * dz * degree


def _together(packed: Tensor, sizes: tuple[int, int, int], group: Group) -> Tensor:
    """Packed moments of all ranks' samples."""
    return PolynomialMoments.unpacked(packed, *sizes).all_reduce(group).packed()


def _over_ranks(upstream: Tensor, group: Group) -> Tensor:
    """The sum over ranks of what comes from upstream, which is overwritten."""
    if group is not None:
        dist.all_reduce(upstream, group=group)
    return upstream


def _statistics(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, moments: Tensor, terms: Any
) -> Tensor | None:
    """Fills in packed moments of this process's samples, and terms if there are any. Returns a GPU's workspace."""
    u_BD, codes_BZ, var_BZ = _adjacent(u_BD), _adjacent(codes_BZ), None if var_BZ is None else _adjacent(var_BZ)
    shape, rows = (*u_BD.shape, codes_BZ.shape[1], degree), (_rows(u_BD), _rows(codes_BZ), _rows(var_BZ))
    if _on_gpu(codes_BZ):
        workspace = torch.empty(core.cuda_workspace(shape), dtype=torch.float64, device=codes_BZ.device)
        core.cuda_statistics(shape, *rows, _buffer(moments), terms, _buffer(workspace), _queue(codes_BZ))
        return workspace
    core.statistics(shape, *rows, _buffer(moments), terms, torch.get_num_threads())
    return None


def _forward(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, group: Group) -> tuple[Tensor, ...]:
    """(intra, inter, moments, slopes), of the global batch."""
    shape = (*u_BD.shape, codes_BZ.shape[1], degree)
    intra, inter, moments, slopes = _results(u_BD, codes_BZ, degree)
    terms = (_buffer(intra), _buffer(inter), _buffer(slopes))
    workspace = _statistics(u_BD, codes_BZ, var_BZ, degree, moments, terms if group is None else None)
    if group is not None:
        moments = _together(moments, shape[1:], group)
        if workspace is not None:
            core.cuda_finalize(shape, _buffer(moments), terms, _buffer(workspace), _queue(codes_BZ))
        else:
            core.finalize(shape, _buffer(moments), terms)
    return intra, inter, moments, slopes


def _backward(
    u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None,
    moments: Tensor, slopes: Tensor, d_intra: Tensor, d_inter: Tensor, degree: int, group: Group,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(d/d codes, d/d variances), the second without meaning where there are no variances. All ranks hold the same
    terms, so the sum over ranks of what comes from upstream is all that has to be exchanged."""
    d_intra, d_inter = _over_ranks(torch.stack([d_intra, d_inter]), group).unbind()
    d_codes_BZ, d_var_BZ = _gradients(codes_BZ, var_BZ)
    u_BD, codes_BZ, var_BZ = _adjacent(u_BD), _adjacent(codes_BZ), None if var_BZ is None else _adjacent(var_BZ)
    shape, rows = (*u_BD.shape, codes_BZ.shape[1], degree), (_rows(u_BD), _rows(codes_BZ), _rows(var_BZ))
    behind = (_buffer(moments), _buffer(slopes))
    out = (_rows(d_codes_BZ), None if var_BZ is None else _rows(d_var_BZ))
    if _on_gpu(codes_BZ):
        core.cuda_gradient(shape, *rows, *behind, _buffer(d_intra), _buffer(d_inter), *out, _queue(codes_BZ))
    else:
        core.gradient(shape, *rows, *behind, (d_intra.item(), d_inter.item()), torch.get_num_threads(), *out)
    return d_codes_BZ, d_var_BZ


class _Moments(torch.autograd.Function):
    """Packed moments of the global batch, with a gradient for functions in which every m2_c stands in its sum with
    `within` and no mean_c stands, as in correlations."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        u_BD, codes_BZ, var_BZ, degree, group = inputs
        sizes = u_BD.shape[1], codes_BZ.shape[1], degree
        moments = codes_BZ.new_empty(moments_size(*sizes), dtype=torch.float64)
        _statistics(u_BD, codes_BZ, var_BZ, degree, moments, None)
        if group is not None:
            moments = _together(moments, sizes, group)
        ctx.save_for_backward(u_BD, codes_BZ, var_BZ, moments)
        ctx.degree, ctx.group = degree, group
        return moments

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_moments: Tensor) -> tuple[Tensor | None, ...]:
        u_BD, codes_BZ, var_BZ, moments = ctx.saved_tensors
        upstream = PolynomialMoments.unpacked(d_moments, u_BD.shape[1], codes_BZ.shape[1], ctx.degree)
        slopes = torch.cat([upstream.within_DZK.flatten(), upstream.cross_DKZK.flatten()])
        slopes = _over_ranks(slopes, ctx.group)
        one = torch.ones((), dtype=torch.float64, device=slopes.device)
        d_codes_BZ, d_var_BZ = _backward(u_BD, codes_BZ, var_BZ, moments, slopes, one, one, ctx.degree, None)
        return None, d_codes_BZ, d_var_BZ if ctx.needs_input_grad[2] else None, None, None


def moments(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, group: Group) -> Tensor:
    """PolynomialMoments of the global batch, packed, for arguments that are checked; see _Moments for its gradient."""
    packed: Tensor = _Moments.apply(u_BD, codes_BZ, var_BZ, degree, group)
    return packed


def _results(u_BD: Tensor, codes_BZ: Tensor, degree: int) -> tuple[Tensor, ...]:
    """Room for what `_forward` returns."""
    d, dz = u_BD.shape[1], codes_BZ.shape[1]
    sizes = ((), (), (moments_size(d, dz, degree),), (slopes_size(d, dz, degree),))
    return tuple(codes_BZ.new_empty(size, dtype=torch.float64) for size in sizes)


def _gradients(codes_BZ: Tensor, var_BZ: Tensor | None) -> tuple[Tensor, Tensor]:
    """Room for what `_backward` returns."""
    d_codes_BZ, d_var_BZ = (
        torch.empty_like(values, memory_format=torch.contiguous_format)
        for values in (codes_BZ, codes_BZ if var_BZ is None else var_BZ)
    )
    return d_codes_BZ, d_var_BZ


class _Terms(torch.autograd.Function):
    """Eager mode: half the cost per step of the registered op. Takes the arguments of `_forward`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        intra, inter, moments, slopes = _forward(*inputs)
        *rows, ctx.degree, ctx.group = inputs
        ctx.save_for_backward(*rows, moments, slopes)
        return intra, inter

    @staticmethod
    def backward(ctx: Any, d_intra: Tensor, d_inter: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("create_graph=True: the compiled gradient of the regularizers has no second derivative")
        inputs = (*ctx.saved_tensors, d_intra, d_inter, ctx.degree, ctx.group)
        d_codes_BZ, d_var_BZ = _backward(*inputs)
        return None, d_codes_BZ, d_var_BZ if ctx.needs_input_grad[2] else None, None, None


# The same for torch.compile, whose ops take no objects: the group by its name.
_ROWS = "Tensor u_BD, Tensor codes_BZ, Tensor? var_BZ"
_FORWARD = f"({_ROWS}, int degree, str group) -> (Tensor, Tensor, Tensor, Tensor)"
_BACKWARD = (
    f"({_ROWS}, Tensor moments, Tensor slopes, Tensor d_intra, Tensor d_inter, int degree, str group)"
    " -> (Tensor, Tensor)"
)


def _with_group(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with the group itself in place of its name, the last argument; "" stands for no group."""
    name: Any = inputs[-1]
    group = distributed_c10d._resolve_process_group(name) if name else None  # type: ignore[attr-defined]
    return *inputs[:-1], group


@torch.library.custom_op("hpcauxvae::terms", mutates_args=(), schema=_FORWARD)
def _terms_op(*inputs: Any) -> tuple[Tensor, ...]:
    return _forward(*_with_group(inputs))


@_terms_op.register_fake
def _terms_fake(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Any, degree: int, group: str) -> Any:
    return _results(u_BD, codes_BZ, degree)


@torch.library.custom_op("hpcauxvae::terms_backward", mutates_args=(), schema=_BACKWARD)
def _terms_backward_op(*inputs: Any) -> tuple[Tensor, Tensor]:
    return _backward(*_with_group(inputs))


@_terms_backward_op.register_fake
def _terms_backward_fake(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, *_: Any) -> tuple[Tensor, Tensor]:
    return _gradients(codes_BZ, var_BZ)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *rows, ctx.degree, ctx.group = inputs
    ctx.save_for_backward(*rows, *output[2:])


def _differentiate(ctx: Any, d_intra: Tensor, d_inter: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    d_codes_BZ, d_var_BZ = _terms_backward_op(*ctx.saved_tensors, d_intra, d_inter, ctx.degree, ctx.group)
    return None, d_codes_BZ, d_var_BZ if ctx.saved_tensors[2] is not None else None, None, None


_terms_op.register_autograd(_differentiate, setup_context=_save)


def terms(u_BD: Tensor, codes_BZ: Tensor, var_BZ: Tensor | None, degree: int, group: Group) -> tuple[Tensor, Tensor]:
    """(intra, inter) as hpcauxvae.dependence.regularizers computes them, for arguments it has checked."""
    if torch.compiler.is_compiling():
        name = "" if group is None else group.group_name
        intra, inter, *_ = _terms_op(u_BD, codes_BZ, var_BZ, degree, name)
    else:
        intra, inter = _Terms.apply(u_BD, codes_BZ, var_BZ, degree, group)
    return intra, inter
