"""Several commands in one process, one after the other: Python and torch start once for all of them.

`python -m hpcauxvae.paper.chain` reads a JSON list of [module, argument, ...] from standard input, runs what
`python -m module argument ...` would, and ends at the first that does not return 0, with its exit code.
"""

import importlib
import json
import shlex
import sys
from typing import Any

SHOWN = "$ "
"""Comes before each command in the output."""


def text(command: list[str]) -> str:
    """A command as a user would type it."""
    return f"python -m {shlex.join(command)}"


def main() -> int:
    """Exit code of the first command that failed, or 0."""
    for command in json.load(sys.stdin):
        print(SHOWN + text(command), flush=True)
        module, *arguments = command
        code: int = _program(module).main(arguments)
        sys.stdout.flush()
        if code:
            return code
    return 0


def _program(module: str) -> Any:
    """What python -m would run: of a package, its __main__."""
    found = importlib.import_module(module)
    return importlib.import_module(f"{module}.__main__") if hasattr(found, "__path__") else found


if __name__ == "__main__":
    from hpcauxvae.cli import run

    run(main)
