"""The benchmarks of training and of import run, on data so small that their figures mean nothing."""

import json
import subprocess
import sys

import pytest

from helpers.places import ROOT
from helpers.trainings import blobs

FOLDER = ROOT / "benchmarks"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    ("script", "arguments", "row"),
    [
        ("step.py", ["--aux", "radius,g1", "--batch-size", "16", "--rounds", "1", "--only", "ours"], "ours"),
        ("scaling.py", ["--aux", "radius,g1", "--batch-size", "2", "--processes", "1", "--steps", "2"], "1"),
    ],
)
def test_benchmark(tmp_path, script, arguments, row):
    data, results = blobs(tmp_path / "blobs.h5"), tmp_path / "results.json"
    command = [sys.executable, FOLDER / script, data, *arguments, "--results", results]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert row in json.dumps(json.loads(results.read_text()))


@pytest.mark.slow
@pytest.mark.processes
def test_networks_side_by_side(tmp_path):
    command = [sys.executable, FOLDER / "networks.py", "--sizes", "8", "1x9", "--batch-size", "16", "--rounds", "1"]
    done = subprocess.run([*command, "--results", tmp_path / "x.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    for of_size in rows.values():
        assert of_size["conv"]["ratio"] == 1 and of_size["resnet"]["ratio"] > 0
        for row in of_size.values():
            assert row["flop"] > row["parameters"] > 0 and row["bytes"] > 16 * row["parameters"]


@pytest.mark.slow
@pytest.mark.processes
def test_import_beside_a_loop(tmp_path):
    pytest.importorskip("astropy.io.fits")
    command = [sys.executable, FOLDER / "data_import.py", "--arrays", "300", "--files", "20", "--repeats", "2"]
    done = subprocess.run([*command, "--results", tmp_path / "x.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [row["images"] for row in rows.values()] == [300, 300, 20]
    for row in rows.values():
        ratio = row["import over loop, by CPU time"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert row["import, by wall time"]["MB/s"] > 0
