"""Images a second, MB a second: `hpcauxvae data import` against the loop that one would write with the usual library.

    python benchmarks/data_import.py [--arrays 20000] [--files 1000] [--repeats 5] [--results FILE.json]

The images are stamps of 33 x 33 float32 pixels; MB are those of their pixels. `loop` reads one image after the other,
from an array of an NPZ file (numpy), from one of HDF5 (h5py), or from FITS files that a CSV catalogue names (astropy),
and writes them all by h5py. It checks nothing; `data import` looks at each pixel, keeps checksums and goes
on after a kill. Both work in turn in this process, alone: their CPU time, which other programs disturb least, and their
wall time. 1 process, 2 processes and 2 ranks of MPI are whole commands, wall time with their start.
A ratio is the median over the repeats, with quartiles; above 1 the first is the faster.
"""

import argparse
import contextlib
import csv
import io
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

import h5py
import numpy as np
from astropy.io import fits

from hpcauxvae.data.importing.options import Import
from hpcauxvae.data.importing.plan import plan_of
from hpcauxvae.data.importing.work import make

SIDE = 33
HERE = Path(__file__).resolve().parent


def write_sources(folder: Path, arrays: int, files: int) -> None:
    """stamps.npz, stamps.h5, and catalogue.csv with a folder of FITS files."""
    rng = np.random.default_rng(0)
    images = rng.normal(20, 8, (arrays, SIDE, SIDE)).astype(np.float32)
    radius = rng.uniform(0.1, 1, arrays)
    np.savez(folder / "stamps.npz", image=images, radius=radius)
    with h5py.File(folder / "stamps.h5", "w", locking=False) as file:
        file["image"], file["radius"] = images, radius
    (folder / "stamps").mkdir()
    with open(folder / "catalogue.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "radius"])
        for number in range(files):
            fits.PrimaryHDU(images[number]).writeto(folder / "stamps" / f"{number}.fits")
            table.writerow([f"stamps/{number}.fits", radius[number]])


def loop(source: Path, out: Path) -> None:
    """As one would write it."""
    images = []
    if source.suffix == ".csv":
        with open(source, newline="") as file:
            rows = list(csv.DictReader(file))
        values = [float(row["radius"]) for row in rows]
        for entry in rows:
            images.append(fits.getdata(source.parent / entry["file"]).astype(np.float32))
    elif source.suffix == ".npz":
        with np.load(source) as archive:
            values, stored = archive["radius"], archive["image"]
        for row in range(len(stored)):
            images.append(stored[row].astype(np.float32))
    else:
        with h5py.File(source, locking=False) as file:
            values = file["radius"][:]
            for row in range(len(values)):
                images.append(file["image"][row].astype(np.float32))
    with h5py.File(out, "w", locking=False) as file:
        file["images"], file["factors"] = np.stack(images)[:, None], np.asarray(values)[:, None]


def imported(source: Path, out: Path) -> None:
    """By `data import`, in this process."""
    with contextlib.redirect_stdout(io.StringIO()):
        make(plan_of(Import(source=source, out=out)), 1)


def timed(action: Callable[[Path, Path], None], source: Path, out: Path) -> tuple[float, float]:
    """CPU and wall seconds."""
    out.unlink(missing_ok=True)
    cpu, wall = time.process_time(), time.perf_counter()
    action(source, out)
    return time.process_time() - cpu, time.perf_counter() - wall


def command(source: Path, out: Path, ranks: int, processes: int) -> float:
    """Wall seconds of the command."""
    out.unlink(missing_ok=True)
    mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or "mpirun"
    start = [mpirun, "-n", str(ranks)] if ranks > 1 else []
    line = [*start, sys.executable, "-m", "hpcauxvae", "data", "import", str(source), str(out)]
    line += [] if ranks > 1 else ["--processes", str(processes)]
    began = time.perf_counter()
    subprocess.run(line, check=True, capture_output=True)
    return time.perf_counter() - began


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles([s / f for s, f in zip(slow, fast, strict=True)], n=4)
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def measured(source: Path, n: int, repeats: int) -> dict[str, Any]:
    """Of one source: rates and ratios."""
    out = source.with_name("out.h5")
    seconds: dict[str, list[tuple[float, float]]] = {"loop": [], "import": []}
    walls: dict[str, list[float]] = {"1 process": [], "2 processes": [], "2 ranks": []}
    for _ in range(repeats):
        seconds["loop"].append(timed(loop, source, out))
        seconds["import"].append(timed(imported, source, out))
        for name, (ranks, processes) in zip(walls, ((1, 1), (1, 2), (2, 1)), strict=True):
            walls[name].append(command(source, out, ranks, processes))
    found: dict[str, Any] = {"images": n}
    for way, name in enumerate(("CPU", "wall")):
        times = {key: [pair[way] for pair in pairs] for key, pairs in seconds.items()}
        for key, of in times.items():
            middle = statistics.median(of)
            rates = {"images/s": round(n / middle), "MB/s": round(n * SIDE**2 * 4e-6 / middle, 2)}
            found[f"{key}, by {name} time"] = rates
        found[f"import over loop, by {name} time"] = ratio(times["loop"], times["import"])
    for name in ("2 processes", "2 ranks"):
        found[f"{name} over 1 process, whole command"] = ratio(walls["1 process"], walls[name])
    found["seconds of the whole command"] = {name: round(statistics.median(of), 2) for name, of in walls.items()}
    return found


def machine() -> str:
    """The processor, its cores, and how busy they were at the start."""
    with open("/proc/cpuinfo") as lines:
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model or platform.machine()}, {os.cpu_count()} cores, load {load}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrays", type=int, default=20_000, help="images in the NPZ and in the HDF5 file")
    parser.add_argument("--files", type=int, default=1_000, help="FITS files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", default="", help="what else is to be known of the machine")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    told: dict[str, Any] = {
        "command": f"python benchmarks/data_import.py {' '.join(sys.argv[1:])}".strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine() + (f"; {options.note}" if options.note else ""),
        "commit": commit.stdout.strip(),
        "rows": {},
    }
    with tempfile.TemporaryDirectory() as name:
        write_sources(Path(name), options.arrays, options.files)
        for source, n in (
            ("stamps.npz", options.arrays),
            ("stamps.h5", options.arrays),
            ("catalogue.csv", options.files),
        ):
            told["rows"][source] = measured(Path(name) / source, n, options.repeats)
            print(source, json.dumps(told["rows"][source], indent=1), flush=True)
    if options.results:
        options.results.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
