"""Runs side by side: which images, which latents, whether stored codes are theirs; differences by other formulas."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from helpers.trainings import alone, blobs, config
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.splits import parts
from hpcauxvae.evaluate import command, compare
from hpcauxvae.evaluate.command import CompareConfig
from hpcauxvae.evaluate.compared import findings, named, table
from hpcauxvae.evaluate.comparison_picture import comparison
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError


def partner_seed(data: Path, enough: bool) -> int:
    """A split seed whose test part shares four images or more with that of seed 0, or fewer."""
    found = open_set(data)
    test = parts(found, 0)[2]
    return next(s for s in range(1, 99) if (len(np.intersect1d(test, parts(found, s)[2])) >= 4) == enough)


@pytest.fixture(scope="session")
def runs(once: Callable, blobs_file: Path, trained_run: Path) -> Path:
    """Folder of `other` (seed 1), `split` (guided by g1 and flux, another split) and `apart` (nothing in common)."""

    def train(folder: Path) -> None:
        shutil.copytree(trained_run, folder / "first", symlinks=True)
        few = {"epochs": 1, "network": "mlp"}
        seeds = {enough: partner_seed(blobs_file, enough) for enough in (True, False)}
        for name, fields in (
            ("other", {"seed": 1}),
            ("split", {"aux": "g1,flux", "split_seed": seeds[True]}),
            ("apart", {"split_seed": seeds[False]}),
        ):
            assert alone(config(blobs_file, folder / name, **few, **fields)) == 0
        common = ["--data", str(blobs_file), "--no-pictures", "--no-control", "--device", "cpu"]
        assert command.evaluate([str(folder / "other"), *common]) == 0

    return once("compared", train)


def compared(runs: Path, *names: str, **fields) -> dict:
    return compare.compare(CompareConfig(runs=tuple(runs / name for name in names), device="cpu", **fields))


def test_differences_of_images_and_readings(runs, blobs_file, capsys):
    found = compared(runs, "first", "other", data=blobs_file)
    assert "test: first: encoding 16 samples\ntest: other: codes are there" in capsys.readouterr().err
    block, data = found["sets"]["test"], open_set(blobs_file)
    first, other = (load_run(runs / name) for name in ("first", "other"))
    index = np.sort(first.parts(data)[2])
    assert block["samples"] == len(index) == 16
    drawn, codes = {}, {}
    for name, run in (("first", first), ("other", other)):
        codes[name], _ = run.encode(data.images, data.scaled()[index][:, :2], index)
        drawn[name] = run.decode(codes[name])
    images = np.asarray(data.images[index])
    ssim = {
        name: np.array([
            structural_similarity(a[0].astype(float), b[0].astype(float), data_range=float(np.ptp(a)))
            for a, b in zip(images, of_run, strict=True)
        ])
        for name, of_run in drawn.items()
    }  # fmt: skip
    difference, score = ssim["other"] - ssim["first"], block["scores"]["ssim"]["differences"][1]
    assert score["value"] == pytest.approx(difference.mean(), abs=1e-6)
    assert score["high"] - score["value"] == pytest.approx(1.959964 * difference.std(ddof=1) / 4, rel=1e-3)
    top = max(float(run.model.maximum) for run in (first, other))
    mse = [np.mean(((images - drawn[name]) / top) ** 2) for name in ("first", "other")]
    assert [score["value"] for score in block["scores"]["mse"]["values"]] == pytest.approx(mse, rel=1e-4)
    g1 = data.values[index, 1]
    r = [np.corrcoef(g1, codes[name][:, 1])[0, 1] for name in ("first", "other")]
    assert [score["value"] for score in block["scores"]["r of g1"]["values"]] == pytest.approx(r, abs=1e-5)
    assert block["scores"]["r of g1"]["differences"][1]["value"] == pytest.approx(r[1] - r[0], abs=1e-5)
    assert found["runs"][1]["differs"] == ["network = mlp (conv)", "epochs = 1 (2)", "seed = 1 (0)"]


@pytest.mark.parametrize(("name", "by"), [("mean", 0.5), ("ssim", 0.1), ("factors", 1.0), ("index", 1)])
def test_codes_of_other_weights_or_images_are_not_taken(runs, blobs_file, tmp_path, name, by, capsys):
    shutil.copytree(runs / "first", tmp_path / "first", symlinks=True)
    shutil.copytree(runs / "other", tmp_path / "other", symlinks=True)
    expected = compared(runs, "first", "other", data=blobs_file)["sets"]["test"]["scores"]
    with h5py.File(tmp_path / "other" / "codes-test.h5", "r+") as file:
        file[name][...] = file[name][:] + by
    capsys.readouterr()
    found = compared(tmp_path, "first", "other", data=blobs_file)["sets"]["test"]["scores"]
    assert "test: other: encoding 16 samples" in capsys.readouterr().err
    for score in ("lds", "ssim", "r of radius"):
        assert found[score]["values"][1]["value"] == pytest.approx(expected[score]["values"][1]["value"], abs=1e-5)


def test_other_splits_and_factors(runs, blobs_file):
    """The images are test images of both; what guides in both is compared, each latent where its run has it."""
    data, found = open_set(blobs_file), compared(runs, "first", "split", data=blobs_file)["sets"]["test"]
    first, other = (load_run(runs / name) for name in ("first", "split"))
    index = np.intersect1d(first.parts(data)[2], other.parts(data)[2])
    assert found["samples"] == len(index) < 16
    assert "r of g1" in found["scores"] and not {"r of radius", "r of flux"} & found["scores"].keys()
    for run, latent, score in zip((first, other), (1, 0), found["scores"]["r of g1"]["values"], strict=True):
        mean, _ = run.encode(data.images, data.scaled()[index][:, data.column(run.config.aux_names)], index)
        assert score["value"] == pytest.approx(np.corrcoef(data.values[index, 1], mean[:, latent])[0, 1], abs=1e-5)


def test_without_an_image_in_common_a_fresh_set_is_needed(runs, blobs_file, tmp_path, capsys):
    with pytest.raises(InputError, match=r"blobs\.h5: \d images are test images of all .* --fresh FILE"):
        compared(runs, "first", "apart", data=blobs_file)
    fresh = blobs(tmp_path / "fresh.h5", seed=1)
    found = compared(runs, "first", "apart", data=blobs_file, fresh=fresh)
    assert list(found["sets"]) == ["fresh"] and found["sets"]["fresh"]["samples"] == 160
    assert "fresh.h5 alone" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"blobs\.h5: is the data set that .*first was trained on"):
        compared(runs, "first", "apart", data=blobs_file, fresh=blobs_file)


def test_runs_of_several_sets_are_compared_on_fresh_images_alone(runs, tmp_path):
    few = blobs(tmp_path / "few.h5", seed=2)
    assert alone(config(few, tmp_path / "run", epochs=1, network="mlp")) == 0
    both = {"runs": (runs / "first", tmp_path / "run"), "device": "cpu"}
    with pytest.raises(InputError, match=r"run: was trained on another data set \(.*few\.h5\) than .*first"):
        compare.compare(CompareConfig(**both))
    found = compare.compare(CompareConfig(**both, fresh=blobs(tmp_path / "fresh.h5", seed=1)))
    assert list(found["sets"]) == ["fresh"]


def test_the_command_prints_draws_and_writes(runs, blobs_file, tmp_path, capsys, figures):
    words = [
        "--data",
        str(blobs_file),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "x.png"),
        "--json",
        str(tmp_path / "x"),
    ]
    assert command.compare([str(runs / "first"), str(runs / "other"), *words]) == 0
    said = capsys.readouterr().out
    assert "other: aux-vae, epoch 1 of 1; network = mlp (conv), epochs = 1 (2), seed = 1 (0)" in said
    assert "test: " in said and "16 images that are test images of each run" in said
    written = json.loads((tmp_path / "x").read_text())["sets"]["test"]
    for line in written["verdicts"]:
        assert f"  - {line}" in said
    titles = [ax.get_title(loc="left") for ax in figures[-1].axes if ax.get_visible()]
    assert titles[:2] == ["LDS, test", "LDS of means, test"] and "error of radius [arcsec], test" in titles
    assert len(titles) == len(written["scores"])


def score(value: float, half: float) -> dict:
    return {"value": value, "low": value - half, "high": value + half, "n": 9}


def test_of_what_codes_are_compared_is_told_where_one_of_two_was_told_of_nothing(runs, blobs_file, tmp_path):
    alone(config(blobs_file, tmp_path / "beta", model="beta-vae", epochs=1, network="mlp"))
    found = compare.compare(CompareConfig(runs=(runs / "first", tmp_path / "beta"), device="cpu"))
    words = "LDS and SAP of all runs are of radius, g1, which guide latents of first; beta was told of none of them"
    assert words in table(found)
    assert "LDS and SAP of all runs" not in table(compared(runs, "first", "other"))


@pytest.mark.parametrize(("option", "name"), [("--json", "set.h5"), ("--out", "own.png")])
def test_nothing_that_is_there_is_overwritten(runs, tmp_path, option, name):
    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(InputError, match=f"{name}: exists already"):
        command.compare([str(runs / "first"), str(runs / "other"), option, str(path)])
    assert path.read_text() == "precious"


def test_words_and_table_tell_better_from_worse():
    """Less of an error is better, an interval with 0 in it is no difference, and a score that a run lacks is none."""
    scores = {
        name: {
            "better": better, "unit": "", "differences": [None, of_b, of_c], "smallest": 0.005,
            "values": [score(1, 1), of_b and score(2, 1), score(1, 1)],
        }
        for name, better, of_b, of_c in (
            ("lds", "higher", score(0.004, 0.003), score(-0.004, 0.003)),
            ("sap", "higher", score(0.0025, 0.002), score(-0.0025, 0.002)),
            ("mse", "lower", score(0.2, 0.1), score(-0.2, 0.1)),
            ("ssim", "higher", score(0.1, 0.2), score(-0.1, 0.2)),
            ("r of g1", "higher", None, score(0.5, 0.1)),
        )
    }  # fmt: skip
    lines = findings(["a", "b", "c"], scores)
    assert lines == [
        "b is better than a in LDS (+0.004 [0.001, 0.007])",
        "b is worse than a in MSE (+0.2 [0.1, 0.3])",
        "b and a differ by too little to matter in SAP (+0.0025 [0.0005, 0.0045])",
        "no difference between b and a in SSIM",
        "c is better than a in MSE (-0.2 [-0.3, -0.1]), r of g1 (+0.5 [0.4, 0.6])",
        "c is worse than a in LDS (-0.004 [-0.007, -0.001])",
        "c and a differ by too little to matter in SAP (-0.0025 [-0.0045, -0.0005])",
        "no difference between c and a in SSIM",
        "intervals are of these images: a training with another seed may differ by more",
    ]
    runs = [{"name": name, "model": "aux-vae", "epoch": 1, "epochs": 2, "differs": []} for name in "abc"]
    block = {"data": "x.h5", "samples": 9, "left_out": ["x is not"], "scores": scores, "verdicts": lines}
    rows = table({"runs": runs, "sets": {"test": block}}).splitlines()
    assert rows.count("  x is not") == 1
    assert sum(row.rstrip().endswith("better") for row in rows) == 3
    assert sum(row.rstrip().endswith("worse") for row in rows) == 2
    assert sum(row.rstrip().endswith("too small") for row in rows) == 2
    assert next(row.split() for row in rows if row.strip().startswith("r of g1")) == ["r", "of", "g1", "1", "-"]


def test_a_training_that_rounds_otherwise_is_neither_better_nor_worse(blobs_file, tmp_path):
    """The same batches in two parts: gradients differ by their last digits, and so do scores, all in one direction."""
    fields = {"epochs": 3, "network": "mlp", "objective": "gaussian"}
    for name, parts_of_a_batch in (("whole", 1), ("parts", 2)):
        assert alone(config(blobs_file, tmp_path / name, accumulate=parts_of_a_batch, **fields)) == 0
    fresh = blobs(tmp_path / "fresh.h5", seed=1)
    found = compared(tmp_path, "whole", "parts", data=blobs_file, fresh=fresh)["sets"]["fresh"]
    less = found["scores"]["ssim"]["differences"][1]
    assert less["low"] > 0 or less["high"] < 0, "not by chance"
    assert any(line.startswith("parts and whole differ by too little to matter in ") for line in found["verdicts"])
    assert not [line for line in found["verdicts"] if "is better" in line or "is worse" in line]
    for name in ("mse", "error of radius"):
        of_runs = found["scores"][name]
        assert of_runs["smallest"] == pytest.approx(of_runs["values"][0]["value"] / 100)
    assert {found["scores"][name]["smallest"] for name in ("lds", "sap", "r of g1")} == {0.005}


def test_the_picture_lays_the_difference_about_the_first_run(tmp_path, figures):
    of_runs = {
        "better": "lower",
        "unit": "",
        "values": [score(1, 0.5), score(2, 0.4)],
        "differences": [None, score(1, 0.1)],
    }
    runs = [{"name": "a"}, {"name": "b"}]
    comparison({"runs": runs, "sets": {"test": {"scores": {"mse": of_runs}}}}, tmp_path / "x.png")
    lines = {tuple(np.round(line.get_xdata(), 6)): line for line in figures[-1].axes[0].lines}
    assert {(0.5, 1.5), (1.6, 2.4), (1.9, 2.1)} <= lines.keys()
    assert lines[1.9, 2.1].get_color() == "#7d1f33", "red: it is worse"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "1 run is given; allowed: 2 or more"),
        (["run", "other", "run"], "run: is given more than once"),
        (["run", "other", "--out", "x.jpg"], r"out = x\.jpg; allowed: a name that ends in \.png"),
        (["run", "other"], "run: no such folder"),
        (["folds", "other"], "folds: holds a cross-validation; allowed: the run of one fold"),
        (["run", "other", "--images", "1"], "images = 1; allowed: at least 2"),
    ],
)
def test_what_cannot_be_compared(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("other", "folds/fold0"):
        Path(folder).mkdir(parents=True)
    with pytest.raises(InputError, match=said):
        command.compare(words)


def test_runs_with_the_same_name_are_told_apart():
    assert named([Path("a/run"), Path("b/run"), Path("c/x")]) == ["a/run", "b/run", "x"]


def test_columns_of_the_same_name_that_stand_for_other_levels_are_not_compared(blobs_file):
    """Classes that one run does not know are no class of the other's column; whichever comes first."""
    data = open_set(blobs_file)
    radius, g1 = (Guide(factor, (factor,)) for factor in data.factors[:2])
    rank = data.factors[2]._replace(name="rank of flux", low=0, high=2)
    few, many = (Guide(data.factors[2], (rank,), levels) for levels in ((1.0, 2.0, 9.0), (1.0, 2.0, 4.0)))
    images = SimpleNamespace(data=dataclasses.replace(data, factors=(*data.factors[:2], rank)), index_N=np.arange(160))
    model = SimpleNamespace(GUIDED=True)
    one, other = (SimpleNamespace(model=model, guides=(radius, guide)) for guide in (few, many))
    assert compare._shared(images, [one, other]) == compare._shared(images, [other, one]) == ["radius"]
    assert compare._shared(images, [one, one]) == ["radius", "rank of flux"]
    assert compare._shared(images, [one, SimpleNamespace(model=model, guides=(g1,))]) == []


def test_what_no_score_of_it_sees_is_repeated(runs: Path, tmp_path: Path) -> None:
    """A model that no factor steers is not crowned in silence."""
    folders = [shutil.copytree(runs / name, tmp_path / name, symlinks=True) for name in ("first", "other")]
    still = "radius does not steer the image: asked against read r = 0.24"
    lump = "what is asked for is not what the same toy really looks like: beside the true view"
    found = {"sets": {"test": {"verdicts": [still, lump, "g1 is squeezed"]}}}
    (folders[1] / "metrics.json").write_text(json.dumps(found))
    lines = compare.compare(CompareConfig(runs=tuple(folders), device="cpu"))["sets"]["test"]["verdicts"]
    assert lines[-2:] == [f"not compared here, but found by `evaluate` of other: {line}" for line in (still, lump)]
