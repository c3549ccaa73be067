"""Encoding a whole set: in order, whole, and the same values however often it was interrupted, on any ranks."""

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from helpers.ranks import ends, start_ranks
from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import encode
from hpcauxvae.evaluate.command import EncodeConfig
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.run import load_run
from hpcauxvae.types import Factor, InputError

ALONE = start(find_world({}), "cpu")
# Chunks of 50 samples, the last one of 10.
PROGRAM = """
import sys
from hpcauxvae import cli
from hpcauxvae.evaluate import command, encode
encode.CHUNK = 50
cli.run(lambda: command.encode(sys.argv[1:]))
"""


@pytest.fixture
def run(trained_run: Path) -> Path:
    return trained_run


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(encode, "CHUNK", 50)


def settings(run: Path, out: Path, **fields) -> EncodeConfig:
    return EncodeConfig(**({"run": run, "data": run.parent / "blobs.h5", "out": out, "device": "cpu"} | fields))


def content(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: stored[:] for name, stored in file.items()}


def test_codes_and_scores_stand_in_the_order_of_the_data(run, tmp_path):
    assert encode.encode(settings(run, tmp_path / "codes.h5"), ALONE) == 0
    found, data, model = content(tmp_path / "codes.h5"), open_set(run.parent / "blobs.h5"), load_run(run).model
    with torch.no_grad():
        mean, logvar = model.encode(torch.tensor(np.array(data.images)))
        decoded = model.decode(mean).numpy()
    np.testing.assert_allclose(found["mean"], mean.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["logvar"], logvar.numpy(), rtol=1e-4, atol=1e-5)
    assert found["ssim"].shape == found["mse"].shape == (160,)
    for i in (0, 49, 50, 159):
        a, b = (images[i, 0].astype(float) / float(model.maximum) for images in (data.images, decoded))
        assert found["ssim"][i] == pytest.approx(structural_similarity(a, b, data_range=np.ptp(a)), abs=1e-4)
        assert found["mse"][i] == pytest.approx(np.square(a - b).mean(), rel=1e-3)
    with h5py.File(tmp_path / "codes.h5") as file:
        assert file.attrs["data_fingerprint"] == data.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]


@pytest.mark.processes
def test_a_hot_pixel_decides_no_code(run, tmp_path, capsys):
    """It counts as an evaluation counts it, is told in the same words, and leaves the codes of all others."""
    data = blobs(tmp_path / "hot.h5")
    with h5py.File(data, "r+") as file:
        images = file["images"][:]
        file["images"][82, 0, 3, 3] = 1e8
    images[82, 0, 3, 3] = images.max()
    assert encode.encode(settings(run, tmp_path / "codes.h5", data=data), ALONE) == 0
    assert "hot.h5: images: the pixels of sample 82 (0 to 1e+08) reach far outside" in capsys.readouterr().err
    with torch.no_grad():
        mean = load_run(run).model.encode(torch.tensor(images)).mean
    np.testing.assert_allclose(content(tmp_path / "codes.h5")["mean"], mean.numpy(), rtol=1e-4, atol=1e-5)
    encode.encode(settings(run, tmp_path / "clean.h5"), ALONE)
    assert "warning" not in capsys.readouterr().err


def test_what_was_left_undone_is_done_on_another_number_of_ranks(run, tmp_path):
    encode.encode(settings(run, tmp_path / "whole.h5"), ALONE)
    config = settings(run, tmp_path / "codes.h5")
    encoder = encode.Encoder(config, ALONE, open_set(config.data))
    encoder.parts.mkdir()
    for chunk in (0, 2):
        encoder.do(chunk)
    torn = encoder.parts / "0000002.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    assert encoder.missing() == [1, 2, 3]
    codes, errors = ends(start_ranks(2, run, config.data, config.out, "--device", "cpu", program=("-c", PROGRAM)))
    assert codes == [0, 0], errors
    whole, found = content(tmp_path / "whole.h5"), content(config.out)
    assert whole.keys() == found.keys()
    for name, values in whole.items():
        # A convolution on the CPU may round otherwise where its memory is aligned otherwise.
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not encoder.parts.exists()


