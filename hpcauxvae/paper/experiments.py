"""The trainings behind the tables and figures: section 4 and appendices B and C of the paper, and what is beside them.

Each has a name, that of its folder below the runs, and a configuration. beta-VAE, which is given no labels, has one run
for all cases or kinds of labels: table1.py scores it against each.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpcauxvae.data import cars3d, dsprites
from hpcauxvae.data.galaxies import CASES
from hpcauxvae.train.config import TrainConfig

Data = Literal["galaxies", "cars3d", "dsprites"]
LABELS: dict[Data, Mapping[str, tuple[str, ...]]] = {
    "galaxies": {f"case{case}": names for case, names in CASES.items()},
    "cars3d": cars3d.LABELS,
    "dsprites": dsprites.LABELS,
}
"""Names of the auxiliary variables: a case of section 4.1.1; or `raw`, the paper's labels, and `sound`, labels that a
picture can tell, without a seam."""
OWN_OBJECTIVE: dict[Data, str] = {"galaxies": "tuned", "cars3d": "bernoulli", "dsprites": "bernoulli"}
"""The objective that a name leaves out."""

METHODS = {"beta-vae": "β-VAE", "idvae": "IDVAE", "idvae-x": "IDVAE-x", "aux-vae": "Aux-VAE"}
"""The models as they are printed."""

GALAXY_EPOCHS = 30
EPOCHS: dict[Data, int] = {"galaxies": GALAXY_EPOCHS, "cars3d": 15, "dsprites": 6}
"""Of the paper's other models, and of Aux-VAE with another objective, so that three seeds of three models take less
than an hour on 2 cores: 15 CPU seconds an epoch of all Cars3D, 38 of 50,000 ellipses of dSprites."""
BATCH: dict[Data, int] = {"cars3d": 128, "dsprites": 128}
"""Images of a step of these, where they are not those of the objective."""
TRIAL_EPOCHS: dict[Data, int] = {"galaxies": 10, "cars3d": 8, "dsprites": 4}
"""Of each trial of weights: a third to two thirds of a training of the paper's other models, a quarter to a third of
those of docs/rivals.md, which have the length of Aux-VAE's."""
SMALL_EPOCHS = 1
SEEDS: dict[Data, int] = {"galaxies": 5, "cars3d": 3, "dsprites": 3}
"""How many, from 0 on; of what the paper's Table 1 does not have, one: the objectives `paper` and `reference`, IDVAE-x,
IDVAE on sound labels."""
BETAS = (1.0, 5.0, 10.0, 20.0)
"""What the paper tried for the models that it compares with (section C.1)."""
BETA: dict[str, dict[Data, float]] = {
    "beta-vae": {"galaxies": 5.0, "cars3d": 5.0, "dsprites": 5.0},
    "idvae": {"galaxies": 20.0, "cars3d": 10.0, "dsprites": 5.0},
}
"""What is taken of them: by the validation split, results/paper/betas.md. IDVAE-x takes that of IDVAE."""
IDVAE_RATE = 3e-4
"""At the 2e-3 of the others IDVAE's loss runs away within a few epochs."""
PAPER_GRID = {"beta": (5.0, 10.0, 20.0), "lambda1": (0.1, 1.0, 2.0), "lambda2": (0.1, 1.0, 2.0)}
"""Fig. 16: 27 points, meant for the objectives `paper` and `reference`."""
GRID_CASE = 2
"""The galaxy case of the grid; the paper does not say which it took."""
BEYOND: dict[Data, tuple[str, ...]] = {"galaxies": ("case1", "case3"), "cars3d": ("sound",), "dsprites": ("sound",)}
"""The sets on which the models of docs/rivals.md are compared."""
BEYOND_SEEDS: dict[Data, int] = {"galaxies": 3, "cars3d": 1, "dsprites": 1}
TRIED: dict[str, tuple[str, tuple[float, ...]]] = {
    "beta-vae": ("beta", BETAS),
    "beta-tcvae": ("own_weight", (1.0, 5.0, 20.0, 100.0)),
    "factor-vae": ("own_weight", (1.0, 5.0, 20.0, 100.0)),
    "dip-vae-i": ("own_weight", (1.0, 10.0, 100.0, 1000.0)),
    "dip-vae-ii": ("own_weight", (1.0, 10.0, 100.0, 1000.0)),
    "supervised-vae": ("own_weight", (10.0, 100.0, 1000.0, 10000.0)),
    "ar-vae": ("own_weight", (10.0, 100.0, 1000.0, 10000.0)),
    "cvae": ("beta", BETAS),
    "ivae": ("beta", BETAS),
    "ci-ivae": ("beta", BETAS),
}
"""The weight of each of them, and what is tried: as many values for all. One is taken by the validation split of a
trial (beyond.py). Aux-VAE has its defaults, from the runs of Table 1."""
_SMALL_TRIALS = {"grid": 3, "betas": 2}


