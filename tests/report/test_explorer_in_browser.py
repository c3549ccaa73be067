"""The explorer in a real Chromium, from a file: it draws what Python draws, for every kind of factor and of picture."""

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import hpcauxvae
from helpers.browser import asked_for, awaited, chromium, skip_without_chromium
from helpers.explored import KINDS, explored
from helpers.explorer_page import HOOK, Opened, assert_draws_what_the_door_generates, near
from hpcauxvae.data import drawing
from hpcauxvae.data.hdf5 import open_set
from hpcauxvae.data.missing import shown as with_holes
from hpcauxvae.evaluate import command
from hpcauxvae.report import explored as told
from hpcauxvae.report.explorer import ENGINE, NO_ENGINE, PARTS, alone, explorer

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest, once: Callable, tmp_path: Path, monkeypatch) -> Iterator[Opened]:
    """All other latents count as in use, although so short a training leaves them off."""
    monkeypatch.setattr(told, "off", lambda mean_NZ, _: np.zeros(mean_NZ.shape[1], bool))
    monkeypatch.setattr(told, "effects", lambda run, seen, mean_NZ, of_Z: 1.0 * of_Z)
    if not all((ENGINE / name).is_file() for name in PARTS.values()):
        pytest.skip(NO_ENGINE)
    skip_without_chromium()
    folder = once(f"explored-{request.param}", lambda folder: explored(request.param, folder))
    made = lambda place: (place / "page.html").write_text(alone(explorer(folder / "run")))  # noqa: E731
    shutil.copy(once(f"page-{request.param}", made) / "page.html", tmp_path)
    run = hpcauxvae.load(folder / "run", device="cpu")
    with chromium(tmp_path) as chrome:
        chrome.get(f"file://{tmp_path}/page.html")
        awaited(chrome, f"{HOOK}.ready")
        yield Opened(chrome, run, open_set(folder / "data.h5"), tmp_path)
        assert [entry["message"] for entry in chrome.get_log("browser")] == []
        others = [address for address in asked_for(chrome) if not address.startswith(("data:", "blob:"))]
        assert others == [f"file://{tmp_path}/page.html"], "the page asks for nothing but itself"


@pytest.mark.parametrize("page", ["guides"], indirect=True)
def test_draws_what_the_door_generates(page: Opened) -> None:
    assert_draws_what_the_door_generates(page)


def test_colours_are_those_of_the_pictures(page: Opened) -> None:
    """What is drawn, the start, and the difference, as Python draws them."""
    panels, look = page.panels()
    shape, data = page.run.model.image_shape, page.data
    start = page.image()
    last = page.run.factors[-1]
    image = page.set({last.name: last.high})
    upright = look.hidden(drawing.upright(np.stack([image, start]), data))
    assert np.abs(page.pixels(".drawn") - panels.picture(upright[0])).max() <= 2
    row = page.told()["test"]["rows"][0]
    original = look.hidden(drawing.upright(with_holes(data.images, [row]).astype(np.float32), data))[0]
    assert np.abs(page.pixels(".begun") - panels.picture(original)).max() == 0
    if panels.by == "map" or panels.by == "colours":
        apart = (upright[0] - upright[1]).mean(0, keepdims=True)
        wanted = drawing.shade(apart, drawing.residual_scale(apart))[..., :3].astype(int)
        assert np.abs(page.pixels(".apart") - wanted).max() <= 2
    assert page.pixels(".drawn").shape[:2] == {
        "map": shape[1:], "colours": shape[1:], "bands": (shape[1], 5 * shape[2]), "lines": (96, shape[2])
    }[panels.by]  # fmt: skip


@pytest.mark.parametrize("page", ["guides"], indirect=True)
def test_hands_move_it(page: Opened) -> None:
    """Sliders, keys, numbers, classes, starts by list, button and point, the way back, and all inputs have labels."""
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    chrome, find = page.chrome, lambda css: page.chrome.find_element(By.CSS_SELECTOR, f"#explorer {css}")

    def field(label: str) -> Any:
        told = next(one for one in chrome.find_elements(By.CSS_SELECTOR, "#explorer label") if one.text == label)
        return chrome.find_element(By.ID, told.get_attribute("for"))

    def changes(act: Callable[[], object]) -> dict[str, Any]:
        before = page.state()
        act()
        WebDriverWait(chrome, 10).until(lambda _: page.state()["image"] != before["image"])
        return page.state()

    unlabelled = "return [...document.querySelectorAll('#explorer :is(input, select, button, canvas[role])')]"
    unlabelled += ".filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map((e) => e.outerHTML)"
    assert chrome.execute_script(unlabelled) == []
    begun = page.state()
    names = [factor.name for factor in page.run.factors]

    slider, place = field("mass [kg]"), names.index("mass")
    mass = changes(lambda: slider.send_keys(Keys.ARROW_RIGHT))["factors"][place]
    assert mass == pytest.approx(begun["factors"][place] * 10 ** (3 / 200), rel=0.05), "a two-hundredth of the decades"
    slider = field("azimuth [deg]")
    assert changes(lambda: slider.send_keys(Keys.END))["factors"][0] == 180
    assert changes(lambda: slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT))["factors"][0] == pytest.approx(-178.2)
    tilt = field("tilt (cos_tilt and sin_tilt) [deg]")
    cosine, sine = changes(lambda: tilt.send_keys(Keys.HOME))["factors"][-2:]
    assert (cosine, sine) == (1, 0)
    classes = Select(field("kind of star"))
    other = next(option for option in classes.options if not option.is_selected())
    assert changes(other.click)["factors"][1] == float(other.get_attribute("value"))
    number = chrome.find_element(By.CSS_SELECTOR, "#explorer input[aria-label='step, as a number']")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("3.5")
    WebDriverWait(chrome, 10).until(lambda _: page.state()["factors"][3] == 3.5)
    assert changes(find(".back").click)["factors"] == begun["factors"]

    assert changes(lambda: Select(find("#explorer-start")).select_by_index(3))["started"] == 2
    button = chrome.find_elements(By.CSS_SELECTOR, "#explorer .gallery button")[5]
    assert changes(lambda: button.send_keys(Keys.ENTER))["started"] == 5
    assert button.get_attribute("aria-pressed") == "true"
    canvas = find(".scatter canvas")
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y = (
        share * side for share, side in zip(page.place(3), (canvas.size["width"], canvas.size["height"]), strict=True)
    )
    moved = changes(lambda: ActionChains(chrome).move_to_element_with_offset(canvas, x, y).click().perform())
    assert moved["started"] == 3 and find(".seen").is_displayed()


