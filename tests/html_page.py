"""A minimal HTML tree for tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Element:
    """An element with its attributes and children."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def find(self, tag: str, **attributes: str) -> Iterator[Element]:
        """Yield the descendants with a tag and these attributes, in order; `class_` matches one of the classes."""
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and all(child.has(name, value) for name, value in attributes.items()):
                    yield child
                yield from child.find(tag, **attributes)

    def all(self) -> Iterator[Element]:
        """Yield all descendants."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.all()

    def has(self, name: str, value: str) -> bool:
        if name == "class_":
            return value in self.attributes.get("class", "").split()
        return self.attributes.get(name) == value

    @property
    def text(self) -> str:
        """The text of all descendants, with white space collapsed."""
        return " ".join(" ".join(self._texts()).split())

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


def parse(html: str) -> Element:
    """Parse a page or fragment; fail if tags are not balanced."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert [element.tag for element in parser.open] == ["page"], "not closed"
    return parser.open[0]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            child = self.open[-1].children[-1]
            assert isinstance(child, Element)
            self.open.append(child)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        line, column = self.getpos()
        assert self.open.pop().tag == tag, f"line {line}, column {column}: </{tag}> does not match the open element"

    def handle_data(self, data: str) -> None:
        texts = self.open[-1].children
        if texts and isinstance(texts[-1], str):
            texts[-1] += data
        else:
            texts.append(data)
