"""How long sentences are: python docs/prose.py PAGE.md ...; exit code 1 where they are too long.

Counts the words of paragraphs, items and quotations. Tables, code, headings and captions are not sentences. A sentence
ends at a full stop, a question mark or an exclamation mark before a space.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

MEAN, LONGEST = 25, 45
"""Words of a sentence: in the mean of a page, and at most."""
ABBREVIATED = r"(?<!e\.g)(?<!i\.e)(?<!\bet al)(?<!\beq)(?<!\bFig)(?<!\bvs)"


def sentences(text: str) -> Iterator[list[str]]:
    """Of a page, as words; a piece of code, a link or a formula in brackets is one."""
    tokens = MarkdownIt().enable("table").parse(text)
    for token, before in zip(tokens, [*tokens[:1], *tokens], strict=False):
        if token.type != "inline" or before.type.startswith(("th_", "td_", "heading_")):
            continue
        plain = "".join(
            "code" if child.type == "code_inline" else " " if child.type == "softbreak" else child.content
            for child in token.children or ()
            if child.type != "image"
        )
        for sentence in re.split(ABBREVIATED + r"[.!?][)\"”’]*\s+", plain):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > 1:
                yield words


def main(paths: list[str]) -> int:
    """Prints a line for each page, and the sentences that are too long."""
    faults = 0
    print(f"{'sentences':>9} {'mean':>5} {'longest':>8}  page")
    for path in paths:
        found = [*sentences(Path(path).read_text())]
        if not found:
            continue
        mean, longest = sum(map(len, found)) / len(found), max(map(len, found))
        print(f"{len(found):9} {mean:5.1f} {longest:8}  {path}")
        if mean > MEAN:
            print(f"error: {path}: {mean:.1f} words in the mean of its sentences; allowed: at most {MEAN}")
        for words in found:
            if len(words) > LONGEST:
                print(f"error: {path}: {len(words)} words; allowed: at most {LONGEST}: {' '.join(words)}")
        faults += (mean > MEAN) + (longest > LONGEST)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
