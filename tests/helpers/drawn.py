"""What pictures show: the colours of values, and the text of a figure."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray


def check_png(path: Path) -> None:
    """A picture with something on it, and with a white edge: nothing is cut off."""
    pixels = matplotlib.image.imread(path)[..., :3]
    assert pixels.std() > 0.01
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all(np.all(edge == 1) for edge in edges)


def texts(figure: Figure) -> list[str]:
    """All that is written."""
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def coloured(values: NDArray, norm: Normalize, colours: str) -> NDArray[np.uint8]:
    """Values (H, W) as a colour map has them, (H, W, 4)."""
    return np.asarray(mpl.colormaps[colours](norm(values), bytes=True))


def of_colour(image: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    """Which pixels of (H, W, 4) have this very colour."""
    return np.asarray((image == np.rint(255 * np.array(to_rgba(colour)))).all(-1))
