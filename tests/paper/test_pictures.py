"""The items that need a model, from runs trained here on a few galaxies: files, numbers, what is missing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from helpers.trainings import alone, config
from hpcauxvae.data import dsprites
from hpcauxvae.data.galaxies import CASES, FACTORS
from hpcauxvae.data.hdf5 import write
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, write_codes
from hpcauxvae.metrics import score_images
from hpcauxvae.paper import command, generated
from hpcauxvae.paper.items import ITEMS
from hpcauxvae.paper.runs import EvaluatedRun, find, runs_of
from hpcauxvae.runtime.files import write_json
from hpcauxvae.simulate.stamps import noiseless_stamps
from hpcauxvae.types import InputError

RUNS = {"a1": (1, "aux-vae"), "a3": (3, "aux-vae"), "b": (1, "beta-vae"), "i3": (3, "idvae")}
N_TEST = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(0)
    names = [factor.name for factor in FACTORS]
    values = np.stack([rng.uniform(factor.low, factor.high, 10 * N_TEST) for factor in FACTORS], 1)
    values[:, 2:4] *= 0.8
    stamps = noiseless_stamps({}, folder, names, values)
    path = folder / "galaxies.h5"
    provenance = {"simulator": "GalSim", "scene": "{}", "image_unit": "counts", "image_origin": "lower"}
    write(path, rng.poisson(stamps.clip(0)).astype(np.float32), values, FACTORS, provenance)
    for name, (case, model) in RUNS.items():
        run = config(path, folder / "runs" / name, model=model, aux=",".join(CASES[case]), epochs=1, batch_size=None)
        alone(run)
        evaluator = Evaluator(EvaluateConfig(run=run.out, device="cpu"))
        scored = next(evaluator.sets())
        images = score_images(scored.originals, scored.reconstructions, float(evaluator.model.maximum))
        write_codes(run.out / "codes-test.h5", scored, images.per_image, "digest")
        write_json(run.out / "metrics.json", {"ssim": images.means["ssim"], "epoch": 1, "sets": {}})
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[EvaluatedRun]:
    return find(folder / "runs")


def check(paths: list[Path], names: list[str]) -> None:
    """These files, each picture with something on it and a white edge."""
    assert [path.name for path in paths] == names
    for path in paths:
        if path.suffix == ".png":
            pixels = matplotlib.image.imread(path)[..., :3]
            assert pixels.std() > 0.01
            assert all(np.all(edge == 1) for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
        else:
            assert path.stat().st_size > 100


def files(name: str) -> list[str]:
    return [f"{name}.png", f"{name}-examples.png", f"{name}.json", f"{name}.md"]


def draw(name: str, runs: Path, out: Path) -> list[Path]:
    return command.draw(name, runs, None, out, "by this test")


def test_maps(folder: Path, tmp_path: Path) -> None:
    for name in ("fig1", "fig6", "fig7"):
        check(draw(name, folder / "runs", tmp_path), [f"{name}.png", f"{name}.json"])
    found = json.loads((tmp_path / "fig7.json").read_text())["explained_by_neighbours"]
    assert list(found) == [f"case {case}, {part}" for case in (1, 3) for part in ("z", "z_aux", "z_recon")]
    assert found["case 1, z_aux"]["n"] == N_TEST
    assert list(json.loads((tmp_path / "fig6.json").read_text())["explained_by_neighbours"])[1:] == [
        "β-VAE",
        "IDVAE, case 3",
    ]


def test_perturbation(folder: Path, runs: list[EvaluatedRun], tmp_path: Path) -> None:
    check(draw("fig4", folder / "runs", tmp_path), files("fig4"))
    report = json.loads((tmp_path / "fig4.json").read_text())
    assert [block["run"] for block in report.values()] == ["a1", "a3"]
    assert report["case 1"]["scores"]["no perturbation"]["ssim"] == pytest.approx(runs[0].metrics["ssim"], rel=1e-5)


def test_attack(folder: Path, runs: list[EvaluatedRun], tmp_path: Path) -> None:
    check(draw("fig8", folder / "runs", tmp_path), files("fig8"))
    models = json.loads((tmp_path / "fig8.json").read_text())["models"]
    assert [block["run"] for block in models.values()] == ["b", "a1", "i3", "a3"]
    assert models["Aux-VAE, case 1"]["ssim"][0] == pytest.approx(runs[0].metrics["ssim"], rel=1e-5)


def test_generated(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "LEVELS", 2)
    check(draw("generated", folder / "runs", tmp_path), files("generated"))
    report = json.loads((tmp_path / "generated.json").read_text())
    assert report["run"] == "a1" and report["n"] == 32 and report["factors"] == list(CASES[1])
    assert report["responses"]["g1"]["truth"] > 0.5


def record(folder: Path, of: EvaluatedRun, metrics: dict[str, Any] | None = None, **fields: Any) -> None:
    """A run's configuration, but for these fields, and scores, without weights and codes."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", dataclasses.replace(of.config, **fields).to_json())
    write_json(folder / "metrics.json", of.metrics if metrics is None else metrics)


