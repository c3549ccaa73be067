"""Fig. 16 and Table 4 from runs whose scores are made up: which trials count, and which one each rule takes."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from hpcauxvae.metrics.pareto import standardised
from hpcauxvae.paper import grid
from hpcauxvae.paper.runs import EvaluatedRun
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError


def made(
    folder: Path, number: int, point: grid.Point, mse: float, lds: float, epochs_done: int = 3, **fields
) -> EvaluatedRun:
    """A run of 3 epochs with these scores after its last one."""
    path = folder / f"{number}"
    path.mkdir()
    weights = dict(zip(("beta", "lambda1", "lambda2"), point, strict=True))
    defaults = {"data": Path("g.h5"), "out": path, "aux": "radius,g1,g2", "objective": "paper", "epochs": 3}
    config = TrainConfig(**(defaults | weights | fields))
    rows = [
        {
            "epoch": epoch,
            "train": {},
            "validation": {"mse": mse / epoch * epochs_done, "lds": lds, "lds_attainable": 0.85},
        }
        for epoch in range(1, epochs_done + 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluatedRun(folder=path, config=config, metrics={})


def by_name(runs: list[EvaluatedRun]) -> dict[str, EvaluatedRun]:
    return {run.folder.name: run for run in runs}


def of_paper(folder: Path) -> list[EvaluatedRun]:
    """The 27 trials of Fig. 16 with the printed scores."""
    return [made(folder, i, point, *grid.PAPER[point][:2]) for i, point in enumerate(grid.POINTS)]


def test_the_papers_table_gives_the_papers_choice_and_ours(tmp_path: Path) -> None:
    """Ours by hand: front (8e-6, .92), (5e-6, .87), (3e-6, .83); the middle one is at (.52, .56) of their ranges."""
    runs = of_paper(tmp_path)
    found = grid.grid_of(by_name(runs))
    assert found.points == grid.POINTS
    front = [found.points[i] for i in np.flatnonzero(found.front_N)]
    assert sorted(front) == [(5.0, 0.1, 1.0), (5.0, 0.1, 2.0), (20.0, 0.1, 0.1)]
    assert found.points[found.ours] == (5.0, 0.1, 2.0)
    order = [found.points[i] for i in found.z_N2.prod(1).argsort()[:2]]
    assert order == [(5.0, 2.0, 0.1), grid.TABLE_4["galaxies"]], "printed .03 and .02: the scores are rounded"
    assert found.points[found.papers] == order[0]


def test_the_papers_z_columns_are_swapped() -> None:
    """The printed Z of the first nine trials, of MSE and then of 1 - LDS by their headings."""
    headed_mse = [1.18, 0.70, 0.22, 0.50, 1.02, 1.57, 0.09, 3.08, 0.15]
    headed_gap = [1.12, 1.98, 1.79, 0.03, 0.58, 0.46, 0.36, 0.25, 0.85]
    mse, lds, _ = np.array([grid.PAPER[point] for point in grid.POINTS]).T
    z_mse, z_gap = np.abs(standardised(mse))[:9], np.abs(standardised(1 - lds))[:9]
    assert np.abs(z_mse - headed_gap).max() < 0.15 and np.abs(z_gap - headed_mse).max() < 0.3
    assert np.abs(z_mse - headed_mse).max() > 1


def test_only_whole_trials_of_one_grid_count(tmp_path: Path) -> None:
    runs = of_paper(tmp_path)[:3]
    others = [
        made(tmp_path, 90, grid.POINTS[3], 1e-9, 0.99, epochs_done=2),  # stopped early
        made(tmp_path, 91, grid.POINTS[4], 1e-9, 0.99, epochs=40),  # a longer run
        made(tmp_path, 92, grid.POINTS[5], 1e-9, 0.99, aux="radius"),
        made(tmp_path, 93, grid.POINTS[6], 1e-9, 0.99, model="idvae"),
        made(tmp_path, 94, (7.0, 1.0, 1.0), 1e-9, 0.99),
        made(tmp_path, 95, grid.POINTS[7], 1e-9, 0.99, seed=1),
        made(tmp_path, 96, grid.POINTS[8], 1e-9, 0.99, latents=4),
    ]
    assert grid.grid_of(by_name(others + runs)).points == grid.POINTS[:3]
    with pytest.raises(InputError, match="fewer than 2 evaluated runs of galaxy case 2"):
        grid.grid_of(by_name(runs[:1]))


def test_a_full_disk_leaves_the_picture_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(_: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    runs = by_name(of_paper(tmp_path))
    _, picture = grid.figure_16("fig16", runs, tmp_path)
    before = picture.read_bytes()
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(InputError, match=r"fig16.png: cannot be written: No space left on device"):
        grid.figure_16("fig16", runs, tmp_path)
    assert picture.read_bytes() == before


def test_tables_and_picture(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    runs = of_paper(tmp_path)
    table, picture = grid.figure_16("fig16", by_name(runs), out)
    text = table.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len([row for row in rows if row[2].isdigit()]) == 27
    assert {line.count("|") for line in text.splitlines() if line.startswith("| ")} == {14}, "every row has 13 cells"
    assert sum("paper's rule" in row for row in rows) == sum("our choice" in row for row in rows) == 1
    assert "our choice" in next(row for row in rows if row.startswith("| 5 | 0.1 | 2 | 5e-06 | 0.870 | 0.130 |"))
    assert picture.read_bytes()[:4] == b"\x89PNG" and (table.name, picture.name) == ("fig16.md", "fig16.png")
    (chosen,) = grid.table_4("table4", by_name(runs), out)
    assert "| galaxies | 5, 1, 0.1 |" in chosen.read_text() and chosen.name == "table4.md"
    assert "| Cars3D | 5, 2, 1 | not run | not run | 1, 10, tolerance 0.003 |" in chosen.read_text()
