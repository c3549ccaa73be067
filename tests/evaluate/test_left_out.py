"""A factor that is known too seldom is left out of the scores; pixels beyond the reach of an objective are named."""

from pathlib import Path

import numpy as np
import pytest

from helpers.trainings import FACTORS, blobs
from hpcauxvae.data.hdf5 import open_set, write
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator


def fresh(tmp_path: Path, seldom: int) -> Path:
    """Images below 0 here and there, in which a factor is known of two alone."""
    data = open_set(blobs(tmp_path / "blobs.h5", seed=1))
    values = data.values.copy()
    values[2:, seldom] = np.nan
    write(tmp_path / "fresh.h5", np.array(data.images) - 20, values, FACTORS, {})
    return tmp_path / "fresh.h5"


@pytest.mark.parametrize(("seldom", "otherwise"), [(2, "left out of the scores"), (1, "without it no code is scored")])
def test_two_samples_are_too_few(
    seldom: int, otherwise: str, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fresh(tmp_path, seldom)
    evaluator = Evaluator(EvaluateConfig(run=trained_run, fresh=path, device="cpu", control=False))
    _, scored = evaluator.sets()
    block, _ = evaluator.scores(scored)
    said = capsys.readouterr().err
    name = FACTORS[seldom].name
    assert (
        f"warning: {path}: factors, {name}: measured in 2 of 160 fresh samples, but a score needs 4: {otherwise}"
        in said
    )
    share = (np.array(open_set(path).images) < 0).mean()
    assert f"warning: {share:.1%} of the fresh pixels in {path} are below 0 and count as 0" in said
    assert "test pixels" not in said
    assert block["images"]["ssim"]["n"] == 160
    assert bool(block["codes"]) == (seldom == 2)
    if block["codes"]:
        assert list(block["codes"]["leakage"]["hidden_from_aux"]) == []
