"""The command `hpcauxvae simulate`, alone or under mpirun: galaxies into one HDF5 set.

Its first word may be `merge` or `verify`, which run on one process. Nothing heavy is imported before the command line
is read.
"""

import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module

from hpcauxvae.runtime.command_line import parse
from hpcauxvae.runtime.memory import memory_fault
from hpcauxvae.runtime.ranks import Ranks
from hpcauxvae.simulate.config import MergeConfig, SimulateConfig, VerifyConfig
from hpcauxvae.types import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with a line on stderr; SystemExit where the line of merge or verify cannot be read."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = "1"  # one thread a rank; read by the libraries as they load
    try:
        match list(sys.argv[1:] if argv is None else argv):
            case ["merge", *rest]:
                return _merge(parse(MergeConfig, rest, "hpcauxvae simulate merge"))
            case ["verify", *rest]:
                return _verify(parse(VerifyConfig, rest, "hpcauxvae simulate verify"))
            case arguments:
                ranks = Ranks()
                return ranks.command(lambda: _simulate(arguments, ranks))
    except InputError as error:
        if not error.reported:
            print(f"error: {memory_fault(error) or error}", file=sys.stderr)
    return 2


def _need_galsim() -> None:
    """Raises InputError where GalSim is not installed."""
    try:
        import_module("galsim")
    except ModuleNotFoundError as error:
        if error.name != "galsim":
            raise
        raise InputError(f"{error}; simulation needs it: pip install 'hpcauxvae[simulate]'") from error


def _parsed(arguments: list[str]) -> SimulateConfig | int:
    """The options, or the exit code where there are none to use: --help, or a line that cannot be read."""
    try:
        return parse(SimulateConfig, arguments, "hpcauxvae simulate")
    except SystemExit as end:  # which the other ranks must hear of
        return int(end.code or 0)


def _merge(config: MergeConfig) -> int:
    _need_galsim()
    from hpcauxvae.simulate.sets import merge

    print(f"{config.out}: {merge(config)} galaxies of {len(config.parts)} sets")
    return 0


def _verify(config: VerifyConfig) -> int:
    _need_galsim()
    from hpcauxvae.simulate.sets import verify

    count = verify(config)
    print(f"{config.file}: in order; every checksum holds, {count} galaxies drawn again are the same")
    return 0


def _simulate(arguments: list[str], ranks: Ranks) -> int:
    config = ranks.first(lambda: _parsed(arguments))
    if isinstance(config, int):
        return config
    ranks.each(_need_galsim)
    return _make(config, arguments, ranks)


def _make(config: SimulateConfig, arguments: list[str], ranks: Ranks) -> int:
    from hpcauxvae.simulate.parallel import run
    from hpcauxvae.simulate.plan import plan_of

    started = time.monotonic()
    if config.preview:
        from hpcauxvae.simulate.preview import preview

        picture = ranks.first(lambda: preview(*plan_of(config, tuple(arguments))))
        if ranks.rank == 0:
            print(picture)
        return 0
    plan, done = run(lambda: plan_of(config, tuple(arguments)), ranks)
    if ranks.rank == 0:
        idle = f", idle at the end: {done.idle:.1%} of the time" if ranks.size > 1 else ""
        seconds = time.monotonic() - started
        print(f"{plan.out}: {plan.rows.n} galaxies, {done.drawn} drawn now, ranks: {ranks.size}, {seconds:.1f} s{idle}")
    return 0
