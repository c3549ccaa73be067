"""Whether factors steer: decoders that are known, and a reader that is trained on what they are asked to draw."""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hpcauxvae.data import dsprites
from hpcauxvae.data.hdf5 import ImageSet, open_set, split, write
from hpcauxvae.evaluate import control, reader
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, evaluate
from hpcauxvae.evaluate.steering import control as steered
from hpcauxvae.evaluate.steering import unasked
from hpcauxvae.evaluate.table import table
from hpcauxvae.types import Factor, InputError

CPU = torch.device("cpu")
FACTORS = (Factor("tilt", "deg", -30, 30), Factor("glow", "", 0, 1), Factor("kind", "", 0, 2, "categorical"))
PATTERNS = np.linalg.qr(np.random.default_rng(5).normal(size=(64, 3)))[0].T.reshape(3, 1, 8, 8)


def verdicts(block: dict[str, Any]) -> list[str]:
    return [*steered(block), *unasked(block)]


def drawn(u_N3: NDArray) -> NDArray:
    """Tilt, glow and something that nobody measured, each in [0, 1], as weights of three orthogonal patterns."""
    return np.tensordot(u_N3, PATTERNS, 1).astype(np.float32)


def seen(images_NCHW: NDArray) -> NDArray:
    return np.tensordot(images_NCHW, PATTERNS, ((1, 2, 3), (1, 2, 3)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """400 images; a tenth of the tilts was not measured."""
    rng = np.random.default_rng(0)
    u = rng.uniform(size=(400, 3))
    values = np.stack([60 * u[:, 0] - 30, u[:, 1], rng.integers(0, 3, 400)], 1)
    values[::10, 0] = np.nan
    path = tmp_path_factory.mktemp("drawn") / "drawn.h5"
    write(path, drawn(u) + 0.01 * rng.normal(size=(400, 1, 8, 8)), values, FACTORS, {})
    return open_set(path)


@pytest.fixture(scope="module")
def trained(data: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> reader.Reader:
    made = reader.reader_of(data, 0, tmp_path_factory.mktemp("none"), CPU)
    assert made is not None
    return made


def stand_in(decode: Callable[[NDArray], NDArray], copies: int = 0) -> Any:
    """A run of latents tilt, glow, the third quantity and copies of the tilt; `decode` makes weights of these."""

    def encode(images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
        code_NZ = np.concatenate([seen(images)] + [seen(images)[:, :1]] * copies, 1)
        return code_NZ, np.full(code_NZ.shape, -9.0)

    names = SimpleNamespace(aux_names=("tilt", "glow"))
    return SimpleNamespace(config=names, encode=encode, decode=lambda z_NZ: drawn(decode(z_NZ)))


def judged(
    decode: Callable[[NDArray], NDArray], data: ImageSet, trained: reader.Reader | None, copies: int = 0
) -> dict[str, Any]:
    made = control.counterfactuals(stand_in(decode, copies), data, split(len(data), 0)[2], 0)
    assert made is not None
    return control.score(made, trained, data, ("tilt", "glow"))


def test_a_decoder_that_obeys_is_not_blamed(data: ImageSet, trained: reader.Reader) -> None:
    block = judged(lambda z: z[:, :3], data, trained)
    assert list(verdicts({"control": block})) == []
    for found in block["effectiveness"].values():
        assert found["asked"]["r"]["value"] > 0.97 and found["real"]["r"]["value"] > 0.97
    assert block["effectiveness"]["tilt"]["unit"] == "deg"
    assert block["effectiveness"]["tilt"]["asked"]["error"]["value"] < 6
    assert block["composition"]["once"]["value"] < 0.02 and block["reversibility"]["value"] < 0.02
    assert block["minimality"]["value"] < 0.05 and block["composition"]["code"]["value"] < 0.05


def test_a_residual_latent_that_changes_with_the_factors_is_told(data, trained) -> None:
    """A copy of the tilt, which draws where the tilt is another; a copy that draws nothing is left out."""

    def decode(z: NDArray) -> NDArray:
        return np.stack([z[:, 0], z[:, 1], z[:, 2] + 0.1 * (z[:, 3] - z[:, 0])], 1)

    assert not list(verdicts({"control": judged(lambda z: z[:, :3], data, trained, copies=1)}))
    (line,) = verdicts({"control": judged(decode, data, trained, copies=1)})
    assert re.fullmatch(
        r"images with other factors change in the residual latents too: \d\d% of .* \(0% are .*\)", line
    )


def test_an_image_that_does_not_come_back_is_told(data, trained) -> None:
    """Whoever asks for another tilt loses what nobody measured; encoding and decoding alone loses nothing."""

    def decode(z: NDArray) -> NDArray:
        return np.stack([z[:, 0], z[:, 1], np.where(abs(z[:, 0] - z[:, 3]) < 0.02, z[:, 2], 1.0)], 1)

    block = judged(decode, data, trained, copies=1)
    assert block["composition"]["again"]["value"] < 0.02 and block["reversibility"]["value"] > 0.4
    changed, gone = verdicts({"control": block})
    assert changed.startswith("images with other factors change") and gone.startswith(
        "an image does not come back when its own factors do: 0."
    )
    assert list(unasked({"control": block | {"pairs": 19}})) == []  # too few to tell


def test_images_that_are_asked_for_and_look_like_none_are_told(data, trained) -> None:
    """Far from the tilt that was encoded nothing is drawn: what is read in an empty image is half of each range."""

    def decode(z: NDArray) -> NDArray:
        return np.where(abs(z[:, :1] - z[:, 3:]) < 0.5, z[:, :3], 0)

    block = judged(decode, data, trained, copies=1)
    missing = abs(np.diff(data.scaled()[split(len(data), 0)[2], 0])) > 0.5
    assert 0.05 < block["unlike"]["value"] < 2 * np.mean(missing)
    assert any(
        re.match(r"\d\d% of the images that were asked for are unlike", line) for line in unasked({"control": block})
    )
    assert judged(lambda z: z[:, :3], data, trained)["unlike"]["low"] < 0.05


def test_a_factor_that_the_decoder_takes_from_a_residual_latent_does_not_steer(data, trained) -> None:
    """The encoder is perfect: every score of codes would say that all is well."""
    block = judged(lambda z: z[:, [3, 1, 2]], data, trained, copies=1)
    (line,) = verdicts({"control": block})
    assert line.startswith("tilt does not steer the image: asked against read r = ")
    assert "on real images" in line
    assert block["effectiveness"]["tilt"]["reconstruction"]["r"]["value"] > 0.97
    assert block["minimality"]["value"] == 0


def test_a_factor_that_is_drawn_backwards_is_named(data, trained) -> None:
    block = judged(lambda z: np.stack([1 - z[:, 0], z[:, 1], z[:, 2]], 1), data, trained)
    (line,) = verdicts({"control": block})
    assert line.startswith("tilt steers the image backwards: asked against read r = -1.00 (slope -1.0")
    assert block["composition"]["once"]["value"] > 0.1 and block["composition"]["again"]["value"] > 0.1


def test_a_factor_that_is_drawn_shifted_or_too_far_is_named(data, trained) -> None:
    """By .3 of the range, or twice as far from its middle; the encoder is perfect."""
    block = judged(lambda z: np.stack([z[:, 0] + 0.3, 2 * z[:, 1] - 0.5, z[:, 2]], 1), data, trained)
    shifted, far = steered({"control": block})
    assert re.match(
        r"images are drawn with an offset of tilt: \+1\d(\.\d)? deg on average from what was asked for", shifted
    )
    assert re.match(r"glow steers the image too far: asked against read r = .* \(slope [12]\.\d\d\), ", far)


def test_a_decoder_that_draws_the_mean_image_steers_nothing(data, trained) -> None:
    block = judged(lambda z: np.full((len(z), 3), 0.5), data, trained)
    assert [line.split(" steer")[0] for line in verdicts({"control": block})] == ["tilt does not", "glow does not"]
    assert block["reversibility"]["value"] == pytest.approx(0.5, abs=0.15)  # of the mean image from any other


def test_what_the_reader_cannot_read_is_not_judged(data, trained) -> None:
    values = data.values.copy()
    values[:, 1] = np.random.default_rng(9).permutation(values[:, 1])
    block = judged(lambda z: z[:, :3], dataclasses.replace(data, values=values), trained)
    (line,) = steered({"control": block})
    assert line.startswith("glow: the reader does not find it in real images (r = ")
    unread = judged(lambda z: z[:, :3], data, None)
    assert unread["effectiveness"] is None and unread["composition"]["once"]["value"] < 0.02
    (line,) = verdicts({"control": unread})
    assert "cannot be judged: too few images" in line


def test_the_words_follow_from_the_scores() -> None:
    def found(r: float, slope: float, own: float, offset: float = 0.01) -> dict[str, Any]:
        scores = {"r": r, "slope": slope, "own": own, "offset": offset}
        between = {name: {"value": v, "low": v - 0.02, "high": v + 0.02} for name, v in scores.items()}
        return between | {"spread": 0.3}

    real = found(0.95, 0.95, 0.9)
    for asked, reconstruction, words in (
        (found(0.92, 0.9, 0.9), real, None),
        (found(0.9, 0.78, 0.78), real, None),
        (found(0.93, 0.6, 0.6), real, "flux steers the image less well than could be: "),
        (found(0.8, 0.8, 0.02), real, "flux does not steer the image, other factors that .* slope is 0.02, "),
        (found(0.7, 0.6, 0.6), real, r"flux steers the image in part: asked against read r = 0\.70 \(slope 0\.60\)"),
        (found(0.87, 0.87, 0.87), real, r"flux steers the image less well than could be: .* r = 0\.87 \(slope 0\.87"),
        (found(0.9, 0.3, 0.3), real, r"flux steers the image in part: .* 0\.95 \(slope 0\.95\) on real images$"),
        (found(0.93, 0.02, 0.02), real, r"flux hardly steers the image: .* r = 0\.93 \(slope 0\.02\), 0\.95 \(slope"),
        (found(-0.85, -0.01, 0), real, r"flux hardly steers the image: .* r = -0\.85 \(slope -0\.01\), 0\.95 \(slope"),
        (found(0.9, 1.18, 1.18), real, None),
        (
            found(0.9, 1.4, 1.4),
            real,
            r"flux steers the image too far: .* r = 0\.90 \(slope 1\.40\), 0\.95 \(slope 0\.95",
        ),
        (found(0.9, 0.9, 0.9, 0.06), real, None),
        (
            found(0.9, 0.9, 0.9, -0.2),
            real,
            r"images are drawn with an offset of flux: -0\.2 dex on .* \+0\.01 on",
        ),
        (found(0.2, 0.1, 0.1), found(0.5, 0.4, 0.4), "flux does not steer .*, 0.50 on its own reconstructions$"),
    ):
        factors = {"flux": {"asked": asked, "real": real, "reconstruction": reconstruction, "unit": "dex"}}
        lines = list(steered({"control": {"effectiveness": factors}}))
        assert [bool(re.match(words, line)) for line in lines] == [True] if words else lines == []


def test_of_a_categorical_factor_it_is_said_that_nothing_is_known(data, trained) -> None:
    """Alone, beside one that steers, and where there is no reader at all."""
    words = "kind is categorical, which the reader does not read: whether it steers the image cannot be judged"
    made = control.counterfactuals(stand_in(lambda z: z[:, :3]), data, split(len(data), 0)[2], 0)
    assert made is not None
    for aux, with_reader, beside in ((["kind", "glow"], trained, ["glow"]), (["kind"], None, [])):
        part = made._replace(u_a=made.u_a[:, -len(aux) :], u_b=made.u_b[:, -len(aux) :])
        block = control.score(part, with_reader, data, aux)
        assert list(block["effectiveness"]) == beside
        assert set(steered({"control": block})) == {words}


def test_a_periodic_factor_is_read_round_its_ends(tmp_path: Path) -> None:
    """Images whose two weights are cosine and sine of a turn; a decoder that obeys, and another that does not."""
    rng = np.random.default_rng(0)
    turn = rng.uniform(size=600)

    def draw(u_N: NDArray) -> NDArray:
        around = 2 * np.pi * u_N
        return drawn(np.stack([np.cos(around), np.sin(around), 0 * u_N], 1))

    factors = (Factor("turn", "deg", 0, 360, "periodic"),)
    write(tmp_path / "turns.h5", draw(turn) + 0.01 * rng.normal(size=(600, 1, 8, 8)), 360 * turn[:, None], factors, {})
    data = open_set(tmp_path / "turns.h5")
    found = reader.reader_of(data, 0, tmp_path, CPU)
    assert found is not None
    off = found.read(np.array(data.images[:]))[:, 0] - turn
    assert np.abs((off + 0.5) % 1 - 0.5).max() < 0.05 and ((off + turn >= 0) & (off + turn < 1)).all()
    config = SimpleNamespace(aux_names=("turn",))
    lines = []
    for place in (0, 1):
        run = SimpleNamespace(
            config=config,
            decode=lambda z_NZ, place=place: draw(z_NZ[:, place]),
            encode=lambda images, _: (
                np.repeat((np.arctan2(*seen(images)[:, [1, 0]].T) / (2 * np.pi) % 1)[:, None], 2, 1),
                np.full((len(images), 2), -9.0),
            ),
        )
        made = control.counterfactuals(run, data, split(600, 0)[2], 0)  # type: ignore[arg-type]
        assert made is not None
        block = control.score(made, found, data, ("turn",))
        asked = block["effectiveness"]["turn"]["asked"]
        assert (asked["r"]["value"] > 0.95 and asked["error"]["value"] < 18) == (place == 0)
        lines += steered({"control": block})
    assert len(lines) == 1 and lines[0].startswith("turn does not steer the image: asked against read r = ")


def test_of_dsprites_the_image_that_was_asked_for_is_known(tmp_path: Path) -> None:
    """A decoder that draws A's shape with what was asked for, and another that draws A again."""
    dsprites.write(tmp_path / "dsprites.h5", n=20)
    data, aux = open_set(tmp_path / "dsprites.h5"), ("scale", "orientation", "x", "y")
    names, columns = [factor.name for factor in data.factors], data.column(aux)

    def encode(images: NDArray, u_ND: NDArray) -> tuple[NDArray, NDArray]:
        """The labels of an image of the set; of any other image nothing."""
        code_NZ = np.zeros((len(images), 4 + len(names)))
        for code_Z, image in zip(code_NZ, images, strict=True):
            for row in np.flatnonzero((data.images == image).all((1, 2, 3)))[:1]:
                code_Z[4:] = data.values[row]
        code_NZ[:, :4] = u_ND
        return code_NZ, np.full(code_NZ.shape, -9.0)

    def decode(z_NZ: NDArray, obeys: bool) -> NDArray:
        labels_NF = z_NZ[:, 4:].copy()
        for place, column in enumerate(columns if obeys else ()):
            labels_NF[:, column] = data.factors[column].unscale(z_NZ[:, place])
        return dsprites.images_of(labels_NF, names, "", "orientation")

    found = {}
    for obeys in (True, False):
        run = SimpleNamespace(
            config=SimpleNamespace(aux_names=aux), encode=encode, decode=functools.partial(decode, obeys=obeys)
        )
        made = control.counterfactuals(run, data, np.arange(20), 0)  # type: ignore[arg-type]
        assert made is not None
        found[obeys] = control.score(made, None, data, aux)["rendered"]["value"]
    assert found[True] == 0 and found[False] > 0.5


def test_the_reader_is_trained_once_for_a_data_set(data, trained, tmp_path, monkeypatch, capsys) -> None:
    (kept,) = data.path.parent.glob("drawn.reader-*.safetensors")
    assert kept.name == f"drawn.reader-{data.fingerprint}-0.safetensors"
    monkeypatch.setattr(reader, "_train", None)
    again = reader.reader_of(data, 0, tmp_path, CPU)
    images = np.array(data.images[:50])
    np.testing.assert_array_equal(again.read(images), trained.read(images))
    with pytest.raises(TypeError):  # of another split: it has seen test images of this one
        reader.reader_of(data, 1, tmp_path, CPU)
    other = dataclasses.replace(data, path=tmp_path / "drawn.h5")
    (tmp_path / kept.name.replace("-0.", "-1.")).write_bytes(kept.read_bytes())  # renamed by hand
    with pytest.raises(TypeError):
        reader.reader_of(other, 1, tmp_path, CPU)
    (tmp_path / kept.name).write_bytes(kept.read_bytes()[:-40])
    with pytest.raises(TypeError):
        reader.reader_of(other, 0, tmp_path, CPU)
    assert f"{kept.name}: damaged" in capsys.readouterr().err


def test_the_reader_has_never_seen_a_test_image_and_is_the_same_each_time(data, trained, tmp_path) -> None:
    """Test images and labels are turned into others: the same network comes out."""
    test = split(len(data), 0)[2]
    images, values = np.array(data.images), data.values.copy()
    images[test] = np.random.default_rng(3).normal(size=images[test].shape)
    values[test] = values[test[::-1]]
    other = reader.reader_of(
        dataclasses.replace(data, path=tmp_path / "other.h5", images=images, values=values), 0, tmp_path, CPU
    )
    for name, weights in trained.network.state_dict().items():
        assert torch.equal(weights, other.network.state_dict()[name]), name


def test_where_the_folder_of_the_data_cannot_be_written_the_run_keeps_the_reader(data, trained, tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    paths = [tmp_path / "gone" / "x.safetensors", run / "x.safetensors"]
    reader._keep(trained.network, paths, {"reader": 1})
    assert [path.exists() for path in paths] == [False, True]
    with pytest.raises(InputError, match="cannot be written"):
        reader._keep(trained.network, paths[:1], {})


@pytest.mark.parametrize(
    ("shape", "pool"),
    [((1, 4, 4), 1), ((2, 5, 9), 1), ((1, 33, 33), 1), ((3, 64, 64), 1), ((1, 40, 300), 5), ((1, 1, 4096), 1),
     ((2, 1, 5000), 2)],
)  # fmt: skip
def test_images_of_any_size_are_read(shape: tuple[int, int, int], pool: int) -> None:
    """Averaged are large ones, and rows of so many pixels that narrow lines are wider than one."""
    network = reader.Network(shape, 3)
    assert network.pool == pool
    assert network(torch.zeros(2, *shape)).isfinite().all()
    assert network(torch.rand(2, *shape)).shape == (2, 3)


def test_few_images_have_no_reader_and_the_evaluation_says_so(run_copy: Path) -> None:
    found = evaluate(EvaluateConfig(run=run_copy, device="cpu", pictures=False))
    block = found["sets"]["test"]
    assert block["control"]["pairs"] == 16 and block["control"]["effectiveness"] is None
    assert any("cannot be judged" in line for line in block["verdicts"])
    assert "composition, 5 times" in table(found["sets"])


def test_no_images_are_asked_for_where_control_is_not_wanted_or_no_latent_is_guided(trained_run: Path) -> None:
    for fields in ({"control": False}, {}):
        evaluator = Evaluator(EvaluateConfig(run=trained_run, device="cpu", **fields))
        scored = next(evaluator.sets())
        if fields:
            assert evaluator.counterfactuals(scored) is None
        else:
            assert evaluator.counterfactuals(scored) is not None
            evaluator.run.model.GUIDED = False
            assert evaluator.counterfactuals(scored) is None


def test_the_picture_tells_what_was_asked_for_and_read(data, trained, tmp_path, monkeypatch) -> None:
    made = control.counterfactuals(stand_in(lambda z: z[:, :3]), data, split(len(data), 0)[2], 0)
    drawings: dict[str, Any] = {}
    monkeypatch.setattr(control.pictures, "traversal", lambda *args, **rest: drawings.update(args=args, **rest))
    control.draw(made, trained, data, ("tilt", "glow"), tmp_path / "x.png")
    images, names, labels, _ = drawings["args"]
    assert names[2] == "A with the\nfactors of B" and images.shape[:2] == (4, 8)
    assert drawings["heads"][2] == "asked / read\ntilt\nglow"
    for column, label in enumerate(labels[2]):
        (asked, read), (glow, _) = (map(float, line.split(" / ")) for line in label.split("\n"))
        assert seen(images[3, column][None])[0, :2] == pytest.approx([(asked + 30) / 60, glow], abs=0.1)
        assert read == pytest.approx(asked, abs=6)


def test_a_traversal_of_a_cosine_takes_the_sine_with_it(tmp_path: Path) -> None:
    """Left alone it would draw what is no angle."""
    turn = np.random.default_rng(0).uniform(0, 2 * np.pi, 50)
    factors = (Factor("c", "", -1, 1), Factor("s", "", -1, 1))
    values = np.stack([np.cos(turn), np.sin(turn)], 1)
    write(tmp_path / "turning.h5", np.zeros((50, 1, 4, 4)) + turn[:, None, None, None], values, factors, {})
    scaled = (values + 1) / 2
    scored = SimpleNamespace(data=open_set(tmp_path / "turning.h5"), mean_NZ=np.concatenate([scaled, scaled], 1))
    run = SimpleNamespace(decode=lambda z_NZ: z_NZ[:, :, None, None])
    images, names, _ = Evaluator.traversal(SimpleNamespace(run=run, _guiding=lambda: ["c", "s"]), scored)  # type: ignore[arg-type]
    assert images.shape == (4, 9, 4, 1, 1) and len(names) == 4
    for row, own in enumerate((0, 1)):
        pairs = 2 * images[row, :, :2, 0, 0] - 1
        np.testing.assert_allclose(pairs[:, own], np.linspace(-1, 1, 9), atol=1e-9)
        np.testing.assert_allclose(np.square(pairs).sum(1), 1, atol=1e-9)
