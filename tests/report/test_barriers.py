"""Nobody is kept out of the page: axe-core finds nothing on it, light and dark, on a screen and on a phone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.browser import awaited, chromium, skip_without_chromium
from helpers.explored import explored
from helpers.places import ROOT
from hpcauxvae.report import command
from hpcauxvae.report.explorer import ENGINE, NO_ENGINE, PARTS

AXE = ROOT / "build/npm/node_modules/axe-core/axe.min.js"
VIEWS = ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"))
FOUND = """axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations.flatMap(
  ({id, impact, nodes}) => nodes.map(({target, failureSummary}) => `${impact} ${id}: ${target} ${failureSummary}`)))"""

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.mark.parametrize("kind", ["evaluated", "bands"])
def test_no_barriers(once: Callable, evaluated_run: Path, tmp_path: Path, kind: str) -> None:
    """A page with every picture, and one of five bands; both with the explorer, and all folds open."""
    if not AXE.is_file():
        pytest.skip("needs axe-core: `make engine` in a checkout of hpcauxvae, which takes npm, puts it in build/npm")
    if not all((ENGINE / name).is_file() for name in PARTS.values()):
        pytest.skip(NO_ENGINE)
    skip_without_chromium()
    run = evaluated_run
    if kind == "bands":
        run = once("explored-bands", lambda folder: explored("bands", folder)) / "run"
    assert command.report([str(run), "--out", str(tmp_path / "page.html")]) == 0
    with chromium(tmp_path) as chrome:
        for width, shade in VIEWS:
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            features = [{"name": "prefers-color-scheme", "value": shade}]
            chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            chrome.get((tmp_path / "page.html").as_uri())
            awaited(chrome, "window.hpcauxvaeExplorer.ready")
            chrome.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            chrome.execute_script(AXE.read_text(encoding="utf-8"))
            assert awaited(chrome, FOUND) == [], f"{width} pixels, {shade}"
