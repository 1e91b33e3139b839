"""Reads an HTML page as strictly as its writer has to write it, and finds things in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"meta", "br"})


@dataclass(kw_only=True)
class Element:
    """One element: its attributes, and what stands in it."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def classes(self) -> set[str]:
        """The words of its class."""
        return set((self.attributes.get("class") or "").split())

    @property
    def text(self) -> str:
        """All text in it, with single blanks."""
        return " ".join("".join(self._pieces()).split())

    def all(self, tag: str | None = None, *, class_: str | None = None) -> list[Element]:
        """The elements in it, in the order of the page: of this tag, with this class."""
        return [
            one
            for one in self._inner()
            if (tag is None or one.tag == tag) and (class_ is None or class_ in one.classes)
        ]

    def one(self, tag: str | None = None, *, class_: str | None = None) -> Element:
        """The only such element."""
        (found,) = self.all(tag, class_=class_)
        return found

    def by_id(self, name: str) -> Element:
        """The element of this id."""
        (found,) = (one for one in self._inner() if one.attributes.get("id") == name)
        return found

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags with the names of their attributes: everything but what is said."""
        return [(one.tag, tuple(one.attributes)) for one in self._inner()]

    def _inner(self) -> Iterator[Element]:
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._inner()

    def _pieces(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._pieces()
                yield " "


def read_page(text: str) -> Element:
    """The page's root, which holds the `html` element. AssertionError: a tag is not closed, closes
    nothing, or says an attribute twice.
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert [one.tag for one in reader.open] == ["page"], "the page ends inside an element"
    return reader.open[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element(tag="page", attributes={})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = self._add(tag, attrs)
        if tag not in _VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> in <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> Element:
        made = Element(tag=tag, attributes=dict(attrs))
        assert len(made.attributes) == len(attrs), f"<{tag}> says an attribute twice"
        self.open[-1].children.append(made)
        return made
