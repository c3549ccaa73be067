"""The pictures of a run as text for the page, each with words for those who do not see it."""

import base64
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from hpcauxvae.evaluate.by_factor import without_classes
from hpcauxvae.report.folder import Found
from hpcauxvae.report.tables import known, number
from hpcauxvae.report.words import PICTURES
from hpcauxvae.types import InputError

Block = dict[str, Any]
_WIDEST = 2400
"""Pixels; wider pictures are scaled."""
_COLOURS = 256
"""Of the palette: a picture becomes a third as large, and pixels differ by 1 in 255."""


class Figure(NamedTuple):
    """A picture."""

    source: str
    """data:image/png;base64,…"""
    alt: str
    """What is seen."""
    of: str
    """Which set, or fold, it is of; empty where there is one."""
    size: tuple[int, int]
    """Width and height in pixels."""


def figures(found: Found, kind: str, draw: bool = True) -> list[Figure]:
    """Those of a run, of one kind of `words.PICTURES`.

    draw: training curves that are not there are drawn, which takes a second. Raises InputError where a picture cannot
    be read.
    """
    if kind == "training":
        return [*_training(found, draw)]
    if found.pictures is None:
        return []
    several = len(found.sets) > 1
    fold = "first fold" if found.folds else ""
    return [
        _figure(path, _alt(kind, block), ", ".join(filter(None, [name if several else "", fold])))
        for name, block in found.sets.items()
        if kind not in ("control", "views") or block.get(kind)  # else it is of an earlier evaluation
        for path in sorted(found.pictures.glob(f"{kind}-*{name}.png" if kind == "classes" else f"{kind}-{name}.png"))
    ]


def encoded(path: Path) -> tuple[str, tuple[int, int]]:
    """A PNG as text for the page, with a palette and no wider than needed; and its width and height in pixels."""
    try:
        with Image.open(path) as picture:
            flat = Image.new("RGB", picture.size, "white")
            flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is no picture that can be read: {error}") from error
    if flat.width > _WIDEST:
        flat = flat.resize((_WIDEST, max(1, round(flat.height * _WIDEST / flat.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    flat.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}", flat.size


def _figure(path: Path, alt: str, of: str = "") -> Figure:
    source, size = encoded(path)
    return Figure(source, alt, of, size)


def _training(found: Found, draw: bool) -> Iterator[Figure]:
    if not found.rows:
        return
    path = found.pictures / "training.png" if found.pictures else None
    alt = _of_curves(found.rows)
    of = "first fold" if found.folds else ""
    if path is not None and path.is_file():
        yield _figure(path, alt, of)
    elif draw:
        from hpcauxvae.evaluate.curves import training_curves

        with tempfile.TemporaryDirectory() as folder:
            training_curves(found.rows, drawn := Path(folder) / "training.png")
            yield _figure(drawn, alt, of)


def _of_curves(rows: list[Block]) -> str:
    first, last = rows[0], rows[-1]
    losses = "; ".join(
        f"{part} loss from {number(first[part].get('loss'))} to {number(last[part].get('loss'))}"
        for part in ("train", "validation")
        if last.get(part)
    )
    weight = f"; weight of independence {number(last['weight'])} at the end" if last.get("weight") is not None else ""
    return f"Curves of {len(rows)} epochs: {losses}{weight}."


def _alt(kind: str, block: Block) -> str:
    """What is seen, with the figures that the picture shows."""
    read = ", ".join(f"{name} r {number(of['r']['value'])}" for name, of in without_classes(block, "reading").items())
    images = ", ".join(
        f"{name.upper()} {number(block['images'][name]['value'])}"
        for name in ("ssim", "mse")
        if known(block["images"].get(name))
    )
    asked = (block.get("control") or {}).get("effectiveness") or {}
    drawn = ", ".join(f"{name} r {number(of['asked']['r']['value'])}" for name, of in asked.items())
    latents = block["latents"]["of"]
    turned = block.get("views") or {"share": None}
    said = {
        "scatter": f"Scatter of each factor against each of {latents} latents"
        + (f"; guided: {read}." if read else "."),
        "classes": "A square for each two classes: how many images of the one are taken for the other.",
        "traversal": f"Rows of decoded images, a row for each of {latents} latents, or for the factor that guides it.",
        "control": "Rows of images: A, its reconstruction, A with the factors of B, and B"
        + (f"; asked against read: {drawn}." if drawn else "."),
        "views": "Rows of images: A, A with the factors of C, C, which is the same object, and its reconstruction; "
        f"share of the way {number((turned['share'] or {}).get('value'))}.",
        "reconstructions": f"Eight test images above their reconstructions and the differences; {images}.",
        "ssim": f"Box of the SSIM of single images, mean {number(block['images'].get('ssim', {}).get('value'))}.",
        "correlations": f"Map of correlations of each factor with each of {latents} latents"
        + (f"; guided: {read}." if read else "."),
    }
    return said.get(kind, PICTURES[kind].how)
