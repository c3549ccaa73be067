"""Hot pixels in a data set leave the scores of a run where they are, in whatever part they lie."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import open_set, split, write
from hpcauxvae.evaluate import reader
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator
from hpcauxvae.evaluate.sets import looked_at
from hpcauxvae.types import Factor

FACTORS = (Factor("bright", "count", 0, 10), Factor("wide", "pixel", 1, 3))
N = 600
TRAIN, _, TEST = split(N, 0)


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of 9 x 9 pixels and the factors that they show."""
    u_NF = np.random.default_rng(seed).random((N, 2))
    bright, wide = (f.unscale(u)[:, None, None] for f, u in zip(FACTORS, u_NF.T, strict=True))
    y, x = np.mgrid[-4:5, -4:5]
    images = (5 + bright) * np.exp(-(x**2 + y**2) / (2 * wide**2))
    return images[:, None].astype(np.float32), np.stack([bright, wide], 1)[:, :, 0, 0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hot")
    write(folder / "clean.h5", *blobs(0), FACTORS, {})
    write(folder / "fresh.h5", *blobs(1), FACTORS, {})
    alone(
        config(
            folder / "clean.h5",
            folder / "run",
            aux="bright,wide",
            epochs=8,
            batch_size=60,
            latents=4,
            network="mlp",
            objective="tuned",
        )
    )
    return folder / "run"


def scored(run: Path, data: Path, fresh: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The blocks of metrics.json."""
    monkeypatch.setattr(reader, "_MOST_EPOCHS", 10)
    evaluator = Evaluator(EvaluateConfig(run=run, data=data, fresh=fresh, out=out, device="cpu"))
    return {part.name: evaluator.scores(part, evaluator.counterfactuals(part))[0] for part in evaluator.sets()}


def values(block: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The value of each score, by its place in a block."""
    if isinstance(block, dict):
        for key, inner in [("value", block["value"])] if "value" in block else block.items():
            yield from values(inner, f"{name}.{key}")
    elif isinstance(block, int | float):
        yield name, block


def test_a_stuck_pixel_is_dark_to_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = blobs(0)
    expected = images.copy()
    images[:, 0, 3, 4] = 1e8
    rest = np.delete(images.reshape(N, -1), 31, 1)
    images[7, 0, 0, 0] = 1e6
    expected[:, 0, 3, 4], expected[7, 0, 0, 0] = rest.min(), rest.max()
    write(tmp_path / "set.h5", images, labels, FACTORS, {})
    data = open_set(tmp_path / "set.h5")
    np.testing.assert_array_equal(looked_at(data)[0].images[:], expected)
    said = capsys.readouterr().err
    assert "the pixels of sample 7 (" in said and "pixel (0, 3, 4) is 1e+08, nearly the same in every image" in said


@pytest.mark.slow
def test_a_hot_pixel_in_any_part_leaves_all_blocks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run.parent
    clean = scored(run, folder / "clean.h5", folder / "fresh.h5", tmp_path, monkeypatch)
    assert "far outside" not in capsys.readouterr().err
    assert {"codes", "reading", "images", "baselines", "control", "joint", "verdicts"} <= clean["test"].keys()
    seen = set(np.linspace(0, N - 1, 64).astype(int))  # by the fingerprint, which tells the run's set from others
    in_train, in_test = ([row for row in part if row not in seen][:3] for part in (TRAIN, TEST))
    for hot in (in_train[:1], in_test[:2]):
        images, labels = blobs(0)
        images[hot, 0, 0, 1] = 1e8
        (tmp_path / "hot.h5").unlink(missing_ok=True)
        write(tmp_path / "hot.h5", images, labels, FACTORS, {})
        for kept in tmp_path.glob("*reader*"):
            kept.unlink()
        spoiled = scored(run, tmp_path / "hot.h5", folder / "fresh.h5", tmp_path, monkeypatch)
        first = min(hot)
        assert (
            f"hot.h5: images: the pixels of sample {first} ({images[first].min():g} to 1e+08)"
            in capsys.readouterr().err
        )
        for part, block in clean.items():
            known, found = dict(values(block)), dict(values(spoiled[part]))
            assert known.keys() == found.keys()
            off = {name: (known[name], found[name]) for name in known if abs(known[name] - found[name]) > 0.05}
            assert not off, (hot, part)
