"""Reads query strings strictly: known names only, each once, in UTF-8."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from libs.core.errors import PawlError, field_error

MAX_PARAMETERS = 20
MAX_WAIT_SECONDS = 25.0
MAX_VALUE = 2048

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)

Query = dict[str, str]


def read_query(raw: bytes, *, known: Collection[str]) -> Query:
    """The parameters by name. PawlError: unknown_field for another name, validation_failed for a
    name that occurs twice or a value that is not text (422).
    """
    if not raw:
        return {}
    query: Query = {}
    pieces = [piece for piece in raw.split(b"&") if piece]
    if len(pieces) > MAX_PARAMETERS:
        raise PawlError("validation_failed", f"more than {MAX_PARAMETERS} query parameters")
    for piece in pieces:
        name, _, value = piece.partition(b"=")
        key = _decoded(name, "query")
        if key not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise field_error(
                "unknown_field", key[:64], f"the query does not know it; known are: {allowed}"
            )
        if key in query:
            raise field_error("validation_failed", key, "it occurs twice", fine="duplicate")
        query[key] = _decoded(value, key)
    return query


def wait_seconds_of(query: Query) -> float:
    """`wait`: seconds to wait for the terminal state, 0 to 25; 0 when absent."""
    text = query.get("wait")
    if text is None:
        return 0.0
    if _NUMBER.fullmatch(text) and float(text) <= MAX_WAIT_SECONDS:
        return float(text)
    detail = f"it must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}"
    raise field_error("validation_failed", "wait", detail, fine="out_of_range")


def text_of(query: Query, name: str) -> str:
    """The value; empty when the parameter is absent. PawlError validation_failed for an empty one,
    which a service would take for none.
    """
    text = query.get(name)
    if text == "":
        raise field_error("validation_failed", name, "it is empty", fine="out_of_range")
    return text or ""


def limit_of(query: Query) -> int:
    """`limit`: rows per page, 1 to 200; 0, which means the default of 50, when absent."""
    text = query.get("limit")
    if text is None:
        return 0
    if _COUNT.fullmatch(text) and 1 <= int(text) <= 200:
        return int(text)
    raise field_error(
        "validation_failed", "limit", "it must be an integer from 1 to 200", fine="out_of_range"
    )


def cursor_of(query: Query) -> str:
    """`cursor`: where the page before ended; empty when absent. An empty one is no cursor."""
    text = query.get("cursor")
    if text is None:
        return ""
    if not text or "\x00" in text:
        raise field_error("invalid_cursor", "cursor", "it is not a cursor of this list")
    return text


def _decoded(raw: bytes, name: str) -> str:
    if _BAD_ESCAPE.search(raw) or len(raw) > MAX_VALUE:
        raise field_error("validation_failed", name, "it is not percent-encoded text")
    try:
        return unquote_to_bytes(raw.replace(b"+", b" ")).decode()
    except UnicodeDecodeError as error:
        raise field_error("validation_failed", name, "it is not UTF-8") from error