@pytest.mark.parametrize("page", ["guides"], indirect=True)
def test_what_is_typed_and_is_no_number_or_beyond_a_turn(page: Opened) -> None:
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    chrome = page.chrome
    number = chrome.find_element(By.CSS_SELECTOR, "#explorer input[aria-label='step, as a number']")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("3.5")
    number.send_keys(Keys.BACKSPACE * 3)
    assert number.get_attribute("aria-invalid") == "true" and page.state()["factors"][3] == 3, "marked, not drawn"
    number.send_keys(Keys.TAB)
    assert number.get_attribute("aria-invalid") is None and number.get_attribute("value") == "3", "what counts is back"
    angle = chrome.find_element(By.CSS_SELECTOR, "#explorer input[aria-label='azimuth [deg], as a number']")
    angle.send_keys(Keys.CONTROL, "a")
    angle.send_keys("1000000090")
    WebDriverWait(chrome, 10).until(lambda _: page.state()["factors"][0] == pytest.approx(10))
    angle.send_keys(Keys.TAB)
    assert float(angle.get_attribute("value")) == pytest.approx(10)


@pytest.mark.parametrize("page", ["guides"], indirect=True)
def test_what_is_taken_away(page: Opened) -> None:
    """The picture as PNG; the command that is shown makes the same image; warnings where nobody knows."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    astropy = pytest.importorskip("astropy.io.fits")
    text = lambda css: page.chrome.find_element(By.CSS_SELECTOR, f"#explorer {css}").text  # noqa: E731
    page.chrome.find_element(By.CSS_SELECTOR, "#explorer .save").click()
    WebDriverWait(page.chrome, 20).until(lambda _: (page.folder / "image.png").exists())
    large = np.round(255 * imread(page.folder / "image.png"))[..., :3].astype(int)
    times = round(512 / 12)
    assert large.shape[:2] == (12 * times, 12 * times)
    assert np.array_equal(large[times // 2 :: times, times // 2 :: times], page.pixels(".drawn"))

    wanted = page.set({"azimuth": 33.0, "mass": 20.0, "kind of star": 5, "step": 2.0, "cos_tilt": 0.6, "sin_tilt": 0.8})
    assert text(".warning") == ""
    words = shlex.split(text(".command"))
    assert words[:2] == ["hpcauxvae", "generate"] and words[-1] == "image.png"
    out = page.folder / "image.fits"
    assert command.generate([*words[2:-1], str(out)]) == 0
    assert near(wanted, astropy.getdata(out)[0])

    page.set({"mass": 3000.0})
    assert "not trained on such values of mass" in text(".warning")
    other = page.told()["residuals"][0]
    number = other["place"] + page.run.config.latents - len(page.told()["typical"]["residual"]) + 1
    page.set({"mass": 20.0}, {number: 50.0})
    assert text(".warning") == f"The model was not trained on such values of {other['name']}."
    page.set({}, {number: other["low"]})
    last = page.run.config.latents
    wanted = page.set({"mass": 20.0}, {last: 1.0})
    found: dict[str, Any] = {}
    exec(text(".command"), found)
    assert near(wanted, found["image"])


@pytest.mark.parametrize("page", ["markup"], indirect=True)
def test_names_with_markup_are_names(page: Opened) -> None:
    """In labels, units, lists, the axes and the command; nothing of a name becomes an element or ends the script."""
    (factor,) = page.run.factors
    chrome, name = page.chrome, factor.name
    assert "</script>" in name and "id=evil" in name and "<i>" in factor.unit
    assert chrome.execute_script("return document.querySelectorAll('#evil, #explorer i, body > script').length") == 0
    texts = lambda css: chrome.execute_script(  # noqa: E731
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", f"#explorer {css}"
    )
    assert texts(".slider label")[0] == f"{name} [{factor.unit}]"
    assert f", {name} " in texts("#explorer-start option")[1] and f"latent 1: {name}" in texts("#explorer-x option")
    page.set({name: 1.0})
    words = shlex.split(texts(".command")[0])
    assert words[:3] == ["hpcauxvae", "generate", str(page.run.run.folder)] and f"{name}=1" in words
    page.set({name: 3.0})
    assert texts(".warning") == [f"The model was not trained on such values of {name}."]
