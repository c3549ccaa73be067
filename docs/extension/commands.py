"""A page for each command, from the options that it declares."""

import argparse
import contextlib
import importlib
import io
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import tyro
from sphinx.application import Sphinx

from hpcauxvae.cli import COMMANDS

OWN = "submit", "doctor"
"""Commands that do not take their options from a dataclass: their --help stands as it is."""
MORE = {"simulate": ["merge", "verify"], "search": ["best", "report"]}
"""What a command does when one of these words comes first."""
INDEX = """# Commands and their options

One program, `hpcauxvae COMMAND`. The table is that of `hpcauxvae --help`, the pages are those of `COMMAND --help`.

| command | what it does |
|---|---|
"""


class _Parsed(Exception):
    """Thrown in place of parsing: with the fields of a command, and how it reads them."""


def _parsers(name: str, words: list[str]) -> dict[str, argparse.ArgumentParser]:
    """Of a command, under ""; or of each of those that it has, by their names."""

    def instead(fields: Any, **how: Any) -> None:
        raise _Parsed(fields, how)

    module, _, function = COMMANDS[name][0].partition(":")
    try:
        with mock.patch.object(tyro, "cli", instead):
            getattr(importlib.import_module(module), function or "main")(words)
    except _Parsed as parsed:
        fields, how = parsed.args
        how.pop("args")
        parser = tyro.extras.get_parser(fields, **how)
        members = typing.get_args(fields)
        if not members:
            return {"": parser}
        names = str(_given(parser)[0].metavar).strip("{}").split(",")
        programs = [{**how, "prog": f"{how['prog']} {word}"} for word in names]
        parsers = [tyro.extras.get_parser(of, **to) for of, to in zip(members, programs, strict=True)]
        return dict(zip(names, parsers, strict=True))
    raise RuntimeError(f"hpcauxvae {name} does not read its options from a dataclass")


def _printed(name: str) -> str:
    """The help of a command that is not of a dataclass."""
    module, _, function = COMMANDS[name][0].partition(":")
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        getattr(importlib.import_module(module), function or "main")(["--help"])
    return f"```text\n{text.getvalue().strip()}\n```\n"


def _given(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All that a command line may have, but --help."""
    return [action for action in parser._actions if "--help" not in action.option_strings]


def _usage(parser: argparse.ArgumentParser) -> str:
    """Without the names of options, which the page lists."""
    places = [str(action.dest).upper() for action in _given(parser) if not action.option_strings]
    return " ".join([parser.prog, *places, *["[OPTIONS]"] * (len(places) < len(_given(parser)))])


def _linked(text: str) -> str:
    """With the pages that it names as links."""
    return re.sub(r"\bdocs/([a-z-]+)\.md\b", r"[docs/\1](../\1.md)", text)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A definition for each option, those that are given by their place first."""
    for action in sorted(_given(parser), key=lambda action: bool(action.option_strings)):
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.dest}`"
        kind = str(action.metavar or "").replace("{None}|", "")
        yield f"{names}{f' *{kind}*' * bool(kind)}\n: {_linked(' '.join(str(action.help).split()))}\n"


def _page(title: str, parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield f"{'#' * level} {title}\n"
    yield f"```text\n{_usage(parser)}\n```\n"
    if parser.description:
        yield _linked(parser.description) + "\n"
    yield from _options(parser)


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "commands"
    folder.mkdir()
    rows = [f"| [`{name}`]({name}.md) | {what} |" for name, (_, what) in COMMANDS.items()]
    toctree = ["```{toctree}", ":hidden:", "", *COMMANDS, "```"]
    pages = {"index": INDEX + "\n".join([*rows, "", *toctree, ""])}
    for name in COMMANDS:
        title = f"hpcauxvae {name}"
        if name in OWN:
            pages[name] = f"# {title}\n\n{_printed(name)}"
            continue
        found = _parsers(name, [])
        for word in MORE.get(name, []):
            found[word] = _parsers(name, [word])[""]
        parts = [] if "" in found else [f"# {title}\n"]
        for word, parser in found.items():
            parts += _page(f"{title} {word}".strip(), parser, 2 if word else 1)
        pages[name] = "\n".join(parts)
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
