"""Every published run, as a function that returns its configuration."""

from pathlib import Path
from typing import Literal

from hpcauxvae.config import TrainConfig
from hpcauxvae.data.galaxies import CASES

GALAXY_EPOCHS = 40
PAPER_GRID = {"beta": (5.0, 10.0, 20.0), "lambda1": (0.1, 1.0, 2.0), "lambda2": (0.1, 1.0, 2.0)}
"""Fig. 16: 27 points, meant for the objectives `paper` and `reference`; which case it was, the text does not say."""


def galaxies(
    case: int,
    *,
    model: Literal["aux-vae", "beta-vae"] = "aux-vae",
    objective: Literal["tuned", "paper"] = "tuned",
    seed: int = 0,
    data: Path,
    out: Path,
) -> TrainConfig:
    """A galaxy run of Table 1: one of the three cases of section 4.1.1, on 16,384 stamps of Table 2."""
    return TrainConfig(
        data=data,
        out=out,
        model=model,
        aux=",".join(CASES[case]),
        objective=objective,
        epochs=GALAXY_EPOCHS,
        seed=seed,
    )


def command(config: TrainConfig) -> str:
    """The command line that trains a configuration of this module."""
    return (
        f"hpcauxvae train {config.data} --out {config.out} --model {config.model} --aux {config.aux} "
        f"--objective {config.objective} --epochs {config.epochs} --seed {config.seed}"
    )
