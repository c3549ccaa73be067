"""Findings of blocks of scores that are written down here, for which no model is trained."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.evaluate import steering, table, verdicts
from hpcauxvae.evaluate.control import Counterfactuals, score
from hpcauxvae.evaluate.training import training
from hpcauxvae.train.run import load_run


def of_one(r: float, regressor: float, reader: float | None, half: float = 0.1) -> dict[str, Any]:
    """A block with what the model, the ridge regression and the reader have of one factor."""
    own, plain, real = (
        None if value is None else {"value": value, "low": value - half, "high": value + half, "n": 99}
        for value in (r, regressor, reader)
    )
    reading = {"r": own, "regressor": {"r": plain}, "spread": 1.0, "offset": {"low": 0.0, "high": 0.0}}
    control = {"control": {"effectiveness": {"psf": {"real": {"r": real}}}}} if real else {}
    return {"reading": {"psf": reading}, "latents": {"off": []}} | control


@pytest.mark.parametrize(
    ("r", "regressor", "reader", "said"),
    [(0.1, 0.12, None, True), (0.1, 0.12, -0.15, True), (0.1, 0.1, 0.9, False), (0.1, 0.9, 0.1, False),
     (0.6, 0.1, 0.1, False), (0.1, 0.25, 0.1, False)],
)  # fmt: skip
def test_labels_that_nothing_finds_in_the_images_may_be_of_others(r, regressor, reader, said) -> None:
    lines = list(verdicts.labels(of_one(r, regressor, reader)))
    assert len(lines) == said and all(
        "psf 0.12 by the ridge" in line and "may be of other images" in line for line in lines
    )


@pytest.mark.parametrize(
    ("regressor", "reader", "best"),
    [(0.5, 0.9, "reader has 0.90"), (0.95, 0.9, "ridge regression has 0.95"), (0.8, None, "ridge regression has 0.80")],
)
def test_a_lost_factor_stands_beside_the_better_of_ridge_and_reader(regressor, reader, best) -> None:
    lines = list(verdicts.reading(of_one(0.2, regressor, reader)))
    assert lines == [f"psf is not read (r = 0.20; the {best})"]


def test_the_table_has_intervals_of_r_and_slope() -> None:
    """A periodic factor has no slope, and its columns stay where they are."""
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    one = {"r": score, "slope": score, "error": score, "regressor": {"r": score, "error": score}, "unit": "m"}
    reading = {"mass": one, "turn": {key: value for key, value in one.items() if key != "slope"}}
    head, mass, turn = table._reading({"reading": reading})
    assert "ridge regression: r" in head, "as the findings call it"
    assert mass.count("[0.250, 0.750]") == 2 and turn.count("[0.250, 0.750]") == 1
    assert len(mass) == len(turn) and mass.index("]") == turn.index("]") == head.index(" interval") + 8


def rows(mse: list[float]) -> list[dict[str, Any]]:
    return [{"epoch": n, "validation": {"loss": 2 * m, "mse": m}} for n, m in enumerate(mse, start=1)]


def test_training_images_learned_by_heart_are_told(trained_run) -> None:
    """And that a training was of so few steps; the best epoch by itself has nothing to regret."""
    run = load_run(trained_run)
    short = "the training was short: 14 steps in all: below "
    for mse, said in (([1.0, 1.2], True), ([1.0, 1.04], False), ([1.2, 1.0], False)):
        lines = list(verdicts.trained({"training": training(run, rows(mse))}))
        assert lines[0].startswith(short) and len(lines) == 1 + said
        assert all("epoch 1 was the best" in line and "by 20% since" in line for line in lines[1:])
    (line,) = verdicts.trained({"training": training(run, rows([1.0, 1.2]), "best")})
    assert line.startswith(short)
    assert training(run, [])["best"] is None


def test_where_training_images_are_drawn_no_better_nothing_was_learned_by_heart(trained_run) -> None:
    run, told = load_run(trained_run), rows([1.0, 1.2])
    for training_images, words in ((90.0, "since, as where training images are learned by heart"), (97.0, "no better")):
        told[1]["train"] = {"reconstruction": training_images}
        told[1]["validation"]["reconstruction"] = 100.0
        (line,) = [one for one in verdicts.trained({"training": training(run, told)}) if "by validation" in one]
        assert words in line


def test_a_tolerance_that_was_not_kept_is_told(trained_run) -> None:
    run = load_run(trained_run)
    for dependence, said in ((0.05, True), (0.03, False)):
        told = [row | {"dependence": dependence, "tolerance": 0.0150} for row in rows([1.0, 0.9])]
        lines = [one for one in verdicts.trained({"training": training(run, told)}) if "independence was not" in one]
        assert len(lines) == said and all("was 0.050, its tolerance 0.0150" in line for line in lines)
    assert training(run, rows([1.0]))["kept"] is None


@pytest.mark.parametrize(("asked", "said"), [(0.94, True), (0.88, False)])
def test_a_reading_that_is_easier_than_in_real_images_is_told(asked: float, said: bool) -> None:
    def scores(r: float, width: float = 0.01) -> dict[str, Any]:
        one = {"value": r, "low": r - width, "high": r + width, "n": 99}
        return {"r": one, "offset": {"value": 0.0, "low": -0.1, "high": 0.1}, "spread": 1.0}

    parts = {"asked": scores(asked), "real": scores(0.86), "reconstruction": scores(0.9)}
    lines = list(steering.easier({"control": {"effectiveness": {"sersic": parts}}}))
    assert len(lines) == said and all("(r = 0.94) than in real ones (0.86)" in line for line in lines)


def test_images_with_less_than_no_light_are_told(blobs_file) -> None:
    """Where no real image is like that."""
    data, none = open_set(blobs_file), np.zeros((30, 0))
    images, u = np.array(data.images[:30]), data.scaled()[:30, :1]
    dark = np.where(np.arange(30)[:, None, None, None] < 3, -images, images)

    def judged(a: NDArray, asked: NDArray) -> dict[str, Any]:
        made = Counterfactuals(
            a=a, b=np.roll(a, 1, 0), u_a=u, u_b=np.roll(u, 1, 0), reconstruction=a, asked=asked, back=a, cycled=a,
            own=none, again=none, changed=none, known=None, likely=[None], rendered=None,
        )  # fmt: skip
        return score(made, None, data, ("radius",))

    (line,) = steering.unasked({"control": judged(images, dark)})
    assert line.startswith("3 of 30 images that were asked for have less than no light")
    assert judged(images, images)["negative"] == 0 and judged(dark, dark)["negative"] == 0
