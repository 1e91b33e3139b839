"""Bodies: a step's input as bytes to send, and an answer's bytes as JSON, text or base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from libs.core.canonical import Json, canonical
from libs.core.errors import FailureCode, PawlError
from libs.core.json_measure import Unfit, measure
from libs.core.json_reader import read_json
from services.executor.model import SchemaFailure
from services.executor.step_validation import MAX_OUTPUT_BYTES, MAX_OUTPUT_DEPTH, SchemaMismatch

MAX_BODY_BYTES = 2**20
BODYLESS = frozenset({"GET", "HEAD"})

_TEXTUAL = frozenset(
    {
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/jsonl",
        "application/sql",
        "application/toml",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
        "message/http",
    }
)
_TEXTUAL_ENDINGS = ("+xml", "+yaml", "+json-seq", "+text")
# Encodings that have one meaning and decode in one pass. Python knows more, some of them dangerous.
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "cp1252",
}
_CHARSET = re.compile(
    r';\s*charset\s*=\s*"?([a-z0-9._-]{1,40})"?\s*(?:;|$)', re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What is sent, and as what; None for both when nothing is."""

    content: bytes | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A body that was read; `kind` is json, text, base64 or none."""

    kind: str
    body: Json
    json_error: str | None = None


def request_body(arguments: Mapping[str, Json], *, method: str) -> RequestBody:
    """The body that the input asks for. Raises SchemaMismatch(INPUT_SCHEMA), reason BODY."""
    if "json" in arguments:
        name, body = "json", RequestBody(canonical(arguments["json"]), "application/json")
    elif "text" in arguments:
        text = cast("str", arguments["text"])
        name, body = "text", RequestBody(text.encode(), "text/plain; charset=utf-8")
    else:
        return RequestBody(b"" if method not in {*BODYLESS, "DELETE"} else None)
    size = len(body.content or b"")
    if method in BODYLESS:
        raise _refused(name, f"{method} has no body; POST, PUT, PATCH and DELETE may have one")
    if size > MAX_BODY_BYTES:
        raise _refused(name, f"the body has {size} bytes; {MAX_BODY_BYTES} are allowed")
    return body


def read_content(data: bytes, *, media_types: Sequence[str]) -> Content:
    """The body by its media type (the values of Content-Type).

    JSON that the strict reader takes is parsed, other JSON is text. Text is what its type or its
    ending calls text, or what has no type, when it decodes by its charset (UTF-8 without one) and
    has no NUL; everything else is base64.
    """
    if not data:
        return Content("none", None)
    media_type, charset = _media_type(media_types)
    is_json = media_type in {"application/json", "text/json"} or media_type.endswith("+json")
    json_error = None
    if is_json:
        try:
            value = read_json(data)
            measure(value, max_bytes=MAX_OUTPUT_BYTES, max_depth=MAX_OUTPUT_DEPTH - 1)
            return Content("json", value)
        except (PawlError, Unfit) as error:
            json_error = error.message
    if is_json or _is_textual(media_type):
        text = _decoded(data, charset)
        if text is not None:
            return Content("text", text, json_error)
    return Content("base64", base64.b64encode(data).decode("ascii"), json_error)


def _media_type(values: Sequence[str]) -> tuple[str, str]:
    """Media type and charset in lower case, empty where there is none or more than one."""
    if len(values) != 1:
        return "", ""
    charset = _CHARSET.search(values[0])
    return values[0].partition(";")[0].strip().lower(), charset[1].lower() if charset else ""


def _is_textual(media_type: str) -> bool:
    return (
        not media_type
        or media_type.startswith("text/")
        or media_type in _TEXTUAL
        or media_type.endswith(_TEXTUAL_ENDINGS)
    )


def _decoded(data: bytes, charset: str) -> str | None:
    codec = _CHARSETS.get(charset or "utf-8")
    if codec is None:
        return None
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def _refused(name: str, message: str) -> SchemaMismatch:
    failure = SchemaFailure(path=name, message=message, where="input")
    return SchemaMismatch(
        FailureCode.INPUT_SCHEMA, message, schema_failures=(failure,), reason="BODY"
    )
