"""Is what comes out what was asked for? Counterfactuals of a run, and what an independent reader finds in them.

Pairs (A, B) of images that no training saw: A's residual latents are decoded with the factors of B, all of them, so
that what is asked for exists, and cosine and sine stay those of one angle. A's missing pixels are missing in all that
is made of A, for the encoder, the reader and the distances. The scores are in metrics/control.py. Shape legend in
types.py; P pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcauxvae.data import drawing, dsprites
from hpcauxvae.data.guides import guides_in, guiding, spans
from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.data.lettering import short
from hpcauxvae.data.missing import Filled, shown
from hpcauxvae.evaluate import pictures
from hpcauxvae.evaluate.by_factor import Block, by_factor, in_units
from hpcauxvae.evaluate.effects import STILL, effects
from hpcauxvae.evaluate.reader import READ, Reader
from hpcauxvae.metrics.codes import off
from hpcauxvae.metrics.control import agreement, distance, minimality, unlike
from hpcauxvae.metrics.true_factor import Likely, likely
from hpcauxvae.train.run import Run
from hpcauxvae.types import Factor

PAIRS = 512
"""Pairs at most; fewer of large images."""
FEWEST = 20
"""Pairs without which nothing is said of what steers."""
CYCLES = 5
"""Times that an image is encoded and decoded for the second number of composition."""
_BYTES = 128 << 20  # of an image of every pair
_SHOWN, _NAMED = 8, 6  # pairs in the picture, and factors named there


class Counterfactuals(NamedTuple):
    """Pairs (A, B) under a model; images (P, C, H, W) in linear data units, factors (P, D) scaled.

    Missing pixels count as in data.missing.Filled; those of A in all images that are made of it.
    """

    a: NDArray
    b: NDArray
    u_a: NDArray
    u_b: NDArray
    reconstruction: NDArray
    """A, decoded from its own code."""
    asked: NDArray
    """A with the factors of B."""
    back: NDArray
    """`asked`, encoded and decoded with the factors of A."""
    cycled: NDArray
    """A, encoded and decoded `CYCLES` times."""
    own: NDArray
    """(P, R) A's code in the residual latents that are in use: not off, and drawing something."""
    again: NDArray
    """The same of its reconstruction."""
    changed: NDArray
    """The same of `asked`."""
    known: tuple[NDArray, NDArray] | None
    """Which pixels of A are, and of B, (P, C, H, W); None where none is missing."""
    likely: Sequence[Likely | None]
    """D of them: what is known of factors whose labels have errors; their guesses are what is asked for."""
    rendered: NDArray | None
    """What `asked` should show, where the images of the data set are known for any factors."""


