"""What a training says of its data before the first step, and takes from them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from helpers import steps
from helpers.forked import on_ranks
from helpers.trainings import alone, blobs, config
from hpcauxvae.data.hdf5 import ImageSet, open_set, split
from hpcauxvae.runtime.collectives import start
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.train.run import load_run
from hpcauxvae.train.trainer import Trainer
from hpcauxvae.types import InputError

TRAIN, VALIDATION, TEST = split(160, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return blobs(tmp_path / "blobs.h5")


def change(path: Path, **values: np.ndarray) -> None:
    with h5py.File(path, "r+") as file:
        for name, array in values.items():
            file[name][:] = array


def prepared(config: TrainConfig) -> Trainer:
    made = Trainer(config, start(find_world({}), "cpu"), open_set(config.data))
    made.connect()
    return made


def images_of(path: Path) -> np.ndarray:
    return np.array(open_set(path).images)


def test_a_hot_pixel_does_not_set_the_scale(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = prepared(config(path, tmp_path / "a")).model.state_dict()
    assert str(path) not in capsys.readouterr().err
    images = images_of(path)
    images[TRAIN[5], 0, 3, 3] = 1e8
    change(path, images=images)
    hot = prepared(config(path, tmp_path / "b")).model
    assert torch.equal(hot.scale.maximum, clean["scale.maximum"])
    assert hot.reach() == (0, float(hot.maximum))
    said = capsys.readouterr().err
    assert f"warning: {path}: images: 1 of the training part hold pixels far outside the others' 0 to " in said
    assert f"sample {TRAIN[5]}, 0 to 1e+08; pixels beyond" in said and said.count(f"warning: {path}") == 1


def test_a_stuck_pixel_is_not_seen(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The scale is that of the other pixels; to the model and in the run that is read again it is dark always."""
    images = images_of(path)
    images[:, 0, 3, 4] = 0
    change(path, images=images)
    clean = prepared(config(path, tmp_path / "a")).model
    assert str(path) not in capsys.readouterr().err
    seen = clean.scale(torch.from_numpy(images))
    images[:, 0, 3, 4] = 1e8
    change(path, images=images)
    assert alone(config(path, tmp_path / "run", epochs=1)) == 0
    said = capsys.readouterr().err
    assert f"warning: {path}: images: pixel (0, 3, 4) is 1e+08, nearly" in said and said.count(f"warning: {path}") == 1
    for model in (prepared(config(path, tmp_path / "b")).model, load_run(tmp_path / "run").model):
        assert torch.equal(model.scale.maximum, clean.scale.maximum)
        assert torch.equal(model.scale(torch.from_numpy(images)), seen)
    assert alone(config(path, tmp_path / "run", epochs=2, resume="auto")) == 0


