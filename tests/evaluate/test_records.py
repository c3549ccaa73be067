"""metrics.json as others read it, and what the table says of scores that rest on little."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest

from helpers.trainings import FACTORS, alone, blobs, config
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import evaluate
from hpcauxvae.evaluate.table import table
from hpcauxvae.paper.runs import find
from hpo.best import scored
from hpo.command import BestConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images of 6 x 6 pixels, which have no SSIM."""
    folder = tmp_path_factory.mktemp("runs")
    data = open_set(blobs(folder / "blobs.h5"))
    write(folder / "set.h5", np.array(data.images)[:, :, 13:19, 13:19], data.values, FACTORS, {})
    alone(config(folder / "set.h5", folder / "run", epochs=1, network="mlp"))
    return folder / "run"


def test_scores_are_strict_json_and_read_as_they_were(run: Path) -> None:
    """As those of an earlier version are, which wrote NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    path = run / "metrics.json"
    metrics = evaluate(EvaluateConfig(run=run, device="cpu", pictures=False, control=False))
    assert math.isnan(metrics["sets"]["test"]["images"]["ssim"]["value"])
    strict = json.loads(path.read_text(), parse_constant=refuse)
    assert strict["sets"]["test"]["images"]["ssim"] == {"value": None, "low": None, "high": None, "n": 0}
    assert strict["sets"]["test"]["images"]["mse"] == metrics["sets"]["test"]["images"]["mse"]
    for text in (path.read_text(), json.dumps(metrics)):
        path.write_text(text)
        (paper,), search = find(run.parent), scored(run, BestConfig(search=run))
        for found in (paper.metrics, search):
            assert json.dumps(found) == json.dumps(metrics)
            assert "not for sides under 7 pixels" in table(found["sets"])


def test_the_table_does_not_trust_trees_of_few_samples(run: Path) -> None:
    sets = evaluate(EvaluateConfig(run=run, device="cpu", pictures=False, control=False))["sets"]
    said = {}
    for n in (59, 60, 99, 100):
        block = copy.deepcopy(sets["test"])
        block["joint"]["radius"]["means"]["n"] = n
        line = next(
            line for line in table({"test": block}).splitlines() if line.startswith("  radius ") and "(lat" in line
        )
        said[n] = line.partition(")")[2]
    assert said == {
        59: "; R2 of 59 samples says nothing: 60 are needed",
        60: "; R2 of 60 samples is not to be trusted",
        99: "; R2 of 99 samples is not to be trusted",
        100: "",
    }
