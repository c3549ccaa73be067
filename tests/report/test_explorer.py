"""What the explorer is told of a run, and what is said where there can be none."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.explored import GUIDES
from helpers.trainings import alone, config
from hpcauxvae.data.guides import Guide
from hpcauxvae.report import command
from hpcauxvae.report import explorer as page
from hpcauxvae.report.explored import _angle, density
from hpcauxvae.types import Factor

SIZE, ANGLE = Factor("size", "cm", 0, 2), GUIDES[0]
BY_ANGLE = Guide(ANGLE, (Factor("cos azimuth", "", -1, 1), Factor("sin azimuth", "", -1, 1)))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with the names of the engine's: nothing runs it here."""
    for name in page.PARTS.values():
        (tmp_path / name).write_bytes(b"engine")
    monkeypatch.setattr(page, "ENGINE", tmp_path)


def apart(found: dict, code: list[float]) -> float:
    """The distance of a code from the nearest of the points."""
    points = np.frombuffer(base64.b64decode(found["points"]), "<f4").reshape(-1, len(code))
    spread = np.array(found["spread"])
    return float(np.sqrt(np.square((points - code) / spread).sum(1)).min())


def test_a_grid_is_near_to_itself() -> None:
    """Between neighbours nobody is warned, and outside the grid everybody is."""
    sizes, angles = (part.ravel() for part in np.meshgrid(np.linspace(0.5, 1.5, 11), np.arange(-180, 180, 30.0)))
    labels = np.stack([sizes, angles], 1)
    found = density([Guide(SIZE, (SIZE,)), BY_ANGLE], labels, labels[::7])
    turn = np.radians(195)  # half-way between 180 and 210 degrees of a turn
    between = [0.525, (np.cos(turn) + 1) / 2, (np.sin(turn) + 1) / 2]
    assert 0 < apart(found, between) < found["threshold"]
    assert apart(found, [1.0, 0.5, 0.5]) > found["threshold"], "in the middle of the circle no angle lies"


def test_a_threshold_is_that_of_validation() -> None:
    """Of a correlated pair: on the line is near, off it is far, and labels that are missing tell nothing."""
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 2, 4000)
    labels = np.stack([one, one + 0.02 * rng.normal(size=4000)], 1)
    labels[::10, 1] = np.nan
    other = SIZE._replace(name="other")
    guides = [Guide(SIZE, (SIZE,)), Guide(other, (other,))]
    found = density(guides, labels[:3000], labels[3000:])
    assert sum(apart(found, (u / 2).tolist()) > found["threshold"] for u in labels[3001::100]) <= 1
    assert apart(found, [0.3, 0.7]) > 5 * found["threshold"]


def test_without_an_engine_it_says_how_to_get_it(trained_run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(page, "ENGINE", tmp_path)
    found = page.explorer(trained_run)
    assert found.startswith('<section id="explorer"') and "<code>" not in found
    assert "`make engine`" in found and "<script" not in found


@pytest.mark.usefixtures("engine")
def test_without_guided_latents_or_data_there_is_none(trained_run: Path, blobs_file: Path, tmp_path, capsys) -> None:
    assert alone(config(blobs_file, tmp_path / "beta", model="beta-vae", aux="", epochs=1, network="mlp")) == 0
    capsys.readouterr()
    assert page.explorer(tmp_path / "beta") == ""
    assert "no guided latents" in capsys.readouterr().err
    assert page.explorer(trained_run, data=tmp_path / "gone.h5") == ""
    assert "gone.h5: no such file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_what_it_is_told(trained_run: Path) -> None:
    """JSON that ends no script, codes of as many images as it names, and ranges of the training labels."""
    found = page.explorer(trained_run)
    told = json.loads(found.split('class="told">')[1].split("</script>")[0])
    assert found.count("<script") == found.count("</script>") == 5 and "http" not in found.split("<script")[0]
    for part in (told["test"], told["train"]):
        assert len(base64.b64decode(part["codes"])) == 4 * 10 * len(part["rows"])
    assert not set(told["test"]["rows"]) & set(told["train"]["rows"])
    radius = told["guides"][0]
    assert 0.1 < radius["seen"][0] < 0.15 and 0.95 < radius["seen"][1] < 1.0 and radius["factor"]["unit"] == "arcsec"
    assert len(told["axes"]) == 2 + np.count_nonzero(told["spread"])


@pytest.mark.usefixtures("engine")
def test_the_page_of_one_run_has_it_and_of_several_or_unasked_none(trained_run: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("onnxscript")
    out, other = tmp_path / "page.html", shutil.copytree(trained_run, tmp_path / "other", symlinks=True)
    for words, count in (([trained_run], 1), ([trained_run, "--no-explorer"], 0), ([trained_run, other], 0)):
        assert command.report([*map(str, words), "--out", str(out)]) == 0
        assert out.read_text().count('<section id="explorer"') == count
        assert ('href="#explorer"' in out.read_text()) == bool(count)
    assert command.report([str(trained_run), "--data", str(tmp_path / "gone.h5"), "--out", str(out)]) == 0
    assert "note: no explorer: " in capsys.readouterr().err and 'id="explorer"' not in out.read_text()


def test_the_cosine_is_known_by_its_name_in_any_order() -> None:
    for names in (("sine", "cosine"), ("cosine", "sine"), ("sin a", "cos a"), ("a_cos", "a_sin")):
        cosine, sine = _angle((0, 1), names)["pair"]
        assert "cos" in names[cosine] and "cos" not in names[sine]


@pytest.mark.usefixtures("engine")
def test_evaluate_keeps_the_explorer_of_the_page_that_it_replaces(evaluated_copy: Path, capsys) -> None:
    """Or says why it cannot."""
    pytest.importorskip("onnxscript")
    page_of_run, words = evaluated_copy / "report.html", [str(evaluated_copy), "--device", "cpu"]
    for first, count in (["--no-explorer"], 0), ([], 1):
        assert command.report([str(evaluated_copy), *first]) == 0
        before = page_of_run.stat().st_mtime_ns
        assert command.evaluate([*words, "--no-control", "--no-pictures"]) == 0
        assert page_of_run.stat().st_mtime_ns > before
        assert page_of_run.read_text().count('<section id="explorer"') == count
    assert "no explorer" not in capsys.readouterr().err
    (page.ENGINE / page.PARTS["wasm"]).unlink()
    assert command.evaluate([*words, "--no-control", "--no-pictures"]) == 0
    assert page.NO_ENGINE in page_of_run.read_text()


@pytest.mark.usefixtures("engine")
def test_a_page_that_would_be_too_large_has_none_and_names_what_has(trained_run: Path, monkeypatch, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    size = len(page.explorer(trained_run))
    assert size < page.MOST_BYTES
    monkeypatch.setattr(page, "MOST_BYTES", size // 2)
    assert command.report([str(trained_run), "--out", str(tmp_path / "x.html")]) == 0
    told = f"note: no explorer: it would add {size / 1e6:.0f} MB to the page; `hpcauxvae report RUN --serve` has one\n"
    assert capsys.readouterr().err.endswith(told)
    assert "Not evaluated yet" in (tmp_path / "x.html").read_text()


@pytest.mark.usefixtures("engine")
def test_without_onnx_it_names_what_does_without(trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("hpcauxvae.evaluate.export._PACKAGES", ("onnx_of_nobody",))
    assert page.explorer(trained_run) == ""
    told = "ONNX needs onnx_of_nobody; `pip install 'hpcauxvae[export]'` mends it; `hpcauxvae report RUN --serve`"
    assert capsys.readouterr().err == f"note: no explorer: {trained_run}: {told} has one\n"
