"""Host names and addresses in the one spelling that is accepted for each.

What resolvers understand is far wider than what URLs mean: 127.1, 0x7f.1, 2130706433 and full-width
digits all lead to 127.0.0.1. Here an address has one spelling, and whatever else ends in a number
is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

import idna

from libs.net.refusals import EgressDenied, EgressRule

MAX_NAME_LENGTH = 253

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Host:
    """A host: `text` is an ASCII name in lower case or an address in its canonical form, without
    brackets; `address` is None for a name.
    """

    text: str
    address: IpAddress | None = None

    def __str__(self) -> str:
        return f"[{self.text}]" if isinstance(self.address, ipaddress.IPv6Address) else self.text

    @property
    def is_dotted(self) -> bool:
        """Whether it is a name of more than one label."""
        return self.address is None and "." in self.text


def read_host(text: str) -> Host:
    """The host that `text` spells; an IPv6 address stands in brackets. EgressDenied(HOST)."""
    if text.startswith("[") and text.endswith("]"):
        return _ipv6(text[1:-1])
    if not text:
        raise _denied("a host is missing")
    if len(text) > MAX_NAME_LENGTH:
        raise _denied(f"a host of {len(text)} characters; {MAX_NAME_LENGTH} are allowed")
    if "%" in text:
        raise _denied(f"the host {_shown(text)} is percent-encoded; write it out")
    labels = text.translate(_LOWER).split(".")
    if _NUMBER.fullmatch(labels[-1] or labels[max(0, len(labels) - 2)]):
        return _ipv4(text)
    if "" in labels:
        raise _denied(
            f"the host {_shown(text)} has a dot too much; one between two labels is allowed"
        )
    name = ".".join(_label(label, of=text) for label in labels)
    if len(name) > MAX_NAME_LENGTH:
        raise _denied(
            f"the host has {len(name)} characters as ASCII; {MAX_NAME_LENGTH} are allowed"
        )
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise _denied(f"the host {_shown(text)} ends in a number and is no address")
    return Host(name)


def _label(label: str, *, of: str) -> str:
    """The label as ASCII; beyond ASCII only what IDNA 2008 allows, nothing is mapped."""
    if label.isascii() and not label.startswith("xn--"):
        if not _LABEL.fullmatch(label):
            raise _denied(
                f"the host {_shown(of)} is no name; labels of 1 to 63 letters, digits, _ and, "
                "inside, - are allowed"
            )
        return label
    try:
        encoded = idna.alabel(label)
        canonical = idna.alabel(idna.ulabel(encoded))
    except UnicodeError as error:
        raise _denied(
            f"the host {_shown(of)} has a label that IDNA does not allow; letters beyond ASCII "
            "are allowed in lower case, without symbols"
        ) from error
    if canonical != encoded:
        raise _denied(f"the host {_shown(of)} has a label that is not the IDNA form of its text")
    return encoded.decode("ascii")


def _ipv4(text: str) -> Host:
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError as error:
        raise _denied(
            f"the host {_shown(text)} ends in a number, but is no IPv4 address of four decimal "
            "numbers without leading zeros"
        ) from error
    return Host(str(address), address)


def _ipv6(text: str) -> Host:
    if "%" in text:
        raise _denied("an IPv6 address with a zone is not allowed: it is an address of a link")
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise _denied(f"[{_shown(text)}] is no IPv6 address") from error
    return Host(str(address), address)


def _denied(message: str) -> EgressDenied:
    return EgressDenied(EgressRule.HOST, message)


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN_CHARACTERS])
