"""Each start of a training is noted with what made it, so that the page of the run can tell."""

import json
import shlex
import subprocess
import sys

import hpcauxvae
from helpers.places import ROOT
from helpers.trainings import alone, config
from hpcauxvae.runtime.provenance import provenance
from hpcauxvae.train.tracking import STARTS, note_start, starts


def test_a_resumed_run_keeps_its_earlier_starts_and_a_new_one_does_not(tmp_path):
    for epoch, step in ((0, 0), (0, 5), (3, 21)):
        note_start(tmp_path, {"epoch": epoch, "step": step, "command": f"from {step}"})
    assert [row["command"] for row in starts(tmp_path)] == ["from 0", "from 5", "from 21"]
    with (tmp_path / STARTS).open("a") as file:
        file.write('{"epoch": 4')
    assert len(starts(tmp_path)) == 3, "a line that was cut short"
    note_start(tmp_path, {"epoch": 0, "step": 0, "command": "anew"})
    assert [row["command"] for row in starts(tmp_path)] == ["anew"]
    assert starts(tmp_path / "earlier") == []


def test_a_training_notes_its_start(blobs_file, tmp_path):
    run = config(blobs_file, tmp_path / "run", network="mlp", epochs=1)
    assert alone(run) == 0
    (row,) = starts(tmp_path / "run")
    assert (row["epoch"], row["step"], row["processes"], row["device"]) == (0, 0, 1, "cpu")
    assert row["hpcauxvae"] == hpcauxvae.__version__


def test_what_made_it():
    program = "import json; from hpcauxvae.runtime.provenance import provenance; print(json.dumps(provenance()))"
    words = [sys.executable, "-c", program, "a b", "--out", "x"]
    own = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert shlex.split(own["command"])[1:] == ["a b", "--out", "x"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    assert head.startswith(own["commit"].rstrip("+")) and bool(own["commit"]) == bool(head)
    here = provenance()
    assert here["command"].split()[-1] and here["machine"] == own["machine"]


def test_a_package_that_lies_in_no_checkout_has_no_commit(tmp_path, monkeypatch):
    from hpcauxvae.runtime import provenance as module

    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    package = tmp_path / "site" / "hpcauxvae"
    (package / "runtime").mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "runtime" / "provenance.py"))
    assert provenance()["commit"] == "", "the checkout is another project's"
