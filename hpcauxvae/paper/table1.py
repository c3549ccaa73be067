"""Table 1: LDS (10) and SAP of each method and galaxy case, the paper's numbers beside those of finished runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpcauxvae.paper.runs import Found, galaxy_run

PAPER: dict[tuple[int, str], tuple[float, float]] = {
    (1, "beta-vae"): (0.48, 0.39),
    (1, "aux-vae"): (0.88, 0.81),
    (2, "aux-vae"): (0.94, 0.89),
    (3, "aux-vae"): (0.81, 0.84),
}
"""(LDS, SAP) by case and model, as printed."""

_COLUMNS = (
    *("case", "model", "objective", "set", "n"),
    *("LDS over dz (attainable)", "LDS over d (attainable)", "SAP", "paper: LDS (SAP)", "run"),
)


def _row(case: int, model: str, objective: str, run: Found, name: str, scores: dict[str, Any]) -> str:
    def cell(score: dict[str, Any]) -> str:
        text = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        return f"{text} ({score['attainable']:.3f})" if "attainable" in score else text

    published = PAPER.get((case, model))
    paper = f"{published[0]:.2f} ({published[1]:.2f})" if published else ""
    cells = [cell(scores[key]) for key in ("lds", "lds_d", "sap")]
    fields = [str(case), model, objective, name, str(scores["lds"]["n"]), *cells, paper, run.folder.name]
    return _line(fields)


def _line(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |"


def draw(runs: list[Found], folder: Path, out: Path) -> list[Path]:
    """Writes table1.md: a row for each evaluated set of each galaxy run below `folder`."""
    rows = [_line(_COLUMNS), _line("---" for _ in _COLUMNS)]
    for case in (1, 2, 3):
        for model in ("beta-vae", "aux-vae"):
            for objective in ("paper", "tuned"):
                run = galaxy_run(runs, case, model, objective)
                if run:
                    sets = run.metrics["sets"].items()
                    rows += [_row(case, model, objective, run, name, block["codes"]) for name, block in sets]
    path = out / "table1.md"
    path.write_text("\n".join(rows) + "\n")
    print(path.read_text(), end="")
    return [path]
