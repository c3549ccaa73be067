"""What `data check` says of sets that keep the format: nothing where all is well, else the sample and its value."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcauxvae.data.command import main
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.data.pixels import look_at
from hpcauxvae.data.remarks import _about_turn, about_units, remarks
from hpcauxvae.types import Factor, Kind

N = 100


def images(n: int = N) -> np.ndarray:
    return np.random.default_rng(0).poisson(50, (n, 1, 5, 5)).astype(np.float32)


def told(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None, kind: Kind = "continuous") -> list[str]:
    """The remarks on a set of these images and of labels that are in order, if not given."""
    labels = np.random.default_rng(1).uniform(18, 25, len(pixels)) if labels is None else labels
    path.unlink(missing_ok=True)
    write(path, pixels, labels[:, None], [Factor("a", "", np.nanmin(labels), np.nanmax(labels), kind)], {})
    return list(remarks(open_set(path), split_seed=3))


def test_a_hot_pixel_is_named_with_what_the_others_have(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = images()
    pixels[7, 0, 3, 3] = 1e8
    rest = np.delete(pixels, 7, 0)
    expected = (
        f"images: the pixels of sample 7 ({pixels[7].min():g} to 1e+08) reach far outside those of all others "
        f"({rest.min():g} to {rest.max():g}), as hot pixels do; training and evaluation count them as the "
        "nearest pixel of the others"
    )
    assert told(tmp_path / "set.h5", pixels) == [expected]
    assert main(["check", str(tmp_path / "set.h5")]) == 0
    captured = capfd.readouterr()
    assert captured.err == f"warning: {tmp_path / 'set.h5'}: {expected}\n" and "100 images" in captured.out


def test_images_of_nothing(tmp_path: Path) -> None:
    pixels = images()
    pixels[[3, 40]] = 0
    pixels[50] = 7
    found = [line for line in told(tmp_path / "set.h5", pixels) if "in every pixel" in line]
    assert found == [
        "images: 3 of 100 have the same value in every pixel, sample 3 (0), 40 (0), 50 (7); leave them out where "
        "nothing was seen there"
    ]
    assert not [line for line in told(tmp_path / "set.h5", images()) if "in every pixel" in line]


def test_each_image_ten_times(tmp_path: Path) -> None:
    order = np.repeat(np.arange(60), 10)
    train, validation, test = split(600, 3)
    trained = {order[i] for i in train}
    shared = [sum(order[i] in trained for i in part) for part in (validation, test)]
    assert shared[1] == 60
    assert told(tmp_path / "set.h5", images(60)[order]) == [
        f"images: 540 of 600 are copies of others (sample 1 of 0, …); {shared[0]} of 120 validation images and 60 of "
        "60 test images are training images, too (split seed 3): their scores count what was learned by heart; leave "
        "copies out, or give all of one image the same number in `group` (docs/data-format.md)"
    ]


ALTERED = {
    "brighter": lambda image, n: image + 1,
    "mirrored": lambda image, n: image[:, :, ::-1] if n % 2 else image[:, ::-1],
    "a pixel": lambda image, n: image + 3 * (np.arange(25).reshape(1, 5, 5) == n % 25),
    "other": lambda image, n: np.random.default_rng(n).permutation(image.ravel()).reshape(1, 5, 5),
}


@pytest.mark.parametrize("how", ALTERED)
@pytest.mark.parametrize(("peak", "unit"), [(50, 1), (1e6, 1), (50, 1e-26), (50, 1e20)])
def test_altered_copies_that_keep_their_labels(tmp_path: Path, how: str, peak: float, unit: float) -> None:
    """Labels that repeat as those of a grid do are no sign of copies; a hot pixel does not make all others alike.

    Whatever the unit of the pixels: squares of janskys in SI, or of a star's watts, are beyond float32.
    """
    originals = np.random.default_rng(0).poisson(np.random.default_rng(1).uniform(9, 99, (N, 1, 5, 5)))
    pixels = np.concatenate([originals, [ALTERED[how](image, n) for n, image in enumerate(originals)]]).astype(float)
    pixels[7, 0, 2, 2] = pixels[107, 0, 2, 2] = peak
    labels = np.tile(np.random.default_rng(1).uniform(18, 25, N), 2)
    expected = (
        "images: 100 of 100 that have all labels of another are nearly the same as that, or as its mirror image "
        "(sample 100 as 0, …), as altered copies are; where the split parts them, scores count what was learned by "
        "heart; leave copies out, or give all of one image the same number in `group` (docs/data-format.md)"
    )
    said = [line for line in told(tmp_path / "set.h5", pixels * unit, labels) if "labels of another" in line]
    assert said == [expected] * (how != "other")


def test_copies_within_training_are_told_without_the_parts(tmp_path: Path) -> None:
    first, second = sorted(split(N, 3)[0][:2])
    pixels = images()
    pixels[second] = pixels[first]
    expected = f"images: 1 of 100 are copies of others (sample {second} of {first}, …)"
    assert told(tmp_path / "set.h5", pixels) == [expected]


def test_a_set_too_small_to_split(tmp_path: Path) -> None:
    assert told(tmp_path / "set.h5", images(2)[[0, 1, 0]]) == ["images: 1 of 3 are copies of others (sample 2 of 0, …)"]


def test_a_stuck_pixel_is_named_with_what_the_others_have(tmp_path: Path) -> None:
    pixels = images()
    pixels[:, 0, 2, 3] = 1e8
    rest = np.delete(pixels.reshape(N, -1), 13, 1)
    said = "nearly the same in every image and far outside all others"
    assert told(tmp_path / "set.h5", pixels) == [
        f"images: pixel (0, 2, 3) is 1e+08, {said} ({rest.min():g} to {rest.max():g}), as where a detector is stuck "
        "or nothing was measured; fill it (channel, row, column) from its neighbours; training and evaluation count "
        f"it as {rest.min():g}"
    ]
    pixels[:, 0, 2, 3] = -9999
    (line,) = told(tmp_path / "set.h5", pixels)
    assert f"pixel (0, 2, 3) is -9999, {said}" in line


def test_pictures_are_told_from_counts_in_the_same_range() -> None:
    def said(pixels: np.ndarray) -> list[str]:
        return list(about_units(look_at(pixels)))

    rng = np.random.default_rng(4)
    counts = rng.poisson(rng.uniform(1, 200, (N, 1, 5, 5))).clip(0, 255).astype(np.uint8)
    counts[3, 0, 2, 2] = 255
    assert said(counts) == []
    for top, dtype in ((255, np.uint8), (255, np.float32), (1, np.uint8)):
        pictures = rng.integers(0, top + 1, (N, 1, 5, 5)).astype(dtype)
        pictures[::4, 0, 2, 2] = top
        (line,) = said(pictures)
        assert line.startswith(f"images: whole numbers from 0 to {top}, the peak of ")
        assert "use --objective bernoulli for pictures" in line
    (line,) = said(images() / 100)
    assert line.startswith("images: the pixels are no counts and at most 0.") and "--objective bernoulli" in line


def test_a_number_that_stands_for_a_missing_pixel(tmp_path: Path) -> None:
    pixels, share = images(), 40
    pixels[:share, 0, 2, 2] = -9999
    low = min(pixels[share:].min(initial=np.inf), pixels.max((1, 2, 3)).min())
    assert told(tmp_path / "set.h5", pixels) == [
        f"images: -9999, the lowest pixel of {share} images, lies far below the others ({low:g} or more); where it "
        "stands for a pixel that was not measured, it must be filled, or be NaN with missing_pixels = "
        '"nan" (docs/data-format.md)'
    ]


@pytest.mark.parametrize(
    ("sentinel", "others"),
    [
        (-99.0, (18, 25)),
        (9999.0, (18, 25)),
        (99.0, (18, 25)),
        (-99.0, (1, 50)),
        (-999.0, (1e4, 1e5)),  # nearer than its own range, and negative as no other
        (-9.0, (-0.5, 0.5)),
        (-1e30, (-0.5, 0.5)),
        (-32768.0, (0, 255)),
        (-99.0, (-50, 50)),
        (-1.0, (100, 3000)),
    ],
)
@pytest.mark.parametrize("share", [2, 8, 40])
def test_a_number_that_stands_for_no_value(
    tmp_path: Path, sentinel: float, others: tuple[float, float], share: int
) -> None:
    labels = np.random.default_rng(2).uniform(*others, N)
    labels[:share] = sentinel
    (line,) = told(tmp_path / "set.h5", images(), labels)
    low, high = labels[share:].min(), labels[share:].max()
    assert line.startswith(
        f"factors, a: {sentinel:.15g} ({share} samples) lies far outside the other values ({low:g} to {high:g}); "
    )


@pytest.mark.parametrize(
    ("value", "others", "told_of"),
    [(99.0, (18, 25), True), (-99.0, (1, 50), True), (-9999.0, (0, 1000), True), (99.0, (0, 59), False),
     (-9.0, (0, 30), False), (-1.0, (100, 3000), False), (-999.0, (1e4, 1e5), False)],
)  # fmt: skip
def test_what_is_there_once_stands_for_no_value_only_where_it_is_very_far(
    tmp_path: Path, value: float, others: tuple[float, float], told_of: bool
) -> None:
    labels = np.random.default_rng(2).uniform(*others, N)
    labels[5] = value
    assert bool(told(tmp_path / "set.h5", images(), labels)) == told_of


def test_two_numbers_that_stand_for_no_value(tmp_path: Path) -> None:
    labels = np.random.default_rng(2).uniform(18, 25, N)
    labels[:4], labels[5:7], labels[9] = -99, 99, np.nan
    (line,) = told(tmp_path / "set.h5", images(), labels)
    assert "a: -99 (4 samples), 99 (2 samples) lies" in line


@pytest.mark.parametrize(
    "labels",
    [
        np.linspace(0, 99, N),
        np.linspace(-99, 99, N),
        np.arange(N) % 2 * 99.0,
        np.repeat([0.0, 6, 12, 18], N // 4),
        np.repeat([0.0, 1, 2, 9], N // 4),  # few values, far apart
        np.arange(N) % 5 - 1.0,
        np.repeat([-1.0, 1, 2, 3], N // 4),
        np.r_[np.full(20, -1.0), np.linspace(-0.9, 30, N - 20)],  # cut off below
        np.random.default_rng(3).lognormal(0, 1, N),
        np.random.default_rng(3).standard_t(3, N),
        np.where(np.arange(N) < 60, np.nan, np.linspace(-1, 1, N)),
    ],
)
def test_labels_in_order(tmp_path: Path, labels: np.ndarray) -> None:
    assert told(tmp_path / "set.h5", images(), labels, "ordinal") == []


@pytest.mark.parametrize(("low", "high", "share"), [(-1e6, 1e6, "5e-07"), (0, 101, "0.01"), (-49, 50, "")])
def test_a_range_far_wider_than_the_values(tmp_path: Path, low: float, high: float, share: str) -> None:
    labels = np.random.default_rng(1).permutation(np.linspace(0, 1, N))[:, None]
    write(tmp_path / "set.h5", images(), labels, [Factor("a", "", low, high)], {})
    expected = (
        f"factors, a: declared {low:g} to {high:g}, but its values, 0 to 1, take {share} of that range, which is "
        "scaled to 0 to 1: so little hardly guides a latent; declare the range of the values"
    )
    assert list(remarks(open_set(tmp_path / "set.h5"))) == [expected] * bool(share)


@pytest.mark.parametrize(("shape", "is_told"), [((33, 33, 3), True), ((3, 33, 33), False), ((1, 5, 4), False)])
def test_channels_that_come_last(tmp_path: Path, shape: tuple[int, int, int], is_told: bool) -> None:
    pixels = np.random.default_rng(0).poisson(50, (N, *shape)).astype(np.float32)
    assert told(tmp_path / "set.h5", pixels) == is_told * [
        "images: 33 channels of 33 x 3 pixels; if that is 33 x 33 of 3, store np.moveaxis(images, -1, "
        "1), for the format has the channels first"
    ]


def test_numbers_of_categories_are_names(tmp_path: Path) -> None:
    labels = np.arange(N) % 5.0
    labels[3:13] = 9999
    assert told(tmp_path / "set.h5", images(), labels, "categorical") == []


def test_classes_that_rounding_makes_two(tmp_path: Path) -> None:
    """As 0.3 and 0.1 + 0.2; whole numbers are never meant to be one, nor are the values of a plain number."""
    labels = np.repeat([0.3, 0.1 + 0.2, 7, 1e9, 1e9 + 1], N // 5)
    (line,) = told(tmp_path / "set.h5", images(), labels, "categorical")
    assert line.startswith(
        "factors, a: 0.29999999999999999 and 0.30000000000000004 count as two classes, though rounding may have made "
        "them of one (1 such pairs)"
    )
    assert "two levels" in "".join(told(tmp_path / "set.h5", images(), labels, "ordinal"))
    assert not [line for line in told(tmp_path / "set.h5", images(), labels) if "rounding" in line]


def test_classes_of_few_images(tmp_path: Path) -> None:
    labels = np.r_[7.0, 9, 9, np.arange(N - 3) % 4]
    assert told(tmp_path / "set.h5", images(), labels, "categorical") == [
        "factors, a: fewer than 10 samples have class 7 (1), 9 (2): so few can hardly be learned, and a test part may "
        "have none of them, so that no score tells of it; more images, or leave them out"
    ]


def test_broken_files_are_refused_before_remarks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told(tmp_path / "set.h5", images()[[0, *range(N - 1)]])
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        file["images"][3, 0, 0, 0] = np.nan
    assert main(["check", str(tmp_path / "set.h5")]) == 2
    assert "warning" not in capfd.readouterr().err


@pytest.mark.parametrize(("turn", "values", "words"), [
    ((1, 12), np.arange(1, 13), "so that 1 and 12 are the same, and both are there"),
    ((0, 12), np.arange(1, 13), ""),
    ((0, 360), np.linspace(0, 179, 60), "of which its values take no more than 50%"),
    ((0, 180), np.linspace(0, 179, 60), ""),
    ((0, 360), np.arange(0, 360, 5), ""),
])  # fmt: skip
def test_a_turn_that_is_not_that_of_the_values(turn: tuple[float, float], values: np.ndarray, words: str) -> None:
    said = list(_about_turn(Factor("angle", "", *turn, "periodic"), values.astype(float)))
    assert (words in said[0] if words else not said) and len(said) <= 1