def counterfactuals(run: Run, data: ImageSet, index_N: NDArray, seed: int) -> Counterfactuals | None:
    """The pairs of some samples of a data set; None where fewer than two have all guided factors measured."""
    columns = guiding(data, run.config.aux_names)
    d = len(columns)
    u_ND, guesses = _asked_for(data, columns, index_N)
    rows = index_N[np.isfinite(u_ND[index_N]).all(1)]
    if len(rows) < 2:
        return None
    most = int(np.clip(_BYTES // (4 * np.prod(data.shape)), FEWEST, PAIRS))
    a_P = np.random.default_rng([seed, 2]).permutation(rows)[:most]
    b_P = np.roll(a_P, 1)
    images, u_a, u_b = np.array(data.images[a_P]), u_ND[a_P], u_ND[b_P]
    known = np.isfinite(seen := shown(data.images, a_P))

    def decode(z_NZ: NDArray) -> NDArray:
        """With A's holes, as the encoder is shown them."""
        return run.decode(z_NZ) if known.all() else np.where(known, run.decode(z_NZ), np.float32(np.nan))

    code, logvar = run.encode(seen, u_a)
    reconstruction = decode(code)
    asked = decode(np.concatenate([u_b, code[:, d:]], 1))
    changed = run.encode(asked, u_b)[0]
    again = run.encode(reconstruction, u_a)[0]
    cycled = decode(again)
    for _ in range(CYCLES - 2):
        cycled = decode(run.encode(cycled, u_a)[0])
    kept_Z = ~off(code, logvar) & (np.arange(code.shape[1]) >= d)
    kept = np.flatnonzero(kept_Z & (effects(run, seen, code, kept_Z) >= STILL))
    return Counterfactuals(
        a=images,
        b=np.roll(images, 1, 0),
        u_a=u_a,
        u_b=u_b,
        reconstruction=_filled(reconstruction),
        asked=_filled(asked),
        back=_filled(decode(np.concatenate([u_a, changed[:, d:]], 1))),
        cycled=_filled(cycled),
        own=code[:, kept],
        again=again[:, kept],
        changed=changed[:, kept],
        known=None if known.all() else (known, np.roll(known, 1, 0)),
        likely=guesses,
        rendered=_rendered(data, a_P, b_P, columns),
    )


def _asked_for(data: ImageSet, columns: list[int], index_N: NDArray) -> tuple[NDArray, list[Likely | None]]:
    """What can be asked for, scaled: the labels, or what is likely where these have errors, so that it exists."""
    u_ND, errors_ND = data.scaled()[:, columns], data.scaled_errors(slice(None), columns)
    plain = {guide.factor.name for guide in data.guides if guide.plain} or {factor.name for factor in data.factors}
    guesses: list[Likely | None] = [None] * len(columns)
    for j, column in enumerate(columns if errors_ND is not None else ()):
        if data.factors[column].name in plain and data.factors[column].kind in ("continuous", "ordinal"):
            guesses[j] = found = likely(u_ND[index_N, j], errors_ND[index_N, j])  # type: ignore[index]
            u_ND[index_N, j] = found.guess_N
    return u_ND, guesses


def _filled(images: NDArray) -> NDArray:
    """As data.missing.Filled gives the images of a file."""
    return Filled(images, None, nan=True)[:] if np.isnan(images).any() else images


def _rendered(data: ImageSet, a_P: NDArray, b_P: NDArray, columns: Sequence[int]) -> NDArray | None:
    """Images of A's labels with those of B in some columns: of dSprites, which are drawn for any labels."""
    if not str(data.provenance.get("origin", "")).startswith("dSprites"):
        return None
    names = [factor.name for factor in data.factors]
    values = data.values[a_P]
    values[:, columns] = data.values[b_P][:, columns]
    if not {*dsprites.LABELS["raw"], *dsprites.LABELS["sound"]} <= set(names) or np.isnan(values).any():
        return None
    asked = {names[column] for column in columns}
    angle = next((name for name in ("orientation_cos", "orientation_mod") if name in asked), "orientation")
    only = str(data.provenance.get("shapes", "")).split(",")[0]
    return dsprites.images_of(values, names, only, angle)


def score(made: Counterfactuals, reader: Reader | None, data: ImageSet, aux_names: Sequence[str]) -> dict[str, Any]:
    """The block `control` of metrics.json.

    `effectiveness`: for each guided factor that the reader reads, what it finds where the image was asked for, and, as
    ceilings, in real images and in reconstructions (metrics.control.agreement); None where reader or pairs are missing.
    `unlike`: the share of images that were asked for that look to the reader like no real one (metrics.control.unlike).
    `unread`: guided factors of a kind that no reader reads. `negative`: how many of the images that were asked for have
    pixels whose sum is below 0, where that of each real one is above. `composition.code` is the minimality of
    reconstructions. `rendered`: of dSprites, the distance of what was asked for to that very image. `factors`: the same
    three of factors that guide by several columns, in their own terms (by_factor.py).

    Where labels have errors, what is likely of them is asked for, `real` and `reconstruction` are beside the true
    factor, and `of_labels` is r of real images beside what is likely.
    """
    apart, pixels = (made.a, made.b), made.known
    block: dict[str, Any] = {
        "pairs": len(made.a),
        "effectiveness": None,
        "composition": {
            "once": distance(made.a, made.reconstruction, apart, pixels),
            "again": distance(made.a, made.cycled, apart, pixels),
            "cycles": CYCLES,
            "code": minimality(made.own, made.again) if made.own.shape[1] else None,
        },
        "reversibility": distance(made.a, made.back, apart, pixels),
        "minimality": minimality(made.own, made.changed) if made.own.shape[1] else None,
    }
    totals, real = (images.sum((1, 2, 3), dtype=np.float64) for images in (made.asked, made.a))
    block["negative"] = int(np.count_nonzero(totals < 0)) if (real > 0).all() else 0
    if made.rendered is not None:
        block["rendered"] = distance(made.rendered, made.asked, apart, pixels)
    columns = guiding(data, aux_names)
    known = [j for j, column in enumerate(columns) if data.factors[column].kind in READ]
    if not known:
        block["effectiveness"] = {}
    block["unread"] = [name for j, name in enumerate(aux_names) if j not in known]
    if not known or reader is None or len(made.a) < FEWEST:
        return block
    factors = [data.factors[columns[j]] for j in known]
    place = [reader.columns.index(columns[j]) for j in known]
    three = {
        name: (u_PD, reader.read(images))
        for name, u_PD, images in (
            ("asked", made.u_b, made.asked),
            ("real", made.u_a, made.a),
            ("reconstruction", made.u_a, made.reconstruction),
        )
    }
    found = {name: agreement(u_PD[:, known], read[:, place], factors) for name, (u_PD, read) in three.items()}
    if len(known) == len(columns):
        block["factors"] = _by_factor(data, factors, {name: (u, read[:, place]) for name, (u, read) in three.items()})
    network = reader.network
    block["unlike"] = unlike(reader.known_KF, network.features(made.reconstruction), network.features(made.asked))
    block["effectiveness"] = {
        factor.name: _of_true({name: next(scores) for name, scores in found.items()}, made.likely[j], factor.span[0])
        | {"unit": factor.span[1]}
        for j, factor in zip(known, factors, strict=True)
    }
    return block


def _of_true(found: Block, guess: Likely | None, width: float) -> Block:
    """What is read of real images is held against the true factor, not against what labels with errors leave of it."""
    if guess is None:
        return found
    of_true = {name: guess.of_true(found[name], width) for name in ("real", "reconstruction")}
    return found | of_true | {"of_labels": found["real"]["r"]}


def _by_factor(data: ImageSet, columns: Sequence[Factor], found: dict[str, tuple[NDArray, NDArray]]) -> Block:
    """found: by name what was asked for and what is read, scaled."""
    block: Block = {}
    for part, pair in reversed(found.items()):  # the chance is that of what was asked for
        asked, read = (in_units(scaled, columns) for scaled in pair)
        for name, of_factor in by_factor(data.guides, asked, {part: read}).items():
            block[name] = block.get(name, {}) | of_factor
    return block


def draw(made: Counterfactuals, reader: Reader | None, data: ImageSet, aux_names: Sequence[str], path: Path) -> None:
    """A, its reconstruction, A with the factors of B, and B: a column for each of some pairs, with what was asked for
    and read above the third. Missing pixels are grey, those of A in what is made of it, too."""
    guides, columns = guides_in(data, aux_names), guiding(data, aux_names)
    rows = np.linspace(0, len(made.a) - 1, _SHOWN).astype(int)
    images = np.stack([part[rows] for part in (made.a, made.reconstruction, made.asked, made.b)])
    if made.known is not None:
        of_a, of_b = (known[rows] for known in made.known)
        images = np.where(np.stack([of_a, of_a, of_a, of_b]), images, np.nan)
    read = None if reader is None else reader.read(made.asked[rows])

    def label(row: int, number: int) -> str:
        lines = []
        for guide, span in list(zip(guides, spans(guides), strict=True))[:_NAMED]:
            text, own = "–", columns[span]
            if reader is not None and read is not None and set(own) <= set(reader.columns):
                place = [reader.columns.index(column) for column in own]
                text = short(guide.factor, guide.unscaled(read[[number]][:, place])[0])
            lines.append(f"{short(guide.factor, guide.unscaled(made.u_b[[row], span])[0])} / {text}")
        return "\n".join(lines)

    none = [""] * len(rows)
    labels = [none, none, [label(row, number) for number, row in enumerate(rows)], none]
    names = ["A", "its reconstruction", "A with the\nfactors of B", "B"]
    heads = ["", "", "\n".join(["asked / read", *(guide.factor.name for guide in guides[:_NAMED])]), ""]
    pictures.traversal(drawing.upright(images, data), names, labels, path, look=drawing.look_of(data), heads=heads)
