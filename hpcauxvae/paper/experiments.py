"""The experiments behind the tables and figures, as plain data: which run folder holds which training.

beta-VAE, which is given no labels, has one run for all cases or kinds of labels: table1.py scores it against each.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from hpcauxvae.data.galaxies import CASES
from hpcauxvae.paper import recipes
from hpcauxvae.paper.grid import CASE as GRID_CASE
from hpcauxvae.paper.recipes import Model, Variant
from hpcauxvae.paper.runs import Data, Sweep, Wants
from hpcauxvae.train.config import TrainConfig

SEEDS: dict[Data, tuple[int, ...]] = {"galaxies": (0, 1, 2, 3, 4), "cars3d": (0, 1, 2), "dsprites": (0, 1, 2)}
SIDE_SEEDS = (0,)
"""Of what the paper's Table 1 does not have: the objectives `paper` and `reference`, IDVAE-x, IDVAE on sound labels."""
SMALL_EPOCHS = 1
TRIAL_EPOCHS: dict[Data, int] = {"galaxies": 10, "cars3d": 8, "dsprites": 4}
"""Of each trial of weights: a third to two thirds of a training."""
SMALL_TRIALS: dict[Sweep, int] = {"grid": 3, "betas": 2}
"""Trials of weights among the small experiments."""

Objective = Literal["tuned", "paper", "reference"]
PUBLISHED: tuple[Objective, ...] = ("paper", "reference")
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
    """A trial of this weight; that of recipes.BETA if not given."""
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

    def config(self, runs: Path, data: Path, small: bool = False, bf16: bool = False) -> TrainConfig:
        """What it trains, from the folder `data` into its folder below `runs`."""
        recipe: Callable[..., TrainConfig]
        match self.data:
            case "galaxies":
                assert self.case is not None
                recipe = partial(recipes.galaxies, self.case, objective=self.objective)
            case "cars3d":
                recipe = partial(recipes.cars3d, self.variant)
            case "dsprites":
                recipe = partial(recipes.dsprites, self.variant)
        path, out = data / f"{self.data}.h5", runs / self.name
        config = recipe(model=self.model, beta=self.beta, seed=self.seed, data=path, out=out)
        if self.weights:
            weights: dict[str, Any] = dict(zip(("beta", "lambda1", "lambda2"), self.weights, strict=True))
            config = dataclasses.replace(config, **weights)
        epochs = SMALL_EPOCHS if small else TRIAL_EPOCHS[self.data] if self.sweep else config.epochs
        kept: dict[str, Any] = {"keep_last": 1, "keep_every": epochs, "resume": "auto"}
        return dataclasses.replace(config, epochs=epochs, bf16=bf16, channels_last=True, **kept)


def _table_1() -> Iterator[Experiment]:
    """The paper's cells, and sound labels: the first seed of all before the next of any."""
    for seed in range(max(len(seeds) for seeds in SEEDS.values())):
        for data in [data for data, seeds in SEEDS.items() if seed in seeds]:
            yield Experiment(data=data, case=1 if data == "galaxies" else None, model="beta-vae", seed=seed)
            for labels in _labels(data):
                for model in ("idvae", "aux-vae") if labels.get("variant") != "sound" else ("aux-vae",):
                    yield Experiment(data=data, model=model, seed=seed, **labels)


def _beside_it() -> Iterator[Experiment]:
    """What the paper's table does not have."""
    for seed in SIDE_SEEDS:
        for data in SEEDS:
            for labels in _labels(data):
                models: tuple[Model, ...] = ("idvae", "idvae-x") if labels.get("variant") == "sound" else ("idvae-x",)
                for model in models:
                    yield Experiment(data=data, model=model, seed=seed, **labels)
        for case in CASES:
            for objective in PUBLISHED:
                yield Experiment(data="galaxies", case=case, objective=objective, seed=seed)


def _labels(data: Data) -> list[dict[str, Any]]:
    """The cases of the galaxies, the kinds of labels of the others."""
    return [{"case": case} for case in CASES] if data == "galaxies" else [{"variant": v} for v in get_args(Variant)]


def _grid() -> Iterator[Experiment]:
    """Of `reference`: with the text's objective every trial decodes an empty image (docs/paper.md)."""
    for beta, lambda1, lambda2 in itertools.product(*recipes.PAPER_GRID.values()):
        yield Experiment(data="galaxies", case=GRID_CASE, objective="reference", weights=(beta, lambda1, lambda2))


def _betas() -> Iterator[Experiment]:
    for data, model, beta in itertools.product(SEEDS, recipes.BETA, recipes.BETAS):
        yield Experiment(data=data, case=1 if data == "galaxies" else None, model=model, beta=beta)


EXPERIMENTS: tuple[Experiment, ...] = (*_betas(), *_table_1(), *_grid(), *_beside_it())
"""In the order in which they are made: what others read, or rest upon, first."""


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
