"""How large a JSON value is, found without writing it."""

from __future__ import annotations

import math

from libs.core.canonical import MAX_SAFE_INTEGER, Json


class Unfit(Exception):  # noqa: N818 - a verdict on a value, not a fault
    """A value that no step may take in or give out. `reason` is SIZE, DEPTH, NUMBER or TYPE."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def measure(value: Json, *, max_bytes: int, max_depth: int) -> int:
    """A lower bound of the bytes of the canonical text of `value`, found without writing it.

    Parts that are shared count wherever they occur, so a value that is small in memory and large
    when written is found out early. Raises Unfit for what has more than `max_bytes` or `max_depth`,
    for numbers that are not finite, integers beyond ±(2**53 - 1), and what is no JSON.
    """
    return _Measurement(max_bytes, max_depth).add(value, depth=0)


class _Measurement:
    def __init__(self, max_bytes: int, max_depth: int) -> None:
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._total = 0

    def add(self, value: Json, *, depth: int) -> int:
        match value:
            case None | bool():
                self._spend(4)
            case str():
                self._spend(len(value) + 2)
            case int() | float():
                _check_number(value)
                self._spend(1)
            case dict():
                self._enter(depth)
                for key, part in value.items():
                    if not isinstance(key, str):
                        raise Unfit("TYPE", f"a key is a {type(key).__name__}, not a string")
                    # Two quotes, a colon, a comma; the last member's comma pays the other bracket.
                    self._spend(len(key) + 4)
                    self.add(part, depth=depth + 1)
            case list() | tuple():
                self._enter(depth)
                for part in value:
                    self._spend(1)
                    self.add(part, depth=depth + 1)
            case _:
                raise Unfit("TYPE", f"a {type(value).__name__} is no JSON")
        return self._total

    def _spend(self, count: int) -> None:
        self._total += count
        if self._total > self._max_bytes:
            raise Unfit("SIZE", f"it has more than {self._max_bytes} bytes")

    def _enter(self, depth: int) -> None:
        self._spend(1)
        if depth >= self._max_depth:
            raise Unfit("DEPTH", f"it is nested deeper than {self._max_depth}")


def _check_number(value: float) -> None:
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise Unfit(
                "NUMBER", "an integer is beyond 9007199254740991, which JSON cannot carry exactly"
            )
    elif not math.isfinite(value):
        raise Unfit("NUMBER", "a number is not finite")
