"""What is asked for beside the true view: a decoder that turns objects, one that does not, and sets without objects."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hpcauxvae.data.guides import guided, guides_of
from hpcauxvae.data.hdf5 import ImageSet, open_set, write
from hpcauxvae.evaluate import effects, steering, views
from hpcauxvae.evaluate.traversal import traversal
from hpcauxvae.evaluate.verdicts import verdicts
from hpcauxvae.types import Factor

OBJECTS, SIDES = 8, 12
FACTORS = (
    Factor("side", "deg", 0, 360, "periodic"),
    Factor("toy", "", 0, 29, "categorical"),
    Factor("mass", "", 0, 1),
)


def toys(number_N: NDArray, angle_N: NDArray) -> NDArray:
    """A bright dot for each toy, on a circle of its own radius, at the side from which it is seen; (N, 1, 16, 16)."""
    y, x = np.mgrid[:16, :16] - 7.5
    radius_N, angle_N = 1 + 0.7 * number_N[:, None, None], np.radians(angle_N)[:, None, None]
    away = (x - radius_N * np.cos(angle_N)) ** 2 + (y - radius_N * np.sin(angle_N)) ** 2
    return (200 * np.exp(-away / 4))[:, None].astype(np.float32)


def toy_set(
    path: Path, kept: Any = slice(None), twice: bool = False, group: bool = False, of: int = OBJECTS
) -> ImageSet:
    number_N, side_N = (part.reshape(-1) for part in np.indices((of, SIDES)))
    angle_N = side_N * 360.0 / SIDES
    mass_N = np.random.default_rng(0).random(len(angle_N))
    rows = np.arange(len(angle_N))[kept]
    rows = np.repeat(rows, 2) if twice else rows
    values = np.stack([angle_N, number_N, mass_N], 1)[rows]
    factors = (FACTORS[0], FACTORS[2]) if group else FACTORS
    columns = [0, 2] if group else [0, 1, 2]
    more = {"group": number_N[rows]} if group else {}
    write(path, toys(number_N, angle_N)[rows], values[:, columns], factors, {}, **more)
    data = open_set(path)
    return guided(data, guides_of(data, ["side"], "kinds"))


class Turns:
    """A run whose code is (cosine, sine, toy, 0), scaled; its decoder draws that, a little too faint."""

    def __init__(self, blurs: float = 0.0) -> None:
        self.blurs = blurs

    def encode(self, images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
        y, x = np.mgrid[:16, :16] - 7.5
        total = images.sum((1, 2, 3))
        at = [(images[:, 0] * axis).sum((1, 2)) / total for axis in (x, y)]
        toy_N = (np.hypot(*at) - 1) / 0.7
        code_NZ = np.stack([u_ND[:, 0], u_ND[:, 1], toy_N, np.zeros(len(toy_N))], 1)
        return code_NZ, np.full_like(code_NZ, -8)

    def decode(self, code_NZ: NDArray) -> NDArray:
        cosine, sine, toy_N = 2 * code_NZ[:, 0] - 1, 2 * code_NZ[:, 1] - 1, code_NZ[:, 2]
        return toys(toy_N, np.degrees(np.arctan2(sine, cosine))) * (1 - self.blurs)


def scored(data: ImageSet, run: Any) -> dict[str, Any]:
    made = views.views(run, data, np.arange(len(data)), np.arange(40), ["side_cos", "side_sin"], 0)
    assert made is not None
    return views.score(made, 200.0)


def test_a_decoder_that_turns_is_on_the_true_view(tmp_path: Path) -> None:
    block = scored(toy_set(tmp_path / "toys.h5"), Turns(blurs=0.1))
    assert block["objects"] == "toy" and block["of"] == OBJECTS and block["pairs"] == OBJECTS * SIDES
    assert block["share"]["value"] == pytest.approx(1, abs=0.05), "it is as good as the reconstruction"
    assert block["trained"] == 4, "the first 40 samples show four toys"
    assert not list(steering.views({"views": block}))
    assert "some toy here was trained on in other views (4 of 8)" in next(steering.known_objects({"views": block}))


class Holds(Turns):
    """Of some toys the residual latents hold the side as well, and the decoder draws it from there."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def encode(self, images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
        code_NZ, logvar_NZ = super().encode(images, u_ND)
        y, x = np.mgrid[:16, :16] - 7.5
        code_NZ[:, 3] = np.arctan2(*((images[:, 0] * axis).sum((1, 2)) for axis in (y, x)))
        return code_NZ, logvar_NZ

    def decode(self, code_NZ: NDArray) -> NDArray:
        held_NZ = code_NZ.copy()
        held_NZ[:, 0], held_NZ[:, 1] = (np.cos(code_NZ[:, 3]) + 1) / 2, (np.sin(code_NZ[:, 3]) + 1) / 2
        holds = np.rint(code_NZ[:, 2]) >= self.first
        return super().decode(np.where(holds[:, None], held_NZ, code_NZ))


