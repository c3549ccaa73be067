"""The verdict on a candidate, of each kind, from the numbers alone."""

from typing import Any

import pytest

from hpcauxvae.audit.verdict import VERDICTS, cautions, chance, in_words, verdict


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 400}


def numbers(others: float, code: tuple[float, float], reader: tuple[float, float] | None) -> dict[str, Any]:
    """R^2 of the others; gain and p of the residual latents, and of the reader."""
    beyond = {
        name: None if found is None else {"gain": score(found[0]), "z": 5.0, "p": found[1]}
        for name, found in (("residual", code), ("all", code), ("reader", reader))
    }
    return {
        "others": {"r2": score(others), "missed": score(0.0)},
        "of_others": {"flux": 0.8, "size": 0.15, "g1": 0.05},
        "beyond": beyond,
        "held_by": {"4": 0.93, "7": 0.07},
        "images": {"test": 400},
        "test_objects": 400,
        "reader": None if reader is None else {"r2": score(reader[0])},
        "label_errors": [],
    }


SURE, CHANCE = 1e-9, 0.4
CASES = {
    "adds": (0.0, (0.6, SURE), (0.6, SURE)),
    "both": (0.5, (0.4, SURE), (0.4, SURE)),
    "already": (0.97, (0.0, CHANCE), (0.0, CHANCE)),
    "unseen": (0.0, (0.0, CHANCE), (0.0, CHANCE)),
    "missed": (0.0, (0.0, CHANCE), (0.5, SURE)),
}


@pytest.mark.parametrize("kind", VERDICTS)
def test_each_verdict(kind: str) -> None:
    found = numbers(*CASES[kind])
    assert verdict(found, 0.01) == kind
    said = in_words("psf", found, 0.01)
    assert said.startswith(f"psf: {VERDICTS[kind]}" if kind != "already" else "psf: already in flux, size (R² 0.97")


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ((0.0, (0.5, 0.006), None), "unseen"),  # half of the level is for each test
        ((0.0, (0.5, 0.004), None), "adds"),
        ((0.0, (0.009, SURE), (0.009, SURE)), "unseen"),  # too little, however sure
        ((0.04, (0.5, SURE), None), "adds"),
        ((0.5, (0.0, CHANCE), (0.3, SURE)), "missed"),
        ((0.97, (0.0, SURE), None), "already"),
        ((0.0, (0.0, CHANCE), None), "unseen"),  # without a reader
    ],
)
def test_what_decides(case: tuple[float, tuple[float, float], tuple[float, float] | None], kind: str) -> None:
    assert verdict(numbers(*case), 0.01) == kind


def test_others_that_tell_too_little_to_be_sure_are_not_named() -> None:
    found = numbers(0.06, (0.0, CHANCE), None)
    assert verdict(found, 0.01) == "already"
    found["others"]["r2"]["low"] = -0.01
    assert verdict(found, 0.01) == "unseen"


def test_words_have_the_numbers() -> None:
    said = in_words("psf", numbers(*CASES["both"]), 0.01)
    assert "already in flux, size (R² 0.50 [0.48, 0.52])" in said
    assert "add 0.40 [0.38, 0.42] of its variance (z 5.0, p 1e-09), held by latent 4 (93%)" in said
    half = in_words("psf", numbers(0.5, (0.0, CHANCE), (0.0, CHANCE)), 0.01)
    assert "what these regressions do not tell of it, 0.50, is not found in the code either" in half
    assert "not found in the code either" not in in_words("psf", numbers(*CASES["already"]), 0.01)
    held = numbers(*CASES["missed"])
    assert "guided latents hold it" not in in_words("psf", held, 0.01)
    held["beyond"]["all"] = held["beyond"]["reader"]
    assert "guided latents hold it" in in_words("psf", held, 0.01)


def test_cautions() -> None:
    found = numbers(*CASES["adds"])
    assert cautions(found) == []
    found |= {"test_objects": 120, "label_errors": ["flux"]}
    few, errors = cautions(found)
    assert "400 test images of 120 objects" in few and "flux" in errors
    found["images"] = {"test": 120}
    assert "only 120 test images:" in cautions(found)[0]


@pytest.mark.parametrize(("value", "warned"), [(0.18, True), (0.015, False), (0.005, False), (-0.1, False)])
def test_a_forest_that_tells_more_than_the_regressions_is_warned_of(value: float, warned: bool) -> None:
    """By so much, 0.02 to either side, and by a hundredth at least."""
    found = numbers(*CASES["adds"])
    found["others"]["missed"] = score(value)
    assert ["random forest finds 0.18 [0.16, 0.20]" in line for line in cautions(found)] == [True] * warned


def test_without_a_reader_nothing_is_said_of_the_images() -> None:
    found = numbers(0.0, (0.0, CHANCE), None)
    (line,) = cautions(found)
    assert "no reader of images" in line and "only the code was asked" in line
    assert "noise" not in in_words("psf", found, 0.01)
    assert "it is noise, or hidden by noise" in in_words("psf", numbers(*CASES["unseen"]), 0.01)


def test_a_probability_that_is_not_known_is_not_small() -> None:
    assert chance(float("nan")) == "–"
    assert chance(1e-13) == "< 1e-12"
