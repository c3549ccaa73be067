"""docs/paper.md says of Table 1 what results/paper/table1.json holds; experiments.py takes the betas of betas.md."""

import itertools
import json

import numpy as np
import pytest

from helpers.places import ROOT
from hpcauxvae.metrics.pareto import choose
from hpcauxvae.paper.experiments import BETA, METHODS
from hpcauxvae.paper.table1 import TASKS, Task

PAGE = (ROOT / "docs" / "paper.md").read_text()
LINES = json.loads((ROOT / "results" / "paper" / "table1.json").read_text())["lines"]
MODELS = ("beta-vae", "idvae", "aux-vae")


def cell(lds: float, sap: float) -> str:
    return f"{lds:.2f} ({sap:.2f})".replace("0.", ".")


def line_of(task: Task, model: str) -> dict | None:
    """Of our own objective, on the largest set."""
    galaxies = task.data == "galaxies"
    case, labels = (int(task.labels[-1]), "raw") if galaxies else (None, task.labels)
    wanted = (task.data, case, labels, task.as_values, model, "fresh" if galaxies else "test")
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


def number(value: float, digits: int = 3) -> str:
    """As the page prints it: .981, 1.00."""
    return f"{value:.2f}" if value >= 0.995 else f"{value:.{digits}f}".removeprefix("0")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.title)
def test_the_page_says_what_aux_vae_reaches(task: Task) -> None:
    """LDS as a share of its ceiling, SAP, SSIM beside that of β-VAE."""
    ours, plain = line_of(task, "aux-vae"), line_of(task, "beta-vae")
    assert ours is not None and plain is not None
    share = np.mean([one["value"] for one in ours["lds"]]) / np.mean([one["attainable"] for one in ours["lds"]])
    scores = [
        np.mean([one["value"] for one in line[score]])
        for line, score in ((ours, "sap"), (ours, "ssim"), (plain, "ssim"))
    ]
    assert f"| {task.title} | {' | '.join(number(float(value)) for value in (share, *scores))} |" in PAGE


def test_the_page_has_the_order_of_the_methods_by_dci() -> None:
    cars = next(task for task in TASKS if task.as_values)
    sprites = next(task for task in TASKS if task.data == "dsprites")
    for task in (TASKS[0], cars, sprites):
        means = [np.mean([one["value"] for one in line_of(task, model)["dci"]]) for model in MODELS]  # type: ignore[index]
        assert sorted(means) == means, f"{task.title}: not in this order"
        assert " < ".join(number(float(mean), 2) for mean in means) in " ".join(PAGE.split())


def test_the_betas_taken_are_those_of_the_rule() -> None:
    """From the printed numbers: the choice must be that of some numbers which print so."""
    lines = (ROOT / "results" / "paper" / "betas.md").read_text().splitlines()
    rows = [row for row in (line.strip("| ").split(" | ") for line in lines) if len(row) > 6 and row[3][0].isdigit()]
    assert len(rows) == 24
    for model, betas in BETA.items():
        for data, taken in betas.items():
            trials = [row for row in rows if row[:2] == [data, METHODS[model]]]
            beta_N, mse_N, lds_N, ceiling_N = np.array([row[3:7] for row in trials], float).T
            digit_N = 10 ** (np.floor(np.log10(mse_N)) - 2)
            choices = {
                int(choose(np.stack([np.log10(mse_N + shift_N * digit_N), 1 - lds_N / ceiling_N], 1)))
                for shift_N in itertools.product((-0.49, 0, 0.49), repeat=len(trials))
            }
            (marked,) = [number for number, row in enumerate(trials) if "our rule" in row[-1]]
            assert beta_N[marked] == taken and marked in choices and len(choices) <= 2, (data, model)
