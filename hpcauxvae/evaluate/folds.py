"""A cross-validation: its folds, each evaluated by itself, and their scores as those of one set.

Pooled is what can be: images are compared one by one, and a guided latent means the same in every run, so that the test
parts of all folds are read together, as one part as large as the set. Other latents mean something else in each run;
scores of whole codes are means over the folds, with Student's interval of their spread. Shape legend in types.py.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hpcauxvae
from hpcauxvae.data.stored import open_file
from hpcauxvae.evaluate import by_factor, scores
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.records import write_metrics
from hpcauxvae.evaluate.steering import control, unasked
from hpcauxvae.evaluate.verdicts import latents, reading, verdicts
from hpcauxvae.metrics import Codes
from hpcauxvae.metrics.codes import FEWEST, correlated
from hpcauxvae.metrics.intervals import Score, parts_score, pooled_score
from hpcauxvae.metrics.objects import objects
from hpcauxvae.metrics.reading import readings
from hpcauxvae.runtime.files import refuse_unwritable
from hpcauxvae.train.checkpoint import LAST
from hpcauxvae.train.config import fold_folder
from hpcauxvae.train.run import Run, load_run
from hpcauxvae.types import Factor, InputError

Block = dict[str, Any]

_OF_IMAGES = ("ssim", "mse", "chi2")
"""Scores of single images in one unit."""


_WITHOUT_TOP = {"slope", "own", "error", "error_fitted", "offset", "mse", "chi2", "once", "again", "reversibility"}
"""Scores that may be above 1 though none of the folds' is."""


def evaluate(config: EvaluateConfig) -> Block:
    """Evaluates each fold into its folder, and pools; returns what metrics.json holds. Raises InputError."""
    runs = _runs(config.run)
    out = config.out or config.run
    out.mkdir(parents=True, exist_ok=True)
    refuse_unwritable(out, "; --out names another folder")
    (out / "metrics.json").unlink(missing_ok=True)  # it comes last: never beside the scores of another evaluation
    found = []
    for number, run in enumerate(runs):
        print(f"fold {number} of {len(runs)}: {run.folder}", file=sys.stderr, flush=True)
        own = dataclasses.replace(config, run=run.folder, out=fold_folder(out, number))
        found.append(scores.evaluate(own))
    least = min(found, key=lambda metrics: metrics["epoch"] / max(1, metrics["epochs"]))
    metrics: Block = {
        "hpcauxvae": hpcauxvae.__version__,
        "settings": config.to_json(),
        "folds": len(runs),
        "epoch": least["epoch"],
        "epochs": least["epochs"],
        "sets": {},
    }
    for name in found[0]["sets"]:
        blocks = [one["sets"][name] for one in found]
        block = _block(blocks, runs, name)
        if name == "test":
            block |= _read_together([fold_folder(out, number) for number in range(len(runs))], runs[0], config.seed)
        of_folds = _of_folds(blocks)
        pooled = [line for line in verdicts(block) if not (of_folds and line.startswith("no finding"))]
        metrics["sets"][name] = block | {"verdicts": [*pooled, *of_folds]}
    write_metrics(out / "metrics.json", metrics)
    return metrics


def _of_folds(blocks: Sequence[Block]) -> list[str]:
    """What each fold says of its guided latents and of control: where some fail and others do not, the interval of the
    mean is wide, and says nothing."""
    return [
        f"fold {number}: {line}"
        for number, block in enumerate(blocks)
        for of in (reading, by_factor.as_a_whole, latents, control, by_factor.steering, unasked)
        for line in of(block)
        if not any(words in line for words in ("cannot be judged", "no score tells"))
    ]


