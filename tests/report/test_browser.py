"""The page in a real browser: as wide as a phone, light and dark, without a network, and printed."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.html_page import Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
PROBE = """<script>addEventListener("load", () => { document.body.innerHTML = ""; document.body.append(
  JSON.stringify(Object.assign(found, {asked: performance.getEntriesByType("resource").map(one => one.name)}))); });
const found = {wide: document.documentElement.scrollWidth, seen: innerWidth,
  dark: matchMedia("(prefers-color-scheme: dark)").matches,
  boxes: [...document.querySelectorAll(".wide, .card")].map(box => box.scrollWidth > box.clientWidth),
  pictures: [...document.images].map(one => one.naturalWidth)};</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.processes,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; apt-get install chromium brings it"),
]


def browse(page: Path, folder: Path, *flags: str) -> str:
    """What a browser that knows nothing of others prints."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=True).stdout


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_window_but_what_scrolls_in_its_box(
    evaluated_run: Path, tmp_path: Path, width
) -> None:
    """500 pixels are the least that a browser without a window has."""
    own = (evaluated_run / "report.html").read_text()
    (tmp_path / "probe.html").write_text(own.replace("</body>", f"{PROBE}</body>"))
    shown = browse(tmp_path / "probe.html", tmp_path, f"--window-size={width},900", "--dump-dom")
    found = json.loads(Page(shown.replace("<!DOCTYPE html>", "<!doctype html>")).all("body")[0].text)
    assert found["wide"] <= found["seen"] == width
    assert not found["dark"] and found["pictures"] and min(found["pictures"]) > 100
    assert [name for name in found["asked"] if not name.startswith("data:")] == []
    assert any(found["boxes"]) == (width == 500), "tables and pictures scroll in their box on a phone"


def test_light_and_dark_with_pictures_on_white(evaluated_run: Path, tmp_path: Path) -> None:
    shades = []
    for flags in ((), (DARK,)):
        shot = f"--screenshot={tmp_path / 'x.png'}"
        browse(evaluated_run / "report.html", tmp_path, shot, "--window-size=900,6000", *flags)
        grey = np.asarray(Image.open(tmp_path / "x.png").convert("L")).astype(int)
        shades.append((grey[5, 5], np.median(grey), (grey > 250).mean()))
    (light, _, _), (dark, middle, white) = shades
    assert light == 255 and dark < 40 and middle < 40
    assert white > 0.1, "the pictures keep their white"


def test_it_prints(evaluated_run: Path, tmp_path: Path) -> None:
    browse(evaluated_run / "report.html", tmp_path, f"--print-to-pdf={tmp_path / 'x.pdf'}")
    made = (tmp_path / "x.pdf").read_bytes()
    assert made.startswith(b"%PDF") and 3 <= made.count(b"/Type /Page\n") + made.count(b"/Type /Page ") <= 20
