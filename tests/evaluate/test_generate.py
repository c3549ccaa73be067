"""Controlled generation by hand, and sensitivity against closed forms."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.guides import Guide
from hpcauxvae.data.hdf5 import open_set, split, validate, write
from hpcauxvae.evaluate import command, generate, sensitivity
from hpcauxvae.evaluate.command import GenerateConfig, SensitivityConfig
from hpcauxvae.train.run import load_run
from hpcauxvae.types import Factor, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with auxiliary radius and g1."""
    folder = tmp_path_factory.mktemp("generate")
    data = blobs(folder / "blobs.h5")
    with h5py.File(data, "r+") as file:
        file.attrs["image_unit"], file.attrs["image_origin"] = "counts", "lower"
    alone(config(data, folder / "run", epochs=1))
    return folder


def decoded(folder: Path, u: list[float], like: int | None = None) -> NDArray:
    """The image of these auxiliary factors in physical units, step by step."""
    run = load_run(folder / "run")
    with torch.no_grad():
        if like is None:
            z = torch.zeros(1, run.config.latents)
        else:
            z = run.model.encode(torch.from_numpy(np.array(open_set(folder / "blobs.h5").images[like][None]))).mean
        for column, value in enumerate(u):
            z[0, column] = (value - FACTORS[column].low) / (FACTORS[column].high - FACTORS[column].low)
        return run.model.decode(z)[0].numpy()


