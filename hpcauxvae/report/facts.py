"""What was trained on what, as rows of text: the data set, its factors, model, objective, options, and what made it."""

import dataclasses
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.data.lettering import minus
from hpcauxvae.data.splits import parts
from hpcauxvae.evaluate.records import METRICS
from hpcauxvae.models import model_class, unread_by
from hpcauxvae.models.objectives import OVERRIDES
from hpcauxvae.report.folder import Found
from hpcauxvae.report.tables import NONE, Cell, Table
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.run import found_path
from hpcauxvae.types import Factor, Fold, InputError

Block = dict[str, Any]
_NOT_NOTED = "not noted: the run is of an earlier version"


def facts(found: Found) -> list[tuple[str, str]]:
    """Rows of name and text."""
    config, state = found.config, found.state
    told = f"{config['network']} network, {config['latents']} latents"
    if state["columns"]:
        names = config["aux"].replace(",", ", ")
        guided = f"the first {len(state['columns'])} guided by {names}"
        told += f", {guided}" if _guided(config) else f", none guided; scored against {names}"
    seeds = f"seed {config['seed']}, split {state.get('split', 'random')} with seed {config.get('split_seed', 0)}"
    rows = [*_of_data(found), ("model", f"{config['model']}: {told}"), ("objective", _objective(config))]
    if found.folds:
        rows.append(("cross-validation", f"{found.folds} folds; what stands here is of the first"))
    return [*rows, ("training", "; ".join([*_training(found), seeds])), *_made(found), *_evaluated(found)]


def factors(found: Found) -> Table:
    """A row for each factor of the data: unit, range, kind, and the latents that it guides."""
    state = found.state
    latents: dict[str, list[int]] = {}
    names = [Factor.of_record(record).name for record in state["factors"]]
    own, columns = len(names), iter(enumerate(state["columns"], start=1))
    for record in state.get("guides", [{"columns": 1}] * len(state["columns"])):
        pairs = [next(columns) for _ in range(record["columns"])]
        name = record["factor"][0] if "factor" in record else names[pairs[0][1]]
        latents[name] = [number for number, _ in pairs]
        own -= record["columns"] if "factor" in record else 0
    rows = []
    for factor in [Factor.of_record(record) for record in state["factors"]][:own]:
        kind = factor.kind + (", by its logarithm" if factor.transform == "log10" else "")
        guides = latents.get(factor.name) if _guided(found.config) else None
        which = NONE if not guides else f"{guides[0]}" if len(guides) == 1 else f"{guides[0]} to {guides[-1]}"
        span = ", ".join(factor.classes) or minus(f"{factor.low:.4g} to {factor.high:.4g}")
        rows.append([Cell(text) for text in (factor.name, factor.unit, span, kind, which)])
    head = ["Factor", "unit", "range", "kind", "guides latents"]
    return Table("Factors", head, rows, f"{NONE}: it guides none." if rows else "")


def _guided(config: Block) -> bool:
    """Whether latents of the model stand for factors; of a model whose package is not here it is supposed."""
    try:
        return model_class(config["model"]).GUIDED
    except InputError:
        return True


def settings(config: Block) -> Table:
    """Every option and every constant of the objective that the model reads."""
    plain = {name: value for name, value in config.items() if name != "resolved_objective"}
    objective = config.get("resolved_objective", {})
    idle = unread_by(config["model"]) | ({"lambda2"} if objective.get("dependence_tolerance") is not None else set())
    constants = {f"objective: {name}": value for name, value in objective.items() if name not in idle}
    told = {name: NONE if value in (None, "") else str(value) for name, value in (plain | constants).items()}
    return Table("All settings", ["Setting", "value"], [[Cell(name), Cell(value)] for name, value in told.items()])


