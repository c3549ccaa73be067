"""The table beside Table 1 from made-up scores."""

from pathlib import Path
from typing import Any

import pytest

from hpcauxvae.paper import findings
from hpcauxvae.paper.runs import EvaluatedRun
from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 90}


def block(**more: Any) -> dict[str, Any]:
    reading = {"radius": {"r": score(-0.5), "slope": score(-0.25), "regressor": {"r": score(0.75)}}}
    return {
        "reading": reading,
        "images": {"ssim": score(0.9)},
        "latents": {"in_use": 3, "of": 10},
        "verdicts": ["radius is reversed"],
    } | more


def run(name: str, seed: int, sets: dict[str, Any]) -> EvaluatedRun:
    config = TrainConfig(data=Path("d"), out=Path(name), aux="radius,g1,g2", seed=seed)
    return EvaluatedRun(folder=Path(name), config=config, metrics={"sets": sets})


def test_a_row_for_each_factor_with_what_was_scored(tmp_path: Path) -> None:
    steered = {"radius": {"asked": {"r": score(0.125), "slope": score(0.0625)}, "real": {"r": score(0.875)}}}
    whole = block(
        control={"effectiveness": steered, "reversibility": score(0.3), "minimality": None},
        joint={"radius": {"samples": score(0.4), "chance": score(-0.01)}},
        random_features={"rms": score(0.08), "floor": 0.0066},
    )
    runs = {"b": run("b", 1, {"test": whole}), "a": run("a", 0, {"test": block()}), "old": run("old", 2, {"test": {}})}
    (path,) = findings.draw("findings", runs, tmp_path)
    text = path.read_text()
    assert [line for line in text.splitlines() if line.startswith("| Aux-VAE")] == [
        "| Aux-VAE | a | test | radius | -0.500 | -0.250 | 0.750 |  |  |  |  |  |",
        "| Aux-VAE | b | test | radius | -0.500 | -0.250 | 0.750 | 0.125 | 0.062 | 0.875 | 0.400 | -0.010 |",
    ]
    told = "3 of 10 latents in use; random features correlate by 0.0800 (chance 0.0066); reversibility 0.300"
    assert f"Aux-VAE, b, test, n = 90; {told}:\n\n- radius is reversed\n" in text


def test_runs_without_a_reading_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run with a reading of its guided factors; `hpcauxvae evaluate RUN`"):
        findings.draw("findings", {"old": run("old", 0, {"test": {}})}, tmp_path)
