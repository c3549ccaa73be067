"""Runs pages as they stand: python docs/course.py FOLDER [--keep] [PAGE.md ...]

Every block of bash or python of a page is run, one after the other. Without a page it is the course, docs/course/1-*.md
to 6-*.md, in FOLDER/course, one folder for all its pages, as a reader has it. A page that is named runs in FOLDER/NAME,
and what it shows (blocks of text) must be what was printed before it. A folder must not exist. Says how long each page
took; ends with exit code 1 at the first block that fails, or that shows what was not printed. --keep: the pictures that
the pages show are taken from there into the folders of the pages.
"""

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
COURSE = sorted((ROOT / "docs" / "course").glob("[1-9]-*.md"))
BLOCK = re.compile(r"^```(bash|python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w/.-]+\.png)\)")
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
NUMBER = re.compile(r"[-+]?\b\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SHARE, AT_LEAST = 0.3, 0.05
"""By so much of itself, or so much, may a number differ that is shown: another machine rounds otherwise."""


class Unlike(Exception):
    """A page shows what was not printed."""


def run(page: Path, folder: Path, compare: bool) -> float:
    """The seconds that a page takes. Raises CalledProcessError, and Unlike where shown lines are compared."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    env = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **os.environ, "PATH": os.pathsep.join(paths)}
    began, printed = time.monotonic(), list[str]()
    for language, text in BLOCK.findall(page.read_text()):
        if language == "text":
            for line in text.splitlines() if compare else ():
                if line != "..." and not any(alike(line, other) for other in printed):
                    raise Unlike(f"{page.name} shows what was not printed: {line}")
            continue
        print(re.sub("^", "    ", text.rstrip(), flags=re.MULTILINE), flush=True)
        command, printed = [*RUN[language], text], []
        merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, cwd=folder, env=env, **merged) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                printed.append(line)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return time.monotonic() - began


def alike(shown: str, printed: str) -> bool:
    """Whether a line is what was printed, but for spaces; numbers may differ by 30 %; ... is any rest."""
    shown, printed = (" ".join(line.split()) for line in (shown, printed))
    if shown.endswith("..."):
        shown = shown.removesuffix("...").strip()
        printed = " ".join(printed.split(" ")[: len(shown.split(" "))])
    ours, theirs = ([float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (shown, printed))
    same = NUMBER.sub("#", shown).split() == NUMBER.sub("#", printed).split()
    return same and all(math.isclose(a, b, rel_tol=SHARE, abs_tol=AT_LEAST) for a, b in zip(ours, theirs, strict=True))


def keep(page: Path, folder: Path) -> None:
    """Takes the pictures of a page, with 256 colours."""
    for name in PICTURE.findall(page.read_text()):
        to = page.parent / name
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.open(folder / name).convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(to, optimize=True)


def main(where: str, *options: str) -> None:
    """The command."""
    named = [Path(option).resolve() for option in options if option != "--keep"]
    top, took = Path(where).resolve(), {}
    for page in named or COURSE:
        folder = top / (page.stem if named else "course")
        if named or not took:
            folder.mkdir(parents=True)
        if not (top / "jobs").exists():
            (top / "jobs").symlink_to(ROOT / "jobs")
        print(f"# {page.name}", flush=True)
        took[page.name] = run(page, folder, compare=bool(named))
        if "--keep" in options:
            keep(page, folder)
    for name, seconds in took.items():
        print(f"{name:32}{seconds:6.0f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: exit code {error.returncode} of the block above")
    except Unlike as error:
        sys.exit(f"error: {error}")
