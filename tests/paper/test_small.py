"""`hpcauxvae paper all --small` for real: data, trainings, evaluations, every item; killed, and once more.

Of the experiments half, which leaves each item something to draw: every data set with each of its labels, every model,
objective and kind of trial is among them. test_make.py asks for all, dry.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcauxvae.paper.items import ASIDE, ITEMS
from hpcauxvae.paper.table1 import TASKS, Task

MADE = (
    *(f"galaxies-case1-{kind}-0" for kind in ("beta-vae", "aux-vae", "idvae-x", "aux-vae-paper", "aux-vae-reference")),
    *(f"galaxies-case2-{model}-0" for model in ("idvae", "aux-vae")),
    "galaxies-case3-aux-vae-0",
    *(f"cars3d-{kind}-0" for kind in ("raw-idvae", "raw-aux-vae", "sound-aux-vae")),
    *(f"dsprites-{kind}-0" for kind in ("raw-beta-vae", "raw-idvae", "sound-aux-vae")),
    *(f"betas/dsprites-raw-idvae-{beta}-0" for beta in (1, 5)),
    *(f"grid/galaxies-case2-aux-vae-reference-{weights}-0" for weights in ("5-0.1-0.1", "5-0.1-1")),
)
RUNS_OF_TABLE_1 = [name for name in MADE if "/" not in name]
PROGRAM = f"""
import sys
from hpcauxvae import cli
from hpcauxvae.paper import experiments
experiments.EXPERIMENTS = tuple(made for made in experiments.EXPERIMENTS if made.name in {MADE})
cli.main("paper")
"""
COMMAND = [sys.executable, "-c", PROGRAM]
pytestmark = [pytest.mark.timeout(3600), pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cars: boxes of their own size and colour, that move with the azimuth and grow with the elevation."""
    images = np.full((3, 24, 4, 64, 64, 3), 255, np.uint8)
    for car, azimuth, elevation in np.ndindex(3, 24, 4):
        left, height = 5 + azimuth, 8 + 4 * car + elevation
        images[car, azimuth, elevation, 20 : 20 + height, left : left + 20, car] = 40 + 10 * car
    path = tmp_path_factory.mktemp("cars") / "cars.h5"
    with h5py.File(path, "w") as file:
        file["images"] = images
    return path


@pytest.fixture(scope="module")
def runs(once: Callable, cars: Path) -> Path:
    """The folder after the command was killed once, early in its trainings, and then ran to its end."""

    def make(folder: Path) -> None:
        runs = folder / "runs"
        command = [*COMMAND, "all", "--small", "--runs", str(runs), "--cars3d", str(cars), "--jobs", "2"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not list(runs.glob("*/metrics.json")):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        whole = contents(runs, "metrics.json")
        done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert whole and whole.items() <= contents(runs, "metrics.json").items(), "finished runs were made again"

    return once("paper-small", make) / "runs"


def contents(runs: Path, name: str) -> dict[Path, tuple[int, int]]:
    """Which files of this name there are, and which they are: a file made again is another one."""
    stats = {path: path.stat() for pattern in ("*", "*/*") for path in runs.glob(f"{pattern}/{name}")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def test_every_experiment_was_trained_and_scored(runs: Path) -> None:
    for name in MADE:
        metrics = json.loads((runs / name / "metrics.json").read_text())
        galaxies = name.startswith("galaxies")
        assert list(metrics["sets"]) == (["test", "fresh"] if galaxies else ["test"]), name
        assert ("noiseless" in metrics["sets"]["test"]) == galaxies
    assert len(contents(runs, "metrics.json")) == len(MADE)


def test_every_item_is_there_and_says_where_it_comes_from(runs: Path) -> None:
    results = runs / "results"
    for name in ITEMS.keys() - set(ASIDE):
        about = dict(line.split(": ", 1) for line in (results / f"{name}.txt").read_text().splitlines())
        assert about["made by"].startswith("hpcauxvae paper all --small --runs ")
        assert Path(about["run"]).is_dir()
        for file in about["files"].split(", "):
            assert (results / file).stat().st_size > 200, file
    assert len((results / "table1.txt").read_text().split("run: ")) - 1 == len(RUNS_OF_TABLE_1)


def case_and_labels(task: Task) -> tuple[int | None, str]:
    return (int(task.labels[-1]), "raw") if task.data == "galaxies" else (None, task.labels)


def parts(name: str) -> tuple[str, str, str, str]:
    """Data, labels, model and objective of a run, by the name of its folder."""
    data, labels, rest = name.removesuffix("-0").split("-", 2)
    model = next(model for model in ("aux-vae", "beta-vae", "idvae-x", "idvae") if rest.startswith(model))
    own = "tuned" if data == "galaxies" else "bernoulli"
    return data, labels, model, rest.removeprefix(model).removeprefix("-") or own


def test_the_table_has_every_task_model_and_set(runs: Path) -> None:
    lines = json.loads((runs / "results" / "table1.json").read_text())["lines"]
    found = {(li["data"], li["case"], li["labels"], li["model"], li["objective"], li["set"]) for li in lines}
    expected = {
        (task.data, *case_and_labels(task), model, objective, name)
        for data, labels, model, objective in (parts(run) for run in RUNS_OF_TABLE_1)
        for task in TASKS
        if task.data == data and (model == "beta-vae" or task.labels == labels)
        for name in (["test", "fresh"] if task.data == "galaxies" else ["test"])
    }
    assert found == expected
    cars, as_values = [li for li in lines if (li["data"], li["labels"], li["model"]) == ("cars3d", "raw", "aux-vae")]
    assert cars["paper"] == [0.93, 0.85] and cars["lds"][0]["n"] == 28
    assert cars["lds"][0]["value"] == pytest.approx(as_values["lds"][0]["value"], abs=1e-6)
    assert cars["sap"][0]["value"] != pytest.approx(as_values["sap"][0]["value"], abs=1e-6)


def test_once_more_trains_nothing(runs: Path) -> None:
    before = {name: contents(runs, name) for name in ("metrics.json", "config.json", "*.h5", "last.safetensors")}
    assert len(before["last.safetensors"]) == len(MADE)
    command = [*COMMAND, "table1", "fig9", "--small", "--runs", str(runs), "--jobs", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "python -m" not in done.stdout, "it said that it would make something"
    assert "Cars3D" in done.stdout and "skipped" not in done.stdout, "the data file is there: no --cars3d is needed"
    assert {name: contents(runs, name) for name in before} == before
