"""Docstrings of this package are prose with `code` and indented blocks, not reStructuredText: they are made so here."""

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(`[^`\n]+`)")


def _escaped(line: str) -> str:
    """Code as literal, and all else as it is: |corr|, 2 * x, u_."""
    parts = _CODE.split(line)
    return "".join(f"`{part}`" if _CODE.fullmatch(part) else re.sub(r"([\\*|_])", r"\\\1", part) for part in parts)


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    made: list[str] = [""]
    in_list = False
    for line in lines:
        code, item = line.startswith("    "), line.startswith("- ")
        if code and not (made[-1].startswith("    ") or in_list):
            made += ["", "::", ""]
        elif item and not in_list:
            made.append("")
        in_list = item or (in_list and line.startswith(" "))
        made.append(line if code and not in_list else _escaped(line))
    lines[:] = made


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}
