"""Stamps a second: hpcauxvae.simulate against GalSim as one would write it, against GalSim's own runner; and its ranks.

    python benchmarks/simulate.py [--n 2000] [--repeats 5] [--parts loop,runner,ranks,model] [--out FILE.json]

loop     one core, interleaved in one process: (a) the paper's authors' way, a plain loop with GalSim's default
         accuracy and at that of this package; hpcauxvae with GalSim; with the batch renderer; each before and after
         noise. And the largest errors against GalSim with far tighter parameters, over --accuracy stamps.
runner   (b) GalSim's `galsim` with nproc = 2, the same galaxies into one FITS cube, against 2 ranks into HDF5.
ranks    2 ranks against two independent runs of one rank at the same time, each of half the galaxies; idle time.
model    a discrete-event model of the dealing of chunks, fed with the costs measured here: 64, 1024, 16,384 ranks.

Ratios are medians over the repeats with quartiles; process time where one process is measured, wall time elsewhere.
"""

import argparse
import dataclasses
import functools
import heapq
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import galsim  # noqa: E402
import numpy as np  # noqa: E402

from hpcauxvae.runtime.dealer import FIRST_SHARE, grant_size  # noqa: E402
from hpcauxvae.simulate import designs  # noqa: E402
from hpcauxvae.simulate.scene import Scene  # noqa: E402
from hpcauxvae.simulate.stamps import painter_of, with_noise  # noqa: E402

SCENE = Scene()
HERE = Path(__file__).resolve().parent


def galaxies(n: int, seed: int = 7) -> np.ndarray:
    return designs.rows("latin-hypercube", n, seed, 0, n, SCENE.factors)


def plain_loop(values: np.ndarray, noise: bool, **accuracy: float) -> None:
    """(a): one galaxy after the other, nothing shared between them."""
    for flux, radius, g1, g2, psf in values:
        gsparams = galsim.GSParams(maximum_fft_size=12300, **accuracy)
        galaxy = galsim.Exponential(flux=flux, scale_radius=radius, gsparams=gsparams).shear(g1=g1, g2=g2)
        seen = galsim.Convolve([galaxy, galsim.Gaussian(flux=1.0, fwhm=psf, gsparams=gsparams)])
        image = galsim.ImageF(33, 33, scale=0.2)
        seen.drawImage(image=image)
        if noise:
            image.addNoise(galsim.PoissonNoise(galsim.BaseDeviate(1234), sky_level=0.0))


def painted(values: np.ndarray, noise: bool, renderer: str) -> Callable[[], None]:
    scene = dataclasses.replace(SCENE, renderer=renderer, noiseless=not noise)
    painter, stamps = painter_of(scene, 7), np.empty((len(values), *scene.shape), np.float32)
    return lambda: painter(values, 0, stamps, lambda: None)


