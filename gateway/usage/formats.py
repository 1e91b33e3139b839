"""Which of two formats a caller wants: JSON, or CSV for a spreadsheet."""

from __future__ import annotations

import re

from libs.core.errors import field_error

JSON, CSV = "application/json", "text/csv"

_FORMATS = {"json": JSON, "csv": CSV}
_RANGE = re.compile(r"\s*([\w.+*-]+/[\w.+*-]+)\s*((?:;[^;,]*)*)", re.ASCII)
_QUALITY = re.compile(r";\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.ASCII | re.IGNORECASE)


def media_type_of(asked: str | None, *, accept: str) -> str:
    """CSV when the query's `format` says so, or when it says nothing and the Accept header names
    text/csv before JSON; JSON otherwise.

    PawlError validation_failed for a format that is not known.
    """
    if asked is not None:
        if asked in _FORMATS:
            return _FORMATS[asked]
        detail = f"it must be {' or '.join(_FORMATS)}"
        raise field_error("validation_failed", "format", detail, fine="unknown_value")
    named = _qualities(accept)
    return CSV if named.get(CSV, 0.0) > named.get(JSON, 0.0) else JSON


def _qualities(accept: str) -> dict[str, float]:
    """The media types that an Accept header names, with their qualities; a range with a star names
    none of them.
    """
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        media = _RANGE.fullmatch(part)
        if media is not None:
            quality = _QUALITY.search(media[2])
            found[media[1]] = 1.0 if quality is None else float(quality[1])
    return found
