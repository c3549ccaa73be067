"""Pages that are files of the repository, README.md among them. Their links become those of the site."""

import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog"}
SECTIONS = "course/index", "guides", "choosing", "understanding", "reference/index", "developing"
"""What stands in the bar at the top."""
TOCTREE = "\n".join(["", "```{toctree}", ":hidden:", "", *SECTIONS, "```", ""])


def site(text: str) -> str:
    """Links into docs/ as links to the page beside it, pictures where they lie, and files that are pages as these."""
    text = re.sub(r"\]\(docs/", "](", text)
    for name, page in PAGES.items():
        text = text.replace(f"]({name})", f"]({page}.md)")
    return re.sub(r"\]\(results/", "](../../results/", text)


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir)
    for name, page in PAGES.items():
        (folder / f"{page}.md").write_text(site(Path(name).read_text()) + TOCTREE * (page == "index"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx in the folder of the repository."""
    app.connect("builder-inited", _write, priority=400)
    return {"parallel_read_safe": True}
