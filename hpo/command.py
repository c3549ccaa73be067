"""The commands for a search that is there: `python -m hpo.search best FOLDER` and `report FOLDER`.

Here are their options; what they do is in the module of that name, imported once the options are read and the search is
there.
"""

import dataclasses
from pathlib import Path

from hpcauxvae.runtime.command_line import parse
from hpcauxvae.types import InputError
from hpo.logbook import Logbook
from hpo.settings import SearchConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestConfig:
    """The choice of a search, and its full training."""

    search: Path
    """Folder of a search."""
    retrain: bool = False
    """Train the chosen configuration fully, into best/ in that folder, and evaluate it on the test split."""
    seeds: int = 5
    """Trainings, with seeds 1, 2, ... (trials have the seed of the search)."""
    epochs: int | None = None
    """Passes over the training split of each; as many as `hpcauxvae train` takes by itself if not given."""
    workers: int | None = None
    """Trainings at a time, as in the search."""
    processes: int = 1
    """Processes of each."""
    fresh: Path | None = None
    """A further data set, drawn independently, to evaluate on as well."""
    noiseless: tuple[Path, ...] = ()
    """Noiseless draws of the same samples, for the ceiling of SSIM."""

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs", "processes", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} = {value}; allowed: at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The report of a search, finished or not."""

    search: Path
    """Folder of a search."""


def best(argv: list[str]) -> int:
    """The command `python -m hpo.search best`."""
    config = parse(BestConfig, argv, "python -m hpo.search best")
    search = SearchConfig.load(config.search)
    from hpo.best import lines, retrain, show

    row, epochs = show(search, Logbook(config.search).rows, config.epochs)
    if config.retrain:
        print(lines(retrain(dataclasses.replace(config, epochs=epochs or None), search, row)))
        print(f"written: {config.search}/best/scores.json, and the runs in {config.search}/best/trials/")
    return 0


def report(argv: list[str]) -> int:
    """The command `python -m hpo.search report`."""
    folder = parse(ReportConfig, argv, "python -m hpo.search report").search
    SearchConfig.load(folder)  # refused before matplotlib is imported
    from hpo.report import write

    print(f"written: {write(folder)}")
    return 0
