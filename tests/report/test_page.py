"""The page of a run stands alone, can be read by those who do not see it, and says what `evaluate` found."""

import base64
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from helpers.html_page import Page
from helpers.trainings import alone, config
from hpcauxvae import cli
from hpcauxvae.data.hdf5 import write
from hpcauxvae.evaluate.command import predict
from hpcauxvae.report import command, page
from hpcauxvae.train import checkpoint
from hpcauxvae.types import Factor, InputError

SECTIONS = ["verdict", "what", "scores", "training", "scatter", "traversal", "reconstructions", "ssim", "correlations"]
SECTIONS += ["leakage"]


def report(*words: object) -> Page:
    """Of a command line that ends with --out FILE; without the explorer, which has tests of its own."""
    assert command.report(["--no-explorer", *(str(word) for word in words)]) == 0
    return Page.read(Path(str(words[-1])))


def changed(path: Path, change) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def test_the_page_stands_alone(evaluated_run):
    text = (evaluated_run / "report.html").read_text()
    found = Page(text)
    assert not found.all("script", "iframe", "object", "embed")
    assert not re.search(r"https?:|@import|url\(", re.sub(r'"data:image/png;base64,[^"]*"', "", text))
    ids = [e.given["id"] for e in found.elements if "id" in e.given]
    assert len(ids) == len(set(ids))
    for element in found.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            to = element.given.get(name, "#main")
            assert to.startswith("data:") or (to[0] == "#" and to[1:] in ids), to
        for name in ("aria-labelledby",):
            assert element.given.get(name, "main") in ids


def test_the_parts_stand_in_their_order_with_every_picture(evaluated_run):
    found = Page.read(evaluated_run / "report.html")
    assert [e.given["id"] for e in found.all("h2")][: len(SECTIONS)] == SECTIONS
    pictures = [path.stem.removesuffix("-test") for path in (evaluated_run / "pictures").glob("*.png")]
    assert len(found.all("img")) == len(pictures) == 6
    for shown, kind in zip(found.all("img"), [kind for kind in SECTIONS if kind in pictures], strict=True):
        head, _, data = shown.given["src"].partition(",")
        assert head == "data:image/png;base64"
        name = kind if kind == "training" else f"{kind}-test"
        own = Image.open(evaluated_run / "pictures" / f"{name}.png")
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == own.size == (int(shown.given["width"]), int(shown.given["height"]))
        apart = np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(own.convert("RGB")).astype(int))
        assert np.sqrt((apart**2).mean()) < 4, "a palette changes a picture less than can be seen"


def test_who_does_not_see_it_can_use_it(evaluated_run):
    found = Page.read(evaluated_run / "report.html")
    assert found.all("html")[0].given["lang"] == "en"
    levels = [int(e.tag[1]) for e in found.all("h1", "h2", "h3")]
    assert levels.count(1) == 1 and levels[0] == 1 and all(b <= a + 1 for a, b in pairwise(levels))
    alts = [e.given["alt"] for e in found.all("img")]
    assert len(set(alts)) == len(alts) and all(len(alt) > 30 for alt in alts)
    assert "r −" in "".join(alts) or "r 0." in "".join(alts), "the figures that a picture shows"
    first = found.all("a")[0]
    assert (first.given["href"], first.kinds) == ("#main", {"skip"})
    for box in found.all("div", kind="wide") + found.all("div", kind="card"):
        assert box.given["tabindex"] == "0" and box.given["aria-label"]
    assert all(e.given.get("scope") in ("col", "row") for e in found.all("th"))
    css = found.all("style")[0].text
    assert "prefers-color-scheme: dark" in css and "@media print" in css


def test_every_score_and_its_interval_stand_on_the_page(evaluated_run):
    block = json.loads((evaluated_run / "metrics.json").read_text())["sets"]["test"]
    text = Page.read(evaluated_run / "report.html").text
    for score in (
        block["codes"]["lds"],
        block["codes"]["sap"],
        block["images"]["ssim"],
        block["baselines"]["pca"]["mse"],
    ):
        value, low, high = (page.tables.number(score[key]) for key in ("value", "low", "high"))
        assert f"{value} [{low}, {high}]" in text or f"{value}[{low}, {high}]" in text
    assert page.tables.number(block["codes"]["lds"]["attainable"]) in text
    for line in block["verdicts"]:
        assert " ".join(line.replace("`", "").split()) in text
    for fact in ("112", "33 × 33", "0.1 to 1", "arcsec", "aux-vae", "tuned", "2 of 2 epochs"):
        assert fact in text
    fingerprint = checkpoint.read(evaluated_run / "last.safetensors")[1]["fingerprint"]
    assert fingerprint in text


