"""Scores of a cross-validation: what is pooled is what all test parts give together, by formulas of others."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import t

from helpers.trainings import FACTORS, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import command, folds, reader
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.table import table
from hpcauxvae.paper.runs import find
from hpcauxvae.train.command import main
from hpcauxvae.train.run import load_run
from hpcauxvae.types import Fold, InputError

FOLDS = 3


@pytest.fixture(scope="module")
def folder(blobs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation of three folds, an epoch each."""
    folder = tmp_path_factory.mktemp("folds")
    run = config(blobs_file, folder / "x", network="mlp", epochs=3, learning_rate=3e-3, folds=FOLDS)
    assert main(run.arguments()) == 0
    blobs(folder / "fresh.h5", seed=1)
    return folder


@pytest.fixture(scope="module")
def metrics(folder: Path) -> dict:
    given = EvaluateConfig(run=folder / "x", fresh=folder / "fresh.h5", device="cpu", pictures=False, control=False)
    return folds.evaluate(given)


def parts(folder: Path) -> tuple[list[dict], list[dict[str, np.ndarray]]]:
    """The blocks of metrics.json and the codes of each fold."""
    runs = [folder / "x" / f"fold{number}" for number in range(FOLDS)]
    blocks = [json.loads((run / "metrics.json").read_text())["sets"] for run in runs]
    codes = []
    for run in runs:
        with h5py.File(run / "codes-test.h5") as file:
            codes.append({name: file[name][:] for name in file})
    return blocks, codes


def test_guided_latents_of_all_folds_are_read_together(folder, metrics):
    found, (_, codes) = metrics["sets"]["test"], parts(folder)
    names = ("index", "factors", "mean", "regressed")
    index, values, mean, told = (np.concatenate([c[name] for c in codes]) for name in names)
    assert sorted(index) == list(range(160))
    for latent, factor in enumerate(FACTORS[:2]):
        of_factor, u = found["reading"][factor.name], values[:, latent]
        z = factor.unscale(mean[:, latent])
        assert of_factor["r"]["value"] == pytest.approx(np.corrcoef(u, z)[0, 1])
        assert of_factor["slope"]["value"] == pytest.approx(np.polyfit(u, z, 1)[0])
        assert of_factor["error"]["value"] == pytest.approx(np.sqrt(np.mean((z - u) ** 2)))
        assert of_factor["r"]["n"] == 160 and of_factor["unit"] == factor.unit
        plain = of_factor["regressor"]
        assert plain["r"]["value"] == pytest.approx(np.corrcoef(u, told[:, latent])[0, 1])
        assert plain["error"]["value"] == pytest.approx(np.sqrt(np.mean((told[:, latent] - u) ** 2)))
        assert plain["r"]["value"] > 0.7
    pair = found["correlated"][0]
    assert pair["r"] == pytest.approx(np.corrcoef(values[:, 0], values[:, 1])[0, 1])


def test_images_of_all_folds_count_alike(folder, metrics):
    """An MSE is in units of the brightest training pixel, which is another one in each fold."""
    found, (blocks, codes) = metrics["sets"]["test"], parts(folder)
    maxima = np.array([float(load_run(folder / "x" / f"fold{number}").model.maximum) for number in range(FOLDS)])
    assert len(set(maxima)) > 1
    ssim = np.concatenate([c["ssim"] for c in codes])
    mse = np.concatenate([c["mse"] * (m / maxima.max()) ** 2 for c, m in zip(codes, maxima, strict=True)])
    for name, values in (("ssim", ssim), ("mse", mse)):
        score = found["images"][name]
        assert (score["value"], score["n"]) == (pytest.approx(values.mean()), 160)
        half = 1.959964 * values.std(ddof=1) / np.sqrt(160)
        assert score["high"] - score["value"] == pytest.approx(half)
    pca = [block["test"]["baselines"]["pca"]["mse"] for block in blocks]
    expected = sum(s["value"] * s["n"] * (m / maxima.max()) ** 2 for s, m in zip(pca, maxima, strict=True)) / 160
    assert found["baselines"]["pca"]["mse"]["value"] == pytest.approx(expected)


def test_scores_of_whole_codes_are_means_with_their_spread(folder, metrics):
    blocks, _ = parts(folder)
    for name, pick in (
        ("test", lambda block: block["codes"]["lds"]),
        ("test", lambda block: block["codes"]["dci"]["disentanglement"]),
        ("test", lambda block: block["joint"]["radius"]["means"]),
        ("fresh", lambda block: block["images"]["ssim"]),
        ("fresh", lambda block: block["reading"]["g1"]["r"]),
    ):
        of_folds, score = [pick(block[name]) for block in blocks], pick(metrics["sets"][name])
        values = np.array([one["value"] for one in of_folds])
        assert score["value"] == pytest.approx(values.mean())
        half = t.ppf(0.975, FOLDS - 1) * values.std(ddof=1) / np.sqrt(FOLDS)
        low = max(0.0, values.mean() - half) if all(one["low"] >= 0 for one in of_folds) else values.mean() - half
        assert score["low"] == pytest.approx(low)
        assert score["n"] == min(one["n"] for one in of_folds)
    attainable = [block["test"]["codes"]["lds"]["attainable"] for block in blocks]
    assert metrics["sets"]["test"]["codes"]["lds"]["attainable"] == pytest.approx(np.mean(attainable))
    single = [abs(block["test"]["joint"]["g1"]["single"]["r"]["value"]) for block in blocks]
    of_all = metrics["sets"]["test"]["joint"]["g1"]["single"]
    assert of_all["r"]["value"] == pytest.approx(np.mean(single)) and of_all["latent"] is None
    r = [block["test"]["joint"]["g1"]["single"]["r"] for block in blocks]
    ends = [sorted((one["low"], one["high"]) if one["value"] >= 0 else (-one["high"], -one["low"])) for one in r]
    assert [of_all["r"]["low"], of_all["r"]["high"]] == pytest.approx(np.mean(ends, 0).tolist()), "those of one fold"


