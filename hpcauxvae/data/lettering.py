"""Text in pictures: its size, values with units, numbers along a scale, and names that may look like mathematics."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from hpcauxvae.types import Factor


def fit(text: str, size: float, inches: float) -> float:
    """The size in points, or a smaller one where the longest line takes more than this; a letter is 0.6 of it wide."""
    return min(size, 72 * inches / 0.6 / max(1, *map(len, text.split("\n"))))


def with_unit(factor: Factor) -> str:
    """`radius [arcsec]`"""
    return f"{factor.name} [{factor.unit}]" if factor.unit else factor.name


def short(factor: Factor, value: Any, places: int = 2) -> str:
    """A value in the factor's unit, to a hundredth of its range (10 to the minus `places`) or finer.

    Of a logarithmic range the value has one figure more than `places`: to a hundredth of itself, or finer. A class has
    its name.
    """
    if factor.classes and float(value).is_integer():
        return factor.classes[int(value)]
    if factor.transform == "log10":
        return f"{float(value):.{places + 1}g}"
    digits = places - int(np.floor(np.log10(factor.high - factor.low)))
    figures = digits + 1 + int(np.floor(np.log10(max(abs(factor.low), abs(factor.high)))))
    return f"{round(float(value), digits) + 0.0:.{max(6, figures)}g}"


def minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "−")


def decades(low: float, high: float, linear_width: float) -> list[float]:
    """0 and the powers of ten, of either sign, that an asinh scale holds apart; in place of none a round number."""
    top = np.floor(np.log10(high) + 1e-9)
    powers = [10.0**power for power in np.arange(top - 5, top + 1) if 10.0**power > 2 * linear_width]
    powers = powers or [max(step * 10.0**top for step in (1, 2, 5) if step * 10.0**top <= high * (1 + 1e-9))]
    return [-power for power in reversed(powers) if low <= -power] + [0.0] + powers


def _texts(artist: Artist) -> Iterator[Text]:
    """What is drawn of it: an axis that is hidden would make its ticks only to be asked for them."""
    if artist.get_visible():
        if isinstance(artist, Text):
            yield artist
        for child in artist.get_children():
            yield from _texts(child)


def as_written(figure: Figure) -> None:
    """Lets text with dollars that is no mathematics, such as a unit of US$, stand as it is; else drawing would fail."""
    parser = MathTextParser("path")
    for text in _texts(figure):
        written = text.get_text()
        if written.replace(r"\$", "").count("$") < 2:
            continue
        try:
            for line in written.split("\n"):
                parser.parse(line)
        except ValueError:
            text.set_parse_math(False)
