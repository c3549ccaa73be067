"""What the scores of control say, in words: factors that do not steer the image, and what changes unasked.

Findings as in verdicts.py.
"""

from collections.abc import Iterator
from typing import Any

from hpcauxvae.evaluate.by_factor import of_classes
from hpcauxvae.evaluate.control import FEWEST

Block = dict[str, Any]

SHIFTED = 0.05
"""Share of a factor's variance that the square of an offset must pass, as with `WORSE_THAN_PLAIN`: beyond .22 of its
standard deviation, or .06 of the range of a uniform one."""
READABLE = 0.5
"""Correlation with a factor of real images below which the reader cannot tell whether the factor steers."""
STEERS = 0.5
"""Share of the reader's correlation in real images below which a factor does not steer the image; and of its slope,
below which it does in part."""
IN_PART = 0.8
"""Share of the reader's correlation in real images below which a factor steers the image in part; and of its slope,
below which it steers less well than could be."""
LESS_WELL = 0.05
"""By so much less than in real images may the reader find a factor where it was asked for."""
UNLIKE = 0.05
"""Share of the images that were asked for that may look like no real one; of runs that obey it was .03 at most."""
TOO_FAR = 1.25
"""Ratio of the slope to the reader's in real images above which an image changes more than was asked for: poor images
lower what a reader finds, and none raises it."""
FLATTERS = 0.02
"""By so much more than in real images must the reader find a factor, beyond both intervals, before it is told."""
STEERS_ALONE = 0.3
"""Share of its slope there below which a factor hardly steers, however well the little follows; and of that beside the
other factors, below which it is followed through the others alone."""
UNASKED = 0.1
"""By so much more must an image change with other factors than one that is only encoded and decoded, in parts of the
distance to another image, or of all images. A tenth can be seen; runs whose factors steer had .03 at most."""


def shifted(offset: dict[str, float], spread: float, of_reader: float = 0.0) -> bool:
    """Whether an offset, less that of the reader in real images, is large beside the spread of the factor."""
    low, high = offset["low"] - of_reader, offset["high"] - of_reader
    return low * high > 0 and min(low**2, high**2) > SHIFTED * spread**2


def control(block: Block) -> Iterator[str]:
    """Factors that do not steer the image, or of which nothing can be said."""
    if "control" not in block:
        return
    still = [name for name, of_factor in block.get("reading", {}).items() if of_factor["spread"] == 0]  # told there
    for name in block["control"].get("unread", ()):
        yield f"{name} is categorical, which the reader does not read: whether it steers the image cannot be judged"
    if block["control"]["effectiveness"] is None:
        yield "whether factors steer the image cannot be judged: too few images to train a reader, or to ask for"
        return
    classes = of_classes(block)
    for name, found in block["control"]["effectiveness"].items():
        if name in classes:
            continue
        asked, real, own = found["asked"], found["real"], found["reconstruction"]
        ceiling = real["r"]["value"]
        poor = f", {own['r']['value']:.2f} on its own reconstructions" * (own["r"]["high"] < IN_PART * ceiling)
        straight = "slope" in asked  # no periodic factor has a slope
        slope, its = (f" (slope {x['slope']['value']:z.2f})" if straight else "" for x in (asked, real))
        figures = f"asked against read r = {asked['r']['value']:z.2f}{slope}, {ceiling:.2f}{its} on real images{poor}"
        most, steepest = (max(-asked[x]["low"], asked[x]["high"]) for x in ("r", "slope" if straight else "r"))
        if name in still:
            continue
        if ceiling < READABLE:
            yield (
                f"{name}: the reader does not find it in real images (r = {ceiling:.2f}): whether it steers the image "
                "cannot be judged"
            )
        elif straight and steepest < STEERS_ALONE * real["slope"]["value"]:
            yield f"{name} {'does not steer' if most < STEERS * ceiling else 'hardly steers'} the image: {figures}"
        elif asked["r"]["high"] < 0:
            yield f"{name} steers the image backwards: {figures}"
        elif asked["r"]["high"] < STEERS * ceiling:
            yield f"{name} does not steer the image: {figures}"
        elif straight and asked["own"]["high"] < STEERS_ALONE * real["own"]["value"]:
            yield (
                f"{name} does not steer the image, other factors that correlate with it do: beside them its slope is "
                f"{asked['own']['value']:.2f}, on real images {real['own']['value']:.2f}"
            )
        else:
            if asked["r"]["high"] < IN_PART * ceiling or (
                straight and asked["slope"]["high"] < STEERS * real["slope"]["value"]
            ):
                yield f"{name} steers the image in part: {figures}"
            elif asked["r"]["high"] < ceiling - LESS_WELL or (
                straight and asked["slope"]["high"] < IN_PART * real["slope"]["value"]
            ):
                yield f"{name} steers the image less well than could be: {figures}"
            elif straight and asked["slope"]["low"] > TOO_FAR * real["slope"]["value"]:
                yield f"{name} steers the image too far: {figures}"
            if shifted(asked["offset"], asked["spread"], real["offset"]["value"]):
                unit = f" {found.get('unit', '')}".rstrip()
                yield (
                    f"images are drawn with an offset of {name}: {asked['offset']['value']:+.3g}{unit} on average from "
                    f"what was asked for to what is read, {real['offset']['value']:+.3g} on real images"
                )


