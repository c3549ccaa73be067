"""The verdict is weighed, tables have what blocks of scores have, and each score and picture has its words."""

import pytest

from hpcauxvae.evaluate.verdicts import LOOKED_AT
from hpcauxvae.metrics import METRICS
from hpcauxvae.report import tables, words
from hpcauxvae.report.look import code
from hpcauxvae.report.verdict import verdict, weigh

SCORE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 1000}
NONE = {"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 1000}


def block(**parts) -> dict:
    images = {"ssim": SCORE, "mse": SCORE | {"value": 0.01}}
    plain = {"mean_image": images, "pca": images}
    latents = {"in_use": 9, "of": 10, "guided": 2, "off": [10], "follows": {"4": {"factor": "flux", "r": -0.98}}}
    found = {"codes": {}, "images": images, "baselines": plain, "latents": latents, "verdicts": []}
    return found | parts


@pytest.mark.parametrize(
    ("line", "weight"),
    [
        ("5 of 50 validation images and 32 of 1756 test images are training images, too", "care"),
        ("5 of 50 validation images and 132 of 1756 test images are training images, too", "grave"),
        ("images: 500 of 1000 fresh images are training images, too: what was learned by heart", "grave"),
        ("g2 is not read (r = 0.14)", "grave"),
        ("what is asked for is not what the same toy really looks like: beside the true view", "grave"),
        ("what is asked for is in part only what the same toy really looks like: beside", "care"),
        ("slant is reversed (r = -0.9, slope -0.9)", "grave"),
        ("g1 does not steer the image: asked against read r = 0.10", "grave"),
        ("g1 steers the image in part: asked against read r = 0.70", "care"),
        ("fold 1: g1 is read in part (r = 0.5)", "care"),
        ("the decoder draws the mean image (SSIM 0.5 against 0.5)", "grave"),
        ("the images are all the mean image: whether the decoder draws what differs cannot be judged", "remark"),
        ("8 of 8 residual latents are off: what nobody measured is not in the code", "care"),
        ("the training has done 3 of 9 epochs: these are its scores so far", "grave"),
        ("53 samples are too few to tell whether all residual latents together tell g1", "remark"),
        ("a perfect code has an LDS of 0.66 only: 144 samples have chance correlations", "remark"),
        ("a finding that is new", "care"),
    ],
)  # fmt: skip
def test_findings_have_their_weight(line, weight):
    assert weigh(line) == weight


def test_the_gravest_finding_comes_first_and_says_whether_to_trust():
    lines = ["53 samples are too few to tell it", "g1 is squeezed (slope 0.2)", "g2 is not read (r = 0.1)"]
    found = verdict(block(verdicts=lines, reading={"g1": {"r": SCORE, "error": SCORE, "unit": ""}}))
    assert [one.text for one in found.findings] == lines[::-1]
    assert found.said == "Do not trust this model as it is: 1 grave finding, 1 other finding and 1 remark."
    assert verdict(block(verdicts=lines[:2])).weight == "care"
    reading = {"g1": {"r": SCORE, "error": SCORE, "unit": ""}}
    low = "a perfect code has an LDS of 0.66 only"
    unasked = "Nothing was found that speaks against this model, but whether factors steer the image was not looked at"
    assert verdict(block(verdicts=[low], reading=reading)).said == f"{unasked}: 1 remark."
    assert verdict(block(verdicts=[low], reading=reading, control={"pairs": 512})).said == (
        "Nothing was found that speaks against this model: 1 remark."
    )
    clean = verdict(block(verdicts=["no finding; looked at x"], reading=reading, control={"pairs": 512}))
    assert (clean.said, clean.findings) == ("Nothing was found that speaks against this model.", [])
    untold = verdict(block(latents=block()["latents"] | {"guided": 0}))
    assert untold.said.startswith("Only its images are judged: it was told of no factor")
    assert clean.looked_at == [LOOKED_AT[key] for key in ("reading", "latents", "images", "control")]


def test_what_was_not_judged_is_not_said_to_be_well():
    reading = {"g1": {"r": SCORE, "error": SCORE, "unit": "deg"}}
    lines = ["g1 has the same value in all: whether it steers the image cannot be judged"]
    found = verdict(block(verdicts=lines, reading=reading))
    assert found.said.startswith("Nothing was found that speaks against this model, but not all of it could be judged")
    assert not any("g1" in line for line in found.knows)
    assert verdict(block(reading={"g1": reading["g1"] | {"r": NONE}})).knows == found.knows
    unscored = verdict(block())
    assert (unscored.weight, [one.weight for one in unscored.findings]) == ("care", ["care"])
    assert (
        weigh("g1 is read better in images that were asked for (r = 0.94) than in real ones (0.86), for …") == "remark"
    )


def test_what_it_knows_is_what_no_finding_names():
    reading = {name: {"r": SCORE, "error": SCORE, "unit": "deg"} for name in ("g1", "g10", "cos a", "sin a")}
    whole = {
        "kind": "periodic", "unit": "deg", "columns": ["cos a", "sin a"], "classes": 0, "chance": 90.0,
        "latents": {"error": SCORE}, "regressor": {"error": SCORE},
    }  # fmt: skip
    found = verdict(block(verdicts=["g1 is not read (r = 0.5)"], reading=reading, factors={"a": whole})).knows
    beside = "the residual latents together tell g10 (R2 0.15 from their means)"
    assert verdict(block(verdicts=[beside], reading=reading, factors={"a": whole})).knows[1].startswith("g1 is read")
    for line in (
        "fold 2: g10 is read in part",
        "the latent of g10 is off",
        "images are drawn with an offset of g10: 1",
    ):
        assert "g10" not in " ".join(verdict(block(verdicts=[line], reading=reading, factors={"a": whole})).knows)
    assert found[:2] == ["a is read: mean error 0.5 deg", "g10 is read to 0.500 deg (r = 0.500)"]
    assert found[2].startswith("images are drawn with SSIM 0.500 (mean image 0.500, PCA with 10 components 0.500)")
    assert (
        found[3]
        == "7 of 8 residual latents, for what the model was not told, are in use; latent 4 follows flux (r = -0.98)"
    )
    poor = verdict(block(verdicts=["the images are worse than the mean image (SSIM 0.1 against 0.2)"])).knows
    assert not any("images are drawn" in line for line in poor)


def test_twelve_classes_are_one_row_and_a_score_that_is_none_is_a_dash():
    columns = [f"shape={number}" for number in range(12)]
    each = {"r": SCORE, "slope": NONE, "error": SCORE, "unit": "", "regressor": {"r": SCORE, "error": SCORE}}
    whole = {
        "kind": "categorical", "unit": "", "columns": columns, "classes": 12, "chance": 0.1,
        "latents": {"accuracy": SCORE}, "regressor": {"accuracy": NONE},
    }  # fmt: skip
    given = block(reading=dict.fromkeys(["size", *columns], each), factors={"shape": whole})
    _, read, whole_table = tables.scores(given)
    assert [row[0].text for row in read.rows] == ["size"]
    assert read.rows[0][1] == ("0.500", "[0.400, 0.600]") and read.rows[0][2] == ("–", "")
    assert [cell.text for cell in whole_table.rows[0]][:2] == ["shape", "accuracy 0.50"]


def test_ceilings_and_shares():
    lds = SCORE | {"attainable": 0.8}
    rows = {row[0].text: row[1:] for row in tables.scores(block(codes={"lds": lds}, noiseless={"ssim": SCORE}))[0].rows}
    assert [cell.text for cell in rows["LDS"]] == ["0.500", "0.800", "0.625", "1,000"]
    assert rows["LDS"][2].below == "[0.500, 0.750]"
    assert [cell.text for cell in rows["SSIM"]][1:3] == ["0.500", "1.000"]
    assert [cell.text for cell in rows["MSE"]][1:3] == ["", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95711, "0.957"),
        (-0.5, "−0.500"),
        (0.0123456, "0.0123"),
        (26051.98, "26,052"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_numbers(value, text):
    assert tables.number(value) == text


def test_every_score_of_codes_has_its_words():
    known = {key.partition(".")[0] for key in words.SCORES} | {"leakage"}
    assert set(METRICS) <= known | {"lds_d", "lds_d_mean"}
    for of in words.PICTURES.values():
        assert of.how and of.bad.count("Bad:") == 1


def test_code_is_between_backticks_and_escaped():
    assert code("try `a<b` & c") == "try <code>a&lt;b</code> &amp; c"
    assert code("one ` alone") == "one ` alone"