def _runs(folder: Path) -> list[Run]:
    """The folds of a cross-validation. Raises InputError unless all are there, and of one training."""
    count = load_run(fold_folder(folder, 0)).config.folds
    lacking = [number for number in range(count) if not (fold_folder(folder, number) / LAST).exists()]
    if lacking or not count:
        what = f"fold {lacking[0]} of {count} has no checkpoint" if lacking else "fold0 is no fold of --folds"
        raise InputError(f"{folder}: {what}; its train command with --resume auto makes what is missing")
    runs = [load_run(fold_folder(folder, number)) for number in range(count)]
    settings = [run.config.decisive() | {"data": run.state["fingerprint"], "split": run.split} for run in runs]
    for number, (run, own) in enumerate(zip(runs, settings, strict=True)):
        for name, value in (settings[0] | {"fold": number}).items():
            if own[name] != value and name != "resolved_objective":
                raise InputError(f"{run.folder}: {name} = {own[name]}; allowed: {value}, as {runs[0].folder} has it")
    return runs


def _block(blocks: Sequence[Block], runs: Sequence[Run], name: str) -> Block:
    """The block of a set: images of the test parts pooled, all else as means over the folds."""
    joined = pooled_score if name == "test" else _spread
    units = [float(run.model.maximum) for run in runs]
    maxima = [(unit / max(units)) ** 2 for unit in units]  # an MSE is in units of the own run's brightest pixel

    def images(of_folds: Sequence[Block]) -> Block:
        scaled = [one | {"mse": _times(one["mse"], factor)} for one, factor in zip(of_folds, maxima, strict=True)]
        return {key: joined([one[key] for one in scaled]) for key in _OF_IMAGES if key in scaled[0]}

    found: Block = {
        "data": blocks[0]["data"],
        "folds": len(blocks),
        "samples": (sum if name == "test" else min)(block["images"]["mse"]["n"] for block in blocks),
        "training": min((block["training"] for block in blocks), key=lambda one: one["epoch"] / max(1, one["epochs"])),
        "copies": [f"fold {n}: {line}" for n, block in enumerate(blocks) for line in block["copies"]],
        "codes": _mean([block["codes"] for block in blocks]) if all(block["codes"] for block in blocks) else {},
        "latents": _latents([block["latents"] for block in blocks]),
        "images": images([block["images"] for block in blocks]),
        "baselines": {
            plain: images([block["baselines"][plain] for block in blocks]) for plain in blocks[0]["baselines"]
        },
    }
    if all("noiseless" in block for block in blocks):
        found["noiseless"] = images([block["noiseless"] for block in blocks])
    for key in ("correlated", "reading", "factors", "joint", "random_features", "control"):
        if all(key in block for block in blocks):
            values = [_unsigned(block[key]) if key == "joint" else block[key] for block in blocks]
            found[key] = _mean(values)
            if key == "joint":
                _of_a_fold(found[key], values)
    return found


def _of_a_fold(joint: Block, folds: Sequence[Block]) -> None:
    """Puts the mean interval of a fold in place of that of the mean: by chance the largest |r| is above 0."""
    for name, of_factor in joint.items():
        for end in ("low", "high"):
            of_factor["single"]["r"][end] = float(np.mean([one[name]["single"]["r"][end] for one in folds]))


