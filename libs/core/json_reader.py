"""The one strict reader of JSON that callers send.

Stricter than JSON where leniency would make two readers disagree: a key may occur once, numbers
must be finite and safe as IEEE doubles, text must be storable. What it lets through has one meaning
everywhere.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator
from itertools import accumulate

from libs.core.canonical import MAX_SAFE_INTEGER, Json, whole_number
from libs.core.errors import FieldError, PawlError, field_error

MAX_DEPTH = 64
"""Objects and arrays inside one another, the outermost counted."""
MAX_MEMBERS = 10_000
"""Object members in the whole document."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_LONGEST_SAFE_INTEGER = len(str(-MAX_SAFE_INTEGER))
_SHOWN_CHARACTERS = 64
_SHOWN_PATH = 200


def read_json(data: bytes, *, whole_doubles: bool = False) -> Json:
    """The value that `data` spells.

    With `whole_doubles`, an integer beyond ±(2^53−1) is the double that canonical JSON writes that
    way, instead of being refused: for text that has been through Pawl once.

    Raises PawlError: invalid_encoding, malformed_json, duplicate_key, non_finite_number (400);
    too_deep, too_many_keys, number_out_of_range, invalid_characters (422).
    """
    text = _decoded(data)
    _check_shape(data)
    try:
        value: Json = (_CANONICAL_DECODER if whole_doubles else _DECODER).decode(text)
    except json.JSONDecodeError as error:
        raise PawlError(
            "malformed_json",
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
        ) from error
    if "\\u" in text:  # only an escape can spell a NUL or half a surrogate pair
        _check_characters(value)
    return value


def read_object(data: bytes) -> dict[str, Json]:
    """Like `read_json`, for a body that must be an object: else validation_failed (422)."""
    value = read_json(data)
    if not isinstance(value, dict):
        raise field_error(
            "validation_failed", "", f"the body is {json_type(value)}; it must be an object"
        )
    return value


def json_type(value: Json) -> str:
    """What JSON calls the type of `value`, with its article, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "an array"


def _decoded(data: bytes) -> str:
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"} or b"\x00" in data[:2]:
        raise PawlError("invalid_encoding", "the body looks like UTF-16 or UTF-32; send UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        raise PawlError(
            "invalid_encoding", "the body begins with a byte order mark; send it without"
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PawlError(
            "invalid_encoding", f"the body is not UTF-8 at byte {error.start}"
        ) from error


def _check_shape(data: bytes) -> None:
    """Bound depth and width on the bytes, before the parser recurses or builds anything."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH and data.count(b":") <= MAX_MEMBERS:
        return
    outside = _STRING.sub(b"", data)
    brackets = array("b", outside.translate(_DEPTH_STEPS, _NOT_BRACKETS))
    if max(accumulate(brackets), default=0) > MAX_DEPTH:
        raise field_error("too_deep", "", f"the body is nested deeper than {MAX_DEPTH} levels")
    if (members := outside.count(b":")) > MAX_MEMBERS:
        raise field_error(
            "too_many_keys", "", f"the body has {members} keys; {MAX_MEMBERS} are allowed"
        )


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise PawlError(
        "duplicate_key",
        f"the key {_shown(twice)} occurs twice in one object",
        errors=(
            FieldError(field=_shown(twice)[1:-1], code="duplicate_key", detail="it occurs twice"),
        ),
    )


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise PawlError(
            "non_finite_number", f"the number {text[:_SHOWN_CHARACTERS]} is too large for a double"
        )
    return value


def _integer(text: str) -> int:
    # The length goes first: int() refuses thousands of digits with an error of its own.
    if len(text) <= _LONGEST_SAFE_INTEGER:
        value = int(text)
        if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            return value
    raise PawlError(
        "number_out_of_range",
        f"the integer {text[:_SHOWN_CHARACTERS]} is beyond ±(2^53−1); send it as a string",
    )


def _constant(name: str) -> Json:
    raise PawlError("non_finite_number", f"{name} is not a number that JSON knows")


def _check_characters(value: Json) -> None:
    for path, text in _strings(value, ""):
        if "\x00" in text or not _is_unicode(text):
            raise field_error(
                "invalid_characters",
                path[:_SHOWN_PATH],
                "a NUL character or half a surrogate pair; neither can be stored",
            )


def _strings(value: Json, path: str) -> Iterator[tuple[str, str]]:
    """Every key and string of `value` with its path; the depth is bounded before."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _strings(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{path}[{index}]")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(text: str) -> str:
    """A quoted, bounded, ASCII form of a caller's text: safe in any message."""
    return json.dumps(text[:_SHOWN_CHARACTERS])


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_float=_float,
    parse_int=_integer,
    parse_constant=_constant,
)
_CANONICAL_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_float=_float,
    parse_int=whole_number,
    parse_constant=_constant,
)