def test_what_one_fold_lost_is_told(folder, metrics):
    """A mean over folds of which one is reversed has an interval so wide that it says nothing."""
    blocks = [block["test"] for block in parts(folder)[0]]
    for number, block in enumerate(blocks):
        r, slope = (-0.9, -0.8) if number == 1 else (0.99, 1.0)
        for of_factor in block["reading"].values():
            of_factor["r"] |= {"value": r, "low": r - 0.01, "high": r + 0.01}
            of_factor["slope"] |= {"value": slope, "low": slope - 0.02, "high": slope + 0.02}
        block["latents"]["off"] = [1] if number == 2 else []
    lines = folds._of_folds(blocks)
    assert "fold 1: g1 is reversed (r = -0.90, slope -0.80)" in lines
    assert [line for line in lines if line.startswith("fold 2: the latent of radius is off")]
    assert not [line for line in lines if line.startswith("fold 0") and "reversed" in line]
    own = [line for line in metrics["sets"]["test"]["verdicts"] if line.startswith("fold ")]
    assert own == folds._of_folds([block["test"] for block in parts(folder)[0]])


def test_one_table_one_file_and_verdicts(folder, metrics, capsys):
    assert json.loads((folder / "x" / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (metrics["folds"], metrics["epoch"], metrics["epochs"]) == (FOLDS, 3, 3)
    lines = table(metrics["sets"]).splitlines()
    pooled = "images (160) and readings are of all folds together, other scores are means over the folds"
    assert lines[1].endswith(f"at epoch 3 of 3; 3 folds: {pooled}")
    in_use = [block["test"]["latents"]["in_use"] for block in parts(folder)[0]]
    latents = metrics["sets"]["test"]["latents"]
    assert (latents["in_use"], latents["most_in_use"]) == (min(in_use), max(in_use))
    assert any("samples are too few to tell" in line for line in metrics["sets"]["test"]["verdicts"])
    assert command.evaluate([str(folder / "x"), "--device", "cpu", "--no-pictures", "--no-control"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == f"written: {folder / 'x'}/metrics.json, fold*/codes-*.h5"
    assert "fold 2 of 3: " in said.err
    assert [run.folder.name for run in find(folder / "x")] == ["fold0", "fold1", "fold2"] and not find(folder)


def test_test_parts_too_small_for_a_score_are_read_together(folder, tmp_path, capsys):
    """24 images in 8 folds: three to test have no LDS, all of them have readings."""
    data = open_set(folder / "fresh.h5")
    write(tmp_path / "set.h5", np.array(data.images)[:24, :, 12:20, 12:20], data.values[:24], FACTORS, {})
    run = config(tmp_path / "set.h5", tmp_path / "x", network="mlp", epochs=1, batch_size=8, folds=8)
    assert main(run.arguments()) == 0
    given = EvaluateConfig(run=tmp_path / "x", device="cpu", pictures=False, control=False)
    block = folds.evaluate(given)["sets"]["test"]
    assert block["codes"] == {} and "joint" not in block
    assert block["images"]["ssim"]["n"] == block["reading"]["g1"]["r"]["n"] == 24
    assert "radius " in table({"test": block})
    assert "measured in 3 of 3 test samples, but a score needs 4" in capsys.readouterr().err


def test_what_cannot_be_pooled_is_refused(folder, tmp_path):
    whole = shutil.copytree(folder / "x", tmp_path / "x", symlinks=True)
    (whole / "fold1" / "last.safetensors").unlink()
    with pytest.raises(InputError, match="x: fold 1 of 3 has no checkpoint; its train command with --resume auto"):
        command.evaluate([str(whole)])
    shutil.rmtree(whole / "fold1")
    shutil.copytree(whole / "fold2", whole / "fold1", symlinks=True)
    with pytest.raises(InputError, match=r"fold1: fold = 2; allowed: 1, as .*fold0 has it"):
        command.evaluate([str(whole)])
    for other in (command.generate, command.sensitivity):
        with pytest.raises(
            InputError, match=r"x: holds a cross-validation; allowed: the run of one fold, such as .*d0"
        ):
            other([str(whole)])


def test_each_fold_has_a_reader_of_its_own(folder, tmp_path, monkeypatch):
    """No test image of a fold is seen by it, and another fold does not take its file."""
    seen = []
    monkeypatch.setattr(reader, "FEWEST", 10)
    monkeypatch.setattr(reader, "_train", lambda _network, _data, _columns, train, _validation: seen.append(set(train)))
    data = open_set(shutil.copy(folder / "fresh.h5", tmp_path / "set.h5"))
    for number in (0, 1, 0):
        assert reader.reader_of(data, 0, tmp_path, torch.device("cpu"), "random", Fold(number, 3)) is not None
    assert len(seen) == 2 and seen[0] != seen[1]
    assert len(list(tmp_path.glob("set.reader-*-0-fold[01]of3.safetensors"))) == 2
