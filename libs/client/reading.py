"""Reads JSON into frozen records by their annotations. Pure.

Members that a record does not know are left aside, so that an older client reads a newer server.
A member with a default may be absent; any other must be there with its type. A field named `raw`
takes the whole object as it came.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

Record = TypeVar("Record")
Reader = Callable[[Any, str], Any]

RAW = "raw"
_BEYOND = 2**63


class Unexpected(ValueError):  # noqa: N818 - what it is, in one word
    """A value is not what its record says; the message names the member."""


def read(kind: type[Record], value: object, at: str = "") -> Record:
    """The record that a JSON object spells. Raises Unexpected; `at` is where the value stands."""
    if not isinstance(value, dict):
        raise Unexpected(f"{at or 'it'} is not an object")
    members: dict[str, Any] = {}
    for name, reader, is_required in _fields(kind):  # type: ignore[arg-type]  # a class is hashable
        if name == RAW:
            members[name] = value
        elif name in value:
            members[name] = reader(value[name], f"{at}.{name}" if at else name)
        elif is_required:
            raise Unexpected(f"{at or 'it'} has no {name!r}")
    return kind(**members)


def moment(value: object, at: str = "") -> datetime:
    """An RFC 3339 time as an aware UTC one. Raises Unexpected."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Unexpected(f"{at or 'it'} is not a time") from error
    raise Unexpected(f"{at or 'it'} is not a time with its offset from UTC")


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Reader, bool], ...]:
    """Name, reader and whether it must be there, for each field."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (field.name, _reader(hints[field.name]), _is_required(field))
        for field in dataclasses.fields(kind)
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    absent = dataclasses.MISSING
    return field.default is absent and field.default_factory is absent


def _reader(hint: Any) -> Reader:
    if hint in {Any, object}:
        return lambda value, _: value
    if hint in _PLAIN:
        return _PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        return lambda value, at: read(hint, value, at)  # type: ignore[arg-type]  # a class it is
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        (inner,) = (_reader(one) for one in arguments if one is not type(None))
        return lambda value, at: None if value is None else inner(value, at)
    if origin is tuple and arguments[-1] is Ellipsis:
        return _sequence(_reader(arguments[0]))
    if origin is tuple:
        return _row([_reader(one) for one in arguments])
    if origin is Mapping:
        return _mapping(_reader(arguments[1]))
    raise TypeError(f"no reader for {hint}")


def _sequence(item: Reader) -> Reader:
    def reader(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Unexpected(f"{at} is not an array")
        return tuple(item(one, f"{at}[{place}]") for place, one in enumerate(value))

    return reader


def _row(items: list[Reader]) -> Reader:
    def reader(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(items):
            raise Unexpected(f"{at} is not an array of {len(items)}")
        pairs = zip(items, value, strict=True)
        return tuple(item(one, f"{at}[{place}]") for place, (item, one) in enumerate(pairs))

    return reader


def _mapping(item: Reader) -> Reader:
    def reader(value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unexpected(f"{at} is not an object")
        return {name: item(one, f"{at}.{name}") for name, one in value.items()}

    return reader


def _text(value: Any, at: str) -> str:
    if isinstance(value, str):
        return value
    raise Unexpected(f"{at} is not a string")


def _flag(value: Any, at: str) -> bool:
    if isinstance(value, bool):
        return value
    raise Unexpected(f"{at} is not true or false")


def _integer(value: Any, at: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _BEYOND:
        return value
    raise Unexpected(f"{at} is not an integer of at most 64 bits")


def _number(value: Any, at: str) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _integer(value, at)


_PLAIN: dict[Any, Reader] = {
    str: _text,
    bool: _flag,
    int: _integer,
    float: _number,
    datetime: moment,
}
