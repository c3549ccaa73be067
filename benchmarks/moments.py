"""The regularizers of (9), forward + backward: hpcauxvae against what a user would write in torch, in one run.

    python benchmarks/moments.py [--device cuda] [--out benchmarks/results/moments-cpu.txt] [--quick]

(a) K^2 calls of torch.corrcoef, the straightforward form of (6)-(9); (b) powers side by side, one matrix product;
(c) is (b) under torch.compile, where it works. They are run in turn, and ratios are of the same turn.

`var`: with posterior variances, the correlations of z itself as training has them, (20). (a) and (b) then compute the
same numbers: E[z^k | x] and Var(z^k | x) in closed form, and corrcoef's denominators widened by the mean of the
variances. `means`: without. `var/means` is ours with variances over (a) and (b) without: what a user who leaves the
variances out would see.

On the CPU one thread. `GB/s`: the bytes that must be moved (u, codes and variances twice, gradients once) over our
time, beside the bandwidth of a copy. `extra`: the peak of resident memory over one forward + backward less the
gradients, in a process of its own. On a GPU also the time of a step inside a CUDA graph, and the roofline: the larger
of those bytes over the copy bandwidth and the multiply-adds (2 d dz K^2 a sample) over the measured float32 rate.
"""

import argparse
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hpcauxvae.dependence.moments import core, gaussian_moments, gaussian_power_variances
from hpcauxvae.dependence.regularizers import regularizer, terms

SAMPLES = (64, 512, 4096, 65_536, 1_000_000)
SHAPES = ((5, 10, 3), (3, 10, 3), (16, 64, 4))
MOST_NUMBERS = 3e7  # of the largest shape (a) would take minutes
Function = Callable[[Tensor, Tensor, Tensor | None, int], Tensor]


def columns(codes: Tensor, var: Tensor | None, degree: int) -> tuple[Tensor, Tensor | None]:
    """E[z^k | x] and Var(z^k | x), (N, Z, K)."""
    if var is None:
        return torch.stack([codes ** (k + 1) for k in range(degree)], -1), None
    moments = gaussian_moments(codes, var, degree)
    return moments[..., 1:], gaussian_power_variances(moments, var)


def corrcoef_calls(u: Tensor, codes: Tensor, var: Tensor | None, degree: int) -> Tensor:
    """(a)"""
    d, dz = u.shape[1], codes.shape[1]
    c, within = columns(codes, var, degree)
    table = u.new_empty(d, degree, dz, degree)
    for k in range(degree):
        for m in range(degree):
            both = torch.cat([u ** (k + 1), c[..., m]], 1)
            corr = torch.corrcoef(both.T)[:d, d:]
            if within is not None:
                spread = c[..., m].var(0, correction=0)
                corr = corr * (spread / (spread + within[..., m].mean(0))).sqrt()
            table[:, k, :, m] = corr
    return torch.add(*terms(table))


def one_product(u: Tensor, codes: Tensor, var: Tensor | None, degree: int) -> Tensor:
    """(b)"""
    d, dz = u.shape[1], codes.shape[1]
    c, within = columns(codes, var, degree)
    powers = torch.stack([u ** (k + 1) for k in range(degree)], -1).flatten(1)
    left, right = powers - powers.mean(0), c.flatten(1) - c.flatten(1).mean(0)
    total = right.square().sum(0)
    if within is not None:
        total = total + within.flatten(1).sum(0)
    table = (left / left.norm(dim=0)).T @ (right / total.sqrt())
    return torch.add(*terms(table.view(d, degree, dz, degree)))


def native(u: Tensor, codes: Tensor, var: Tensor | None, degree: int) -> Tensor:
    return torch.add(*regularizer(u, codes, var, degree=degree))


