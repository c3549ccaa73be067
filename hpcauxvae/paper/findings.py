"""What LDS and SAP do not see of the runs of Table 1: how factors are read, steered and leaked, and the findings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcauxvae.paper.experiments import METHODS
from hpcauxvae.paper.runs import EvaluatedRun, Runs
from hpcauxvae.runtime.files import write_text
from hpcauxvae.types import InputError

_HEAD = """# Beside Table 1: read, steered, leaked

`r`, `slope`: of the guided latent's mean on its factor; `regressor`: r of ridge regression on PCA components of the
same images. `asked`: between the factor that an image is asked for, A's residual latents with the factors of B, and
what a reader trained on real images finds in it; `real`: what it finds in real ones. `R2`: of the factor from all
residual latents together, by boosted trees on samples of z; `chance`: the same with the factor shuffled.

| model | run | set | factor | r | slope | regressor | asked: r | slope | real: r | R2 | chance |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def draw(name: str, runs: Runs, out: Path) -> list[Path]:
    """Writes NAME.md: a row for each guided factor, and what the evaluations said. Raises InputError where none did."""
    scored = [
        (f"{METHODS[run.config.model]} | {run.folder.name} | {part}", block)
        for run in sorted(runs.values(), key=_order)
        for part, block in run.metrics["sets"].items()
        if block.get("reading")
    ]
    if not scored:
        raise InputError("no run with a reading of its guided factors; `hpcauxvae evaluate RUN` makes it")
    rows = [row for title, block in scored for row in _rows(title, block)]
    said = [
        f"\n{title.replace(' |', ',')}, n = {block['images']['ssim']['n']:,}; {_whole(block)}:\n\n"
        + "".join(f"- {line}\n" for line in block["verdicts"])
        for title, block in scored
    ]
    path = out / f"{name}.md"
    write_text(path, _HEAD + "\n".join(rows) + "\n\n# What the evaluations say\n" + "".join(said))
    return [path]


def _order(run: EvaluatedRun) -> tuple[str, int]:
    return run.kind, run.config.seed


def _rows(title: str, block: dict[str, Any]) -> Iterator[str]:
    steered = (block.get("control") or {}).get("effectiveness") or {}
    for name, read in block["reading"].items():
        asked, leaked = steered.get(name, {}), block.get("joint", {}).get(name, {})
        scores = (
            read["r"], read.get("slope"), read["regressor"]["r"], asked.get("asked", {}).get("r"),
            asked.get("asked", {}).get("slope"), asked.get("real", {}).get("r"), leaked.get("samples"),
            leaked.get("chance"),
        )  # fmt: skip
        cells = [f"{score['value']:.3f}" if score else "" for score in scores]
        yield f"| {' | '.join([title, name, *cells])} |"


def _whole(block: dict[str, Any]) -> str:
    """What is one number a run."""
    found = [f"{block['latents']['in_use']} of {block['latents']['of']} latents in use"]
    if features := block.get("random_features"):
        found.append(f"random features correlate by {features['rms']['value']:.4f} (chance {features['floor']:.4f})")
    named = ((name, (block.get("control") or {}).get(name)) for name in ("reversibility", "minimality"))
    found += [f"{name} {score['value']:.3f}" for name, score in named if score]
    return "; ".join(found)
