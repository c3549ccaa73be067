"""The experiments behind the tables and figures, as plain data: which run folder holds which training."""

import dataclasses
import itertools
from pathlib import Path
from typing import Literal

from hpcauxvae import recipes
from hpcauxvae.config import TrainConfig
from hpcauxvae.data.galaxies import CASES
from hpcauxvae.paper.grid import CASE as GRID_CASE
from hpcauxvae.paper.runs import Data, Sweep, Wants
from hpcauxvae.recipes import Model, Variant

GUIDED: tuple[Model, ...] = ("idvae", "idvae-x", "aux-vae")
"""Models that are given the auxiliary variables: a run for each case, or kind of labels. beta-VAE is not, so it has one
run for all of them, whose codes table1.py scores against each."""
SEEDS: dict[Data, tuple[int, ...]] = {"galaxies": (0, 1, 2, 3, 4), "cars3d": (0, 1, 2), "dsprites": (0, 1, 2)}
SMALL_EPOCHS = 1
GRID_EPOCHS = 20
"""Of each of the 27 trials of Fig. 16: 2 to 3 minutes on a core to itself."""
SMALL_TRIALS: dict[Sweep, int] = {"grid": 3, "betas": 2}
"""Trials of weights among the small experiments."""

Objective = Literal["tuned", "paper", "reference"]
Weights = tuple[float, float, float]
"""beta, lambda1, lambda2"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training."""

    data: Data
    case: int | None = None
    """Of the galaxies."""
    variant: Variant = "raw"
    """Labels, of Cars3D and dSprites."""
    model: Model = "aux-vae"
    objective: Objective = "tuned"
    """Of the galaxies; Cars3D and dSprites have `bernoulli`."""
    weights: Weights | None = None
    """A point of the grid of Fig. 16; the objective's own if not given."""
    beta: float | None = None
    """A trial of beta-VAE's weight; the published one if not given."""
    seed: int = 0

    @property
    def sweep(self) -> Sweep:
        """Which trials it belongs to, if any."""
        return "grid" if self.weights else "betas" if self.beta else ""

    @property
    def name(self) -> str:
        """Its folder below that of the runs, as galaxies-case2-aux-vae-0."""
        labels = f"case{self.case}" if self.case else self.variant
        objective = [] if self.objective == "tuned" else [self.objective]
        weights = [f"{value:g}" for value in self.weights or ([self.beta] if self.beta else [])]
        name = "-".join([self.data, labels, self.model, *objective, *weights, str(self.seed)])
        return f"{self.sweep}/{name}" if self.sweep else name

    def config(self, runs: Path, data: Path, small: bool) -> TrainConfig:
        """What it trains, from the folder `data` into its folder below `runs`."""
        path, out = data / f"{self.data}.h5", runs / self.name
        match self.data:
            case "galaxies":
                assert self.case is not None
                config = recipes.galaxies(
                    self.case,
                    model=self.model,
                    objective=self.objective,
                    beta=self.beta,
                    seed=self.seed,
                    data=path,
                    out=out,
                )
            case "cars3d":
                config = recipes.cars3d(
                    self.variant, model=self.model, beta=self.beta, seed=self.seed, data=path, out=out
                )
            case "dsprites":
                config = recipes.dsprites(
                    self.variant, model=self.model, beta=self.beta, seed=self.seed, data=path, out=out
                )
        if self.weights:
            beta, lambda1, lambda2 = self.weights
            config = dataclasses.replace(config, beta=beta, lambda1=lambda1, lambda2=lambda2, epochs=GRID_EPOCHS)
        epochs = SMALL_EPOCHS if small else config.epochs
        return dataclasses.replace(config, epochs=epochs, keep_last=1, keep_every=epochs, resume="auto")


def _galaxies() -> tuple[Experiment, ...]:
    seeds = SEEDS["galaxies"]
    beta_vae = [Experiment(data="galaxies", case=1, model="beta-vae", seed=seed) for seed in seeds]
    guided = [
        Experiment(data="galaxies", case=case, model=model, seed=seed)
        for case in CASES
        for model in GUIDED
        for seed in seeds
    ]
    published: tuple[Objective, ...] = ("paper", "reference")
    theirs = [
        Experiment(data="galaxies", case=case, objective=objective, seed=seed)
        for objective in published
        for case in CASES
        for seed in seeds
    ]
    return (*beta_vae, *guided, *theirs)


def _pictures(data: Data) -> tuple[Experiment, ...]:
    variants: tuple[Variant, ...] = ("raw", "sound")
    return (
        *(Experiment(data=data, model="beta-vae", seed=seed) for seed in SEEDS[data]),
        *(
            Experiment(data=data, variant=variant, model=model, seed=seed)
            for variant in variants
            for model in GUIDED
            for seed in SEEDS[data]
        ),
    )


def _grid() -> tuple[Experiment, ...]:
    """Of `reference`: with the text's objective every trial decodes an empty image (docs/paper.md)."""
    return tuple(
        Experiment(data="galaxies", case=GRID_CASE, objective="reference", weights=(beta, lambda1, lambda2))
        for beta, lambda1, lambda2 in itertools.product(*recipes.PAPER_GRID.values())
    )


def _betas() -> tuple[Experiment, ...]:
    return tuple(
        Experiment(data=data, case=1 if data == "galaxies" else None, model="beta-vae", beta=beta)
        for data in SEEDS
        for beta in recipes.BETAS
    )


EXPERIMENTS: tuple[Experiment, ...] = (
    *_galaxies(),
    *_pictures("cars3d"),
    *_pictures("dsprites"),
    *_grid(),
    *_betas(),
)
"""In the order in which they are made."""


def chosen(wants: tuple[Wants, ...], small: bool) -> list[Experiment]:
    """The experiments that any of these read; of the small ones only the first seed, and few trials of weights."""
    found = [one for one in EXPERIMENTS if any(_wanted(one, want) for want in wants)]
    if not small:
        return found
    trials = [one for sweep, most in SMALL_TRIALS.items() for one in [o for o in found if o.sweep == sweep][:most]]
    return [one for one in found if not (one.seed or one.sweep)] + trials


def _wanted(one: Experiment, want: Wants) -> bool:
    objective = one.objective if one.data == "galaxies" else "bernoulli"
    return (
        want.takes(one.data, one.case, one.model, objective)
        and want.sweep == one.sweep
        and (want.all_seeds or one.seed == 0)
    )
