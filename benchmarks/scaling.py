"""Images per second on 1, 2 and 4 processes: weak (the same batch for each) and strong (the same batch together).

python benchmarks/scaling.py DATA.h5 [--processes 1 2 4] [--batch-size 64] [--results FILE.json]

More processes than cores only share them: the efficiency that is printed takes this into account.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from step import processor

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.runtime.collectives import start, stop
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.trainer import Trainer

_WARM_UP = 10


def worker(options: argparse.Namespace) -> None:
    """One process of a measurement; the first prints images per second."""
    world = find_world()
    weighed: dict[str, Any] = {"batch_size": options.batch_size}
    config = TrainConfig(data=options.data, out=Path("unused"), aux=options.aux, **weighed)
    trainer = Trainer(config, start(world), open_set(options.data))
    trainer.connect()
    batches = islice(trainer.batches(), _WARM_UP + options.steps)
    for number, (batch, noise_BZ) in enumerate(batches, 1):
        trainer.train_step(batch, noise_BZ)
        if number == _WARM_UP:
            trainer.check()  # waits for the device
            began = time.perf_counter()
    trainer.check()
    if world.rank == 0:
        print(json.dumps(options.steps * options.batch_size / (time.perf_counter() - began)))


def measure(options: argparse.Namespace, processes: int, batch_size: int) -> float:
    """Images per second of so many processes with this global batch."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", __file__]
    command += [str(options.data), "--worker", "--aux", options.aux, "--steps", str(options.steps)]
    env = {"OMP_NUM_THREADS": "1"} | dict(os.environ)
    done = subprocess.run(
        [*command, "--batch-size", str(batch_size)], capture_output=True, text=True, check=True, env=env
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--aux", default="radius,g1,g2,flux,psf", help="case 1 of the paper")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batch-size", type=int, default=64, help="of each process (weak), of four together (strong)")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        stop()
        return
    devices = torch.cuda.device_count() or os.cpu_count() or 1
    rows = []
    print(f"{'':8}{'processes':>10}{'batch':>8}{'images/s':>10}{'speedup':>9}{'of what the devices allow':>27}")
    for kind in ("weak", "strong"):
        base = 0.0
        for processes in options.processes:
            batch_size = options.batch_size * (processes if kind == "weak" else 4)
            rate = measure(options, processes, batch_size)
            base = base or rate / processes
            efficiency = rate / (base * min(processes, devices))
            rows.append(
                {"kind": kind, "processes": processes, "batch": batch_size, "images/s": rate, "efficiency": efficiency}
            )
            print(f"{kind:8}{processes:10}{batch_size:8}{rate:10.0f}{rate / base:9.2f}{efficiency:27.2f}", flush=True)
    if options.results:
        about = {
            "command": shlex.join(["python", "benchmarks/scaling.py", *sys.argv[1:]]),
            "date": time.strftime("%F"),
            "machine": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
            "devices": devices,
            "torch": torch.__version__,
        }
        options.results.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
