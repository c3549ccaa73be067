"""The verdict on a run in words: whether to trust it, what it knows, and the findings of `evaluate`, gravest first."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from hpcauxvae.evaluate.baselines import PLAIN
from hpcauxvae.evaluate.by_factor import in_words
from hpcauxvae.evaluate.verdicts import LOOKED_AT
from hpcauxvae.report.tables import known, number

Block = dict[str, Any]

REMARKS = (
    "cannot be judged", "too few to tell", "of its ceiling:", "a perfect code has an LDS",
    "the noise of the file is larger", "is read better in images that were asked for", "no score tells",
    "a little above it", "together tell a little of", "draw nothing: the images", "draws nothing: the images",
)  # fmt: skip
"""Findings with these words say what cannot be told, or explain a number."""
GRAVE = (
    "have all labels of training images", "equal images", "labels may be of other images",
    "is not read", "is off: its means", "is reversed", "does not steer the image", "hardly steers the image",
    "steers the image backwards", "is not what the same", "draws the mean image", "worse than the mean image",
    "unlike all real ones", "these are its scores so far", "the training was short",
)  # fmt: skip
"""Findings with these words mean that something asked for is not there, or that its scores are not to be believed."""


_COPIES = re.compile(r"(\d+) of (\d+) (?:test|fresh) images are training images, too")
MANY = 0.05
"""Share of images that are scored and were trained on above which scores are not to be believed."""


class Finding(NamedTuple):
    """A line of `evaluate`."""

    text: str
    weight: str
    """grave, care or remark."""


class Verdict(NamedTuple):
    """On one set of images."""

    weight: str
    """Of the gravest finding; good where there is none but remarks."""
    said: str
    """Whether to trust the model, in a sentence."""
    knows: list[str]
    """What speaks for it, in figures."""
    findings: list[Finding]
    """Gravest first."""
    looked_at: list[str]
    """What was looked at."""


_SAID = {
    "grave": "Do not trust this model as it is",
    "care": "Use this model with care",
    "good": "Nothing was found that speaks against this model",
}
_UNJUDGED = "Nothing was found that speaks against this model, but not all of it could be judged"
_OPEN = ("cannot be judged", "no score tells", "too few to tell")
"""Remarks with these words leave something open."""
_UNSCORED = "no factor was scored: hardly any of these images has its labels"
_UNASKED = "Nothing was found that speaks against this model, but whether factors steer the image was not looked at"
"""As after `evaluate --no-control`."""
_UNTOLD = "Only its images are judged: it was told of no factor, so nobody knows what its latents mean"
"""Of a model without guided latents in which nothing else is amiss."""


def weigh(line: str) -> str:
    """The weight of a finding."""
    if copies := _COPIES.search(line):
        return "grave" if int(copies[1]) > MANY * int(copies[2]) else "care"
    if any(words in line for words in REMARKS):
        return "remark"
    return "grave" if any(words in line for words in GRAVE) else "care"


def verdict(block: Block) -> Verdict:
    """From the block of a set in metrics.json."""
    lines = [line for line in block.get("verdicts", []) if not line.startswith("no finding")]
    if block["latents"]["guided"] and not (block.get("reading") or block.get("factors")):
        lines.append(_UNSCORED)
    order = ("grave", "care", "remark")
    findings = sorted((Finding(line, weigh(line)) for line in lines), key=lambda one: order.index(one.weight))
    counts = {weight: sum(one.weight == weight for one in findings) for weight in order}
    weight = next((weight for weight in ("grave", "care") if counts[weight]), "good")
    names = {"grave": "grave finding", "care": "other finding" if counts["grave"] else "finding", "remark": "remark"}
    told = [f"{n} {names[kind]}{'s' * (n > 1)}" for kind, n in counts.items() if n]
    said = _SAID[weight]
    if weight == "good" and not block["latents"]["guided"]:
        said = _UNTOLD
    elif weight == "good" and any(words in line for words in _OPEN for line in lines):
        said = _UNJUDGED
    elif weight == "good" and not block.get("control"):
        said = _UNASKED
    said += f": {_listed(told)}." if told else "."
    looked_at = [what for key, what in LOOKED_AT.items() if block.get(key)]
    against = [one.text for one in findings if one.weight != "remark" or any(words in one.text for words in _OPEN)]
    return Verdict(weight, said, _knows(block, against), findings, looked_at)


def _knows(block: Block, findings: Sequence[str]) -> list[str]:
    """A line for each guided factor that no finding names, then the images, then the residual latents."""
    told = []
    whole = block.get("factors", {})
    of_whole = {column for of in whole.values() for column in of["columns"]}
    unlike = any("what the same" in finding for finding in findings)  # then what a reader finds in it says little
    asked = {} if unlike else block.get("control") or {}
    for name, of in whole.items():
        steers = asked.get("factors", {}).get(name)
        drawn = f"; what is asked for is drawn: {in_words(steers['asked'], of)}" if steers else ""
        told.append((name, f"{name} is read: {in_words(of['latents'], of)}{drawn}"))
    for name, of in block.get("reading", {}).items():
        if name not in of_whole and known(of["r"]):
            effect = (asked.get("effectiveness") or {}).get(name)
            drawn = f"; what is asked for is drawn (r = {number(effect['asked']['r']['value'])})" if effect else ""
            error = f"{number(of['error']['value'])} {of['unit']}".rstrip()
            told.append((name, f"{name} is read to {error} (r = {number(of['r']['value'])}){drawn}"))
    lines = [line for name, line in told if not any(_names(name, finding) for finding in findings)]
    poor = any("mean image" in finding or "images are worse" in finding for finding in findings)
    return [*lines, *([] if poor else _of_images(block)), *_of_latents(block)]


def _names(name: str, finding: str) -> bool:
    """Whether a finding is on how a factor is read or drawn; what other latents tell of it is none of that."""
    of = rf"(?:^(?:fold \d+: )?(?:the latent of )?|an offset of |of class .* of ){re.escape(name)}(?!\w)"
    return re.search(of, finding) is not None


def _of_images(block: Block) -> list[str]:
    told, names = [], PLAIN | {"pca": f"{PLAIN['pca']} with {block['latents']['of']} components"}
    for score in ("ssim", "mse"):
        if known(block["images"].get(score)):
            plain = [
                f"{words} {number(block['baselines'][key][score]['value'])}"
                for key, words in names.items()
                if known(block["baselines"].get(key, {}).get(score))
            ]
            told.append(f"{score.upper()} {number(block['images'][score]['value'])} ({', '.join(plain)})")
    return [f"images are drawn with {' and '.join(told)}"] if told else []


def _of_latents(block: Block) -> list[str]:
    """How many of the residual latents hold something."""
    found = block["latents"]
    residual = found["of"] - found["guided"]
    idle = [*found["off"], *found.get("still", ())]
    in_use = residual - sum(number > found["guided"] for number in idle)
    if not found["guided"]:
        return [f"{in_use} of {residual} latents are in use; none was told of a factor"]
    follow = [
        f"latent {key} follows {of['factor']} (r = {of['r']:.2f})" for key, of in found.get("follows", {}).items()
    ]
    said = f"{in_use} of {residual} residual latents, for what the model was not told, are in use"
    return ["; ".join([said, *follow])] if in_use else []


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
