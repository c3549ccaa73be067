"""The report is one page without a network, with every trial; the test split serves one configuration."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from hpcauxvae.train.config import TrainConfig
from hpcauxvae.types import InputError
from hpo import best, figures, report
from hpo.command import BestConfig
from hpo.logbook import SETTINGS, Logbook, Row
from hpo.problem import Objectives, declared_space
from hpo.search import main
from hpo.settings import SearchConfig
from hpo.strategies import Random


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Fourteen trials as a search leaves them, among them one of each state and a reason with markup in it."""
    axes = ("beta=0.1:10:log", "latents=4:12", "network=conv,mlp")
    config = SearchConfig(data=tmp_path / "x.h5", out=tmp_path, aux="a", vary=axes, epochs=8, max_evals=20)
    (tmp_path / SETTINGS).write_text(json.dumps({"settings": config.to_json(), "data": "0"}))
    logbook, rng = Logbook(tmp_path), np.random.default_rng(0)
    logbook.session(mark="none/", workers=2, time=0.0)
    for trial in range(14):
        state = {3: "failed", 5: "stopped"}.get(trial, "finished")
        point = {"beta": float(rng.uniform(0.1, 10)), "latents": int(rng.integers(4, 13)), "network": "mlp"}
        objectives = Objectives(10 ** rng.uniform(-6, -5), rng.uniform(0, 0.3)) if state != "failed" else None
        logbook.ask(trial, point)
        logbook.end(
            Row(
                trial=trial, point=point, state=state, reason="<b>killed</b>" if state == "failed" else "",
                objectives=objectives, epochs=4 if state == "stopped" else 8, started=trial // 2 * 30.0,
                ended=trial // 2 * 30.0 + 29, worker=f"node/{trial % 2}", rungs=[],
            )
        )  # fmt: skip
    logbook.ask(14, {"beta": 1.0, "latents": 4, "network": "conv"})
    return tmp_path


def test_the_page_stands_alone_and_has_every_trial(search):
    assert main(["report", str(search)]) == 0
    page = (search / "report.html").read_text()
    assert not re.search(r"https?:|<script|<link(?! rel=\"icon\" href=\"data:)|@import|url\(", page)
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) == 5
    for picture, name in zip(pictures, ("pareto", "hypervolume", "parallel", "importance", "workers"), strict=True):
        head, _, data = picture.partition(",")
        assert head == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size[0] > 900
        assert image.size == Image.open(search / "pictures" / f"{name}.png").size
    assert [int(number) for number in re.findall(r'<tr class="\w*"><td>(\d+)', page)] == list(range(14))
    assert "&lt;b&gt;killed" in page
    assert "14 of 20 ended: 12 finished, 1 stopped, 1 failed; 1 running" in page
    assert "4% of the epochs saved" in page, "4 of 13 times 8"


def test_the_page_says_what_the_test_split_was_used_for(search):
    assert "The test split was not looked at." in report.write(search).read_text()
    (search / "best").mkdir()
    (search / "best" / "chosen.json").write_text(json.dumps({"trial": 7, "point": {}, "epochs": 30}))
    page = report.write(search).read_text()
    assert "best --retrain used the test split for trial 7, trained for 30 epochs." in page
    assert "not looked at" not in page


def test_the_labels_of_a_large_space_can_be_read_on_the_page():
    """At the page's 1024 pixels; letters of less than 10 are a strain."""
    space = declared_space(TrainConfig(data=Path("x.h5"), aux="a", lambda2=1000.0))
    points = Random(space, [], 0, None)
    rows = [
        Row(
            trial=trial, point=points.ask(), state="finished", reason="", objectives=Objectives(1e-5, 0.1 * trial),
            epochs=1, started=0.0, ended=1.0, worker="here/0", rungs=[],
        )
        for trial in range(3)
    ]  # fmt: skip
    drawn = figures.parallel_coordinates(rows, space)
    drawn.canvas.draw()
    pixels = 1024 / max(1024, 160 * drawn.get_figwidth()) * 160 / 72
    assert all(text.get_fontsize() * pixels > 10 for text in drawn.findobj(Text) if text.get_text())
    assert {"10000", "learning_\nrate"} <= {text.get_text() for text in drawn.findobj(Text)}


@pytest.mark.parametrize("trials", [0, 1])
def test_a_young_search_has_a_report_too(search, trials):
    logbook = search / "journal.jsonl"
    kept = [line for line in logbook.read_text().splitlines(keepends=True) if json.loads(line).get("trial", 0) < trials]
    logbook.write_text("".join(kept))
    page = report.write(search).read_text()
    assert page.count("No trial finished yet.") == (4 if trials == 0 else 0)
    assert "Not drawn yet: it takes 10 finished trials." in page