def _read_together(folders: Sequence[Path], run: Run, seed: int) -> Block:
    """`reading`, `factors` and `correlated` of the test samples of all folds, from their codes; nothing without guided
    latents."""
    columns, guided = run.state["columns"], run.model.GUIDED
    factors = [Factor.of_record(record) for record in run.state["factors"]]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("factors", "mean", "regressed")}
    for folder in folders:
        with open_file(folder / "codes-test.h5") as file:
            for name in parts:
                if name in file:
                    parts[name].append(file[name][:])
    values_NF, mean_NZ = np.concatenate(parts["factors"]), np.concatenate(parts["mean"])
    if not columns or np.count_nonzero(~np.isnan(values_NF[:, columns]), 0).min() < FEWEST:
        return {}
    own = [factors[column] for column in columns]
    aux_ND = np.stack([f.scale(values_NF[:, c]) for f, c in zip(own, columns, strict=True)], 1)

    def codes(code_ND: np.ndarray) -> Codes:
        return Codes(
            mean_NZ=code_ND, logvar_NZ=np.zeros(code_ND.shape), aux_ND=aux_ND, hidden_NH=aux_ND[:, :0],
            aux_names=[factor.name for factor in own], hidden_names=[], seed=seed,
            aux_kinds=[factor.kind for factor in own], object_N=objects(values_NF, np.arange(len(values_NF))),
        )  # fmt: skip

    of_latents = codes(mean_NZ[:, : len(own)])
    if not guided or len(parts["regressed"]) < len(folders):
        return {"correlated": correlated(of_latents)}
    regressed_ND = np.concatenate(parts["regressed"])
    told_ND = np.stack([f.scale(told_N) for f, told_N in zip(own, regressed_ND.T, strict=True)], 1)
    reading, plain = readings(of_latents, own), readings(codes(told_ND), own)
    for name, of_factor in reading.items():
        of_factor["regressor"] = {key: plain[name][key] for key in ("r", "error")}
    told = {"latents": by_factor.in_units(mean_NZ[:, : len(own)], own), "regressor": regressed_ND}
    of_factors = by_factor.by_factor(run.guides, values_NF[:, columns], told)
    return {"reading": reading, "factors": of_factors, "correlated": correlated(of_latents)}


def _latents(folds: Sequence[Block]) -> Block:
    """Of all folds; off are those that are off in each, and those draw nothing that do so, or are off, in each."""
    in_use = [one["in_use"] for one in folds]
    off = set.intersection(*(set(one["off"]) for one in folds))
    idle = set.intersection(*({*one["off"], *one.get("still", ())} for one in folds))
    found = {key: of for key, of in folds[0].items() if key not in ("effect", "follows")}
    return found | {
        "in_use": min(in_use), "most_in_use": max(in_use), "off": sorted(off), "still": sorted(idle - off)
    }  # fmt: skip


def _unsigned(joint: Block) -> Block:
    """The scores of residual latents together; of the one that correlates most, another in each fold, without sign."""
    signs = {name: -1 if of_factor["single"]["r"]["value"] < 0 else 1 for name, of_factor in joint.items()}
    singles = {name: _times(of_factor["single"]["r"], signs[name]) for name, of_factor in joint.items()}
    return {name: of_factor | {"single": {"latent": None, "r": singles[name]}} for name, of_factor in joint.items()}


def _times(score: Score, factor: float) -> Score:
    low, high = sorted((score["low"] * factor, score["high"] * factor))
    return Score(value=score["value"] * factor, low=low, high=high, n=score["n"])


def _spread(folds: Sequence[Score], top: bool = True) -> Score:
    """The mean over folds with Student's interval of their spread, kept within 0 and, with `top`, 1 where each fold's
    own is.

    n: the samples of the smallest fold, for what needs many in each.
    """
    limits = (
        0.0 if all(one["low"] >= 0 for one in folds) else -np.inf,
        1.0 if top and all(one["high"] <= 1 for one in folds) else np.inf,
    )
    return parts_score(np.array([one["value"] for one in folds]), min(one["n"] for one in folds), limits)


def _mean(folds: Sequence[Any], key: str = "") -> Any:
    """The same of what the blocks of the folds hold in one place: of scores, numbers, counts (the least), and texts."""
    first = folds[0]
    if any(one is None for one in folds):
        return None
    if isinstance(first, dict):
        scored = {"value", "low", "high", "n"} if "value" in first else set()
        shared = [key for key in first if key not in scored and all(key in one for one in folds)]
        others = {key: _mean([one[key] for one in folds], key) for key in shared}
        return {**_spread(folds, key not in _WITHOUT_TOP), **others} if scored else others
    if isinstance(first, float):
        return float(np.mean(folds))
    return min(folds) if isinstance(first, int) else first
