"""The one strict reader of URLs to which something is sent.

Parsers of URLs disagree on what is odd: backslashes, blanks, credentials, empty ports. Whatever two
of them could read differently is refused, so that the host that is judged is the one that is
reached. Nothing is repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libs.net.hosts import Host, read_host
from libs.net.refusals import EgressDenied, EgressRule

MAX_LENGTH = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
# What no URL has anywhere, and what browsers strip or turn into something else.
_FORBIDDEN = re.compile(r'[\x00-\x20\x7f"<>\\^`{|}]')
_PARTS = re.compile(r"//([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.ASCII)
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_MAX_PORT = 65535
_SHOWN_CHARACTERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """Where a request goes. `target` is path and query as they were written, at least `/`; a
    fragment is kept apart and never sent.
    """

    scheme: str
    host: Host
    port: int
    target: str
    fragment: str | None = None

    @property
    def authority(self) -> str:
        """Host and port as the Host header says them: the scheme's own port is left out."""
        if self.port == DEFAULT_PORTS[self.scheme]:
            return str(self.host)
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read_url(text: str) -> Url:
    """The URL that `text` spells. Raises EgressDenied: URL, SCHEME, CREDENTIALS, HOST."""
    if len(text) > MAX_LENGTH:
        raise _denied(f"a URL of {len(text)} characters; {MAX_LENGTH} are allowed")
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        raise _denied(
            f"the URL has {forbidden[0]!a} at position {forbidden.start() + 1}; "
            "it is allowed percent-encoded in path and query"
        )
    scheme, rest = _scheme(text)
    parts = _PARTS.fullmatch(rest)
    if parts is None:
        raise _denied(f"the URL has no // after {scheme}:")
    authority, path, query, fragment = parts.groups(default="")
    host, port = _authority(authority, scheme=scheme)
    target = (path or "/") + query
    _check_target(target)
    return Url(
        scheme=scheme,
        host=host,
        port=port,
        target=target,
        fragment=fragment[1:] if fragment else None,
    )


def read_port(text: str) -> int:
    """A port from 1 to 65535 without leading zeros. Raises EgressDenied(URL)."""
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise _denied(f"the port {text[:_SHOWN_CHARACTERS]!a} is no number from 1 to 65535")
    return int(text)


def split_port(text: str) -> tuple[str, str | None]:
    """Host and port of `host:port`, the port None without a colon. Raises EgressDenied(HOST)."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise EgressDenied(EgressRule.HOST, "the brackets of an IPv6 address do not close")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise EgressDenied(EgressRule.HOST, "an IPv6 address stands in brackets, as in [::1]")
    return host, port if colon else None


def _scheme(text: str) -> tuple[str, str]:
    found = _SCHEME.match(text)
    if found is None:
        raise _denied("the URL does not begin with https:// or http://")
    scheme = found[1].lower()
    if scheme not in DEFAULT_PORTS:
        shown = scheme[:_SHOWN_CHARACTERS]
        raise EgressDenied(
            EgressRule.SCHEME, f"the scheme {shown} is not allowed; http and https are"
        )
    return scheme, text[found.end() :]


def _authority(authority: str, *, scheme: str) -> tuple[Host, int]:
    if "@" in authority:
        raise EgressDenied(
            EgressRule.CREDENTIALS,
            "a user or a password in the URL is not allowed; a header can carry credentials",
        )
    host, port = split_port(authority)
    return read_host(host), DEFAULT_PORTS[scheme] if port is None else read_port(port)


def _check_target(target: str) -> None:
    if not target.isascii():
        raise _denied("path and query have characters beyond ASCII; percent-encode them as UTF-8")
    bad = _BAD_PERCENT.search(target)
    if bad:
        raise _denied("path or query have a % that two hexadecimal digits do not follow")


def _denied(message: str) -> EgressDenied:
    return EgressDenied(EgressRule.URL, message)
