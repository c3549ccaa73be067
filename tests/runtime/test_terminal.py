"""What a terminal is sent: lines in place, cut to its size, and pictures only where it says that it shows them."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcauxvae.runtime import terminal
from hpcauxvae.train.tracking import RECONSTRUCTIONS

COLUMNS, ROWS = 60, 40


def painted(sent: str) -> np.ndarray:
    """What a terminal shows of sixels, (H, W, 3): read as the VT340's manual has it."""
    head = re.match(r'\x1bPq"1;1;(\d+);(\d+)', sent)
    assert head and sent.endswith("\x1b\\")
    shown = np.full((int(head[2]) + 5, int(head[1]), 3), -1, np.int64)
    colours: dict[int, list[int]] = {}
    colour, x, y = 0, 0, 0
    for token in re.finditer(r"#(\d+)(;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|(\$)|(-)", sent[head.end() : -2]):
        if token[1]:
            colour = int(token[1])
            if token[2]:
                colours[colour] = [int(part) for part in token.group(3, 4, 5)]
        elif token[9]:
            x = 0
        elif token[10]:
            x, y = 0, y + 6
        else:
            times, bits = int(token[6] or 1), ord(token[7] or token[8]) - 63
            for row in range(6):
                if bits >> row & 1:
                    shown[y + row, x : x + times] = colours[colour]
            x += times
    return shown[: int(head[2])]


def test_sixels_paint_the_picture(tmp_path: Path) -> None:
    """Of 16 colours, in runs and alone, whose height is no multiple of six."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 16, (20, 30, 1)).repeat(3, 2).astype(np.uint8) * np.array([16, 8, 4], np.uint8)
    pixels[6:12] = pixels[6, 0]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    sent = terminal.sixels(tmp_path / "a.png")
    assert np.abs(painted(sent) - pixels * (100 / 255)).max() <= 1
    assert "!30" in sent
    wide = terminal.sixels(tmp_path / "a.png", width=15)
    assert painted(wide).shape == (10, 15, 3)


def shown_by(command: list[str], answer: bytes) -> tuple[str, int]:
    """What a program sends to a terminal that answers so when it is asked what it is, and its exit code."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    program = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=env | {"PYTHONIOENCODING": "utf-8"})
    os.close(its)
    sent, until, answered = b"", time.monotonic() + 120, False
    while time.monotonic() < until:
        if select.select([own], [], [], 0.1)[0]:
            try:
                sent += os.read(own, 65536)
            except OSError:  # the program has closed its end
                break
        if b"\x1b[c" in sent and not answered:
            os.write(own, answer)
            answered = True
    os.close(own)
    return sent.decode(), program.wait(10)


@pytest.mark.processes
@pytest.mark.parametrize(("answer", "pictures"), [(b"\x1b[?62;4;22c", True), (b"\x1b[?64;1;2c", False), (b"", False)])
def test_watch_draws_in_place_and_a_picture_where_the_terminal_can(
    run_copy: Path, answer: bytes, pictures: bool
) -> None:
    picture = run_copy / RECONSTRUCTIONS
    Image.fromarray(np.arange(60, dtype=np.uint8).reshape(6, 10)).save(picture)
    sent, code = shown_by([sys.executable, "-m", "hpcauxvae", "watch", str(run_copy)], answer)
    assert code == 0, sent
    before, drawn, after = re.split(r"\x1b\[\?1049[hl]", sent)
    assert before.endswith("\x1b[c")
    lines = drawn.split("\x1b[H")[1].split("\x1b[J")[0].split("\x1b[K\r\n")
    assert len(lines) < ROWS and all(len(line) < COLUMNS for line in lines) and "epoch 2/2 done" in "".join(lines)
    assert drawn.rstrip().endswith("\x1b[?25h") and "epoch 2/2 done" in after
    assert ("\x1bPq" in drawn and "\x1bPq" in after) == pictures == ("\x1bPq" in sent)
    assert (str(picture) in after.replace("\r\n", "")) == (not pictures)
