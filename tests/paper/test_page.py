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


def said(task: str, model: str, score: str) -> tuple[np.ndarray, float]:
    """The values (S,) of the seeds, and the mean ceiling where the score has one."""
    line = line_of(next(one for one in TASKS if one.title == task), model)
    assert line is not None
    return np.array([one["value"] for one in line[score]]), np.mean([one.get("attainable", 1) for one in line[score]])


def test_the_text_has_the_numbers_of_the_table() -> None:
    text = " ".join(PAGE.split())

    def mean(task: str, score: str, model: str = "aux-vae", digits: int = 3) -> str:
        return number(said(task, model, score)[0].mean(), digits)

    def share(task: str) -> str:
        values, ceiling = said(task, "aux-vae", "lds")
        return number(values.mean() / ceiling)

    def both(words: str) -> str:
        worst, best = ([number(f(said(case, "aux-vae", "lds")[0])) for case in cases] for f in (np.min, np.max))
        return words.format(*worst, *best)

    cases = ("Galaxies, case 1", "Galaxies, case 2", "Galaxies, case 3")
    cars, values, cars_sound = (task.title for task in TASKS if task.data == "cars3d")
    sprites, sprites_sound = (task.title for task in TASKS if task.data == "dsprites")
    lds_3, ceiling_3 = said(cases[2], "aux-vae", "lds")
    for words in (
        f"{share(cases[0])} and {share(cases[1])} of the attainable, SSIM {mean(cases[0], 'ssim')} and "
        f"{mean(cases[1], 'ssim')} beside β-VAE's {mean(cases[0], 'ssim', 'beta-vae')}",
        both("worst seeds {0} and {1} (best {3} and {4})"),
        f"Case 3: LDS {mean(cases[2], 'lds')} and SAP {mean(cases[2], 'sap')} are above the paper's, "
        f"SSIM {mean(cases[2], 'ssim')}, worst seed",
        both("worst seed {2} (best {5})"),
        f"{share(cases[2])} of the attainable ({number(min(lds_3) / ceiling_3)} to {number(max(lds_3) / ceiling_3)})",
        f"{share(cars)} of the attainable (seeds",
        f"SAP with cars as values {mean(values, 'sap')}, where .85 is printed, SSIM {mean(cars, 'ssim')}, "
        f"where β-VAE has {mean(cars, 'ssim', 'beta-vae')}",
        f"Sound labels: {share(cars_sound)}, SSIM {mean(cars_sound, 'ssim')}, SAP {mean(cars_sound, 'sap')}",
        f"SAP {mean(sprites, 'sap')} (.788), SSIM {mean(sprites, 'ssim')} (β-VAE {mean(sprites, 'ssim', 'beta-vae')})",
        f"Sound labels: {share(sprites_sound)}, SAP .996, SSIM {mean(sprites_sound, 'ssim')}",
        *(" < ".join(mean(task, "dci", model, 2) for model in MODELS) for task in (cases[0], values, sprites)),
        "(LDS {}, {} and {} against".format(*(mean(task, "lds", "idvae", 2) for task in (*cases[1:], cars))),
        "against {}, {} and {})".format(*(mean(task, "lds", "beta-vae", 2) for task in (*cases[1:], cars))),
    ):
        assert words in text, f"docs/paper.md does not say\n{words}"


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
