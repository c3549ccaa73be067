"""Who asks for a factor that `evaluate` has found not to steer the image is told so."""

import json
import shutil
from pathlib import Path

import pytest

from hpcauxvae.evaluate import command

LINES = [
    "radius does not steer the image: asked against read r = -0.03",
    "g1 steers the image in part: asked against read r = 0.60",
    "radius is read in part (r = 0.58)",
    "radius_2 does not steer the image: asked against read r = 0.01",
]


def test_what_was_found_of_the_factors_that_are_named(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run", symlinks=True)
    for number, (metrics, told) in enumerate(
        [(None, []), ({"sets": {"test": {"verdicts": LINES}}}, LINES[:1]), ({"sets": 3}, [])]
    ):
        if metrics is not None:
            (run / "metrics.json").write_text(json.dumps(metrics))
        assert command.generate([str(run), "--out", str(tmp_path / f"{number}.png"), "--set", "radius=0.5"]) == 0
        found = [line for line in capsys.readouterr().err.splitlines() if "`evaluate` has found" in line]
        assert found == [f"warning: `evaluate` has found: {line}" for line in told]
    (run / "metrics.json").write_text(json.dumps({"sets": {"test": {"verdicts": LINES}}}))
    assert command.generate([str(run), "--out", str(tmp_path / "x.h5"), "--sweep", "g1=-.1:.1:3"]) == 0
    assert LINES[1] in capsys.readouterr().err
