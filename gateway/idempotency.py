"""The Idempotency-Key header, and what makes two requests the same request."""

from __future__ import annotations

import hashlib
import re

from libs.core.canonical import Json, canonical
from libs.core.errors import PawlError

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"

_BARE = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', re.ASCII)
_ESCAPED = re.compile(r"\\(.)")


def parse_key(text: str) -> str:
    """The key that the header says, bare or as a quoted string (RFC 9651).

    PawlError invalid_idempotency_key (400) for anything but 1 to 255 printable ASCII characters.
    """
    key = text
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else ""
    if not _BARE.fullmatch(key):
        raise PawlError(
            "invalid_idempotency_key",
            f"{HEADER} must be 1 to 255 printable ASCII characters, bare or in double quotes",
        )
    return key


def fingerprint(method: str, path: str, body: Json) -> str:
    """SHA-256 (hex) of method, path and canonical body: equal for the same request alone."""
    head = f"{method} {path}\n".encode()
    return hashlib.sha256(head + canonical(body)).hexdigest()
