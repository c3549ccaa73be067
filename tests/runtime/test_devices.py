"""Which device a process takes, of accelerators that are not here, and what devices without float64 get."""

import pytest
import torch
from torch import nn

from hpcauxvae.runtime import devices
from hpcauxvae.runtime.devices import backend_of, device_of, free_memory, in_float64, peak_memory, place
from hpcauxvae.runtime.launchers import World
from hpcauxvae.types import InputError

ALONE = World(0, 1, 0, 1, "alone")
SECOND = World(5, 8, 1, 4, "torchrun")
BOUND = World(5, 8, 1, 4, "slurm")


@pytest.mark.parametrize(
    ("kind", "count", "world", "request_", "device"),
    [
        (None, 0, SECOND, "auto", "cpu"),
        ("cuda", 0, SECOND, "auto", "cpu"),  # a torch for CUDA where there is no GPU
        ("cuda", 4, SECOND, "cpu", "cpu"),
        ("cuda", 4, SECOND, "auto", "cuda:1"),
        ("cuda", 4, ALONE, "cuda:3", "cuda:3"),
        ("cuda", 1, BOUND, "cuda", "cuda:0"),  # a task that sees its own GPU only
        ("xpu", 4, SECOND, "auto", "xpu:1"),
        ("xpu", 4, ALONE, "xpu:2", "xpu:2"),
        ("mps", 1, ALONE, "auto", "mps:0"),
        ("mps", 1, SECOND, "auto", "cpu"),  # which alone has collectives there
        ("mps", 1, ALONE, "mps", "mps:0"),
    ],
)
def test_one_accelerator_for_each_process_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int, world: World, request_: str, device: str
) -> None:
    accelerators(monkeypatch, kind, count)
    assert str(device_of(world, request_)) == device


@pytest.mark.parametrize(
    ("kind", "count", "world", "request_", "says"),
    [
        (None, 0, ALONE, "cuda", "allowed: auto, cpu"),
        ("cuda", 1, SECOND, "auto", "wants cuda:1, but 1 can be seen"),
        ("cuda", 4, SECOND, "cuda:1", "must be auto, cpu or cuda for 8 processes"),
        ("cuda", 4, ALONE, "tpu", "allowed: auto, cpu, cuda"),
        ("cuda", 4, ALONE, "cuda:", "must be auto, cpu, or an accelerator"),
        ("cuda", 4, ALONE, "auto:1", "must be auto, cpu, or an accelerator"),
        ("xpu", 4, ALONE, "cuda", "allowed: auto, cpu, xpu"),
        ("xpu", 2, ALONE, "xpu:2", "wants xpu:2, but 2 can be seen"),
        ("mps", 1, SECOND, "mps", "mps serves one process alone"),
    ],
)
def test_an_accelerator_that_a_process_cannot_have(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int, world: World, request_: str, says: str
) -> None:
    accelerators(monkeypatch, kind, count)
    with pytest.raises(InputError, match=f"device '{request_}'.*{says}"):
        device_of(world, request_)


def accelerators(monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: kind and torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def test_collectives_and_memory_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {kind: backend_of(torch.device(kind)) for kind in ("cpu", "cuda", "xpu")}
    assert kinds == {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}
    for kind in ("cpu", "mps"):
        assert free_memory(torch.device(kind)) is None and peak_memory(torch.device(kind)) is None
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (7, 9))
    assert free_memory(torch.device("xpu", 1)) == 7


def test_float64_is_computed_on_the_cpu_where_a_device_has_none() -> None:
    assert devices.float64_device(torch.device("mps", 0)) == torch.device("cpu")
    assert devices.float64_device(torch.device("xpu", 1)) == torch.device("xpu", 1)
    values = torch.tensor([1.5, 2.0], requires_grad=True)
    (in_float64(values) ** 2).sum().backward()
    assert in_float64(values).dtype == torch.float64
    assert values.grad is not None and values.grad.tolist() == [3.0, 4.0]


def test_a_model_in_float64_is_not_placed_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.BatchNorm1d(2)
    place(model, torch.device("cpu"))
    model.running_mean = model.running_mean.double()
    with pytest.raises(InputError, match="device mps: has no float64, the type of running_mean"):
        place(model, torch.device("mps"))