def easier(block: Block) -> Iterator[str]:
    """Factors that the reader finds better in images that were asked for than in real ones."""
    effectiveness, classes = (block.get("control") or {}).get("effectiveness") or {}, of_classes(block)
    for name, found in effectiveness.items():
        asked, real = found["asked"]["r"], found["real"]["r"]
        if name not in classes and real["value"] >= READABLE and asked["low"] > real["high"] + FLATTERS:
            yield (
                f"{name} is read better in images that were asked for (r = {asked['value']:.2f}) than in real ones "
                f"({real['value']:.2f}), which have noise and clutter: quote the latter"
            )


def unasked(block: Block) -> Iterator[str]:
    """What changes with the factors although nobody asked for it: the residual latents, and what does not come back."""
    found = block.get("control")
    if not found or found["pairs"] < FEWEST:
        return
    if (unlike := found.get("unlike")) and unlike["low"] > UNLIKE:
        yield (
            f"{unlike['value']:.0%} of the images that were asked for are unlike all real ones (1% of reconstructions "
            "are): what is read in them says little"
        )
    if negative := found.get("negative"):
        yield (
            f"{negative} of {found['pairs']} images that were asked for have less than no light: the sum of their "
            "pixels is below 0, that of each real one above"
        )
    changed, unchanged = found["minimality"], found["composition"]["code"]
    if changed and changed["low"] > unchanged["high"] + UNASKED:
        yield (
            f"images with other factors change in the residual latents too: {changed['value']:.0%} of other images are "
            f"nearer to the first one there ({unchanged['value']:.0%} are where it keeps its factors)"
        )
    back, cycled = found["reversibility"], found["composition"]["again"]
    if back["low"] > cycled["high"] + UNASKED:
        yield (
            f"an image does not come back when its own factors do: {back['value']:.2f} of the distance to another "
            f"image ({cycled['value']:.2f} when it is encoded and decoded {found['composition']['cycles']} times)"
        )


def views(block: Block) -> Iterator[str]:
    """Objects that do not look as they really do with the factors that were asked for."""
    found = block.get("views")
    if not found:
        return
    by, share, objects = found["by"], found["share"], found["objects"]
    asked, own, still = (found[by][key]["value"] for key in ("asked", "own", "still"))
    figures = (
        f"beside the true view it has {by.upper()} {asked:.3g}, that view's own reconstruction {own:.3g}, and what "
        f"stays as it was {still:.3g}"
    )
    if share is None:
        yield (
            f"whether what is asked for is what the same {objects} looks like cannot be judged: too few of them, or "
            f"reconstructions that are hardly nearer than what does not turn ({figures})"
        )
    elif share["high"] < IN_PART:
        part = "is not" if share["high"] < STEERS else "is in part only"
        worst = ", ".join(f"{name} ({one['value']:.2f})" for name, one in found["worst"].items())
        said = [f"worst: {objects} {worst}; below 0 is worse than not turning"] if worst else []
        if not found["guides"] and objects != "group":
            said.append(f"with {objects} in --aux, too, the model would know which it is")
        way = f"{share['value']:.2f} [{share['low']:.2f}, {share['high']:.2f}] of the way"
        yield "; ".join(
            [f"what is asked for {part} what the same {objects} really looks like: {figures}, {way}", *said]
        )


def known_objects(block: Block) -> Iterator[str]:
    """Objects of the samples that the training shows as well."""
    found = block.get("views")
    if found and found["trained"]:
        each = "each" if found["trained"] == found["of"] else "some"
        yield (
            f"{each} {found['objects']} here was trained on in other views ({found['trained']} of {found['of']}): no "
            "score tells how a new one is read or drawn (a column `group` in the file keeps each in one part)"
        )
