"""What the paper command makes: which experiments, and how far each is."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tyro

from hpcauxvae.models.objectives import FIXED
from hpcauxvae.paper import command, make
from hpcauxvae.paper.experiments import (
    BATCH,
    BETA,
    EPOCHS,
    EXPERIMENTS,
    METHODS,
    SEEDS,
    TRIED,
    Data,
    Experiment,
    chosen,
)
from hpcauxvae.paper.items import ASIDE, ITEMS
from hpcauxvae.paper.make import Maker
from hpcauxvae.paper.table1 import TASKS
from hpcauxvae.runtime.children import cores
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError

ONE = Experiment(data="galaxies", labels="case2", seed=1)


def maker(folder: Path, **fields: Any) -> Maker:
    return Maker(**({"runs": folder, "cars3d": None, "dsprites": None, "jobs": 1, "small": True} | fields))


def test_names_are_folders_of_their_own() -> None:
    names = [one.name for one in EXPERIMENTS]
    assert len(set(names)) == len(names)
    expected = ("galaxies-case2-aux-vae-0", "cars3d-sound-idvae-x-0")
    expected += ("grid/galaxies-case2-aux-vae-reference-5-1-0.1-0", "betas/dsprites-raw-beta-vae-20-0")
    assert set(expected) <= set(names)


def test_every_row_of_table_1_has_its_seeds() -> None:
    for task in TASKS:
        for model in METHODS:
            found = [
                one.seed
                for one in EXPERIMENTS
                if (one.data, one.model) == (task.data, model)
                and (one.objective, one.sweep) == ("", "")
                and (model == "beta-vae" or one.labels == task.labels)
            ]
            beside = model == "idvae-x" or (model == "idvae" and task.labels == "sound")
            assert found == list(range(1 if beside else SEEDS[task.data])), (task.title, model)
    assert SEEDS == {"galaxies": 5, "cars3d": 3, "dsprites": 3}


def test_the_command_of_an_experiment_is_its_configuration(tmp_path: Path) -> None:
    style = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)
    for one in (one for one in EXPERIMENTS if not one.beyond or one.weights[:1] == TRIED[one.model][1][:1]):
        config = one.config(tmp_path / "runs", tmp_path / "data", bf16=one.seed == 0)
        assert tyro.cli(TrainConfig, args=config.arguments(), config=style) == config


def config(data: Data, labels: str, **fields: Any) -> TrainConfig:
    return Experiment(data=data, labels=labels, **fields).config(Path("runs"), Path("data"))


def test_models_that_are_compared_with_have_the_beta_taken_or_another() -> None:
    for model in ("idvae", "idvae-x"):
        assert config("galaxies", "case1", model=model).beta == BETA["idvae"]["galaxies"]
    assert config("cars3d", "raw", model="beta-vae").beta == BETA["beta-vae"]["cars3d"]
    assert config("dsprites", "raw", model="beta-vae", weights=(20.0,)).resolved_objective.beta == 20
    assert config("galaxies", "case1").beta is None


def test_aux_vae_with_our_objective_is_told_nothing_that_a_user_would_not_tell() -> None:
    for data, labels in (("galaxies", "case3"), ("cars3d", "sound"), ("dsprites", "raw")):
        own = config(data, labels)
        plain = TrainConfig(data=own.data, out=own.out, aux=own.aux, objective=own.objective, labels="raw")
        assert dataclasses.replace(own, channels_last=False, resume="no", keep_last=2) == plain
    others = [("galaxies", "case3", {"model": model}) for model in ("idvae", "idvae-x", "beta-vae")]
    others += [("galaxies", "case3", {"objective": "paper"}), ("cars3d", "raw", {"model": "beta-vae"})]
    for data, labels, fields in others:
        other = config(data, labels, **fields)
        assert (other.epochs, other.batch_size, other.lambda2) == (EPOCHS[data], BATCH.get(data), None)


def test_items_ask_for_the_runs_that_they_read_and_no_others() -> None:
    def named(item: str) -> set[str]:
        return {one.name for one in chosen(ITEMS[item].experiments.values(), small=False)}

    assert named("fig3") == {"galaxies-case2-idvae-0", "galaxies-case2-aux-vae-0"}
    assert named("fig9") == named("fig1") == {"galaxies-case1-beta-vae-0"}
    assert {name.rpartition("-")[0] for name in named("fig8")} == {
        "galaxies-case1-beta-vae",
        *(f"galaxies-case{case}-{model}" for case in (1, 2, 3) for model in ("idvae", "idvae-x", "aux-vae")),
    }
    assert (len(named("fig16")), len(named("betas")), len(named("table1"))) == (27, 24, 74)
    of_any = {name for item in ITEMS.values() for name in item.experiments.values()}
    assert of_any == {one.name for one in EXPERIMENTS}, "none is read that there is not, and none is idle"
    small = chosen(ITEMS["table1"].experiments.values(), small=True)
    assert {one.seed for one in small} == {0} and len(small) == 10 + 6 + 7 + 7
    assert len(chosen(ITEMS["fig16"].experiments.values(), small=True)) == 3


def save(folder: Path, config: TrainConfig, **files: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def end(folder: Path) -> None:
    """What a finished training and its evaluation leave beside the scores."""
    (folder / "status.json").write_text(json.dumps({"exit_code": 0}))
    for name in ("last.safetensors", "codes-test.h5", "codes-fresh.h5"):
        (folder / name).touch()


def test_how_far_an_experiment_is(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    assert at.stage(ONE) == "missing"
    save(config.out, config, status={"exit_code": 75})
    assert at.stage(ONE) == "missing"
    (config.out / "config.json").write_text("{half of")
    assert at.stage(ONE) == "missing"
    save(config.out, config, status={"exit_code": 0})
    assert at.stage(ONE) == "missing"
    (config.out / "last.safetensors").touch()
    assert at.stage(ONE) == "trained"
    for metrics in (
        {"sets": {}},
        {"epoch": 1},
        {"epoch": 0, "sets": {"test": {}, "fresh": {}}},
        {"epoch": 1, "sets": {"test": {}}},
    ):
        save(config.out, config, metrics=metrics)
        assert at.stage(ONE) == "trained"
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    assert at.stage(ONE) == "trained", "the codes are missing: these scores are of an earlier training"
    end(config.out)
    assert at.stage(ONE) == "done"


def test_a_training_that_began_in_the_folder_of_a_record_is_not_drawn(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    end(config.out)
    (config.out / "status.json").unlink()
    for status in ({}, {"status": {"exit_code": 75}}):
        save(config.out, config, **status)
        assert at.stage(ONE) == "missing"
        assert dataclasses.replace(at, drawn=()).stage(ONE) == "done"


def test_a_record_of_a_version_without_a_field_has_its_default(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    earlier = config.to_json()
    del earlier["lr_scaling"]
    (config.out / "config.json").write_text(json.dumps(earlier))
    assert dataclasses.replace(at, drawn=()).stage(ONE) == "done"
    earlier["latents"] = 3
    (config.out / "config.json").write_text(json.dumps(earlier))
    with pytest.raises(InputError, match="config latents = 3, but the experiment"):
        at.stage(ONE)


def test_a_record_of_another_split_is_another_training(tmp_path: Path) -> None:
    """One without the entry was split as all were, at random, which is what auto comes to."""
    at = maker(tmp_path, drawn=())
    config = at.config(ONE)
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    for split in ("", "auto", "random"):
        earlier = config.to_json() | {"split": split}
        if not split:
            del earlier["split"]
        (config.out / "config.json").write_text(json.dumps(earlier))
        assert at.stage(ONE) == "done"
    (config.out / "config.json").write_text(json.dumps(config.to_json() | {"split": "blocks"}))
    with pytest.raises(InputError, match=r"config split = blocks, but the experiment .* has random"):
        at.stage(ONE)


def test_a_record_of_a_version_without_a_tolerance_stands_for_models_that_know_none(tmp_path: Path) -> None:
    at = maker(tmp_path, drawn=())
    for one in (dataclasses.replace(ONE, model="idvae"), ONE):
        config = at.config(one)
        earlier = dataclasses.replace(config, lambda2=1000.0).to_json() | {"lambda2": None, "symmetries": ""}
        for name in FIXED:
            del earlier[name], earlier["resolved_objective"][name]
        save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
        (config.out / "config.json").write_text(json.dumps(earlier))
    assert at.stage(dataclasses.replace(ONE, model="idvae")) == "done"
    with pytest.raises(InputError, match=r"config dependence_tolerance = None, but the experiment .* has 0.003"):
        at.stage(ONE)
    (config.out / "config.json").write_text(json.dumps(earlier | {"symmetries": "left-right"}))
    with pytest.raises(InputError, match=f"{config.out}: was trained with symmetries = left-right"):
        at.stage(ONE)


def test_a_training_that_is_not_told_its_epochs_has_those_that_it_was_planned_for(tmp_path: Path) -> None:
    at = maker(tmp_path, small=False, drawn=())
    config = at.config(ONE)
    for planned, scored, stage in ((34, 33, "missing"), (34, 34, "done")):
        metrics = {"epoch": scored, "sets": {"test": {}, "fresh": {}}}
        save(config.out, dataclasses.replace(config, epochs=planned), metrics=metrics)
        assert at.stage(ONE) == stage


def test_a_record_without_weights_will_do_where_only_scores_are_read(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    assert at.stage(ONE) == "missing"
    scores_only = dataclasses.replace(at, drawn=())
    assert scores_only.stage(ONE) == "done"
    assert dataclasses.replace(at, drawn=(ONE,)).stage(ONE) == "missing"


def test_finished_runs_need_no_data_where_only_scores_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--small", "--dry-run", "--runs", str(tmp_path)]
    at = maker(tmp_path)
    small = [one for one in chosen(ITEMS["table1"].experiments.values(), small=True) if one.data != "cars3d"]
    for one in small:
        save(at.config(one).out, at.config(one), metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    assert command.main(["table1", *arguments]) == 0
    said = capsys.readouterr().out
    assert "hpcauxvae train" not in said and f"{len(small)} runs are needed, {len(small)} of them are finished" in said
    assert command.main(["table1", "fig9", *arguments]) == 0
    said = capsys.readouterr().out
    assert said.count("hpcauxvae train ") == 1 and "--out " + str(tmp_path / "galaxies-case1-beta-vae-0") in said
    assert "hpcauxvae simulate" in said and "hpcauxvae data" not in said
    end(tmp_path / "galaxies-case1-beta-vae-0")
    assert command.main(["fig9", *arguments]) == 0
    said = capsys.readouterr().out
    assert "hpcauxvae train " not in said and "hpcauxvae simulate" in said, "the images are drawn, too"


def test_the_precision_of_a_run_does_not_matter(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    save(config.out, config, metrics={"epoch": 1, "sets": {"test": {}, "fresh": {}}})
    end(config.out)
    assert dataclasses.replace(at, bf16=True).stage(ONE) == at.stage(ONE) == "done"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("epochs", 7, "config epochs = 7, but the experiment galaxies-case2-aux-vae-1 has 1"),
     ("beta", 3.0, "config beta = 3.0, but the experiment"),
     ("objective", "paper", "config objective = paper, but")],
)  # fmt: skip
def test_a_folder_with_another_training_is_refused(tmp_path: Path, field: str, value: Any, words: str) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    save(config.out, dataclasses.replace(config, **{field: value}))
    with pytest.raises(InputError, match=words):
        at.stage(ONE)
    moved = dataclasses.replace(config, data=Path("elsewhere.h5"), device="cpu", keep_last=9)
    save(config.out, moved)
    assert at.stage(ONE) == "missing"


def test_an_objective_that_has_changed_since_is_named(tmp_path: Path) -> None:
    at = maker(tmp_path)
    config = at.config(ONE)
    saved = config.to_json()
    saved["resolved_objective"]["sigma"] = 0.5
    config.out.mkdir(parents=True)
    (config.out / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"config sigma = 0.5, but the experiment .* has 0.01"):
        at.stage(ONE)


def test_what_would_be_made_is_said_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert command.main(["all", "--small", "--dry-run", "--runs", str(runs), "--jobs", str(cores())]) == 0
    said = capsys.readouterr().out
    assert f"hpcauxvae train {runs}/data/galaxies.h5 --out {runs}/galaxies-case2-aux-vae-0 " in said
    assert f"hpcauxvae simulate {runs}/data/fresh.h5 --n 240 --seed 8" in said
    assert "Cars3D: skipped, 7 runs: no --cars3d PATH" in said and "cars3d-raw" not in said
    assert said.count("hpcauxvae train ") == said.count("hpcauxvae evaluate ") == 10 + 6 + 7 + 3 + 2
    assert not runs.exists()


def test_the_whole_paper_small_is_every_experiment_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ("idvae", "idvae-x", "aux-vae")
    own = ("aux-vae-paper", "aux-vae-reference")
    expected = {f"galaxies-case{case}-{kind}-0" for case in (1, 2, 3) for kind in models + own}
    expected |= {
        f"{data}-{labels}-{kind}-0" for data in ("cars3d", "dsprites") for labels in ("raw", "sound") for kind in models
    }
    expected |= {f"{kind}-beta-vae-0" for kind in ("galaxies-case1", "cars3d-raw", "dsprites-raw")}
    expected |= {f"grid/galaxies-case2-aux-vae-reference-5-0.1-{weight}-0" for weight in ("0.1", "1", "2")}
    expected |= {f"betas/galaxies-case1-beta-vae-{beta}-0" for beta in (1, 5)}
    cars = tmp_path / "cars.h5"
    cars.touch()
    assert command.main(["all", "--small", "--dry-run", "--runs", str(tmp_path), "--cars3d", str(cars)]) == 0
    said = capsys.readouterr().out
    trained = re.findall(rf"hpcauxvae train .* --out {tmp_path}/(\S+)", said)
    scored = re.findall(rf"hpcauxvae evaluate {tmp_path}/(\S+)", said)
    assert sorted(trained) == sorted(scored) == sorted(expected) and len(expected) == 35
    of_paper = [name for name in ITEMS if name not in ASIDE]
    assert f"then: {', '.join(of_paper)} into {tmp_path}/results" in said


def test_its_runs_stand_apart_from_those_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, runs in (["--dry-run"], "runs/paper"), (["--dry-run", "--small"], "runs/paper-small"):
        assert command.main(["fig9", *arguments]) == 0
        assert f" --out {runs}/galaxies-case1-beta-vae-0 " in capsys.readouterr().out


def test_data_made_for_something_else_are_refused(tmp_path: Path) -> None:
    from hpcauxvae.data.dsprites import write

    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "dsprites.h5", shapes=["ellipse"], n=50)
    with pytest.raises(InputError, match=r"dsprites.h5: 50 samples; allowed: 240; remove it"):
        maker(tmp_path).make([Experiment(data="dsprites", labels="raw")], dry=True)


def test_without_galsim_the_way_to_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"galaxies.h5: is missing, and galsim, .*pip install"):
        maker(tmp_path).make([ONE], dry=True)


def test_options_are_checked(tmp_path: Path) -> None:
    for arguments, words in (
        (["fig99"], "item 'fig99' is unknown; allowed: all, table1"),
        (["--jobs", "0"], "jobs = 0; allowed: at least 1"),
        (["--cars3d", str(tmp_path / "no")], "no: no such file or folder"),
        (["--no-train", "--runs", str(tmp_path / "no")], "no: no such folder"),
    ):
        with pytest.raises(InputError, match=words):
            command.main(arguments)
