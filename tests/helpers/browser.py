"""A Chromium without a window, driven by selenium; tests are skipped where it is not there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "about:blank"),
)


def skip_without_chromium() -> None:
    """Skips the test that calls it, and says what is missing."""
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    if any(shutil.which(name) is None for name in ("chromium", "chromedriver")):
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")


@contextmanager
def chromium(folder: Path, width: int = 1280, height: int = 1000) -> "Iterator[Chrome]":
    """folder: for its profile and what it downloads."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (*QUIET, f"--window-size={width},{height}", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        chrome.set_script_timeout(120)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        yield chrome
    finally:
        chrome.quit()


def awaited(chrome: "Chrome", expression: str, *given: Any) -> Any:
    """What a promise comes to. expression: of `given`, an array."""
    script = (
        "const given = [...arguments].slice(0, -1), done = arguments[arguments.length - 1];"
        f"Promise.resolve({expression}).then((value) => done([value]), (error) => done(String(error.stack)));"
    )
    found = chrome.execute_async_script(script, *given)
    assert isinstance(found, list), found
    return found[0]


def asked_for(chrome: "Chrome") -> list[str]:
    """The addresses that pages have asked for so far, those of the browser's own pages left out."""
    messages = (json.loads(entry["message"])["message"] for entry in chrome.get_log("performance"))
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith(("chrome:", "chrome-untrusted:"))]
