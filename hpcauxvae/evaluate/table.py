"""The scores of an evaluation as lines of text: what `hpcauxvae evaluate` prints."""

import math
from collections.abc import Iterator
from typing import Any

from hpcauxvae.evaluate.baselines import PLAIN
from hpcauxvae.evaluate.by_factor import in_words, of_classes, score_of, without_classes
from hpcauxvae.metrics.joint import FEWEST, TRUSTED
from hpcauxvae.metrics.ssim import WINDOW

Block = dict[str, Any]


def table(sets: dict[str, Block]) -> str:
    """The scores of each set beside their ceilings, and below them what they say in words."""
    lines = [f"{'score':28}{'value':>8}  {'95 % interval':24}{'ceiling':>9}{'of it':>8}  {'its interval':16}{'n':>9}"]
    for name, block in sets.items():
        lines.append(f"{name}: {block['data']}, at epoch {block['training']['epoch']} of {block['training']['epochs']}")
        if folds := block.get("folds"):
            pooled = f"images ({block['samples']}) and readings are of all folds together, other scores"
            words = pooled if name == "test" else "all scores"
            lines[-1] += f"; {folds} folds: {words} are means over the folds"
        for part in (_codes, _images, _reading, _factors, _joint, _control, _latents):
            lines += (f"  {line}" for line in part(block))
        lines += (f"  - {line}" for line in block["verdicts"])
    return "\n".join(lines)


def _codes(block: Block) -> Iterator[str]:
    for name in ("lds", "lds_d", "lds_mean", "lds_d_mean", "sap", "mig"):
        if score := block["codes"].get(name):
            yield _row(name, score, score.get("attainable"))


def _images(block: Block) -> Iterator[str]:
    ceilings = {"ssim": block["noiseless"]["ssim"]["value"]} if "noiseless" in block else {}
    for name in [name for name in ("ssim", "mse", "chi2") if name in block["images"]]:
        if math.isnan(block["images"][name]["value"]):
            yield f"{name:27}not for sides under {WINDOW} pixels, or where hardly any pixel is known"
            continue
        yield _row(name, block["images"][name], ceilings.get(name))
        for plain, words in PLAIN.items():
            yield _row(f"  {words}", block["baselines"][plain][name], None)


def _reading(block: Block) -> Iterator[str]:
    if block.get("reading"):
        heads = f"{'r':>8}{'95 % interval':>17}{'slope':>8}{'95 % interval':>17}{'error':>10}{'fitted':>10}"
        yield f"{'guided factor':20}{heads}  ridge regression: r{'error':>10}"
    for name, of_factor in without_classes(block, "reading").items():
        slope, fitted, plain = of_factor.get("slope"), of_factor.get("error_fitted"), of_factor["regressor"]
        error, unit = of_factor["error"]["value"], of_factor["unit"]
        own = _with_intervals(of_factor["r"], slope)
        beside = f"{plain['r']['value']:21.3f}{plain['error']['value']:10.3g}"
        yield f"{name:20}{own}{error:10.3g}{_cell(fitted, '10.3g')}{beside} {unit}".rstrip()
        if true := of_factor.get("true"):
            figures = f"{_with_intervals(true['r'], true['slope'])}{true['error']['value']:10.3g}"
            yield f"{'  its true value':20}{figures} {_interval(true['error'])}"


def _factors(block: Block) -> Iterator[str]:
    """Factors that guide by several columns, in their own terms."""
    for name, of in block.get("factors", {}).items():
        told = f"{in_words(of['latents'], of)} {_interval(score_of(of['latents']))}"
        classes = f", of {of['classes']} classes" * bool(of["classes"])
        yield f"{name:20} read: {told}; ridge regression: {in_words(of['regressor'], of)}; {_chance(of)}{classes}"


def _chance(of: Block) -> str:
    return f"by chance {of['chance']:.3g}"


def _interval(score: Block) -> str:
    return f"[{score['low']:.3g}, {score['high']:.3g}]"


