"""How images are drawn: the scale that a set wants, and the grey of what is missing."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import AsinhNorm, Normalize, to_rgb
from numpy.typing import NDArray

from helpers.drawn import of_colour
from hpcauxvae.data import drawing
from hpcauxvae.data.hdf5 import open_set, write

RNG = np.random.default_rng(0)
WAVE = np.sin(np.arange(60 * 81).reshape(60, 1, 9, 9) / 7)
STAMP = 900 * np.exp(-np.hypot(*np.mgrid[-4:5, -4:5])) * RNG.uniform(1, 2, (60, 1, 1, 1))


def with_hole(images: NDArray) -> NDArray:
    images = images.astype(np.float32)
    images[:, :, 2:7] = np.nan  # more than half
    return images


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (RNG.integers(0, 90, (60, 1, 9, 9), np.uint8), "linear"),
        ((STAMP / 10).astype(np.uint8), "linear"),
        (STAMP / STAMP.max(), "linear"),
        (np.where(WAVE > 0.9, 65535.0, STAMP), "linear"),
        (STAMP, "asinh"),
        (STAMP + RNG.normal(0, 20, STAMP.shape), "asinh"),
        (WAVE * 3, "diverging"),
        (WAVE * 3 + 290, "linear"),
        (with_hole(WAVE * 12 + 11), "linear"),
        (WAVE - 40, "linear"),
    ],
    ids=["bytes", "faint bytes", "to 1", "16 bits", "counts", "less sky", "anomalies", "kelvin", "celsius", "below 0"],
)  # fmt: skip
def test_the_scale_is_that_of_what_the_images_are(images: NDArray, kind: drawing.Kind, tmp_path: Path) -> None:
    images = images if images.dtype.kind == "u" else images.astype(np.float32)
    given = {"missing_pixels": "nan"} if np.isnan(images).any() else {}
    if images.dtype.kind == "f":
        images[7, 0, 0, 0] = 1e8  # a hot pixel plays no part
    write(tmp_path / "set.h5", images, None, [], {"image_unit": "counts"}, **given)
    look = drawing.look_of(open_set(tmp_path / "set.h5"))
    assert (look.unit, look.kind) == ("counts", kind)


def test_a_scale_reaches_from_end_to_end() -> None:
    for images, kind, norm, ends in (
        (WAVE * 3, "diverging", Normalize, (-3, 3)),
        (WAVE + 290, "linear", Normalize, (289, 291)),
        (WAVE + 1.5, "linear", Normalize, (0, 2.5)),
        (STAMP - 9, "asinh", AsinhNorm, ((STAMP - 9).min(), (STAMP - 9).max())),
        (np.zeros((2, 1, 9, 9)), "linear", Normalize, (0, 1)),
    ):
        found = drawing.scale_of(images, drawing.Look("", kind))  # type: ignore[arg-type]
        assert type(found.norm) is norm or norm is AsinhNorm
        assert (found.norm.vmin, found.norm.vmax) == pytest.approx(ends, abs=1e-3)
        assert found.colours == ("RdBu_r" if kind == "diverging" else "magma")


def test_the_grey_of_missing_pixels_is_no_value() -> None:
    grey = to_rgb(drawing.MISSING)
    assert len(set(grey)) == 1
    for name in (drawing.STAMPS, drawing.RESIDUALS):
        shades = mpl.colormaps[name](np.linspace(0, 1, 1000))[:, :3]
        assert np.abs(shades - grey).max(1).min() > 0.15


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_only_what_is_missing_in_a_whole_colour_is_grey(channels: int) -> None:
    images = RNG.random((4, channels, 6, 6)) + 1
    images[:, :, 1] = np.nan
    images[:, 0, :, 2] = np.nan
    scale = drawing.scale_of(images, drawing.Look("", "asinh"))
    grey = np.zeros((6, 6), bool)
    grey[1] = True
    if channels < 4:  # the first of five shares its colour with the second
        grey[:, 2] = True
    assert np.array_equal(of_colour(drawing.shade(images[0], scale), drawing.MISSING), grey)


def test_bands_of_three_are_turned_round_where_the_set_names_them(tmp_path: Path) -> None:
    images = np.zeros((4, 3, 6, 6), np.float32)
    images[:, 0, 3, 3] = 1
    for bands, lit in (("", 0), ("g,r,i", 2)):
        path = tmp_path / f"{bands}.h5"
        write(path, images, None, [], {"bands": bands} if bands else {})
        look = drawing.look_of(open_set(path))
        pixel = drawing.shade(images[0], drawing.scale_of(images, look))[3, 3]
        assert pixel[:3].tolist() == [255 * (channel == lit) for channel in range(3)]


def test_what_is_missing_in_every_image_is_hidden_in_those_of_a_model(tmp_path: Path) -> None:
    images = RNG.random((40, 2, 6, 6)).astype(np.float32)
    images[:, 0, 0] = np.nan  # the first row is below
    images[7, 1, 3] = np.nan
    write(tmp_path / "set.h5", images, None, [], {"image_origin": "lower"}, missing_pixels="nan")
    look = drawing.look_of(open_set(tmp_path / "set.h5"))
    hidden = np.isnan(look.hidden(np.ones((3, 5, 2, 6, 6))))
    assert hidden[..., 0, 5, :].all() and hidden.sum() == 3 * 5 * 6
    assert drawing.PLAIN.hidden(images) is images
