"""`hpcauxvae paper beyond`: which weight is taken, what is trained with it, and the table; a small one for real."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.trainings import alone, config
from hpcauxvae.models import MODELS
from hpcauxvae.paper import beyond, command, jobs, make
from hpcauxvae.paper.experiments import BEYOND, BEYOND_SEEDS, EXPERIMENTS, TRIED, Experiment
from hpcauxvae.paper.items import ITEMS
from hpcauxvae.paper.make import Maker
from hpcauxvae.paper.runs import runs_of
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.trainer import Diverged
from hpcauxvae.types import InputError

FINAL = Experiment(data="galaxies", labels="case1", model="ar-vae", beyond=True)


def trial(runs: Path, value: float, mse: float, lds: float) -> None:
    experiment = dataclasses.replace(FINAL, weights=(value,))
    folder = runs / experiment.name
    folder.mkdir(parents=True)
    scores = {"mse": mse, "lds": lds, "lds_attainable": 0.8}
    rows = [{"epoch": 1, "validation": scores | {"mse": 1e-9}}, {"epoch": 10, "validation": scores}]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    config = experiment.config(runs, runs / "data")
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    (folder / "metrics.json").write_text(json.dumps({"epoch": config.epochs, "sets": {"test": {}}}))


def maker(runs: Path) -> Maker:
    return Maker(runs=runs, cars3d=None, dsprites=None, jobs=1, small=False, drawn=())


def test_every_model_is_tried_with_as_many_values_on_each_set_and_has_its_seeds() -> None:
    assert set(TRIED) == set(MODELS) - {"aux-vae", "idvae", "idvae-x"} and set(beyond.NAMES) == {*TRIED, "aux-vae"}
    assert {len(values) for _, values in TRIED.values()} == {4}
    own = [one for one in EXPERIMENTS if one.beyond]
    sets = sum(map(len, BEYOND.values()))
    assert sum(one.is_trial for one in own) == sets * len(TRIED) * 4
    seeds = sum(BEYOND_SEEDS[data] * len(kinds) for data, kinds in BEYOND.items())
    assert sum(not one.is_trial for one in own) == seeds * len(TRIED) == 8 * 10
    for one in own:
        config = one.config(Path("runs"), Path("data"))
        given = {name: getattr(config, name) for name in ("beta", "own_weight")}
        expected = {"beta": None, "own_weight": None} | dict(zip(TRIED[one.model][:1], one.weights, strict=False))
        assert given == expected, one.name
        aux = dataclasses.replace(one, model="aux-vae", beyond=False, weights=()).config(Path("runs"), Path("data"))
        lengths = [(config.batch_size, bool(config.epochs)) for config in (config, aux)]
        assert lengths == [(aux.batch_size, one.is_trial), (aux.batch_size, False)], "as long as Aux-VAE's"


def test_a_weight_is_that_of_the_trial_nearest_to_the_ideal_once_all_are_there(tmp_path: Path) -> None:
    """Front by hand, MSE in decades: distances of .60 for the third and .68 for the fourth, and 1 for the two ends."""
    at = maker(tmp_path)
    for value, mse, lds in ((10, 1e-6, 0.2), (100, 1e-3, 0.6), (1000, 1e-5, 0.4)):
        assert beyond.taken(tmp_path, FINAL, small=False) is None
        assert at.config(FINAL).own_weight is None
        trial(tmp_path, value, mse, lds)
    assert beyond.taken(tmp_path, FINAL, small=True) == 100, "of two ends the one with the better LDS"
    trial(tmp_path, 10000, 1e-4, 0.55)
    assert beyond.taken(tmp_path, FINAL, small=False) == 1000
    assert at.config(FINAL).own_weight == 1000
    assert at.config(dataclasses.replace(FINAL, seed=2)).own_weight == 1000


def test_trials_that_diverged_are_not_taken(tmp_path: Path) -> None:
    *others, last = TRIED["ar-vae"][1]
    for value in others:
        trial(tmp_path, value, float("nan"), 0.7)
    trial(tmp_path, last, 1e-2, 0.1)
    assert beyond.taken(tmp_path, FINAL, small=False) == last
    with pytest.raises(InputError, match=r"ar-vae on galaxies, case1: none of its 2 trials .*-ar-vae-10-0, .*-100-0"):
        beyond.taken(tmp_path, FINAL, small=True)


def ended(runs: Path, value: float, reason: str) -> None:
    """A trial that has no scores."""
    trial(runs, value, 1e-4, 0.5)
    folder = runs / dataclasses.replace(FINAL, weights=(value,)).name
    (folder / "metrics.json").unlink()
    (folder / "status.json").write_text(json.dumps({"exit_code": 1, "reason": reason}))


DIVERGED = "epoch 2, step 3: loss or gradient not finite, no weight changed; terms: kl inf"


def test_a_training_that_diverges_leaves_the_reason_by_which_it_is_known(blobs_file: Path, tmp_path: Path) -> None:
    fields = {"model": "dip-vae-i", "network": "mlp", "own_weight": 1e38, "objective": "paper", "learning_rate": 1e3}
    with pytest.raises(Diverged):
        alone(config(blobs_file, tmp_path / "run", **fields))
    assert beyond.diverged(tmp_path / "run") and not beyond.diverged(tmp_path)


def test_a_trial_that_ended_as_diverged_is_done_and_not_taken_but_another_failure_is_made_again(tmp_path: Path) -> None:
    values = TRIED["ar-vae"][1]
    ended(tmp_path, values[0], DIVERGED)
    trial(tmp_path, values[1], 1e-4, 0.5)
    ended(tmp_path, values[2], "out of memory")
    trial(tmp_path, values[3], 1e-4, 0.4)
    at, trials = maker(tmp_path), [dataclasses.replace(FINAL, weights=(value,)) for value in values]
    assert [at.stage(one) for one in trials] == ["done", "done", "missing", "done"]
    assert beyond.taken(tmp_path, FINAL, small=True) == values[1]
    assert beyond.taken(tmp_path, FINAL, small=False) is None
    (tmp_path / trials[2].name / "status.json").write_text(json.dumps({"exit_code": 1, "reason": DIVERGED}))
    assert beyond.taken(tmp_path, FINAL, small=False) == values[1]


@pytest.mark.parametrize("reason", [DIVERGED, "out of memory"], ids=["diverged", "memory"])
def test_trainings_that_wait_are_made_before_a_failure_of_trials_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    for value in TRIED["ar-vae"][1][:-1]:
        trial(tmp_path, value, 1e-4, 0.5)
    last = TRIED["ar-vae"][1][-1]
    other = dataclasses.replace(FINAL, model="cvae", weights=(1.0,))
    began: list[list[str]] = []

    def run(phase: list[jobs.Job], *_: Any) -> None:
        began.append([job.name for job in phase])
        if f"{FINAL.name[:-2]}-{last:g}-0" in began[-1]:
            ended(tmp_path, last, DIVERGED)
            folder = tmp_path / other.name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(other.config(tmp_path, tmp_path / "data").to_json()))
            (folder / "status.json").write_text(json.dumps({"exit_code": 1, "reason": reason}))
            raise jobs.Failed("two did not end", 1)
        if FINAL.name in began[-1]:
            final(tmp_path, FINAL, 0.7, own_weight=TRIED["ar-vae"][1][0], epochs=1)

    monkeypatch.setattr(make, "run", run)
    monkeypatch.setattr(Maker, "_data_jobs", lambda *_: [])
    monkeypatch.setattr(TrainConfig, "as_planned", lambda config: dataclasses.replace(config, epochs=1))
    own = [dataclasses.replace(FINAL, weights=(value,)) for value in TRIED["ar-vae"][1]]
    if reason == DIVERGED:
        assert maker(tmp_path).make([*own, other, FINAL], dry=False) == [*own, other, FINAL]
    else:
        with pytest.raises(jobs.Failed, match="two did not end"):
            maker(tmp_path).make([*own, other, FINAL], dry=False)
    assert began[1:] == [[FINAL.name]]


def test_a_model_of_which_no_trial_can_be_taken_is_left_out_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in TRIED["ar-vae"][1]:
        ended(tmp_path, value, DIVERGED)
    assert command.main(["beyond", "--runs", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.err.count("warning: left out: ar-vae on galaxies, case1: none of its 4 trials") == 1
    assert "then 67 trainings" in said.out and f"{FINAL.name} " not in said.out


def test_what_waits_for_its_trials_is_made_after_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["beyond", "--runs", str(tmp_path), "--dry-run"]
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "then 70 trainings, each with the weight that trials choose" in said  # Cars3D is left out
    assert said.count("hpcauxvae train ") == 3 * 10 * 4 + 2 * 3 + 1 and f"{FINAL.name} " not in said
    for value in TRIED["ar-vae"][1]:
        trial(tmp_path, value, 1e-5 * value, 0.5)
        (tmp_path / dataclasses.replace(FINAL, weights=(value,)).name / "status.json").write_text('{"exit_code": 0}')
    assert command.main(words) == 0
    said = capsys.readouterr().out
    assert "then 67 trainings" in said
    (line,) = [line for line in said.splitlines() if f"--out {tmp_path / FINAL.name} " in f"{line} "]
    assert "--own-weight 10.0" in line and "--epochs" not in line and "--model ar-vae" in line


def test_a_training_that_diverges_with_the_weight_that_was_chosen_is_said_and_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in TRIED["ar-vae"][1]:
        trial(tmp_path, value, 1e-5 * value, 0.5)
    final(tmp_path, FINAL, 0.7, own_weight=10.0)
    (tmp_path / FINAL.name / "metrics.json").unlink()
    (tmp_path / FINAL.name / "status.json").write_text(json.dumps({"exit_code": 1, "reason": DIVERGED}))
    assert command.main(["beyond", "--runs", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr()
    assert f"warning: left out: ar-vae on galaxies, case1, seed 0: diverged ({tmp_path / FINAL.name})" in said.err
    assert f"--out {tmp_path / FINAL.name} " not in said.out


def test_all_of_the_paper_leaves_it_out() -> None:
    assert "beyond" not in command.PaperConfig(items=("all",)).names
    assert command.PaperConfig(items=("all", "beyond")).names[-1] == "beyond"


def final(runs: Path, one: Experiment, lds: float, **fields: Any) -> None:
    folder = runs / one.name
    folder.mkdir(parents=True)
    config = dataclasses.replace(one.config(runs, runs / "data"), **fields)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    score = {name: {"value": value} for name, value in (("lds_mean", 0.8), ("sap", 0.4), ("mig", 0.3))}
    codes = score | {"lds": {"value": lds, "attainable": 0.9, "n": 1000}}
    codes["dci"] = {"disentanglement": {"value": 0.5}}
    own = {"codes": codes, "images": {"ssim": {"value": 0.95}}}
    if one.model in ("ar-vae", "aux-vae"):
        own["reading"] = {"radius": {"r": {"value": 0.9}}, "g1": {"r": {"value": 0.7}}}
        effects = {name: {"asked": {"r": {"value": r}}} for name, r in (("radius", 0.9), ("g1", 0.8))}
        own["control"] = {"effectiveness": effects}
        rows = [{"epoch": 1, "seconds": 90.0}, {"epoch": 2, "seconds": 60.0}]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        own["joint"] = {"radius": {"means": {"value": 0.2}}, "g1": {"means": {"value": 0.0}}}
    (folder / "metrics.json").write_text(json.dumps({"epoch": 1, "sets": {"fresh": own, "test": own}}))


@pytest.mark.parametrize("made", [True, False])
def test_the_table_has_a_row_for_each_model_and_its_weight(tmp_path: Path, made: bool) -> None:
    trial(tmp_path, 10, 1e-5, 0.5)
    others = [Experiment(data="galaxies", labels="case1", seed=seed) for seed in (0, 1)]
    for one, lds in ((FINAL, 0.6), (dataclasses.replace(FINAL, seed=1), 0.7), (others[0], 0.8), (others[1], 0.8)):
        final(tmp_path, one, lds, **({"own_weight": 30.0} if one.beyond else {}))
    final(tmp_path, dataclasses.replace(FINAL, model="beta-vae"), 0.4, beta=5.0)
    names = [str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("metrics.json")] if made else None
    found = runs_of("beyond", ITEMS["beyond"], tmp_path, names)
    assert len(found) == 6
    table, numbers = beyond.draw("beyond", found, tmp_path)
    rows = [line for line in table.read_text().splitlines() if line.startswith("| ")][2:]
    rest = "0.400 ± 0.000 | 0.300 ± 0.000 | 0.500 ± 0.000 | 0.950 ± 0.000 | 0.800 ± 0.000 | 0.100 ± 0.000 |"
    rest += " 0.850 ± 0.000 | 2.500 ± 0.000 |"
    assert rows == [
        f"| Aux-VAE |  | 2 of 3 | 1,000 | 0.800 ± 0.000 | 0.900 | 0.800 ± 0.000 | {rest}",
        f"| AR-VAE | own_weight 30 | 2 of 3 | 1,000 | 0.650 ± 0.071 | 0.900 | 0.800 ± 0.000 | {rest}",
        "| β-VAE | beta 5 | 1 of 3 | 1,000 | 0.400 | 0.900 | 0.800 | 0.400 | 0.300 | 0.500 | 0.950 |  |  |  |  |",
    ]
    assert [row["model"] for row in json.loads(numbers.read_text())["rows"]] == ["aux-vae", "ar-vae", "beta-vae"]
    with pytest.raises(InputError, match="no evaluated run of these models; hpcauxvae paper beyond makes them"):
        beyond.draw("beyond", {}, tmp_path)


SMALL = """
import sys
from hpcauxvae import cli
from hpcauxvae.paper import experiments
experiments.EXPERIMENTS = tuple(
    one for one in experiments.EXPERIMENTS
    if (one.data, one.labels, one.model, one.objective) in
    {("galaxies", "case1", model, "") for model in ("ar-vae", "aux-vae", "beta-tcvae")}
)
cli.main("paper")
"""


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_small_one_for_real_and_once_more(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SMALL, "beyond", "--small", "--runs", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = json.loads((tmp_path / "results" / "beyond.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["aux-vae", "ar-vae", "beta-tcvae"]
    for row in rows[1:]:
        (run,) = row["runs"]
        config = TrainConfig.from_json(json.loads((tmp_path / "beyond" / run / "config.json").read_text()))
        assert row["weight"] == {"own_weight": config.own_weight} and config.own_weight in TRIED[row["model"]][1][:2]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    assert len(before) == 1 + 2 * 3
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")} == before