def _joint(block: Block) -> Iterator[str]:
    if block.get("joint"):
        yield f"{'from residual latents':20} R2: means   samples    chance   largest r of one"
    for name, of_factor in without_classes(block, "joint", most=True).items():
        explained = "".join(f"{of_factor[key]['value']:10.3f}" for key in ("means", "samples", "chance"))
        single, n = of_factor["single"], of_factor["means"]["n"]
        few = f"; R2 of {n} samples is not to be trusted" if n < TRUSTED else ""
        few = f"; R2 of {n} samples says nothing: {FEWEST} are needed" if n < FEWEST else few
        which = f" (latent {single['latent']})" if single["latent"] else ""  # the folds have no latent in common
        yield f"{name:22}{explained}{single['r']['value']:10.3f}{which}{few}"
    if found := block.get("random_features"):
        yield f"{'functions of all':22}{found['rms']['value']:10.4f} rms correlation; by chance {found['floor']:.4f}"


def _control(block: Block) -> Iterator[str]:
    """What the reader finds beside what it finds in real images; then the image distances of counterfactuals."""
    found = block.get("control") or {}
    if found.get("effectiveness"):
        heads = f"{'slope':>8}{'error':>10}"
        yield f"{'asked for and read':20}{'r':>8}{heads}     on real images: r{heads}"
    for name, of_factor in (found.get("effectiveness") or {}).items():
        if name in of_classes(block):
            continue
        asked, real = of_factor["asked"], of_factor["real"]
        yield (
            f"{name:20}{asked['r']['value']:8.3f}{_cell(asked.get('slope'), '8.3f')}{asked['error']['value']:10.3g}"
            f"{real['r']['value']:22.3f}{_cell(real.get('slope'), '8.3f')}{real['error']['value']:10.3g} "
            f"{of_factor['unit']}"
        ).rstrip()
    for name, of in found.get("factors", {}).items():
        told = {part: in_words(of[part], of) for part in ("asked", "real")}
        yield f"{name:20} asked for and read: {told['asked']}; on real images: {told['real']}; {_chance(of)}"
    if found:
        composition = found["composition"]
        again = f"composition, {composition['cycles']} times"
        named = {"composition": composition["once"], again: composition["again"]}
        named |= {name: found.get(name) for name in ("reversibility", "minimality")}
        named["unlike real images"] = found.get("unlike")
        named["asked against rendered"] = found.get("rendered")
        yield from (_row(name, score, None) for name, score in named.items() if score)
    if turned := block.get("views"):
        beside = "the true view"
        yield f"asked for, and {beside}: {turned['pairs']} pairs, {turned['of']} values of {turned['objects']}"
        named = {"asked for": "asked", "its reconstruction": "own", "nothing turned": "still"}
        for words, key in named.items():
            yield _row(f"{turned['by'].upper()}, {words}", turned[turned["by"]][key], None)
        if turned["share"]:
            yield _row("share of the way", turned["share"], None)


def _latents(block: Block) -> Iterator[str]:
    found = block["latents"]
    lists = (("off", found["off"]), ("draw nothing", found.get("still", [])))
    off = "".join(f"; {words}: {', '.join(map(str, numbers))}" for words, numbers in lists if numbers)
    most = f" to {found['most_in_use']}" if found.get("most_in_use", found["in_use"]) > found["in_use"] else ""
    yield f"{'latents in use':22}{found['in_use']:4}{most} of {found['of']}{off}"


def _cell(score: dict[str, Any] | None, form: str) -> str:
    """A value, or as many blanks."""
    return format(score["value"], form) if score else " " * int(form.split(".")[0])


def _with_intervals(*scores: dict[str, Any] | None) -> str:
    """Of r and a slope, or as many blanks."""
    ends = (f"[{score['low']:.3f}, {score['high']:.3f}]" if score else "" for score in scores)
    return "".join(f"{_cell(score, '8.3f')}{interval:>17}" for score, interval in zip(scores, ends, strict=True))


def _row(name: str, score: dict[str, Any], ceiling: float | None) -> str:
    interval = f"[{score['low']:.4g}, {score['high']:.4g}]"
    beside = ""
    if ceiling:
        of_it = f"[{score['low'] / ceiling:.3f}, {score['high'] / ceiling:.3f}]"
        beside = f"{ceiling:9.4f}{score['value'] / ceiling:8.3f}  {of_it}"
    return f"{name:24}{score['value']:10.4g}  {interval:24}{beside:35}{score['n']:9d}"
