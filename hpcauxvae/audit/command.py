"""The command `hpcauxvae audit`: its options, read before anything heavy is imported."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hpcauxvae.evaluate.command import check_run
from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.launchers import find_world
from hpcauxvae.types import InputError

ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Asks of a measurement: is it already in the auxiliary variables, does it add independent variation to the images,
    or is it not in the images at all?

    The answers are in a table, in audit.json and on a page, audit.html. docs/audit.md says how to read them.
    """

    source: Path
    """Folder of a training run that was not given the candidates; or a data set, with --aux, on which such a run is
    trained first."""
    candidate: str = ""
    """Factors of the data set to ask about, comma-separated names; all: each that is not auxiliary."""
    aux: str = ""
    """Of a data set: the auxiliary variables that are known, comma-separated."""
    with_candidate: Annotated[bool, tyro.conf.arg(name="with")] = False
    """Of a data set: train once more with each candidate as a further auxiliary variable, too, and say by how much the
    likelihood of test images gains."""
    epochs: int = 0
    """Of these trainings; 0: as of `train`, 6,000 steps. All else is as `train` has it by default."""
    out: Path | None = None
    """Folder for audit.json, audit.html and audit/; that of the run if not given. Of a data set the folder that the
    runs are trained into, audit if not given: what is finished there is used again."""
    data: Path | None = None
    """Of a run: where its data set lies now; the recorded path if not given."""
    level: float = 0.01
    """Share of the candidates without independent variation that are taken for such with it: that of both tests
    together, of the code and of the reader of images."""
    seed: int = 0
    """Seed of folds and orders, and of the trainings."""
    checkpoint: Literal["last", "best"] = "last"
    """Which weights of the run."""
    device: str = "auto"
    """auto, cpu, or an accelerator of torch: cuda (ROCm too), cuda:1, xpu, mps."""
    pictures: bool = True
    """Draw what of the image changes with each candidate that adds something."""

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("candidate is empty; allowed: --candidate NAME, several with commas, or all")
        if self.candidate != ALL and ALL in self.names:
            raise InputError(f"candidate = {self.candidate}; allowed: names of factors, or {ALL} alone")
        if not 0 < self.level < 0.5:
            raise InputError(f"level = {self.level}; allowed: above 0 and below 0.5")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed = {self.seed}; allowed: 0 to {2**32 - 1}")
        if self.epochs < 0:
            raise InputError(f"epochs = {self.epochs}; allowed: at least 0")
        if both := sorted(set(self.names) & set(self.aux.split(","))):
            raise InputError(f"candidate {both[0]} is in aux = {self.aux}; allowed: factors that are not auxiliary")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the candidates; `all` stands for all."""
        return tuple(name for name in self.candidate.split(",") if name)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(self).items()}


def main(argv: list[str] | None = None) -> int:
    """The command `hpcauxvae audit`: its exit code."""
    config = parse(AuditConfig, argv, "hpcauxvae audit")
    if (processes := find_world().world_size) > 1:
        raise InputError(f"audit: started as {processes} processes; allowed: one, without a launcher")
    if config.source.is_dir():
        _refuse_options_of_sets(config)
        check_run(config.source)
    elif not config.source.exists():
        raise InputError(f"{config.source}: no such folder or file; allowed: a training run, or a data set with --aux")
    elif not config.aux:
        raise InputError(f"{config.source}: aux is empty; allowed for a data set: --aux NAME, several with commas")
    elif config.data is not None:
        raise InputError(f"data = {config.data}; allowed: with a training run, not with a data set")
    from hpcauxvae.audit.audit import audit

    return audit(config)


def _refuse_options_of_sets(config: AuditConfig) -> None:
    for name, value in (("aux", config.aux), ("with", config.with_candidate), ("epochs", config.epochs)):
        if value:
            raise InputError(
                f"{name} = {value}; allowed: with a data set, not with a run ({config.source}), which has been trained"
            )
