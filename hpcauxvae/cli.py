"""The command `hpcauxvae`, and what all of its parts have in common when they fail."""

import importlib
import sys
from collections.abc import Callable
from typing import NoReturn

from hpcauxvae import __version__
from hpcauxvae.types import InputError

COMMANDS = {
    "simulate": ("hpcauxvae.simulate.__main__", "draw galaxies with GalSim into a labelled HDF5 file"),
    "train": ("hpcauxvae.train", "train a model on labelled images"),
    "evaluate": ("hpcauxvae.evaluate", "score a run and draw its pictures"),
    "paper": ("hpcauxvae.paper.__main__", "tables and figures of the paper from evaluated runs"),
    "doctor": ("hpcauxvae.doctor", "what works on this machine, and what mends the rest"),
}


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    Bad input (InputError) is one line on standard error and exit code 2; Ctrl-C is exit code 130.
    """
    try:
        code = main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _dispatch() -> int:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in COMMANDS:
        module, _ = COMMANDS[arguments[0]]
        return importlib.import_module(module).main(arguments[1:])
    lines = [f"  {name:10}{text}" for name, (_, text) in COMMANDS.items()]
    usage = "\n".join(["usage: hpcauxvae COMMAND [options]; each COMMAND has --help", *lines])
    if arguments and arguments[0] == "--version":
        print(f"hpcauxvae {__version__}")
        return 0
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage)
        return 0
    given = f"command {arguments[0]!r} is unknown; allowed: {', '.join(COMMANDS)}" if arguments else "no command given"
    print(f"error: {given}\n{usage}", file=sys.stderr)
    return 2


def main() -> NoReturn:
    """The console script."""
    run(_dispatch)
