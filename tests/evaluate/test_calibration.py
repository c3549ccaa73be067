"""A run's calibration: kept in its folder, of its own weights alone; and which images are unlike the training ones."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.trainings import alone, config
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.data.splits import parts
from hpcauxvae.evaluate import calibration
from hpcauxvae.evaluate.calibration import calibrate, load_calibration, measured, squares
from hpcauxvae.train.run import load_run, training_set
from hpcauxvae.types import Factor, InputError


def test_what_is_written_is_read_again_and_belongs_to_its_weights(run_copy: Path) -> None:
    run = load_run(run_copy)
    data = training_set(run)
    assert load_calibration(run) is None
    made = calibrate(run, data)
    path = made.write(run.folder)
    found = load_calibration(run)
    assert found is not None and found.about == made.about and found.guides == made.guides
    codes = measured(run, data.images, np.arange(40))
    for name, values in made.predict(codes.mean_NZ, codes.logvar_NZ, codes.score_NS).items():
        np.testing.assert_array_equal(found.predict(codes.mean_NZ, codes.logvar_NZ, codes.score_NS)[name], values, name)
    for name, tensor in run.model.state_dict().items():
        if name.startswith(("independence.", "unit")):
            tensor.add_(1)
    assert load_calibration(run) is not None, "what only training reads is no part of the weights"
    with torch.no_grad():
        next(run.model.parameters()).add_(1e-3)
    assert load_calibration(run) is None
    changed = calibration.path_of(run.folder, calibrate(run, data).about["weights"])
    shutil.copy(path, changed)
    assert load_calibration(run) is None, "the name alone does not tell"
    path.write_bytes(path.read_bytes()[:-1])
    assert load_calibration(load_run(run_copy)) is None


def test_predictions_are_those_of_the_guided_means_in_the_factors_units(run_copy: Path) -> None:
    run = load_run(run_copy)
    data = training_set(run)
    made = calibrate(run, data)
    validation = parts(data, 0)[1]
    codes = measured(run, data.images)
    for number, factor in enumerate(run.factors):
        u_M = factor.scale(data.values[validation, number])
        slope, offset = np.polyfit(codes.mean_NZ[validation, number], u_M, 1)
        expected_N = factor.low + (slope * codes.mean_NZ[:, number] + offset) * (factor.high - factor.low)
        found = made.predict(codes.mean_NZ, codes.logvar_NZ, codes.score_NS)
        np.testing.assert_allclose(found[factor.name], expected_N, rtol=1e-6, atol=1e-6)
        names = [f"{factor.name}_{end}" for end in ("low95", "low68", "high68", "high95")]
        ends = np.stack([found[name] for name in [*names[:2], factor.name, *names[2:]]])
        assert (np.diff(ends, axis=0) > 0).all()
    assert list(found) == list(made.units())
    assert {name: unit for name, unit in made.units().items() if unit} == dict.fromkeys(
        ["radius", *(f"radius_{end}{level}" for level in (68, 95) for end in ("low", "high"))], "arcsec"
    )


def test_a_logarithmic_factor_stays_positive(run_copy: Path) -> None:
    run = load_run(run_copy)
    made = calibrate(run, training_set(run))
    factor = run.factors[0]._replace(transform="log10")
    made = dataclasses.replace(made, guides=(Guide(factor, (factor,)), made.guides[1]))
    found = measured(run, training_set(run).images)
    table = made.predict(found.mean_NZ, found.logvar_NZ, found.score_NS)
    reader = made.readers[0]
    ends = reader(found.mean_NZ[:, :1], np.concatenate([found.mean_NZ, found.logvar_NZ], 1))[1][1]
    np.testing.assert_allclose(np.log10(table["radius_low95"] / factor.low), ends[0], atol=1e-7)
    assert (ends[0] < 0).any() and (table["radius_low95"] > 0).all()
    far = made.predict(found.mean_NZ + 1e6, found.logvar_NZ, found.score_NS)
    assert not np.isnan(far["radius"]).any(), "no code is too strange for a number"
    level_N = made.level(0, found, np.array([0.0, -1] * 80))
    assert np.isnan(level_N).all(), "what has no logarithm is no label"


def test_the_scores_of_an_image_are_mean_squares_over_known_pixels(run_copy: Path) -> None:
    model = load_run(run_copy).model
    rng = np.random.default_rng(0)
    images, decoded = (torch.tensor(rng.poisson(20, (3, 1, 33, 33)), dtype=torch.float32) for _ in range(2))
    holes = images.clone()
    holes[:, :, :5] = torch.nan
    weights = torch.tensor(rng.random((3, 1, 33, 33)), dtype=torch.float32)

    def root(counts: np.ndarray) -> np.ndarray:
        return 2 * (np.sqrt(counts + 3 / 8) - np.sqrt(3 / 8))

    a, b, w = (of.numpy()[:, 0, 5:].astype(float) for of in (images, decoded, weights))
    expected_N = (np.square(root(a) - root(b)) / root(float(model.maximum)) ** 2).mean((1, 2))
    of_image_N = (np.square(root(a)) / root(float(model.maximum)) ** 2).mean((1, 2))
    np.testing.assert_allclose(squares(model, holes, decoded, None).T, [expected_N, of_image_N], rtol=1e-4)
    in_noise = [(w * np.square(of)).mean((1, 2)) for of in (a - b, a)]
    np.testing.assert_allclose(squares(model, holes, decoded, weights).T, in_noise, rtol=1e-4)


@pytest.mark.slow
def test_images_unlike_those_of_the_training_are_flagged(tmp_path: Path) -> None:
    """Of the same brightness, with their pixels in another order, upside down in brightness, or of noise alone."""
    rng, n = np.random.default_rng(0), 3000
    u = rng.random((n, 2))
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    width = 0.15 + 0.3 * u[:, 0, None, None]
    expected = np.exp(-((x - u[:, 1, None, None] + 0.5) ** 2 + y**2) / (2 * width**2)) * 50
    images = rng.poisson(expected)[:, None].astype(np.float32)
    factors = [Factor("width", "", 0, 1), Factor("place", "", 0, 1)]
    write(tmp_path / "set.h5", images, u, factors, {})
    assert alone(config(tmp_path / "set.h5", tmp_path / "run", aux="width,place", network="mlp", epochs=8)) == 0
    run = load_run(tmp_path / "run")
    data = open_set(tmp_path / "set.h5")
    made = calibrate(run, data)

    def flagged(images: np.ndarray) -> float:
        found = measured(run, images)
        return float(made.predict(found.mean_NZ, found.logvar_NZ, found.score_NS)["unlike"].mean())

    test = images[parts(data, 0)[2]]
    mixed = rng.permuted(test.reshape(len(test), -1), axis=1).reshape(test.shape)
    assert flagged(test) <= 0.03
    assert flagged(mixed) > 0.95
    assert flagged(test.max((2, 3), keepdims=True) - test) > 0.95
    assert flagged(rng.poisson(1, test.shape).astype(np.float32)) > 0.95
    bars = np.zeros_like(test)
    bars[:, :, 3:6] = 40
    assert flagged(rng.poisson(bars).astype(np.float32)) > 0.95


def test_nothing_guided_is_refused(tmp_path: Path, blobs_file: Path) -> None:
    assert alone(config(blobs_file, tmp_path / "run", model="beta-vae", aux="", epochs=1)) == 0
    run = load_run(tmp_path / "run")
    with pytest.raises(InputError, match="model beta-vae has no guided latents; allowed: aux-vae"):
        calibrate(run, training_set(run))
