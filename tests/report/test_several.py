"""Runs stand side by side, with what `compare` finds; runs that cannot be compared have a page that says why."""

from pathlib import Path

from helpers.html_page import Page
from helpers.trainings import alone, blobs, config
from hpcauxvae.report import command, page


def score(value: float, wide: float = 0.01) -> dict:
    return {"value": value, "low": value - wide, "high": value + wide, "n": 100}


def test_runs_stand_side_by_side(evaluated_run: Path, evaluated_copy: Path, tmp_path: Path) -> None:
    words = [str(evaluated_run), str(evaluated_copy), "--device", "cpu", "--out", str(tmp_path / "x.html")]
    assert command.report(words) == 0
    found = Page.read(tmp_path / "x.html")
    assert found.all("h1")[0].text == "Runs run, copy"
    each = [e.text for e in found.all("h3")]
    assert each == ["run", "copy"] * (len(each) // 2) and len(each) >= 16
    assert len(found.all("img")) == 2 * 6 + 1
    assert "Side by side on 16 images that are test images of each run" in [e.text for e in found.all("caption")]
    row = next(e.text for e in found.all("tr") if e.text.startswith("error of radius [arcsec]"))
    assert row.endswith("0.000 [0.000, 0.000]"), "the same weights"
    assert "no difference between copy and run" in found.text
    settings = [e.text for e in found.all("summary")]
    assert settings == ["All settings of run", "All settings of copy", "All scores of run", "All scores of copy"]


def test_differences_have_their_sign_and_their_sense() -> None:
    entry = {"better": "lower", "unit": "arcsec", "values": [score(0.5), score(0.3), None]}
    scores = {
        "error of radius": entry | {"differences": [None, score(-0.2), None]},
        "sap": {"better": "higher", "unit": "", "values": [score(0.5)] * 3}
        | {"differences": [None, score(0.001), score(-0.1)]},
    }
    names = ["a", "<b>", "c"]
    runs = [{"name": name, "differs": ["seed = 1 (0)"] * (name != "a")} for name in names]
    block = {"samples": 1638, "scores": scores, "left_out": ["psf is left out"], "verdicts": ["b is better"]}
    found = page.compared({"runs": runs, "sets": {"test": block}})
    (table,) = found.tables
    assert table.caption == "Side by side on 1,638 images that are test images of each run"
    assert table.head == ["Score", "a", "<b>", "<b> less a", "c", "c less a"]
    rows = {row[0].text: row[1:] for row in table.rows}
    assert [cell.text for cell in rows["error of radius [arcsec]"]] == ["0.500", "0.300", "−0.200 better", "", ""]
    assert [cell.text for cell in rows["SAP"]][2::2] == ["+0.001", "−0.100 worse"]
    assert rows["SAP"][2].below == "[−0.009, 0.011]"
    assert table.words == "psf is left out. b is better."
    assert found.lines == ["<b> differs from a in seed = 1 (0).", "c differs from a in seed = 1 (0)."]


def test_runs_of_two_data_sets_say_why_there_are_no_differences(evaluated_run: Path, tmp_path: Path, capsys) -> None:
    blobs(tmp_path / "other.h5", seed=1)
    assert alone(config(tmp_path / "other.h5", tmp_path / "other", network="mlp", epochs=1)) == 0
    words = [str(evaluated_run), str(tmp_path / "other"), "--device", "cpu", "--out", str(tmp_path / "x.html")]
    assert command.report(words) == 0
    assert "warning: the runs are not compared" in capsys.readouterr().err
    found = Page.read(tmp_path / "x.html")
    assert "No differences of these runs are known: " in found.text and "was trained on another data set" in found.text
    assert "Not evaluated yet" in found.text and "LDS, guided latents" in found.text
    assert len(found.all("img")) == 6 + 1
