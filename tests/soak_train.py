"""Kills a random rank of a run at a random moment, again and again, and compares its end with an undisturbed run.

python tests/soak_train.py --kills 30 [--data DATA.h5] [--ranks 2] [--seed 0] [--results FILE.json]
"""

import argparse
import json
import platform
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from ranks import ends, start_ranks
from test_train import blobs

from hpcauxvae import checkpoint


def soak(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Runs both, checks that they end alike, and says what happened."""
    choose = random.Random(options.seed)
    data = options.data or blobs(folder / "blobs.h5")
    arguments = [data, "--aux", "radius,g1", "--batch-size", 16 if options.data is None else 64, "--device", "cpu"]
    arguments += ["--epochs", options.epochs, "--resume", "auto", "--checkpoint-minutes", 0.01, "--timeout-minutes", 1]
    began = time.monotonic()
    codes, errors = ends(start_ranks(options.ranks, *arguments, "--out", folder / "whole"), timeout=3600)
    assert codes == [0] * options.ranks, errors
    span = time.monotonic() - began

    run, kills, codes_seen, steps = folder / "run", 0, Counter[int](), list[int]()
    while kills < options.kills:
        ranks = start_ranks(options.ranks, *arguments, "--out", run)
        time.sleep(choose.uniform(0, options.reach * span))
        victim = choose.randrange(options.ranks)
        done = all(rank.poll() == 0 for rank in ranks)
        ranks[victim].send_signal(signal.SIGKILL)
        codes, errors = ends(ranks, timeout=300)
        assert done or codes[victim] == -signal.SIGKILL, (codes, errors)
        assert "damaged" not in "".join(errors), errors
        codes_seen.update(code for rank, code in enumerate(codes) if rank != victim)
        kills += 1
        last = run / checkpoint.LAST
        steps.append(checkpoint.read(last)[1]["step"] if last.exists() else 0)
        print(f"kill {kills}: rank {victim}, exit codes {codes}, last checkpoint after step {steps[-1]}", flush=True)
    codes, errors = ends(start_ranks(options.ranks, *arguments, "--out", run), timeout=3600)
    assert codes == [0] * options.ranks, errors
    whole, found = (checkpoint.read(folder / name / checkpoint.LAST)[0] for name in ("whole", "run"))
    assert whole.keys() == found.keys()
    same = all(torch.equal(whole[name], found[name]) for name in whole)
    return {
        "command": shlex.join(["python", "tests/soak_train.py", *sys.argv[1:]]),
        "date": time.strftime("%F"),
        "machine": f"{platform.machine()}, {platform.system()}, torch {torch.__version__}",
        "kills": kills,
        "ranks": options.ranks,
        "last step after each kill": steps,
        "exit codes of the other ranks": {str(code): count for code, count in sorted(codes_seen.items())},
        "tensors compared": len(whole),
        "equal bit for bit": same,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--reach", type=float, default=0.8, help="latest kill, as a part of the undisturbed run's time")
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
