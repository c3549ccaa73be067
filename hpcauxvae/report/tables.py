"""The scores of a set as tables for the page: values with intervals, ceilings, and what each of them says."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hpcauxvae.data.lettering import minus
from hpcauxvae.evaluate.baselines import PLAIN
from hpcauxvae.evaluate.by_factor import in_words, of_classes, score_of, without_classes
from hpcauxvae.report import words

Block = dict[str, Any]
NONE = "–"
"""In place of a score that there is none of."""


class Cell(NamedTuple):
    """Of a table."""

    text: str
    below: str = ""
    """In small letters."""


class Table(NamedTuple):
    """The first column has the names of the rows."""

    caption: str
    head: list[str]
    rows: list[list[Cell]]
    words: str = ""
    """How to read it."""


def scores(block: Block) -> list[Table]:
    """The scores of codes and images beside their ceilings, and how each guided factor is read."""
    found = [Table("Scores beside their ceilings", _HEAD, [*_codes(block), *_images(block), _latents(block)])]
    if rows := list(_reading(block)):
        head = ["Factor", "r", "slope", "error", "after a fit", "ridge regression: r", "error"]
        found.append(Table("How each guided factor is read", head, rows, words.READING))
    if rows := list(_own_terms(block)):
        head = ["Factor", "read", "ridge regression", "by chance"]
        found.append(Table("Angles and classes", head, rows, words.IN_OWN_TERMS))
    return found


def control(block: Block) -> list[Table]:
    """What the reader finds beside what was asked for, and the distances of counterfactual images."""
    found = block.get("control") or {}
    rows = []
    for name, of in (found.get("effectiveness") or {}).items():
        if name not in of_classes(block):
            pairs = [(of[part].get("r"), of[part].get("slope"), of[part].get("error")) for part in ("asked", "real")]
            rows.append([Cell(name, of.get("unit", "")), *(cell(one) for pair in pairs for one in pair)])
    for name, of in found.get("factors", {}).items():
        told = [Cell(in_words(of[part], of), interval(score_of(of[part]))) for part in ("asked", "real")]
        rows.append([Cell(name, "as a whole"), Cell(""), Cell(""), told[0], Cell(""), Cell(""), told[1]])
    head = ["Factor", "asked: r", "slope", "error", "real images: r", "slope", "error"]
    tables = [Table("Asked for and read", head, rows, words.CONTROL)] if rows else []
    named = (found.get("composition") or {}) | {name: found.get(name) for name in words.DISTANCES if name in found}
    rows = [
        [Cell(title, says), cell(named[name]), Cell(count(named[name]))]
        for name, (title, says) in words.DISTANCES.items()
        if named.get(name)
    ]
    said = words.BEFORE_VIEWS if block.get("views") else ""
    tables += [Table("What changes unasked", ["Distance", "value", "n"], rows, said)] if rows else []
    return [*tables, *_views(block)]


def _views(block: Block) -> Iterator[Table]:
    """What was asked for beside the true view of the same object."""
    if found := block.get("views"):
        rows = [
            [Cell(name), *(cell(found[by][key] if by in found else None) for by in ("ssim", "mse"))]
            for key, name in words.VIEWS.items()
        ]
        share = cell(found["share"])
        rows.append(
            [
                Cell("Share of the way", words.SHARE),
                *([share, Cell("")] if found["by"] == "ssim" else [Cell(""), share]),
            ]
        )
        rows += [[Cell(f"of {found['objects']} {name}"), cell(one), Cell("")] for name, one in found["worst"].items()]
        caption = f"Beside the true view: {found['pairs']} pairs, {found['of']} values of {found['objects']}"
        yield Table(caption, ["Image", "SSIM", "MSE"], rows, words.TRUE_VIEW)


def leakage(block: Block) -> list[Table]:
    """What residual latents know of guided factors, and guided latents of others."""
    rows = []
    for name, of in without_classes(block, "joint", most=True).items():
        which = f"latent {of['single']['latent']}" if of["single"].get("latent") else ""
        r = of["single"]["r"]
        alone = Cell(number(r["value"]), ", ".join(filter(None, (interval(r), which))))
        rows.append([Cell(name), *(cell(of[key]) for key in ("means", "samples", "chance")), alone])
    found = block.get("random_features")
    if found:
        of_all = [Cell("functions of all", "root mean squared correlation"), cell(found["rms"])]
        rows.append([*of_all, Cell(""), Cell(number(found["floor"])), Cell("")])
    head = ["Guided factor", "from means", "from draws of z", "by chance", "largest r of one latent"]
    tables = [Table("What the residual latents know", head, rows, words.JOINT)] if rows else []
    leaks = block.get("codes", {}).get("leakage", {}).get("hidden_from_aux", {}) if block.get("reading") else {}
    rows = [[Cell(name), cell(score), Cell(count(score))] for name, score in leaks.items()]
    head = ["Other factor", "R²", "n"]
    return [*tables, *([Table("What the guided latents know of others", head, rows, words.HIDDEN)] if rows else [])]


def sobol(found: Mapping[str, Any]) -> list[Table]:
    """sensitivity.json: a row for each input, first and total index of each statistic."""
    indices = found.get("indices", {})
    inputs = list(next(iter(indices.values()), {}))
    rows = [[Cell(name), *(_shares(indices[statistic][name]) for statistic in indices)] for name in inputs]
    said = " ".join(f"{line}." for line in found.get("remarks", ()))
    return [Table("Shares of variance, first / total", ["Input", *indices], rows, said)] if rows else []


def _shares(of: Block) -> Cell:
    both = [of[kind] for kind in ("first", "total")]
    spread = " / ".join(f"±{(score['high'] - score['low']) / 2:.2f}" for score in both)
    return Cell(minus(" / ".join(f"{score['value']:z.2f}" for score in both)), spread)


_HEAD = ["Score", "value", "ceiling", "share of it", "n"]


def _row(name: str, says: str, score: Block, ceiling: float | None = None) -> list[Cell]:
    share = Cell("")
    if ceiling and math.isfinite(ceiling):
        ends = interval({**score, **{end: score[end] / ceiling for end in ("low", "high")}})
        share = Cell(number(score["value"] / ceiling), ends)
    return [Cell(name, says), cell(score), Cell(number(ceiling) if ceiling else ""), share, Cell(count(score))]


def _codes(block: Block) -> Iterator[list[Cell]]:
    codes = block.get("codes", {})
    for key, (title, says) in words.SCORES.items():
        name, _, part = key.partition(".")
        score = codes.get(name, {}).get(part) if part else codes.get(name)
        if score and "value" in score:
            yield _row(title, says, score, score.get("attainable"))


def _images(block: Block) -> Iterator[list[Cell]]:
    ceiling = block.get("noiseless", {})
    for key in ("ssim", "ssim_range_1", "mse", "chi2"):
        if key not in block["images"]:
            continue
        top = ceiling[key]["value"] if key.startswith("ssim") and key in ceiling else None
        yield _row(*words.SCORES[key], block["images"][key], top)
        for plain, name in PLAIN.items():
            if key != "ssim_range_1" and key in block["baselines"].get(plain, {}):
                yield _row(f"{words.SCORES[key][0]}: {name}", "", block["baselines"][plain][key])


def _latents(block: Block) -> list[Cell]:
    found = block["latents"]
    most = f" to {found['most_in_use']}" if found.get("most_in_use", found["in_use"]) > found["in_use"] else ""
    says = (
        "A latent is off where its means hardly vary beside the spread of z, and draws nothing where no pixel follows."
    )
    lists = (("off", found["off"]), ("draw nothing", found.get("still", [])))
    off = "; ".join(f"{words}: {', '.join(map(str, numbers))}" for words, numbers in lists if numbers) or "none is off"
    of = Cell(f"{found['in_use']}{most} of {found['of']}", off)
    return [Cell("Latents in use", says), of, Cell(""), Cell(""), Cell("")]


def _reading(block: Block) -> Iterator[list[Cell]]:
    for name, of in without_classes(block, "reading").items():
        plain = of.get("regressor", {})
        own = [cell(of.get(key)) for key in ("r", "slope", "error", "error_fitted")]
        yield [Cell(name, of.get("unit", "")), *own, cell(plain.get("r")), cell(plain.get("error"))]
        if true := of.get("true"):
            own = [cell(true.get(key)) for key in ("r", "slope", "error")]
            yield [Cell(f"{name}, true", words.TRUE), *own, Cell(""), Cell(""), Cell("")]


def _own_terms(block: Block) -> Iterator[list[Cell]]:
    for name, of in block.get("factors", {}).items():
        told = [Cell(in_words(of[by], of), interval(score_of(of[by]))) for by in ("latents", "regressor")]
        kind = f"{of['classes']} classes" if of["classes"] else of["kind"]
        yield [Cell(name, kind), *told, Cell(number(of["chance"]))]


def known(score: Block | None) -> bool:
    """Whether there is a number."""
    return score is not None and isinstance(score.get("value"), int | float) and math.isfinite(score["value"])


def cell(score: Block | None) -> Cell:
    """A value with its interval below; empty without a score, a dash where it is NaN."""
    if score is None:
        return Cell("")
    return Cell(number(score["value"]), interval(score)) if known(score) else Cell(NONE)


def number(value: float | None) -> str:
    """Three digits behind the point, or three that count; with a minus sign as it is printed."""
    if value is None or not math.isfinite(value):
        return NONE
    form = ".3f" if 0.1 <= abs(value) < 10 or value == 0 else ".3g" if abs(value) < 1000 else ",.0f"
    return minus(format(value, form))


def interval(score: Block) -> str:
    """`[.91, .94]`"""
    if not known(score):
        return ""
    return f"[{number(score['low'])}, {number(score['high'])}]"


def count(score: Block) -> str:
    """How many samples, with thousands."""
    return f"{score['n']:,}" if "n" in score else ""
