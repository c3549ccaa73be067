"""A run of 105 steps in float64 on 1, 2, 3 and 4 processes, and one stopped near the middle on 4 that goes on alone.

PYTHONPATH=tests python -m helpers.elastic [--results FILE.json]

Prints the largest difference from one process: of the loss of every epoch, and of the final weights as a vector.
"""

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path

import torch

from helpers.ranks import ends, running, start_ranks
from helpers.trainings import blobs
from hpcauxvae.train import checkpoint

EPOCHS, STEPS = 15, 7


def rows(run: Path) -> torch.Tensor:
    """The training loss of each epoch."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return torch.tensor([json.loads(line)["train"]["loss"] for line in lines], dtype=torch.float64)


def weights(run: Path) -> torch.Tensor:
    """All of them."""
    tensors = checkpoint.read(run / checkpoint.LAST)[0]
    return torch.cat([tensors[name].flatten() for name in sorted(tensors) if name.startswith("model.")])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    result: dict[str, object] = {
        "command": "PYTHONPATH=tests python -m helpers.elastic",
        "date": time.strftime("%F"),
        "steps": 105,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [blobs(folder / "blobs.h5"), "--aux", "radius,g1", "--batch-size", 16, "--epochs", EPOCHS]
        arguments += ["--dtype", "float64", "--device", "cpu", "--resume", "auto", "--out"]
        for count in (1, 2, 3, 4):
            codes, errors = ends(start_ranks(count, *arguments, folder / str(count)), timeout=1800)
            assert codes == [0] * count, errors
        ranks = start_ranks(4, *arguments, folder / "moved")
        log = folder / "moved" / "metrics.jsonl"
        running(ranks, lambda: log.exists() and len(log.read_text().splitlines()) >= 6, seconds=1800)
        ranks[2].send_signal(signal.SIGTERM)
        codes, errors = ends(ranks, timeout=600)
        assert codes == [75] * 4, errors
        result["stopped on 4 after step"] = checkpoint.read(folder / "moved" / checkpoint.LAST)[1]["step"]
        codes, errors = ends(start_ranks(1, *arguments, folder / "moved"), timeout=1800)
        assert codes == [0], errors
        alone = folder / "1"
        for run in ("2", "3", "4", "moved"):
            loss = ((rows(folder / run) - rows(alone)) / rows(alone)).abs().max().item()
            moved = ((weights(folder / run) - weights(alone)).norm() / weights(alone).norm()).item()
            result[f"{run}: loss, weights"] = [loss, moved]
    print(json.dumps(result, indent=2))
    if options.results:
        options.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
