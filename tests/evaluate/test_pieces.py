"""Scores and indices in pieces: the same numbers, and no more images at once than go through the networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcauxvae.data import stored
from hpcauxvae.evaluate import sensitivity
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, Later
from hpcauxvae.metrics import score_images
from hpcauxvae.models import networks
from hpcauxvae.types import InputError

FEW = 5


def test_images_are_scored_a_few_at_once(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test images, their reconstructions and what the plain methods see."""
    evaluator = Evaluator(EvaluateConfig(run=trained_run, device="cpu", control=False))
    whole = evaluator.scores(next(evaluator.sets()))[0]
    monkeypatch.setattr(networks, "_WORKING_BYTES", FEW * 4 * 33 * 33 * 25)
    monkeypatch.setattr(stored, "_PIECE_BYTES", FEW * 4 * 33 * 33)
    asked: list[int] = []
    given = Later.__getitem__

    def noted(images: Later, rows: Any) -> np.ndarray:
        asked.append(len(given(images, rows)))
        return given(images, rows)

    monkeypatch.setattr(Later, "__getitem__", noted)
    scored = next(evaluator.sets())
    assert len(scored.originals) > 2 * FEW and not asked
    parts = evaluator.scores(scored)[0]
    assert max(asked) == FEW and sum(asked) == 3 * len(scored.originals)
    for name in ("ssim", "mse"):
        assert parts["images"][name] == pytest.approx(whole["images"][name], rel=1e-4)
        for plain, found in whole["baselines"].items():
            assert parts["baselines"][plain][name] == pytest.approx(found[name], rel=1e-4)


def test_an_image_that_cannot_be_scored_has_its_own_number() -> None:
    images = np.random.default_rng(0).uniform(size=(12, 1, 8, 8))
    drawn = images.copy()
    drawn[7, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="number 7 has NaN"):
        score_images(images, drawn, 1.0, at_once=3)


def test_indices_of_images_that_are_made_a_few_at_once() -> None:
    """The same numbers; and numpy's own random numbers go on as if nothing had been asked."""
    made: list[int] = []

    def images(codes_QZ: np.ndarray) -> np.ndarray:
        made.append(len(codes_QZ))
        y, x = np.mgrid[:9, :9] - 4.0
        return np.exp(-(x**2 + y**2) / (1 + codes_QZ[:, 0, None, None] ** 2) - codes_QZ[:, 1, None, None] * x)[:, None]

    inputs = [sensitivity.Input(name, [j], np.linspace(0, 1, 50)) for j, name in enumerate("ab")]
    whole = sensitivity.sobol(images, inputs, samples=32, at_once=10**6)
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    total, made[:] = sum(made), []
    parts = sensitivity.sobol(images, inputs, samples=32, at_once=FEW)
    assert max(made) == FEW and sum(made) == total
    assert parts == whole
    assert np.random.random() == expected
