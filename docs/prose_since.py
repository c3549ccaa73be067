"""Pages before and after: python docs/prose_since.py COMMIT SENTENCES > results/prose/README.md

SENTENCES: lines of PAGE | beginning of a sentence at COMMIT | beginning of one now, or of several, with / between them.
The sentences are taken out of git and out of the pages as they stand, and measured as docs/prose.py does it. Raises
ValueError where a page has no such sentence, or more than one.
"""

import re
import subprocess
import sys
from pathlib import Path

from prose import ABBREVIATED, sentences

ROOT = Path(__file__).resolve().parents[1]
ENDS = re.compile(ABBREVIATED + r"[.!?][)\"”’*]*(?=\s+(?:[A-Z`*\[(β]|[-*|] )|\s*$)")
HEAD = """# Sentences before and after

Words of a sentence, counted by `docs/prose.py`, at commit {commit} and now ({now}), by
`python docs/prose_since.py {commit} {source}`.

| page | sentences | mean | longest | sentences now | mean now | longest now |
|---|---|---|---|---|---|---|
"""


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def at(commit: str, page: str) -> str:
    """A page of then."""
    return git("show", f"{commit}:{page}")


def figures(text: str) -> str:
    """How many sentences, their mean and the longest: cells of the table."""
    words = [len(sentence) for sentence in sentences(text)]
    return f"{len(words)} | {sum(words) / len(words):.1f} | {max(words)}"


def sentence(text: str, begins: str) -> str:
    """The one that begins so, as it stands in a page but for breaks of lines."""
    flat = " ".join(text.split())
    if flat.count(begins) != 1:
        raise ValueError(f"{flat.count(begins)} sentences begin with {begins!r}")
    rest = flat[flat.index(begins) :]
    end = ENDS.search(rest, len(begins))
    return rest[: end.end() if end else None].replace("**", "").strip()


def main(commit: str, source: str) -> None:
    """Prints the page."""
    quoted: dict[str, list[tuple[str, str]]] = {}
    for line in Path(source).read_text().splitlines():
        page, before, now = (part.strip() for part in line.split(" | "))
        text = (ROOT / page).read_text()
        found = " ".join(sentence(text, begins.strip()) for begins in now.split(" / "))
        quoted.setdefault(page, []).append((sentence(at(commit, page), before), found))
    now = git("rev-parse", "--short", "HEAD").strip()
    print(HEAD.format(commit=commit, now=now, source=source), end="")
    for page in quoted:
        print(f"| {page} | {figures(at(commit, page))} | {figures((ROOT / page).read_text())} |")
    for page, pairs in quoted.items():
        print(f"\n## `{page}`\n\n| before | now |\n|---|---|")
        for pair in pairs:
            print("| " + " | ".join(text.replace("|", "\\|") for text in pair) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
