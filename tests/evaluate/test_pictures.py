"""What the pictures show: the drawn objects are read back from the figure, and the files from disk."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from helpers.drawn import check_png, coloured, of_colour, texts
from hpcauxvae.data.drawing import MAROON, MISSING, Look
from hpcauxvae.data.lettering import short
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.curves import training_curves
from hpcauxvae.types import Factor

SCORE: Any = {"value": 0.846, "low": 0.8312, "high": 0.8607, "n": 5000, "attainable": 0.91}


def history(epochs: int, sign: float = 1) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "train": {"loss": sign * 100 / e**2, "kl": 10 + e / 10},
            "validation": {"loss": sign * 110 / e**2, "kl": 11.0, "lds": 1 - 0.5 / e, "lds_attainable": 0.95},
        }
        for e in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("rows", [history(20), history(20, sign=-1), history(1)])
def test_training_curves_draw_both_splits_and_the_ceiling(
    rows: list[dict[str, Any]], figures: list[Figure], tmp_path: Path
) -> None:
    training_curves(rows, tmp_path / "x.png")
    check_png(tmp_path / "x.png")
    panels = {ax.get_title(loc="left"): ax for ax in figures[0].axes}
    assert list(panels) == ["loss", "kl", "LDS of validation"]
    for name in ("loss", "kl"):
        drawn = {line.get_label(): list(np.asarray(line.get_ydata())) for line in panels[name].lines}
        assert drawn == {split: [row[split][name] for row in rows] for split in ("train", "validation")}
    assert {float(np.asarray(line.get_ydata())[-1]) for line in panels["LDS of validation"].lines} == {
        0.95,
        rows[-1]["validation"]["lds"],
    }
    assert panels["loss"].get_yscale() == ("log" if rows == history(20) else "linear")
    assert panels["kl"].get_yscale() == "linear"
    rows[0]["validation"]["loss"] = -1.0
    training_curves(rows, tmp_path / "y.png")
    assert figures[1].axes[0].get_yscale() == "linear", "a logarithm would cut the validation"


def test_training_curves_show_the_way_of_the_weight_and_the_dependence_by_its_tolerance(
    figures: list[Figure], tmp_path: Path
) -> None:
    rows = [
        row | {"weight": 1000.0 / row["epoch"] ** 2, "dependence": 0.1 / row["epoch"], "tolerance": 0.004}
        for row in history(20)
    ]
    training_curves(rows, tmp_path / "x.png")
    check_png(tmp_path / "x.png")
    weight, dependence = (ax for ax in figures[0].axes if "epend" in ax.get_title(loc="left"))
    assert list(np.asarray(weight.lines[0].get_ydata())) == [row["weight"] for row in rows]
    assert weight.get_yscale() == dependence.get_yscale() == "log"
    assert [list(np.asarray(line.get_ydata()))[-1] for line in dependence.lines] == [0.005, 0.004]


def images(n: int, channels: int = 1, scale: float = 1000) -> NDArray:
    y, x = np.mgrid[-8:9, -8:9]
    one = scale * np.exp(-np.hypot(x, y) / 2)
    return np.stack([np.stack([one * (i + 1)] * channels) for i in range(n)]).astype(np.float32)


def test_reconstructions_stand_over_their_difference(figures: list[Figure], tmp_path: Path) -> None:
    originals = images(4)
    pictures.reconstructions(originals, originals + 5, tmp_path / "x.png", look=Look("counts"))
    check_png(tmp_path / "x.png")
    drawn = [np.asarray(ax.images[0].get_array()) for ax in figures[0].axes if ax.images]
    scale, of_difference = (ax._colorbar.norm for ax in figures[0].axes[-2:])  # type: ignore[attr-defined]
    for column in range(4):
        assert np.array_equal(drawn[column], coloured(originals[column, 0], scale, "magma"))
        assert np.array_equal(drawn[4 + column], coloured(originals[column, 0] + 5, scale, "magma"))
        assert np.array_equal(drawn[8 + column], coloured(np.full((17, 17), -5.0), of_difference, "RdBu_r"))
    pictures.reconstructions(originals, originals, tmp_path / "x.png", title="SSIM 0.5")
    assert figures[1].get_suptitle() == "SSIM 0.5" and figures[0].get_suptitle() == ""
    assert of_difference.vmin == -of_difference.vmax
    assert texts(figures[0]).count("counts") == 2


def test_missing_pixels_are_grey_and_kelvin_fill_the_scale(figures: list[Figure], tmp_path: Path) -> None:
    kelvin = images(4, scale=5) + 270
    kelvin[:, :, :8, :8] = np.nan
    for channels in (1, 3):
        stack = np.repeat(kelvin, channels, 1)
        pictures.reconstructions(stack, np.nan_to_num(stack, nan=-1e3), tmp_path / "x.png")
    for figure in figures:
        drawn = [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]
        for image, missing in zip(drawn[::4], (True, False, True), strict=True):
            assert np.array_equal(of_colour(image, MISSING), np.isnan(kelvin[0, 0]) & missing)
    scale, of_difference = (ax._colorbar.norm for ax in figures[0].axes[-2:])  # type: ignore[attr-defined]
    assert (scale.vmin, scale.vmax) == (np.nanmin(kelvin), np.nanmax(kelvin)) and type(scale) is Normalize
    assert np.isfinite([of_difference.vmin, of_difference.vmax]).all()


def test_what_no_model_knows_is_grey_in_what_it_draws(figures: list[Figure], tmp_path: Path) -> None:
    land = np.zeros((1, 17, 17), bool)
    land[:, :3] = True
    look, originals = Look(unknown=land), np.where(land, np.nan, images(2))
    pictures.reconstructions(originals, images(2), tmp_path / "x.png", look=look)
    pictures.traversal(images(2)[None], ["z"], [["0", "1"]], tmp_path / "y.png", look=look)
    for ax in [*figures[0].axes[:6], figures[1].axes[0]]:
        drawn = of_colour(np.asarray(ax.images[0].get_array()), MISSING)
        assert drawn[:3, :17].all() and not drawn[3:].any()


@pytest.mark.parametrize("stack", [images(2, channels=3, scale=0.3), np.zeros((2, 1, 9, 9)), -images(2)])
def test_colour_and_blank_and_negative_images_are_drawn(stack: NDArray, tmp_path: Path) -> None:
    pictures.reconstructions(stack, stack * 0.5, tmp_path / "x.png")
    check_png(tmp_path / "x.png")


def test_three_channels_are_drawn_as_colours_of_the_largest_value(figures: list[Figure], tmp_path: Path) -> None:
    stack = images(2, channels=3, scale=0.5) * np.array([1, 0.5, 0]).reshape(3, 1, 1)
    pictures.reconstructions(stack, stack, tmp_path / "x.png")
    centre = np.asarray(figures[0].axes[1].images[0].get_array())[8, 8]
    assert centre.tolist() == [255, 128, 0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_row_are_lines_on_one_scale(channels: int, figures: list[Figure], tmp_path: Path) -> None:
    """With numbers in place of a colour bar; the strip of a traversal is a line that breaks between images."""
    rows = np.random.default_rng(0).poisson(20, (4, channels, 1, 50)).astype(np.float32)
    pictures.reconstructions(rows, rows + 3, tmp_path / "x.png", look=Look("counts"))
    pictures.traversal(rows[None], ["$z_1$"], [["0", "1", "2", "3"]], tmp_path / "y.png", look=Look("counts"))
    for name, figure in zip("xy", figures, strict=True):
        check_png(tmp_path / f"{name}.png")
        assert not [ax for ax in figure.axes if ax.images]
        assert any("[counts]" in text for text in texts(figure))
    axes = np.array(figures[0].axes).reshape(3, 4)
    for column in range(4):
        for row, wanted in enumerate((rows[column, :, 0], rows[column, :, 0] + 3, np.full((1, 50), -3.0))):
            drawn = np.stack([np.asarray(line.get_ydata()) for line in axes[row, column].lines])
            np.testing.assert_allclose(drawn, wanted, atol=1e-5)
    assert {ax.get_ylim() for ax in axes[:2].flat} == {(0, float(rows.max()))}
    assert len(axes[0, 0].get_yticks()) > 1 and len({line.get_color() for line in axes[0, 0].lines}) == channels
    (strip,) = figures[1].axes
    assert not strip.patches
    assert len(strip.texts) == 4 and len(strip.lines) == channels
    line = np.asarray(strip.lines[0].get_ydata())
    assert np.isnan(line).sum() == 3 * 5 and len(line) == 4 * 50 + 3 * 5
    np.testing.assert_array_equal(line[55:105], rows[1, 0, 0])


def test_what_is_missing_in_a_spectrum_is_grey_and_the_gaps_of_a_strip_are_not(
    figures: list[Figure], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).poisson(20, (3, 2, 1, 50)).astype(np.float32)
    rows[1, 1, 0, 10:20] = rows[1, 0, 0, 40:] = np.nan
    pictures.traversal(rows[None], ["$z_1$"], [["0", "1", "2"]], tmp_path / "x.png")
    spans = figures[0].axes[0].patches
    left = 50 + 5  # of the second
    assert [(span.get_x(), span.get_x() + span.get_width()) for span in spans] == [  # type: ignore[attr-defined]
        (left + 9.5, left + 19.5), (left + 39.5, left + 49.5)
    ]  # fmt: skip
    assert {span.get_facecolor() for span in spans} == {to_rgba(MISSING)}


@pytest.mark.parametrize(
    ("channels", "colours"), [(2, [[1], [0, 1], [0]]), (4, [[3], [2], [0, 1]]), (5, [[4], [2, 3], [0, 1]])]
)
def test_bands_are_drawn_as_colours_from_blue_to_red(
    channels: int, colours: list[list[int]], figures: list[Figure], tmp_path: Path
) -> None:
    """Each colour on its own scale; the difference, of all, has the only colour bar."""
    rng = np.random.default_rng(0)
    stack = rng.random((2, channels, 9, 9)) * np.arange(1, channels + 1).reshape(-1, 1, 1) + 300
    pictures.reconstructions(stack, stack * 0.5, tmp_path / "x.png", look=Look("counts", "asinh"))
    assert texts(figures[0]).count("counts") == 1
    drawn = np.asarray(figures[0].axes[0].images[0].get_array())
    for channel, parts in enumerate(colours):
        of_all = stack[:, parts].mean(1)
        wanted = np.arcsinh(of_all[0] / (0.005 * of_all.max())) / np.arcsinh(1 / 0.005)
        assert drawn[..., channel] / 255 == pytest.approx(wanted, abs=0.003)


def scatter_input(n: int) -> tuple[NDArray, NDArray, NDArray, list[Factor]]:
    rng = np.random.default_rng(0)
    factors = [Factor("flux", "counts", 1e4, 1e5), Factor("radius", "arcsec", 0.1, 1), Factor("g1", "", -0.5, 0.5)]
    values = np.stack([factor.unscale(rng.random(n)) for factor in factors], 1)
    mean = np.c_[values[:, 2], values[:, 1], rng.standard_normal((n, 2))]
    return mean + rng.standard_normal(mean.shape), mean, values, factors


def test_scatter_marks_the_latent_of_each_auxiliary_factor(figures: list[Figure], tmp_path: Path) -> None:
    z, mean, values, factors = scatter_input(5000)
    values[7, 0] = np.nan
    pictures.factor_latent_scatter(z, mean, values, factors, ["g1", "radius"], SCORE, tmp_path / "x.png")
    check_png(tmp_path / "x.png")
    axes = np.array(figures[0].axes).reshape(3, 4)
    marked = [place for place, ax in np.ndenumerate(axes) if ax.spines["top"].get_edgecolor() == to_rgba(MAROON)]
    assert marked == [(1, 1), (2, 0)]
    assert [ax.get_xlabel() for ax in axes[-1]] == ["$z_{1}$\ng1", "$z_{2}$\nradius", "$z_{3}$", "$z_{4}$"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["flux [counts]", "radius [arcsec]", "g1"]
    for points, codes in zip(axes[1, 1].collections, (z, mean), strict=True):
        offsets = np.asarray(points.get_offsets())
        assert len(offsets) <= 2000
        assert np.array_equal(offsets[3], [codes[9, 1], values[9, 1]])
    assert figures[0].get_suptitle() == "LDS 0.846 [0.831, 0.861]   attainable 0.910   n = 5,000"


def test_scatter_of_a_factor_with_a_logarithmic_range(figures: list[Figure], tmp_path: Path) -> None:
    z, mean, values, factors = scatter_input(50)
    factors[0] = factors[0]._replace(low=0.01, high=1000.0, transform="log10")
    values[:, 0] = factors[0].unscale(np.linspace(0, 1, 50))
    pictures.factor_latent_scatter(z, mean, values, factors, [], None, tmp_path / "x.png")
    first = figures[-1].axes[0]
    assert first.get_yscale() == "log" and len(first.get_yticks()) >= 3
    assert {ax.get_yscale() for ax in figures[-1].axes[z.shape[1] :]} == {"linear"}


def test_scatter_without_auxiliary_factors(figures: list[Figure], tmp_path: Path) -> None:
    pictures.factor_latent_scatter(*scatter_input(50), [], None, tmp_path / "x.png")
    check_png(tmp_path / "x.png")
    assert figures[0].get_suptitle() == ""


def test_traversal_labels_rows_and_values_and_shares_one_scale(figures: list[Figure], tmp_path: Path) -> None:
    stack = np.stack([images(3), images(3, scale=50)])
    labels = [["0.1", "0.5", "1"], ["-2", "0", "2"]]
    pictures.traversal(stack, ["radius [arcsec]", "$z_4$"], labels, tmp_path / "x.png", look=Look("counts"))
    check_png(tmp_path / "x.png")
    axes = figures[0].axes[:2]
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["0.1", "0.5", "1"], ["−2", "0", "2"]]
    assert [ax.get_ylabel() for ax in axes] == ["radius [arcsec]", "$z_4$"]
    norm = figures[0].axes[-1]._colorbar.norm  # type: ignore[attr-defined]
    assert (norm.vmin, norm.vmax) == (0, float(stack.max()))
    side = stack.shape[-1]
    for ax, images_VCHW in zip(axes, stack, strict=True):
        strip, centres = np.asarray(ax.images[0].get_array()), [text.get_position()[0] for text in ax.texts]
        for image_CHW, centre in zip(images_VCHW, centres, strict=True):
            left = int(centre - (side - 1) / 2)
            np.testing.assert_array_equal(strip[:, left : left + side], coloured(image_CHW[0], norm, "magma"))
        assert not strip[:, side].any(), "a gap is no missing pixel"


def test_what_hardly_changes_is_drawn_as_a_difference_too(figures: list[Figure], tmp_path: Path) -> None:
    """As temperatures about 280 K; what can be seen as it is has no second row."""
    kelvin = 280 + 20 * images(1)[0] / images(1).max() + np.arange(3).reshape(1, 3, 1, 1, 1)
    for number, stack in enumerate((kelvin, kelvin * np.array([1, 2, 3]).reshape(1, 3, 1, 1, 1))):
        path = tmp_path / f"{number}.png"
        pictures.traversal(stack, ["z"], [["a", "b", "c"]], path, look=Look("K"), differences=True)
        check_png(path)
    assert "less the\nmiddle one" in texts(figures[0]) and "less the\nmiddle one" not in texts(figures[1])
    assert "difference [K]" in texts(figures[0])
    strip, side = np.asarray(figures[0].axes[1].images[0].get_array()), kelvin.shape[-1]
    norm = figures[0].axes[-1]._colorbar.norm  # type: ignore[attr-defined]
    assert (norm.vmin, norm.vmax) == (-1, 1)
    np.testing.assert_array_equal(strip[:, :side], coloured(np.full((side, side), -1.0), norm, "RdBu_r"))


@pytest.mark.parametrize(
    ("low", "high", "value", "words"),
    [(0.1, 1.0, 0.21251, "0.213"), (2450000.5, 2450010.5, 2450001.75, "2450001.8"), (1e4, 1e5, 2e4, "20000"),
     (1e9, 9e11, 1.13375e11, "1.13e+11"), (-1e-5, 1e-5, -1e-12, "0"), (5000.0, 5000.1, 5000.05, "5000.05")],
)  # fmt: skip
def test_a_value_is_written_to_a_hundredth_of_its_range(low: float, high: float, value: float, words: str) -> None:
    assert short(Factor("a", "", low, high), value) == words


def test_long_values_and_names_do_not_run_into_their_neighbours(figures: list[Figure], tmp_path: Path) -> None:
    labels = [["", "", ""], ["2450003.3 / 2450006.4"] * 3]
    pictures.traversal(np.stack([images(3)] * 2), ["A", "B"], labels, tmp_path / "x.png", heads=["", "a long name"])
    figures[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in figures[0].axes[1].texts]
    assert len(boxes) == 4
    assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))
    z, mean, u, factors = scatter_input(50)
    factors = [factor._replace(name=f"{factor.name} of a galaxy", unit="solar units") for factor in factors]
    pictures.factor_latent_scatter(z, mean, u, factors, [], None, tmp_path / "x.png")
    figures[1].draw_without_rendering()
    names = [ax.yaxis.label.get_window_extent() for ax in figures[1].axes[::4]]
    assert all(one.y0 >= other.y1 for one, other in pairwise(names))


def test_titles_tell_sign_and_scale_of_a_guided_latent(figures: list[Figure], tmp_path: Path) -> None:
    """On the panel where a factor meets its latent, and on no other."""
    rng = np.random.default_rng(0)
    codes, values = rng.random((50, 3)), rng.random((50, 2))
    factors = (Factor("radius", "", 0, 1), Factor("angle", "", 0, 1, "periodic"))
    score = {"low": 0.0, "high": 1.0, "n": 50}
    reading = {"radius": {"r": score | {"value": -0.97}, "slope": score | {"value": -0.07}}}
    reading["angle"] = {"r": score | {"value": 0.5}}
    names = ["radius", "angle"]
    pictures.factor_latent_scatter(codes, codes, values, factors, names, None, tmp_path / "x.png", reading=reading)
    titles = [ax.get_title(loc="center") for ax in figures[0].axes]
    assert titles == ["r −0.97, slope −0.07", "", "", "", "r 0.50", ""]


def test_boxes_are_quartiles_and_tell_the_mean(figures: list[Figure], tmp_path: Path) -> None:
    values = np.append(np.linspace(0.8, 1, 101) ** 2, np.nan)
    groups = {"test": values, "noiseless": values / 2 + 0.5}
    pictures.ssim_boxplot(groups, tmp_path / "x.png", ceiling="noiseless")
    check_png(tmp_path / "x.png")
    ax = figures[0].axes[0]
    box = np.asarray(ax.patches[0].get_path().vertices)[:, 0]
    assert (box.min(), box.max()) == pytest.approx((0.85**2, 0.95**2))
    whiskers = [float(x) for line in ax.lines[:2] for x in np.asarray(line.get_xdata())]
    assert (min(whiskers), max(whiskers)) == pytest.approx((0.81**2, 0.99**2), abs=0.003)
    assert f"{np.nanmean(values):.4f}" in texts(figures[0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["test\nn = 101", "noiseless\nn = 101"]
    assert ax.patches[0].get_edgecolor() != ax.patches[1].get_edgecolor()


def test_correlation_map_writes_signed_values(figures: list[Figure], tmp_path: Path) -> None:
    table = np.array([[0.98, -0.001, 0.03], [-0.004, -0.71, 0]])
    pictures.correlation_map(table, ["radius", "g1"], ["radius"], tmp_path / "x.png")
    check_png(tmp_path / "x.png")
    ax = figures[0].axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.98", "0.00", "0.03", "0.00", "−0.71", "0.00"]
    assert np.array_equal(np.asarray(ax.images[0].get_array()), np.abs(table))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["$z_{1}$\nradius", "$z_{2}$", "$z_{3}$"]


@pytest.mark.parametrize(("top", "ticks"), [(25_000, [0, 1000, 10_000]), (1.0, [0, 0.1, 1])])
def test_colour_bars_have_readable_ticks(top: float, ticks: list[float], figures: list[Figure], tmp_path: Path) -> None:
    stack = np.linspace(0, top, 81).reshape(1, 1, 1, 9, 9)
    pictures.traversal(stack, ["z"], [["0"]], tmp_path / "x.png", look=Look(kind="asinh"))
    assert list(figures[0].axes[-1].get_yticks()) == pytest.approx(ticks)


@pytest.mark.parametrize(("top", "tick"), [(15.0, 10.0), (70.0, 50.0), (1000.0, 1000.0)])
def test_residuals_have_a_number_beside_zero(top: float, tick: float, figures: list[Figure], tmp_path: Path) -> None:
    images = np.zeros((2, 1, 9, 9))
    images[0, 0, 4, 4] = top
    pictures.reconstructions(images, np.zeros_like(images), tmp_path / "x.png", names=("truth", "generated"))
    assert list(figures[0].axes[-1].get_yticks()) == pytest.approx([-tick, 0, tick])
    assert {"truth", "generated", "truth −\ngenerated"} <= set(texts(figures[0]))


def test_a_name_that_is_no_mathematics_stands_as_it_is(figures: list[Figure], tmp_path: Path) -> None:
    names = [r"$\alpha$", r"$\foo$", "US$ or A_$"]
    pictures.correlation_map(np.eye(3), names, ["a"], tmp_path / "map.png")
    drawn = [text for text in figures[0].findobj(Text) if text.get_visible()]
    read_as_mathematics = {text.get_text(): text.get_parse_math() for text in drawn}
    assert [read_as_mathematics[name] for name in names] == [True, False, False]
