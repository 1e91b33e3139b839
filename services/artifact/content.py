"""What may be an artifact: its type, its place and its JSON."""

from __future__ import annotations

import hashlib
import re
from uuid import UUID

from libs.core.canonical import canonical_text, read_canonical
from libs.core.errors import FieldError, PawlError, field_error
from services.artifact.model import Content

MAX_DATA_BYTES = 2**20
MAX_INLINE_BYTES = 16 * 1024
"""What is larger lies in the blob store; what is not, in the row."""

MAX_TYPE_CHARS = 128
MAX_STEP_INDEX = 1000
MAX_ORDINAL = 999

_TYPE = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*", re.ASCII)
_SHOWN_CHARS = 64


def content_of(data_json: str) -> Content:
    """The canonical content of JSON text.

    Raises PawlError: `validation_failed` for what is no JSON or has no canonical form,
    `payload_too_large` above 1 MiB, as sent or in canonical form.
    """
    _check_size(data_json, "as sent")
    try:
        data = canonical_text(read_canonical(data_json))
    except RecursionError as error:
        detail = "it is nested too deeply"
        raise field_error("validation_failed", "data_json", detail, fine="too_deep") from error
    except ValueError as error:
        detail = f"it is not JSON with a canonical form: {error}"
        raise field_error("validation_failed", "data_json", detail) from error
    size_bytes = _check_size(data, "in canonical form")
    return Content(data=data, sha256=sha256_of(data), size_bytes=size_bytes)


def sha256_of(data: str) -> str:
    """SHA-256 (hex) of the UTF-8 bytes of `data`."""
    return hashlib.sha256(data.encode()).hexdigest()


def blob_key_of(content: Content, *, tenant_id: UUID) -> str | None:
    """The key of the blob that takes this content, named by tenant and hash; None: the row does.

    Equal content of two tenants lies under two keys: neither learns of the other, and what one
    tenant loses is never the other's.
    """
    if content.size_bytes <= MAX_INLINE_BYTES:
        return None
    return f"{tenant_id}/sha256/{content.sha256[:2]}/{content.sha256}"


def naming_errors(*, kind: str, step_index: int, ordinal: int) -> list[FieldError]:
    """What is wrong with the type and the place of a new artifact."""
    errors = []
    if len(kind) > MAX_TYPE_CHARS or not _TYPE.fullmatch(kind):
        detail = (
            f"{kind[:_SHOWN_CHARS]!r} is no type; dotted lower-case words such as report.summary "
            f"are, 1 to {MAX_TYPE_CHARS} characters"
        )
        errors.append(FieldError(field="type", code="invalid_format", detail=detail))
    for field, value, least, most in (
        ("step_index", step_index, 1, MAX_STEP_INDEX),
        ("ordinal", ordinal, 0, MAX_ORDINAL),
    ):
        if not least <= value <= most:
            detail = f"{value} is out of range; {least} to {most} are allowed"
            errors.append(FieldError(field=field, code="out_of_range", detail=detail))
    return errors


def _check_size(data: str, which: str) -> int:
    size_bytes = len(data.encode())
    if size_bytes > MAX_DATA_BYTES:
        raise PawlError(
            "payload_too_large",
            f"data_json has {size_bytes} bytes {which}; at most {MAX_DATA_BYTES} are allowed",
        )
    return size_bytes
