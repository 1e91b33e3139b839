"""Values to canonical JSON bytes (RFC 8785), and canonical text back to values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import rfc8785

MAX_SAFE_INTEGER = 2**53 - 1
_SAFE_DIGITS = len(str(-MAX_SAFE_INTEGER))
# Between these, Python writes a fraction without exponent, as ECMAScript does.
_LEAST_PLAIN, _MOST_PLAIN = 1e-4, 2.0**53
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
_LONG_INTEGER = re.compile(r"[0-9]{16}", re.ASCII)

# What json.loads returns. Spelled as object, because a recursive alias makes every use a cast.
Json = object


def canonical(value: Json) -> bytes:
    """The RFC 8785 bytes of `value`.

    Numbers are IEEE doubles: an integer beyond ±(2**53−1), as a double's decimal form can be, is
    taken as that double. Raises ValueError for what JSON cannot say (NaN, infinities, lone
    surrogates, other types) and for values nested too deeply to walk (several hundred levels).
    """
    try:
        if _is_plain(value):
            return _ENCODER.encode(value).encode()
        return rfc8785.dumps(doubles(value))  # type: ignore[arg-type]  # doubles leaves only JSON
    except RecursionError as error:
        raise ValueError("the value has no canonical form: it is nested too deeply") from error
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ValueError(f"the value has no canonical form: {error}") from error


def canonical_text(value: Json) -> str:
    """`canonical` as text, the form that is stored and sent."""
    return canonical(value).decode()


def read_canonical(text: str | bytes) -> Json:
    """Read JSON text that Pawl itself wrote; for a caller's bytes use the strict reader.

    Canonical JSON writes the double 1e16 as 10000000000000000: such a number becomes a float again.
    """
    text = text if isinstance(text, str) else text.decode()
    if _LONG_INTEGER.search(text) is None:  # almost always, and then the parser stays in C
        return json.loads(text)
    return json.loads(text, parse_int=whole_number)


def whole_number(text: str) -> float:
    """What an integer literal of canonical JSON stands for: beyond ±(2**53−1) a double."""
    value = float(text) if len(text) > _SAFE_DIGITS else int(text)
    if isinstance(value, float) or -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return value
    return float(value)


def same_json(one: Json, other: Json) -> bool:
    """Whether both have the same canonical form, found without writing it.

    Stops at the first difference, so the smaller of both bounds the work. RecursionError for values
    that are nested too deeply, ValueError for integers beyond the range of a double.
    """
    match one, other:
        case (dict(), dict()):
            return one.keys() == other.keys() and all(
                same_json(item, other[key]) for key, item in one.items()
            )
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(map(same_json, one, other))
        case (str(), str()):
            return one == other
        case (bool() | None, _) | (_, bool() | None):
            return one is other
        case (int() | float(), int() | float()):
            return _as_double(one) == _as_double(other)
    return False


def _is_plain(value: Json) -> bool:
    """Whether the standard library, which is many times as fast, writes `value` as RFC 8785 says.

    So it does for keys whose order by character is that by UTF-16 unit, and for numbers whose
    shortest form is the same in Python and ECMAScript.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if isinstance(value, int):
        return kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER
    if isinstance(value, float):
        return kind is float and _LEAST_PLAIN <= abs(value) < _MOST_PLAIN and value % 1 != 0
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain_key, value)) and all(map(_is_plain, value.values()))
    return False


def _is_plain_key(key: object) -> bool:
    return type(key) is str and key.isascii()


def doubles(value: Json) -> Json:
    """`value` with each integer beyond ±(2**53−1) as the double that it stands for.

    Raises ValueError for what is no JSON, RecursionError for what is nested too deeply to walk.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return value if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER else _as_double(value)
    if isinstance(value, list | tuple):
        return [doubles(item) for item in value]
    if isinstance(value, Mapping):
        return {key: doubles(item) for key, item in value.items()}
    kinds = "objects, arrays, strings, numbers, booleans and null"
    raise ValueError(f"{type(value).__name__} is not JSON: only {kinds} are")


def _as_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("an integer is beyond the range of a double") from error
