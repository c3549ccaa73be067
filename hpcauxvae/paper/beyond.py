"""Aux-VAE beside the models of docs/rivals.md: for each of these the weight that its trials choose, then three seeds.

The trial that is taken is that on the Pareto front of validation MSE and LDS which is nearest to the ideal, as in a
search. Suffix N: trials.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.metrics.pareto import choose
from hpcauxvae.paper.experiments import BEYOND, BEYOND_SEEDS, EXPERIMENTS, LABELS, TRIED, Data, Experiment, trials
from hpcauxvae.paper.runs import METRICS, EvaluatedRun, Runs
from hpcauxvae.runtime.files import write_json, write_text
from hpcauxvae.train.loop import STATUS
from hpcauxvae.train.tracking import LOG, history
from hpcauxvae.train.trainer import NOT_FINITE
from hpcauxvae.types import InputError

NAMES = {"aux-vae": "Aux-VAE", "supervised-vae": "supervised VAE", "ar-vae": "AR-VAE", "cvae": "CVAE", "ivae": "iVAE"}
NAMES |= {"ci-ivae": "CI-iVAE", "beta-vae": "β-VAE", "beta-tcvae": "β-TCVAE", "factor-vae": "FactorVAE"}
NAMES |= {"dip-vae-i": "DIP-VAE-I", "dip-vae-ii": "DIP-VAE-II"}
"""As they are printed, in this order."""
_SCORES = ("lds", "lds_mean", "sap", "mig", "dci", "ssim", "read", "rest", "steers", "minutes")
_HEADS = "SAP", "MIG", "DCI", "SSIM", "read", "rest", "steers", "minutes"
_HEAD = """# Aux-VAE beside other models

Means over the seeds that did not diverge, with their standard deviation where there are several. Every run has the same
length, 6,000 steps of 64 images where no option says another. Each weight is one of as many values for every model, by
the validation split of a short training of the first seed; Aux-VAE has its defaults. LDS (10) is of
sampled z over all latents, its ceiling that of a perfect code; then LDS of posterior means, SAP, MIG, the
disentanglement of DCI, SSIM of reconstructions. `read`: correlation of a guided latent with its factor, mean over
factors. `rest`: what all other latents together tell of a guided factor beyond a linear reading of none, R².
`steers`: correlation of what images were asked for with what a reader finds in them, mean over factors; empty for
models that cannot be asked. `minutes`: of training, beside other work. The codes of iVAE know the labels that they
are scored against. Sets: `fresh` for galaxies, which no training saw, else `test`.
"""


class NoneTaken(InputError):
    """No trial of a model can be taken, and none is left to make."""


def taken(runs: Path, experiment: Experiment, small: bool) -> float | None:
    """The weight of a model on the set of the experiment; None until each of its trials is evaluated or has diverged.

    One that diverged is not taken. Raises NoneTaken where that leaves none.
    """
    values = trials(experiment.model, small)
    folders = [runs / _trial(experiment, value).name for value in values]
    evaluated = [(folder / METRICS).exists() for folder in folders]
    if not all(there or diverged(folder) for there, folder in zip(evaluated, folders, strict=True)):
        return None
    kept = list(itertools.compress(range(len(values)), evaluated))
    best = _best([history(folders[number])[-1]["validation"] for number in kept])
    if best is None:
        raise NoneTaken(
            f"{experiment.model} on {experiment.data}, {experiment.labels}: none of its {len(values)} trials has a "
            f"finite MSE and LDS ({', '.join(map(str, folders))}); allowed: one that has"
        )
    return values[kept[best]][0]


def diverged(folder: Path) -> bool:
    """Whether the training of this folder ended with a loss that is not finite, as it would again."""
    try:
        status = json.loads((folder / STATUS).read_text())
    except (FileNotFoundError, ValueError):
        return False
    return bool(status.get("exit_code")) and NOT_FINITE in str(status.get("reason"))


def _trial(of: Experiment, value: tuple[float, ...]) -> Experiment:
    return Experiment(data=of.data, labels=of.labels, model=of.model, weights=value, beyond=True)


def _best(scores: list[dict[str, float]]) -> int | None:
    """Which of these validations is nearest to the ideal; one whose MSE or LDS is no number is none of them."""
    both_N2 = np.array([[one["mse"], 1 - one["lds"] / one["lds_attainable"]] for one in scores]).reshape(-1, 2)
    good_N = np.flatnonzero(np.isfinite(both_N2).all(1) & (both_N2[:, 0] > 0))
    if not len(good_N):
        return None
    compared_N2 = np.stack([np.log10(both_N2[good_N, 0]), both_N2[good_N, 1]], 1)
    return int(good_N[choose(compared_N2)])


def draw(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes beyond.md and its numbers as beyond.json. Raises InputError where no run belongs there."""
    rows = list(_rows(_finals(runs.values())))
    if not rows:
        raise InputError("no evaluated run of these models; hpcauxvae paper beyond makes them")
    lines = [_HEAD]
    for (data, labels), of_set in itertools.groupby(rows, key=lambda row: (row["data"], row["labels"])):
        lines += [f"## {data}, {labels}: {', '.join(LABELS[data][labels])}\n", *_table(list(of_set)), ""]
    table, numbers = out / f"{name}.md", out / f"{name}.json"
    write_text(table, "\n".join(lines))
    write_json(numbers, {"rows": rows})
    return [table, numbers]