def test_what_made_the_run_is_told(evaluated_run):
    start = json.loads((evaluated_run / "starts.jsonl").read_text())
    text = Page.read(evaluated_run / "report.html").text
    assert all(str(start[key]) in text for key in ("command", "machine", "time", "python"))
    assert "1 process on cpu" in text


def test_a_run_of_an_earlier_version_has_the_command_of_its_settings(evaluated_copy, tmp_path):
    (evaluated_copy / "starts.jsonl").unlink()
    text = report(evaluated_copy, "--out", tmp_path / "x.html").text
    options = "--aux radius,g1 --objective tuned --epochs 2 --device cpu --batch-size 16"
    assert re.search(rf"hpcauxvae train \S+blobs.h5 --out \S+ {options} \(from its settings\)", text)
    assert "not noted: the run is of an earlier version" in text


def test_names_with_markup_are_harmless(evaluated_copy, tmp_path):
    evil = '<b onclick="x">&"\'</b>'
    tensors, state = checkpoint.read(evaluated_copy / "last.safetensors")
    state["factors"][0][0] = state["config"]["aux"] = state["config"]["data"] = evil
    checkpoint.write((evaluated_copy / "last.safetensors").resolve(), tensors, state)

    def rename(metrics: dict) -> None:
        block = metrics["sets"]["test"]
        block["verdicts"], block["data"] = [f"{evil} is not read", f"{evil}: `{evil}`"], evil
        for key in ("reading", "joint"):
            block[key][evil] = block[key].pop("radius")

    changed(evaluated_copy / "metrics.json", rename)
    where = tmp_path / evil.replace("/", "")
    evaluated_copy.rename(where)
    found = report(where, "--out", tmp_path / "x.html")
    assert not found.all("b") and not any("onclick" in e.given for e in found.elements)
    assert evil.replace("/", "") in found.all("h1")[0].text
    assert evil in found.text and any(evil in e.given["alt"] for e in found.all("img"))
    assert f"{evil} is not read" in [e.text.removeprefix("grave ") for e in found.all("li")]


def test_scores_that_are_none_are_dashes(evaluated_copy, tmp_path):
    def without(metrics: dict) -> None:
        block = metrics["sets"]["test"]
        for of in (block["images"], *block["baselines"].values(), block["codes"]):
            for name in ("ssim", "ssim_range_1", "sap"):
                if name in of:
                    of[name] |= {"value": None, "low": None, "high": None}
        block["reading"]["radius"]["slope"] |= {"value": None, "low": None, "high": None}

    changed(evaluated_copy / "metrics.json", without)
    text = report(evaluated_copy, "--out", tmp_path / "x.html").text
    text = text.partition("All settings")[0] + text.partition("Scores beside their ceilings")[2]
    assert not re.search(r"\b(nan|NaN|None|null)\b", text)
    assert re.search(r"SAP How much better [^–]*?no preference\. ?–", text)
    assert "images are drawn with MSE" in text or "mean image" in text


def test_many_remarks_are_folded(evaluated_copy, tmp_path):
    """As of a run with twelve factors of which none is read; all that is worse stays in sight."""
    for count in (5, 6):
        remarks = [f"q{j}: whether it steers the image cannot be judged" for j in range(count)]
        lines = ["radius is not read", *remarks, "radius is squeezed"]
        changed(evaluated_copy / "metrics.json", lambda given: given["sets"]["test"].update(verdicts=lines))  # noqa: B023
        found = report(evaluated_copy, "--out", tmp_path / "x.html")
        folds = [e.text for e in found.all("details")]
        texts = [e.text for e in found.all("ul", kind="findings")]
        assert texts[0].startswith("grave radius is not read care radius is squeezed")
        assert " ".join(texts).count("remark ") == count
        assert (len(texts), sum(fold.startswith("6 remarks") for fold in folds)) == ((1, 0) if count == 5 else (2, 1))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_model_that_is_told_of_no_factor(tmp_path, labelled):
    images = np.random.default_rng(0).poisson(9, (60, 1, 8, 8)).astype(np.float32)
    values, factors = (images.mean((1, 2, 3))[:, None].astype(float), (Factor("level", "", 0, 20),))
    write(tmp_path / "x.h5", images, *((values, factors) if labelled else (None, ())), {})
    asked = config(
        tmp_path / "x.h5", tmp_path / "run", model="beta-vae", aux="level" * labelled, network="mlp", epochs=1
    )
    assert alone(asked) == 0
    assert command.evaluate([str(tmp_path / "run"), "--device", "cpu"]) == 0
    found = Page.read(tmp_path / "run" / "report.html")
    assert "none was told of a factor" in found.text
    assert ("none guided; scored against level" in found.text) == labelled
    assert ("The data have no factors." in found.text) == (not labelled)
    assert ("scatter" in [e.given["id"] for e in found.all("h2")]) == labelled
    assert "A model without guided latents cannot be asked for factors" in found.text


