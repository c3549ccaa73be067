"""How factors guide by their kinds: the columns that a set gets, and the way back from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcauxvae.data.guides import (
    Guide,
    check_latents,
    guided,
    guides_of,
    guiding,
    in_words,
    measured,
    spans,
    spelled,
)
from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.types import Factor, InputError

AZIMUTH = Factor("azimuth", "deg", 0, 360, "periodic")
SHAPE = Factor("shape", "", 1, 9, "categorical")
GRADE = Factor("grade", "", 0, 100, "ordinal")
STEP = Factor("step", "", 0, 18, "ordinal")
SIZE = Factor("size", "cm", 1, 1000, transform="log10")
FACTORS = (AZIMUTH, SHAPE, GRADE, STEP, SIZE)


def set_of(folder: Path, name: str = "set", **more: Any) -> ImageSet:
    """30 images; classes 1, 2, 5 and 9; grades 0, 1, 10 and 100; a label of each but the last is not measured."""
    rng = np.random.default_rng(1)
    columns = [rng.uniform(0, 360, 30), *(rng.permutation(np.resize(x, 30)) for x in ([1, 2, 5, 9], [0, 1, 10, 100]))]
    values = np.stack([*columns, np.resize([0, 6, 12, 18], 30), rng.uniform(1, 1000, 30)], 1)
    values[3, :4] = np.nan
    path = folder / f"{name}.h5"
    write(path, rng.random((30, 1, 8, 8)), values, FACTORS, {}, **more)
    return open_set(path)


def test_each_kind_has_its_columns(tmp_path: Path) -> None:
    data = set_of(tmp_path)
    names = [factor.name for factor in FACTORS]
    view = guided(data, guides_of(data, names, "kinds"))
    columns = guiding(view, names)
    found = [view.factors[column].name for column in columns]
    of_shape = ["shape=2", "shape=5", "shape=9"]
    assert found == ["cos azimuth", "sin azimuth", *of_shape, "rank of grade", "step", "size"]
    u_ND, values = view.scaled()[:, columns], data.values
    angle = np.radians(values[:, 0])
    np.testing.assert_allclose(u_ND[:, 0], (1 + np.cos(angle)) / 2, atol=1e-12)
    np.testing.assert_allclose(u_ND[:, 1], (1 + np.sin(angle)) / 2, atol=1e-12)
    others = np.arange(30) != 3
    for column, level in enumerate((2, 5, 9), start=2):
        assert u_ND[others, column].tolist() == (values[others, 1] == level).tolist()
    ranks = [[0, 1, 10, 100].index(value) / 3 for value in values[others, 2]]
    np.testing.assert_allclose(u_ND[others, 5], ranks)
    assert np.isnan(u_ND[3, :7]).all() and np.isfinite(u_ND[:, 7]).all()
    # What is even already, or a plain number, is not touched: the same bits.
    np.testing.assert_array_equal(u_ND[:, 6:], data.scaled()[:, 3:])


def test_the_way_back_is_in_the_unit_of_the_factor(tmp_path: Path) -> None:
    data = set_of(tmp_path)
    guides = guides_of(data, [factor.name for factor in FACTORS], "kinds")
    for number, guide in enumerate(guides):
        values = data.values[:, number]
        np.testing.assert_allclose(guide.told(guide.code(values)), values, rtol=1e-9)
        np.testing.assert_allclose(guide.unscaled(guide.scaled(values)), values, rtol=1e-9)
    azimuth, shape, grade = guides[:3]
    np.testing.assert_allclose(azimuth.told(np.array([[0.0, -0.1], [-3.0, 0.0]])), [270, 180])
    # Nearest on the simplex of all classes: the first one has what the others leave of 1.
    shares = np.array([[0.2, 0.1, 0.1], [0.35, 0.3, 0.1], [0.1, 0.2, 1.4], [-1.0, -1.0, -1.0]])
    assert shape.told(shares).tolist() == [1, 2, 9, 1]
    assert grade.told(np.array([[-2.0], [1.5], [7.0]])).tolist() == [0, 5.5, 100]


def test_a_set_is_the_same_with_columns_behind_its_own(tmp_path: Path) -> None:
    errors = np.full((30, 5), 2.0)
    data = set_of(tmp_path, factor_errors=errors)
    view = guided(data, guides_of(data, ["shape", "azimuth"], "kinds"))
    assert view.own == 5 and len(view.factors) == 10 and view.fingerprint == data.fingerprint
    np.testing.assert_array_equal(measured(view).values, data.values)
    assert measured(view).factors == data.factors and measured(view).fingerprint == data.fingerprint
    assert guided(view, view.guides) is view
    cos, sin = view.factor_errors[:, view.column(["cos azimuth", "sin azimuth"])].T  # type: ignore[index]
    known = np.arange(30) != 3
    np.testing.assert_allclose(np.hypot(cos, sin)[known], np.radians(2))
    np.testing.assert_allclose(cos[known], np.abs(np.sin(np.radians(data.values[known, 0]))) * np.radians(2))


def test_raw_labels_stay_as_they_are(tmp_path: Path) -> None:
    data = set_of(tmp_path)
    guides = guides_of(data, ["shape", "azimuth"], "raw")
    assert all(guide.plain for guide in guides) and in_words(guides) == []
    assert guiding(guided(data, guides), ["shape", "azimuth"]) == [1, 0]


def test_two_classes_are_one_column_and_names_that_are_taken_are_left(tmp_path: Path) -> None:
    two = Factor("two", "", 0, 1, "categorical")
    taken = Factor("cos azimuth", "", -1, 1)
    values = np.stack([np.arange(30.0) * 12, np.resize([0.0, 1.0], 30), np.cos(np.arange(30))], 1)
    write(tmp_path / "set.h5", np.random.default_rng(0).random((30, 1, 8, 8)), values, (AZIMUTH, two, taken), {})
    data = open_set(tmp_path / "set.h5")
    view = guided(data, guides_of(data, ["two", "azimuth", "cos azimuth"], "kinds"))
    columns = guiding(view, [])
    assert [view.factors[c].name for c in columns] == ["two=1", "cos azimuth*", "sin azimuth", "cos azimuth"]
    np.testing.assert_array_equal(view.scaled()[:, columns[0]], data.scaled()[:, 1])
    np.testing.assert_array_equal(view.values[:, columns[3]], values[:, 2])


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ((0.5, 1 / 3, 0.3333334), ["z=0.3333334", "z=0.5"]),
        ((1e15, 1e15 + 1, 1e15 + 2), ["z=1000000000000001", "z=1000000000000002"]),
        ((0.1, 0.1 + 2**-56, 7), ["z=0.10000000000000002", "z=7"]),
        ((0.5, 1 / 3, 1e15), ["z=0.5", "z=1e+15"]),
    ],
)
def test_classes_that_are_alike_in_six_digits_have_names_of_their_own(
    classes: tuple[float, ...], names: list[str], tmp_path: Path
) -> None:
    factor = Factor("z", "", 0, 2e15, "categorical")
    write(tmp_path / "set.h5", np.ones((30, 1, 8, 8)), np.resize(classes, 30)[:, None], (factor,), {})
    data = open_set(tmp_path / "set.h5")
    view = guided(data, guides_of(data, ["z"], "kinds"))
    assert [view.factors[column].name for column in guiding(view, ["z"])] == names
    assert in_words(view.guides)[0].endswith(f"3 classes, each but {spelled(sorted(classes))[0]}")


def test_what_guides_what_is_told_and_counted(tmp_path: Path) -> None:
    data = set_of(tmp_path)
    guides = guides_of(data, ["size", "azimuth", "shape", "grade"], "kinds")
    assert spans(guides) == [slice(0, 1), slice(1, 3), slice(3, 6), slice(6, 7)]
    assert in_words(guides) == [
        "azimuth guides latents 2 and 3: its cosine and sine",
        "shape guides latents 4 to 6: 4 classes, each but 1",
        "grade guides latent 7: the rank of its 4 levels",
    ]
    check_latents(guides, 7)
    told = (
        r"size needs 1 latent, azimuth needs 2 latents, shape needs 3 latents \(4 classes\), grade needs 1 latent: 7 in"
        r" all, for latents = 6; allowed: 7 or more, best latents = 12, of which 5 are for what nobody measured; "
    )
    with pytest.raises(InputError, match=told):
        check_latents(guides, 6)


def test_a_class_that_the_run_does_not_know_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = set_of(tmp_path)
    (shape,) = guides_of(data, ["shape"], "kinds")
    view = guided(data, (Guide(SHAPE, shape.columns[:2], (1.0, 2.0, 5.0)),))
    nine = data.values[:, 1] == 9
    assert np.isnan(view.values[nine, 5:]).all() and np.isfinite(view.values[data.values[:, 1] == 1, 5:]).all()
    assert f"factors, shape: {nine.sum()} samples are of a class that the run was not" in capsys.readouterr().err


def test_records_bring_everything_back(tmp_path: Path) -> None:
    data = set_of(tmp_path)
    for guide in guides_of(data, [factor.name for factor in FACTORS], "kinds"):
        assert Guide.of_record(guide.record(), guide.columns) == guide