def _finals(runs: Any) -> dict[tuple[Data, str, str], list[EvaluatedRun]]:
    """The runs that are no trials, by data, labels and model: by the names of their folders, Aux-VAE by what it is."""
    by_name = {experiment.name: experiment for experiment in EXPERIMENTS if experiment.beyond}
    found: dict[tuple[Data, str, str], list[EvaluatedRun]] = {}
    for run in runs:
        experiment = by_name.get(f"{run.folder.parent.name}/{run.folder.name}")
        if experiment is not None and not experiment.is_trial:
            found.setdefault((experiment.data, experiment.labels, experiment.model), []).append(run)
        elif experiment is None and run.data and run.kind == f"{run.data}-{run.labels}-aux-vae":
            found.setdefault((run.data, run.labels, "aux-vae"), []).append(run)
    return found


def _rows(found: Mapping[tuple[Data, str, str], list[EvaluatedRun]]) -> Iterator[dict[str, Any]]:
    for data, labels in ((data, labels) for data, kinds in BEYOND.items() for labels in kinds):
        for model in NAMES:
            of_model = sorted(found.get((data, labels, model), []), key=lambda run: run.config.seed)
            if of_model:
                field = TRIED[model][0] if model in TRIED else None
                yield {
                    "data": data,
                    "labels": labels,
                    "model": model,
                    "weight": {field: getattr(of_model[0].config, field)} if field else {},
                    "runs": [run.folder.name for run in of_model],
                    **_scores(of_model),
                }


def _scores(runs: list[EvaluatedRun]) -> dict[str, Any]:
    """A value for each run of which the score is known, and the ceiling of LDS."""
    found: dict[str, list[float]] = {score: [] for score in (*_SCORES, "attainable", "n")}
    for run in runs:
        sets = run.metrics["sets"]
        scored = sets["fresh" if "fresh" in sets else "test"]
        codes, reading = scored["codes"], scored.get("reading", {})
        values: dict[str, Any] = {score: codes[score]["value"] for score in ("lds", "lds_mean", "sap", "mig")}
        values |= {"attainable": codes["lds"]["attainable"], "n": codes["lds"]["n"]}
        values |= {"dci": codes["dci"]["disentanglement"]["value"]} if "dci" in codes else {}
        values |= {"ssim": scored["images"]["ssim"]["value"]}
        if reading:
            values["read"] = float(np.mean([one["r"]["value"] for one in reading.values()]))
        if joint := scored.get("joint"):
            values["rest"] = float(np.mean([one["means"]["value"] for one in joint.values()]))
        if effects := scored.get("control", {}).get("effectiveness"):
            values["steers"] = float(np.mean([one["asked"]["r"]["value"] for one in effects.values()]))
        if (run.folder / LOG).exists():
            values["minutes"] = sum(row["seconds"] for row in history(run.folder)) / 60
        for score, value in values.items():
            found[score].append(value)
    return found


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| model | weight | seeds | n | LDS | ceiling | LDS of means | " + " | ".join(_HEADS) + " |"
    yield "| --- " * (7 + len(_HEADS)) + "|"
    for row in rows:
        weight = ", ".join(f"{name} {value:g}" for name, value in row["weight"].items() if value is not None)
        ns, ceiling = f"{row['n'][0]:,}", f"{np.mean(row['attainable']):.3f}"
        cells = {score: _cell(row[score]) for score in _SCORES}
        lds, *others = cells.values()
        seeds = f"{len(row['runs'])} of {BEYOND_SEEDS[row['data']]}"
        yield "| " + " | ".join([NAMES[row["model"]], weight, seeds, ns, lds, ceiling, *others]) + " |"


def _cell(values: list[float]) -> str:
    """The mean, and the standard deviation of a seed."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
