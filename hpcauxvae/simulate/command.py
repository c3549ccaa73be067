"""`python -m hpcauxvae.simulate OUT.h5 --n 16384 --seed 7`, alone or under mpirun: galaxies into one HDF5 set.

`python -m hpcauxvae.simulate merge OUT.h5 PART.h5 ...` and `... verify SET.h5` run on one process.
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ[_name] = "1"  # one thread a rank; read by the libraries as they load, below

import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from typing import Any, TypeVar  # noqa: E402

from hpcauxvae.types import InputError  # noqa: E402

T = TypeVar("T")


def _parse(options: type[T], arguments: list[str], name: str) -> T | int:
    """The options, or the exit code where there are none to use (a wrong one, or --help)."""
    import tyro

    try:
        config = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)
        return tyro.cli(options, args=arguments, prog=name, config=config)
    except SystemExit as end:
        return int(end.code or 0)


def _merge(arguments: list[str]) -> int:
    from hpcauxvae.simulate.merge import Options, merge

    options = _parse(Options, arguments, "hpcauxvae.simulate merge")
    if not isinstance(options, int):
        count = merge(options)
        print(f"{options.out}: {count} galaxies of {len(options.parts)} sets")
    return options if isinstance(options, int) else 0


def _verify(arguments: list[str]) -> int:
    from hpcauxvae.simulate.verify import Options, verify

    options = _parse(Options, arguments, "hpcauxvae.simulate verify")
    if not isinstance(options, int):
        count = verify(options)
        print(f"{options.file}: in order; every checksum holds, {count} galaxies drawn again are the same")
    return options if isinstance(options, int) else 0


def _simulate(arguments: list[str]) -> int:
    from hpcauxvae.simulate.options import Options, plan_of
    from hpcauxvae.simulate.parallel import run
    from hpcauxvae.simulate.ranks import Ranks

    ranks = Ranks()
    options = ranks.first(lambda: _parse(Options, arguments, "hpcauxvae.simulate"))
    if isinstance(options, int):
        return options
    started = time.monotonic()
    try:
        if options.preview:
            from hpcauxvae.simulate.preview import preview

            picture = ranks.first(lambda: preview(*plan_of(options, tuple(arguments))))
            if ranks.rank == 0:
                print(picture)
            return 0
        plan, done = run(lambda: plan_of(options, tuple(arguments)), ranks)
    except InputError as error:
        if ranks.rank == 0:
            raise
        del error  # rank 0 says it
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception:
        ranks.abort()
        return 1
    if ranks.rank == 0:
        idle = f", idle at the end: {done.idle:.1%} of the time" if ranks.size > 1 else ""
        seconds = time.monotonic() - started
        print(f"{plan.out}: {plan.rows.n} galaxies, {done.drawn} drawn now, ranks: {ranks.size}, {seconds:.1f} s{idle}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], Any]] = {"merge": _merge, "verify": _verify}
    command = commands.get(arguments[0]) if arguments else None
    try:
        return command(arguments[1:]) if command else _simulate(arguments)
    except ModuleNotFoundError as error:
        print(f"error: {error}; simulation needs it: pip install 'hpcauxvae[simulate]'", file=sys.stderr)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    return 2
