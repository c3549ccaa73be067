"""The page of one run, or of several side by side: `hpcauxvae report RUN [RUN ...]`.

What is on it comes from the files of the runs; scores are none that `evaluate` and `compare` did not compute.
"""

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from hpcauxvae import __version__
from hpcauxvae.report import facts, tables
from hpcauxvae.report.covered import covered
from hpcauxvae.report.folder import Found, read
from hpcauxvae.report.look import rendered
from hpcauxvae.report.pictures import Figure, encoded, figures
from hpcauxvae.report.tables import Cell, Table
from hpcauxvae.report.verdict import Verdict, verdict
from hpcauxvae.report.words import PICTURES, Words
from hpcauxvae.runtime.files import write_text
from hpcauxvae.types import InputError

Block = dict[str, Any]
REPORT = "report.html"


class Shown(NamedTuple):
    """Of a run, in a part of the page."""

    figures: list[Figure]
    tables: list[Table]


class OfSet(NamedTuple):
    """What is said of a set of images."""

    name: str
    about: str
    verdict: Verdict
    scores: list[Table]


class Told(NamedTuple):
    """A run, as the template wants it."""

    name: str
    folder: str
    facts: list[tuple[str, str]]
    factors: Table
    settings: Table
    sets: list[OfSet]
    shown: dict[str, Shown]


class Part(NamedTuple):
    """Of the page, behind the scores."""

    id: str
    words: Words


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Several runs side by side."""

    lines: list[str]
    tables: list[Table]
    figures: list[Figure]


def write(out: Path, runs: Sequence[Told], compared: Compared | None = None, explorer: str = "") -> Path:
    """Writes the page, in one step. explorer: as in `page`."""
    write_text(out, page(runs, compared, explorer))
    return out


def page(runs: Sequence[Told], compared: Compared | None = None, explorer: str = "") -> str:
    """The page as HTML. explorer: a fragment of HTML, which is put in as it is; empty for none."""
    shown = [kind for kind in PICTURES if any(any(run.shown[kind]) for run in runs)]
    names = ", ".join(run.name for run in runs)
    return rendered(
        "run.html",
        title=f"Run {names}" if len(runs) == 1 else f"Runs {names}",
        about="What a trained model knows, what it does not, and whether to trust it.",
        runs=runs,
        compared=compared,
        explorer=Markup(explorer),
        parts_of_page=[Part(kind, PICTURES[kind]) for kind in shown],
        missing=[PICTURES[kind] for kind in PICTURES if kind not in shown and any(run.sets for run in runs)],
        made=f"Made {time.strftime('%Y-%m-%d %H:%M %Z')} by hpcauxvae {__version__}.",
    )


def told(found: Found, name: str = "", draw: bool = True) -> Told:
    """What the page says of a run. name: that of its folder if not given; draw: as in `figures`."""
    sets = [OfSet(key, _about(key, block), verdict(block), tables.scores(block)) for key, block in found.sets.items()]
    return Told(
        name=name or _named(found.folder.resolve()),
        folder=str(found.folder),
        facts=facts.facts(found),
        factors=facts.factors(found),
        settings=facts.settings(found.config),
        sets=sets,
        shown={kind: _shown(found, kind, draw) for kind in PICTURES},
    )


def _named(folder: Path) -> str:
    """Its own name, and that of the folder above where it is `run`, which says nothing."""
    return f"{folder.parent.name}/{folder.name}" if folder.name == "run" and folder.parent.name else folder.name


def of_run(folder: Path, results: Path | None = None, draw: bool = True, data: Path | None = None) -> Told:
    """`told` of the run in a folder. Raises InputError where it, or what `evaluate` wrote, cannot be read."""
    found = read(folder, results, data)
    try:
        return told(found, draw=draw)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        remedy = f"`hpcauxvae evaluate {folder}` writes its scores anew"
        raise InputError(f"{folder}: cannot be told of: {type(error).__name__} {error}; {remedy}") from error


def _about(name: str, block: Block) -> str:
    """What was scored."""
    n = block.get("samples", block["images"]["mse"]["n"])
    what = "test images" if name == "test" else f"{name} images"
    folds = f" of {block['folds']} folds" if block.get("folds") else ""
    return (
        f"{n:,} {what}{folds}, {block['data']}, at epoch {block['training']['epoch']} of {block['training']['epochs']}."
    )


_OF_BLOCK = {"control": tables.control, "leakage": tables.leakage}


def _shown(found: Found, kind: str, draw: bool) -> Shown:
    if kind == "calibration":
        return Shown(*covered(found))
    return Shown(figures(found, kind, draw), _tables(found, kind))


def _tables(found: Found, kind: str) -> list[Table]:
    if kind == "sobol":
        return tables.sobol(found.sensitivity or {})
    if kind not in _OF_BLOCK:
        return []
    several = len(found.sets) > 1
    return [
        given._replace(caption=f"{given.caption}, {name}") if several else given
        for name, block in found.sets.items()
        for given in _OF_BLOCK[kind](block)
    ]


def compared(found: Block) -> Compared:
    """From what `compare` returns: a table for each set of images, what it says in words, and its picture."""
    from hpcauxvae.evaluate.compared import sense, spoken
    from hpcauxvae.evaluate.comparison_picture import comparison

    names = [run["name"] for run in found["runs"]]
    lines = [
        f"{run['name']} differs from {names[0]} in {', '.join(run['differs'])}."
        for run in found["runs"]
        if run["differs"]
    ]
    made = []
    for name, block in found["sets"].items():
        rows = []
        for score, of in block["scores"].items():
            cells = [tables.cell(of["values"][0])]
            for number in range(1, len(names)):
                difference, word = of["differences"][number], sense(of, number)
                cells += [tables.cell(of["values"][number]), _difference(difference, word)]
            rows.append([Cell(spoken(score, of)), *cells])
        head = ["Score", names[0], *(words for other in names[1:] for words in (other, f"{other} less {names[0]}"))]
        what = f"{block['samples']:,} {'images that are test images of each run' if name == 'test' else 'fresh images'}"
        said = " ".join(f"{line}." for line in (*block["left_out"], block.get("compared"), *block["verdicts"]) if line)
        made.append(Table(f"Side by side on {what}", head, rows, said))
    with tempfile.TemporaryDirectory() as folder:
        comparison(found, path := Path(folder) / "compared.png")
        source, size = encoded(path)
    alt = f"A panel for each score with a line for each of {', '.join(names)}: intervals, and those of differences."
    return Compared(lines=lines, tables=made, figures=[Figure(source, alt, "", size)])


def _difference(difference: Block | None, word: str) -> Cell:
    if not tables.known(difference):
        return Cell("")
    assert difference is not None
    sign = "+" * (difference["value"] > 0)
    return Cell(f"{sign}{tables.number(difference['value'])} {word}".rstrip(), tables.interval(difference))
