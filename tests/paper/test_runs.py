"""Finished runs as the items find them: those of a folder, and a damaged one is named with what mends it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hpcauxvae.paper import command, figures
from hpcauxvae.paper.experiments import Experiment
from hpcauxvae.paper.make import Maker
from hpcauxvae.paper.runs import Runs, find
from hpcauxvae.types import InputError

EXPERIMENT = Experiment(data="galaxies", labels="case1", model="beta-vae")
NEEDED = EXPERIMENT.name


def save(runs: Path, name: str) -> Path:
    """What is read of an evaluated run."""
    folder = runs / name
    folder.mkdir(parents=True)
    config = dataclasses.replace(EXPERIMENT.config(runs, runs / "data"), out=folder)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    (folder / "metrics.json").write_text(json.dumps({"epoch": config.epochs, "sets": {"test": {}}}))
    return folder


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def without(path: Path, *names: str) -> None:
    path.write_text(json.dumps({name: v for name, v in json.loads(path.read_text()).items() if name not in names}))


DAMAGES = {
    "half": ("config.json", lambda path: path.write_text(path.read_text()[:50]), "is damaged: Unterminated string"),
    "empty": ("metrics.json", lambda path: path.write_text(""), "is damaged: Expecting value: line 1 column 1"),
    "no text": ("metrics.json", lambda path: path.write_bytes(b"\xff\0"), "is damaged: 'utf-8' codec can't decode"),
    "gone": ("config.json", Path.unlink, "is missing"),
    "list": ("metrics.json", lambda path: path.write_text("[1, 2]"), r"holds \[1, 2\]; allowed: a JSON object"),
    "old config": (
        "config.json",
        lambda path: without(path, "resolved_objective"),
        "has no field resolved_objective: ",
    ),
    "old metrics": ("metrics.json", lambda path: without(path, "epoch", "sets"), "has no field epoch, sets: "),
    "newer": ("config.json", lambda path: changed(path, colour=3), "config: .* unexpected keyword argument 'colour'"),
    "unknown": ("config.json", lambda path: changed(path, objective="x"), "'x' is unknown to this version"),
    "other": ("config.json", lambda path: changed(path, beta=9.0), "config: objective 'tuned' had beta = .* and has 9"),
    "value": ("config.json", lambda path: changed(path, latents=0), "latents = 0; allowed: at least 1"),
    "type": ("config.json", lambda path: changed(path, aux=7), "is damaged: 'int' object has no attribute 'split'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_named_with_what_mends_it(tmp_path: Path, damage: str) -> None:
    name, does, words = DAMAGES[damage]
    folder = save(tmp_path, "b")
    save(tmp_path, "a")
    assert [run.folder.name for run in find(tmp_path)] == ["a", "b"]
    does(folder / name)
    remedy = f"train {folder} again" if name == "config.json" else f"`hpcauxvae evaluate {folder}` writes it anew"
    with pytest.raises(InputError, match=f"^{folder / name}: {words}.*; {remedy}, or move .*elsewhere$"):
        find(tmp_path)
    with pytest.raises(InputError, match=f"^{folder / name}: {words}"):
        command.main(["fig9", "--no-train", "--runs", str(tmp_path), "--out", str(tmp_path / "out")])
    (folder / "metrics.json").unlink()
    assert [run.folder.name for run in find(tmp_path)] == ["a"], "not evaluated yet"


def test_what_is_made_does_not_stop_at_a_damaged_run_that_it_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, NEEDED)
    (save(tmp_path, "another") / "config.json").write_text("{")
    monkeypatch.setattr(Maker, "make", lambda _, experiments, dry: list(experiments))
    read: list[str] = []

    def scatters(name: str, runs: Runs, out: Path) -> list[Path]:
        read.extend(run.folder.name for run in runs.values())
        return [out]

    monkeypatch.setattr(figures, "scatters", scatters)
    assert command.main(["fig9", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert read == [NEEDED]
