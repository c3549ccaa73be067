"""Table 1: LDS (10) and SAP of each method on each data set, the paper's numbers beside the runs' own.

beta-VAE is trained without labels, once for a data set; its codes are scored here against each case and kind of labels.
Beside the table stands a folder for each run with all that the table needs of it: copied among other runs, it counts as
a run, so that a table can be made on several machines, or outlive the weights.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpcauxvae.data import cars3d, dsprites, galaxies
from hpcauxvae.data.stored import open_file
from hpcauxvae.metrics import Codes
from hpcauxvae.metrics.dci import dci
from hpcauxvae.metrics.lds import lds, lds_d, lds_mean
from hpcauxvae.metrics.sap import sap
from hpcauxvae.paper.experiments import LABELS, METHODS, Data
from hpcauxvae.paper.runs import CONFIG, METRICS, EvaluatedRun, Runs
from hpcauxvae.runtime.files import write_json, write_text
from hpcauxvae.types import Factor, InputError

SCORES = ("lds", "lds_d", "lds_mean", "sap", "dci", "ssim")
RESCORED = "rescored.json"
"""In a run's folder, scores of its codes that metrics.json does not have."""


class Task(NamedTuple):
    """A row of Table 1."""

    data: Data
    labels: str
    title: str
    printed: Mapping[str, tuple[float, float]]
    """LDS and SAP in the paper, by model."""
    as_values: bool = False
    """Score categories by their numbers, as if these were values."""

    @property
    def factors(self) -> tuple[str, ...]:
        """The auxiliary variables."""
        return LABELS[self.data][self.labels]


_CARS = {"beta-vae": (0.21, 0.18), "idvae": (0.67, 0.55), "aux-vae": (0.93, 0.85)}
_DSPRITES = {"beta-vae": (0.26, 0.27), "idvae": (0.39, 0.43), "aux-vae": (0.83, 0.78)}
_GALAXIES: dict[int, dict[str, tuple[float, float]]] = {
    1: {"beta-vae": (0.48, 0.39), "idvae": (0.65, 0.72), "aux-vae": (0.88, 0.81)},
    2: {"idvae": (0.73, 0.74), "aux-vae": (0.94, 0.89)},
    3: {"idvae": (0.59, 0.68), "aux-vae": (0.81, 0.84)},
}
TASKS = (
    *(Task("galaxies", f"case{case}", f"Galaxies, case {case}", printed) for case, printed in _GALAXIES.items()),
    Task("cars3d", "raw", "Cars3D, the paper's labels", _CARS),
    Task("cars3d", "raw", "Cars3D, the same, cars as values", {}, as_values=True),
    Task("cars3d", "sound", "Cars3D, sound labels", {}),
    Task("dsprites", "raw", "dSprites, the paper's labels", _DSPRITES),
    Task("dsprites", "sound", "dSprites, sound labels", {}),
)
_FACTORS: dict[Data, Sequence[Factor]] = {
    "galaxies": galaxies.FACTORS,
    "cars3d": cars3d.FACTORS,
    "dsprites": dsprites.factors(("ellipse",)),
}


class Line(NamedTuple):
    """A model on a set of a task, over its seeds (S)."""

    task: Task
    model: str
    objective: str
    name: str
    """test or fresh."""
    scores: dict[str, list[dict[str, Any]]]
    """By score, in the order of the seeds; of lds_mean and dci fewer where a record of an earlier version lacks
    it, of dci none where a factor is a category."""
    runs: list[str]
    bf16: int
    """How many of them were trained in bfloat16."""


Ceilings = dict[tuple[str, int, int], tuple[EvaluatedRun, float]]
"""By set, number of latents and seed of the evaluation: the first run, and its ceiling of LDS."""
Rescored = dict[Path, dict[str, Any]]
"""By folder of the run, then by set and task."""


