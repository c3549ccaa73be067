"""What became of the training of a run, as an evaluation tells it: how far it came, and which epoch was best."""

import math
from collections.abc import Sequence
from typing import Any

from hpcauxvae.runtime.lock import inside
from hpcauxvae.train.config import planned_epochs
from hpcauxvae.train.preparation import about_length
from hpcauxvae.train.run import Run

Block = dict[str, Any]
_APART = 0.1
"""Share of the reconstruction term by which that of validation images exceeds that of training images that a model has
learned by heart, at least."""


def training(run: Run, rows: Sequence[Block], checkpoint: str = "last") -> Block:
    """The `epoch` that a run stands at, of so many `epochs`; and who is `inside` its folder, if anybody is.

    `short`: sentences on a training of too few steps. `best`: the epoch whose validation loss is the lowest, with the
    MSE of the validation images there and at `last`, and whether training images are drawn no better; None
    where that is the last epoch, or nobody validated. `kept`: the dependence at the end, and its tolerance. rows: of
    metrics.jsonl; config.json knows of a start that trains the run longer, of which there may be no checkpoint yet.
    checkpoint: which one is evaluated; the best is as far as it shall come.
    """
    epoch = run.state["epoch"]
    epochs = planned_epochs(run.folder, run.config.epochs)
    found: Block = {"epoch": epoch, "epochs": epochs, "inside": inside(run.folder), "checkpoint": checkpoint}
    steps = run.state["step"] / epoch if epoch else 0
    found["short"] = about_length(run.model, epochs, round(steps)) if steps >= 1 else []
    at_end = next((row for row in rows if row["epoch"] == epoch and row.get("tolerance")), None)
    found["kept"] = at_end and {name: at_end[name] for name in ("dependence", "tolerance")}
    return found | {"best": _best(rows, epoch) if checkpoint == "last" else None}


def _best(rows: Sequence[Block], epoch: int) -> Block | None:
    mse = {row["epoch"]: row["validation"].get("mse") for row in rows if row["epoch"] <= epoch}
    loss = {row["epoch"]: row["validation"]["loss"] for row in rows if row["epoch"] in mse}
    best = min(loss, key=lambda number: loss[number], default=epoch)
    if best == epoch or epoch not in loss or None in (mse[best], mse[epoch]):
        return None
    last = next(row for row in rows if row["epoch"] == epoch)
    of_training = last.get("train", {}).get("reconstruction", -math.inf)
    apart = last["validation"].get("reconstruction", 0.0) - of_training
    found = {"epoch": best, "mse": mse[best], "last": mse[epoch]}
    return found | {"training_too": math.isfinite(of_training) and apart <= _APART * abs(of_training)}
