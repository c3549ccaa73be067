"""`hpcauxvae audit`, on images whose truth is known: verdicts, files, and what is refused."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from helpers.html_page import Page
from helpers.kinds import drawn as strokes
from helpers.places import ROOT
from helpers.trainings import alone, config
from hpcauxvae.audit.command import main
from hpcauxvae.audit.findings import Auditor, Candidate, fault_of
from hpcauxvae.audit.verdict import verdict
from hpcauxvae.data.guides import Guide
from hpcauxvae.types import Factor, InputError


def truths() -> ModuleType:
    """results/audit/truths.py."""
    spec = importlib.util.spec_from_file_location("truths", ROOT / "results" / "audit" / "truths.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(once: Callable) -> Path:
    """data.h5 and the run of it: 3,000 images of the five truths, trained for ten seconds without the candidates."""

    def make(folder: Path) -> None:
        data = truths().make(folder / "data.h5", 3, 3000)
        own = {"aux": "flux,size", "network": "mlp", "epochs": 20, "batch_size": 64}
        assert alone(config(data, folder / "run", **own)) == 0

    return once("audit", make)


@pytest.fixture(scope="module")
def found(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an audit of all candidates has written."""
    out = tmp_path_factory.mktemp("audit")
    assert main([str(folder / "run"), "--candidate", "all", "--out", str(out), "--device", "cpu"]) == 0
    return out


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "audit.json").read_text())


@pytest.mark.slow
def test_five_truths_are_told(found: Path) -> None:
    told = {name: of["verdict"] for name, of in read(found)["candidates"].items()}
    assert told == truths().TRUTHS


@pytest.mark.slow
def test_numbers_are_those_of_the_images(found: Path) -> None:
    """Half of `mixed` is in flux and size, by the way it was made; 0.49 % of psf at most can be seen."""
    of = read(found)["candidates"]
    assert of["mixed"]["others"]["r2"]["value"] == pytest.approx(0.5, abs=0.1)
    assert of["mixed"]["beyond"]["residual"]["gain"]["value"] == pytest.approx(0.5, abs=0.1)
    assert of["surface"]["others"]["r2"]["value"] > 0.98
    assert set(of["surface"]["of_others"]) == {"flux", "size"}
    assert abs(of["psf"]["reader"]["r2"]["value"]) < 0.03
    for one in of.values():
        assert one["images"] == {"training": 2100, "validation": 600, "test": 300}
        assert not set(one["held_by"]) & {"1", "2"}  # the guided ones


@pytest.mark.slow
def test_what_changes_in_the_image_is_where_the_companion_is(folder: Path) -> None:
    from hpcauxvae.audit.pictures import changed

    auditor = Auditor(folder / "run", folder, ("companion",), seed=0, device="cpu")
    low, middle, high = changed(auditor, auditor.of(auditor.candidates[0]))
    difference = (high - low)[0]
    row, column = np.unravel_index(np.abs(difference).argmax(), difference.shape)
    centre = (truths().SIDE - 1) / 2 + 5
    assert max(abs(row - centre), abs(column - centre)) < 1.5
    assert difference[row, column] > 0
    assert low[0, row, column] < middle[0, row, column] < high[0, row, column]


@pytest.mark.slow
def test_the_page_has_it_all(found: Path) -> None:
    page = Page.read(found / "audit.html")
    told = read(found)["candidates"]
    for of in told.values():
        assert of["words"] in page.text
    pictures = sorted(path.name for path in (found / "audit").iterdir())
    assert pictures == ["change-1.png", "change-4.png", "overview.png"]
    assert len(page.all("img")) == len(pictures)


@pytest.mark.slow
def test_a_second_audit_replaces_the_first(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "change-9.png").touch()
    own = tmp_path / "audit" / "without" / "last.safetensors"  # of an audit of a data set into ./audit
    own.parent.mkdir()
    own.touch()
    (tmp_path / "audit" / "change-of-plans.png").touch()
    asked = [str(folder / "run"), "--candidate", "lot", "--out", str(tmp_path), "--device", "cpu"]
    assert main(asked) == 0
    assert list(read(tmp_path)["candidates"]) == ["lot"]
    left = sorted(path.name for path in (tmp_path / "audit").iterdir())
    assert left == ["change-of-plans.png", "overview.png", "without"] and own.exists()
    said = capsys.readouterr().out
    assert "lot: not seen in the images" in said and "audit.html" in said