def loop(n: int, repeats: int, accuracy: int) -> dict[str, Any]:
    values = galaxies(n)
    results: dict[str, Any] = {}
    for noise in (False, True):
        runs: dict[str, Callable[[], None]] = {
            "loop, GalSim's accuracy": functools.partial(plain_loop, values, noise),
            "loop, our accuracy": functools.partial(plain_loop, values, noise, maxk_threshold=1e-4),
            "hpcauxvae galsim": painted(values, noise, "galsim"),
            "hpcauxvae batch": painted(values, noise, "batch"),
            "hpcauxvae batch-fine": painted(values, noise, "batch-fine"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                began = time.process_time()
                run()
                seconds[name].append((time.process_time() - began) / n)
        key = "with noise" if noise else "noiseless"
        print(f"\n{key}: us a stamp on one core, and ratios over repeats")
        results[key] = {name: statistics.median(times) * 1e6 for name, times in seconds.items()}
        for name, times in seconds.items():
            against = [ratio(seconds[other], times) for other in list(runs)[:3]]
            print(f"  {name:26} {results[key][name]:7.1f} us   over the three first: {', '.join(against)}")
            results[f"{key}, ratios of {name}"] = against
    results |= errors(accuracy)
    return results


def ratio(slow: list[float], fast: list[float]) -> str:
    low, middle, high = statistics.quantiles([s / f for s, f in zip(slow, fast, strict=True)], n=4)
    return f"{middle:.2f}x [{low:.2f}, {high:.2f}]"


def errors(count: int) -> dict[str, Any]:
    """Largest errors over `count` galaxies of Table 2, its 32 corners among them, in units of the peak and of sigma."""
    corners = np.stack(np.meshgrid(*((f.low, f.high) for f in SCENE.factors)), axis=-1).reshape(-1, 5)
    values = np.concatenate([corners, galaxies(max(0, count - 32), seed=1)])
    exact = galsim.GSParams(
        folding_threshold=1e-5, maxk_threshold=1e-6, kvalue_accuracy=1e-9, minimum_fft_size=512, maximum_fft_size=32768
    )
    drawn = {}
    for renderer in ("galsim", "batch", "batch-fine"):
        drawn[renderer] = np.empty((len(values), 1, 33, 33), np.float32)
        scene = dataclasses.replace(SCENE, renderer=renderer, noiseless=True)
        painter_of(scene, 7)(values, 0, drawn[renderer], lambda: None)
    worst = {name: [0.0, 0.0] for name in drawn}
    for row, (flux, radius, g1, g2, psf) in enumerate(values):
        disk = galsim.Exponential(flux=flux, scale_radius=radius, gsparams=exact).shear(g1=g1, g2=g2)
        seen = galsim.Convolve([disk, galsim.Gaussian(fwhm=psf, gsparams=exact)], gsparams=exact)
        truth = seen.drawImage(nx=33, ny=33, scale=0.2, dtype=float).array
        for name, stamps in drawn.items():
            error = np.abs(stamps[row, 0] - truth)
            noise = np.sqrt(np.maximum(truth, 1))
            worst[name] = [max(worst[name][0], error.max() / truth.max()), max(worst[name][1], (error / noise).max())]
    print(f"\nlargest error over {len(values)} stamps, corners included")
    for name, (peak, sigma) in worst.items():
        print(f"  {name:12} {peak:.1e} of the peak, {sigma:.4f} sigma (Poisson)")
    return {"errors": worst, "errors_n": len(values)}


CONFIG = """
gal: {{type: Exponential, flux: {{type: Catalog, col: 0}}, scale_radius: {{type: Catalog, col: 1}},
       shear: {{type: G1G2, g1: {{type: Catalog, col: 2}}, g2: {{type: Catalog, col: 3}}}}}}
psf: {{type: Gaussian, fwhm: {{type: Catalog, col: 4}}}}
image: {{type: Single, nproc: 2, size: 33, pixel_scale: 0.2, random_seed: 1234, noise: {{type: Poisson, sky_level: 0}}}}
stamp: {{gsparams: {{maxk_threshold: 1.e-4}}}}
input: {{catalog: {{dir: '{folder}', file_name: galaxies.txt}}}}
output: {{type: DataCube, dir: '{folder}', file_name: cube.fits, nimages: {n}, nproc: 2}}
"""


def executable(name: str) -> str:
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or name


def seconds_of(*commands: list[str]) -> float:
    """Wall time until all of these, started together, have ended well."""
    began = time.perf_counter()
    started = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c in commands]
    for process in started:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(output)
    return time.perf_counter() - began


def simulate(out: Path, *arguments: object, ranks: int = 1) -> list[str]:
    start = [executable("mpirun"), "-n", str(ranks)] if ranks > 1 else []
    return [*start, sys.executable, "-m", "hpcauxvae.simulate", str(out), *map(str, arguments)]


def runner(n: int, repeats: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"galsim -n, 2 processes": [], "hpcauxvae, 2 ranks": [], "batch, 2 ranks": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            np.savetxt(Path(folder) / "galaxies.txt", galaxies(n))
            (Path(folder) / "set.yaml").write_text(CONFIG.format(folder=folder, n=n))
            commands = (
                [executable("galsim"), "-v", "0", str(Path(folder) / "set.yaml")],
                simulate(Path(folder) / "a.h5", "--n", n, "--seed", 7, ranks=2),
                simulate(Path(folder) / "b.h5", "--n", n, "--seed", 7, "--renderer", "batch", ranks=2),
            )
            for name, command in zip(times, commands, strict=True):
                times[name].append(seconds_of(command))
    first, *rest = times
    print(f"\n{n} galaxies with noise into a file, wall time, start included")
    for name, values in times.items():
        print(
            f"  {name:26} {statistics.median(values):6.2f} s   GalSim's runner over it: {ratio(times[first], values)}"
        )
    return {name: {"seconds": times[name], "ratio": ratio(times[first], times[name])} for name in rest}


def ranks(n: int, repeats: int) -> dict[str, Any]:
    """Wall times, start included."""
    together, apart = [], []
    idle = ""
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            half = [
                simulate(folder / f"{i}.h5", "--n", n, "--start", i * n // 2, "--stop", (i + 1) * n // 2)
                for i in (0, 1)
            ]
            apart.append(seconds_of(*half))
            command = simulate(folder / "both.h5", "--n", n, ranks=2)
            began = time.perf_counter()
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            together.append(time.perf_counter() - began)
            idle = ended.stdout.strip().rsplit("idle at the end: ")[-1]
    print(f"\n{n} galaxies, wall time: two runs of one rank / one of two: {ratio(apart, together)}; idle: {idle}")
    return {"efficiency": ratio(apart, together), "idle": idle}


ANSWER_S = 6e-6
"""What an answer of rank 0 takes: measured with 2 ranks, mpi4py on MPICH, receive and send."""


def model(costs: np.ndarray, size: int, per_rank: int, chunk: int = 64, spread: float = 0.02) -> dict[str, float]:
    """One run: `size` ranks, so many chunks each; costs (n,) in seconds are resampled; ranks differ by `spread`.

    Rank 0 draws too and answers between two stamps; a rank asks when it begins the last chunk of its grant. Returns the
    efficiency (work / ranks x time), the same with chunks dealt out in advance, and the share of its time that rank 0
    spends answering.
    """
    rng = np.random.default_rng(0)
    total = size * per_rank
    speed = np.maximum(0.5, rng.normal(1, spread, size))
    work = rng.normal(costs.mean() * chunk, costs.std() * np.sqrt(chunk), total)  # a chunk is a sum of many
    share = total // (FIRST_SHARE * size)
    done, dealt, answered, busy_until = np.zeros(size), share * size, 0, 0.0
    before = np.concatenate([[0.0], np.cumsum(work)])
    poll = costs.mean() / 2
    events: list[tuple[float, int]] = []
    for rank in range(size):
        low, high = rank * share, (rank + 1) * share
        done[rank] = (before[high] - before[low]) * speed[rank]
        last = (before[high] - before[high - 1]) * speed[rank] if share else 0.0
        heapq.heappush(events, (done[rank] - last, rank))
    answer_time = 0.0
    while events:
        asked, rank = heapq.heappop(events)
        begin, dealt = dealt, dealt + grant_size(total - dealt, size)
        if rank:  # rank 0 serves itself
            busy_until = max(busy_until, asked + poll) + ANSWER_S
            answered += 1
            answer_time += ANSWER_S
            done[0] += ANSWER_S
        start = max(done[rank], busy_until if rank else 0.0)
        if begin == dealt:
            continue
        done[rank] = start + (before[dealt] - before[begin]) * speed[rank]
        heapq.heappush(events, (done[rank] - (before[dealt] - before[dealt - 1]) * speed[rank], rank))
    useful = work.sum() / np.sum(1 / speed)  # the time in which all ranks, never idle, would do it
    fixed = max((before[(r + 1) * per_rank] - before[r * per_rank]) * speed[r] for r in range(size))
    return {
        "efficiency": float(useful / done.max()),
        "dealt in advance": float(useful / fixed),
        "answering": answer_time / float(done.max()),
        "answers": answered / size,
        "seconds": float(done.max()),
    }


def measured_costs(n: int) -> np.ndarray:
    values, costs = galaxies(n), []
    for index, row in enumerate(values):
        began = time.process_time()
        with_noise(SCENE.expected(row), SCENE.sky, SCENE.read_noise, 7, index)
        costs.append(time.process_time() - began)
    return np.array(costs)


def models(n: int) -> dict[str, Any]:
    costs = measured_costs(n)
    low, middle, high = np.percentile(costs, [5, 50, 95]) * 1e6
    print(f"\nmodel; cost of a stamp here: median {middle:.0f} us, 5 to 95 %: {low:.0f} to {high:.0f} us")
    print("   ranks  galaxies a rank  speeds differ   on demand  in advance   rank 0 answers  answers a rank   run")
    results = {}
    for size in (64, 1024, 16384):
        for per_rank in (16, 250, 1500) if size < 16384 else (16, 250):
            for spread in (0.02, 0.1):
                run = model(costs, size, per_rank, spread=spread)
                results[f"{size} ranks, {per_rank} chunks each, spread {spread}"] = run
                shares = f"{run['efficiency']:11.1%} {run['dealt in advance']:11.1%} {run['answering']:16.2%}"
                numbers = f"{run['answers']:15.1f} {run['seconds']:6.1f} s"
                print(f"  {size:6} {per_rank * 64:16,} {spread:14.0%} {shares} {numbers}", flush=True)
    return {"costs_us": [low, middle, high], "runs": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--accuracy", type=int, default=4000)
    parser.add_argument("--parts", default="loop,runner,ranks,model")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "loop": lambda: loop(options.n, options.repeats, options.accuracy),
        "runner": lambda: runner(4 * options.n, options.repeats),
        "ranks": lambda: ranks(10 * options.n, options.repeats),
        "model": lambda: models(options.n),
    }
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load}, galsim {galsim.__version__}"
    print(f"{time.strftime('%Y-%m-%d')}  {machine}  python benchmarks/simulate.py {' '.join(sys.argv[1:])}")
    results = {name: parts[name]() for name in options.parts.split(",")}
    if options.out:
        told = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "command": " ".join(sys.argv)}
        options.out.write_text(json.dumps(told | results, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
