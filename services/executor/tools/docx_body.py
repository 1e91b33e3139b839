"""The body of a DOCX, element by element, to the readable parts of a document."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from services.executor.tools.document_text import on_one_line, too_large, writable
from services.executor.tools.page_text import MAX_HEADINGS, MAX_LINKS, Link, Page
from services.executor.tools.xml_stream import XmlReader

# Another rendering of what stands beside it, and parts that are not read as text.
_SKIPPED = frozenset({"Fallback", "del", "moveFrom", "instrText", "sectPr", "tabs"})


class BodyReader(XmlReader):
    """Gathers text. A paragraph is a line, a row of a table too, its cells parted by tabs.

    `urls` are targets by relationship, `headings` ids of styles; more than `most` characters are
    refused.
    """

    def __init__(self, *, urls: Mapping[str, str], headings: Collection[str], most: int) -> None:
        self._urls = urls
        self._heading_styles = headings
        self._most = most
        self._length = 0
        self._skipped = 0
        self._in_text = 0
        self._is_heading = False
        self._paragraph: list[str] = []
        self._link: tuple[str, int] | None = None
        self._cells: list[list[str]] = []
        self._rows: list[list[str]] = []
        self._lines: list[str] = []
        self._headings: list[str] = []
        self._links: list[Link] = []

    def opened(self, name: str, attributes: Mapping[str, str]) -> None:
        """Begin what the element stands for."""
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif name == "p":
            self._is_heading = False
        elif name == "pStyle":
            self._is_heading = attributes.get("val", "") in self._heading_styles
        elif name == "t":
            self._in_text += 1
        elif name == "tab":
            self._paragraph.append("\t")
        elif name in {"br", "cr"}:
            self._paragraph.append("\n")
        elif name == "noBreakHyphen":
            self._paragraph.append("-")
        elif name == "hyperlink" and attributes.get("id", "") in self._urls:
            self._link = (self._urls[attributes["id"]], len(self._paragraph))
        elif name == "tr":
            self._rows.append([])
        elif name == "tc":
            self._cells.append([])

    def closed(self, name: str) -> None:
        """Put what the element held where it belongs."""
        if self._skipped:
            self._skipped -= 1
        elif name == "t":
            self._in_text -= 1
        elif name == "hyperlink":
            self._close_link()
        elif name == "p":
            self._close_paragraph()
        elif name == "tc" and self._cells:
            cell = " ".join(self._cells.pop())
            (self._rows[-1] if self._rows else self._lines).append(cell)
        elif name == "tr" and self._rows:
            self._add_line("\t".join(self._rows.pop()))

    def text(self, data: str) -> None:
        """Take the text of a run. Raises StepFailed for too much."""
        if self._in_text and not self._skipped:
            self._length += len(data)
            if self._length > self._most:
                raise too_large(f"the DOCX has more than {self._most} characters of text")
            self._paragraph.append(data)

    def page(self, *, title: str | None) -> Page:
        """The readable parts of what has been read."""
        text = "\n".join(self._lines)
        return Page(
            text=text.strip("\n"),
            title=title,
            headings=tuple(self._headings),
            links=tuple(self._links),
        )

    def _close_link(self) -> None:
        if self._link is None:
            return
        url, start = self._link
        self._link = None
        if len(self._links) < MAX_LINKS:
            said = on_one_line("".join(self._paragraph[start:]))
            self._links.append(Link(said or url, url))

    def _close_paragraph(self) -> None:
        text = writable("".join(self._paragraph)).rstrip()
        self._paragraph.clear()
        heading = on_one_line(text)
        if self._is_heading and heading and len(self._headings) < MAX_HEADINGS:
            self._headings.append(heading)
        if self._cells:
            if heading:
                self._cells[-1].append(heading)
        else:
            self._add_line(text)

    def _add_line(self, text: str) -> None:
        """A line of the body, or of the cell that holds it."""
        if self._cells:
            self._cells[-1].append(" ".join(text.split()))
        else:
            self._lines.append(text)
