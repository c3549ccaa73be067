"""The verdict on a candidate, from the numbers alone: one of five, and a sentence with what it rests on."""

import math
from collections.abc import Mapping
from typing import Any

Numbers = Mapping[str, Any]

OLD = 0.05
"""R^2 from which the auxiliary variables are said to tell of a candidate."""
LEAST = 0.01
"""Gain in R^2 below which nothing is said to be added, however surely."""
WHOLE = 0.9
"""R^2 of the auxiliary variables from which nothing is said of the rest."""
_NAMED = 0.1
"""Share of what auxiliary variables, or latents, tell together from which one of them is named."""
FEW = 200
"""Objects in test images below which a warning stands beside the verdict."""

VERDICTS = {
    "adds": "adds independent variation",
    "already": "already in the auxiliary variables",
    "both": "partly both",
    "unseen": "not seen in the images",
    "missed": "the code does not hold it although the images do",
}


def verdict(found: Numbers, level: float) -> str:
    """A key of VERDICTS.

    A test says that something is added beyond the auxiliary variables where p < level / 2, for there are two: of the
    residual latents, and of the reader of images; and where the gain is at least `LEAST`.
    """
    old = found["others"]["r2"]["value"] >= OLD and found["others"]["r2"]["low"] > 0
    if added(found["beyond"]["residual"], level):
        return "both" if old else "adds"
    if added(found["beyond"]["reader"], level):
        return "missed"
    return "already" if old else "unseen"


def added(found: Numbers | None, level: float) -> bool:
    """Whether something is told beyond the auxiliary variables."""
    return found is not None and found["p"] < level / 2 and found["gain"]["value"] >= LEAST


def in_words(name: str, found: Numbers, level: float) -> str:
    """`NAME: VERDICT: …`, with the numbers."""
    kind = verdict(found, level)
    said = {"adds": _adds, "already": _already, "both": _both, "unseen": _unseen, "missed": _missed}
    return f"{name}: {said[kind](found, level)}"


def cautions(found: Numbers) -> list[str]:
    """What makes a verdict less sure than it reads."""
    lines = []
    if (n := found["test_objects"]) < FEW:
        of = f"{found['images']['test']} test images" + f" of {n} objects" * (n < found["images"]["test"])
        lines.append(f"only {of}: what adds little may be missed")
    if found["reader"] is None:
        lines.append("no reader of images, for there are too few training images: only the code was asked")
    forest = found["others"]["missed"]
    if forest["low"] > 0 and forest["value"] >= LEAST:
        lines.append(
            f"a random forest finds {interval(forest)} of its variance in the auxiliary variables that the regressions "
            "of the test miss: such may count as added, or as missed by the code"
        )
    if found["label_errors"]:
        lines.append(
            f"labels of {', '.join(found['label_errors'])} have errors: what a candidate tells of the true value "
            "beyond the label counts as added"
        )
    return lines


def _adds(found: Numbers, level: float) -> str:
    return f"{VERDICTS['adds']}: {_code(found)}; the auxiliary variables tell {_r2(found['others'])}"


def _both(found: Numbers, level: float) -> str:
    return f"{VERDICTS['both']}: already in {_others(found)} (R² {_r2(found['others'])}); and {_code(found)}"


def _already(found: Numbers, level: float) -> str:
    told = found["others"]["r2"]["value"]
    said = f"already in {_others(found)} (R² {_r2(found['others'])})"
    rest = (
        ""
        if told >= WHOLE
        else f"; what these regressions do not tell of it, {1 - told:.2f}, is not found in the code either"
    )
    return said + rest + f"; beyond them the code {_nothing(found['beyond']['residual'], level)}"


def _unseen(found: Numbers, level: float) -> str:
    parts = [f"the code {_nothing(found['beyond']['residual'], level)}"]
    if found["beyond"]["reader"] is not None:
        parts.append(f"a reader of the images {_nothing(found['beyond']['reader'], level)}")
        parts.append("it is noise, or hidden by noise")
    return f"{VERDICTS['unseen']}: {'; '.join(parts)}"


def _missed(found: Numbers, level: float) -> str:
    reader, code = found["beyond"]["reader"], found["beyond"]["residual"]
    old = found["others"]["r2"]["value"] >= OLD and found["others"]["r2"]["low"] > 0
    said = f"{VERDICTS['missed']}: beyond the auxiliary variables a reader of the images tells {_share(reader)} of its "
    said += f"variance ({_chance(reader)}), and the residual latents {_share(code)} ({_chance(code)})"
    said += f"; the auxiliary variables tell {_r2(found['others'])}" + f", {_others(found)}" * old
    if added(found["beyond"]["all"], level):
        said += f"; guided latents hold it: with them the code tells {_share(found['beyond']['all'])}"
    return said


def _code(found: Numbers) -> str:
    residual = found["beyond"]["residual"]
    held = [f"{int(z)} ({share:.0%})" for z, share in _largest(found["held_by"])]
    where = f", held by latent{'s' * (len(held) > 1)} {', '.join(held)}" if held else ""
    return f"the residual latents add {_share(residual)} of its variance ({_chance(residual)}){where}"


def _others(found: Numbers) -> str:
    """The auxiliary variables that tell of it, the first the most."""
    return ", ".join(name for name, _ in _largest(found["of_others"]))


def _largest(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    """Those that hold much, at least one, if any does."""
    ordered = sorted(((name, share) for name, share in shares.items() if share > 0), key=lambda pair: -pair[1])
    return [pair for number, pair in enumerate(ordered) if number == 0 or pair[1] >= _NAMED]


def _nothing(found: Numbers, level: float) -> str:
    if found["p"] < level / 2:
        return f"adds {_share(found)} ({_chance(found)}), under {LEAST:g} of its variance"
    return f"adds nothing that differs from chance ({_chance(found)}; {_share(found)})"


def _share(found: Numbers) -> str:
    return interval(found["gain"])


def _r2(found: Numbers) -> str:
    return interval(found["r2"])


def _chance(found: Numbers) -> str:
    return f"z {number(found['z'], 1)}, p {chance(found['p'])}"


def interval(score: Numbers) -> str:
    """`.41 [.36, .46]`."""
    return f"{number(score['value'])} [{number(score['low'])}, {number(score['high'])}]"


def number(value: float, digits: int = 2) -> str:
    """With so many digits behind the point, and no −0."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def chance(p: float) -> str:
    """A probability."""
    if math.isnan(p):
        return "–"
    return f"{p:.2g}" if p >= 1e-12 else "< 1e-12"
