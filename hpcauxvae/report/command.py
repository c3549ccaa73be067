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
    device: str = "auto"
    """Where several runs are compared: auto, cpu, or an accelerator of torch."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("no run is given; allowed: one or more folders of training runs")
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"out = {self.out}; allowed: a name that ends in .html")


def report(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae report`: its exit code."""
    config = parse(ReportConfig, argv, "hpcauxvae report")
    for run in config.runs:
        check_run(run, folds=True)
    from hpcauxvae.evaluate.compared import named
    from hpcauxvae.report import page
    from hpcauxvae.runtime.files import refuse_unwritable

    out = config.out or config.runs[0] / page.REPORT
    refuse_unwritable(out.parent, "; --out names another file")
    names = named(config.runs)
    runs = [page.of_run(run)._replace(name=name) for run, name in zip(config.runs, names, strict=True)]
    if len(runs) > 1:
        page.write(out, runs, _compared(config))
    else:
        page.write(out, runs, explorer=_explorer(config) if config.explorer else "")
    print(f"written: {out}, {out.stat().st_size / 1e6:.1f} MB")
    return 0


def _explorer(config: ReportConfig) -> str:
    """The part of the page, of a cross-validation that of its first fold; "" with a line where it cannot be made."""
    from hpcauxvae.report.explorer import explorer
    from hpcauxvae.train.config import fold_folder

    run = config.runs[0]
    first = fold_folder(run, 0)
    try:
        return explorer(first if first.is_dir() else run, data=config.data, checkpoint=_scored_checkpoint(run))
    except InputError as error:
        print(f"note: no explorer: {error}", file=sys.stderr, flush=True)
        return ""


def _scored_checkpoint(run: Path) -> str:
    """The file of the weights that `evaluate` has scored; the last where it has not."""
    from hpcauxvae.train.checkpoint import BY_NAME, LAST

    try:
        return BY_NAME[json.loads((run / "metrics.json").read_text())["settings"]["checkpoint"]]
    except (OSError, ValueError, KeyError, TypeError):
        return LAST


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


def _after_evaluation(run: Path, results: Path) -> Path:
    from hpcauxvae.report import page

    return page.write(results / page.REPORT, [page.of_run(run, results, draw=False)])
