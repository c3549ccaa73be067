"""Command lines from dataclasses, by tyro; nothing heavy is imported before they are read."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, TypeVar

from hpcauxvae.types import InputError

T = TypeVar("T")


def parse(
    fields: type[T],
    argv: Sequence[str] | None,
    prog: str,
    *,
    quiet: bool = False,
    positional: bool = True,
    append: bool = False,
    **about: Any,
) -> T:
    """The dataclass (or union of them) that a command line fills.

    argv: None for that of the process. quiet: this is not the first rank, which says what is wrong for all. positional:
    fields without a default are given by their place, else by name. append: an option of several values is given once
    for each (--set a=1 --set b=2), else once with all of them. Raises InputError where a value is not allowed;
    SystemExit for --help (0) and a line that cannot be read (2).
    """
    import tyro  # not on every machine that trains by calling train()

    with contextlib.ExitStack() as silence:
        if quiet:
            for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                silence.enter_context(redirect(io.StringIO()))
        style: list[Any] = []
        style += [tyro.conf.PositionalRequiredArgs] * positional + [tyro.conf.UseAppendAction] * append
        try:
            return tyro.cli(fields, args=argv, prog=prog, config=style, **about)
        except InputError as error:
            raise InputError(str(error), reported=quiet) from None
