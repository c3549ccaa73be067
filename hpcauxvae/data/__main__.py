"""`python -m hpcauxvae.data check FILE`: does the file keep the format?"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcauxvae.data.hdf5 import ImageSet, open_set, validate


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checks a data set against docs/data-format.md and says what it holds."""

    action: Literal["check"]
    """check: every rule, one line for each thing wrong; exit code 2 if there is any."""
    file: Path
    """The HDF5 file."""


def describe(image_set: ImageSet) -> str:
    """Size, factors and provenance, one a line."""
    size = "x".join(map(str, image_set.shape))
    lines = [f"{image_set.path}: {len(image_set)} images of {size} (C x H x W), in order"]
    lines += [f"  {f.name}: {f.low:g} to {f.high:g} {f.unit}".rstrip() for f in image_set.factors]
    lines += [f"  {name} = {value}" for name, value in image_set.provenance.items()]
    return "\n".join([*lines, f"  fingerprint {image_set.fingerprint}, read by {type(image_set.images).__name__}"])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with every error on stderr."""
    import tyro

    options = tyro.cli(Options, args=argv, prog="hpcauxvae.data", config=(tyro.conf.PositionalRequiredArgs,))
    errors = validate(options.file)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        return 2
    print(describe(open_set(options.file)))
    return 0


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
