"""What the items read from a finished run: its model on its data, or the codes that its evaluation left."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, Scored
from hpcauxvae.paper.runs import METRICS, Found, codes_file, select
from hpcauxvae.train.run import Run
from hpcauxvae.types import InputError


class StoredCodes(NamedTuple):
    """The codes of a run's test split, from its codes-test.h5."""

    data: ImageSet
    index_N: NDArray[np.int64]
    """Which samples of `data`."""
    mean_NZ: NDArray[np.float64]
    logvar_NZ: NDArray[np.float64]


def data_of(run: Found) -> Path:
    """Where the data set lay when the run was evaluated."""
    moved = run.metrics.get("settings", {}).get("data")
    return Path(moved) if moved else run.config.data


def galaxies_by(runs: list[Found], model: str, case: int | None = None) -> Found | None:
    """The first galaxy run of a model, with objective `tuned` where there is one, else with any other.

    Aux-VAE's must be `tuned`; β-VAE trains on no label, so that its run of any case will do.
    """
    found = select(runs, data="galaxies", case=case, model=model, objective="tuned")
    if not found and model != "aux-vae":
        found = select(runs, data="galaxies", case=case, model=model)
    return found[0] if found else None


def about(run: Found) -> dict[str, str]:
    """Which run it was, for the numbers beside a picture."""
    return {"run": run.folder.name, "objective": run.config.objective}


def check_scored(run: Found, trained: Run) -> None:
    """Raises InputError where the weights of a run are of another epoch than its scores."""
    epoch, scored = trained.state["epoch"], run.metrics["epoch"]
    if epoch != scored:
        raise InputError(
            f"{run.folder / METRICS}: is of epoch {scored}, but the weights beside it are of epoch {epoch}; "
            f"`hpcauxvae evaluate {run.folder}` scores these, or train it to its end"
        )


def opened(run: Found, images: int) -> tuple[Evaluator, Scored]:
    """The model of a run and its test split, of which the first `images` are decoded too.

    Raises InputError where the data set is not where the evaluation found it, or what check_scored raises.
    """
    evaluator = Evaluator(EvaluateConfig(run=run.folder, data=data_of(run), images=images))
    check_scored(run, evaluator.run)
    return evaluator, next(evaluator.sets())


def stored_codes(run: Found, most: int) -> StoredCodes:
    """At most `most` test codes, spread evenly. Raises InputError where codes-test.h5 or the data set is not there."""
    with h5py.File(codes_file(run.folder)) as file:
        rows = np.unique(np.linspace(0, len(file["index"]) - 1, most).astype(int))
        index, mean, logvar = (file[name][:][rows] for name in ("index", "mean", "logvar"))
    return StoredCodes(open_set(data_of(run)), index, mean, logvar)
