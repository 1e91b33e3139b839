"""Results of the engine to JSON, without pretending.

Numbers that a double holds as they are written become JSON numbers; other integers and decimals
strings of their digits; NaN and the infinities the strings NaN, Infinity and -Infinity. Dates,
times, intervals, UUIDs, bits and enumerations are text as the engine writes them; blobs are base64;
JSON is what it holds. A FLOAT is widened to a double, which shows its inaccuracy.
"""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal
from typing import Any

from libs.core.canonical import MAX_SAFE_INTEGER, Json
from services.executor.tools.table_bounds import wrong_type

_EXACT_DIGITS = 15
_AS_IT_IS = frozenset(
    {
        "boolean",
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "uhugeint",
        "float",
        "double",
        "varchar",
        "blob",
        '"NULL"',
        "null",
    }
)
_AS_TEXT = frozenset(
    {
        "date",
        "time",
        "time_ns",
        "time with time zone",
        "timestamp",
        "timestamp_s",
        "timestamp_ms",
        "timestamp_ns",
        "timestamp with time zone",
        "timestamp_tz",
        "interval",
        "uuid",
        "bit",
        "enum",
        "bignum",
    }
)


def carried_type(kind: Any, *, column: str) -> str:
    """The type in which values of a column leave the engine without loss.

    `kind` is the engine's type. Raises StepFailed for one that has no form in JSON.
    """
    name = kind.id
    if str(kind) == "JSON" or name in _AS_IT_IS or name == "decimal":
        return str(kind)
    if name in _AS_TEXT:
        return "VARCHAR"
    if name in {"list", "array"}:
        return carried_type(kind.children[0][1], column=column) + "[]"
    if name == "struct":
        members = (
            f"{quoted(member)} {carried_type(part, column=column)}"
            for member, part in kind.children
        )
        return f"STRUCT({', '.join(members)})"
    hint = "use map_entries() for it" if name == "map" else "CAST it to VARCHAR"
    raise wrong_type(
        f"column {column[:64]!r} is a {str(kind)[:100]}, which JSON cannot hold; {hint}"
    )


def quoted(name: str) -> str:
    """A name as SQL takes it literally."""
    return '"' + name.replace('"', '""') + '"'


def json_value(value: Any, kind: Any) -> Json:
    """A value that left the engine as that type, as JSON."""
    if value is None:
        return None
    if kind.id in {"list", "array"}:
        part = kind.children[0][1]
        return [json_value(element, part) for element in value]
    if kind.id == "struct":
        return {member: json_value(value[member], part) for member, part in kind.children}
    if str(kind) == "JSON":
        return _plain(json.loads(value, parse_constant=str))
    return _scalar(value)


def _scalar(value: Any) -> Json:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int):
        return value if abs(value) <= MAX_SAFE_INTEGER else str(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    double: float = value
    return double


def _decimal(value: Decimal) -> Json:
    if value == value.to_integral_value():
        whole = int(value)
        return whole if abs(whole) <= MAX_SAFE_INTEGER else format(value, "f")
    digits = len(value.normalize().as_tuple().digits)
    return float(value) if digits <= _EXACT_DIGITS else format(value, "f")


def _plain(value: Any) -> Json:
    """What a JSON column holds, its numbers treated as all others."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if value is None else _scalar(value)
