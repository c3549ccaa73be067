"""The explorer in a browser, beside the run that it is of."""

import base64
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.image import imread

from helpers.browser import awaited
from hpcauxvae.data import drawing
from hpcauxvae.data.missing import shown as with_holes
from hpcauxvae.evaluate.door import Trained
from hpcauxvae.report.explored import GALLERY
from hpcauxvae.report.panels import Panels, panels_of

HOOK = "window.hpcauxvaeExplorer"


class Opened(NamedTuple):
    """A page in a browser, and the run that it is of."""

    chrome: Any
    run: Trained
    data: Any
    folder: Path

    def state(self) -> dict[str, Any]:
        return self.chrome.execute_script(f"const s = {HOOK}.state(); return {{...s, image: [...s.image]}}")

    def image(self) -> np.ndarray:
        return np.array(self.state()["image"], np.float32).reshape(self.run.model.image_shape)

    def set(self, factors: dict[str, float], residual: dict[int, float] | None = None) -> np.ndarray:
        awaited(self.chrome, f"{HOOK}.set(given[0], given[1]).then(() => 0)", factors, residual or {})
        return self.image()

    def pixels(self, name: str) -> np.ndarray:
        """(H, W, 3) of a canvas."""
        url = self.chrome.execute_script("return document.querySelector(arguments[0]).toDataURL()", f"#explorer {name}")
        return np.round(255 * imread(io.BytesIO(base64.b64decode(url.split(",")[1]))))[..., :3].astype(int)

    def panels(self) -> tuple[Panels, drawing.Look]:
        look = drawing.look_of(self.data)
        rows = self.told()["test"]["rows"][:GALLERY]
        images = with_holes(self.data.images, rows).astype(np.float32)
        return panels_of(look.hidden(drawing.upright(images, self.data)), look), look

    def place(self, number: int) -> tuple[float, float]:
        """Where the point of an image lies on the scatter, from its middle, in shares of its width and height."""
        told = self.told()
        codes = np.frombuffer(base64.b64decode(told["test"]["codes"]), "<f4").reshape(-1, told["latents"])
        x_N, y_N = (codes @ np.array(axis["weights"]) for axis in told["axes"][:2])
        x, y = ((values[number] - values.min()) / np.ptp(values) - 0.5 for values in (x_N, y_N))
        return x * (1 - 2 * 26 / 520), -y * (1 - 2 * 26 / 400)

    def told(self) -> dict[str, Any]:
        return json.loads(self.chrome.execute_script("return document.querySelector('script.told').textContent"))


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one - other).max() <= 1e-3 * np.abs(other).max())


def drawn_at_random(page: Opened, rng: np.random.Generator) -> dict[str, float]:
    """Values of some factors; of cosine and sine of an angle the one, the other, or both."""
    found = {}
    for guide in page.run.guides:
        if rng.random() < 0.7:
            u = guide.factor.unscale(rng.uniform(-0.2 * (guide.factor.kind == "periodic"), 1))
            found[guide.factor.name] = float(rng.choice(guide.levels) if guide.by_classes else u)
    return found


def assert_draws_what_the_door_generates(page: Opened) -> None:
    """A hundred random settings, from twenty starts; and settings of the other latents, which the door decodes."""
    rng, rows, typical = np.random.default_rng(1), page.told()["test"]["rows"], []
    for turn in range(100):
        if turn % 5 == 0:
            start = turn // 5 % (len(rows) + 1) - 1  # the first is what is typical of the training
            awaited(page.chrome, f"{HOOK}.start(given[0])", start)
            like = None if start < 0 else page.data.images[rows[start]]
            assert near(page.image(), page.run.generate(like=like)), f"start {start}"
        factors = drawn_at_random(page, rng)
        awaited(page.chrome, f"{HOOK}.start(given[0])", start)
        found = page.set(factors)
        assert near(found, page.run.generate(factors, like=like)), (start, factors)
        typical.append(found)
    assert np.std(typical, 0).max() > 0.05 * np.max(typical), "the settings make a difference"
    latents = page.run.config.latents
    found = page.set({}, {latents: 2.5})
    code = page.state()["code"]
    assert code[-1] == 2.5 and near(found, page.run.decode(code)) and not near(found, typical[-1])