def test_a_run_that_is_not_evaluated_yet(run_copy, tmp_path):
    found = report(run_copy, "--out", tmp_path / "x.html")
    assert "Not evaluated yet" in found.text and f"hpcauxvae evaluate {run_copy}" in found.text
    assert [e.given["id"] for e in found.all("h2")] == ["verdict", "what", "scores", "training"]
    assert [e.given["alt"][:18] for e in found.all("img")] == ["Curves of 2 epochs"]


def test_evaluate_says_where_the_page_is_and_without_pictures_it_has_none(evaluated_copy, capsys):
    words = [str(evaluated_copy), "--no-control", "--no-pictures", "--device", "cpu"]
    assert command.evaluate(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"written: {evaluated_copy}/metrics.json, codes-*.h5; to look at: {evaluated_copy}/report.html"
    found = Page.read(evaluated_copy / "report.html")
    assert not found.all("img") and "unless with --no-pictures" in found.text


def test_results_elsewhere_have_their_page_there(evaluated_copy, tmp_path):
    words = [str(evaluated_copy), "--no-control", "--no-pictures", "--device", "cpu", "--out", str(tmp_path / "other")]
    before = (evaluated_copy / "report.html").read_bytes()
    assert command.evaluate(words) == 0
    assert Page.read(tmp_path / "other" / "report.html").all("h1")[0].text == "Run copy"
    assert (evaluated_copy / "report.html").read_bytes() == before


def test_a_fragment_has_its_place(evaluated_run):
    fragment = "<p id='mine'>1 &lt; 2</p><script>if (1 < 2) {}</script>"
    text = page.page([page.of_run(evaluated_run)], explorer=fragment)
    assert fragment in text
    found = Page(text)
    order = [e.given["id"] for e in found.elements if e.given.get("id") in ("verdict", "mine", "what")]
    assert order == ["verdict", "mine", "what"] and "#explorer" in [e.given["href"] for e in found.all("a")]
    assert "#explorer" not in page.page([page.of_run(evaluated_run)])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda run: (run / "metrics.json").write_text("{"), "metrics.json: is damaged: .*evaluate .* writes it anew"),
        (lambda run: (run / "metrics.json").write_text("[]"), "metrics.json: is damaged: holds no object"),
        (lambda run: (run / "metrics.json").write_text("{}"), "metrics.json: has no sets"),
        (lambda run: (run / "metrics.json").write_text('{"sets": {"test": {}}}'), "cannot be told of: KeyError"),
        (lambda run: (run / "pictures" / "ssim-test.png").write_bytes(b"no"), "ssim-test.png: is no picture"),
        (lambda run: (run / "last.safetensors").unlink(), "last.safetensors: no such checkpoint"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_one_line(evaluated_copy, tmp_path, spoil, words):
    spoil(evaluated_copy)
    with pytest.raises(InputError, match=words):
        report(evaluated_copy, "--out", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "nothing: no such folder; allowed: that of a training run"),
        ([], "runs"),
        ([".", "--out", "x.pdf"], "out = x.pdf; allowed: a name that ends in .html"),
        ([".", "--out", "no/x.html"], "no such checkpoint|no: cannot be written"),
    ],
)
def test_bad_input_ends_with_2(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hpcauxvae", "report", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 2 and re.search(said, shown.err + shown.out)


def test_what_calibrated_intervals_hold(evaluated_copy, blobs_file, tmp_path):
    """Counted here once more, from the table that `predict` makes of the same images."""
    words = [str(evaluated_copy), str(blobs_file), str(tmp_path / "x.h5"), "--device", "cpu"]
    assert predict(words) == 0
    found = report(evaluated_copy, "--out", tmp_path / "x.html")
    with h5py.File(tmp_path / "x.h5") as table, h5py.File(evaluated_copy / "codes-test.h5") as codes:
        test_N, labels_N = codes["index"][:], codes["factors"][:, 0]
        low_N, high_N = (table[f"radius_{end}95"][:][test_N] for end in ("low", "high"))
        share = np.mean((low_N <= labels_N) & (labels_N <= high_N))
        width = np.median(high_N - low_N)
    shown = next(e.text for e in found.all("tr") if e.text.startswith("radius mean error"))
    with h5py.File(evaluated_copy / "codes-test.h5", "r+") as codes:
        codes.attrs["weights"] = "of an earlier training"
    other = report(evaluated_copy, "--out", tmp_path / "y.html")
    assert not any(e.text.startswith("radius mean error") for e in other.all("tr"))
    assert f"{100 * share:.1f} %" in shown and f"width {page.tables.number(width)} arcsec" in shown
    assert any(e.given["alt"].startswith("Lines of what intervals cover") for e in found.all("img"))
