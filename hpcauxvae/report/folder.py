"""What the folder of a run, or of a cross-validation, holds that the page shows."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from hpcauxvae.evaluate.command import check_run
from hpcauxvae.evaluate.records import METRICS, read_metrics
from hpcauxvae.train import checkpoint
from hpcauxvae.train.config import fold_folder
from hpcauxvae.train.tracking import history, starts
from hpcauxvae.types import InputError

Block = dict[str, Any]
SENSITIVITY = "sensitivity.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A run as its files tell it; no model is built."""

    folder: Path
    first: Path
    """The same, but of a cross-validation that of its first fold."""
    results: Path
    """Where `evaluate` wrote: the folder itself unless --out named another."""
    config: Block
    """The fields of TrainConfig, as the checkpoint has them."""
    state: Block
    """Of the last checkpoint (train/run.py); of a cross-validation that of its first fold."""
    saved: float
    """When that was written, seconds since 1970."""
    metrics: Block | None
    """metrics.json, null as NaN in scores; None before `evaluate`."""
    rows: list[Block]
    """Of metrics.jsonl."""
    starts: list[Block]
    """Of starts.jsonl."""
    sensitivity: Block | None
    """sensitivity.json; None before `sensitivity`."""
    folds: int
    """0 of a single run."""
    data: Path | None = None
    """Where the data set lies now, if that was told."""

    @property
    def sets(self) -> dict[str, Block]:
        """The blocks of metrics.json by set; none before `evaluate`."""
        return self.metrics["sets"] if self.metrics else {}

    @property
    def pictures(self) -> Path | None:
        """The folder of the pictures that belong to the scores; None where there are none. Of a cross-validation that
        of its first fold."""
        if self.metrics is None or not self.metrics.get("settings", {}).get("pictures", True):
            return None
        return (fold_folder(self.results, 0) if self.folds else self.results) / "pictures"


def read(folder: Path, results: Path | None = None, data: Path | None = None) -> Found:
    """Reads the folder of a run. results: where `evaluate` wrote, if not there; data: where the data set lies now.

    Raises InputError where there is no run, no whole checkpoint, or a file of scores that cannot be read.
    """
    check_run(folder, folds=True)
    results = results or folder
    first = fold_folder(folder, 0) if fold_folder(folder, 0).is_dir() else folder
    path = first / checkpoint.LAST
    _, state = checkpoint.read(path)
    if "config" not in state:
        raise InputError(f"{path}: is no checkpoint of a run; allowed: the folder of a training run")
    metrics = _json(results / METRICS, f"`hpcauxvae evaluate {folder}` writes it anew")
    if metrics is not None and not isinstance(metrics.get("sets"), dict):
        raise InputError(f"{results / METRICS}: has no sets; `hpcauxvae evaluate {folder}` writes it anew")
    return Found(
        folder=folder,
        first=first,
        results=results,
        config=state["config"],
        state=state,
        saved=path.stat().st_mtime,
        metrics=metrics,
        rows=history(first),
        starts=starts(first),
        sensitivity=_json(folder / SENSITIVITY, f"`hpcauxvae sensitivity {folder}` writes it anew"),
        folds=int(state["config"].get("folds", 0)) if first != folder else 0,
    )


def _json(path: Path, remedy: str) -> Block | None:
    """An object of JSON; None without the file."""
    if not path.is_file():
        return None
    try:
        found = read_metrics(path.read_text(encoding="utf-8"))
    except (ValueError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: is damaged: {error}; {remedy}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is damaged: holds no object; {remedy}")
    return found