def lines(runs: Collection[EvaluatedRun], rescored_runs: Rescored | None = None) -> Iterator[Line]:
    """Every model, objective and set of every task that has runs; what was scored anew goes into `rescored_runs`."""
    kept: Rescored = {} if rescored_runs is None else rescored_runs
    for task in TASKS:
        ceilings: Ceilings = {}
        for model in METHODS:
            of_model = [
                run
                for run in sorted(runs, key=lambda run: (run.labels, run.config.seed, run.folder.name))
                if (run.data, run.config.model) == (task.data, model)
                and (model == "beta-vae" or run.labels == task.labels)
            ]
            for objective in dict.fromkeys(run.config.objective for run in of_model):
                seeds = [run for run in of_model if run.config.objective == objective]
                _check_one_experiment(seeds)
                for name in ("test", "fresh"):
                    scored = [run for run in seeds if name in run.metrics["sets"]]
                    if scored:
                        of_seeds = [_scores(run, name, task, kept) for run in scored]
                        _check_data(scored, name, of_seeds, ceilings)
                        by_score = {score: [of[score] for of in of_seeds if score in of] for score in SCORES}
                        bf16 = sum(run.config.bf16 for run in scored)
                        yield Line(task, model, objective, name, by_score, [run.folder.name for run in scored], bf16)


def _check_one_experiment(seeds: Sequence[EvaluatedRun]) -> None:
    """Raises InputError, naming two of these runs, where they do not differ in the seed alone."""
    first, *others = seeds
    for number, run in enumerate(others, 1):
        if same := [other for other in seeds[:number] if other.config.seed == run.config.seed]:
            raise InputError(
                f"{run.folder} and {same[0].folder}: both have seed = {run.config.seed}, and are of one kind; allowed "
                "in one row of Table 1: one run of each seed; remove one of them"
            )
        was, now = (each.setting("seed", "aux") for each in (first, run))  # beta-VAE never sees the auxiliary variables
        for field in was:
            if was[field] != now[field]:
                raise InputError(
                    f"{run.folder}: {field} = {now[field]}, but {first.folder} has {was[field]}; allowed in one row of "
                    "Table 1: runs that differ in the seed alone; remove one of them"
                )


def _check_data(
    scored: Sequence[EvaluatedRun], name: str, of_seeds: list[Mapping[str, Any]], ceilings: Ceilings
) -> None:
    """Raises InputError where a run was scored on samples with other labels than the first of its task.

    The ceiling of LDS tells: it is computed from the labels of these very samples, on any machine to the same digits,
    for the latents of the run with the seed of its evaluation.
    """
    for run, scores in zip(scored, of_seeds, strict=True):
        ceiling = scores["lds"]["attainable"]
        seed = run.metrics.get("settings", {}).get("seed", 0)
        first, its = ceilings.setdefault((name, run.config.latents, seed), (run, ceiling))
        if not math.isclose(its, ceiling, rel_tol=1e-6):
            raise InputError(
                f"{run.folder}: was scored on another {name} set than {first.folder}: the ceilings of their LDS are "
                f"{ceiling:.6f} and {its:.6f}; allowed in Table 1: one set for all; evaluate one of them again"
            )


def _scores(run: EvaluatedRun, name: str, task: Task, kept: Rescored) -> Mapping[str, Any]:
    """As evaluated; of a run that was evaluated against other factors, or otherwise, from its codes."""
    evaluated = run.metrics["sets"][name]
    codes: dict[str, Any] = evaluated["codes"] if run.config.aux_names == task.factors else {}
    factors = _FACTORS[task.data]
    if not codes or task.as_values:
        if task.as_values:
            factors = [factor._replace(kind="continuous") for factor in factors]
        of_run, key = kept.setdefault(run.folder, _kept(run)), f"{name}: {task.title}"
        if key not in of_run:
            of_run[key] = rescored(run.codes_file(name), factors, task.factors)
        codes = codes | of_run[key]
    found = codes | {"ssim": evaluated["images"]["ssim"]}
    dci = found.pop("dci", None)
    as_category = any(factor.kind == "categorical" for factor in factors if factor.name in task.factors)
    # Its forests take a category for a value.
    return found if dci is None or as_category else found | {"dci": dci["disentanglement"]}


