"""Pictures of a training in TensorBoard: what they show, what they cost, and that no weight knows of them."""

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.trainings import alone, config
from hpcauxvae.data import drawing
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.models.aux_vae import AuxVAE
from hpcauxvae.train import pictures
from hpcauxvae.train.run import load_run
from hpcauxvae.train.tracking import RECONSTRUCTIONS
from hpcauxvae.types import Posterior


class Drawing(AuxVAE):
    """A model with what others do not have: dropout in its encoder, draws of torch's generator in its decoder."""

    def encode(self, images: Tensor, u_BD: Tensor | None = None) -> Posterior:
        mean, logvar = super().encode(images, u_BD)
        return Posterior(torch.nn.functional.dropout(mean, 0.2, self.training), logvar)

    def decode(self, z_BZ: Tensor) -> Tensor:
        return super().decode(z_BZ + 0.01 * torch.randn_like(z_BZ))


@pytest.fixture
def at_any_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_SHARE", math.inf)


def images(run: Path) -> dict[str, np.ndarray]:
    """The last picture of each tag, (H, W, 3) or (H, W)."""
    import io

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    last = {tag: events.Images(tag)[-1] for tag in events.Tags()["images"]}
    assert all(event.step == 2 for event in last.values())
    return {tag: np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) for tag, event in last.items()}


def test_they_show_validation_images_and_codes_of_the_weights(blobs_file, tmp_path, at_any_cost):
    out = tmp_path / "run"
    assert alone(config(blobs_file, out, network="mlp")) == 0
    shown, data, run = images(out), open_set(blobs_file), load_run(out)
    assert {"reconstructions", "codes/radius", "codes/g1", "correlations"} == shown.keys()
    np.testing.assert_array_equal(shown["reconstructions"], np.asarray(Image.open(out / RECONSTRUCTIONS)))

    numbers = run.parts(data)[1]
    numbers = numbers[np.linspace(0, len(numbers) - 1, 8).astype(int)]
    originals = np.asarray(data.images[numbers], np.float64)
    decoded = run.decode(run.encode(originals)[0])
    scale = drawing.scale_of(originals, drawing.look_of(data))
    tall = shown["reconstructions"].shape[0] // 2
    for column in (0, 7):
        for row, image in ((0, originals), (1, decoded)):
            side = shown["reconstructions"][row * tall :, column * (66 + 4) :][:66:2, :66:2]
            expected = drawing.shade(image[column], scale)[..., :3]
            assert np.abs(side.astype(int) - expected).max() <= (0 if row == 0 else 2), (row, column)

    numbers = np.sort(run.parts(data)[1])
    codes_NZ = run.encode(data.images, None, numbers)[0]
    for place, name in enumerate(("radius", "g1")):
        u_N = data.scaled()[numbers, data.column([name])[0]]
        expected = np.rint(255 * pictures.scatter(u_N, codes_NZ[:, place]))
        assert np.mean(np.abs(shown[f"codes/{name}"][..., 0] - expected) > 8) < 0.01, (
            "few samples may lie across an edge"
        )


def test_codes_lie_where_factor_and_latent_are():
    u_N = np.array([0.01, 0.99, 0.5, np.nan])
    z_N = np.array([-0.2, 1.2, 9.0, 0.5])
    shades_HW = pictures.scatter(u_N, z_N)
    rows, columns = np.nonzero(shades_HW == 0)
    height, width = shades_HW.shape
    found = {(round(float(r / height), 1), round(float(c / width), 1)) for r, c in zip(rows, columns, strict=True)}
    assert found == {(1.0, 0.0), (0.0, 1.0), (0.0, 0.5)}


@pytest.mark.parametrize("fields", [{"channels_last": True}, {"model": f"{__name__}:Drawing", "network": "mlp"}])
def test_no_weight_changes_by_a_bit(blobs_file, tmp_path, monkeypatch, fields):
    """Of a network with layers that train and evaluate alike, and of one that draws numbers while it is shown."""
    monkeypatch.setattr(pictures, "_TIMES", 3)
    found = {}
    for share in (0.0, math.inf):
        monkeypatch.setattr(pictures, "_SHARE", share)
        out = tmp_path / str(share)
        assert alone(config(blobs_file, out, epochs=3, **fields)) == 0
        assert (out / RECONSTRUCTIONS).exists() == (share > 0)
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found[share] = load_run(out).digest, [row["validation"] for row in rows]
    assert found[0.0] == found[math.inf]


def test_they_take_no_more_than_their_share(tmp_path, monkeypatch):
    """Of a training whose clock stands still between pictures, each of which takes 2 s."""
    clock, drawn = [100.0], []

    class Slow(pictures.Pictures):
        def _draw(self, *_: object) -> None:
            drawn.append(clock[0])
            clock[0] += 2.0

    class Training:
        config, epoch = config(tmp_path, tmp_path, epochs=1000), 0

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    told = Slow(Training(), board=object(), folder=tmp_path)  # type: ignore[arg-type]
    for epoch in range(1, 1001):
        Training.epoch, clock[0] = epoch, clock[0] + 1.0
        told.draw(None)
        assert 2.0 * (len(drawn) - 1) <= 0.01 * (clock[0] - 100)
    assert drawn[0] - 100 >= 125 and 3 <= len(drawn) <= 5
    assert all((at - 100 - 2 * number) % 50 == 0 for number, at in enumerate(drawn)), "a twentieth of the epochs"


def test_a_picture_that_fails_ends_them_and_nothing_else(blobs_file, tmp_path, at_any_cost, monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr(pictures, "beside", broken)
    assert alone(config(blobs_file, tmp_path / "run", network="mlp")) == 0
    assert capsys.readouterr().err.count("warning: no more pictures for TensorBoard: no such colour") == 1


def test_spectra_are_lines_on_their_own_axes():
    spectra = np.random.default_rng(0).random((3, 1, 1, 40))
    same, other = (pictures.beside(spectra, drawn, drawing.PLAIN) for drawn in (spectra, 0 * spectra))
    assert same.ndim == 3 and same.shape[2] == 3
    half = len(same) // 2
    np.testing.assert_array_equal(same[: half - 4], other[: half - 4])
    assert (same[half:] != other[half:]).any()
