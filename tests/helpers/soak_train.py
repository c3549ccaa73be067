"""Kills a random rank of a run at a random moment, again and again, and compares its end with an undisturbed run.

PYTHONPATH=tests python -m helpers.soak_train --kills 30 [--data DATA.h5] [--ranks 2] [--seed 0] [--results FILE.json]
"""

import argparse
import contextlib
import json
import platform
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from helpers.ranks import ends, start_ranks
from helpers.trainings import blobs
from hpcauxvae.train import checkpoint


def soak(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Runs both, checks that they end alike, and says what happened."""
    choose = random.Random(options.seed)
    data = options.data or blobs(folder / "blobs.h5")
    arguments = [data, "--aux", "radius,g1", "--batch-size", 16 if options.data is None else 64, "--device", "cpu"]
    arguments += [
        "--epochs",
        options.epochs,
        "--resume",
        "auto",
        "--checkpoint-minutes",
        0.01,
        "--timeout-minutes",
        0.5,
    ]

    def to_the_end(run: Path) -> None:
        codes, errors = ends(start_ranks(options.ranks, *arguments, "--out", run), timeout=3600)
        assert codes == [0] * options.ranks, errors

    began = time.monotonic()
    to_the_end(folder / "whole")
    span = time.monotonic() - began
    whole = checkpoint.read(folder / "whole" / checkpoint.LAST)[0]
    steps, others, runs = [0], Counter[int](), 1
    while len(steps) <= options.kills:
        run = folder / f"run{runs}"
        ranks = start_ranks(options.ranks, *arguments, "--out", run)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ranks[0].wait(choose.uniform(0, options.reach * span))
        if ranks[0].poll() is not None:  # the run was faster than the kill: it counts as finished, and another begins
            assert ends(ranks)[0] == [0] * options.ranks
            assert same(whole, run)
            runs += 1
            continue
        victim = choose.randrange(options.ranks)
        ranks[victim].send_signal(signal.SIGKILL)
        codes, errors = ends(ranks, timeout=300)
        assert "damaged" not in "".join(errors), errors
        others.update(code for rank, code in enumerate(codes) if rank != victim)
        last = run / checkpoint.LAST
        steps.append(checkpoint.read(last)[1]["step"] if last.exists() else 0)
        print(f"kill {len(steps) - 1}: rank {victim}, exit codes {codes}, checkpoint of step {steps[-1]}", flush=True)
    to_the_end(folder / f"run{runs}")
    return {
        "command": "PYTHONPATH=tests python -m helpers.soak_train " + shlex.join(sys.argv[1:]),
        "date": time.strftime("%F"),
        "machine": f"{platform.machine()}, {platform.system()}, torch {torch.__version__}",
        "kills": options.kills,
        "runs that were killed and went on": runs,
        "ranks": options.ranks,
        "step of the last checkpoint at each kill": steps[1:],
        "exit codes of the other ranks": {str(code): count for code, count in sorted(others.items())},
        "tensors compared": len(whole),
        "equal bit for bit": same(whole, folder / f"run{runs}"),
    }


def same(whole: dict[str, torch.Tensor], run: Path) -> bool:
    """Bit for bit."""
    found = checkpoint.read(run / checkpoint.LAST)[0]
    return whole.keys() == found.keys() and all(torch.equal(whole[name], found[name]) for name in whole)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--reach", type=float, default=0.5, help="latest kill, as a part of the undisturbed run's time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(options, Path(folder))
    text = json.dumps(result, indent=2)
    print(text)
    if options.results:
        options.results.write_text(text + "\n")
    if not result["equal bit for bit"]:
        sys.exit("the runs differ")


if __name__ == "__main__":
    main()