def test_what_means_not_measured_is_said(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = open_set(path).values.copy()
    with h5py.File(path, "r+") as file:
        file["factors"].attrs["low"] = [-99, *file["factors"].attrs["low"][1:]]
        values[:9, 0] = -99
        file["factors"][:] = values
    prepared(config(path, tmp_path / "a"))
    assert f"warning: {path}: factors, radius: -99 (9 samples) lies far outside the other" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.processes
def test_all_ranks_have_the_scale_of_one(path: Path) -> None:
    images = images_of(path)
    images[TRAIN[5], 0, 3, 3], images[TRAIN[9], 0, 1, 1] = 1e8, 0.5
    change(path, images=images)
    (one,), others = on_ranks(1, steps.prepared, path), on_ranks(3, steps.prepared, path)
    assert not one["scale.counts"] and np.isfinite(one["scale.limits"]).all()
    for other in others:
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize(("peak", "warned"), [(100.0, False), (1.0, True), (1e-3, True)])
def test_what_is_no_counts_is_drawn_with_its_own_flux(
    peak: float, warned: bool, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = images_of(path) + np.float32(0.25)
    change(path, images=images * (peak / images.max()))
    assert alone(config(path, tmp_path / "run", epochs=1, objective="tuned")) == 0
    assert ("are no counts and at most" in capsys.readouterr().err) == warned
    scale = load_run(tmp_path / "run").model.scale
    shares = torch.tensor([0.0, 0.1, 0.5, 1.0])
    torch.testing.assert_close(scale.inverse(scale(shares * peak)) / peak, shares, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("objective", "warned"), [("tuned", True), ("bernoulli", False)])
def test_pictures_are_told_from_counts(
    objective: str, warned: bool, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = images_of(path)
    change(path, images=np.rint(images * (255 / images.max((1, 2, 3), keepdims=True))))
    prepared(config(path, tmp_path / "run", objective=objective))
    said = capsys.readouterr().err
    assert (f"warning: {path}: images: whole numbers from 0 to 255, the peak of 100%" in said) == warned
    assert ("use --objective bernoulli for pictures" in said) == warned and said.count(f"warning: {path}") == warned


def test_fields_below_0_are_told_what_suits_them(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(path, images=images_of(path) - 50)
    prepared(config(path, tmp_path / "run", objective="tuned"))
    remedy = "--objective gaussian takes pixels of any sign"
    assert capsys.readouterr().err.count(f"objective tuned is made for counts; {remedy}") == 2
    with pytest.raises(InputError, match=f"at least 0; {remedy}"):
        prepared(config(path, tmp_path / "run", objective="bernoulli"))


def test_a_peak_without_digits_is_refused_before_the_first_step(path: Path, tmp_path: Path) -> None:
    change(path, images=images_of(path) * 1e-10)
    with pytest.raises(InputError, match=r"blobs\.h5: images: the brightest training pixel is .*e-08, too small"):
        alone(config(path, tmp_path / "run", objective="tuned"))
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_what_an_objective_cannot_draw_is_said_with_its_share(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = images_of(path) - 20
    images[VALIDATION[2], 0, 5, 5] = 1e4
    change(path, images=images)
    made = prepared(config(path, tmp_path / "a", objective="paper"))
    low, high = made.model.reach()
    assert (low, high) == (0, images[TRAIN].max())
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"warning: {(images[part] < 0).mean():.1%} of the {name} pixels in {path} are below 0, which objective paper "
        "cannot draw (docs/data-format.md)"
        for name, part in (("training", TRAIN), ("validation", VALIDATION))
    ] + [
        f"warning: {(images[VALIDATION] > high).sum()} of the {images[VALIDATION].size} validation pixels in {path} "
        f"are above {high:g}, which objective paper cannot draw (docs/data-format.md)"
    ]
    prepared(config(path, tmp_path / "b", objective="reference"))
    said = capsys.readouterr().err
    assert "training" not in said and "are above" in said, "from the darkest to the brightest training pixel"


def test_images_in_two_parts_of_the_split(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = images_of(path)
    images[TEST], images[VALIDATION[:3]] = images[TRAIN[: len(TEST)]], images[TRAIN[50:53]]
    change(path, images=images)
    prepared(config(path, tmp_path / "run"))
    said = capsys.readouterr().err
    assert "3 of 32 validation images and 16 of 16 test images are training images, too (split seed 0)" in said


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"epochs": 142}, True),
        ({"epochs": 143}, False),
        ({"epochs": 9, "lambda2": 10.0}, False),
        ({"epochs": 0}, False),
    ],
)
def test_a_training_that_is_too_short_is_warned_of(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: dict, warned: bool
) -> None:
    """Of 7 steps an epoch; not where a weight is given, nor by the length of a training that is told none."""
    made = prepared(config(path, tmp_path / "a", **fields))
    assert made.steps_per_epoch == 7
    assert (f"{7 * fields['epochs']} steps in all: below 1000" in capsys.readouterr().err) == warned


@pytest.mark.parametrize("model", ["aux-vae", "beta-vae"])
def test_a_factor_that_is_known_too_seldom(model: str, path: Path, tmp_path: Path) -> None:
    data: ImageSet = open_set(path)
    values = data.values.copy()
    values[:, 1] = np.nan
    values[VALIDATION[:3], 1] = data.values[VALIDATION[:3], 1]
    values[TRAIN, 1] = data.values[TRAIN, 1]
    change(path, factors=values)
    with pytest.raises(InputError, match=r"g1: measured in 3 of 32 validation samples; allowed .*: in 4 or more"):
        alone(config(path, tmp_path / "run", model=model))
    assert not (tmp_path / "run" / "last.safetensors").exists()


@pytest.mark.parametrize(
    ("part", "known", "message"),
    [
        (TEST, [0.1, 0.2], "g1: measured in 2 of 16 test samples, but a score needs 4: evaluate will score no code"),
        (TEST, [0.1] * 16, "g1: measured in 16 of 16 test samples, 0.1 in each: no score can say there whether"),
        (VALIDATION, [0.1] * 5, "g1: measured in 5 of 32 validation samples, 0.1 in each: no score can say there"),
        (TRAIN, [0.1] * 9, "g1: measured in 9 of 112 training samples, 0.1 in each; allowed as an auxiliary"),
    ],
)
def test_a_factor_that_cannot_be_judged_is_named_before_the_first_step(
    part: np.ndarray, known: list[float], message: str, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = open_set(path).values.copy()
    values[part, 1] = np.nan
    values[part[: len(known)], 1] = known
    change(path, factors=values)
    if part is TRAIN:
        with pytest.raises(InputError, match=message):
            prepared(config(path, tmp_path / "run"))
    else:
        prepared(config(path, tmp_path / "run"))
        assert f"warning: {path}: factors, {message}" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_a_short_training_is_told_how_long_would_do(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """7 steps an epoch; what is proposed has at least the steps that a training has by itself."""
    assert alone(config(path, tmp_path / "run", epochs=2, network="mlp")) == 0
    assert "14 steps in all: below 1000 " in (said := capsys.readouterr().err)
    assert "; --epochs 858 makes 6,000 of them\n" in said
    assert 858 * 7 >= 6000 > 857 * 7
    for model, told in (
        ("beta-vae", ""),
        ("idvae", ""),
        ("aux-vae", "latents may not have learned their factors, and "),
    ):
        prepared(config(path, tmp_path / "x", model=model, network="mlp"))
        assert f"14 steps in all: below 1000 {told}images stay blurred; --epochs 858 " in capsys.readouterr().err
