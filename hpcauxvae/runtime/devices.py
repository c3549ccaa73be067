"""Which device a process computes on, and what devices differ in: memory of their own, float64, collectives.

The only other modules that know a kind of device by name are the native kernel and the CUDA graph.
"""

import re
from collections.abc import Callable
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hpcauxvae.runtime.launchers import World
from hpcauxvae.types import InputError


def device_of(world: World, request: str = "auto") -> torch.device:
    """The device of this process: an accelerator for itself, by local rank, or the CPU.

    request: auto, cpu, or a kind of accelerator that torch knows, such as cuda (ROCm too), xpu or mps, with or without
    a number; auto takes accelerators where there are any. Raises InputError for a device that torch does not see here,
    and for more processes than accelerators on a machine.
    """
    found = torch.accelerator.current_accelerator()
    count = 0 if found is None else torch.accelerator.device_count()
    kind, _, number = request.partition(":")
    alone = found is not None and world.world_size > 1 and not _has_collectives(found)
    if request == "cpu" or (request == "auto" and (count == 0 or alone)):
        return torch.device("cpu")
    if not re.fullmatch(r"[a-z]+(:\d+)?", request) or kind in ("cpu", "meta") or (kind == "auto" and number):
        raise InputError(f"device {request!r}: must be auto, cpu, or an accelerator such as cuda, cuda:1, xpu or mps")
    if found is None or count == 0 or kind not in ("auto", found.type):
        seen = f"auto, cpu, {found.type}" if found is not None and count else "auto, cpu"
        raise InputError(f"device {request!r}: torch sees no such accelerator here; allowed: {seen}")
    if number and world.world_size > 1:
        raise InputError(f"device {request!r}: must be auto, cpu or {kind} for {world.world_size} processes")
    if alone:
        raise InputError(f"device {request!r}: {found.type} serves one process alone; allowed for more: cpu")
    # A cluster may show each task its own accelerator only, which is then number 0 for all of them.
    bound = count == 1 and world.launcher in ("mpi", "slurm")
    index = int(number) if number else 0 if bound else world.local_rank
    if index >= count:
        raise InputError(
            f"device {request!r}: process {world.local_rank} of {world.local_world_size} on this machine wants "
            f"{found.type}:{index}, but {count} can be seen"
        )
    return torch.device(found.type, index)


def use(device: torch.device) -> None:
    """Makes this process compute on an accelerator where code names none."""
    if device.type != "cpu":
        torch.accelerator.set_device_index(device)


def backend_of(device: torch.device) -> str:
    """The backend of torch.distributed for tensors on this device: NCCL for cuda, XCCL for xpu, gloo for the CPU."""
    return dist.get_default_backend_for_device(device)


def _has_collectives(device: torch.device) -> bool:
    """Gloo is named for mps, too, but does not take its tensors."""
    return device.type in dist.Backend.default_device_backend_map and backend_of(device) != "gloo"


def free_memory(device: torch.device) -> int | None:
    """Free bytes of an accelerator with memory of its own; None for the CPU and what shares the CPU's memory."""
    info = getattr(torch.get_device_module(device), "mem_get_info", None)
    return None if info is None else int(info(device)[0])


def peak_memory(device: torch.device) -> int | None:
    """The most bytes that tensors have taken on an accelerator with memory of its own; None for others."""
    peak = getattr(torch.get_device_module(device), "max_memory_allocated", None)
    return None if peak is None else int(peak(device))


def float64_device(device: torch.device) -> torch.device:
    """Where tensors of this device are computed with in float64: there, or on the CPU where a device (mps) cannot."""
    return torch.device("cpu") if device.type == "mps" else device


def in_float64(values: Tensor) -> Tensor:
    """The same values in float64, on `float64_device`; differentiable."""
    return values.to(float64_device(values.device)).double()


def from_float64(values: Tensor, device: torch.device) -> Tensor:
    """The way back of `in_float64`: in float32, and on the device again, where it has no float64."""
    return values if float64_device(device) == device else values.float().to(device)


def skips_steps(device: torch.device) -> bool:
    """Whether the fused Adam of this device leaves weights alone where `found_inf` is set; that of mps does not."""
    return device.type != "mps"


class InFloat64(nn.Module):
    """Keeps its buffers in float64, on `float64_device`, wherever the model around it is moved and however it is cast.

    It has no parameters and no modules below it.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            if tensor.dtype != torch.float64:
                return fn(tensor)
            return tensor.to(float64_device(fn(torch.zeros((), device=tensor.device)).device))

        return super()._apply(moved, recurse)


def place(model: nn.Module, device: torch.device) -> None:
    """Moves a model. Raises InputError where it computes in float64 and the device has none."""
    for module in model.modules():
        own = () if isinstance(module, InFloat64) else (*module._parameters.items(), *module._buffers.items())
        for name, tensor in own:
            if tensor is not None and tensor.dtype == torch.float64 and float64_device(device) != device:
                raise InputError(
                    f"device {device.type}: has no float64, the type of {name}; allowed: another device, or dtype "
                    "float32"
                )
    model.to(device)
