"""Runs the course as it stands on its pages: python docs/course.py FOLDER [--keep]

Every block of bash or python of docs/course/1-*.md to 5-*.md is run in FOLDER/course, which must not exist, one after
the other, in one folder for all pages as a reader has it. Says how long each page took; ends with exit code 1 at the
first block that fails. --keep: the pictures that the pages show are taken from there into docs/course/.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "course").glob("[1-5]-*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w/.-]+\.png)\)")
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def run(page: Path, folder: Path) -> float:
    """The seconds that a page takes. Raises CalledProcessError."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    env = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", **os.environ, "PATH": os.pathsep.join(paths)}
    began = time.monotonic()
    for language, text in BLOCK.findall(page.read_text()):
        print(re.sub("^", "    ", text.rstrip(), flags=re.MULTILINE), flush=True)
        subprocess.run([*RUN[language], text], cwd=folder, env=env, check=True)
    return time.monotonic() - began


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
    folder = Path(where).resolve() / "course"
    folder.mkdir(parents=True)
    (folder.parent / "jobs").symlink_to(ROOT / "jobs")
    took = {}
    for page in PAGES:
        print(f"# {page.name}", flush=True)
        took[page.name] = run(page, folder)
        if "--keep" in options:
            keep(page, folder)
    for name, seconds in took.items():
        print(f"{name:32}{seconds:6.0f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: exit code {error.returncode} of the block above")
