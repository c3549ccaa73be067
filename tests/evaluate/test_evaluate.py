"""Evaluation and the paper's items, on a small run trained here."""

import dataclasses
import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from helpers import forked
from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.data.remarks import remarks
from hpcauxvae.evaluate import command as commands
from hpcauxvae.evaluate import generate, scores
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, evaluate, write_codes
from hpcauxvae.evaluate.table import table
from hpcauxvae.paper.command import main as paper
from hpcauxvae.paper.runs import find
from hpcauxvae.runtime.lock import RunLock
from hpcauxvae.train.run import Run, load_run
from hpcauxvae.types import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its data set blobs.h5, and another set fresh.h5 of which fresh-noiseless.h5 has the expected counts."""
    folder = tmp_path_factory.mktemp("evaluate")
    data = blobs(folder / "blobs.h5")
    blobs(folder / "fresh.h5", seed=1)
    blobs(folder / "fresh-noiseless.h5", seed=1, noiseless=True)
    alone(config(data, folder / "run", epochs=6))
    return folder


@pytest.fixture(scope="module")
def metrics(folder: Path) -> dict:
    return evaluate(
        EvaluateConfig(
            run=folder / "run", fresh=folder / "fresh.h5", noiseless=(folder / "fresh-noiseless.h5",), device="cpu"
        )
    )


def test_every_score_has_value_interval_and_n(folder, metrics):
    assert json.loads((folder / "run" / "metrics.json").read_text()) == metrics
    for name, n in (("test", 16), ("fresh", 160)):
        codes = metrics["sets"][name]["codes"]
        for score in (codes["lds"], codes["sap"], metrics["sets"][name]["images"]["mse"]):
            assert score["low"] <= score["value"] <= score["high"]
            assert score["n"] == n
        assert codes["lds"]["value"] > 0
        assert 0 < codes["lds"]["attainable"] < 1


def test_how_far_the_training_is_stands_in_metrics_table_and_verdicts(folder, metrics, tmp_path):
    """Done; trained longer, of which there is no checkpoint yet; and the same while it goes on."""
    assert (metrics["epoch"], metrics["epochs"]) == (6, 6)
    assert f"test: {folder / 'blobs.h5'}, at epoch 6 of 6" in table(metrics["sets"]).splitlines()
    assert not [line for line in metrics["sets"]["test"]["verdicts"] if "the training has done" in line]
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run, symlinks=True)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"epochs": 40}))
    lock = RunLock(run)
    for held in (False, True):
        if held:
            lock.acquire()
        found = evaluate(EvaluateConfig(run=run, device="cpu", pictures=False, control=False))
        inside = f", and process {os.getpid()} on {socket.gethostname()} is in its folder" if held else ""
        assert (found["epoch"], found["epochs"]) == (6, 40)
        assert found["sets"]["test"]["verdicts"][0] == (
            f"the training has done 6 of 40 epochs{inside}: these are its scores so far"
        )
    lock.release()


def test_the_table_says_how_sure_a_share_is_and_where_samples_are_too_few(metrics):
    score = metrics["sets"]["test"]["codes"]["lds_mean"]
    lines = table(metrics["sets"]).splitlines()
    share, low, high = (score[key] / score["attainable"] for key in ("value", "low", "high"))
    assert f"{share:.3f}  [{low:.3f}, {high:.3f}]" in next(line for line in lines if line.startswith("  lds_mean "))
    told = [line.split("; ")[-1] for line in lines if line.startswith("  radius ") and "(latent" in line]
    assert told[0] == "R2 of 16 samples says nothing: 60 are needed" and told[1].endswith(
        ")"
    )  # of 160 it says something


def test_rows_of_a_traversal_say_what_is_read_and_what_is_off(folder, metrics, tmp_path, monkeypatch):
    evaluator = Evaluator(EvaluateConfig(run=folder / "run", device="cpu"))
    rows: list[str] = []
    monkeypatch.setattr(scores.pictures, "traversal", lambda _, names, *rest, **named: rows.extend(names))
    scored, block = next(evaluator.sets()), dict(metrics["sets"]["test"])
    block["latents"] = block["latents"] | {"off": [2, 10], "still": [9]}
    evaluator.draw(scored, block, {"ssim": np.ones(16)}, tmp_path)
    assert rows[0].startswith("$z_{1}$\nradius [arcsec]\nread: r ") and not rows[0].endswith("off")
    assert rows[1].endswith("\noff") and rows[2:] == [f"$z_{{{number}}}$" for number in range(3, 9)] + [
        "$z_{9}$\ndraws nothing",
        "$z_{10}$\noff",
    ]


def test_copies_of_training_images_among_those_that_are_scored_are_told(folder, tmp_path):
    """In the words of `data check`; and where they are in a fresh set."""
    draws, twice = open_set(folder / "blobs.h5"), np.repeat(np.arange(80), 2)
    write(tmp_path / "twice.h5", draws.images[twice], draws.values[twice], FACTORS, {})
    fresh = twice[split(160, 0)[0][:12]]
    write(tmp_path / "fresh.h5", draws.images[fresh], draws.values[fresh], FACTORS, {})
    alone(config(tmp_path / "twice.h5", tmp_path / "run", epochs=1))
    arguments: dict[str, Any] = {"run": tmp_path / "run", "device": "cpu", "pictures": False, "control": False}
    found = evaluate(EvaluateConfig(fresh=tmp_path / "fresh.h5", **arguments))["sets"]
    (told,) = remarks(open_set(tmp_path / "twice.h5"))
    assert "test images are training images, too" in told and found["test"]["verdicts"][0] == told
    assert found["fresh"]["verdicts"][0].startswith("images: 12 of 12 fresh images are training images, too")


def test_scores_are_those_of_the_test_split_and_of_skimage(folder, metrics):
    """The whole chain again by hand: split, encode the test images, decode the means, compare by scikit-image."""
    import torch

    data = open_set(folder / "blobs.h5")
    test = np.sort(split(len(data), 0)[2])
    model = load_run(folder / "run").model
    originals = np.array(data.images[test])
    with torch.no_grad():
        reconstructions = model.decode(model.encode(torch.from_numpy(originals)).mean).numpy()
    train_max = float(data.images[split(len(data), 0)[0]].max())
    ssim = np.mean(
        [
            structural_similarity(a[0] / train_max, b[0] / train_max, data_range=np.ptp(a) / train_max)
            for a, b in zip(originals.astype(float), reconstructions.astype(float), strict=True)
        ]
    )
    block = metrics["sets"]["test"]
    assert block["images"]["ssim"]["value"] == pytest.approx(ssim, abs=1e-6)
    mse = np.square((originals - reconstructions) / train_max).mean()
    assert block["images"]["mse"]["value"] == pytest.approx(mse, rel=1e-4)
    with h5py.File(folder / "run" / "codes-test.h5") as codes:
        u_N, mean_N = codes["factors"][:, 0], codes["mean"][:, 0]
        np.testing.assert_array_equal(codes["index"], test)
    assert block["reading"]["radius"]["r"]["value"] == pytest.approx(np.corrcoef(u_N, mean_N)[0, 1], abs=1e-9)


def test_the_noiseless_ceiling_belongs_to_the_set_with_its_factors(metrics):
    assert "noiseless" not in metrics["sets"]["test"]
    ceiling = metrics["sets"]["fresh"]["noiseless"]["ssim"]["value"]
    assert metrics["sets"]["fresh"]["images"]["ssim"]["value"] < ceiling < 1


def test_several_noiseless_sets_follow_one_option_and_each_factor_has_its_own(tmp_path, monkeypatch):
    """As the paper command writes the one, and the README the other."""
    seen: list = []

    def look(config):
        seen.append(config)
        raise InputError("seen")

    monkeypatch.setattr(scores, "evaluate", look)
    monkeypatch.setattr(generate, "generate", look)
    with pytest.raises(InputError, match="seen"):
        commands.evaluate([str(tmp_path), "--noiseless", "a.h5", "b.h5"])
    with pytest.raises(InputError, match="seen"):
        commands.generate([str(tmp_path), "--set", "a=1", "--set", "b=2"])
    assert seen[0].noiseless == (Path("a.h5"), Path("b.h5"))
    assert seen[1].set == ("a=1", "b=2")


def test_a_noiseless_set_that_belongs_to_no_set_scored_is_refused(folder, tmp_path):
    run, noiseless = folder / "run", folder / "fresh-noiseless.h5"
    found = "fresh-noiseless.h5: the factors of its 160 samples are those of no set that is scored; "
    with pytest.raises(InputError, match=rf"{found}allowed: noiseless draws of \S*blobs\.h5$"):
        Evaluator(EvaluateConfig(run=run, noiseless=(noiseless,), device="cpu"))
    other = blobs(tmp_path / "third.h5", seed=2, noiseless=True)
    with pytest.raises(
        InputError, match=r"third\.h5: the factors of .*: noiseless draws of \S*blobs\.h5 or \S*fresh\.h5$"
    ):
        Evaluator(EvaluateConfig(run=run, fresh=folder / "fresh.h5", noiseless=(noiseless, other), device="cpu"))
    small, draws = tmp_path / "small.h5", open_set(noiseless)
    write(small, draws.images[..., ::2, ::2], draws.values, FACTORS, {})
    with pytest.raises(InputError, match=r"small\.h5: images of \(1, 17, 17\); allowed: those of .*\(1, 33, 33\)"):
        Evaluator(EvaluateConfig(run=run, fresh=folder / "fresh.h5", noiseless=(small,), device="cpu"))


def test_images_with_noise_are_not_taken_for_noiseless_ones(folder, tmp_path):
    """They would make the ceiling of SSIM 1, or too low."""
    noisy = blobs(tmp_path / "noisy.h5", seed=1)
    for noise, found in ((None, "the images of a set that is scored"), ("Poisson", "noise = Poisson")):
        if noise:
            with h5py.File(noisy, "r+") as file:
                file.attrs["noise"] = noise
                file["images"][:] += 1  # another draw
        with pytest.raises(InputError, match=rf"noisy\.h5: {found}; allowed: images without noise"):
            Evaluator(EvaluateConfig(run=folder / "run", fresh=folder / "fresh.h5", noiseless=(noisy,), device="cpu"))


def test_a_missing_label_does_not_part_a_set_from_its_noiseless_draws(folder, tmp_path):
    paths = [tmp_path / "fresh.h5", tmp_path / "fresh-noiseless.h5"]
    for path in paths:
        draws = open_set(folder / path.name)
        values = draws.values.copy()
        values[::7, 1] = np.nan
        write(path, draws.images, values, FACTORS, {})
    evaluator = Evaluator(EvaluateConfig(run=folder / "run", fresh=paths[0], noiseless=(paths[1],), device="cpu"))
    test, fresh = evaluator.sets()
    assert test.noiseless is None
    np.testing.assert_array_equal(fresh.noiseless[:], open_set(paths[1]).images)


def test_the_traversal_moves_an_auxiliary_latent_over_the_range_of_its_factor(folder, metrics):
    evaluator = Evaluator(EvaluateConfig(run=folder / "run", device="cpu"))
    images, names, labels = evaluator.traversal(next(evaluator.sets()))
    assert images.shape == (10, 9, 1, 33, 33)
    assert names[:3] == ["$z_{1}$\nradius [arcsec]", "$z_{2}$\ng1", "$z_{3}$"]
    assert labels[0][:3] + labels[0][-1:] == ["0.1", "0.2125", "0.325", "1"]
    assert labels[1][:3] == ["-0.5", "-0.375", "-0.25"]
    assert labels[-1][4] == "+0 sd"


def test_the_traversal_moves_another_latent_about_its_own_mean(folder, monkeypatch):
    """As where a prior depends on labels: the codes of a latent have any mean."""
    evaluator = Evaluator(EvaluateConfig(run=folder / "run", device="cpu"))
    scored = next(evaluator.sets())
    mean_NZ = np.random.default_rng(0).normal(np.arange(10), 0.5, scored.mean_NZ.shape)
    monkeypatch.setattr(type(evaluator.run), "decode", lambda run, z_NZ: z_NZ)
    codes_ZVZ, _, labels = evaluator.traversal(dataclasses.replace(scored, mean_NZ=mean_NZ))
    assert labels[7] == ["-2 sd", "-1.5 sd", "-1 sd", "-0.5 sd", "+0 sd", "+0.5 sd", "+1 sd", "+1.5 sd", "+2 sd"]
    for latent in range(2, 10):
        expected = [mean_NZ[:, latent].mean() + float(text.split()[0]) * mean_NZ[:, latent].std() for text in labels[7]]
        np.testing.assert_allclose(codes_ZVZ[latent, :, latent], expected)
        others = np.delete(codes_ZVZ[latent], latent, axis=1)
        assert (others == others[0]).all() and (np.delete(mean_NZ, latent, axis=1) == others[0]).all(1).any()


def test_pictures_are_there(folder, metrics):
    names = {path.name for path in (folder / "run" / "pictures").iterdir()}
    kinds = ("scatter", "correlations", "reconstructions", "ssim", "traversal", "control")
    assert names == {"training.png"} | {f"{kind}-{name}.png" for kind in kinds for name in ("test", "fresh")}


def test_sets_that_do_not_fit_the_run_are_refused(folder, metrics, tmp_path):
    run = folder / "run"
    with pytest.raises(InputError, match="is the data set that the run was trained on"):
        evaluate(EvaluateConfig(run=run, fresh=folder / "blobs.h5", device="cpu"))
    with pytest.raises(InputError, match="is not the data set that"):
        evaluate(EvaluateConfig(run=run, data=folder / "fresh.h5", device="cpu"))
    other = tmp_path / "other.h5"
    write(other, np.random.default_rng(0).random((9, 1, 20, 20), np.float32), np.eye(9, 3), FACTORS_01, {})
    with pytest.raises(InputError, match=r"factor 0 is .* allowed: that of"):
        evaluate(EvaluateConfig(run=run, fresh=other, device="cpu"))
    done = command("evaluate", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no such checkpoint" in done.stderr
    done = command("evaluate", folder)
    assert done.stderr == f"error: {folder}: is no run, but holds runs; allowed: one of them, as {run} (run)\n"


@pytest.mark.slow
def test_a_run_that_stopped_in_its_first_epoch_is_scored(folder, tmp_path):
    """The machine died after the third step, and what it wrote later is lost."""
    run = tmp_path / "run"
    alone(config(folder / "blobs.h5", run, epochs=1, checkpoint_minutes=0, keep_last=9))
    (run / "last.safetensors").unlink()
    (run / "last.safetensors").symlink_to("checkpoints/step-000000003.safetensors")
    for rows in ("", None, '{"epoch": 1, "tra'):
        (run / "metrics.jsonl").unlink(missing_ok=True)
        if rows is not None:
            (run / "metrics.jsonl").write_text(rows)
        found = evaluate(EvaluateConfig(run=run, device="cpu", out=tmp_path / "out"))
        assert (found["epoch"], found["sets"]["test"]["images"]["mse"]["n"]) == (0, 16)
        assert (tmp_path / "out" / "metrics.json").exists()
        assert not (tmp_path / "out" / "pictures" / "training.png").exists()


@pytest.mark.slow
def test_a_model_without_auxiliary_variables_is_scored_by_its_images(folder, tmp_path):
    run = tmp_path / "run"
    alone(config(folder / "blobs.h5", run, model="beta-vae", aux="", epochs=1))
    found = evaluate(EvaluateConfig(run=run, fresh=folder / "fresh.h5", device="cpu"))
    assert json.loads((run / "metrics.json").read_text()) == found
    assert found["sets"]["test"]["codes"] == {}
    assert 0 < found["sets"]["fresh"]["images"]["mse"]["value"] < 1
    assert (run / "pictures" / "reconstructions-test.png").exists()
    lines = table(found["sets"]).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["score", "test:", "ssim"]
    assert not [line for line in lines if line.split()[0] in ("lds", "guided", "from", "functions")]
    assert all(sets["verdicts"] for sets in found["sets"].values())


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_scores_do_not_stand_beside_the_codes_of_an_evaluation_that_was_killed(folder, metrics, tmp_path, monkeypatch):
    arguments = EvaluateConfig(run=folder / "run", out=tmp_path, device="cpu")
    (tmp_path / "metrics.json").write_text("of an earlier one")
    monkeypatch.setattr(Evaluator, "draw", interrupted)  # SIGINT itself may be ignored, as in a shell's background
    with pytest.raises(KeyboardInterrupt):
        evaluate(arguments)
    assert (tmp_path / "codes-test.h5").exists() and not (tmp_path / "metrics.json").exists()


def test_codes_that_the_disk_does_not_take_leave_the_old_ones(folder, metrics, tmp_path, monkeypatch):
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "codes-test.h5"
    path.write_text("old")
    evaluator = Evaluator(EvaluateConfig(run=folder / "run", device="cpu"))
    scored = next(evaluator.sets())
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        with pytest.raises(InputError, match=r"codes-test\.h5: cannot be written: No space left on device"):
            write_codes(path, scored, {}, "digest")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("codes-test.h5", "old")]
    write_codes(path, scored, {}, "digest")
    with h5py.File(path) as codes:
        np.testing.assert_array_equal(codes["mean"], scored.mean_NZ)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": 1}, "images = 1; allowed: at least 2"),
        ({"seed": -1}, "seed = -1; allowed: 0 to 4294967295"),
        ({"seed": 2**32}, "seed = 4294967296; allowed: 0 to 4294967295"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(fields, message):
    with pytest.raises(InputError, match=message):
        EvaluateConfig(run=Path("none"), **fields)


FACTORS_01 = tuple(factor._replace(low=0.0, high=1.0) for factor in FACTORS)


def command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return forked.run("-m", "hpcauxvae", *arguments)


def test_paper_items_read_finished_runs_and_say_what_is_missing(folder, metrics, tmp_path):
    """The blobs are no galaxies, so their run is renamed to galaxy case 2 to stand for it."""
    runs = tmp_path / "runs"
    runs.mkdir()
    assert find(runs) == []
    (runs / "a").symlink_to(folder / "run")
    (found,) = find(runs)
    assert (found.data, found.case, found.kind) == ("galaxies", None, "")
    stands_for = dataclasses.replace(found, config=dataclasses.replace(found.config, aux="radius,g1,g2"))
    assert (stands_for.case, stands_for.kind) == (2, "galaxies-case2-aux-vae")
    from hpcauxvae.paper import table1

    path, numbers = table1.draw("table1", {"a": stands_for}, tmp_path)
    lds = metrics["sets"]["test"]["codes"]["lds"]
    (row,) = [line for line in path.read_text().splitlines() if "| tuned | test |" in line]
    cells = row.strip("| ").split(" | ")
    assert cells[:6] == ["Galaxies, case 2", "Aux-VAE", "tuned", "test", "16", "1"]
    assert cells[6] == f"{lds['value']:.3f} [{lds['low']:.3f}, {lds['high']:.3f}]"
    assert cells[7] == f"{lds['attainable']:.3f}" and cells[-1] == "0.94 (0.89)"
    first, *_ = json.loads(numbers.read_text())["lines"]
    assert first["lds"] == [lds] and first["runs"] == ["a"]
    with pytest.raises(InputError, match=r"no evaluated run of galaxies-case2-aux-vae-0 .*hpcauxvae paper fig3 makes"):
        paper(["fig3", "--no-train", "--runs", str(runs), "--out", str(tmp_path), "--jobs", "1"])


@pytest.mark.parametrize("command", [commands.evaluate, commands.sensitivity], ids=["evaluate", "sensitivity"])
def test_a_folder_that_takes_no_file_is_refused_before_the_work(run_copy, monkeypatch, command):
    def read_only(*arguments: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def work(*arguments: object) -> None:
        raise AssertionError("was begun")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(Run, "encode", work)
    monkeypatch.setattr(Run, "decode", work)
    (run_copy / "metrics.json").write_text("an older one")
    with pytest.raises(InputError, match="run: cannot be written: Read-only file system"):
        command([str(run_copy)])
    assert (run_copy / "metrics.json").read_text() == "an older one"
