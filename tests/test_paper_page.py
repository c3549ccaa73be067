"""docs/paper.md says of Table 1 what results/paper/table1.json holds, and the recipes take the betas of betas.md."""

import json
from pathlib import Path

import numpy as np
import pytest

from hpcauxvae.paper.table1 import METHODS, TASKS, Task
from hpcauxvae.recipes import BETA

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text()
LINES = json.loads((ROOT / "results" / "paper" / "table1.json").read_text())["lines"]
MODELS = ("beta-vae", "idvae", "aux-vae")


def cell(lds: float, sap: float) -> str:
    return f"{lds:.2f} ({sap:.2f})".replace("0.", ".")


def line_of(task: Task, model: str) -> dict | None:
    """Of our own objective, on the largest set."""
    wanted = (task.data, task.case, task.variant, task.as_values, model, "fresh" if task.case else "test")
    fields = ("data", "case", "labels", "as_values", "model", "set")
    found = [line for line in LINES if tuple(line[name] for name in fields) == wanted]
    return next((line for line in found if line["objective"] in ("tuned", "bernoulli")), None)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)
def test_the_page_has_the_numbers_of_the_table(task: Task) -> None:
    found = [line_of(task, model) for model in MODELS]
    means = [
        cell(*(float(np.mean([one["value"] for one in line[score]])) for score in ("lds", "sap"))) if line else ""
        for line in found
    ]
    seeds = ", ".join(str(len(line["runs"])) if line else "–" for line in found)
    row = f"| {task.title} | ours, {seeds} | {' | '.join(means)} |"
    assert row in PAGE, f"docs/paper.md lacks the row\n{row}"
    if task.printed:
        printed = [cell(*task.printed[model]) if model in task.printed else "" for model in MODELS]
        assert f"| {task.title} | paper | {' | '.join(printed)} |" in PAGE


def test_the_betas_taken_are_those_of_the_rule() -> None:
    rows = [line.split(" | ") for line in (ROOT / "results" / "paper" / "betas.md").read_text().splitlines()]
    by_rule = {(row[0][2:], row[1]): float(row[3]) for row in rows if "our rule" in row[-1]}
    assert by_rule == {(data, METHODS[m]): beta for m, betas in BETA.items() for data, beta in betas.items()}