def inputs(n: int, d: int, dz: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(n, d, generator=generator)
    codes, var = torch.randn(n, dz, generator=generator), torch.rand(n, dz, generator=generator)
    return u.to(device), codes.to(device).requires_grad_(), var.to(device).requires_grad_()


def seconds(function: Function, u: Tensor, codes: Tensor, var: Tensor | None, degree: int) -> float:
    """One forward + backward. Small ones are timed over several calls."""
    calls = 20 if len(u) <= 512 else 1
    total = 0.0
    for _ in range(calls):
        codes.grad = None
        if var is not None:
            var.grad = None
        synchronize(u.device)
        began = time.perf_counter()
        function(u, codes, var, degree).backward()
        synchronize(u.device)
        total += time.perf_counter() - began
    return total / calls


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def graph_seconds(u: Tensor, codes: Tensor, var: Tensor, degree: int) -> float:
    """A forward + backward inside a CUDA graph, the median of replays timed by events."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            codes.grad = var.grad = None
            native(u, codes, var, degree).backward()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    codes.grad = var.grad = None
    with torch.cuda.graph(graph):
        native(u, codes, var, degree).backward()
    times = []
    for _ in range(30):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e4)
    return statistics.median(times)


def copy_bandwidth(device: str) -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.ones(1 << 25, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(6):
        synchronize(source.device)
        began = time.perf_counter()
        target.copy_(source)
        synchronize(source.device)
        times.append(time.perf_counter() - began)
    return 2 * source.numel() * 4 / min(times)


def multiply_rate(device: str) -> float:
    """Multiply-adds a second of a float32 matrix product."""
    a = torch.rand(4096, 4096, device=device)
    times = []
    for _ in range(5):
        synchronize(a.device)
        began = time.perf_counter()
        torch.mm(a, a)
        synchronize(a.device)
        times.append(time.perf_counter() - began)
    return 4096**3 / min(times)


def extra_memory(n: int, shape: tuple[int, int, int], device: str) -> float:
    """MiB at the peak of one forward + backward, less what was there before and the gradients."""
    d, dz, degree = shape
    small = inputs(64, d, dz, device)
    native(*small, degree).backward()
    u, codes, var = inputs(n, d, dz, device)
    gradients = 2 * codes.numel() * 4
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        native(u, codes, var, degree).backward()
        return (torch.cuda.max_memory_allocated() - before - gradients) / 2**20
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    native(u, codes, var, degree).backward()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return (int(status["VmHWM"].split()[0]) * 1024 - before - gradients) / 2**20


def extra_in_its_own_process(n: int, shape: tuple[int, int, int], device: str) -> float:
    command = [sys.executable, __file__, "--device", device, "--memory", str(n), *map(str, shape)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ratios(rows: list[list[float]], other: int, own: int) -> str:
    values = [row[other] / row[own] for row in rows]
    if len(values) < 2:
        return f"{values[0]:.1f}x"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f}x [{low:.1f}, {high:.1f}]"


def measure(n: int, shape: tuple[int, int, int], settings: argparse.Namespace) -> list[str]:
    """Lines of one shape and number of samples."""
    d, dz, degree = shape
    u, codes, var = inputs(n, d, dz, settings.device)
    functions: list[Function] = [native, corrcoef_calls, one_product]
    if settings.compiled:
        functions.append(torch.compile(one_product, dynamic=False))
    plans = [(function, spread) for spread in (var, None) for function in functions]
    values = [float(function(u, codes, spread, degree).detach()) for function, spread in plans]
    for function, spread in plans:
        seconds(function, u, codes, spread, degree)
    count = max(2, settings.repeats // (1 if n < 10_000 else 3 if n < 100_000 else 8))
    rows = [[seconds(function, u, codes, spread, degree) for function, spread in plans] for _ in range(count)]
    many, shape_name = len(functions), f"{d}, {dz}, {degree}"
    lines = []
    for name, own, first in (("var", 0, 0), ("means", many, many), ("var/means", 0, many)):
        median = statistics.median(row[own] for row in rows)
        moved = 4 * n * (2 * d + (5 if name == "means" else 6) * dz - (2 * dz if name == "means" else 0))
        cells = [ratios(rows, first + 1 + other, own) for other in range(many - 1)] + ["-"] * (4 - many)
        gap = max(abs(value - values[first]) for value in values[first : first + many])
        lines.append(
            f"{n:9,} {shape_name:>10} {name:>10} {median * 1e6:9,.0f} us {cells[0]:>22} {cells[1]:>22} {cells[2]:>22} "
            f"{moved / median / 1e9:6.1f} {gap:9.1e}"
        )
    lines.append(f"{'':>9} extra memory {extra_in_its_own_process(n, shape, settings.device):.1f} MiB")
    if settings.device == "cuda":
        taken, moved = graph_seconds(u, codes, var, degree), 4 * n * (2 * d + 6 * dz)
        bound = max(moved / settings.bandwidth, 2 * n * d * dz * degree**2 / settings.rate)
        lines.append(f"{'':>9} in a CUDA graph {taken * 1e6:,.1f} us, {bound / taken:.0%} of the roofline")
    return lines


def machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores, one thread used"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=40, help="turns for small N; large N gets fewer")
    parser.add_argument("--compiled", action="store_true", help="(c) too: torch.compile takes a minute a shape")
    parser.add_argument("--quick", action="store_true", help="only d, dz, K = 5, 10, 3 and N = 64, 4096, 1e6")
    parser.add_argument("--out", type=Path, help="write the lines here as well")
    parser.add_argument("--memory", type=int, nargs=4, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.memory:
        n, *shape = settings.memory
        print(extra_memory(n, (shape[0], shape[1], shape[2]), settings.device))
        return
    settings.bandwidth, settings.rate = copy_bandwidth(settings.device), multiply_rate(settings.device)
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        if settings.out:
            settings.out.parent.mkdir(parents=True, exist_ok=True)
            settings.out.write_text("\n".join(lines) + "\n")

    kernel = core.instruction_set if core else "not compiled"
    say(f"# {time.strftime('%Y-%m-%d')}, {machine(settings.device)}, torch {torch.__version__}; {kernel}")
    say(f"# python {' '.join(sys.argv)}; copy bandwidth {settings.bandwidth / 1e9:.1f} GB/s")
    say(
        f"{'N':>9} {'d, dz, K':>10} {'':>10} {'hpcauxvae':>12} {'over (a)':>22} {'over (b)':>22} {'over (c)':>22} "
        f"{'GB/s':>6} {'gap':>9}"
    )
    for shape in SHAPES[: 1 if settings.quick else None]:
        for n in (64, 4096, 1_000_000) if settings.quick else SAMPLES:
            if n * (shape[0] + shape[1]) <= MOST_NUMBERS:
                for line in measure(n, shape, settings):
                    say(line)


if __name__ == "__main__":
    main()