def _kept(run: EvaluatedRun) -> dict[str, Any]:
    """What an earlier table had from codes that may be gone; nothing where the run was evaluated anew since."""
    path = run.folder / RESCORED
    kept = json.loads(path.read_text()) if path.exists() else {}
    return dict(kept["scores"]) if kept.get("metrics") == _digest(run) else {}


def _digest(run: EvaluatedRun) -> str:
    return hashlib.sha256(json.dumps(run.metrics, sort_keys=True).encode()).hexdigest()


def rescored(path: Path, factors: Sequence[Factor], names: Sequence[str]) -> dict[str, Any]:
    """LDS, LDS over d, LDS of the means, SAP and DCI of the codes of an evaluation against these factors."""
    by_name = {factor.name: factor for factor in factors}
    with open_file(path) as file:
        known = [str(name) for name in file["factors"].attrs["name"]]
        values_NF, mean_NZ, logvar_NZ = (file[key][:] for key in ("factors", "mean", "logvar"))
    codes = Codes(
        mean_NZ=mean_NZ,
        logvar_NZ=logvar_NZ,
        aux_ND=np.stack([by_name[name].scale(values_NF[:, known.index(name)]) for name in names], 1),
        hidden_NH=values_NF[:, :0],
        aux_names=names,
        hidden_names=(),
        aux_kinds=[by_name[name].kind for name in names],
        seed=0,
    )
    scores = {"lds": lds, "lds_d": lds_d, "lds_mean": lds_mean, "sap": sap, "dci": dci}
    return {name: score(codes) for name, score in scores.items()}