def kind(data: Data, labels: str, model: str, objective: str) -> str:
    """What a run is, whatever its seed, as galaxies-case2-aux-vae: beta-VAE trains on no labels, so has the first."""
    labels = next(iter(LABELS[data])) if model == "beta-vae" else labels
    return "-".join([data, labels, model, *([objective] if objective != OWN_OBJECTIVE[data] else [])])


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training."""

    data: Data
    labels: str
    """Of LABELS."""
    model: str = "aux-vae"
    objective: str = ""
    """That of OWN_OBJECTIVE if not given."""
    weights: tuple[float, ...] = ()
    """Of a trial, in place of the objective's own: beta, or beta, lambda1 and lambda2."""
    seed: int = 0
    beyond: bool = False
    """Whether it is of docs/rivals.md: with `weights` the trial of a value of TRIED, else with the value that these
    choose (make.py)."""

    @property
    def is_trial(self) -> bool:
        """Of weights; others are for the tables."""
        return bool(self.weights)

    @property
    def sweep(self) -> str:
        """The folder to which it belongs: betas, trials of section C.1; grid, of Fig. 16; beyond; or empty."""
        if self.beyond:
            return "beyond"
        return ("", "betas", "", "grid")[len(self.weights)]

    @property
    def name(self) -> str:
        """Its folder below that of the runs, as galaxies-case2-aux-vae-0."""
        of_kind = f"{self.data}-{self.labels}-{self.model}"
        if not self.beyond:
            of_kind = kind(self.data, self.labels, self.model, self.objective or OWN_OBJECTIVE[self.data])
        name = "-".join([of_kind, *(f"{value:g}" for value in self.weights), str(self.seed)])
        return f"{self.sweep}/{name}" if self.sweep else name

    def config(self, runs: Path, data: Path, small: bool = False, bf16: bool = False) -> TrainConfig:
        """What it trains, from the folder `data` into its folder below `runs`.

        Aux-VAE, and the models beside it, as whoever names no option but the weight that trials choose.
        """
        compared = "idvae" if self.model == "idvae-x" else self.model
        fields: dict[str, Any] = {}
        if (compared in BETA or self.objective) and not self.beyond:
            fields = {"epochs": EPOCHS[self.data], "batch_size": BATCH.get(self.data)}
        if compared in BETA and not self.beyond:
            rate = IDVAE_RATE if compared == "idvae" else None
            fields |= {"beta": BETA[compared][self.data], "learning_rate": rate}
        names = (TRIED[self.model][0],) if self.beyond else ("beta", "lambda1", "lambda2")
        fields |= zip(names, self.weights, strict=False)
        if small or self.is_trial:
            fields["epochs"] = SMALL_EPOCHS if small else TRIAL_EPOCHS[self.data]
        return TrainConfig(
            data=data / f"{self.data}.h5",
            out=runs / self.name,
            model=self.model,
            aux=",".join(LABELS[self.data][self.labels]),
            labels="raw",
            objective=self.objective or OWN_OBJECTIVE[self.data],
            seed=self.seed,
            resume="auto",
            bf16=bf16,
            channels_last=True,
            keep_last=1,
            **fields,
        )


def _betas() -> Iterator[Experiment]:
    for data, model, beta in itertools.product(SEEDS, BETA, BETAS):
        yield Experiment(data=data, labels=next(iter(LABELS[data])), model=model, weights=(beta,))


def _table_1() -> Iterator[Experiment]:
    """The paper's cells, and sound labels: the first seed of all before the next of any."""
    for seed in range(max(SEEDS.values())):
        for data in [data for data, seeds in SEEDS.items() if seed < seeds]:
            yield Experiment(data=data, labels=next(iter(LABELS[data])), model="beta-vae", seed=seed)
            for labels in LABELS[data]:
                for model in ("idvae", "aux-vae") if labels != "sound" else ("aux-vae",):
                    yield Experiment(data=data, labels=labels, model=model, seed=seed)


def _grid() -> Iterator[Experiment]:
    """Of `reference`: with the text's objective every trial decodes an empty image (docs/paper.md)."""
    for weights in itertools.product(*PAPER_GRID.values()):
        yield Experiment(data="galaxies", labels=f"case{GRID_CASE}", objective="reference", weights=weights)


def _beside_them() -> Iterator[Experiment]:
    """What the paper's table does not have."""
    for data in SEEDS:
        for labels in LABELS[data]:
            for model in ("idvae", "idvae-x") if labels == "sound" else ("idvae-x",):
                yield Experiment(data=data, labels=labels, model=model)
    for labels, objective in itertools.product(LABELS["galaxies"], ("paper", "reference")):
        yield Experiment(data="galaxies", labels=labels, objective=objective)


def _beyond() -> Iterator[Experiment]:
    """The trials of each model, then the first seed of all before the next of any."""
    sets = [(data, labels) for data, kinds in BEYOND.items() for labels in kinds]
    for (data, labels), (model, (_, values)) in itertools.product(sets, TRIED.items()):
        for value in values:
            yield Experiment(data=data, labels=labels, model=model, weights=(value,), beyond=True)
    for seed, (data, labels), model in itertools.product(range(max(BEYOND_SEEDS.values())), sets, TRIED):
        if seed < BEYOND_SEEDS[data]:
            yield Experiment(data=data, labels=labels, model=model, seed=seed, beyond=True)


EXPERIMENTS: tuple[Experiment, ...] = (
    *_betas(),
    *_table_1(),
    *_grid(),
    *_beside_them(),
    *_beyond(),
)
"""In the order in which they are made: what others read, or rest upon, first."""


def chosen(names: Collection[str], small: bool) -> list[Experiment]:
    """The experiments of these names, in order; small: of them the first seed alone, and few trials of weights."""
    found = [experiment for experiment in EXPERIMENTS if experiment.name in names]
    if not small:
        return found
    few = [trial for sweep, most in _SMALL_TRIALS.items() for trial in [e for e in found if e.sweep == sweep][:most]]
    of_first_set = [e for e in found if e.beyond and (e.data, e.labels) == ("galaxies", "case1")]
    few += [e for e in of_first_set if not e.seed and e.weights in [(), *trials(e.model, small=True)]]
    return [experiment for experiment in found if experiment in few or not (experiment.sweep or experiment.seed)]


def trials(model: str, small: bool) -> list[tuple[float]]:
    """The weights of the trials by which one is taken for a model of TRIED."""
    values = TRIED[model][1]
    return [(value,) for value in (values[: _SMALL_TRIALS["betas"]] if small else values)]