def test_a_start_after_a_kill_at_the_very_end_finishes(run, tmp_path):
    """The file is there, and its parts still beside it; or they are gone, and nobody was told."""
    config = settings(run, tmp_path / "codes.h5")
    encoder = encode.Encoder(config, ALONE, open_set(config.data))
    assert not encoder.is_written()
    encode.encode(config, ALONE)
    before = config.out.read_bytes()
    for parts in (True, False):
        if parts:
            encoder.parts.mkdir()
            encoder.do(1)
        assert encode.encode(config, ALONE) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]
        assert config.out.read_bytes() == before
    with pytest.raises(InputError, match=r"codes\.h5: exists already"):
        encode.encode(settings(run, config.out, image_scores=False), ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5"]


def test_a_disk_without_room_is_found_before_anything_is_written(run, tmp_path, monkeypatch):
    def full(descriptor: int, offset: int, length: int) -> None:
        assert length > 160 * (10 + 10 + 1 + 1) * 4
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"codes\.h5: cannot be written: No space left on device"):
        encode.encode(settings(run, tmp_path / "codes.h5"), ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.h5.parts"], "what was computed stays"


def test_bad_input_is_refused_and_nothing_lost(run, tmp_path):
    config = settings(run, tmp_path / "codes.h5")
    encoder = encode.Encoder(config, ALONE, open_set(config.data))
    encoder.parts.mkdir()
    encoder.do(1)
    with pytest.raises(InputError, match="left by an unfinished encoding of another kind"):
        encode.encode(settings(run, tmp_path / "codes.h5", image_scores=False), ALONE)
    assert (encoder.parts / "0000001.safetensors").exists()

    (tmp_path / "there.h5").write_text("mine")
    with pytest.raises(InputError, match=r"there\.h5: exists already"):
        encode.encode(settings(run, tmp_path / "there.h5"), ALONE)
    assert (tmp_path / "there.h5").read_text() == "mine"

    broken = blobs(tmp_path / "broken.h5")
    with h5py.File(broken, "r+") as file:
        file["images"][123, 0, 1, 2] = np.nan
    with pytest.raises(InputError, match="sample 123 has pixels that are not finite"):
        encode.encode(settings(run, tmp_path / "of-broken.h5", data=broken), ALONE)
    wide = tmp_path / "wide.h5"
    u = np.random.default_rng(0).random((4, 3))
    values = np.stack([f.unscale(column) for f, column in zip(FACTORS, u.T, strict=True)], 1)
    write(wide, np.ones((4, 1, 33, 40), np.float32), values, FACTORS, {})
    with pytest.raises(InputError, match=r"images of \(1, 33, 40\); allowed: \(1, 33, 33\)"):
        encode.encode(settings(run, tmp_path / "of-wide.h5", data=wide), ALONE)


def test_labels_in_another_unit_are_not_taken_for_those_of_the_training(run, tmp_path, capsys):
    """An encoder that sees labels would be told another size; degrees are no arc seconds."""
    data = blobs(tmp_path / "blobs.h5")
    for unit, known in (("arcsec", True), ("deg", False)):
        with h5py.File(data, "r+") as file:
            file["factors"].attrs["unit"] = [unit, *file["factors"].attrs["unit"][1:]]
        labels_ND = encode.Encoder(settings(run, tmp_path / "codes.h5", data=data), ALONE, open_set(data)).labels_ND
        assert (labels_ND is not None) == known
        said = f"{data}: factors, radius: unit 'deg', in training it was 'arcsec': the encoder sees no labels"
        assert (said in capsys.readouterr().err) != known


@pytest.mark.parametrize("images", [1, 3])
def test_images_without_labels_and_what_the_columns_are(run, tmp_path, images):
    """Of the guided latents the file tells the names, and what is 0 and 1 on their scale, in the factors' units."""
    data = open_set(run.parent / "blobs.h5")
    write(tmp_path / "plain.h5", data.images[:images], None, [], {}, id=[f"blob {n}" for n in range(images)])
    assert encode.encode(settings(run, tmp_path / "codes.h5", data=tmp_path / "plain.h5"), ALONE) == 0
    with torch.no_grad():
        mean = load_run(run).model.encode(torch.tensor(data.images[:images])).mean.numpy()
    with h5py.File(tmp_path / "codes.h5") as file:
        np.testing.assert_allclose(file["mean"], mean, rtol=1e-4, atol=1e-5)
        assert file["id"].asstr()[:].tolist() == [f"blob {n}" for n in range(images)]
        told = {name: list(file["mean"].attrs[name]) for name in ("name", "unit", "low", "high", "transform")}
    assert told["name"] == ["radius", "g1"] and told["unit"] == ["arcsec", ""]
    assert told["low"] == [0.1, -0.5] and told["high"] == [1, 0.5] and told["transform"] == ["linear"] * 2


def test_an_encoder_that_sees_classes_is_shown_them_by_name(tmp_path: Path) -> None:
    """In a catalogue with one class more, before all others in the alphabet, each has another number."""
    images, number_N = open_set(blobs(tmp_path / "blobs.h5")).images[:], np.arange(160) % 3
    for name, names, shift in (("own", ("a", "b", "c"), 0), ("other", ("A", "a", "b", "c"), 1)):
        kind = Factor("kind", "", 0, len(names) - 1, "categorical", classes=names)
        write(tmp_path / f"{name}.h5", images, (number_N + shift)[:, None].astype(float), [kind], {})
    fields = {"aux": "kind", "model": "idvae", "network": "mlp", "epochs": 1}
    assert alone(config(tmp_path / "own.h5", tmp_path / "run", **fields)) == 0
    for name in ("own", "other"):
        asked = settings(tmp_path / "run", tmp_path / f"{name}-codes.h5", data=tmp_path / f"{name}.h5")
        assert encode.encode(asked, ALONE) == 0
    own, other = (content(tmp_path / f"{name}-codes.h5")["mean"] for name in ("own", "other"))
    np.testing.assert_array_equal(own, other)
