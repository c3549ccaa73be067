"""Finished runs, found by what they trained: the paper's tables and figures read them and never train."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcauxvae.config import TrainConfig
from hpcauxvae.data.galaxies import CASES
from hpcauxvae.recipes import command, galaxies
from hpcauxvae.types import InputError

METRICS = "metrics.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An evaluated run."""

    folder: Path
    config: TrainConfig
    metrics: dict[str, Any]
    """The content of metrics.json."""


def find(folder: Path) -> list[Found]:
    """The evaluated runs in the folders directly below `folder`, by name."""
    found = []
    for path in sorted(folder.glob(f"*/{METRICS}")):
        config = TrainConfig.from_json(json.loads((path.parent / "config.json").read_text()))
        found.append(Found(folder=path.parent, config=config, metrics=json.loads(path.read_text())))
    return found


def galaxy_run(runs: list[Found], case: int, model: str, objective: str) -> Found | None:
    """The first run of a galaxy case, by its auxiliary variables, model and objective."""
    return next(
        (
            run
            for run in runs
            if run.config.aux_names == CASES[case] and run.config.model == model and run.config.objective == objective
        ),
        None,
    )


def needed(runs: list[Found], folder: Path, case: int) -> Found:
    """The `tuned` Aux-VAE run of a case. Raises InputError with the commands that make it where there is none."""
    run = galaxy_run(runs, case, "aux-vae", "tuned")
    if run is None:
        config = galaxies(case, data=Path("galaxies.h5"), out=folder / f"case{case}")
        raise InputError(
            f"{folder}: no evaluated run of galaxy case {case}; make one: "
            f"{command(config)} && hpcauxvae evaluate {config.out}"
        )
    return run


Item = Callable[[list[Found], Path, Path], list[Path]]
"""(runs, the folder they are in, folder for the results) -> files written."""
