"""`python -m hpcauxvae preflight --ranks N ...` on every rank of a job: its options, read before torch is imported."""

import dataclasses
from pathlib import Path

from hpcauxvae.runtime.command_line import parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreflightConfig:
    """Checks what a job needs, on all its ranks. Exit code 0; 2 with a line of what is wrong; 1 if ranks are late."""

    ranks: int
    """How many ranks the job was given."""
    data: Path | None = None
    """HDF5 file that every node must be able to read (docs/data-format.md)."""
    aux: str = ""
    """Names of factors, comma-separated, that `data` must have."""
    out: Path | None = None
    """Where the job will write: must be writable and have room."""
    space_gb: float = 1.0
    """How much room, in GB (1e9 bytes)."""
    device: str = "auto"
    """auto, cpu, or an accelerator such as cuda or xpu, which each rank must have for itself."""
    without_kernel: bool = False
    """Go on without the compiled kernel of the device: the torch reference serves, more slowly."""
    seconds: float = 30.0
    """How long the ranks may take to be through."""


def main(argv: list[str] | None = None) -> int:
    """The command `python -m hpcauxvae preflight`."""
    config = parse(PreflightConfig, argv, "hpcauxvae preflight", positional=False)
    from hpcauxvae.cluster.preflight import preflight
    from hpcauxvae.runtime.collectives import stop

    try:
        print(preflight(config))
    finally:
        stop()
    return 0