def test_the_test_split_serves_one_configuration(search, capsys):
    assert main(["best", str(search)]) == 0
    shown = capsys.readouterr().out
    rows = [row for row in Logbook(search).rows if row.state == "finished"]
    front = [r for r in rows if not any(o.objectives.mse < r.objectives.mse and o.objectives.gap < r.objectives.gap
                                        for o in rows)]  # fmt: skip
    assert {int(number) for number in re.findall(r"^(?:front |chosen) #(\d+)", shown, re.M)} == {r.trial for r in front}
    assert "--resume auto" in shown
    (search / "best").mkdir()
    (search / "best" / "chosen.json").write_text(json.dumps({"trial": 99, "point": {}, "epochs": 40}))
    with pytest.raises(InputError, match="the test split was used for trial 99"):
        main(["best", str(search), "--retrain"])


def test_scores_over_seeds_stand_beside_their_ceilings():
    def metrics(value: float) -> dict:
        score = {"value": value, "low": 0, "high": 1, "n": 9, "attainable": 0.8}
        block = {"codes": dict.fromkeys(("lds", "lds_d", "sap"), score), "images": {"ssim": score, "mse": score}}
        return {"sets": {"test": block | {"noiseless": {"ssim": {"value": 0.98}, "mse": {"value": 0.01}}}}}

    table = best.summary([metrics(0.7), metrics(0.8)])["test"]
    assert table["lds"] == {"mean": 0.75, "sd": pytest.approx(0.05 * 2**0.5), "values": [0.7, 0.8], "ceiling": 0.8}
    assert "ceiling" not in table["sap"]
    assert table["ssim"]["ceiling"] == 0.98
    assert best.summary([metrics(0.7)])["test"]["lds"]["sd"] is None
    assert re.search(r"lds +0.75 +0.071 +0.8 +0.938", best.lines({"sets": {"test": table}}))


def test_a_run_is_scored_again_for_a_set_it_was_not_scored_on(tmp_path, monkeypatch):
    evaluated = []

    def evaluate(config):
        evaluated.append((config.run, config.fresh, config.noiseless))
        return {"sets": {}}

    monkeypatch.setattr(best, "evaluate", evaluate)
    saved = {"sets": {"test": 1}, "settings": {"fresh": "/fresh.h5", "noiseless": ["/a.h5", "/b.h5"]}}
    (tmp_path / "metrics.json").write_text(json.dumps(saved))
    known: list[dict] = [{}, {"fresh": Path("/fresh.h5")}, {"noiseless": (Path("/b.h5"),)}]
    unknown = [{"fresh": Path("/other.h5")}, {"noiseless": (Path("/b.h5"), Path("/c.h5"))}]
    for asked in known + unknown:
        best.scored(tmp_path, BestConfig(search=tmp_path, **asked))
    assert evaluated == [(tmp_path, Path("/other.h5"), ()), (tmp_path, None, (Path("/b.h5"), Path("/c.h5")))]


def test_the_summary_has_the_sets_of_all_runs():
    score = {"value": 0.5, "attainable": 0.8}
    block = {"codes": dict.fromkeys(("lds", "lds_d", "sap"), score), "images": {"ssim": score, "mse": score}}
    more = block | {"noiseless": {"ssim": {"value": 0.98}, "mse": {"value": 0.01}}}
    both = [{"sets": {"test": more, "fresh": block}}, {"sets": {"test": block}}]
    for metrics in (both, both[::-1]):
        table = best.summary(metrics)
        assert set(table) == {"test"}
        assert table["test"]["ssim"]["values"] == [0.5, 0.5]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settings": {}}', '{"settings": {"data": "x", "vary": 3}}'])
def test_damaged_settings_are_named(search, text):
    (search / SETTINGS).write_text(text)
    for command in (
        ["report", str(search)],
        ["best", str(search)],
        ["x.h5", "--out", str(search), "--aux=a", "--resume"],
    ):
        with pytest.raises(InputError, match=r"search.json: damaged, or of another version"):
            main(command)


def test_settings_of_another_version_are_named(search):
    saved = json.loads((search / SETTINGS).read_text())
    (search / SETTINGS).write_text(json.dumps(saved | {"settings": saved["settings"] | {"speed": 3}}))
    with pytest.raises(InputError, match=r"damaged, or of another version.*'speed'"):
        main(["report", str(search)])


def test_a_damaged_line_of_the_journal_is_named(search):
    path = search / "journal.jsonl"
    path.write_text(path.read_text().replace('"ended"', '"ended', 1))
    with pytest.raises(InputError, match=r"journal.jsonl: line 3 is damaged"):
        main(["report", str(search)])


def test_no_search_no_report(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(InputError, match="holds no search"):
            main(["report", str(path)])
