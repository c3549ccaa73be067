"""What a page of HTML holds, by the parser of the standard library; a page that is not well formed is refused."""

from html.parser import HTMLParser
from pathlib import Path

_APART = {"caption", "div", "figcaption", "h1", "h2", "h3", "li", "p", "summary", "td", "th"}
_VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Element:
    """With its attributes and the text in it and below."""

    def __init__(self, tag: str, given: dict[str, str]) -> None:
        self.tag, self.given, self.texts = tag, given, list[str]()

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def kinds(self) -> set[str]:
        """Of the attribute `class`."""
        return set(self.given.get("class", "").split())


class Page(HTMLParser):
    """All elements in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self._open = list[Element](), list[Element]()
        assert text.startswith("<!doctype html>")
        self.feed(text)
        self.close()
        assert not self._open, f"<{self._open[-1].tag}> is not closed"

    @classmethod
    def read(cls, path: Path) -> "Page":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {[e.tag for e in self._open[-3:]]}"
        self._open.pop()
        if tag in _APART:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)

    def all(self, *tags: str, kind: str = "") -> list[Element]:
        """The elements of these tags, with this class."""
        return [e for e in self.elements if e.tag in tags and (not kind or kind in e.kinds)]

    @property
    def text(self) -> str:
        """What is read on it."""
        return self.all("body")[0].text
