"""Builds HTML of which nothing that somebody else wrote becomes markup. Pure.

Text is escaped where it enters an element, and only `Markup` is taken as it is; only the functions
here make Markup.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_LAST_OF_PLANES = "".join(
    chr(plane * 0x10000 + end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF)
)
# Controls, directional and other invisible formats, lone surrogates, what is no character. Not
# among them: tab, newline, and the joiners of scripts and emoji.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    f"\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff{_LAST_OF_PLANES}]"
)
_VOID = frozenset({"meta", "br"})
_CLOSED = frozenset({"rect", "line", "use"})


class Markup(str):
    """HTML that stands in the page as it is."""

    __slots__ = ()


Child = str | None
"""Text to be escaped, Markup, or nothing."""
Attribute = str | int | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element. `class_` is class, an underscore in a name a hyphen; None and False are left
    out, True has no value.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{head}>")
    if name in _CLOSED and not children:
        return Markup(f"<{head}/>")
    return Markup(f"<{head}>{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """The children one after the other."""
    return Markup("".join(_child(child) for child in children if child is not None))


def visible(text: str) -> str:
    """The text with every character that one cannot see, or that turns others round, named."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def document(*children: Child) -> str:
    """A whole page: the root's children after the type."""
    return f"<!DOCTYPE html>\n{element('html', *children, lang='en')}\n"


def _child(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(visible(child), quote=False)


def _attribute(name: str, value: Attribute) -> str:
    spelled = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {spelled}" if value is True else f' {spelled}="{html.escape(visible(str(value)))}"'
