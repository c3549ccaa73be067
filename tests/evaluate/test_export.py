"""A trained model as one file: the same bits as the run, without it; as ONNX: the same values, whatever runs it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hpcauxvae
from helpers.trainings import FACTORS, alone, blobs, config, of_earlier_version
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import command, export
from hpcauxvae.evaluate.command import ExportConfig
from hpcauxvae.train import checkpoint
from hpcauxvae.train.run import load_run
from hpcauxvae.types import InputError


def test_one_file_is_the_run(run_copy: Path, blobs_file: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Weights, codes, images, scores, predictions and what is printed, when folder and data are gone."""
    images, file = np.array(open_set(blobs_file).images), tmp_path / "model.safetensors"
    assert command.evaluate([str(run_copy), "--no-pictures", "--no-control", "--device", "cpu"]) == 0
    run = hpcauxvae.load(run_copy, device="cpu")
    predicted = run.predict(images)
    capsys.readouterr()
    assert command.export([str(run_copy), str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"written: {file}, ")
    found = run.metrics, run.encode(images), run.generate(g1=[-0.2, 0.2]), run.model.state_dict()
    shutil.rmtree(run_copy)
    again = hpcauxvae.load(file, device="cpu")
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, found[3][name]), name
    assert again.metrics == found[0] and again.metrics["sets"]["test"]["codes"]["lds"]["n"] > 0
    np.testing.assert_array_equal(again.encode(images), found[1])
    np.testing.assert_array_equal(again.generate(g1=[-0.2, 0.2]), found[2])
    assert repr(again) == repr(run).replace(str(run_copy), str(file))
    monkeypatch.setattr("hpcauxvae.train.run.data_path", lambda run, given=None: tmp_path / "gone.h5")
    for name, column in again.predict(images).items():
        np.testing.assert_array_equal(column, predicted[name])
    assert command.predict([str(file), str(blobs_file), str(tmp_path / "x.ecsv"), "--device", "cpu"]) == 0
    tensors, state = checkpoint.read(file)
    assert all(name.startswith(("model.", "calibration.")) for name in tensors) and state["step"] == 14


def test_commands_take_it(trained_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    assert command.export([str(trained_run), str(file), "--checkpoint", "best"]) == 0
    best = load_run(trained_run, checkpoint.BEST)
    assert load_run(file).state["step"] == best.state["step"]
    for name, run in (("file.h5", file), ("folder.h5", trained_run)):
        asked = [str(run), "--sweep", "g1=-.2:.2:2", "--out", str(tmp_path / name)]
        assert command.generate(asked) == 0
        assert command.encode([str(run), str(tmp_path / name), str(tmp_path / f"codes-{name}"), "--device", "cpu"]) == 0
    made = [open_set(tmp_path / name).images for name in ("file.h5", "folder.h5")]
    assert (made[0] == made[1]).all() == (best.state["step"] == 14)
    again = tmp_path / "again.safetensors"
    assert command.export([str(file), str(again)]) == 0
    (tensors, state), (own, own_state) = checkpoint.read(again), checkpoint.read(file)
    assert state == own_state and tensors.keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in tensors.items())


