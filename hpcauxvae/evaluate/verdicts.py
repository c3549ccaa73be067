"""What the scores of a set say, in words: one line a finding, each with the figure that it rests on.

A finding is a function of the set's block of metrics.json, which yields lines; a block without the scores that it looks
at gives none. A new finding is a function here, a line in `FINDINGS` and its scores in `LOOKED_AT`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hpcauxvae.evaluate import by_factor, steering
from hpcauxvae.evaluate.effects import STILL
from hpcauxvae.evaluate.steering import shifted
from hpcauxvae.metrics.joint import FEWEST as FEWEST_TOGETHER
from hpcauxvae.metrics.joint import LEAF
from hpcauxvae.metrics.leakage import FEWEST as FEWEST_OF_A_HALF
from hpcauxvae.metrics.reading import NOT_READ
from hpcauxvae.train.tracking import NOT_KEPT, RISEN

Block = dict[str, Any]

READ_IN_PART = 0.7
"""|r| below which it tells less than half of it."""
WORSE_THAN_PLAIN = 0.05
"""Share of a factor's variance by which a linear method must read more before the model is told of it: a twentieth is
more than intervals and the choice of a penalty make."""
SQUEEZED = 0.7
"""An estimate that is uncertain has the slope r^2; a slope below this share of it, or above one over this share of 1,
is a scale that nobody asked for."""
MEAN_IMAGE = 0.95
"""Share of the mean image's MSE above which an image tells less than a twentieth of what differs between images."""
WORSE_BY_MSE = 0.1
"""Share of the mean image's MSE by which that of the images must pass PCA's before it is told although SSIM is no
worse, as where all is drawn too faint or in the wrong place: a tenth can be seen."""
NOISE = 0.1
"""So far from 1 may chi2 be."""
ALIKE = 1e-9
"""MSE of the mean image, in units of the brightest pixel squared, that rounding alone makes of equal images."""
CEILING_PASSED = 1.02
"""Share of its ceiling above which a score says more of the factors than of the code: a perfect code has 1, and chance
makes some hundredths."""
CEILING_LOW = 0.7
"""A ceiling below this leaves so little room that a lost factor may cost nothing."""
CORRELATED = 0.2
"""|r| of two factors from which on they are named as a reason: r^2 is then a twenty-fifth."""
PASSED = 1.5
"""Times its tolerance from which on a dependence is told, although it is none to worry about."""
LITTLE = 0.03
"""R^2 of a factor from all residual latents that is told where it is certain."""
JOINT = 0.1
"""R^2 that nobody would overlook in a single latent: a correlation of .3."""
SINGLE = 0.2
"""|r| of a factor with one residual latent. The intervals of independent codes of 100 samples seldom get so far."""
TOGETHER = 0.02
"""Root mean squared correlation of random features; runs whose decoders ignored a factor had .015 to .16."""
HIDDEN = 0.1
"""R^2 of a factor that is not auxiliary, from guided latents."""


def verdicts(block: Block) -> list[str]:
    """The findings on a set; where there are none, a line that says what was looked at."""
    found = [line for finding in FINDINGS for line in finding(block)]
    return found or [f"no finding; looked at {', '.join(what for key, what in LOOKED_AT.items() if block.get(key))}"]


def unfinished(block: Block) -> Iterator[str]:
    """A training that has epochs to do."""
    found = block.get("training", {"epoch": 0, "epochs": 0})
    if found["epoch"] < found["epochs"] and found.get("checkpoint") != "best":
        inside = f", and {found['inside']} is in its folder" if found["inside"] else ""
        yield f"the training has done {found['epoch']} of {found['epochs']} epochs{inside}: these are its scores so far"


def copies(block: Block) -> Iterator[str]:
    """Images that are scored, and were trained on."""
    yield from block.get("copies", [])


