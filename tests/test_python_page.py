"""docs/python.md and its notebook: every line of their code runs, and gives what they say."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.forked import run as command
from helpers.places import ROOT

PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def blocks() -> list[str]:
    """The indented blocks of the page."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in found]


@pytest.mark.slow
def test_the_page_can_be_typed(run_copy: Path, blobs_file: Path, tmp_path: Path, monkeypatch) -> None:
    """On a small run of the same factors; where a comment gives a shape, it is that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    run_copy.rename(tmp_path / "runs" / "case2")
    os.link(blobs_file, tmp_path / "galaxies.h5")
    known: dict[str, Any] = {}
    shapes = 0
    for block in blocks():
        if block.startswith("hpcauxvae "):
            done = command("-m", *shlex.split(block))
            assert done.returncode == 0, done.stderr
            continue
        for line in block.splitlines():
            code, _, comment = line.partition("#")
            exec(code, known)
            for shape in re.findall(r"\(\d[\d, ]*\)", comment):
                value = eval(code.strip(), known)
                value = value[0] if isinstance(value, tuple) and not isinstance(value[0], int) else value
                assert (value if isinstance(value, tuple) else np.shape(value)) == tuple(eval(shape)), line
                shapes += 1
    assert shapes >= 4 and known["drawn"].shape == (100, 1, 33, 33)
    np.testing.assert_allclose(known["drawn"], known["run"].decode(known["code"].mean), rtol=1e-3, atol=1e-2)


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_was_executed_from_top_to_bottom() -> None:
    assert [cell["execution_count"] for cell in cells()] == list(range(1, len(cells()) + 1))
    assert not [out for cell in cells() for out in cell["outputs"] if out["output_type"] == "error"]
    drawn = [out for cell in cells() for out in cell["outputs"] if "image/png" in out.get("data", {})]
    assert len(drawn) >= 2


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with its own training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    known: dict[str, Any] = {}
    for cell in cells():
        exec("".join(cell["source"]), known)
    assert known["error"] < 0.1 and known["shared"].encode(known["images"][:3]).mean.shape == (3, 6)