def test_a_run_of_an_earlier_version_gains_its_summary(run_copy: Path, blobs_file: Path, tmp_path: Path) -> None:
    wanted = load_run(run_copy).state["summary"]
    of_earlier_version(run_copy)
    assert command.export([str(run_copy), str(tmp_path / "x.safetensors"), "--data", str(blobs_file)]) == 0
    found = load_run(tmp_path / "x.safetensors").state["summary"]
    assert found == wanted, "a set of so few images is looked at whole"


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("model.pt", r"out = .*model\.pt; allowed: a name that ends in \.safetensors, \.onnx"),
        ("old.safetensors", r"old\.safetensors: exists already"),
        ("old.onnx", r"old\.decoder\.onnx: exists already"),
        ("none/x.safetensors", r"folder .*none does not exist"),
    ],
)
def test_what_cannot_be_written_is_refused(trained_run: Path, tmp_path: Path, out: str, words: str) -> None:
    for name in ("old.safetensors", "old.decoder.onnx"):
        (tmp_path / name).write_text("old")
    with pytest.raises(InputError, match=words):
        command.export([str(trained_run), str(tmp_path / out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.decoder.onnx", "old.safetensors"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_onnx_without_its_packages_or_of_labels_is_refused(trained_run: Path, tmp_path: Path, monkeypatch) -> None:
    alone(config(blobs(tmp_path / "blobs.h5"), tmp_path / "run", epochs=1, network="mlp", model="idvae"))
    with pytest.raises(InputError, match="the encoder of model idvae needs labels"):
        export.export(ExportConfig(run=tmp_path / "run", out=tmp_path / "x.onnx"))
    monkeypatch.setattr(export, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(InputError, match=r"ONNX needs no_such_package; `pip install 'hpcauxvae\[export\]'` mends it"):
        export.export(ExportConfig(run=trained_run, out=tmp_path / "x.onnx"))
    assert not list(tmp_path.glob("*.onnx"))


@pytest.fixture(scope="module")
def runs(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of counts, and one of two bands with missing pixels."""
    folder = tmp_path_factory.mktemp("fields")
    data = open_set(blobs(folder / "blobs.h5"))
    images = np.concatenate([data.images[:, :, :20, :24], 30 - data.images[:, :, 13:, 9:]], 1)
    images[::3, 1, 2:6] = np.nan
    write(folder / "fields.h5", images, data.values, FACTORS, {}, missing_pixels="nan")
    fields = {"epochs": 1, "network": "resnet", "objective": "gaussian", "dtype": "float64"}
    alone(config(folder / "fields.h5", folder / "run", **fields))
    return {"counts": trained_run, "fields": folder / "run"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts", "fields"])
def test_onnx_gives_what_torch_gives(runs: dict[str, Path], kind: str, tmp_path: Path, capfd) -> None:
    """Linear data units, missing pixels included, any number of images; read by onnxruntime alone."""
    import onnx
    import onnxruntime

    run = hpcauxvae.load(runs[kind], device="cpu")
    images = np.asarray(open_set(run.config.data).images.raw if kind == "fields" else open_set(run.config.data).images)
    assert command.export([str(runs[kind]), str(tmp_path / "x.onnx")]) == 0
    said = capfd.readouterr()
    assert said.err == "" and said.out.count("\n") == 2 and "x.decoder.onnx, z to images, within " in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.decoder.onnx", "x.encoder.onnx"]
    inward, outward = (onnxruntime.InferenceSession(tmp_path / f"x.{name}.onnx") for name in ("encoder", "decoder"))
    for size in (1, 3, 160):
        mean, logvar = inward.run(None, {"images": images[:size].astype(np.float32)})
        code = run.encode(images[:size])
        for found, wanted in ((mean, code.mean), (logvar, code.logvar)):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
        (drawn,) = outward.run(["images"], {"z": mean})
        wanted = run.decode(code.mean)
        np.testing.assert_allclose(drawn, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    about = {item.key: item.value for item in onnx.load(tmp_path / "x.decoder.onnx").metadata_props}
    told = json.loads(about["hpcauxvae"])
    assert [(factor["name"], factor["unit"]) for factor in told["factors"]] == [("radius", "arcsec"), ("g1", "")]
    assert told["guides"] == [{"factor": name, "columns": [name], "levels": []} for name in ("radius", "g1")]
    assert told["weights"] == run.run.digest and told["step"] == run.state["step"] and told["image_unit"] == ""


@pytest.mark.slow
def test_onnx_that_gives_other_values_is_not_left_there(trained_run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match=r"ONNX gives values .* of the largest from torch's; allowed: 0"):
        export.export(ExportConfig(run=trained_run, out=tmp_path / "x.onnx"))
    assert list(tmp_path.iterdir()) == []
