"""The page of an audit, audit.html: one file that can be mailed and needs no network."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from hpcauxvae import __version__
from hpcauxvae.audit.verdict import FEW, LEAST, OLD, VERDICTS, chance, interval, number
from hpcauxvae.report.look import rendered
from hpcauxvae.report.pictures import Figure, encoded
from hpcauxvae.report.tables import NONE, Cell, Table
from hpcauxvae.runtime.files import write_text

_WEIGHTS = {"adds": "good", "both": "good", "already": "good", "unseen": "good", "missed": "grave"}
_HOW = (
    "R² of test images; brackets are 95 % intervals. In the code: told by all latents together. By a reader: told by a "
    "network that looks at images alone. In the others: told by the auxiliary variables. Added: what the latents that "
    "are not guided tell beyond them; p is the probability of as much by chance."
)


class Shown(NamedTuple):
    """A candidate, as the template wants it."""

    name: str
    weight: str
    verdict: str
    words: str
    cautions: list[str]
    likelihood: str
    tables: list[Table]
    figures: list[Figure]


def write(out: Path, found: dict[str, Any]) -> None:
    """Writes the page of what audit.json holds, in one step, with the pictures that lie beside it."""
    candidates = [_shown(out, name, of) for name, of in found["candidates"].items()]
    overview = out / "audit" / "overview.png"
    text = rendered(
        "audit.html",
        title=f"Audit of {', '.join(found['candidates'])}",
        about="Is a measurement already in the auxiliary variables, does it add independent variation to the images, "
        "or is it not in the images at all?",
        candidates=candidates,
        overview=[_figure(overview, _alt(found))] if overview.is_file() and found["settings"]["pictures"] else [],
        whole=_whole(found),
        facts=_facts(found),
        copies=found["copies"],
        limits=[
            f"Of the candidates that add nothing, a share of {found['level']:g} is taken for more by chance, on "
            f"average; of ten candidates that makes {10 * found['level']:g}. It is more where a candidate follows from "
            "the auxiliary variables in a way that the regressions miss.",
            f"Auxiliary variables tell of a candidate from R² {OLD:g} on; what adds less than {LEAST:g} of the "
            f"variance is not said to add. Below {FEW} test images, or objects, much is missed.",
            "What is not seen may be there: behind noise, or in what neither the code nor the reader has learned.",
        ],
        made=f"Made {time.strftime('%Y-%m-%d %H:%M %Z')} by hpcauxvae {__version__}.",
    )
    write_text(out / "audit.html", text)


def _figure(path: Path, alt: str) -> Figure:
    source, size = encoded(path)
    return Figure(source, alt, "", size)


def _alt(found: dict[str, Any]) -> str:
    said = "; ".join(f"{name}: {VERDICTS[of['verdict']]}" for name, of in found["candidates"].items())
    return f"A bar for each candidate with the parts of its variance: {said}."


def _shown(out: Path, name: str, of: dict[str, Any]) -> Shown:
    picture = out / of.get("picture", "")
    alt = f"The mean image with less and with more of what {name} adds, and the difference."
    return Shown(
        name=name,
        weight=_WEIGHTS[of["verdict"]] if of["verdict"] == "missed" or not of["cautions"] else "care",
        verdict=VERDICTS[of["verdict"]],
        words=of["words"],
        cautions=of["cautions"],
        likelihood=of["likelihood"]["words"] if of["likelihood"] else "",
        tables=[_of_beyond(of), *_of_shares(of)],
        figures=[_figure(picture, alt)] if "picture" in of else [],
    )


def _told(of: dict[str, Any] | None) -> Cell:
    if of is None:
        return Cell(NONE)
    right = (
        f"; {of['accuracy']['value']:.2f} of the classes right, {of['chance']:.2f} by chance" if "chance" in of else ""
    )
    r2 = of["r2"]
    return Cell(number(r2["value"]), f"[{number(r2['low'])}, {number(r2['high'])}]{right}")


def _whole(found: dict[str, Any]) -> Table:
    rows = []
    for name, of in found["candidates"].items():
        residual = of["beyond"]["residual"]
        told = [_told(of["latents"]), _told(of["reader"]), _told(of["others"])]
        added = [_told({"r2": residual["gain"]}), Cell(chance(residual["p"])), Cell(VERDICTS[of["verdict"]])]
        rows.append([Cell(name, of["kind"]), *told, *added])
    head = ["Candidate", "in the code", "by a reader", "in the others", "added", "p", "verdict"]
    return Table("All candidates", head, rows, _HOW)


def _of_beyond(of: dict[str, Any]) -> Table:
    names = {"residual": "the residual latents", "all": "all latents", "reader": "the reader of images"}
    rows = [
        [Cell(text), Cell(interval(one["gain"])), Cell(number(one["z"])), Cell(chance(one["p"]))]
        for key, text in names.items()
        if (one := of["beyond"][key]) is not None
    ]
    return Table("Told beyond the auxiliary variables", ["By", "gain in R²", "z", "p"], rows)


def _of_shares(of: dict[str, Any]) -> list[Table]:
    found = []
    for key, caption, head in (
        ("of_others", "Which auxiliary variables tell of it", "Variable"),
        ("held_by", "Which latents hold what is added", "Latent"),
    ):
        rows = [[Cell(name), Cell(f"{share:.0%}")] for name, share in of[key].items() if share >= 0.005]
        told = of["others"]["r2"]["value"] >= OLD if key == "of_others" else of["verdict"] in ("adds", "both")
        if rows and told:
            found.append(Table(caption, [head, "share"], rows))
    return found


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    latents = found["latents"]
    images = "; ".join(
        f"{name}: " + ", ".join(f"{count:,} {part}" for part, count in of["images"].items())
        for name, of in found["candidates"].items()
    )
    return [
        ("Run", found["run"]),
        ("Data", found["data"]),
        ("Auxiliary", ", ".join(found["aux"])),
        ("Latents", f"{latents['of']}, {latents['guided']} guided; {latents['residual_in_use']} others are in use"),
        ("Images", images),
        ("Level", f"{found['level']:g} for each candidate"),
    ]  # fmt: skip