def reading(block: Block) -> Iterator[str]:
    """Guided factors that are lost, reversed, out of scale, shifted, or read better by ridge regression or reader."""
    classes = by_factor.of_classes(block)
    for number, (name, of_factor) in enumerate(block.get("reading", {}).items(), start=1):
        if name in classes:
            continue
        r, (who, plain), slope = of_factor["r"], _best(block, name), of_factor.get("slope")
        true = of_factor.get("true", of_factor)["r"]["value"]
        worse = _square(plain["low"]) - _square(r["high"]) > WORSE_THAN_PLAIN
        figures = [f"r = {r['value']:.2f}"] + [f"{who} has {plain['value']:.2f}"] * worse
        if number in block["latents"]["off"]:
            yield f"the latent of {name} is off: its means hardly vary beside the spread of z (r = {r['value']:.2f})"
        if of_factor["spread"] == 0:
            yield (
                f"{name} has the same value in all {r['n']} samples: whether it is read, or steers the image, cannot "
                "be judged, and scores of the whole code count it as lost"
            )
        elif abs(r["value"]) < NOT_READ:
            yield f"{name} is not read ({'; '.join(figures)})"
        elif r["value"] < 0:
            backwards = f", slope {slope['value']:.2f}" if slope else ""
            yield f"{name} is reversed ({figures[0]}{backwards})"
        elif true < READ_IN_PART:
            yield f"{name} is read in part ({'; '.join(figures)})"
        elif worse:
            yield f"{name} is read less well than could be ({'; '.join(figures)})"
        if slope and r["value"] >= NOT_READ:
            yield from _scale(name, r["value"], slope)
        if r["value"] >= NOT_READ and shifted(of_factor["offset"], of_factor["spread"]):
            fitted = (
                f", {of_factor['error_fitted']['value']:.3g} after a linear fit" if "error_fitted" in of_factor else ""
            )
            error = f"(error {of_factor['error']['value']:.3g}{fitted})"
            yield f"{name} is read with an offset: {of_factor['offset']['value']:+.3g} on average {error}"


def _best(block: Block, name: str) -> tuple[str, dict[str, float]]:
    """What reads a factor better in real images, and its r: the ridge regression or, where there is one, the reader."""
    readers = {"the ridge regression": block["reading"][name]["regressor"]["r"]}
    if of_reader := ((block.get("control") or {}).get("effectiveness") or {}).get(name):
        readers["the reader"] = of_reader.get("of_labels", of_reader["real"]["r"])
    return max(readers.items(), key=lambda found: found[1]["value"])


def trained(block: Block) -> Iterator[str]:
    """A training of too few steps, one in whose last epochs images got worse, one that did not keep independence."""
    found = block.get("training", {})
    yield from (f"the training was short: {line}" for line in found.get("short", ()))
    if (best := found.get("best")) and best["last"] > RISEN * best["mse"]:
        heart = "as where training images are learned by heart"
        since = "and training images are drawn no better" if best.get("training_too") else heart
        yield (
            f"by validation epoch {best['epoch']} was the best, and the MSE of its images has risen by "
            f"{best['last'] / best['mse'] - 1:.0%} since, {since}: `--checkpoint best` takes that epoch"
        )
    if not (kept := found.get("kept")):
        return
    times = kept["dependence"] / kept["tolerance"]
    figures = f"{kept['dependence']:.3f}, its tolerance {kept['tolerance']:.4f}"
    if times > NOT_KEPT:
        yield f"independence was not kept: at the end of the training the dependence was {figures}"
    elif times > PASSED:
        yield f"the dependence ended at {times:.1f} times its tolerance ({figures}), a little above it"


def labels(block: Block) -> Iterator[str]:
    """Labels that nothing finds in the images, neither the model nor what was trained for them alone."""
    judged = {name: of for name, of in block.get("reading", {}).items() if of["spread"] > 0}
    best = {name: _best(block, name) for name in judged}
    if best and all(
        r["high"] < NOT_READ for r in [*(r for _, r in best.values()), *(of["r"] for of in judged.values())]
    ):
        figures = ", ".join(f"{name} {r['value']:z.2f} by {who}" for name, (who, r) in best.items())
        yield (
            f"no guided factor is found in real images (r of {figures}): the labels may be of other images, as where a "
            "catalogue is in another order, or the images do not show them"
        )


def _scale(name: str, r: float, slope: dict[str, float]) -> Iterator[str]:
    if slope["high"] < SQUEEZED * r**2:
        yield f"{name} is squeezed (slope {slope['value']:.2f} where r = {r:.2f})"
    if slope["low"] > 1 / SQUEEZED:
        yield f"{name} is stretched (slope {slope['value']:.2f} where r = {r:.2f})"


