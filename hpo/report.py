"""The report of a search: `python -m hpo.search report searches/x` -> report.html, one file that needs no network.

The search makes it too, when a session ends. The pictures lie as PNG in pictures/.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpcauxvae.report.look import rendered
from hpcauxvae.report.pictures import Figure, encoded
from hpcauxvae.runtime.files import whole, write_text
from hpcauxvae.types import Interval
from hpo import figures
from hpo.best import CLAIM
from hpo.logbook import Logbook, Row
from hpo.problem import Space
from hpo.results import STATES, chosen, front, papers_choice
from hpo.settings import SearchConfig

_CAPTIONS = {
    "pareto": (
        "Pareto front",
        "Both objectives of the validation split, better towards the lower left. Chosen: the point of the front "
        "nearest to the ideal, each objective scaled to [0, 1] over the front. The paper's rule takes the smallest "
        "product of the standardised objectives and so favours the average trial. Trial 0 is the objective's own "
        "setting, where the space holds it and is no grid.",
    ),
    "hypervolume": (
        "Hypervolume against trials",
        "Area between the front and the worst finished trial in both objectives: log10 MSE times 1 − LDS/attainable.",
    ),
    "parallel": ("Parallel coordinates", "Every trial that has objectives; the axes span the space."),
    "importance": (
        "Importance of the hyperparameters",
        "Permutation importance in a forest fitted to the trials, with the standard deviation of 20 shuffles. Where "
        "the R² of left-out trials is low, the forest has learnt little and the bars mean little.",
    ),
    "workers": ("Workers", "Each bar is a trial. Gaps inside a session are time in which a worker had nothing to do."),
}  # fmt: skip
_MISSING = {"importance": f"Not drawn yet: it takes {figures.FEWEST} finished trials."}


class Part(NamedTuple):
    """A picture with its words."""

    name: str
    title: str
    text: str
    figure: Figure | None


class Trial(NamedTuple):
    """A row of the table."""

    trial: int
    state: str
    kind: str
    """chosen, front, or nothing."""
    cells: list[str]


def write(folder: Path) -> Path:
    """Makes the report of a search and its pictures; returns the page's path."""
    config, logbook = SearchConfig.load(folder), Logbook(folder)
    space = config.space()
    (folder / "pictures").mkdir(exist_ok=True)
    drawn = {}
    for name, picture in figures.of_search(logbook, space, config).items():
        with whole(path := folder / "pictures" / f"{name}.png") as part:
            picture.savefig(part, dpi=160, facecolor="white", format="png")
        source, size = encoded(path)
        drawn[name] = Figure(source, _CAPTIONS[name][0], "", size)
    write_text(folder / "report.html", page(config, logbook, space, drawn))
    return folder / "report.html"


def page(config: SearchConfig, logbook: Logbook, space: Space, drawn: dict[str, Figure]) -> str:
    """The page as HTML; `drawn` has the pictures."""
    missing = {name: _MISSING.get(name, "No trial finished yet.") for name in _CAPTIONS}
    parts = [
        Part(name, title, text if name in drawn else missing[name], drawn.get(name))
        for name, (title, text) in _CAPTIONS.items()
    ]
    return rendered(
        "search.html",
        Path(__file__).parent,
        name=config.out.absolute().name,
        facts=_facts(config, logbook, space),
        made=f"Made {time.strftime('%F %T %Z')}. {_test_split(config.out / CLAIM)}",
        pictures=parts,
        heads=["MSE", "1 − LDS/att.", *space, "epochs", "s"],
        trials=_trials(logbook.rows, space),
    )


def _facts(config: SearchConfig, logbook: Logbook, space: Space) -> dict[str, str]:
    rows = logbook.rows
    counts = ", ".join(f"{sum(r.state == state for r in rows)} {state}" for state in STATES)
    epochs = sum(row.epochs for row in rows if row.state != "failed")
    planned = sum(config.epochs for row in rows if row.state != "failed")
    facts = {
        "data": str(config.data),
        "model": f"{config.model}, auxiliary {config.aux}, objective {config.objective}",
        "strategy": f"{config.strategy}, seed {config.seed}, {config.epochs} epochs a trial",
        "space": "; ".join(f"{name} {_axis(axis)}" for name, axis in space.items()),
        "trials": f"{len(rows)} of {config.trials} ended: {counts}; {len(logbook.running)} running or interrupted",
    }
    if planned and config.early_stopping:
        facts["early stopping"] = f"{1 - epochs / planned:.0%} of the epochs saved"
    if best := chosen(rows):
        point = ", ".join(f"{name} {value}" for name, value in best.values(".4g").items())
        facts["chosen"] = f"trial {best.trial}: {point}; {best.scores()}"
    return facts


def _test_split(claim: Path) -> str:
    """What it has been used for."""
    if not claim.exists():
        return "The test split was not looked at."
    used = json.loads(claim.read_text())
    return f"best --retrain used the test split for trial {used['trial']}, trained for {used['epochs']} epochs."


def _axis(axis: object) -> str:
    if isinstance(axis, Interval):
        return f"{axis.low:g} to {axis.high:g}" + (" (log)" if axis.log else "")
    return "{" + ", ".join(map(str, axis)) + "}"  # type: ignore[call-overload]


def _trials(rows: Sequence[Row], space: Space) -> list[Trial]:
    best, papers, on_front = chosen(rows), papers_choice(rows), {row.trial for row in front(rows)}
    found = []
    for row in sorted(rows, key=lambda row: row.trial):
        mse, gap = ("", "") if row.objectives is None else (f"{row.objectives.mse:.3g}", f"{row.objectives.gap:.3f}")
        values = row.values(".4g")
        cells = [mse, gap, *(values[name] for name in space), f"{row.epochs}", f"{row.ended - row.started:.0f}"]
        marks = {"chosen": row is best, "the paper's rule": row is papers, "front": row.trial in on_front}
        state = "; ".join([row.state, *(mark for mark in marks if marks[mark]), *filter(None, [row.reason])])
        found.append(Trial(row.trial, state, "chosen" if row is best else "front" * (row.trial in on_front), cells))
    return found
