"""Spectra and images of other sizes go through every command."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate import command
from hpcauxvae.types import Factor

FACTORS = (Factor("width", "nm", 0, 1), Factor("shift", "nm", -1, 1))


def lines(path: Path, shape: tuple[int, int, int], count: int = 100) -> Path:
    """Poisson counts of a bump as wide and far to the right as the factors say."""
    rng, (channels, height, width) = np.random.default_rng(0), shape
    u_NF = rng.random((count, 2))
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None] * (height > 1)
    spread, shift = 0.1 + 0.3 * u_NF[:, :1, None], u_NF[:, 1:, None] - 0.5
    expected = 2 + 80 * np.exp(-((x - shift) ** 2 + y**2) / (2 * spread**2))
    images = rng.poisson(expected[:, None].repeat(channels, 1)).astype(np.float32)
    write(path, images, u_NF * [1, 2] - [0, 1], FACTORS, {"image_unit": "count"})
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "network"), [((1, 1, 100), "conv"), ((5, 24, 40), "resnet"), ((1, 28, 28), "conv"), ((3, 5, 9), "mlp")]
)
def test_a_set_goes_through_every_command(
    shape: tuple[int, int, int], network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = lines(tmp_path / "set.h5", shape), tmp_path / "run"
    assert alone(config(data, run, aux="width,shift", epochs=1, network=network, latents=4)) == 0
    on = ["--device", "cpu"]
    assert command.encode([str(run), str(data), str(tmp_path / "codes.h5"), *on]) == 0
    assert command.evaluate([str(run), *on]) == 0
    printed = capsys.readouterr().out
    sweep = ["--sweep", "width=0.2:0.8:3"]
    for name in ("made.h5", "made.png"):
        assert command.generate([str(run), "--out", str(tmp_path / name), *sweep]) == 0
    assert command.sensitivity([str(run), "--samples", "4"]) == 0
    assert open_set(tmp_path / "made.h5").shape == shape
    with h5py.File(tmp_path / "codes.h5") as file:
        assert file["mean"].shape == (100, 4)
        assert np.isfinite(file["mse"][:]).all() and np.isnan(file["ssim"][:]).all() == (min(shape[1:]) < 7)
    block = json.loads((run / "metrics.json").read_text())["sets"]["test"]
    small = min(shape[1:]) < 7
    assert (block["images"]["ssim"]["value"] is None) == small and np.isfinite(block["images"]["mse"]["value"])
    assert (
        "  ssim                       not for sides under 7 pixels, or where hardly any pixel is known\n" in printed
    ) == small
    assert "nan" not in printed
    drawn = {path.stem for path in (run / "pictures").iterdir()}
    wanted = {"control-test", "correlations-test", "reconstructions-test", "scatter-test", "training", "traversal-test"}
    assert drawn == wanted | ({"ssim-test"} if not small else set())
