"""Files of a run beside its checkpoints, such as metrics.json.

That is strict JSON, in which a score that there is none of is null, and NaN in the program.
"""

import json
import math
from pathlib import Path
from typing import Any

from hpcauxvae.runtime.files import write_json
from hpcauxvae.train.run import Run

METRICS = "metrics.json"
KEPT = (METRICS,)
"""Files of a run that go with it where it becomes a single file."""


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Replaces a file of scores, in one step; numbers that are not finite are written as null."""
    write_json(path, _strict(metrics))


def kept(run: Run) -> dict[str, str]:
    """By name of the file the text of what lies beside the checkpoint of a run, or in the single file that it is."""
    if "kept" in run.state:
        return dict(run.state["kept"])
    paths = [run.folder / name for name in KEPT]
    return {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def read_metrics(text: str) -> Any:
    """What a file of scores holds; null, or NaN as earlier versions wrote it, is NaN in a score. Raises ValueError."""
    return json.loads(text, object_hook=_score)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _score(found: dict[str, Any]) -> dict[str, Any]:
    if not {"value", "low", "high"} <= found.keys():
        return found
    return {key: math.nan if item is None else item for key, item in found.items()}