def test_a_grid_of_two_factors_into_the_data_format(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "grid.h5"
    arguments = [str(folder / "run"), "--out", str(out), "--sweep", "g1=-.3:.3:4", "--sweep", "radius=0.2:1:3"]
    assert command.generate([*arguments, "--like", f"{folder / 'blobs.h5'}:7"]) == 0
    assert validate(out) == []
    data = open_set(out)
    assert [f.name for f in data.factors] == ["radius", "g1"] and len(data) == 12
    assert data.provenance["image_unit"] == "counts" and data.provenance["image_origin"] == "lower"
    assert data.values[:4].tolist() == pytest.approx(np.array([[0.2, -0.3], [0.6, -0.3], [1.0, -0.3], [0.2, -0.1]]))
    for row in (0, 4, 11):
        np.testing.assert_allclose(
            data.images[row], decoded(folder, data.values[row].tolist(), 7), rtol=1e-4, atol=1e-4
        )


def test_what_a_launcher_left_in_the_environment_does_not_matter(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("RANK", raising=False)
    assert command.generate([str(folder / "run"), "--out", str(tmp_path / "x.h5"), "--sweep", "g1=-.3:.3:2"]) == 0
    assert command.sensitivity([str(folder / "run"), "--samples", "2"]) == 0


def median(folder: Path, column: int) -> float:
    """Of a factor in the training split."""
    data = open_set(folder / "blobs.h5")
    return float(np.median(data.values[split(len(data), 0)[0], column]))


def test_a_factor_that_is_not_named_stands_at_its_median_and_other_latents_at_zero(
    folder: Path, tmp_path: Path
) -> None:
    from astropy.io import fits

    radius = median(folder, 0)

    out = tmp_path / "sweep.fits"
    generate.generate(GenerateConfig(run=folder / "run", out=out, sweep=("g1=0:0.4:2",)))
    with fits.open(out) as file:
        assert file["FACTORS"].data["radius"].tolist() == pytest.approx([radius, radius])
        assert file["FACTORS"].columns["radius"].unit == "arcsec"
        assert file[0].header["BUNIT"] == "counts"
        np.testing.assert_allclose(file[0].data[1], decoded(folder, [radius, 0.4]), rtol=1e-4, atol=1e-4)


def test_an_image_keeps_the_factors_that_nobody_named(folder: Path, tmp_path: Path) -> None:
    """Its labels; where a label is missing, or in another unit, what its code tells."""
    data, run = open_set(folder / "blobs.h5"), load_run(folder / "run")
    values = data.values.copy()
    values[8, 1] = np.nan
    other = (FACTORS[0], FACTORS[1]._replace(unit="%"), FACTORS[2])
    write(tmp_path / "missing.h5", data.images, values, FACTORS, {})
    write(tmp_path / "unit.h5", data.images, data.values, other, {})
    of_code = float(FACTORS[1].unscale(run.encode(data.images[8][None], values[:1, :2])[0][0, 1]))
    for number, (like, g1) in enumerate(
        [("missing.h5:7", values[7, 1]), ("missing.h5:8", of_code), ("unit.h5:8", of_code)]
    ):
        out = tmp_path / f"{number}.h5"
        generate.generate(
            GenerateConfig(run=folder / "run", out=out, like=f"{tmp_path}/{like}", sweep=("radius=.2:.4:2",))
        )
        made = open_set(out)
        assert made.provenance["g1"] == pytest.approx(g1)
        np.testing.assert_allclose(made.images[1], decoded(folder, [0.4, g1], int(like[-1])), rtol=1e-4, atol=1e-4)


def turning(folder: Path) -> generate.Generator:
    """A generator of heavy-tailed size, and cosine and sine of an angle, whose decoder shows its codes."""
    rng = np.random.default_rng(0)
    turn, size = rng.uniform(0, 2 * np.pi, 200), rng.lognormal(size=200)
    factors = (Factor("c", "", -1, 1), Factor("size", "", 0, 100), Factor("s", "", -1, 1))
    values = np.stack([np.cos(turn), size, np.sin(turn)], 1)
    write(folder / "turning.h5", rng.random((200, 1, 4, 4)), values, factors, {})
    run = SimpleNamespace(
        folder=folder,
        guides=tuple(Guide(factors[j], (factors[j],)) for j in (2, 0, 1)),
        factors=[factors[2], factors[0], factors[1]],
        parts=lambda data: split(len(data), 0),
        model=SimpleNamespace(GUIDED=True),
        state={"factors": [factor.record() for factor in factors]},
        config=SimpleNamespace(aux_names=("s", "c", "size"), split_seed=0, latents=4),
        encode=lambda images, u_ND: (np.zeros((len(images), 4)), np.zeros((len(images), 4))),
    )
    return generate.Generator(run, open_set(folder / "turning.h5"))  # type: ignore[arg-type]


def test_of_an_angle_the_other_side_goes_with_the_one_that_is_named(tmp_path: Path, capsys) -> None:
    generator = turning(tmp_path)
    typical_D, residual = generator.typical()
    assert typical_D[2] < 2 and residual.tolist() == [0]  # the middle of its range is 50
    assert np.square(typical_D[:2]).sum() == pytest.approx(1)
    u_ND, swept = generator.grid((), ("c=-1:1:5",), np.array([-0.6, 0.8, 3.0]))
    assert swept == [1] and u_ND[:, 2].tolist() == [3] * 5
    np.testing.assert_allclose(u_ND[:, 0], [0, -np.sqrt(0.75), -1, -np.sqrt(0.75), 0], atol=1e-9)
    assert capsys.readouterr().err == ""
    u_ND, _ = generator.grid(("s=0",), ("c=-1:1:5",), typical_D)
    assert u_ND[:, 1].tolist() == [-1, -0.5, 0, 0.5, 1] and u_ND[:, 0].tolist() == [0] * 5
    assert "warning: s and c are cosine and sine of an angle; those of 3 of 5 images" in capsys.readouterr().err
    generator.factors[2] = Factor("v=c", "", 0, 1)
    u_ND, _ = generator.grid(("v=c=0.5",), (), typical_D)
    assert u_ND[0, 2] == 0.5


def test_a_picture_has_a_row_for_each_value_of_the_first_sweep(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    sizes = []
    for number, sweep in enumerate([("g1=0:0.4:5",), ("radius=.2:.9:3", "g1=0:0.4:5"), ()]):
        out = tmp_path / f"{number}.png"
        generate.generate(
            GenerateConfig(run=folder / "run", out=out, set=("radius=0.5",) if number == 0 else (), sweep=sweep)
        )
        sizes.append(Image.open(out).size)
    assert sizes[1][1] > 2 * sizes[0][1] and sizes[1][0] >= sizes[0][0] > sizes[2][0]


@pytest.mark.parametrize(
    "sweep", [("radius=.2:.8:4", "g1=-.4:.4:3"), ("g1=-.4:.4:3", "radius=.2:.8:4"), ("g1=-.4:.4:3",), ()]
)
def test_each_picture_stands_beside_the_factors_that_it_was_drawn_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: tuple[str, ...]
) -> None:
    drawn: dict[str, Any] = {}

    def keep(images: NDArray, names: list[str], labels: list[list[str]], *_: Any, **__: Any) -> None:
        drawn.update(images=images, names=names, labels=labels)

    monkeypatch.setattr(generate.pictures, "traversal", keep)
    generate.generate(GenerateConfig(run=folder / "run", out=tmp_path / "x.png", sweep=sweep))
    for row, name, labels in zip(drawn["images"], drawn["names"], drawn["labels"], strict=True):
        for image, label in zip(row, labels, strict=True):
            said = dict(text.split()[:2] for text in [*name.split("\n"), label] if text)
            factors, swept = [], {text.split("=")[0] for text in sweep}
            for column, factor in enumerate(("radius", "g1")):
                held = median(folder, column)
                if factor not in swept and len(sweep) < 2:
                    assert float(said[factor]) == pytest.approx(held, rel=0.01), "with three digits"
                factors.append(float(said[factor]) if factor in swept else held)
            np.testing.assert_allclose(image[:, ::-1], decoded(folder, factors), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"set": ("flux=3",)}, "set flux=3; allowed: NAME=…, where NAME is one of radius, g1"),
        ({"set": ("radius=5",)}, "radius=5: 5; allowed: numbers from 0.1 to 1 arcsec"),
        (
            {"set": ("radius=5,g1=0.1,g1=9",)},
            "radius=5: 5; allowed: .* arcsec, .*; g1=9: 9; allowed: numbers from -0.5",
        ),
        ({"set": ("radius=0.5,flux=3",)}, "set flux=3; allowed: NAME=…, where NAME is one of radius, g1"),
        ({"set": ("radius=wide",)}, "radius=wide: wide; allowed: numbers"),
        ({"sweep": ("g1=0:1",)}, "sweep g1=0:1; allowed: NAME=FIRST:LAST:COUNT"),
        ({"sweep": ("g1=0:1:³",)}, "sweep g1=0:1:³; allowed: NAME=FIRST:LAST:COUNT"),
        ({"sweep": ("g1=0.1:0.1:3",)}, "sweep g1=0.1:0.1:3; allowed: a FIRST other than LAST"),
        ({"sweep": ("g1=0:0.2:3",), "set": ("g1=0",)}, "name a factor twice"),
        ({"sweep": ("g1=0:0.2:10000000000000",)}, "sweep g1=0:0.2:10000000000000: 10000000000000 images"),
        ({"sweep": ("g1=0:0.2:2000", "radius=.2:.3:1000")}, "2000000 images; allowed: at most 1000000"),
        ({"sweep": ("g1=0:0.2:500",)}, "500 images in one picture; allowed: at most 400"),
        ({"out": Path("x.gif")}, r"out = x.gif; allowed: a name that ends in .h5, .fits, .png"),
        ({"out": Path("one.h5")}, "one image has no factor that varies"),
        ({"like": "blobs.h5"}, "like = blobs.h5; allowed: FILE.h5:NUMBER"),
        ({"like": "blobs.h5:²"}, "like = blobs.h5:²; allowed: FILE.h5:NUMBER"),
    ],
)
def test_bad_requests_are_named(folder: Path, tmp_path: Path, change: dict, words: str) -> None:
    change = {k: tmp_path / v if k == "out" and v.suffix == ".h5" else v for k, v in change.items()}
    with pytest.raises(InputError, match=words):
        generate.generate(GenerateConfig(**{"run": folder / "run", "out": tmp_path / "x.png"} | change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.h5", "x.fits", "x.png"])
def test_a_file_that_is_there_is_refused_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(generate, "load_run", None)
    (tmp_path / name).write_text("old")
    with pytest.raises(InputError, match=f"{name}: exists already"):
        generate.generate(GenerateConfig(run=folder / "run", out=tmp_path / name, sweep=("g1=0:0.4:2",)))
    with pytest.raises(InputError, match=r"folder .*none does not exist"):
        generate.generate(GenerateConfig(run=folder / "run", out=tmp_path / "none" / name))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


@pytest.mark.parametrize(
    ("name", "sweep", "words"),
    [("x.png", ("g1=0:0.2:401",), "401 images in one picture"), ("x.h5", (), "one image has no factor that varies")],
)
def test_what_a_kind_of_file_cannot_take_is_refused_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sweep: tuple[str, ...], words: str
) -> None:
    monkeypatch.setattr(generate.Generator, "images", None)
    with pytest.raises(InputError, match=words):
        generate.generate(GenerateConfig(run=folder / "run", out=tmp_path / name, sweep=sweep))


def test_letters_beyond_ascii_are_escaped_in_the_headers_of_fits(tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.units import Unit

    data = blobs(tmp_path / "bläschen.h5")
    with h5py.File(data, "r+") as file:
        attributes, long = file["factors"].attrs, "ö" * 18
        attributes["name"] = np.array(["größe", "g1", long], h5py.string_dtype())
        attributes["unit"] = np.array(["µm", "Grad'°", "count"], h5py.string_dtype())
        file.attrs["image_unit"] = "µJy"
    run, like = tmp_path / "läufe" / "große\\α", f"{data}:3"
    run.parent.mkdir()
    alone(config(data, run, epochs=1, aux="größe,g1"))
    out = tmp_path / "größe.fits"
    generate.generate(GenerateConfig(run=run, out=out, like=like, sweep=("größe=.2:.3:2",)))
    with fits.open(out) as file:
        header, (size, g1) = file[0].header, file["FACTORS"].columns
        assert header["model"] == rf"{tmp_path}/l\xe4ufe/gro\xdfe\\u03b1"
        assert header["like"] == rf"{tmp_path}/bl\xe4schen.h5:3"
        assert Unit(header["BUNIT"]) == Unit("uJy") and Unit(size.unit) == Unit("um")
        assert (size.name, g1.name, g1.unit) == (r"gr\xf6\xdfe", "g1", r"Grad'\xb0")
        assert file["FACTORS"].data[size.name].tolist() == pytest.approx([0.2, 0.3])
    alone(config(data, tmp_path / "run", epochs=1, aux=f"g1,{long}"))
    with pytest.raises(InputError, match=r"y\.fits: .*: 72 letters; allowed in FITS: at most 68, or \.h5"):
        generate.generate(GenerateConfig(run=tmp_path / "run", out=tmp_path / "y.fits"))


def test_a_sample_that_does_not_exist_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="160 images"):
        generate.generate(GenerateConfig(run=folder / "run", out=tmp_path / "x.png", like=f"{folder / 'blobs.h5'}:160"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["x.h5", "x.fits", "x.png"])
def test_an_image_with_pixels_that_are_not_finite_is_refused(
    folder: Path, tmp_path: Path, name: str, value: float
) -> None:
    with h5py.File(blobs(tmp_path / "bad.h5"), "r+") as file:
        file["images"][5, 0, 1, 2] = value
    asked = [str(folder / "run"), "--out", str(tmp_path / name), "--sweep", "g1=0:.4:2", "--like"]
    with pytest.raises(
        InputError, match=rf"bad\.h5: images: {value} in sample 5, channel 0, pixel \(1, 2\) is not finite"
    ):
        command.generate([*asked, f"{tmp_path / 'bad.h5'}:5"])
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]
    assert command.generate([*asked, f"{tmp_path / 'bad.h5'}:4"]) == 0, "another image of the same file"


def test_pixel_statistics_of_an_elliptical_gaussian() -> None:
    """Second moments a^2 along an axis at 30 degrees and b^2 across: size, e1 and e2 in closed form."""
    a, b, angle = 3.0, 2.0, np.pi / 6
    y, x = np.mgrid[-20:21, -20:21] - np.array([1.0, -2.0])[:, None, None]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    image = 7 * np.exp(-(along**2) / (2 * a**2) - across**2 / (2 * b**2))
    found = sensitivity.pixel_statistics(image[None, None].astype(np.float32))
    e = (a**2 - b**2) / (a**2 + b**2)
    assert found["sum"][0] == pytest.approx(7 * 2 * np.pi * a * b, rel=1e-4)
    assert found["peak"][0] == pytest.approx(7)
    assert found["size"][0] == pytest.approx(np.sqrt((a**2 + b**2) / 2), rel=1e-4)
    assert (found["e1"][0], found["e2"][0]) == pytest.approx((e * np.cos(2 * angle), e * np.sin(2 * angle)), rel=1e-4)


def test_indices_of_a_sum_and_a_product() -> None:
    """A single pixel of f = 4 + 2 u + 0.5 z^2 u + z, u + 1 uniform on [1, 3] and z normal: variances by hand.

    E[f|u] = 4 + 2.5 u, so first(u) = 6.25 (1/3) / V; E[f|z] = 6 + 0.5 z^2 + z, so first(z) = 1.5 / V; the interaction
    is 0.5 (z^2 - 1)(u - 1), of variance 0.25 * 2 / 3.
    """

    def images(u_ND: NDArray, residual_NR: NDArray) -> NDArray:
        u_N = u_ND[:, 0] - 1
        value = 4 + 2 * u_N + 0.5 * residual_NR[:, 0] ** 2 * u_N + residual_NR[:, 0]
        return value[:, None, None, None]

    rng = np.random.default_rng(0)
    inputs = [
        sensitivity.Input("u", [0], rng.uniform(1, 3, 200_000)),
        sensitivity.Input("z2", [1], rng.standard_normal(200_000)),
    ]
    found = sensitivity.sobol(lambda codes_QZ: images(codes_QZ[:, :1], codes_QZ[:, 1:]), inputs, samples=1024)
    first_u, first_z, both = 6.25 / 3, 1.5, 0.5 / 3
    variance = first_u + first_z + both
    expected = {"u": (first_u, first_u + both), "z2": (first_z, first_z + both)}
    for name, shares in expected.items():
        for kind, share in zip(("first", "total"), shares, strict=True):
            score = found["sum"][name][kind]
            assert score["value"] == pytest.approx(share / variance, abs=0.06)
            assert score["low"] < share / variance < score["high"]
            assert 0 < score["high"] - score["low"] < 0.3
    assert list(sensitivity.remarks({"sum": found["sum"]})) == []


def test_inputs_are_drawn_as_the_data_have_them(tmp_path: Path) -> None:
    """Sizes from the labels, an angle as one input, residual latents from the codes of test images."""
    generator = turning(tmp_path)
    generator.run.encode = lambda images, u_ND, index_N: (  # type: ignore[method-assign]
        np.full((len(index_N), 4), 7.0),
        np.full((len(index_N), 4), np.log(0.25)),
    )
    size, angle, z4 = sensitivity.inputs_of(generator, open_set(tmp_path / "turning.h5"), 0)
    assert [size.name, angle.name, z4.name] == ["size", "s, c", "z4"]
    assert size.ppf(np.array([0.5]))[0] == generator.typical()[0][2]
    codes_QZ = np.zeros((5, 4))
    angle.set(codes_QZ, np.linspace(-3, 3, 5))
    np.testing.assert_allclose(np.square(codes_QZ[:, :2]).sum(1), 1)
    assert z4.values_N.mean() == pytest.approx(7, abs=0.5) and z4.values_N.std() == pytest.approx(0.5, abs=0.2)


def test_indices_that_are_no_shares_are_remarked_on() -> None:
    def cell(first: float, total: float) -> dict[str, Any]:
        return {
            kind: {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 8}
            for kind, value in (("first", first), ("total", total))
        }

    indices = {
        "sum": {"a": cell(0.6, 0.7), "b": cell(0.3, 0.4)},
        "size": {"a": cell(0.1, 5.9), "b": cell(-0.02, 0.3)},
        "e1": {"a": cell(0.9, 0.9), "b": cell(0.5, 0.5)},
        "e2": {"a": cell(0.9, 0.9), "b": cell(-0.02, 0.01)},
    }
    size, e1, below = sensitivity.remarks(indices)  # type: ignore[arg-type]
    assert size.startswith("size: a total index above 1 (a 5.90): no shares of a variance")
    assert e1.startswith("e1: first indices add up to 1.40: no shares")
    assert below == "first indices below 0 that are not told from 0: b of size, b of e2"
    assert "- size: a total index above 1" in sensitivity.table(dict.fromkeys(sensitivity.STATISTICS, indices["size"]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of_command", "more"),
    [(command.sensitivity, ()), (command.generate, ("--set", "radius=0.5", "--out", "x.png"))],
)
def test_data_that_lie_elsewhere_can_be_named(folder: Path, of_command: Any, more: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"no\.h5: no such file; where the data set of .* lies now, --data FILE tells"):
        of_command([str(folder / "run"), *more, "--data", str(folder / "no.h5")])
    if not (other := folder / "other.h5").exists():
        blobs(other, seed=1)
    with pytest.raises(InputError, match=r"other\.h5: is not the data set that .*run was trained on"):
        of_command([str(folder / "run"), *more, "--data", str(other)])


def test_the_command_writes_every_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert command.sensitivity([str(folder / "run"), "--samples", "8"]) == 0
    written = json.loads((folder / "run" / "sensitivity.json").read_text())
    assert set(written["indices"]) == set(sensitivity.STATISTICS)
    assert list(written["indices"]["size"])[:3] == ["radius", "g1", "z3"]
    assert set(written["indices"]["size"]["z3"]["total"]) == {"value", "low", "high", "n"}
    assert "radius" in capsys.readouterr().out
    with pytest.raises(InputError, match="samples = 10; allowed: powers of 2"):
        SensitivityConfig(run=folder, samples=10)
    with pytest.raises(InputError, match="seed = -1; allowed: at least 0"):
        SensitivityConfig(run=folder, seed=-1)
