"""After a search: `python -m hpo.search best searches/x --retrain --seeds 5`, the chosen configuration trained fully.

This is where the test split is looked at, for one configuration only: a second one is refused.
"""

import json
import shlex
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import numpy as np

from hpcauxvae.data.classes import in_order_of
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.splits import parts
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.records import read_metrics, write_metrics
from hpcauxvae.evaluate.scores import evaluate
from hpcauxvae.evaluate.sets import check_noiseless
from hpcauxvae.runtime.children import Minder, new_mark
from hpcauxvae.runtime.files import write_json
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError
from hpo import pools
from hpo.command import BestConfig
from hpo.logbook import Row
from hpo.results import chosen, front, papers_choice
from hpo.settings import SearchConfig
from hpo.trials import Setup

CLAIM = Path("best") / "chosen.json"
"""In the folder of a search: what the test split was used for, written before the first look."""
_STARTED = "started.json"
"""Beside it: what the trainings there are of, scored or not."""
_SCORES = (("codes", "lds"), ("codes", "lds_d"), ("codes", "sap"), ("images", "ssim"), ("images", "mse"))


def show(search: SearchConfig, rows: list[Row], epochs: int | None) -> tuple[Row, int]:
    """Prints the front, the choice, and the command that trains it for so many epochs; returns the choice and these.

    epochs: as many as a training takes by itself if not given; 0 where the data set is gone, which would tell.
    """
    best, papers = chosen(rows), papers_choice(rows)
    if best is None:
        raise InputError(f"{search.out}: no trial finished yet")
    for row in front(rows):
        print(f"{'chosen' if row is best else 'front '} {row}")
    assert papers is not None
    print(f"paper's rule, for comparison: {papers}")
    fields = {**search.train_fields(), **best.point, "out": Path("runs/best"), "epochs": epochs or 0, "resume": "auto"}
    run = TrainConfig(**fields)
    if not epochs and search.data.exists():
        train = parts(open_set(search.data), run.split_seed, run.split)[0]
        run = run.with_epochs(max(1, len(train) // run.resolved_objective.batch_size))
    print(f"python -m hpcauxvae.train {shlex.join(run.arguments())}")
    return best, run.epochs


def retrain(config: BestConfig, search: SearchConfig, best: Row) -> dict[str, Any]:
    """Trains for config.epochs and evaluates; what is done stays. Returns what best/scores.json holds."""
    claim = {"trial": best.trial, "point": best.point, "epochs": config.epochs}
    folder = (config.search / CLAIM).parent
    check_claim(folder, claim)
    check_sets(config, search)
    folder.mkdir(exist_ok=True)
    write_json(folder / _STARTED, claim)
    runs = trained(config, search, best)
    write_json(config.search / CLAIM, claim)
    scores = {"chosen": claim, "sets": summary([scored(run, config) for run in runs])}
    write_metrics(folder / "scores.json", scores)
    return scores


def check_claim(folder: Path, claim: dict[str, Any]) -> None:
    """Raises InputError where another configuration was scored on the test split, or was trained in the folder."""
    now = f"now trial {claim['trial']} with {claim['epochs']} epochs"
    for name in (CLAIM.name, _STARTED):
        before = json.loads((folder / name).read_text()) if (folder / name).exists() else claim
        if before == claim:
            continue
        then = f"trial {before['trial']} with {before['epochs']} epochs"
        if name == CLAIM.name:
            raise InputError(
                f"{folder}: the test split was used for {then}, {now}: a second look would be a selection on it; "
                "allowed: the same"
            )
        raise InputError(f"{folder}: holds trainings of {then}, none scored, {now}; allowed: the same, or remove it")


def check_sets(config: BestConfig, search: SearchConfig) -> None:
    """That all sets can be opened and fit together, before days of training. Raises InputError."""
    data = open_set(search.data)
    fresh = [in_order_of(open_set(path), data.factors) for path in (config.fresh,) if path]
    for other in fresh:
        if other.shape != data.shape:
            raise InputError(f"{other.path}: images of {other.shape}; allowed: those of {data.path}, {data.shape}")
        if other.factors != data.factors:
            raise InputError(f"{other.path}: has other factors than {data.path}; allowed: the same")
        if other.fingerprint == data.fingerprint:
            raise InputError(f"{other.path}: is the data set of the search; allowed: another one")
    check_noiseless([open_set(path) for path in config.noiseless], [data, *fresh])


def trained(config: BestConfig, search: SearchConfig, best: Row) -> list[Path]:
    """The runs of all seeds, whole. Raises InputError as soon as one fails, and stops the others."""
    mark = new_mark()
    setup = Setup(
        out=(config.search / CLAIM).parent.absolute(),
        mark=mark,
        fields={**search.train_fields(), "epochs": config.epochs},
        processes=config.processes,
        early_stopping=False,
        trial_minutes=None,
    )
    (setup.out / "trials").mkdir(exist_ok=True)
    slots = pools.local_slots(config.workers, config.processes, search.device)
    seeds = range(1, config.seeds + 1)
    with Minder(mark), pools.thread_pool(slots) as pool:
        for future in as_completed([pool.submit(setup, seed, {**best.point, "seed": seed}) for seed in seeds]):
            row = future.result()
            print(row, flush=True)
            if row.state != "finished":
                raise InputError(f"seed {row.trial} {row.reason or 'was interrupted'}; start again")
    return [setup.run_folder(seed) for seed in seeds]


def scored(run: Path, config: BestConfig) -> dict[str, Any]:
    """metrics.json of a run; evaluated now unless it is there, with the sets that are asked for."""
    if (run / "metrics.json").exists():
        found: dict[str, Any] = read_metrics((run / "metrics.json").read_text())
        has_fresh = config.fresh is None or found["settings"]["fresh"] == str(config.fresh)
        if has_fresh and set(map(str, config.noiseless)) <= set(found["settings"]["noiseless"]):
            return found
    return evaluate(EvaluateConfig(run=run, fresh=config.fresh, noiseless=config.noiseless))


def summary(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each set that every run was scored on, by score: mean, standard deviation and values over the runs.

    And the ceiling, of those scores that have one.
    """
    sets: dict[str, Any] = {}
    for name in [name for name in metrics[0]["sets"] if all(name in each["sets"] for each in metrics)]:
        blocks = [each["sets"][name] for each in metrics]
        first = blocks[0]
        ceilings = {score: first["codes"][score]["attainable"] for score in ("lds", "lds_d")}
        ceilings |= {score: entry["value"] for score, entry in first.get("noiseless", {}).items()}
        sets[name] = {}
        for kind, score in _SCORES:
            values = [block[kind][score]["value"] for block in blocks]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            sets[name][score] = {"mean": float(np.mean(values)), "sd": spread, "values": values}
            sets[name][score] |= {"ceiling": ceilings[score]} if score in ceilings else {}
    return sets


def lines(scores: dict[str, Any]) -> str:
    """The scores of each set beside their ceilings."""
    text = [f"{'score':10}{'mean':>10}{'sd':>10}{'ceiling':>10}{'of it':>8}"]
    for name, table in scores["sets"].items():
        text.append(f"{name}, {len(table['lds']['values'])} seeds")
        for score, entry in table.items():
            spread = "" if entry["sd"] is None else f"{entry['sd']:.2g}"
            beside = f"{entry['ceiling']:10.4g}{entry['mean'] / entry['ceiling']:8.3f}" if "ceiling" in entry else ""
            text.append(f"  {score:8}{entry['mean']:10.4g}{spread:>10}{beside}")
    return "\n".join(text)
