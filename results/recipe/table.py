"""The table of docs/method.md from the scores here: python results/recipe/table.py

A set has a folder for each seed (case1-0, case1-1, …). Mean over the seeds, and the worst where there are several.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETS = {
    "case1": "galaxies, case 1",
    "case2": "case 2",
    "case3": "case 3",
    "cars": "Cars3D, sound",
    "cars-raw": "Cars3D, raw",
    "dsprites": "dSprites, sound",
    "dsprites-raw": "dSprites, raw",
    "coil": "COIL-20, cosine and sine",
    "digits": "digits, slant and thickness",
}
AS_ASKED = 0.015
"""What r and slope may differ from 1 for 'as asked'."""


def number(value: float) -> str:
    """Without the leading zero, as in docs/method.md."""
    return f"{value:.3f}".replace("0.", ".", 1)


def spread(blocks: list[Any], of: Callable[[Any], float], worst: Callable[[list[float]], float] = min) -> str:
    """Mean, and the worst of several seeds in brackets."""
    values = [of(block) for block in blocks]
    mean = number(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({number(worst(values))})"


def steers(block: Any) -> str:
    """Each factor: r and slope of what was asked for, and in brackets of real images."""
    as_asked, others = [], []
    for name, found in block["control"]["effectiveness"].items():
        whats = [what for what in ("r", "slope") if what in found["asked"]]  # a periodic factor has no slope
        lines = {where: [found[where][what]["value"] for what in whats] for where in ("asked", "real")}
        if all(abs(value - 1) <= AS_ASKED for value in lines["asked"]):
            as_asked.append(name)
        else:
            asked, real = (" ".join(f"{value:.2f}".replace("0.", ".", 1) for value in lines[where]) for where in lines)
            others.append(f"{name} {asked} ({real})")
    return "; ".join([*([", ".join(as_asked) + " as asked"] if as_asked else []), *others])


def main() -> None:
    """Prints the table."""
    print("| set, seeds | LDS of its ceiling | of means | SAP | SSIM | R² | in use | steers (seed 0) |")
    print("|---|---|---|---|---|---|---|---|")
    for name, title in SETS.items():
        paths = sorted(Path(__file__).parent.glob(f"{name}-[0-9]/metrics.json"))
        if not paths:
            continue
        sets = [json.loads(path.read_text())["sets"] for path in paths]
        blocks = [found.get("fresh") or found["test"] for found in sets]
        cells = [
            f"{title}, {len(blocks)}",
            spread(blocks, lambda block: block["codes"]["lds"]["value"] / block["codes"]["lds"]["attainable"]),
            spread(blocks, lambda block: block["codes"]["lds_mean"]["value"] / block["codes"]["lds_mean"]["attainable"]),
            spread(blocks, lambda block: block["codes"]["sap"]["value"]),
            spread(blocks, lambda block: block["images"]["ssim"]["value"]),
            f"{max(told['samples']['value'] for block in blocks for told in block['joint'].values()):.2f}",
            ", ".join(str(block["latents"]["in_use"]) for block in blocks),
            steers(blocks[0]),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
