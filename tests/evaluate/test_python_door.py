"""The Python door on a tiny run: what it gives is what the commands give, and what it is given is checked."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import hpcauxvae
from helpers.trainings import FACTORS, alone, blobs, config, of_earlier_version
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.data.missing import shown
from hpcauxvae.evaluate import command, door
from hpcauxvae.evaluate.door import Given, Trained
from hpcauxvae.metrics import score_images
from hpcauxvae.types import Factor, InputError


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Trained:
    return hpcauxvae.load(trained_run, device="cpu")


@pytest.fixture(scope="module")
def images(blobs_file: Path) -> NDArray:
    return np.array(open_set(blobs_file).images)


@pytest.fixture(scope="module")
def labels(blobs_file: Path) -> NDArray:
    return open_set(blobs_file).values


def test_codes_are_those_of_the_command(run: Trained, images: NDArray, trained_run: Path, blobs_file: Path, tmp_path):
    out = tmp_path / "codes.h5"
    assert command.encode([str(trained_run), str(blobs_file), str(out), "--device", "cpu", "--no-image-scores"]) == 0
    mean, logvar = run.encode(images)
    with h5py.File(out) as file:
        np.testing.assert_allclose(mean, file["mean"][:], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logvar, file["logvar"][:], rtol=1e-5, atol=1e-6)
    one = run.encode(images[3, 0])
    assert one.mean.shape == (10,) and one.sd == pytest.approx(np.sqrt(np.exp(one.logvar)))
    np.testing.assert_allclose(one.mean, mean[3], rtol=1e-4, atol=1e-5)
    for same in (images.astype(">f8"), torch.tensor(images), images[:, 0], images[:, 0].tolist()):
        np.testing.assert_allclose(run.encode(same).mean, mean, rtol=1e-4, atol=1e-5)


def test_images_are_those_of_the_command_to_the_bit(run: Trained, trained_run: Path, blobs_file: Path, tmp_path: Path):
    out = tmp_path / "x.h5"
    asked = [str(trained_run), "--out", str(out), "--set", "radius=0.5", "--sweep", "g1=-.3:.3:9"]
    assert command.generate(asked) == 0
    made = run.generate(radius=0.5, g1=np.linspace(-0.3, 0.3, 9))
    np.testing.assert_array_equal(made, open_set(out).images)
    grid = run.generate({"radius": [[0.2], [0.4]]}, g1=[-0.1, 0, 0.1])
    assert grid.shape == (2, 3, 1, 33, 33)
    for place, asked in (((1, 2), (0.4, 0.1)), ((1, 1), (0.4, 0)), ((0, 1), (0.2, 0))):
        one = run.generate(radius=asked[0], g1=asked[1])
        np.testing.assert_allclose(grid[place], one, rtol=1e-4, atol=1e-4)
    values = open_set(blobs_file).values[split(160, 0)[0]]
    np.testing.assert_allclose(
        run.generate(), run.generate(radius=np.median(values[:, 0]), g1=np.median(values[:, 1])), rtol=1e-5, atol=1e-5
    )


def test_an_image_keeps_what_is_not_named(run: Trained, images: NDArray) -> None:
    code = run.encode(images[5]).mean
    np.testing.assert_allclose(run.generate(like=images[5]), run.decode(code), rtol=1e-4, atol=1e-4)
    code[0] = FACTORS[0].scale(np.array(0.7))
    for like in (images[5], images[5:6], images[5, 0]):
        np.testing.assert_allclose(run.generate(radius=0.7, like=like), run.decode(code), rtol=1e-4, atol=1e-4)


def test_codes_of_any_shape_are_decoded(run: Trained) -> None:
    z = np.random.default_rng(0).standard_normal((2, 3, 10))
    drawn = run.decode(z)
    assert drawn.shape == (2, 3, 1, 33, 33) and drawn.dtype == np.float32
    np.testing.assert_allclose(run.decode(z[1, 2]), drawn[1, 2], rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"z has shape \(9,\); allowed: finite numbers of shape \(\.\.\., 10\)"):
        run.decode(np.zeros(9))
    with pytest.raises(InputError, match="z has numbers that are not finite"):
        run.decode(np.full(10, np.nan))


def test_pieces_give_the_same(run: Trained, images: NDArray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.encode(images), run.decode(np.zeros((40, 10)))
    monkeypatch.setattr("hpcauxvae.train.run._BATCH", 7)
    assert run.run.at_once == 7
    np.testing.assert_allclose(run.encode(images).mean, whole[0].mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.decode(np.zeros((40, 10))), whole[1], rtol=1e-4, atol=1e-4)


def test_scores_stand_in_their_intervals(run: Trained, images: NDArray, labels: NDArray) -> None:
    found = run.score(images, {f.name: column for f, column in zip(FACTORS, labels.T, strict=True)})
    for name in ("lds", "lds_mean", "sap", "ssim", "mse"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"] and found[name]["n"] == 160
    mean = run.encode(images).mean
    r = np.corrcoef(mean[:, 0], labels[:, 0])[0, 1]
    assert found["reading"]["radius"]["r"]["value"] == pytest.approx(r, abs=1e-6)
    again = score_images(images, run.decode(mean), float(run.model.maximum)).means
    assert found["mse"]["value"] == pytest.approx(again["mse"]["value"], rel=1e-4)
    assert found["lds"] == run.score(images, labels[:, :2])["lds"], "hidden factors play no part in it"
    assert "lds" not in run.score(images) and run.score(images)["ssim"]["value"] == found["ssim"]["value"]


def test_predictions_are_those_of_the_command(
    run_copy: Path, blobs_file: Path, images: NDArray, tmp_path: Path, monkeypatch
) -> None:
    """And its calibration is kept: the data are needed once."""
    from astropy.table import Table

    gone = tmp_path / "gone.h5"
    with monkeypatch.context() as patch:
        patch.setattr("hpcauxvae.train.run.data_path", lambda run, given=None: given or gone)
        with pytest.raises(InputError, match=r"run is not calibrated yet, .*gone\.h5: no such file.*, data=FILE\)"):
            hpcauxvae.load(run_copy, device="cpu").predict(images)
    found = hpcauxvae.load(run_copy, device="cpu", data=blobs_file).predict(images)
    assert found["radius"].unit == "arcsec" and len(found) == 160 and found["unlike"].dtype == bool
    assert command.predict([str(run_copy), str(blobs_file), str(tmp_path / "x.ecsv"), "--device", "cpu"]) == 0
    told = Table.read(tmp_path / "x.ecsv")
    for name in found.colnames:
        np.testing.assert_allclose(found[name], told[name], rtol=1e-4, atol=1e-5, err_msg=name)
    monkeypatch.setattr("hpcauxvae.train.run.data_path", lambda run, given=None: gone)
    one = hpcauxvae.load(run_copy, device="cpu").predict(images[3])
    assert len(one) == 1 and one["g1"][0] == pytest.approx(found["g1"][3], abs=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            np.zeros((4, 1, 33, 32)),
            r"images of shape \(4, 1, 33, 32\); allowed: \(N, 1, 33, 33\) or \(N, 33, 33\), or one",
        ),
        (np.zeros(33), r"images of shape \(33,\)"),
        (np.full((2, 33, 33), "x"), r"images of <U1; allowed: numbers"),
        (np.r_[np.zeros((1, 33, 33)), np.full((1, 33, 33), np.inf)], r"images: inf in image 1, pixel \(0, 0, 0\)"),
        ("new.npz", r"images: 'new\.npz', a path; allowed: an array"),
        (Path("new.npz"), r"images: 'new\.npz', a path; allowed: an array"),
        (np.full((33, 33), np.nan), r"images: nan in image 0, .*; allowed: finite numbers$"),
    ],
)
def test_images_that_cannot_be_encoded_are_refused(run: Trained, given: NDArray, words: str) -> None:
    for what in (run.encode, run.score):
        with pytest.raises(InputError, match=words):
            what(given)


def test_no_images_have_no_codes(run_copy: Path, blobs_file: Path, images: NDArray) -> None:
    run = hpcauxvae.load(run_copy, device="cpu", data=blobs_file)
    code = run.encode(images[:0])
    assert code.mean.shape == code.logvar.shape == (0, 10) and run.decode(code.mean).shape == (0, 1, 33, 33)
    assert len(run.predict(images[:0])) == 0
    with pytest.raises(InputError, match=r"images: 'new\.npz', a path; allowed: an array"):
        run.predict("new.npz")
    with pytest.raises(InputError, match=r"images: the set .*blobs\.h5; allowed: an array"):
        run.encode(open_set(blobs_file))


def test_labels_and_codes_that_are_no_numbers_are_refused(run: Trained, images: NDArray) -> None:
    for do, words in (
        (lambda: run.generate(["g1"]), r"factors = \['g1'\]; allowed: a dictionary"),
        (lambda: run.decode("x"), "z = 'x'; allowed: numbers"),
        (lambda: run.score(images, {"radius": ["x"] * 160}), r"factors, radius = \['x', .*; allowed: numbers"),
        (lambda: run.score(images, "x"), "factors = 'x'; allowed: numbers"),
    ):
        with pytest.raises(InputError, match=words):
            do()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"flux": 3}, "factor 'flux' is unknown; allowed: radius, g1"),
        ({"g1": np.nan}, "g1 = nan; allowed: finite numbers"),
        ({"g1": []}, r"g1 = \[\]; allowed: finite numbers"),
        (
            {"g1": [0, 0.1], "radius": [0.3, 0.4, 0.5]},
            r"factors of shapes g1 \(2,\), radius \(3,\); allowed: numbers, and",
        ),
        ({"g1": "x"}, "g1 = 'x'; allowed: numbers"),
        ({"like": "new.h5:3"}, r"images: 'new\.h5:3', a path; allowed: an array, such as hpcauxvae\.open_set"),
        ({"like": np.zeros((2, 33, 33))}, r"like has 2 images; allowed: one, of shape \(1, 33, 33\)"),
        ({"like": np.zeros((32, 33))}, r"images of shape \(32, 33\); allowed"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(run: Trained, asked: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run.generate(**asked)


def test_a_value_outside_the_range_is_warned_of(run: Trained) -> None:
    with pytest.warns(UserWarning, match="radius = 0.5 to 3: the model was trained on 0.1 to 1 arcsec"):
        assert np.isfinite(run.generate(radius=[0.5, 3])).all()


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        (np.zeros((160, 3)), r"factors of shape \(160, 3\); allowed: \(160, 2\), of radius, g1"),
        ({"radius": np.zeros(160)}, "factors: g1 is not there; allowed: at least radius, g1"),
        ({"radius": np.zeros(3)}, r"factors: radius is of shape \(3,\); allowed: \(160,\)"),
        ({"size": np.zeros(160)}, r"factors: size is unknown; allowed: \['radius', 'g1', 'flux'\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(run: Trained, images: NDArray, factors, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run.score(images, factors)


def test_the_data_are_not_needed(run_copy: Path, tmp_path: Path, images: NDArray, run: Trained, monkeypatch) -> None:
    monkeypatch.setattr("hpcauxvae.train.run.data_path", lambda run, given=None: tmp_path / "gone.h5")
    wanted = run.generate(g1=[-0.2, 0.2])
    moved = hpcauxvae.load(run_copy, device="cpu")
    np.testing.assert_array_equal(moved.generate(g1=[-0.2, 0.2]), wanted)
    np.testing.assert_array_equal(moved.encode(images).mean, run.encode(images).mean)
    for name in ("x.h5", "x.png", "x.fits"):
        assert command.generate([str(run_copy), "--sweep", "g1=-.2:.2:2", "--out", str(tmp_path / name)]) == 0
    np.testing.assert_array_equal(open_set(tmp_path / "x.h5").images, wanted)


def test_a_run_of_an_earlier_version_asks_for_its_data(run_copy: Path, run: Trained, blobs_file: Path) -> None:
    of_earlier_version(run_copy)
    wanted = run.generate(g1=0.2)
    np.testing.assert_array_equal(hpcauxvae.load(run_copy).generate(g1=0.2), wanted)
    (run_copy.parent / "elsewhere").mkdir()
    alone_there = Path(shutil.move(run_copy, run_copy.parent / "elsewhere" / "run"))
    moved = hpcauxvae.load(alone_there, device="cpu")
    moved.run.config.__dict__["data"] = Path("gone.h5")
    with pytest.raises(InputError, match=r"gone\.h5: no such file; where the data set of .* lies now"):
        moved.generate(g1=0.2)
    np.testing.assert_array_equal(hpcauxvae.load(alone_there, data=blobs_file).generate(g1=0.2), wanted)


def test_missing_pixels_of_a_run_that_leaves_them_out(tmp_path: Path) -> None:
    """NaN, masked, or in a file that has them: the same codes; other values under a hole change nothing."""
    data = open_set(blobs(tmp_path / "blobs.h5"))
    images = np.array(data.images)
    images[:, :, 3:9, 4] = np.nan
    write(tmp_path / "holes.h5", images, data.values, FACTORS, {}, missing_pixels="nan")
    alone(config(tmp_path / "holes.h5", tmp_path / "run", epochs=1, network="mlp", objective="gaussian"))
    run = hpcauxvae.load(tmp_path / "run", device="cpu")
    mean = run.encode(images).mean
    masked = np.ma.MaskedArray(np.where(np.isnan(images), 1e6, images), np.isnan(images))
    stored = open_set(tmp_path / "holes.h5").images
    for same in (masked, stored, shown(stored, slice(160))):
        np.testing.assert_array_equal(run.encode(same).mean, mean)
    assert not np.allclose(run.encode(stored[:]).mean, mean), "a slice has the lowest pixel there"
    assert not np.allclose(run.encode(np.nan_to_num(images)).mean, mean)
    found = run.score(images, data.values[:, :2])
    assert np.isfinite(found["ssim"]["value"]) and found["mse"]["n"] == 160
    with pytest.raises(InputError, match=r"nan in image 1, .*NaN where a pixel is missing, but not all of them"):
        run.encode(np.stack([images[0], np.full_like(images[0], np.nan)]))


def test_an_encoder_that_sees_labels_asks_for_them(tmp_path: Path, images: NDArray, labels: NDArray) -> None:
    alone(config(blobs(tmp_path / "blobs.h5"), tmp_path / "run", epochs=1, network="mlp", model="idvae"))
    run = hpcauxvae.load(tmp_path / "run", device="cpu")
    with pytest.raises(InputError, match="factors: radius is not there, and the encoder of idvae sees it"):
        run.encode(images[:3])
    mean = run.encode(images[:3], labels[:3, :2]).mean
    np.testing.assert_array_equal(run.encode(images[:3], {"g1": labels[:3, 1], "radius": labels[:3, 0]}).mean, mean)
    assert not np.allclose(run.encode(images[:3], labels[3:6, :2]).mean, mean)
    assert np.isfinite(run.score(images, labels[:, :2])["lds"]["value"])
    with pytest.raises(InputError, match="model idvae has no guided latents"):
        run.generate(radius=0.5)


def test_bands_and_rows_that_may_be_left_out() -> None:
    for shape, image_shape, size in (
        ((5, 3, 8, 9), (3, 8, 9), 5),
        ((3, 8, 9), (3, 8, 9), None),
        ((7, 8, 9), (1, 8, 9), 7),
        ((1, 8, 9), (1, 8, 9), None),
        ((8, 9), (1, 8, 9), None),
        ((4, 20), (1, 1, 20), 4),
        ((1, 20), (1, 1, 20), None),
        ((20,), (1, 1, 20), None),
        ((0, 8, 9), (1, 8, 9), 0),
    ):
        given = Given(np.zeros(shape), image_shape, holes=False)
        assert given.single == (size is None) and given.shape == (size if size is not None else 1, *image_shape)
        assert given[:2].shape == (min(2, len(given)), *image_shape)
    for shape in ((8, 9), (7, 8, 9)):
        with pytest.raises(InputError, match=r"allowed: \(N, 3, 8, 9\), or one"):
            Given(np.zeros(shape), (3, 8, 9), holes=False)


def test_what_it_is_is_printed(run: Trained, run_copy: Path, trained_run: Path) -> None:
    said = repr(run).splitlines()
    assert said[0] == f"aux-vae of {trained_run}: 2 of 2 epochs (step 14)"
    assert said[1].startswith("trained on 112 images of 1 x 33 x 33 pixels of ") and said[1].endswith("; now on cpu")
    assert said[2] == "10 latents, the first 2 guided by"
    assert said[3].split()[:5] == ["radius", "[arcsec]", "0.1", "to", "1"] and "9 of 10 labels 0.1" in said[3]
    assert ".generate(" in said[-1] and len(said) == 6
    assert command.evaluate([str(run_copy), "--no-pictures", "--no-control", "--device", "cpu"]) == 0
    evaluated = hpcauxvae.load(run_copy, device="cpu")
    assert "evaluated at epoch 2, test: LDS " in repr(evaluated)
    lines = evaluated.metrics["sets"]["test"]["verdicts"]
    assert lines and all(f"  - {line}" in repr(evaluated) for line in lines)
    (run_copy / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"run: metrics\.json: no scores can be read in it"):
        repr(hpcauxvae.load(run_copy))


def test_a_code_is_decoded_at_its_mean_and_a_factor_is_given_once(run: Trained) -> None:
    code = run.encode(open_set(run.config.data).images[:3])
    np.testing.assert_array_equal(run.decode(code), run.decode(code.mean))
    with pytest.raises(InputError, match="factors: radius is given twice"):
        run.generate({"radius": 0.5}, radius=0.4)


def test_what_is_no_run_is_refused(tmp_path: Path, trained_run: Path, blobs_file: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such folder or file; allowed: that of a training run"):
        hpcauxvae.load(tmp_path / "none")
    with pytest.raises(InputError, match="checkpoint = newest; allowed: last, best"):
        hpcauxvae.load(trained_run, checkpoint="newest")
    with pytest.raises(InputError, match=r"blobs\.h5: is an HDF5 file, as data sets are; allowed: the folder of a"):
        hpcauxvae.load(blobs_file)
    with pytest.raises(InputError, match=r"is an HDF5 file, as data sets are; allowed: the folder of a training run$"):
        command.evaluate([str(blobs_file)])
    with pytest.raises(InputError, match="path = 5; allowed: that of a run's folder"):
        hpcauxvae.load(5)  # type: ignore[arg-type]
    np.save(tmp_path / "a.npy", np.zeros(3))
    for found, words in (
        (hpcauxvae.load, r"a\.npy: is no trained model; allowed: the folder of a training run, or a file that"),
        (hpcauxvae.open_set, r"a\.npy: cannot be read as HDF5: it is no such file; `hpcauxvae data import` makes"),
    ):
        with pytest.raises(InputError, match=words):
            found(tmp_path / "a.npy")
    with pytest.raises(
        InputError,
        match=rf"{tmp_path}: holds no training run; allowed: the folder that `tr",
    ):
        hpcauxvae.load(tmp_path)
    with pytest.raises(InputError, match=rf"{tmp_path}: is a folder; allowed: an HDF5 file"):
        hpcauxvae.open_set(tmp_path)
    (tmp_path / "text.safetensors").write_text("no tensors at all")
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        hpcauxvae.load(tmp_path / "text.safetensors")
    with pytest.raises(InputError, match=r"other\.h5: is not the data set that .* was trained on"):
        hpcauxvae.load(trained_run, data=blobs(tmp_path / "other.h5", seed=1))
    with pytest.raises(InputError, match="device 'gpu': torch sees no such accelerator here"):
        hpcauxvae.load(trained_run, device="gpu")
    assert hpcauxvae.load(trained_run, checkpoint="best").state["step"] in (7, 14)


def test_of_an_angle_the_partner_comes_along(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, 160)
    factors = (Factor("c", "", -1, 1), Factor("s", "", -1, 1))
    values = np.stack([np.cos(turn), np.sin(turn)], 1)
    write(tmp_path / "turning.h5", rng.random((160, 1, 8, 8)), values, factors, {})
    alone(config(tmp_path / "turning.h5", tmp_path / "run", epochs=1, network="mlp", aux="c,s"))
    run = door.load(tmp_path / "run", device="cpu")
    side = np.sign(run.run.state["summary"]["typical"][1])
    assert run.run.state["summary"]["angles"] == [[0, 1]] and side != 0
    np.testing.assert_array_equal(run.generate(c=0.6), run.generate(c=0.6, s=side * 0.8))


def test_an_angle_and_classes_are_asked_for_as_such(tmp_path: Path) -> None:
    """They guide several latents; the summary has an angle and a class that occur."""
    rng = np.random.default_rng(0)
    values = np.stack([rng.uniform(0, 360, 160), rng.choice([1.0, 2.0, 5.0], 160)], 1)
    factors = (Factor("turn", "deg", 0, 360, "periodic"), Factor("kind", "", 1, 5, "categorical"))
    images = rng.random((160, 1, 8, 8))
    write(tmp_path / "x.h5", images, values, factors, {})
    alone(config(tmp_path / "x.h5", tmp_path / "run", epochs=1, network="mlp", aux="turn,kind"))
    (tmp_path / "x.h5").unlink()
    run = hpcauxvae.load(tmp_path / "run", device="cpu")
    assert "\n    kind                    3 classes\n" in repr(run)
    assert "10 latents, the first 4 guided by" in repr(run) and [f.name for f in run.factors] == ["turn", "kind"]
    typical = run.run.state["summary"]["typical"]
    assert typical[0] == pytest.approx(values[:, 0][np.abs(values[:, 0] - typical[0]).argmin()]) and typical[1] in (
        1,
        2,
        5,
    )
    z = np.zeros(10)
    z[:4] = 0.5, 1, 0, 1  # the cosine and the sine of 90 degrees, and the last of three classes
    np.testing.assert_allclose(run.generate(turn=90, kind=5), run.decode(z), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run.generate(turn=[450, -270], kind=5), run.generate(turn=[90, 90], kind=5))
    out = tmp_path / "x.h5"
    assert (
        command.generate([str(tmp_path / "run"), "--set", "kind=5", "--sweep", "turn=-90:450:4", "--out", str(out)])
        == 0
    )
    assert open_set(out).values[:, 0].tolist() == [270, 90, 270, 90]
    np.testing.assert_allclose(open_set(out).images[1], run.generate(turn=90, kind=5), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="kind = 3; allowed: classes of the training, 1, 2, 5"):
        run.generate(kind=3)
    assert len(run.score(images, values)["reading"]) == 4
