"""The table of the weights of the KL from made-up scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from hpcauxvae.paper import betas
from hpcauxvae.paper.runs import EvaluatedRun
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError


def trial(folder: Path, beta: float, mse: float, lds: float, **fields: Any) -> EvaluatedRun:
    path = folder / f"{beta}{fields}"
    path.mkdir()
    fields = {"aux": "radius,g1,g2,flux,psf", "epochs": 8} | fields
    config = TrainConfig(data=Path("d"), out=path, model="beta-vae", beta=beta, **fields)
    scores = ({"mse": m, "lds": lds, "lds_attainable": 0.8} for m in (9.0, mse))
    early, last = ({"epoch": number, "validation": found} for number, found in enumerate(scores, 1))
    (path / "metrics.jsonl").write_text(f"{json.dumps(early)}\n{json.dumps(last)}\n")
    return EvaluatedRun(folder=path, config=config, metrics={})


def draw(runs: list[EvaluatedRun], out: Path) -> list[Path]:
    return betas.draw("betas", {run.folder.name: run for run in runs}, out)


def test_both_rules_and_what_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Front by hand: (1e-6, .2), (1e-5, .5), (1e-3, .6); scaled, the second is nearest to the ideal.

    By the paper's rule it is the one whose LDS is nearest to the mean of all.
    """
    monkeypatch.setitem(betas.BETA["beta-vae"], "galaxies", 10.0)
    others = [trial(tmp_path, 20, 1e-9, 0.7, epochs=7), trial(tmp_path, 10, 1e-9, 0.7, latents=7)]
    runs = [trial(tmp_path, *scores) for scores in ((10, 2e-5, 0.45), (1, 1e-6, 0.2), (20, 1e-3, 0.6), (5, 1e-5, 0.5))]
    (path,) = draw(others + runs, tmp_path)
    rows = path.read_text().splitlines()[-4:]
    assert rows == [
        "| galaxies | β-VAE | 8 | 1 | 1e-06 | 0.200 | 0.800 |  |",
        "| galaxies | β-VAE | 8 | 5 | 1e-05 | 0.500 | 0.800 | our rule |",
        "| galaxies | β-VAE | 8 | 10 | 2e-05 | 0.450 | 0.800 | taken, the paper's rule |",
        "| galaxies | β-VAE | 8 | 20 | 0.001 | 0.600 | 0.800 |  |",
    ]
    with pytest.raises(InputError, match="fewer than 2 evaluated trials of one model; hpcauxvae paper betas makes"):
        draw(runs[:1], tmp_path)
    with pytest.raises(InputError, match=r"beta = 5, as in .*, of which it differs in nothing; remove one"):
        draw([*runs, trial(tmp_path, 5, 1e-5, 0.5, keep_last=2)], tmp_path)
    (runs[0].folder / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"metrics.jsonl: is missing or empty; remove"):
        draw(runs, tmp_path)
