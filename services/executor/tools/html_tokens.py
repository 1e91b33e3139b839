"""HTML as a stream of tokens, in time and memory proportional to its length.

Tokenizes as browsers do (WHATWG HTML, 13.2.5) as far as text and links need it, and builds no tree.
Building one takes cubic time on hostile markup: unclosed formatting elements are opened anew in
every paragraph, and 84 kB of them kept a C parser busy for 11 s, with the interpreter locked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import unescape

# The content of these is no markup. That of TEXT_ONLY is text, that of the others is dropped.
TEXT_ONLY = frozenset({"title", "textarea"})
DROPPED = frozenset(
    {"script", "style", "noscript", "template", "iframe", "noembed", "noframes", "xmp"}
)

_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>]*+)", re.ASCII)
# One attribute, or the end of the tag. Nothing is ever given back, so a tag is read in linear time.
_ATTRIBUTE = re.compile(
    r"[\s/]*+(?:(?P<end>>)|(?P<name>[^\s/>][^\s/>=]*+)"
    r"(?:\s*+=\s*+(?:(?P<quote>[\"'])|(?P<bare>[^\s>]*+)))?+)",
    re.ASCII,
)
_COMMENT_END = re.compile(r"--!?>")
# In an attribute a reference without its semicolon stays what it is: ?a=1&copy=2.
_REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True, slots=True)
class Text:
    """Characters, with their references (`&amp;`) replaced."""

    text: str


@dataclass(frozen=True, slots=True)
class Open:
    """A start tag with a lower-case name; `href` is None when it has none."""

    name: str
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """An end tag with a lower-case name."""

    name: str


Token = Text | Open | Close


class Tokenizer:
    """Reads one document. What is cut off inside a tag or a comment is dropped to the end."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._place = 0

    def tokens(self) -> Iterator[Token]:
        """The tokens in order."""
        html = self._html
        while self._place < len(html):
            start = html.find("<", self._place)
            if start != self._place:
                end = start if start >= 0 else len(html)
                yield Text(unescape(html[self._place : end]))
                self._place = end
                continue
            token = self._markup()
            if token is not None:
                yield token
            if isinstance(token, Open) and token.name in TEXT_ONLY | DROPPED:
                yield from self._raw_content(token.name)

    def _markup(self) -> Token | None:
        html, start = self._html, self._place
        tag = _TAG.match(html, start)
        if tag is not None:
            self._place = tag.end()
            href, complete = self._attributes()
            name = tag.group(2).lower()
            if not complete:
                return None
            return Close(name) if tag.group(1) else Open(name, href)
        if html.startswith("<!--", start):
            self._skip_comment()
            return None
        if html.startswith(("<!", "<?", "</"), start) and start + 2 < len(html):
            end = html.find(">", start + 2)
            self._place = end + 1 if end >= 0 else len(html)
            return None
        self._place = start + 1
        return Text("<")

    def _skip_comment(self) -> None:
        end = _COMMENT_END.search(self._html, self._place + 2)
        self._place = end.end() if end else len(self._html)

    def _attributes(self) -> tuple[str | None, bool]:
        """The href of a tag and whether the tag is complete; moves behind it."""
        html = self._html
        href: str | None = None
        while (found := _ATTRIBUTE.match(html, self._place)) is not None:
            self._place = found.end()
            if found["end"]:
                return href, True
            value = found["bare"] or ""
            if found["quote"]:
                end = html.find(found["quote"], self._place)
                if end < 0:
                    break
                value, self._place = html[self._place : end], end + 1
            if href is None and found["name"].lower() == "href":
                href = _REFERENCE.sub(lambda reference: unescape(reference.group()), value)
        self._place = len(html)
        return None, False

    def _raw_content(self, name: str) -> Iterator[Token]:
        end = _closing(name).search(self._html, self._place)
        content_end = end.start() if end else len(self._html)
        if name in TEXT_ONLY:
            yield Text(unescape(self._html[self._place : content_end]))
        self._place = content_end
        if end is None:
            yield Close(name)


@cache
def _closing(name: str) -> re.Pattern[str]:
    """The end tag of one of the few elements whose content is no markup."""
    return re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE | re.ASCII)
