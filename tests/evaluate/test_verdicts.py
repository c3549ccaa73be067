"""What evaluate says of models that are known: each fault is named with its figure, a clean model is not accused."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.places import ROOT
from helpers.trainings import alone, config
from hpcauxvae.data.hdf5 import split, write
from hpcauxvae.data.remarks import about_copies
from hpcauxvae.evaluate import scores, set_pictures, steering, verdicts
from hpcauxvae.evaluate.command import EvaluateConfig
from hpcauxvae.evaluate.scores import Evaluator, Scored
from hpcauxvae.evaluate.table import table
from hpcauxvae.metrics.lds import lds, lds_mean
from hpcauxvae.metrics.leakage import leakage
from hpcauxvae.types import Factor

FACTORS = (Factor("bright", "count", 0, 10), Factor("wide", "pixel", 1, 3), Factor("shift", "pixel", -2, 2))
N, LATENTS = 1500, 6
SHIFT = 2
"""The residual latent that holds what nobody measured."""


def drawn(u_NF: NDArray) -> NDArray:
    """Blobs of 9 x 9 pixels, as bright, wide and far to the right as the factors in [0, 1] say."""
    bright, wide, shift = (f.unscale(u)[:, None, None] for f, u in zip(FACTORS, u_NF.T, strict=True))
    y, x = np.mgrid[-4:5, -4:5]
    return ((20 + bright) * np.exp(-((x - shift) ** 2 + y**2) / (2 * wide**2)))[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    """Of a run that hardly learned, whose codes and images the tests replace."""
    folder = tmp_path_factory.mktemp("verdicts")
    u_NF = np.random.default_rng(0).random((N, 3))
    values = np.stack([f.unscale(u) for f, u in zip(FACTORS, u_NF.T, strict=True)], 1)
    write(folder / "set.h5", drawn(u_NF), values, FACTORS, {})
    fields: dict[str, Any] = {"aux": "bright,wide", "epochs": 1, "batch_size": 500, "network": "mlp"}
    alone(config(folder / "set.h5", folder / "run", latents=LATENTS, **fields))
    found = Evaluator(EvaluateConfig(run=folder / "run", device="cpu"))
    found.training["short"] = []  # its codes are replaced, and of these no training is short
    return found


@pytest.fixture
def said(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """Verdicts and table of a made-up model: change(mean, u, rng) spoils the perfect code, decode its images."""
    quick = {"lds": lds, "lds_mean": lds_mean, "leakage": leakage}
    monkeypatch.setattr(scores, "score_codes", lambda codes: {name: metric(codes) for name, metric in quick.items()})
    monkeypatch.setattr(scores, "effects", lambda run, seen, mean_NZ, of_Z: 1.0 * of_Z)  # of the run, not of `decode`

    def judged(
        change: Callable[[NDArray, NDArray, np.random.Generator], None] = lambda *_: None,
        decode: Callable[[NDArray], NDArray] = drawn,
        spread: float = 0.05,
    ) -> tuple[list[str], str]:
        data, rng = evaluator.data, np.random.default_rng(1)
        index_N = np.sort(split(N, 0)[0][:1000])  # many samples, so that chance is small
        u_NF = data.scaled()[index_N]
        mean_NZ = np.c_[u_NF, rng.standard_normal((len(u_NF), LATENTS - 3))]
        mean_NZ[:, SHIFT] = 3.4 * (mean_NZ[:, SHIFT] - 0.5)
        change(mean_NZ, u_NF, rng)
        shown = slice(100)
        block, _ = evaluator.scores(
            Scored(
                name="test", data=data, index_N=index_N, mean_NZ=mean_NZ,
                logvar_NZ=np.full_like(mean_NZ, 2 * np.log(spread)), originals=np.array(data.images[index_N[shown]]),
                reconstructions=decode(u_NF[shown]).astype(np.float32), noiseless=None,
            )
        )  # fmt: skip
        return block["verdicts"], table({"test": block})

    return judged


def test_a_clean_model_is_not_accused(said) -> None:
    lines, printed = said()
    assert len(lines) == 1 and lines[0].startswith("no finding; looked at sign, scale and error of the guided latents")
    assert printed.splitlines()[-1] == f"  - {lines[0]}"
    assert "latents in use           6 of 6" in printed


def test_a_factor_that_runs_backwards(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 1] = 0.5 - 0.07 * (u_NF[:, 1] - 0.5) + 0.001 * rng.standard_normal(len(u_NF))

    lines, printed = said(change, spread=0.01)
    assert lines == ["wide is reversed (r = -1.00, slope -0.07)"]
    row = next(line for line in printed.splitlines() if line.startswith("  wide "))
    assert [row.split()[column] for column in (0, 1, 4)] == ["wide", "-0.999", "-0.070"], "between them intervals"


def test_a_factor_that_is_squeezed_or_stretched(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 0], mean_NZ[:, 1] = 0.35 + 0.3 * u_NF[:, 0], 2 * u_NF[:, 1] - 0.5

    assert said(change)[0] == [
        "bright is squeezed (slope 0.30 where r = 1.00)",
        "wide is stretched (slope 2.00 where r = 1.00)",
    ]


def test_a_factor_that_is_shifted(said) -> None:
    """r and slope are right, and whoever reads it is wrong by a third of the range; a twentieth goes without a word."""

    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 0] += 0.05
        mean_NZ[:, 1] += 0.02 * rng.standard_normal(len(u_NF)) - 0.3

    (line,) = said(change)[0]
    assert re.fullmatch(
        r"wide is read with an offset: -0\.\d+ on average \(error 0\.\d+, 0\.0[34]\d* after a linear fit\)", line
    )


def test_a_factor_that_has_the_same_value_in_all_samples_is_not_judged(evaluator, said, monkeypatch) -> None:
    """Its numbers are equal, whatever rounding makes of their mean; nobody calls it lost, or the image unmoved."""
    values = evaluator.data.values.copy()
    values[:, 1] = 1.2
    monkeypatch.setattr(evaluator, "data", dataclasses.replace(evaluator.data, values=values))
    monkeypatch.delitem(evaluator.__dict__, "baselines", raising=False)

    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 1] += 0.1 * rng.standard_normal(len(u_NF))

    lines = [line for line in said(change)[0] if line.startswith("wide")]
    monkeypatch.delitem(evaluator.__dict__, "baselines", raising=False)
    assert lines == [
        "wide has the same value in all 1000 samples: whether it is read, or steers the image, cannot be judged, and "
        "scores of the whole code count it as lost"
    ]
    still = {"r": {"value": 0.0, "high": 0.0, "low": 0.0}}
    found = {"asked": still, "real": still, "reconstruction": still}
    block = {"reading": {"wide": {"spread": 0.0}}, "control": {"effectiveness": {"wide": found}}}
    assert list(steering.control(block)) == []


def test_an_uncertain_estimate_is_not_called_squeezed(said) -> None:
    """The mean of a factor given what is seen: its slope is r^2 and not 1."""

    def change(mean_NZ, u_NF, rng):
        for j in range(2):
            mean_NZ[:, j] = 0.5 + 0.6 * (u_NF[:, j] - 0.5) + 0.14 * rng.standard_normal(len(u_NF))

    assert not [line for line in said(change)[0] if "squeezed" in line]


def test_a_factor_that_is_lost(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 1] = 0.5 + 0.001 * rng.standard_normal(len(u_NF))

    lines, printed = said(change)
    assert lines[0].startswith("the latent of wide is off: ")
    assert lines[1].startswith("wide is not read (r = 0.0") or lines[1].startswith("wide is not read (r = -0.0")
    assert re.search(r"the (ridge regression|reader) has (0\.9|1\.0)", lines[1])
    assert len(lines) == 2
    assert "5 of 6; off: 2" in printed


def test_a_factor_that_the_ridge_regression_reads_better(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 0] = 0.5 + 0.64 * (u_NF[:, 0] - 0.5) + 0.14 * rng.standard_normal(len(u_NF))

    (line,) = said(change)[0]
    assert line.startswith("bright is read less well than could be (r = 0.8")


def test_a_decoder_that_draws_the_mean_image(said, evaluator) -> None:
    mean = np.array(evaluator.data.images[:]).mean(0)
    lines, printed = said(decode=lambda u_NF: np.repeat(mean[None], len(u_NF), 0))
    (line,) = lines
    assert line.startswith("the decoder draws the mean image (SSIM 0.")
    ours, its = [line.split() for line in printed.splitlines() if line.split()[:1] == ["mse"] or "mean image" in line][
        1:3
    ]
    assert float(ours[1]) == pytest.approx(float(its[2]), rel=0.05)


def test_images_that_are_all_the_same_are_not_judged(said, evaluator, monkeypatch) -> None:
    """As where a test part is small: the mean image has no error to compare with."""
    same = np.repeat(drawn(np.full((1, 3), 0.5)), N, 0)
    data = dataclasses.replace(evaluator.data, images=same)
    monkeypatch.setattr(evaluator, "data", data)
    monkeypatch.delitem(evaluator.__dict__, "baselines", raising=False)
    lines, _ = said(decode=lambda u_NF: drawn(u_NF * 0 + 0.5))
    monkeypatch.delitem(evaluator.__dict__, "baselines", raising=False)
    assert "the images are all the mean image: whether the decoder draws what differs cannot be judged" in lines
    assert not [line for line in lines if "worse" in line or "draws the mean image" in line]


def test_images_that_are_worse_than_those_of_pca(said) -> None:
    lines, _ = said(decode=lambda u_NF: drawn(u_NF * [1, 0.2, 0] + [0, 0.4, 0.5]))
    assert [line.split(" (")[0] for line in lines] == ["the images are worse than those of PCA with as many components"]


@pytest.mark.parametrize(
    ("ssim", "mse", "expected"),
    [
        (0.59, 1.15, "the images are worse than the mean image by MSE"),  # all is drawn, a tenth as bright
        (0.55, 1.42, "the images are worse than the mean image by MSE"),  # nothing is drawn, and most of it is dark
        (0.66, 0.91, "the images are worse than those of PCA with as many components by MSE"),  # in the wrong place
        (0.82, 0.36, "the images are worse than those of PCA with as many components by MSE"),  # in one of two places
        (0.97, 0.22, ""),
        (0.30, 0.36, "the images are worse than those of PCA with as many components"),
        (np.nan, 1.0, "the decoder draws the mean image"),  # of one row
        (np.nan, 0.36, "the images are worse than those of PCA with as many components by MSE"),
    ],
)
def test_images_that_ssim_flatters(ssim: float, mse: float, expected: str) -> None:
    """Of what has the right form SSIM can be above that of the mean image, .25, and of PCA, .5, whose MSE is .19."""

    def scored(ssim: float, mse: float) -> dict[str, Any]:
        return {
            name: {"value": value, "low": value * 0.95, "high": value * 1.05}
            for name, value in (("ssim", ssim), ("mse", mse))
        }

    baselines = {"mean_image": scored(0.25 + 0 * ssim, 1.0), "pca": scored(0.5 + 0 * ssim, 0.19)}
    block = {"images": scored(ssim, mse), "baselines": baselines}
    found = list(verdicts.images(block))
    assert [line.split(" (")[0] for line in found] == [expected] * bool(expected)
    title = set_pictures.beside_plain(block)  # of the picture
    assert title.endswith(f"MSE {mse:.3g} (mean image 1, PCA 0.19)")
    assert ("SSIM" in title) == (not np.isnan(ssim)) and not [line for line in (title, *found) if "nan" in line]


@pytest.mark.parametrize(
    ("chi2", "expected"),
    [(4.2, "the images are off by more than the noise: chi2 is 4.2"), (1.13, ""), (0.95, ""),
     (0.5, "the noise of the file is larger than what images are off by: chi2 is 0.5")],
)  # fmt: skip
def test_images_that_are_not_drawn_to_within_their_noise(chi2: float, expected: str) -> None:
    def scored(mse: float, chi2: float) -> dict[str, Any]:
        scores = (("ssim", 0.9), ("mse", mse), ("chi2", chi2))
        return {name: {"value": value, "low": value * 0.95, "high": value * 1.05} for name, value in scores}

    baselines = {"mean_image": scored(1.0, 30.0), "pca": scored(0.2, 4.1)}
    found = list(verdicts.images({"images": scored(0.1, chi2), "baselines": baselines}))
    assert [line.split(",")[0] for line in found] == [expected] * bool(expected)


def test_residual_latents_that_are_off(said) -> None:
    """Their means follow the factors, but by a thousandth of the spread: the LDS of means is its ceiling."""

    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 2:] = 0.001 * (u_NF @ rng.standard_normal((3, LATENTS - 2)) + mean_NZ[:, 2:])

    lines, printed = said(change, spread=0.5, decode=lambda u_NF: drawn(u_NF * [1, 1, 0.5] + [0, 0, 0.25]))
    assert lines[0] == "4 of 4 residual latents are off: what nobody measured is not in the code"
    assert lines[1].startswith("the images are worse than those of PCA") and len(lines) == 2
    (line,) = said(change, spread=0.5)[0]
    assert line.startswith(f"{lines[0]} (the images are better than PCA's: SSIM 1 against 0.")
    share = next(line for line in printed.splitlines() if "lds_mean" in line).split()[-4]
    assert float(share) == pytest.approx(1, abs=0.02)


def test_residual_latents_that_tell_a_factor_together(said) -> None:
    def change(mean_NZ, u_NF, rng):
        side = np.sign(mean_NZ[:, 4]) * np.where(u_NF[:, 0] > 0.5, 1, -1)
        mean_NZ[:, 5] = side * np.abs(mean_NZ[:, 5])

    lines, printed = said(change)
    (line,) = [line for line in lines if "bright" in line]
    assert line.startswith("the residual latents together tell bright (R2 0.")
    assert not [line for line in lines if "wide" in line]
    r2 = next(row for row in printed.splitlines() if row.split()[:1] == ["bright"] and "latent" in row).split()[1:4]
    assert float(r2[0]) > 0.6 > 0.05 > float(r2[2])


def test_residual_latents_that_tell_a_product_of_factors(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 4] = np.sign((u_NF[:, 0] - 0.5) * (u_NF[:, 1] - 0.5)) + 0.2 * mean_NZ[:, 4]

    (line,) = said(change)[0]
    assert line.startswith(
        "the residual latents depend on the factors together (random features of both correlate by 0."
    )


def test_a_factor_in_one_residual_latent(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 4] += 1.2 * (u_NF[:, 1] - 0.5)

    lines, _ = said(change)
    assert lines[0].startswith("latent 5, a residual one, holds wide too (r = 0.3")


def test_a_hidden_factor_in_the_errors_of_the_guided_latents(said) -> None:
    def change(mean_NZ, u_NF, rng):
        mean_NZ[:, 0] += 0.01 * (u_NF[:, 2] - 0.5)

    (line,) = said(change)[0]
    assert line.startswith("the errors of the guided latents tell shift, which guides none (R2 0.9")


@pytest.mark.parametrize(
    ("epoch", "inside", "words"),
    [(3, None, ""), (0, "process 9 on n1", ", and process 9 on n1 is in its folder"), (40, "process 9 on n1", None)],
)
def test_a_training_that_is_not_done_is_told(epoch: int, inside: str | None, words: str | None) -> None:
    found = list(verdicts.unfinished({"training": {"epoch": epoch, "epochs": 40, "inside": inside}}))
    told = f"the training has done {epoch} of 40 epochs{words}: these are its scores so far"
    assert found == ([] if words is None else [told])


def test_the_page_on_metrics_knows_the_words_of_every_finding() -> None:
    """What it quotes is in the findings' own text, and each finding is quoted."""
    page = (ROOT / "docs" / "metrics.md").read_text().split("## What evaluate says")[1]
    quoted = [
        words for row in re.findall(r"^\| (\*.+?) \|", page, re.MULTILINE) for words in re.findall(r"\*(.+?)\*", row)
    ]
    sources = {finding.__name__: inspect.getsource(finding) for finding in verdicts.FINDINGS}
    sources["reading"] += inspect.getsource(verdicts._scale)
    sources["copies"] = inspect.getsource(about_copies)
    source = {name: re.sub(r'"\s+f?"', "", text) for name, text in sources.items()}
    found = {words: [name for name, text in source.items() if words in text] for words in quoted}
    assert all(found.values()), found
    assert {name for names in found.values() for name in names} == set(source)


