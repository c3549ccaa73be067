"""The report of a search: `python -m hpo.search report searches/x` -> report.html, one file that needs no network.

The search makes it too, when a session ends. The pictures lie as PNG in pictures/.
"""

import base64
import html
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

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

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
img { max-width: 100%; height: auto; } p.note { color: #5a6068; max-width: 46rem; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e3e5e8; }
th { text-align: right; } td.text, th.text { text-align: left; } td.reason { white-space: normal; min-width: 11rem; }
tr.chosen { background: #f3e6e8; }
tr.chosen td:first-child, tr.front td:first-child { font-weight: bold; color: #7d1f33; }
"""


def write(folder: Path) -> Path:
    """Makes the report of a search and its pictures; returns the page's path."""
    config, logbook = SearchConfig.load(folder), Logbook(folder)
    space = config.space()
    pictures = figures.of_search(logbook, space, config)
    (folder / "pictures").mkdir(exist_ok=True)
    encoded = {name: _png(picture, folder / "pictures" / f"{name}.png") for name, picture in pictures.items()}
    write_text(folder / "report.html", page(config, logbook, space, encoded))
    return folder / "report.html"


def _png(picture: Figure, path: Path) -> str:
    """Writes the file and returns it as text for the page."""
    buffer = io.BytesIO()
    picture.savefig(buffer, dpi=160, facecolor="white")
    with whole(path) as part:
        part.write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def page(config: SearchConfig, logbook: Logbook, space: Space, encoded: dict[str, str]) -> str:
    """The page as HTML; `encoded` has the pictures in base64."""
    parts = [f"<h1>Search {html.escape(str(config.out.absolute().name))}</h1>", _about(config, logbook, space)]
    for name, (title, text) in _CAPTIONS.items():
        if name in encoded:
            parts.append(f"<h2>{title}</h2><p class=note>{text}</p>")
            parts.append(f'<img alt="{title}" src="data:image/png;base64,{encoded[name]}">')
        else:
            parts.append(f"<h2>{title}</h2><p class=note>{_MISSING.get(name, 'No trial finished yet.')}</p>")
    parts.append(f"<h2>Trials</h2>{_table(logbook.rows, space)}")
    head = f"<meta charset=utf-8><title>{html.escape(config.out.name)}: hyperparameter search</title>"
    body = "".join(parts)
    return f"<!doctype html><html lang=en><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>\n"


def _about(config: SearchConfig, logbook: Logbook, space: Space) -> str:
    rows = logbook.rows
    counts = ", ".join(f"{sum(r.state == state for r in rows)} {state}" for state in STATES)
    epochs = sum(row.epochs for row in rows if row.state != "failed")
    planned = sum(config.epochs for row in rows if row.state != "failed")
    facts = {
        "data": config.data,
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
    lines = "".join(f"<tr><th class=text>{k}<td class=text style='white-space:normal'>{html.escape(str(v))}"
                    for k, v in facts.items())  # fmt: skip
    made = time.strftime("%F %T %Z")
    return f"<table>{lines}</table><p class=note>Made {made}. {_test_split(config.out / CLAIM)}</p>"


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


def _table(rows: Sequence[Row], space: Space) -> str:
    best, papers, on_front = chosen(rows), papers_choice(rows), {row.trial for row in front(rows)}
    heads = ["MSE", "1 − LDS/att.", *space, "epochs", "s"]
    head = "<th>trial<th class=text>state" + "".join(f"<th>{name}" for name in heads)
    body = []
    for row in sorted(rows, key=lambda row: row.trial):
        mse, gap = ("", "") if row.objectives is None else (f"{row.objectives.mse:.3g}", f"{row.objectives.gap:.3f}")
        values = row.values(".4g")
        cells = [mse, gap, *(values[name] for name in space), f"{row.epochs}", f"{row.ended - row.started:.0f}"]
        marks = {"chosen": row is best, "the paper's rule": row is papers, "front": row.trial in on_front}
        state = "; ".join([row.state, *(mark for mark in marks if marks[mark]), *filter(None, [row.reason])])
        kind = "chosen" if row is best else "front" if row.trial in on_front else ""
        text = "".join(f"<td>{html.escape(cell)}" for cell in cells)
        body.append(f"<tr class='{kind}'><td>{row.trial}<td class='text reason'>{html.escape(state)}{text}")
    return f"<div class=wide><table><tr>{head}{''.join(body)}</table></div>"
