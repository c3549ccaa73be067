"""How pages look: one frame and one style sheet for every page that the package writes, and their templates.

Templates escape what they are given; a page fetches nothing.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_HERE = Path(__file__).parent / "templates"


def rendered(template: str, *folders: Path, **given: Any) -> str:
    """A page from a template of this package, or of one of these folders, which may extend `frame.html`."""
    loader = FileSystemLoader([str(folder) for folder in (*folders, _HERE)])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = code
    return environment.get_template(template).render(given)


def code(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one without its partner
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else p for n, p in enumerate(parts))