def draw(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes table1.md, its numbers as table1.json, and table1/. Raises InputError where no run belongs there."""
    kept: Rescored = {}
    found = list(lines(runs.values(), kept))
    if not found:
        raise InputError("no evaluated run of Table 1; hpcauxvae paper table1 makes them")
    table, numbers = out / f"{name}.md", out / f"{name}.json"
    write_text(table, "\n".join([*_overview(found), "", *_details(found), "", _NOTES]) + "\n")
    write_json(numbers, {"lines": [_plain(line) for line in found]})
    for run in runs.values():
        record = out / name / run.folder.name
        record.mkdir(parents=True, exist_ok=True)
        write_json(record / CONFIG, run.config.to_json())
        write_json(record / METRICS, run.metrics)
        if run.folder in kept:
            write_json(record / RESCORED, {"metrics": _digest(run), "scores": kept[run.folder]})
    print(table.read_text(encoding="utf-8"), end="")
    return [table, numbers]


def _overview(found: list[Line]) -> Iterator[str]:
    """The paper's own table, ours below each row: LDS over dz (SAP), as printed."""
    yield "# Table 1: LDS (SAP)\n"
    yield "LDS (10) over all latents, its mean over the seeds; SAP in brackets.\n"
    yield _row(["", "", *METHODS.values()])
    yield _row(["---"] * (2 + len(METHODS)))
    for task in TASKS:
        if task.printed:
            cells = [_printed(task, model) for model in METHODS]
            yield _row([task.title, "paper", *cells])
        for name in ("test", "fresh"):
            ours = [_main(found, task, model, name) for model in METHODS]
            if any(ours):
                ns = {line.scores["lds"][0]["n"] for line in ours if line}
                who = f"ours, {name}, n = {', '.join(f'{n:,}' for n in sorted(ns))}"
                yield _row([task.title, who, *(_short(line) if line else "" for line in ours)])


def _main(found: list[Line], task: Task, model: str, name: str) -> Line | None:
    """With our own objective."""
    fitting = (line for line in found if (line.task, line.model, line.name) == (task, model, name))
    return next((line for line in fitting if line.objective in ("tuned", "bernoulli")), None)


def _printed(task: Task, model: str) -> str:
    return "{:.2f} ({:.2f})".format(*task.printed[model]) if model in task.printed else ""


def _short(line: Line) -> str:
    return f"{_mean(line, 'lds'):.2f} ({_mean(line, 'sap'):.2f})"


def _details(found: list[Line]) -> Iterator[str]:
    yield "# Every score, with its ceiling\n"
    yield _row(["", "model", "objective", "set", "n", "seeds", "LDS over dz", "ceiling", "share", "LDS over d",
                "ceiling", "share", "LDS of means", "SAP", "DCI", "SSIM", "paper"])  # fmt: skip
    yield _row(["---"] * 17)
    for line in found:
        yield _row(
            [
                *(line.task.title, METHODS[line.model], line.objective, line.name),
                f"{line.scores['lds'][0]['n']:,}",
                f"{len(line.runs)}" + (f", {line.bf16} in bfloat16" if line.bf16 else ""),
                *(*_beside_ceiling(line, "lds"), *_beside_ceiling(line, "lds_d")),
                *(_spread(line, score) for score in ("lds_mean", "sap", "dci", "ssim")),
                _printed(line.task, line.model),
            ]
        )


_NOTES = """\
Values are means over the seeds ± their standard deviation, and the worst of them; with one seed, the 95 % interval of
its images. All seeds of a row share the data and their split: the spread is that of training alone. LDS is of sampled
z; `over dz` sums over all latents, `over d` over the first d only, as many as there are auxiliary factors; `of means`
is LDS over dz of the posterior means, where a latent that is hardly used counts as much as any. The ceiling is the mean
LDS of a perfect code on the same samples, which one draw may exceed; that of the means sums over dz. SAP is of
posterior means; the number of a car, a category, is graded by a classifier, and in the row below as a value. DCI is the
disentanglement of Eastwood and Williams: whether a latent tells of one factor alone, however many such latents a factor
has. SSIM takes each image's own range; n is that of the codes. β-VAE is trained without labels, so its first d latents
are any d. IDVAE's encoder is given the labels, so its codes may repeat them whatever the image shows; IDVAE-x sees the
image alone."""


def _mean(line: Line, score: str) -> float:
    return float(np.mean([of_seed["value"] for of_seed in line.scores[score]]))


def _beside_ceiling(line: Line, score: str) -> tuple[str, str, str]:
    """The score, its ceiling, and what share of this it is."""
    ceiling = np.mean([of_seed["attainable"] for of_seed in line.scores[score]])
    return _spread(line, score), f"{ceiling:.3f}", f"{_mean(line, score) / ceiling:.3f}"


def _spread(line: Line, score: str) -> str:
    of_seeds = line.scores[score]
    if not of_seeds:
        return ""
    few = f" of {len(of_seeds)} seed{'s' * (len(of_seeds) > 1)}" if len(of_seeds) < len(line.runs) else ""
    if len(of_seeds) == 1:
        return f"{of_seeds[0]['value']:.3f}{few} [{of_seeds[0]['low']:.3f}, {of_seeds[0]['high']:.3f}]"
    values = [of_seed["value"] for of_seed in of_seeds]
    return f"{_mean(line, score):.3f} ± {np.std(values, ddof=1):.3f}{few}, least {min(values):.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(line: Line) -> dict[str, Any]:
    task = {
        "data": line.task.data,
        "case": int(line.task.labels.removeprefix("case")) if line.task.data == "galaxies" else None,
        "labels": "raw" if line.task.data == "galaxies" else line.task.labels,
        "as_values": line.task.as_values,
    }
    about = {"model": line.model, "objective": line.objective, "set": line.name, "runs": line.runs}
    return task | about | {"paper": line.task.printed.get(line.model)} | {score: line.scores[score] for score in SCORES}
