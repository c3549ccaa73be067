"""`python -m hpcauxvae.simulate OUT.h5 --n 16384 --seed 7`, alone or under mpirun: galaxies into one HDF5 file."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # one thread a rank; read by the libraries as they load, below

import shlex  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import numpy as np  # noqa: E402
import scipy  # noqa: E402

import hpcauxvae  # noqa: E402
from hpcauxvae.data.galaxies import FACTORS  # noqa: E402
from hpcauxvae.data.hdf5 import open_set  # noqa: E402
from hpcauxvae.types import InputError  # noqa: E402

if TYPE_CHECKING:
    from hpcauxvae.simulate.parallel import Plan


@dataclass(frozen=True, kw_only=True)
class Options:
    """Simulates galaxies (Table 2 of the paper) with GalSim. Killed and started again, it goes on where it was."""

    out: Path
    """HDF5 file to make (docs/data-format.md). Must not exist."""
    n: int | None = None
    """Galaxies, at least 2. Default: 16384, or as many as LIKE has."""
    seed: int = 0
    """Of the Latin hypercube and of the noise; the noise of a galaxy depends on (seed, its number) alone."""
    like: Path | None = None
    """Draw the galaxies of this file again, in its order, in place of a new Latin hypercube."""
    noiseless: bool = False
    """Expected counts in place of Poisson counts."""


def plan_of(options: Options, command: str) -> "Plan":
    """What to draw. Raises InputError where an option, or the file to be like, cannot be used."""
    from hpcauxvae.simulate import galaxy
    from hpcauxvae.simulate.parallel import Plan

    if options.seed < 0:
        raise InputError(f"--seed {options.seed}: allowed is 0 or more")
    if options.like is None:
        n = 16384 if options.n is None else options.n
        if n < 2:
            raise InputError(f"--n {n}: allowed is 2 or more")
        factors, parameters = FACTORS, galaxy.latin_hypercube(n, options.seed)
        design = "Latin hypercube, scipy.stats.qmc"
    else:
        if options.n is not None:
            raise InputError(f"--n {options.n}: not allowed beside --like, which draws every galaxy of {options.like}")
        other = open_set(options.like)
        columns = other.column([factor.name for factor in FACTORS])
        factors, parameters = tuple(other.factors[c] for c in columns), np.ascontiguousarray(other.values[:, columns])
        galaxy.check(parameters, str(options.like))
        design = f"the galaxies of {options.like} (fingerprint {other.fingerprint})"
    provenance = {
        "simulator": f"hpcauxvae {hpcauxvae.__version__}",
        "command": command,
        "seed": options.seed,
        "design": design,
        "noise": "none" if options.noiseless else "Poisson, sky level 0",
        **galaxy.DESCRIPTION,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    return Plan(
        out=options.out,
        parameters=parameters,
        factors=factors,
        seed=options.seed,
        noiseless=options.noiseless,
        provenance=provenance,
    )


def _parse(arguments: list[str]) -> Options | int:
    """The options, or the exit code where there are none to use (a wrong one, or --help)."""
    import tyro

    try:
        config = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)
        return tyro.cli(Options, args=arguments, prog="hpcauxvae.simulate", config=config)
    except SystemExit as end:
        return int(end.code or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    try:
        from hpcauxvae.simulate.parallel import Ranks, run
    except ModuleNotFoundError as error:
        print(f"error: {error}; simulation needs it: pip install 'hpcauxvae[simulate]'", file=sys.stderr)
        return 2
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        ranks = Ranks()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options = ranks.first(lambda: _parse(arguments))
    if isinstance(options, int):
        return options
    started = time.monotonic()
    try:
        plan = ranks.first(lambda: plan_of(options, shlex.join(["python", "-m", "hpcauxvae.simulate", *arguments])))
        drawn = run(plan, ranks)
    except InputError as error:
        if ranks.rank == 0:
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception:
        ranks.abort()
        return 1
    if ranks.rank == 0:
        seconds = time.monotonic() - started
        print(f"{plan.out}: {len(plan.parameters)} galaxies, {drawn} drawn now, ranks: {ranks.size}, {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