def test_a_decoder_that_turns_only_some_is_told(tmp_path: Path) -> None:
    """The others are the worst."""
    block = scored(toy_set(tmp_path / "toys.h5"), Holds(2))
    (line,) = steering.views({"views": block})
    assert "what the same toy really looks like: beside the true view it has SSIM" in line
    assert set(block["worst"]) <= {str(number) for number in range(2, OBJECTS)}
    assert 0.1 < block["share"]["value"] < 0.4


def test_a_decoder_that_ignores_what_is_asked_for(tmp_path: Path) -> None:
    block = scored(toy_set(tmp_path / "toys.h5"), Holds(0))
    assert block["share"]["value"] == pytest.approx(0, abs=1e-6)
    (line,) = steering.views({"views": block})
    assert line.startswith("what is asked for is not what the same toy really looks like")


def test_objects_that_guide_are_objects_too(tmp_path: Path) -> None:
    """They are no setting of their own: a toy is asked for from another side, and as the toy that it is."""
    data = open_set(toy_set(tmp_path / "toys.h5").path)
    found = views.objects_of(guided(data, guides_of(data, ["toy", "side"], "kinds")), ["toy", "side"])
    assert found is not None and found.name == "toy" and len(np.unique(found.settings_N)) == SIDES


def test_groups_tell_objects_too(tmp_path: Path) -> None:
    assert scored(toy_set(tmp_path / "toys.h5", group=True), Turns())["objects"] == "group"


@pytest.mark.parametrize(
    "given",
    [
        {"twice": True},
        {"of": 30, "kept": np.random.default_rng(0).permutation(360)[:120]},
        {"kept": slice(0, 4 * SIDES)},
    ],
    ids=["several", "few", "four"],
)
def test_what_is_no_object(given: dict[str, Any], tmp_path: Path) -> None:
    """A class with several images for a setting, as of digits; hardly any setting there; only four of them."""
    data = toy_set(tmp_path / "toys.h5", **given)
    assert views.objects_of(data, ["side_cos", "side_sin"]) is None


def test_a_measured_factor_is_no_setting(tmp_path: Path) -> None:
    """It goes with the view: objects are told by the others."""
    data = open_set(toy_set(tmp_path / "toys.h5").path)
    found = [
        views.objects_of(guided(data, guides_of(data, names, "kinds")), names) for names in (["side", "mass"], ["mass"])
    ]
    assert found[0] is not None and found[0].name == "toy" and found[1] is None


