"""The weight of the KL in beta-VAE and IDVAE: the four that the paper tried (section C.1), by the validation split.

Suffix N: trials.
"""

import itertools
from pathlib import Path

import numpy as np

from hpcauxvae.metrics.pareto import choose, paper_products
from hpcauxvae.paper.experiments import BETA, LABELS, METHODS
from hpcauxvae.paper.runs import EvaluatedRun, Runs, of_one_setting
from hpcauxvae.runtime.files import write_text
from hpcauxvae.types import InputError

_HEAD = """# The beta of beta-VAE and IDVAE

Validation split after the last epoch of a short training, one seed: MSE of images divided by the training maximum, LDS
(10) of sampled z over all latents against the paper's labels. The paper's rule takes the smallest product of the
standardised MSE and 1 - LDS, whatever their signs; ours the point of the Pareto front that is nearest to the ideal.
`taken`: what the runs of Table 1 have.

| data | model | epochs | beta | MSE | LDS | ceiling | |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def draw(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes betas.md, a row for each trial. Raises InputError where no data set has two of one model."""
    rows: list[str] = []
    for data, (model, of_data) in itertools.product(LABELS, BETA.items()):
        trials = [run for run in runs.values() if (run.data, run.config.model) == (data, model)]
        found = sorted(of_one_setting(trials, "beta"), key=_beta)
        if len(found) > 1:
            rows += _rows(f"{data} | {METHODS[model]}", of_data[data], found)
    if not rows:
        raise InputError("fewer than 2 evaluated trials of one model; hpcauxvae paper betas makes them")
    path = out / f"{name}.md"
    write_text(path, _HEAD + "\n".join(rows) + "\n")
    return [path]


def _rows(name: str, taken: float, found: list[EvaluatedRun]) -> list[str]:
    scores = [run.last_epoch()["validation"] for run in found]
    mse_N, lds_N, ceiling_N = (np.array([score[name] for score in scores]) for name in ("mse", "lds", "lds_attainable"))
    papers = int(paper_products(mse_N, 1 - lds_N).argmin())
    ours = choose(np.stack([np.log10(mse_N), 1 - lds_N / ceiling_N], 1))
    rows = []
    for number, run in enumerate(found):
        marks = {"taken": _beta(run) == taken, "the paper's rule": number == papers, "our rule": number == ours}
        words = ", ".join(name for name, holds in marks.items() if holds)
        numbers = f"{mse_N[number]:.3g} | {lds_N[number]:.3f} | {ceiling_N[number]:.3f}"
        rows.append(f"| {name} | {run.config.epochs} | {_beta(run):g} | {numbers} | {words} |")
    return rows


def _beta(run: EvaluatedRun) -> float:
    return run.config.resolved_objective.beta
