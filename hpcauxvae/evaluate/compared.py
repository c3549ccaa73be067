"""A comparison of runs as lines of text: what `hpcauxvae compare` prints, and what it says in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcauxvae.evaluate.compared_factors import shared
from hpcauxvae.metrics.paired import SHARE
from hpcauxvae.train.run import Run

Block = dict[str, Any]

IN_WORDS = {"lds": "LDS", "lds_mean": "LDS of means", "sap": "SAP", "ssim": "SSIM", "mse": "MSE"}
TOO_SMALL = "too small"
_OF_IMAGES = "intervals are of these images: a training with another seed may differ by more"


def named(folders: Sequence[Path]) -> list[str]:
    """A name for each run: that of its folder, or its path where two have the same."""
    names = [folder.resolve().name for folder in folders]
    return [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)]


def differing(first: Run, other: Run) -> list[str]:
    """What decided the training of a run, and was other in the first: `seed = 1 (0)`."""
    ours, its = (
        run.config.decisive() | {"data": run.state["fingerprint"][:8], "split": run.split} for run in (other, first)
    )
    both = shared([run.guides for run in (other, first)])
    if any(one.plain != another.plain for _, (one, another) in both):
        ours["labels"], its["labels"] = other.config.labels, first.config.labels
    if ours["objective"] != its["objective"]:
        for settings in (ours, its):
            del settings["resolved_objective"]
    else:
        ours, its = ({**one, **one.pop("resolved_objective")} for one in (ours, its))
    return [f"{name} = {value} ({its[name]})" for name, value in ours.items() if value != its[name]]


def table(found: Block) -> str:
    """What differs between the runs; then for each set the scores of each run beside those of the first."""
    first, *others = (run["name"] for run in found["runs"])
    lines = []
    for run in found["runs"]:
        less = f"{'; ' * bool(run['differs'])}{', '.join(run['differs'])}"
        lines.append(f"{run['name']}: {run['model']}, epoch {run['epoch']} of {run['epochs']}{less}")
    for name, block in found["sets"].items():
        of = " that are test images of each run" if name == "test" else ""
        lines.append(f"{name}: {block['data']}, {block['samples']} images{of}")
        lines += (f"  {line}" for line in (*block["left_out"], block.get("compared")) if line)
        for number, other in enumerate(others, start=1):
            wide = max(10, len(first), len(other)) + 2
            lines.append(f"  {'score':34}{first:>{wide}}{other:>{wide}}{'difference':>13}  95 % interval")
            for score, of_runs in block["scores"].items():
                lines += _row(score, of_runs, number, wide)
        lines += (f"  - {line}" for line in block["verdicts"])
    return "\n".join(lines)


def _row(name: str, of_runs: Block, number: int, wide: int) -> list[str]:
    """A line; none where neither run has the score, or the two have no difference that is worth a line."""
    values = [of_runs["values"][0], of_runs["values"][number]]
    difference = of_runs["differences"][number]
    if values == [None, None] or (difference is None and None not in values):
        return []
    cells = "".join(f"{'-' if score is None else format(score['value'], '.4g'):>{wide}}" for score in values)
    what = spoken(name, of_runs)
    if difference is None:
        return [f"  {what:34}{cells}"]
    interval = f"[{difference['low']:+.3g}, {difference['high']:+.3g}]"
    return [f"  {what:34}{cells}{difference['value']:+13.3g}  {interval:24} {sense(of_runs, number)}".rstrip()]


def spoken(name: str, of_runs: Block) -> str:
    """`error of radius [arcsec]`"""
    of, share = (name.removesuffix(SHARE), SHARE) if name.endswith(SHARE) else (name, "")
    unit = f" [{of_runs['unit']}]" if of_runs["unit"] else ""
    return IN_WORDS.get(of, of) + share + unit


def sense(of_runs: Block, number: int) -> str:
    """`better`, `worse`; `too small` of a difference that is not by chance, but surely too small to matter; or nothing
    where the difference from the first run may be 0, or there is none."""
    difference = of_runs["differences"][number]
    if difference is None or difference["low"] <= 0 <= difference["high"]:
        return ""
    if max(-difference["low"], difference["high"]) < of_runs.get("smallest", 0):
        return TOO_SMALL
    return "better" if (difference["value"] > 0) == (of_runs["better"] == "higher") else "worse"


def findings(names: Sequence[str], scores: Block) -> list[str]:
    """For each run but the first in what it is better, worse, other by too little, and no different; last what the
    intervals are of."""
    lines: list[str] = []
    for number, name in enumerate(names[1:], start=1):
        of: dict[str, list[str]] = {"better": [], "worse": [], TOO_SMALL: [], "": []}
        for score, of_runs in scores.items():
            if difference := of_runs["differences"][number]:
                word, value, low, high = sense(of_runs, number), *(difference[key] for key in ("value", "low", "high"))
                figures = f" ({value:+.2g} [{low:.2g}, {high:.2g}])" if word else ""
                of[word].append(spoken(score, of_runs) + figures)
        said = {
            "better": f"{name} is better than {names[0]} in",
            "worse": f"{name} is worse than {names[0]} in",
            TOO_SMALL: f"{name} and {names[0]} differ by too little to matter in",
            "": f"no difference between {name} and {names[0]} in",
        }
        lines += [f"{said[word]} {', '.join(found)}" for word, found in of.items() if found]
    return [*lines, _OF_IMAGES] if lines else []
