"""Headers of a request that a caller may set, and those of an answer that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libs.core.errors import FailureCode
from libs.net.http_client import HttpAnswer
from services.executor.model import SchemaFailure
from services.executor.step_validation import SchemaMismatch

MAX_HEADERS = 50
MAX_VALUE_LENGTH = 8192
MAX_TOTAL_LENGTH = 16 * 2**10
TOKEN = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"  # noqa: S105 - a pattern
HEADER_VALUE = "^([!-~]([ \t!-~]*[!-~])?)?$"
"""Printable ASCII, blanks only inside: no line can begin in it."""
ALWAYS_KEPT = ("content-type", "location")

_SET_COOKIE = "set-cookie"
# They frame the message or speak to the next machine on the way: the client's own to say.
_REFUSED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_REFUSED_PREFIX = "proxy-"
_DEFAULTS = {"accept": "*/*", "user-agent": "pawl"}


def request_headers(
    given: Mapping[str, str], *, media_type: str | None
) -> tuple[tuple[str, str], ...]:
    """The headers to send: those given, and defaults for Accept, User-Agent and Content-Type.

    Names and values fit the input schema. Raises SchemaMismatch(INPUT_SCHEMA), reason HEADER.
    """
    defaults = _DEFAULTS if media_type is None else _DEFAULTS | {"content-type": media_type}
    seen: set[str] = set()
    for name in given:
        lower = name.lower()
        if lower in _REFUSED or lower.startswith(_REFUSED_PREFIX):
            raise _refused(name, f"the header {name} is set by the tool itself or not at all")
        if lower in seen:
            raise _refused(name, f"the header {name} is given twice, in different spellings")
        seen.add(lower)
    length = sum(len(name) + len(value) for name, value in given.items())
    if length > MAX_TOTAL_LENGTH:
        raise _refused(
            "", f"the headers have {length} characters together; {MAX_TOTAL_LENGTH} are allowed"
        )
    added = {name: value for name, value in defaults.items() if name not in seen}
    return (*given.items(), *added.items())


def answer_headers(answer: HttpAnswer, *, named: Iterable[str]) -> dict[str, str]:
    """Content-Type, Location and the headers that are named, by lower-case name.

    Values of a repeated header are joined with a comma; those of Set-Cookie, which have commas
    inside, with a line feed.
    """
    kept: dict[str, str] = {}
    for name in sorted({*ALWAYS_KEPT, *(name.lower() for name in named)}):
        values = answer.values(name)
        if values:
            kept[name] = ("\n" if name == _SET_COOKIE else ", ").join(values)
    return kept


def _refused(name: str, message: str) -> SchemaMismatch:
    path = f"headers.{name}" if name else "headers"
    failure = SchemaFailure(path=path, message=message, where="input")
    return SchemaMismatch(
        FailureCode.INPUT_SCHEMA, message, schema_failures=(failure,), reason="HEADER"
    )
