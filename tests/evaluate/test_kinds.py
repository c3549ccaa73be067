"""An angle and classes in all that is done with a run: scores, pictures, codes, images that are asked for."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.kinds import drawn
from helpers.trainings import alone, config
from hpcauxvae.data.guides import guided, guides_of
from hpcauxvae.data.hdf5 import ImageSet, open_set
from hpcauxvae.evaluate import control, generate, sensitivity
from hpcauxvae.evaluate.by_factor import as_a_whole, by_factor, steering
from hpcauxvae.evaluate.command import EvaluateConfig, GenerateConfig, encode
from hpcauxvae.evaluate.reader import Reader
from hpcauxvae.evaluate.scores import Evaluator, evaluate
from hpcauxvae.evaluate.sets import same_samples
from hpcauxvae.evaluate.table import table
from hpcauxvae.train.run import load_run, training_set
from hpcauxvae.types import InputError

AUX = ("azimuth", "shape", "size")
COLUMNS = ["cos azimuth", "sin azimuth", "shape=2", "shape=5", "size"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, its data set.h5 and another, fresh.h5."""
    folder = tmp_path_factory.mktemp("kinds")
    data = drawn(folder / "set.h5")
    drawn(folder / "fresh.h5", seed=1)
    alone(config(data, folder / "run", aux=",".join(AUX), network="mlp", epochs=1, latents=8, objective="tuned"))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> ImageSet:
    data = open_set(drawn(tmp_path / "set.h5", n=400))
    return guided(data, guides_of(data, AUX, "kinds"))


def test_scores_speak_of_the_factor(folder: Path) -> None:
    block = evaluate(EvaluateConfig(run=folder / "run", device="cpu", control=False))["sets"]["test"]
    assert list(block["reading"]) == COLUMNS
    assert block["codes"]["leakage"]["hidden_from_aux"] == {}, "hand-made columns follow from the azimuth and the shape"
    azimuth, shape = block["factors"]["azimuth"], block["factors"]["shape"]
    with h5py.File(folder / "run" / "codes-test.h5") as file:
        mean_NZ, index_N = file["mean"][:], file["index"][:]
        assert list(file["factors"].attrs["name"])[-4:] == COLUMNS[:4]
    values = open_set(folder / "set.h5").values[index_N]
    side, front, two, five = (2 * mean_NZ[:, 0] - 1, 2 * mean_NZ[:, 1] - 1, mean_NZ[:, 2], mean_NZ[:, 3])
    off = np.degrees(np.arctan2(front, side)) - values[:, 0]
    assert azimuth["latents"]["error"]["value"] == pytest.approx(np.abs((off + 180) % 360 - 180).mean())
    told = np.array([1, 2, 5])[np.stack([1 - two - five, two, five]).argmax(0)]
    assert shape["latents"]["accuracy"]["value"] == pytest.approx((told == values[:, 1]).mean())
    assert azimuth["regressor"]["error"]["value"] < 60 and azimuth["unit"] == "deg" and shape["classes"] == 3
    assert sum(line.startswith("shape") for line in block["verdicts"]) <= 1
    lines = table({"test": block})
    assert "shape                read: accuracy" in lines and "cos azimuth " in lines
    assert "shape=" not in lines.split("from residual latents")[0]
    assert (folder / "run" / "pictures" / "traversal-test.png").exists()


def test_another_set_guides_as_the_runs_own_did(folder: Path) -> None:
    """Its noiseless draws are found by the labels of its file."""
    given = EvaluateConfig(run=folder / "run", fresh=folder / "fresh.h5", device="cpu", control=False)
    fresh = Evaluator(given).fresh
    assert fresh is not None and fresh.guides == load_run(folder / "run").guides
    assert same_samples(open_set(folder / "fresh.h5"), fresh)