def test_samples_spread_over_many_settings_are_no_views(tmp_path: Path) -> None:
    """Ten of a hundred settings of two factors for each class, no two alike: letters at random places are such."""
    rng = np.random.default_rng(0)
    cell_N = np.concatenate([rng.permutation(100)[:10] for _ in range(20)])
    values = np.stack([cell_N // 10, cell_N % 10, np.repeat(np.arange(20), 10)], 1).astype(float)
    factors = (Factor("x", "", 0, 9, "ordinal"), Factor("y", "", 0, 9, "ordinal"), FACTORS[1])
    write(tmp_path / "letters.h5", toys(values[:, 2], cell_N), values, factors, {})
    data = open_set(tmp_path / "letters.h5")
    assert views.objects_of(guided(data, guides_of(data, ["x", "y"], "kinds")), ["x", "y"]) is None


@pytest.fixture
def linear() -> tuple[Any, NDArray, NDArray, NDArray]:
    """A linear decoder of four latents, the last next to nothing; images of 256 pixels with noise of 2, and codes."""
    rng = np.random.default_rng(0)
    mean_NZ, weights_ZP = rng.standard_normal((200, 4)), rng.standard_normal((4, 256)) / 4
    weights_ZP[3] *= 1e-3
    noise = 2 * rng.standard_normal((200, 1, 16, 16))
    run: Any = SimpleNamespace(decode=lambda z_NZ: (z_NZ @ weights_ZP).reshape(-1, 1, 16, 16))
    return run, run.decode(mean_NZ) + noise, mean_NZ, weights_ZP


def test_what_a_latent_does_to_the_image(linear) -> None:
    """The closed form: half the variance of what it draws, over that of the noise, times the pixels."""
    run, seen, mean_NZ, weights_ZP = linear
    asked_Z = np.array([False, True, True, True])
    found_Z = effects.effects(run, seen, mean_NZ, asked_Z)
    wanted_Z = np.where(asked_Z, mean_NZ.var(0) * np.square(weights_ZP).sum(1) / 4 / 2, 0)
    assert found_Z[:3] == pytest.approx(wanted_Z[:3], rel=0.05)
    assert abs(found_Z[3]) < 0.02 and (found_Z[1:] < effects.STILL).tolist() == [False, False, True]


def test_what_nobody_sees_is_no_effect(linear) -> None:
    """A latent that moves missing pixels alone; one of many pixels by little each does draw."""
    run, seen, mean_NZ, weights_ZP = linear
    weights_ZP[1, 16:] = 0
    holes = seen.copy()
    holes[:, 0, 0] = np.nan
    found_Z = effects.effects(run, holes, mean_NZ, np.array([False, True, True, False]))
    assert found_Z[1] == 0 and found_Z[2] > 0.1
    many: Any = SimpleNamespace(decode=lambda z_NZ: 0.02 * np.ones((1, 100, 100)) * z_NZ[:, 1, None, None, None])
    noisy = many.decode(mean_NZ) + np.random.default_rng(1).standard_normal((200, 1, 100, 100))
    assert effects.effects(many, noisy, mean_NZ, np.array([False, True, True, False]))[1] == pytest.approx(2, rel=0.15)


def test_a_decoder_that_draws_one_image_has_no_share(tmp_path: Path) -> None:
    class One(Turns):
        def decode(self, code_NZ: NDArray) -> NDArray:
            mean = toys(np.arange(OBJECTS), np.zeros(OBJECTS)).mean(0)
            return mean + 1e-3 * super().decode(code_NZ)

    block = scored(toy_set(tmp_path / "toys.h5"), One())
    (line,) = steering.views({"views": block})
    assert block["share"] is None and "cannot be judged" in line


def test_rows_have_no_ssim_and_are_told_by_mse(tmp_path: Path) -> None:
    """The share that is good is told so, and its interval is the right way round."""

    class Rows(Turns):
        def encode(self, images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
            return super().encode(images.reshape(-1, 1, 16, 16), u_ND)

        def decode(self, code_NZ: NDArray) -> NDArray:
            return super().decode(code_NZ).reshape(-1, 1, 1, 256)

    data = toy_set(tmp_path / "toys.h5")
    write(tmp_path / "rows.h5", data.images[:].reshape(-1, 1, 1, 256), data.values[:, : data.own], FACTORS, {})
    rows = open_set(tmp_path / "rows.h5")
    block = scored(guided(rows, guides_of(rows, ["side"], "kinds")), Rows(blurs=0.1))
    assert block["by"] == "mse" and block["share"]["value"] == pytest.approx(1, abs=0.1)
    assert block["share"]["low"] <= block["share"]["value"] <= block["share"]["high"]
    assert not list(steering.views({"views": block}))


def test_missing_pixels_take_no_part_and_missing_labels_no_object(tmp_path: Path) -> None:
    data = toy_set(tmp_path / "toys.h5")
    images, values = data.images[:].copy(), data.values[:, : data.own].copy()
    images[:, :, 0] = np.nan
    values[::8, 0] = np.nan
    write(tmp_path / "holes.h5", images, values, FACTORS, {}, missing_pixels="nan")
    holes = open_set(tmp_path / "holes.h5")

    class Holes(Turns):
        def encode(self, images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
            return super().encode(np.nan_to_num(images), u_ND)

        def decode(self, code_NZ: NDArray) -> NDArray:
            drawn = super().decode(code_NZ)
            drawn[:, :, 0] = 500 * code_NZ[:, 0, None, None]  # where nobody looks
            return drawn

    block = scored(guided(holes, guides_of(holes, ["side"], "kinds")), Holes(blurs=0.1))
    assert block["share"]["value"] == pytest.approx(1, abs=0.05) and block["pairs"] == 84


def test_what_a_latent_follows(tmp_path: Path) -> None:
    """A latent that is the mass turned round; not the class, whose numbers are names, nor the side, which guides."""
    data = toy_set(tmp_path / "toys.h5")
    index_N = np.arange(len(data))[::-1]
    side_N, toy_N, mass_N = data.values[index_N][:, :3].T
    noise_N = np.random.default_rng(1).normal(0, 0.1, len(data))
    mean_NZ = np.stack([side_N, toy_N, 3 - 2 * mass_N, mass_N + 30 * noise_N, mass_N], 1)
    found = effects.follows(data, index_N, mean_NZ, np.array([True, True, True, True, False]))
    assert found == {"3": {"factor": "mass", "r": pytest.approx(-1)}}
    few = np.random.default_rng(2).standard_normal((6, 40))
    assert effects.follows(data, index_N[:6], few, np.ones(40, bool)) == {}, "six samples go with anything"


def test_latents_that_draw_nothing_are_told() -> None:
    def block(still: list[int], mse: float = 0.1) -> dict[str, Any]:
        score = {"value": mse, "low": mse, "high": mse}
        plain = {"ssim": {"value": 0.1, "low": 0.1, "high": 0.1}, "mse": {"value": 1.0, "low": 1.0, "high": 1.0}}
        return {
            "latents": {"of": 5, "guided": 2, "off": [3], "still": still},
            "images": {"ssim": {"value": 0.9, "low": 0.9, "high": 0.9}, "mse": score},
            "baselines": {"mean_image": plain, "pca": plain}, "codes": {},
        }  # fmt: skip

    assert "latent 4 draws nothing: the images hardly change without" in verdicts(block([4]))[0]
    assert "3 of 3 residual latents are off or draw nothing" in verdicts(block([4, 5]))[0]
    assert "no finding" in verdicts(block([]))[0]


@pytest.mark.parametrize(("counts", "columns"), [((3,), 9), ((10,), 10), ((11, 4), 11), ((10, 20), 10), ((20,), 9)])
def test_a_traversal_shows_all_classes_where_eleven_images_are_enough(counts, columns, tmp_path: Path) -> None:
    rng, names = np.random.default_rng(0), ("a", "b")[: len(counts)]
    values = np.stack([np.resize(np.arange(count), 60) for count in counts], 1).astype(float)
    factors = [Factor(name, "", 0, count - 1, "categorical") for name, count in zip(names, counts, strict=True)]
    write(tmp_path / "set.h5", rng.random((60, 1, 4, 4)), values, factors, {})
    data = open_set(tmp_path / "set.h5")
    data = guided(data, guides := guides_of(data, names, "kinds"))
    mean_NZ = data.scaled()[:, data.own :]
    run: Any = SimpleNamespace(decode=lambda z_NZ: z_NZ[:, :, None, None])
    images, _, labels = traversal(run, data, mean_NZ, guides)
    assert images.shape[1] == columns
    for count, row in zip(counts, labels, strict=True):
        assert len(set(row)) == min(count, columns)
