"""A terminal that is drawn anew in place, and pictures on terminals that can: sixels. ANSI alone, no library."""

import contextlib
import os
import re
import select
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_ANSWER_S = 0.5
"""A terminal that has not said by then what it can is taken for one without pictures."""
_SHADES = " ▁▂▃▄▅▆▇█"
_PLAIN = " .:-=+*#@"
_ROOM = 12
"""Lines that a picture takes, or a little fewer."""
_BAND = 6  # rows of pixels in a line of sixels
_COLOURS = 255
_RUN = re.compile(r"(.)\1{3,}")


def blocks() -> str:
    """Nine signs from empty to full that standard output can show."""
    try:
        _SHADES.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN
    return _SHADES


@contextlib.contextmanager
def screen() -> Iterator[None]:
    """A screen of its own, without a cursor; what was there before comes back."""
    sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def draw(lines: Sequence[str], below: str = "") -> None:
    """These lines from the top of the screen, cut to its size; below: a picture of `sixels`, where there is room."""
    columns, rows = shutil.get_terminal_size()
    shown = [line[: columns - 1] for line in lines[: rows - 1]]
    picture = below if rows - len(shown) > _ROOM else ""
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J" + picture)
    sys.stdout.flush()


def shows_pictures() -> bool:
    """Whether the terminal says that it shows sixels: 4 among its device attributes (DA1)."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    answer, until = b"", time.monotonic() + _ANSWER_S
    try:
        tty.setcbreak(descriptor, termios.TCSANOW)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        while not answer.endswith(b"c") and (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                answer += os.read(descriptor, 64)
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
    attributes = re.search(rb"\x1b\[\?([\d;]+)c", answer)
    return attributes is not None and b"4" in attributes[1].split(b";")[1:]


def sixels(path: Path, width: int = 800) -> str:
    """A picture file for such a terminal, at most so many pixels wide. Raises OSError where it cannot be read.

    DEC's format: bands of six rows, in each the pixels of every colour, runs of equal ones counted.
    """
    from PIL import Image

    with Image.open(path) as file:
        image = file.convert("RGB")
    if image.width > width:
        image = image.resize((width, max(1, image.height * width // image.width)))
    image = image.quantize(_COLOURS)
    palette, pixels = image.getpalette() or [], image.tobytes()
    used = sorted(set(pixels))
    colours = (";".join(str(round(part * 100 / 255)) for part in palette[3 * c : 3 * c + 3]) for c in used)
    parts = [f'\x1bPq"1;1;{image.width};{image.height}']
    parts += [f"#{number};2;{colour}" for number, colour in zip(used, colours, strict=True)]
    for top in range(0, image.height, _BAND):
        signs: dict[int, bytearray] = {}
        for y in range(top, min(top + _BAND, image.height)):
            for x, colour in enumerate(pixels[y * image.width : (y + 1) * image.width]):
                signs.setdefault(colour, bytearray(b"?" * image.width))[x] += 1 << (y - top)
        parts += [f"#{colour}{_RUN.sub(_counted, line.decode())}$" for colour, line in sorted(signs.items())]
        parts.append("-")
    return "".join(parts) + "\x1b\\"


def _counted(found: "re.Match[str]") -> str:
    return f"!{len(found[0])}{found[1]}"
