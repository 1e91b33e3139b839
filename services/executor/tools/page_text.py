"""What a reader sees of a document: text in lines, title, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.executor.tools.html_tokens import Close, Open, Text, Token, Tokenizer

MAX_LINKS = 1000
MAX_HEADINGS = 500
MAX_URL_LENGTH = 2048

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCK_NAMES = """
    address article aside blockquote body br button caption center dd details dialog dir div dl
    dt fieldset figcaption figure footer form head header hr html legend li main menu nav ol
    optgroup option p pre section select summary table tbody tfoot thead title tr ul
"""
_BLOCKS = _HEADINGS | frozenset(_BLOCK_NAMES.split())
# Of these, the ones that stand apart: a blank line goes around them.
_PARAGRAPH_NAMES = """
    address article aside blockquote dl figure footer form header hr main nav ol p pre section
    table ul
"""
_PARAGRAPHS = _HEADINGS | frozenset(_PARAGRAPH_NAMES.split())
_CELLS = frozenset({"td", "th"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "ftp"})
_URL_NOISE = str.maketrans("", "", "\t\r\n")
_PLAIN_URL = re.compile(r"\bhttps?://[^\s<>\"'`]+")
_AFTER_URL = ".,;:!?)]}\u2019\u201d"


@dataclass(frozen=True, slots=True)
class Link:
    """A link's text and its URL as written; relative URLs stay relative."""

    text: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The readable parts of a document. `title` is None when there is none."""

    text: str
    title: str | None
    headings: tuple[str, ...]
    links: tuple[Link, ...]


def read_plain(content: str) -> Page:
    """A plain text: its lines without blanks at their ends, and the web addresses in it."""
    lines = [line.rstrip() for line in content.splitlines()]
    links: list[Link] = []
    for found in _PLAIN_URL.finditer(content):
        url = found.group().rstrip(_AFTER_URL)
        if len(url) <= MAX_URL_LENGTH and len(links) < MAX_LINKS:
            links.append(Link(url, url))
    return Page(text="\n".join(lines).strip("\n"), title=None, headings=(), links=tuple(links))


def read_html(content: str) -> Page:
    """An HTML document: the text outside of scripts and styles, paragraphs set apart."""
    reader = _Reader()
    for token in Tokenizer(content).tokens():
        reader.take(token)
    return reader.page()


class _Collected:
    """Text that is gathered piece by piece while an element is open."""

    def __init__(self) -> None:
        self._pieces: list[str] | None = None

    @property
    def is_open(self) -> bool:
        return self._pieces is not None

    def begin(self) -> None:
        self._pieces = []

    def add(self, text: str) -> None:
        if self._pieces is not None:
            self._pieces.append(text)

    def end(self) -> str:
        """The text with blanks collapsed; nothing more is gathered."""
        text = " ".join("".join(self._pieces or ()).split())
        self._pieces = None
        return text


class _Reader:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._apart = False
        self._title: str | None = None
        self._in_title, self._heading, self._anchor = _Collected(), _Collected(), _Collected()
        self._headings: list[str] = []
        self._links: list[Link] = []
        self._href: str | None = None
        self._preformatted = False

    def take(self, token: Token) -> None:
        match token:
            case Text(text):
                self._text(text)
            case Open(name, href):
                self._open(name, href)
            case Close(name):
                self._close(name)

    def page(self) -> Page:
        self._end_heading()
        self._end_anchor()
        self._end_line()
        return Page(
            text="\n".join(self._lines),
            title=self._title,
            headings=tuple(self._headings),
            links=tuple(self._links),
        )

    def _text(self, text: str) -> None:
        if self._in_title.is_open:
            self._in_title.add(text)
            return
        self._heading.add(text)
        self._anchor.add(text)
        if not self._preformatted:
            self._line.append(text)
            return
        first, *others = text.split("\n")
        self._line.append(first)
        for line in others:
            self._end_line()
            self._line.append(line)

    def _open(self, name: str, href: str | None) -> None:
        if name in _BLOCKS:
            self._end_line()
            self._end_heading()
            self._apart |= name in _PARAGRAPHS
        elif name in _CELLS:
            self._line.append(" ")
        if name == "title":
            self._in_title.begin()
        elif name in _HEADINGS:
            self._heading.begin()
        elif name == "pre":
            self._preformatted = True
        elif name == "a":
            self._end_anchor()
            self._href = _link_target(href)
            self._anchor.begin()

    def _close(self, name: str) -> None:
        if name == "title" and self._in_title.is_open:
            self._title = self._title or self._in_title.end() or None
            self._in_title.end()
        elif name in _HEADINGS:
            self._end_heading()
        elif name == "pre":
            self._end_line()
            self._preformatted = False
        elif name == "a":
            self._end_anchor()
        if name in _BLOCKS:
            self._end_line()
            self._apart |= name in _PARAGRAPHS

    def _end_line(self) -> None:
        line = "".join(self._line)
        self._line.clear()
        line = line.rstrip() if self._preformatted else " ".join(line.split())
        if line.strip():
            if self._apart and self._lines:
                self._lines.append("")
            self._apart = False
            self._lines.append(line)

    def _end_heading(self) -> None:
        text = self._heading.end()
        if text and len(self._headings) < MAX_HEADINGS:
            self._headings.append(text)

    def _end_anchor(self) -> None:
        text = self._anchor.end()
        if self._href is not None and len(self._links) < MAX_LINKS:
            self._links.append(Link(text, self._href))
        self._href = None


def _link_target(href: str | None) -> str | None:
    """The URL of a link that leads somewhere: no script, no data, no place in the same page."""
    url = (href or "").translate(_URL_NOISE).strip()
    if not url or url.startswith("#") or len(url) > MAX_URL_LENGTH:
        return None
    scheme = _SCHEME.match(url)
    return url if scheme is None or scheme.group(1).lower() in _SCHEMES else None
