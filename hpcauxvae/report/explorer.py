"""A part of the page in which the reader moves the factors of a run, and its decoder draws: docs/explorer.md.

The decoder runs in the browser, by ONNX Runtime Web, which `make engine` puts beside the sources in static/engine. The
page holds all that it needs; it works from a file, without a network. Or the decoder runs in Python (serve.py).
"""

import base64
import gzip
import json
import sys
from pathlib import Path
from typing import Any

from hpcauxvae.data.hdf5 import ImageSet
from hpcauxvae.evaluate.export import decoder_graph
from hpcauxvae.evaluate.sets import refuse_unguided
from hpcauxvae.report.explored import told_of
from hpcauxvae.report.look import rendered
from hpcauxvae.train.checkpoint import LAST
from hpcauxvae.train.run import Run, load_run, training_set
from hpcauxvae.types import InputError

STATIC = Path(__file__).parent / "static"
ENGINE = STATIC / "engine"
PARTS = {"library": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
"""Files of the engine, by the name that the page has for them."""
MOST_BYTES = 16_000_000
"""Of the part, in a page that can be mailed."""
_SCRIPTS = ("packed", "factors", "drawing", "scatter", "sliders", "main")
_BEGINS = '<section id="explorer"'
_SERVE = "`hpcauxvae report RUN --serve` has one"
NO_ENGINE = (
    "The explorer is left out, because the engine that draws in the browser is not installed: `make engine` in a "
    "checkout of hpcauxvae, which takes npm, puts it there. `hpcauxvae report RUN --serve` does without it."
)


def explorer(run_folder: Path, *, data: Path | None = None, checkpoint: str = LAST) -> str:
    """The part of a page for a run, `<section id="explorer">` with its own styles and scripts; some 5 MB of text.

    data: where the run's data set lies now; checkpoint: the file in its folder. Where the engine is not installed the
    section says so. Where a run cannot be explored, because it has no guided latents, its data set is gone, ONNX is not
    installed, its encoder sees labels, or the part would have more than MOST_BYTES, the answer is "", and a line on
    standard error says why. Raises InputError where the run itself cannot be read.
    """
    if not all((ENGINE / name).is_file() for name in PARTS.values()):
        return _section(f'<h2 id="explorer-title">Explorer</h2>\n<p>{NO_ENGINE}</p>')
    run = load_run(run_folder, checkpoint)
    try:
        _refuse_unexplored(run)
        told = told_of(run, training_set(run, data))
        parts = {name: (ENGINE / file).read_bytes() for name, file in PARTS.items()} | {"decoder": _graph(run)}
        held = [f'<script type="text/plain" class="{name}">{_zipped(part)}</script>' for name, part in parts.items()]
        found = _part(told, "wasm", *held)
        if len(found) > MOST_BYTES:
            raise InputError(f"it would add {len(found) / 1e6:.0f} MB to the page; {_SERVE}")
    except (InputError, ValueError) as error:
        print(f"note: no explorer: {error}", file=sys.stderr, flush=True)
        return ""
    return found


def _graph(run: Run) -> bytes:
    """Raises InputError where there is no ONNX, or it has no words for the model."""
    try:
        return decoder_graph(run)
    except (InputError, RuntimeError, ValueError) as error:
        raise InputError(f"{error}; {_SERVE}") from error


def served(run: Run, data: ImageSet) -> str:
    """The same part, which asks the server that it comes from for each image. Raises InputError where there is none."""
    _refuse_unexplored(run)
    return _part(told_of(run, data), "http")


def _refuse_unexplored(run: Run) -> None:
    """Raises InputError where no factor can be moved."""
    refuse_unguided(run)
    if run.model.SEES_LABELS:
        raise InputError(f"{run.folder}: the encoder of model {run.config.model} needs labels")


def is_in(page: Path) -> bool:
    """Whether there is such a page, and it has the part."""
    return page.is_file() and _BEGINS in page.read_text(encoding="utf-8", errors="replace")


def alone(fragment: str, title: str = "Explorer") -> str:
    """A page of this part and nothing else."""
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    style = '<meta name="color-scheme" content="light dark">'
    head = f'<meta charset="utf-8">{view}{style}<link rel="icon" href="data:,"><title>{title}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{fragment}\n</body></html>\n'


def _part(told: dict[str, Any], engine: str, *held: str) -> str:
    """engine: the script that has it; held: elements that this needs."""
    as_json = json.dumps(told, allow_nan=False).replace("<", "\\u003c")
    scripts = "\n".join(_static(f"{name}.js") for name in (engine, *_SCRIPTS))
    return _section(
        rendered("explorer.html", STATIC / "explorer", served=engine == "http"),
        f'<script type="application/json" class="told">{as_json}</script>',
        *held,
        f'<script type="module">\n{scripts}</script>',
    )


def _section(*parts: str) -> str:
    inner = "\n".join((f"<style>\n{_static('explorer.css')}</style>", *parts))
    return f'{_BEGINS} aria-labelledby="explorer-title">\n{inner}\n</section>'


def _static(name: str) -> str:
    return (STATIC / "explorer" / name).read_text(encoding="utf-8")


def _zipped(part: bytes) -> str:
    return base64.b64encode(gzip.compress(part, mtime=0)).decode()