@pytest.mark.slow
def test_angles_and_classes(tmp_path: Path) -> None:
    """Known codes: two residual latents are the angle's cosine and sine, with noise; a reader knows the class, which no
    latent does, and of another factor nobody knows anything."""
    data = strokes(tmp_path / "strokes.h5", 900)
    assert alone(config(data, tmp_path / "run", aux="size", network="mlp", epochs=1, latents=6)) == 0
    auditor = Auditor(tmp_path / "run", tmp_path, ("azimuth", "shape", "is2"), seed=0, device="cpu")
    azimuth, shape, *_ = auditor.data.values.T
    rng = np.random.default_rng(0)
    mean_NZ = rng.standard_normal((len(shape), 6))
    mean_NZ[:, 2:4] = 3 * np.stack([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))], 1)
    mean_NZ[:, 2:4] += 0.3 * rng.standard_normal((len(shape), 2))
    auditor.__dict__["_codes"] = mean_NZ, np.zeros_like(mean_NZ)
    columns = (shape[:, None] == np.array([2.0, 5.0])) + 0.1 * rng.standard_normal((len(shape), 2))
    auditor.__dict__["read"] = {"shape": columns}
    found = {candidate.name: auditor.of(candidate).numbers for candidate in auditor.candidates}
    assert found["azimuth"]["latents"]["r2"]["value"] > 0.9
    assert found["azimuth"]["held_by"]["3"] + found["azimuth"]["held_by"]["4"] > 0.95
    assert {name: verdict(of, 0.01) for name, of in found.items()} == {
        "azimuth": "adds", "shape": "missed", "is2": "unseen"
    }  # fmt: skip
    assert found["shape"]["reader"]["accuracy"]["value"] > 0.95
    test = auditor.parts[2]
    assert found["shape"]["reader"]["chance"] == max((shape[test] == level).mean() for level in (1, 2, 5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "candidate is empty; allowed: --candidate NAME"),
        (["--candidate", "flux,all"], "candidate = flux,all; allowed: names of factors, or all alone"),
        (["--candidate", "flux", "--level", "0"], "level = 0.0; allowed: above 0"),
        (["--candidate", "flux", "--aux", "g1"], "aux = g1; allowed: with a data set, not with a run"),
        (["--candidate", "flux", "--with"], "with = True; allowed: with a data set, not with a run"),
        (["--candidate", "colour"], "factor 'colour' is unknown; known are radius, g1, flux"),
        (["--candidate", "g1"], "candidate g1 is auxiliary; allowed: flux"),
        (["--candidate", "flux"], "flux: measured in 32 of 32 validation images; allowed: 60 or more"),
    ],
)
def test_bad_input(options: list[str], said: str, trained_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError) as error:
        main([str(trained_run), *options, "--out", str(out)])
    assert said in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--candidate", "flux"], "aux is empty; allowed for a data set: --aux NAME"),
        (["--candidate", "flux", "--aux", "g1,flux"], "candidate flux is in aux = g1,flux"),
        (["--candidate", "colour", "--aux", "g1"], "factor 'colour' is unknown"),
        (["--candidate", "flux", "--aux", "g3"], "factor 'g3' is unknown"),
        (["--candidate", "flux", "--aux", "g1"], "flux: measured in 32 of 32 validation images; allowed: 60 or more"),
        (["--candidate", "all", "--aux", "g1", "--with"], "has no factor beside g1 that can be asked about"),
        (["--candidate", "flux", "--aux", "g1", "--data", "x.h5"], "data = x.h5; allowed: with a training run"),
    ],
)
def test_bad_input_of_a_set(options: list[str], said: str, blobs_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError) as error:
        main([str(blobs_file), *options, "--out", str(out)])
    assert said in str(error.value)
    assert not out.exists()


def test_one_of_several_processes_is_refused(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", 1), ("WORLD_SIZE", 2), ("LOCAL_RANK", 1), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match="audit: started as 2 processes; allowed: one"):
        main([str(trained_run), "--candidate", "flux", "--out", str(tmp_path / "out")])


def test_objects_are_counted_not_images() -> None:
    """100 test images of 100 objects will do, of 20 not."""
    guide = Guide(Factor("flux", "", 0, 1), (Factor("flux", "", 0, 1),))
    candidate = Candidate(guide, np.random.default_rng(0).random((300, 1)))
    parts = np.split(np.arange(300), 3)
    object_N = np.arange(300)
    assert fault_of(candidate, parts, object_N) == ""
    object_N[200:] = 200 + object_N[200:] % 20
    said = fault_of(candidate, parts, object_N)
    assert said == "measured in 100 test images of 20 objects; allowed: 60 objects or more"


def test_no_run_and_no_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or file; allowed: a training run, or a data set with --aux"):
        main([str(tmp_path / "no"), "--candidate", "flux"])
