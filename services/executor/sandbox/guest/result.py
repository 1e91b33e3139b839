"""What code left as its result, written as JSON."""

import json
import math
from typing import Any

MAX_DEPTH = 64

_quote = json.encoder.encode_basestring
_WORDS = {None: "null", True: "true", False: "false"}


class ResultTooLargeError(Exception):
    """The JSON of a result has too many bytes."""


def result_text(value: Any, *, max_bytes: int) -> str:
    """The JSON of `value`, keys sorted, without spaces.

    Raises ResultTooLargeError; and TypeError or ValueError, which name the place, for what JSON
    has no word for: other types, NaN and infinities, halves of surrogate pairs, more than 64
    levels, two keys that are written alike.
    """
    writer = _Writer(max_bytes)
    writer.add(value, "result", 0)
    return "".join(writer.pieces)


class _Writer:
    """Looks at the data below a class, not at what the class makes of them."""

    def __init__(self, max_bytes: int) -> None:
        self.pieces: list[str] = []
        self._left = max_bytes
        self._max_bytes = max_bytes

    def add(self, value: Any, place: str, depth: int) -> None:
        kind = type(value)
        if value is None or kind is bool:
            self._put(_WORDS[value])
        elif issubclass(kind, str):
            self._put_text(str.__str__(value), place)
        elif issubclass(kind, int):
            self._put(int.__repr__(value))
        elif issubclass(kind, float):
            self._put_float(float.__float__(value), place)
        elif depth >= MAX_DEPTH:
            raise ValueError(f"{place:.200}: nested deeper than {MAX_DEPTH} levels")
        elif issubclass(kind, dict):
            self._add_members(value, place, depth)
        elif issubclass(kind, list | tuple):
            self._add_elements(value, place, depth)
        else:
            raise TypeError(f"{place:.200}: {_name(kind)} cannot be written as JSON")

    def _add_elements(self, value: Any, place: str, depth: int) -> None:
        elements = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
        self._put("[")
        for index, element in enumerate(elements):
            if index:
                self._put(",")
            self.add(element, f"{place}[{index}]", depth + 1)
        self._put("]")

    def _add_members(self, value: dict[Any, Any], place: str, depth: int) -> None:
        members: dict[str, Any] = {}
        for key, member in dict.items(value):
            name = _key(key, place)
            if name in members:
                raise ValueError(f"{place:.200}: two keys are written {name!r:.80}")
            members[name] = member
        self._put("{")
        for index, name in enumerate(sorted(members)):
            if index:
                self._put(",")
            self._put_text(name, place)
            self._put(":")
            self.add(members[name], f"{place}[{name!r:.80}]", depth + 1)
        self._put("}")

    def _put_float(self, value: float, place: str) -> None:
        if not math.isfinite(value):
            raise ValueError(f"{place:.200}: {value} is no number in JSON")
        self._put(float.__repr__(value))

    def _put_text(self, value: str, place: str) -> None:
        if len(value) > self._left:
            self._refuse()
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = value[error.start]
            raise ValueError(f"{place:.200}: half a surrogate pair, {half!r}") from None
        self._put(_quote(value))

    def _put(self, piece: str) -> None:
        self._left -= len(piece) if piece.isascii() else len(piece.encode())
        if self._left < 0:
            self._refuse()
        self.pieces.append(piece)

    def _refuse(self) -> None:
        raise ResultTooLargeError(f"the result has more than {self._max_bytes} bytes as JSON")


def _key(key: Any, place: str) -> str:
    """As json.dumps writes it."""
    kind = type(key)
    if issubclass(kind, str):
        return str.__str__(key)
    if key is None or kind is bool:
        return _WORDS[key]
    if issubclass(kind, int):
        return int.__repr__(key)
    if issubclass(kind, float) and math.isfinite(key):
        return float.__repr__(key)
    raise TypeError(f"{place:.200}: a key of type {_name(kind)} cannot be written as JSON")


def _name(kind: type) -> str:
    return type.__repr__(kind).removeprefix("<class '").removesuffix("'>")[:80]
