"""Text in pictures: its size, its minus signs, and names that users give, which may look like mathematics."""

from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text


def fit(text: str, size: float, inches: float) -> float:
    """The size in points, or a smaller one where the longest line takes more than this; a letter is 0.6 of it wide."""
    return min(size, 72 * inches / 0.6 / max(1, *map(len, text.split("\n"))))


def minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "−")


def as_written(figure: Figure) -> None:
    """Lets text with dollars that is no mathematics, such as a unit of US$, stand as it is; else drawing would fail."""
    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        written = text.get_text()
        if written.replace(r"\$", "").count("$") < 2:
            continue
        try:
            for line in written.split("\n"):
                parser.parse(line)
        except ValueError:
            text.set_parse_math(False)