@pytest.mark.parametrize("item", ["fig4", "fig8", "generated"])
def test_weights_of_another_epoch_than_the_scores_are_not_drawn(
    item: str, runs: list[EvaluatedRun], tmp_path: Path
) -> None:
    record(tmp_path / "runs" / "a1", runs[0], {"epoch": 30, "sets": {}})
    (tmp_path / "runs" / "a1" / "last.safetensors").symlink_to(runs[0].folder / "last.safetensors")
    with pytest.raises(InputError, match="is of epoch 30, but the weights beside it are of epoch 1"):
        draw(item, tmp_path / "runs", tmp_path)


@pytest.mark.parametrize("item", ITEMS)
def test_without_runs_the_command_that_makes_them_is_named(item: str, tmp_path: Path) -> None:
    first = next(iter(ITEMS[item].experiments.values()))
    with pytest.raises(InputError, match=rf"no evaluated run of {first}.*; hpcauxvae paper {item} makes them"):
        draw(item, tmp_path, tmp_path)


def test_all_draws_what_it_can_and_names_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "ITEMS", {name: ITEMS[name] for name in ("fig13", "fig1")})
    arguments = ["--runs", str(folder / "runs"), "--out", str(tmp_path), "--no-train", "--jobs", "1"]
    assert command.main(["all", *arguments]) == 0
    said = capsys.readouterr()
    assert said.out == f"fig1: {tmp_path}/fig1.png\nfig1: {tmp_path}/fig1.json\n"
    assert "fig13: not drawn: " in said.err and "no evaluated run of dsprites-raw-beta-vae-0" in said.err
    assert [line for line in (tmp_path / "fig1.txt").read_text().splitlines() if line.startswith("run: ")] == [
        f"run: {folder}/runs/b"
    ], "the run that it reads"
    with pytest.raises(InputError, match="no evaluated run of dsprites"):
        command.main(["fig13", *arguments])
    monkeypatch.setattr(command, "ITEMS", {"fig13": ITEMS["fig13"]})
    with pytest.raises(InputError, match="not one item could be drawn"):
        command.main(["all", *arguments])


def test_an_item_reads_of_each_experiment_the_first_seed(runs: list[EvaluatedRun], tmp_path: Path) -> None:
    """Whatever the folders are called."""

    def read(item: str) -> list[str]:
        return [run.folder.name for run in runs_of(item, ITEMS[item], tmp_path, None).values()]

    a1, a3, b, i3 = runs
    record(tmp_path / "p", a1, objective="paper")
    record(tmp_path / "z3", a3)
    assert read("fig4") == ["z3"], "the objective of its name is ours"
    assert sorted(read("fig1")) == ["p", "z3"], "any galaxy run tells which are the test images"
    record(tmp_path / "a1-7", a1, seed=7)
    record(tmp_path / "d", a1, aux=",".join(dsprites.LABELS["sound"]), objective="bernoulli")
    record(tmp_path / "b2", b, aux=",".join(CASES[2]))
    record(tmp_path / "i3", i3)
    record(tmp_path / "x1", a1)
    assert read("fig8") == ["b2", "x1", "i3", "z3"], "beta-VAE trains on no labels"
    assert read("fig15") == ["d"] and read("fig1") == ["b2"]
    assert read("table1") == ["a1-7", "b2", "d", "i3", "p", "x1", "z3"]


def test_codes_that_are_gone_are_named(runs: list[EvaluatedRun], tmp_path: Path) -> None:
    record(tmp_path / "gone", runs[0])
    for item in ("fig2", "fig7"):
        with pytest.raises(
            InputError, match=r"gone/codes-test.h5: no such file; `hpcauxvae evaluate .*gone` writes it"
        ):
            draw(item, tmp_path, tmp_path)