def test_the_encoder_of_labels_and_a_set_without_them(folder: Path, tmp_path: Path) -> None:
    assert encode([str(folder / "run"), str(folder / "fresh.h5"), str(tmp_path / "codes.h5"), "--device", "cpu"]) == 0
    with h5py.File(tmp_path / "codes.h5") as file:
        assert file["mean"].shape == (120, 8)


def test_images_are_asked_for_in_the_unit_of_the_factor(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(folder / "run")
    generator = generate.Generator(run, training_set(run))
    u_ND, swept = generator.grid(("azimuth=90", "size=1"), ("shape=1:5:3",), generator.typical()[0])
    assert swept == [1] and u_ND.tolist() == [[90, 1, 1], [90, 2, 1], [90, 5, 1]]
    np.testing.assert_allclose(
        generator.scaled(u_ND), [[0.5, 1, 0, 0, 0.5], [0.5, 1, 1, 0, 0.5], [0.5, 1, 0, 1, 0.5]], atol=1e-12
    )
    assert generator.grid((), ("shape=5:1:2",), u_ND[0])[0][:, 1].tolist() == [5, 1]
    for asked, words in (
        ("shape=3", "allowed: the classes that the model was trained on, 1, 2, 5"),
        ("azimuth=nan", "azimuth=nan: nan; allowed: numbers, such as from 0 to 360 deg"),
    ):
        with pytest.raises(InputError, match=words):
            generator.grid((asked,), (), u_ND[0])
    with pytest.raises(InputError, match="4 of 3 classes; allowed: a count of at most 3"):
        generator.grid((), ("shape=1:5:4",), u_ND[0])
    values = open_set(folder / "set.h5").values
    own_D, residual_R = generator.of_image(f"{folder / 'set.h5'}:7")
    assert own_D.tolist() == values[7, :3].tolist() and residual_R.shape == (3,)
    (tmp_path / "odd.h5").write_bytes((folder / "set.h5").read_bytes())
    with h5py.File(tmp_path / "odd.h5", "r+") as file:
        file["factors"][7, 1], file["factors"].attrs["high"] = 9, np.maximum(file["factors"].attrs["high"], 9)
    own_D, residual_R = generator.of_image(f"{tmp_path / 'odd.h5'}:7")
    assert own_D[1] in (1, 2, 5) and np.isfinite(generator.images(own_D[None], residual_R[None])).all()
    assert "shape = 9 in row 7 is no class that the run was trained on" in capsys.readouterr().err
    given = GenerateConfig(run=folder / "run", out=tmp_path / "x.h5", sweep=("azimuth=0:315:8",))
    assert generate.generate(given) == 8
    made = open_set(tmp_path / "x.h5")
    assert made.values[:, 0].tolist() == np.linspace(0, 315, 8).tolist() and made.provenance["shape"] in (1, 2, 5)
    inputs = sensitivity.inputs_of(generator, training_set(generator.run), 0)
    assert [one.name for one in inputs] == [*AUX, "z6", "z7", "z8"] and inputs[3].columns == [3]
    assert set(inputs[1].ppf(np.linspace(0, 1, 50))) == {1, 2, 5}


def test_a_typical_angle_is_that_of_a_sample_near_the_middle(data: ImageSet) -> None:
    """Of angles about 0, which their median in degrees is not."""
    narrow = data.values[:, 0] % 40 - 20
    values = data.values.copy()
    values[:, 0] = narrow % 360
    near_0 = guided(guided(ImageSet(path=data.path, factors=data.factors[: data.own], values=values[:, : data.own],
                                    images=data.images, provenance={}), ()), data.guides)  # fmt: skip
    run: Any = SimpleNamespace(
        folder=data.path, model=SimpleNamespace(GUIDED=True), state={"factors": [f.record() for f in near_0.factors],
        "guides": [guide.record() for guide in data.guides]}, parts=lambda data: (np.arange(len(data)),),
        guides=data.guides, factors=[guide.factor for guide in data.guides],
        guiding=[column for guide in data.guides for column in guide.columns],
        config=SimpleNamespace(aux_names=AUX, latents=8),
    )  # fmt: skip
    middle = generate.Generator(run, near_0).typical()[0][0]
    assert min(middle, 360 - middle) < 5


class Pixels:
    """A network whose numbers are the pixels of the one row of an image."""

    def read(self, images: NDArray, rows: NDArray) -> NDArray:
        return images[rows, 0, 0].astype(np.float64)

    def features(self, images: NDArray) -> NDArray:
        return self.read(images, np.arange(len(images)))


@pytest.mark.parametrize("obeys", [True, False])
def test_what_is_asked_of_classes_and_angles_is_read(data: ImageSet, obeys: bool) -> None:
    """The decoder draws cosine and sine, the numbers of classes 2 and 5, and the size; or no class."""
    u_ND = data.scaled()[:, data.column(COLUMNS)]
    rng = np.random.default_rng(0)

    def draw(u_ND: NDArray, obeys: bool) -> NDArray:
        shown = np.concatenate([u_ND[:, :2] - 0.5, u_ND[:, 4:5], u_ND[:, 2:4] * obeys], 1)
        return shown[:, None, None].astype(np.float32)

    images = draw(u_ND, obeys=True)
    view = guided(ImageSet(path=data.path, factors=data.factors[: data.own], values=data.values[:, : data.own],
                           images=images, provenance={}), data.guides)  # fmt: skip

    def code(images: NDArray, u_ND: NDArray, index_N: NDArray | None = None) -> tuple[NDArray, NDArray]:
        return np.concatenate([u_ND, rng.standard_normal((len(u_ND), 1))], 1), np.full((len(u_ND), 6), -9.0)

    run: Any = SimpleNamespace(
        config=SimpleNamespace(aux_names=AUX), encode=code, decode=functools.partial(draw, obeys=obeys)
    )
    made = control.counterfactuals(run, view, np.arange(400), 0)
    assert made is not None
    azimuth, size, *classes, side, front = view.column(
        ["azimuth", "size", "shape=2", "shape=5", "cos azimuth", "sin azimuth"]
    )
    kinds = [view.factors[column].kind for column in (azimuth, size, *classes)]
    network: Any = Pixels()
    reader = Reader(
        network, [azimuth, size, *classes, side, front], kinds, network.features(images), [(view.guides[0], 0)]
    )
    block = control.score(made, reader, view, COLUMNS)
    found = block["factors"]
    assert found["azimuth"]["asked"]["error"]["value"] < 0.01
    assert found["shape"]["real"]["accuracy"]["value"] == 1
    assert (found["shape"]["asked"]["accuracy"]["value"] == 1) == obeys
    lines = list(steering({"control": block}))
    assert len(lines) == (not obeys) and all(line.startswith("shape does not steer the image") for line in lines)


def test_what_latents_tell_of_a_factor_is_said_in_its_terms(data: ImageSet) -> None:
    guides, columns = data.guides, data.column(COLUMNS)
    values_ND = data.values[:, columns]
    rng = np.random.default_rng(0)

    def said(told_ND: NDArray) -> list[str]:
        return list(as_a_whole({"factors": by_factor(guides, values_ND, {"latents": told_ND, "regressor": values_ND})}))

    assert said(values_ND) == []
    lost = values_ND.copy()
    lost[:, :4] = rng.permutation(lost[:, :4])
    azimuth, shape = said(lost)
    assert azimuth.startswith("azimuth is not read (mean error ") and azimuth.endswith("the ridge regression has 0)")
    assert shape.startswith("shape is not read (accuracy 0.3") and shape.endswith("the ridge regression has 1)")
    half = np.where(rng.random((400, 1)) < 0.6, values_ND, lost)
    assert [line.split(" (")[0] for line in said(half)] == [
        f"{name} is read less well than could be" for name in ("azimuth", "shape")
    ]