def latents(block: Block) -> Iterator[str]:
    """Residual latents that are off or draw nothing: all of them, or those that scores of means count."""
    found = block["latents"]
    one_image = block["images"]["mse"]["value"] > MEAN_IMAGE * block["baselines"]["mean_image"]["mse"]["value"]
    still = [] if one_image else found.get("still", [])  # else `images` says it
    residual, off = found["of"] - found["guided"], [number for number in found["off"] if number > found["guided"]]
    if residual and len(off) + len(still) == residual:
        kind = "residual " if found["guided"] else ""
        ours, pca = block["images"], block["baselines"]["pca"]
        better = not ours["ssim"]["low"] <= pca["ssim"]["high"] and ours["mse"]["high"] < pca["mse"]["low"]
        anyhow = f" (the images are better than PCA's: {_beside(ours, pca)})" if better and found["guided"] else ""
        are = "off" if not still else "off or draw nothing"
        yield f"{residual} of {residual} {kind}latents are {are}: what nobody measured is not in the code{anyhow}"
    elif still:
        which, draw = ("latents", "draw nothing") if len(still) > 1 else ("latent", "draws nothing")
        yield (
            f"{which} {', '.join(map(str, still))} {draw}: the images hardly change without ({STILL:g} nats at most); "
            "scores of means count them all the same"
        )


def images(block: Block) -> Iterator[str]:
    """A decoder that draws one image, or worse ones than plain methods; by MSE alone where SSIM is NaN."""
    ours, baselines = block["images"], block["baselines"]
    mean, pca = baselines["mean_image"], baselines["pca"]
    if mean["mse"]["value"] <= ALIKE:
        yield "the images are all the mean image: whether the decoder draws what differs cannot be judged"
        return
    share, of_pca = (one["mse"]["value"] / mean["mse"]["value"] for one in (ours, pca))
    if share > MEAN_IMAGE and not ours["ssim"]["low"] > mean["ssim"]["high"]:
        drawn = (
            "the decoder draws the mean image" if share < 1 / MEAN_IMAGE else "the images are worse than the mean image"
        )
        noise = "; PCA draws no more: the images may hold no more than noise" if of_pca > MEAN_IMAGE else ""
        yield f"{drawn} ({_beside(ours, mean)}{noise})"
    elif ours["mse"]["low"] > mean["mse"]["high"]:
        yield f"the images are worse than the mean image by MSE ({_beside(ours, mean)})"
    elif (more := ours["mse"]["low"] - pca["mse"]["high"]) > 0:
        than = "those of PCA with as many components"
        if ours["ssim"]["high"] < pca["ssim"]["low"]:
            yield f"the images are worse than {than} ({_beside(ours, pca)})"
        elif more > WORSE_BY_MSE * mean["mse"]["value"]:
            yield f"the images are worse than {than} by MSE ({_beside(ours, pca)})"
    chi2 = ours.get("chi2", {"value": 1, "low": 1, "high": 1})
    if chi2["low"] > 1 + NOISE:
        of_pca = f"PCA has {pca['chi2']['value']:.3g}"
        yield f"the images are off by more than the noise: chi2 is {chi2['value']:.3g}, where 1 is right; {of_pca}"
    elif chi2["high"] < 1 - NOISE:
        yield f"the noise of the file is larger than what images are off by: chi2 is {chi2['value']:.3g}, not 1"


def _beside(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.upper()} {ours[name]['value']:.3g} against {theirs[name]['value']:.3g}"
        for name in ("ssim", "mse")
        if not np.isnan(ours[name]["value"])
    )


def ceilings(block: Block) -> Iterator[str]:
    """A ceiling that was passed, or that is low, and why."""
    scores, pairs = {k: v for k, v in block["codes"].items() if k.startswith("lds")}, block.get("correlated", [])
    if not scores:
        return
    share, passed = max((score["value"] / score["attainable"], name) for name, score in scores.items())
    low, high, n = (scores[passed][key] for key in ("low", "high", "n"))
    named = [pair for pair in pairs if abs(pair["r"]) >= CORRELATED][:3]
    why = ", ".join(f"{' and '.join(pair['factors'])} correlate by {pair['r']:.2f}" for pair in named)
    if share > CEILING_PASSED:
        ceiling = scores[passed]["attainable"]
        if named:
            why_passed = f"{why}, which a perfect code cannot but repeat, and one that reads them less does"
        elif low <= ceiling:
            why_passed = f"chance, of {n} samples"
        else:
            why_passed = "each of its latents correlates less with the other factors than chance alone would give"
        spelt = {"lds": "LDS", "lds_d": "LDS of guided latents", "lds_mean": "LDS of means"}
        named_so = spelt.get(passed, "LDS of means of guided latents")
        interval = f"[{low / ceiling:.2f}, {high / ceiling:.2f}]"
        yield f"{named_so} is {share:.2f} {interval} of its ceiling: {why_passed}; the correlations r tell more"
    if (ceiling := scores["lds"]["attainable"]) < CEILING_LOW:
        alone = scores.get("lds_d", scores["lds"] | {"attainable": 1.0})["attainable"]
        enough = _samples_for(CEILING_LOW, block["latents"]["of"], alone)
        needs = f" ({enough:.0f} would have {CEILING_LOW})" if n < enough < np.inf else ""
        reasons = [why] if named else []
        reasons += [f"{n} samples have chance correlations{needs}"] if n < enough or not named else []
        if np.isinf(enough):
            reasons.append(f"these factors leave no more than {alone:.2f} to any number of images")
        yield f"a perfect code has an LDS of {ceiling:.2f} only: {', and '.join(reasons)}"


