"""`data check FILE --preview OUT.png`: which images are drawn, and what stands beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers.drawn import check_png, coloured, of_colour, texts
from hpcauxvae.data.command import main
from hpcauxvae.data.drawing import MISSING
from hpcauxvae.data.hdf5 import write
from hpcauxvae.types import Factor, InputError

N = 100
FACTORS = [Factor("mass", "kg", 1, 1e4, "continuous", "log10"), Factor("spin", "", -1, 1)]


def values() -> np.ndarray:
    rng = np.random.default_rng(1)
    found = np.stack([10 ** rng.uniform(0, 4, N), rng.uniform(-1, 1, N)], 1)
    found[0] = 1234.5, -0.256
    found[99, 0] = np.nan
    return found


def check(path: Path, picture: Path) -> None:
    assert main(["check", str(path), "--preview", str(picture)]) == 0
    check_png(picture)


def test_images_from_first_to_last_with_their_labels_and_holes(
    figures: list[Figure], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).normal(290, 3, (N, 1, 7, 9)).astype(np.float32)
    images[:, :, 2:4, 3:5] = np.nan
    more: dict[str, Any] = {"missing_pixels": "nan", "id": [f"J{n:03d}" for n in range(N)]}
    write(tmp_path / "a.h5", images, values(), FACTORS, {"image_unit": "K", "image_origin": "lower"}, **more)
    check(tmp_path / "a.h5", tmp_path / "a.png")
    assert f"picture: {tmp_path / 'a.png'}\n" in capfd.readouterr().out
    drawn = [ax for ax in figures[0].axes if ax.images]
    rows = [int(ax.get_title(loc="left").split("\n")[0].removeprefix("J")) for ax in drawn]
    assert len(rows) == 24 and rows[0] == 0 and rows[-1] == 99 and set(np.diff(rows)) == {4, 5}
    assert drawn[0].get_title(loc="left") == "J000\nmass 1.23e+03 kg\nspin −0.26"
    assert drawn[-1].get_title(loc="left").startswith("J099\nmass not measured\nspin ")
    norm = figures[0].axes[-1]._colorbar.norm  # type: ignore[attr-defined]
    seen = images[rows]
    assert (norm.vmin, norm.vmax) == (np.nanmin(seen), np.nanmax(seen))
    for ax, row in zip(drawn, rows, strict=True):
        picture, image = np.asarray(ax.images[0].get_array()), images[row, 0, ::-1]  # the first row is below
        missing = np.isnan(image)
        assert np.array_equal(of_colour(picture, MISSING), missing)
        assert np.array_equal(picture[~missing], coloured(image, norm, "magma")[~missing])
    assert "K" in texts(figures[0])
    assert figures[0].get_suptitle() == (
        "a.h5: 24 of 100 images, evenly spread, 1 x 7 x 9 (C x H x W); linear scale; grey: missing"
    )


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_bands_and_a_set_without_factors(channels: int, figures: list[Figure], tmp_path: Path) -> None:
    images = np.random.default_rng(0).poisson(50, (9, channels, 8, 8)).astype(np.float32)
    write(tmp_path / "a.h5", images, None, [], {})
    check(tmp_path / "a.h5", tmp_path / "a.png")
    drawn = [ax for ax in figures[0].axes if ax.images]
    assert [ax.get_title(loc="left") for ax in drawn] == [f"row {n}" for n in range(9)] and len(figures[0].axes) == 12
    told = {2: "red: channel 2, blue: channel 1, green: their mean", 3: "channels as red, green, blue",
            4: "red: 4; green: 3; blue: 1, 2", 5: "red: 5; green: 3, 4; blue: 1, 2"}  # fmt: skip
    assert " ".join(figures[0].get_suptitle().split()).endswith(told[channels])


def test_spectra_are_lines_with_their_gaps(figures: list[Figure], tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(5, 1, (N, 1, 1, 50)).astype(np.float32)
    images[:, 0, 0, 10:20] = np.nan
    write(tmp_path / "a.h5", images, values(), FACTORS, {"image_unit": "Jy"}, missing_pixels="nan")
    check(tmp_path / "a.h5", tmp_path / "a.png")
    assert not any(ax.images for ax in figures[0].axes) and any("[Jy]" in text for text in texts(figures[0]))
    for ax in figures[0].axes:
        assert len(ax.patches) == 1 and ax.patches[0].get_x() == 9.5  # type: ignore[attr-defined]
        np.testing.assert_array_equal(
            np.asarray(ax.lines[0].get_ydata()), images[int(ax.get_title(loc="left").split()[1]), 0, 0]
        )


def test_many_labels_are_counted_and_a_hot_pixel_takes_no_scale(figures: list[Figure], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.poisson(50, (N, 1, 8, 8)).astype(np.float32)
    images[0, 0, 3, 3] = 1e8
    write(tmp_path / "a.h5", images, rng.random((N, 11)), [Factor(f"a{n}", "", 0, 1) for n in range(11)], {})
    check(tmp_path / "a.h5", tmp_path / "a.png")
    lines = figures[0].axes[0].get_title(loc="left").split("\n")
    assert len(lines) == 10 and lines[-1] == "and 3 more"
    assert figures[0].axes[-1]._colorbar.norm.vmax < 100  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.jpg", "a.jpg: allowed: a name that ends in .png"),
        ("there.png", "there.png: exists already; remove it or name another file"),
        ("nowhere/a.png", "nowhere/a.png: folder {folder}/nowhere does not exist"),
    ],
)
def test_a_picture_that_cannot_be_made_is_refused(name: str, said: str, tmp_path: Path) -> None:
    """Before the file is read."""
    (tmp_path / "there.png").write_text("mine")
    with pytest.raises(InputError) as error:
        main(["check", str(tmp_path / "nofile.h5"), "--preview", str(tmp_path / name)])
    assert str(error.value).endswith(f"{tmp_path}/{said.format(folder=tmp_path)}")
    assert (tmp_path / "there.png").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