def command(config: Block) -> str:
    """The command that trains such a run: every option that is not at its default."""
    words = ["hpcauxvae", "train", str(config["data"])]
    for field in dataclasses.fields(TrainConfig):
        value = config.get(field.name, field.default)
        if field.name == "data" or value is None or str(value) == str(field.default):
            continue
        option = field.name.replace("_", "-")
        flag = isinstance(value, bool)
        words += [f"--{option}" if value else f"--no-{option}"] if flag else [f"--{option}", str(value)]
    return shlex.join(words)


def _of_data(found: Found) -> Iterator[tuple[str, str]]:
    state = found.state
    channels, height, width = state["image_shape"]
    shape = f"{height} × {width} pixels" + (f" in {channels} channels" if channels > 1 else "")
    given = (found.metrics or {}).get("settings", {}).get("data")
    path = Path(found.data or given or found_path(Path(found.config["data"]), Path(found.config["out"]), found.first))
    there = f"of {shape}; {state['n_train']:,} for training"
    try:
        data = open_set(path)
        if data.fingerprint != state["fingerprint"]:
            there = f"images {there}; another file lies there now"
        else:
            there = f"{len(data):,} images {there}{_others(found, data)}; {path.stat().st_size / 1e6:.1f} MB"
    except (InputError, OSError):
        there = f"images {there}; the file is not there now"
    yield "data set", str(path)
    yield "images", there
    yield (
        "fingerprint",
        f"{state['fingerprint']}, the beginning of a SHA-256 of labels and of images spread over the set",
    )


def _others(found: Found, data: ImageSet) -> str:
    """How many images are for validation and test."""
    own = found.config
    fold = Fold(int(own["fold"]), int(own["folds"])) if own.get("folds") and own.get("fold") is not None else None
    validation, test = (
        len(part) for part in parts(data, own.get("split_seed", 0), found.state.get("split", "random"), fold)[1:]
    )
    return f", {validation:,} for validation, {test:,} for test"


def _objective(config: Block) -> str:
    given = [f"{name} = {config[name]}" for name in OVERRIDES if config.get(name) is not None]
    likelihood = config.get("resolved_objective", {}).get("likelihood", "")
    return ", ".join([config["objective"], *([f"likelihood {likelihood}"] if likelihood else []), *given])


def _training(found: Found) -> Iterator[str]:
    epoch, epochs = found.state["epoch"], found.config["epochs"]
    yield f"{epoch} of {epochs} epochs, {found.state['step']:,} steps"
    if seconds := sum(row.get("seconds", 0.0) for row in found.rows):
        yield f"{seconds / 60:.0f} minutes of steps" if seconds >= 60 else f"{seconds:.1f} s of steps"


def _made(found: Found) -> Iterator[tuple[str, str]]:
    ended = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(found.saved))
    if not found.starts:
        yield "command", f"{command(found.config)} (from its settings)"
        yield "commit, machine", _NOT_NOTED
        yield "time", f"last saved {ended}"
        return
    first, last = found.starts[0], found.starts[-1]
    yield "command", str(last.get("command", NONE))
    commit = last.get("commit") or "unknown"
    yield "version", f"hpcauxvae {last.get('hpcauxvae')}, commit {commit}, Python {last.get('python')}"
    processes = f"{last.get('processes')} process{'es' * (last.get('processes') != 1)} on {last.get('device')}"
    yield "machine", f"{last.get('machine')}; {processes}"
    again = f", {len(found.starts)} starts" if len(found.starts) > 1 else ""
    yield "time", f"started {first.get('time')}{again}, last saved {ended}"


def _evaluated(found: Found) -> Iterator[tuple[str, str]]:
    if found.metrics is None:
        return
    given = found.metrics.get("settings", {})
    best = given.get("checkpoint") == "best"
    which = "the best epoch by validation" if best else f"epoch {found.metrics.get('epoch')}"
    made = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime((found.results / METRICS).stat().st_mtime))
    yield "evaluated", f"{made}, hpcauxvae {found.metrics.get('hpcauxvae')}, {which}, seed {given.get('seed')}"