def few(together: int, errors: int) -> dict[str, Any]:
    """A block whose trees saw so many samples, half of them in the test of the errors."""
    leaks = {"psf": {"value": 0.0, "low": 0.0, "high": 0.0, "n": errors // 2}}
    score = {"value": -0.01, "low": -0.02, "high": 0.0, "n": together}
    return {
        "joint": {"radius": {"means": score}},
        "reading": {"radius": {}},
        "codes": {"leakage": {"hidden_from_aux": leaks}},
    }


def test_too_few_samples_for_the_trees_are_told() -> None:
    assert list(verdicts.too_few(few(60, 128))) == []
    assert list(verdicts.too_few(few(48, 48))) == [
        "48 samples are too few to tell whether all residual latents together tell radius: trees with 20 samples in a "
        "leaf need 60",
        "48 samples are too few to tell whether the errors of the guided latents tell psf: trees with 20 samples in a "
        "leaf need 128",
    ]


@pytest.mark.parametrize(
    ("times", "words"),
    [(1.4, ""), (1.9, "the dependence ended at 1.9 times its tolerance"), (3.1, "independence was not kept")],
)
def test_a_dependence_beyond_its_tolerance_is_told(times: float, words: str) -> None:
    found = list(verdicts.trained({"training": {"kept": {"dependence": 0.01 * times, "tolerance": 0.01}}}))
    assert [line[: len(words)] for line in found] == [words] * bool(words)


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [(0.02, 0.01, ""), (0.06, -0.01, ""), (0.06, 0.03, "tell a little of g1"), (0.2, 0.15, "tell g1")],
)
def test_a_little_that_is_certain_is_told(value: float, low: float, words: str) -> None:
    """Of what all residual latents together tell; chance gives .01 at most."""
    score = {"value": value, "low": low, "high": value + 0.05, "n": 1000}
    chance = {"value": -0.04, "low": -0.09, "high": 0.01, "n": 1000}
    r = {"value": 0.02, "low": -0.03, "high": 0.07, "n": 1000}
    joint = {"g1": {"means": score, "samples": chance, "chance": chance, "single": {"latent": 4, "r": r}}}
    found = list(verdicts.residual({"joint": joint}))
    assert len(found) == bool(words) and all(f"together {words} (R2 {value:.2f}" in line for line in found)