def _samples_for(share: float, latents: int, alone: float) -> float:
    """How many samples a perfect code needs for this LDS; infinite where its factors go together too much for it.

    Of n samples each pair of independent columns correlates by sqrt(2 / (pi n)) in the mean. alone: the ceiling over
    the guided latents alone, which tells how the factors go together.
    """
    room = 1 / share - (1 / alone if alone < 1 - CORRELATED else 1)
    return float(np.ceil(2 / np.pi * ((latents - 1) / room) ** 2)) if room > 0 else float("inf")


def residual(block: Block) -> Iterator[str]:
    """Auxiliary factors in the residual latents: in one of them, or in all together."""
    for name, of_factor in by_factor.without_classes(block, "joint", most=True).items():
        single, r, chance = of_factor["single"], of_factor["single"]["r"], of_factor["chance"]
        if abs(r["value"]) >= SINGLE and min(abs(r["low"]), abs(r["high"])) >= SINGLE / 2 and r["low"] * r["high"] > 0:
            which = f"latent {single['latent']}" if single["latent"] else "in each fold a latent"
            yield f"{which}, a residual one, holds {name} too (r = {r['value']:.2f})"
        means, samples = of_factor["means"], of_factor["samples"]
        certain = [s["value"] for s in (means, samples) if s["low"] > max(chance["high"], 0)]
        if max(certain, default=0) >= LITTLE:
            tell = "tell" if max(certain) >= JOINT else "tell a little of"
            yield (
                f"the residual latents together {tell} {name} (R2 {means['value']:.2f} from their means, "
                f"{samples['value']:.2f} from samples of z; chance gives {chance['value']:.2f})"
            )
    found = block.get("random_features")
    if found and found["rms"]["low"] > max(TOGETHER, found["floor"]):
        yield (
            "the residual latents depend on the factors together (random features of both correlate by "
            f"{found['rms']['value']:.3f}; by chance {found['floor']:.3f})"
        )


def too_few(block: Block) -> Iterator[str]:
    """Scores of trees that are about 0 because so few samples let no tree split."""
    of_columns = by_factor.without_classes(block, "joint", most=True)
    together = {name: found["means"]["n"] for name, found in of_columns.items()}
    leaks = block["codes"].get("leakage", {}).get("hidden_from_aux", {}) if block.get("reading") else {}
    errors = {name: 2 * score["n"] for name, score in leaks.items()}  # half of the samples test
    for known, needed, what in (
        (together, FEWEST_TOGETHER, "all residual latents together"),
        (errors, 2 * FEWEST_OF_A_HALF, "the errors of the guided latents"),
    ):
        if few := [name for name, n in known.items() if n < needed]:
            yield (
                f"{known[few[0]]} samples are too few to tell whether {what} tell {', '.join(few)}: trees with "
                f"{LEAF} samples in a leaf need {needed}"
            )


def hidden(block: Block) -> Iterator[str]:
    """Factors that are not auxiliary in the guided latents."""
    leaks = block["codes"].get("leakage", {}).get("hidden_from_aux", {}) if block.get("reading") else {}
    for name, score in leaks.items():
        if score["value"] >= HIDDEN and score["low"] > HIDDEN / 2:
            yield f"the errors of the guided latents tell {name}, which guides none (R2 {score['value']:.2f})"


def _square(r: float) -> float:
    return max(r, 0) ** 2


FINDINGS: tuple[Callable[[Block], Iterator[str]], ...] = (
    unfinished, copies, trained, labels, reading, by_factor.as_a_whole, latents, images, ceilings, residual, hidden,
    too_few, steering.control, steering.easier, by_factor.steering, steering.unasked,
    steering.views, steering.known_objects,
)  # fmt: skip
LOOKED_AT = {
    "reading": "sign, scale and error of the guided latents",
    "latents": "latents that are off",
    "images": "the images beside the mean image and PCA",
    "codes": "the LDS beside its ceiling",
    "joint": "what residual latents tell of the factors",
    "control": "whether factors steer the image, and what changes with them",
    "views": "what was asked for beside the true view of the same object",
}
"""Keys of the block, and what they hold."""
