"""The command `hpcauxvae report`, and `hpcauxvae evaluate` with the page that it writes.

Their options are read before anything heavy is imported.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcauxvae.evaluate.command import check_run
from hpcauxvae.evaluate.command import evaluate as scored
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.types import InputError

if TYPE_CHECKING:
    from hpcauxvae.report.page import Compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One page of a run, or of several side by side: an HTML file that can be mailed and needs no network.

    It shows what `evaluate` found: verdict, scores and pictures. Of several runs it has what `compare` finds, too.
    """

    runs: tuple[Path, ...]
    """Folders of one or more training runs, or of a cross-validation."""
    out: Path | None = None
    """The file to write, NAME.html, which is replaced; report.html in the folder of the first run if not given."""
    data: Path | None = None
    """Where the data set lies now; the path that the first run recorded if not given."""
    fresh: Path | None = None
    """A further data set on which several runs are compared, as of `compare`."""
    explorer: bool = True
    """Whether the page of one run has the explorer, sliders by which its decoder draws: 6 MB (docs/explorer.md)."""
    serve: bool = False
    """Instead of a file: the page of one run in a browser on this machine, whose images Python decodes. For pages too
    large for a file, and without ONNX. It prints the address, and how to get there from elsewhere; Ctrl-C ends it."""
    port: int | None = None
    """Of --serve; a free one if not given."""
    device: str = "auto"
    """Where several runs are compared, and --serve decodes: auto, cpu, or an accelerator of torch."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("no run is given; allowed: one or more folders of training runs")
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"out = {self.out}; allowed: a name that ends in .html")
        if self.port is not None and not self.serve:
            raise InputError(f"port = {self.port}; allowed: with --serve")
        if self.serve and (len(self.runs) > 1 or self.out or self.fresh or not self.explorer):
            raise InputError("--serve; allowed: with one run, and without --out, --fresh and --no-explorer")


def report(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae report`: its exit code."""
    config = parse(ReportConfig, argv, "hpcauxvae report")
    for run in config.runs:
        check_run(run, folds=True)
    if config.serve:
        return _serve(config)
    from hpcauxvae.evaluate.compared import named
    from hpcauxvae.report import page
    from hpcauxvae.runtime.files import refuse_unwritable

    out = config.out or config.runs[0] / page.REPORT
    refuse_unwritable(out.parent, "; --out names another file")
    names = named(config.runs)
    runs = [
        page.of_run(run, data=config.data)._replace(name=name) for run, name in zip(config.runs, names, strict=True)
    ]
    if len(runs) > 1:
        page.write(out, runs, _compared(config))
    else:
        page.write(out, runs, explorer=_explorer(config.runs[0], data=config.data) if config.explorer else "")
    print(f"written: {out}, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def _serve(config: ReportConfig) -> int:
    from hpcauxvae.report import page
    from hpcauxvae.report.explorer import served
    from hpcauxvae.report.serve import Server
    from hpcauxvae.runtime.devices import device_of, place
    from hpcauxvae.runtime.launchers import find_world
    from hpcauxvae.train.run import load_run, training_set

    (folder,) = config.runs
    told = page.of_run(folder, data=config.data)
    run = load_run(*_explored(folder))
    place(run.model, device_of(find_world({}), config.device))
    text = page.page([told], explorer=served(run, training_set(run, config.data)))
    Server(text, run.decode, run.config.latents, config.port).run()
    return 0


def _explorer(folder: Path, results: Path | None = None, data: Path | None = None) -> str:
    """The part of the page; "" with a line where it cannot be made."""
    from hpcauxvae.report.explorer import explorer

    run, checkpoint = _explored(folder, results)
    try:
        return explorer(run, data=data, checkpoint=checkpoint)
    except InputError as error:
        print(f"note: no explorer: {error}", file=sys.stderr, flush=True)
        return ""


def _explored(folder: Path, results: Path | None = None) -> tuple[Path, str]:
    """The run, of a cross-validation that of its first fold; and the file of the weights that `evaluate` has scored.

    The last where it has not. results: where `evaluate` wrote, if not there.
    """
    from hpcauxvae.train.checkpoint import BY_NAME, LAST
    from hpcauxvae.train.config import fold_folder

    first = fold_folder(folder, 0)
    run = first if first.is_dir() else folder
    try:
        return run, BY_NAME[json.loads(((results or folder) / "metrics.json").read_text())["settings"]["checkpoint"]]
    except (OSError, ValueError, KeyError, TypeError):
        return run, LAST


def _compared(config: ReportConfig) -> "Compared":
    """What `compare` finds; without it the line that says why it finds nothing."""
    from hpcauxvae.evaluate.command import CompareConfig
    from hpcauxvae.evaluate.compare import compare
    from hpcauxvae.report import page

    asked = CompareConfig(runs=config.runs, data=config.data, fresh=config.fresh, device=config.device)
    try:
        return page.compared(compare(asked))
    except InputError as error:
        print(f"warning: the runs are not compared: {error}", file=sys.stderr, flush=True)
        return page.Compared(lines=[f"No differences of these runs are known: {error}"], tables=[], figures=[])


def evaluate(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae evaluate`: scores and pictures, then the page of them."""
    return scored(argv, write_page=_after_evaluation)


def _after_evaluation(run: Path, results: Path, data: Path | None) -> Path:
    """With the explorer where the page that it replaces had one."""
    from hpcauxvae.report import page
    from hpcauxvae.report.explorer import is_in

    out = results / page.REPORT
    explorer = _explorer(run, results, data) if is_in(out) else ""
    return page.write(out, [page.of_run(run, results, draw=False, data=data)], explorer=explorer)
