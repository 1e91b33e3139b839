"""Takes the members of a request's object one by one, each of exactly its type."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import UTC, datetime

from libs.core.canonical import Json
from libs.core.errors import FieldError, PawlError
from libs.core.json_reader import json_type

MAX_SHOWN_UNKNOWN = 10
MAX_SHOWN = 100
MAX_NAME = 64

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)


class Members:
    """Collects what is wrong; `check` raises it all together. Members never asked for are unknown.

    An optional member is None when it is absent; JSON null is not absent and is refused. `under`
    stands before the names of an object's members that is itself within another.
    """

    def __init__(self, value: dict[str, Json], *, under: str = "") -> None:
        self._value = value
        self._under = under
        self._known: set[str] = set()
        self._errors: list[FieldError] = []
        self._parts: list[Members] = []

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def anything(self, name: str) -> Json:
        """Whatever is there; None also when nothing is."""
        value = self._take(name, required=False)
        return None if value is _ABSENT else value

    def record(self, name: str, *, required: bool = False) -> dict[str, Json] | None:
        """An object."""
        value = self._take(name, required=required)
        if value is _ABSENT:
            return None
        if not isinstance(value, dict):
            self._wrong_type(name, value, "an object")
            return None
        return value

    def text(
        self, name: str, *, required: bool = False, min_length: int = 1, max_length: int = 255
    ) -> str:
        """A string of so many characters; the empty string when it is absent."""
        value = self._take(name, required=required)
        if value is _ABSENT:
            return ""
        if not isinstance(value, str):
            self._wrong_type(name, value, "a string")
            return ""
        if not min_length <= len(value) <= max_length:
            detail = f"it has {len(value)} characters; {min_length} to {max_length} are allowed"
            self.refuse(name, "out_of_range", detail)
            return ""
        return value

    def word(self, name: str, *, allowed: Collection[str]) -> str | None:
        """One of a few strings."""
        value = self._take(name, required=False)
        if value is _ABSENT:
            return None
        wanted = "one of " + ", ".join(allowed)
        if not isinstance(value, str):
            self._wrong_type(name, value, wanted)
            return None
        if value not in allowed:
            self.refuse(name, "invalid_value", f"it is {value[:MAX_NAME]!a}; it must be {wanted}")
            return None
        return value

    def texts(self, name: str, *, max_items: int = 32, max_length: int = 64) -> list[str] | None:
        """An array of at most `max_items` strings, each of at most `max_length` characters."""
        value = self._take(name, required=False)
        if value is _ABSENT:
            return None
        if not isinstance(value, list):
            self._wrong_type(name, value, "an array of strings")
            return None
        texts = [item for item in value if isinstance(item, str) and len(item) <= max_length]
        if len(value) > max_items or len(texts) != len(value):
            self.refuse(
                name,
                "out_of_range",
                f"at most {max_items} strings of at most {max_length} characters are allowed",
            )
            return None
        return texts

    def records(self, name: str, *, max_items: int) -> list[Members]:
        """A required array of one to `max_items` objects, each to be read as this one is."""
        value = self._take(name, required=True)
        if value is _ABSENT:
            return []
        if not isinstance(value, list):
            self._wrong_type(name, value, "an array of objects")
            return []
        if not 1 <= len(value) <= max_items:
            detail = f"it has {len(value)} items; 1 to {max_items} are allowed"
            self.refuse(name, "out_of_range", detail)
            return []
        parts = []
        for place, item in enumerate(value):
            if not isinstance(item, dict):
                self._wrong_type(f"{name}[{place}]", item, "an object")
            else:
                parts.append(Members(item, under=f"{name}[{place}]."))
        self._parts += parts
        return parts

    def integer(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """A number written as an integer, within the bounds."""
        value = self._take(name, required=False)
        if value is _ABSENT:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type(name, value, "an integer")
            return None
        if not minimum <= value <= maximum:
            self.refuse(name, "out_of_range", f"{value} is not within {minimum} and {maximum}")
            return None
        return value

    def true(self, name: str) -> bool:
        """Whether it is there; when it is, it must be true."""
        value = self._take(name, required=False)
        if value is _ABSENT:
            return False
        if value is not True:
            self._wrong_type(name, value, "true, or absent")
        return True

    def number(self, name: str, *, above: float) -> float | None:
        """A number greater than `above`."""
        value = self._take(name, required=False)
        if value is _ABSENT:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong_type(name, value, "a number")
            return None
        if not above < value < math.inf:
            self.refuse(name, "out_of_range", f"{value} is not greater than {above:g}")
            return None
        return float(value)

    def instant(self, name: str) -> datetime | None:
        """An RFC 3339 time with an offset, in UTC."""
        text = self.text(name, max_length=40)
        if not text:
            return None
        at = parse_instant(text)
        if at is None:
            detail = "it must be an RFC 3339 time with an offset, such as 2026-06-15T09:00:00+02:00"
            self.refuse(name, "invalid_datetime", detail)
        return at

    def refuse(self, name: str, code: str, detail: str) -> None:
        """Note that a member is wrong."""
        self._errors.append(FieldError(field=self._under + name, code=code, detail=detail))

    def check(self, *, code: str = "validation_failed") -> None:
        """Raise PawlError unknown_field when there is a member that nobody asked for, else `code`
        when something was wrong.
        """
        has_unknown, errors = self.found()
        if not errors:
            return
        shown = tuple(errors[:MAX_SHOWN])
        said = "; ".join(f"{e.field}: {e.detail}" for e in shown)
        raise PawlError("unknown_field" if has_unknown else code, said, errors=shown)

    def found(self) -> tuple[bool, list[FieldError]]:
        """Whether there is a member that nobody asked for, and all that is wrong."""
        unknown = [name for name in self._value if name not in self._known]
        for name in unknown[:MAX_SHOWN_UNKNOWN]:
            allowed = ", ".join(sorted(self._known)) or "none"
            self.refuse(name[:MAX_NAME], "unknown_field", f"it is not known; known are {allowed}")
        has_unknown, errors = bool(unknown), self._errors
        for part in self._parts:
            also_unknown, more = part.found()
            has_unknown |= also_unknown
            errors = [*errors, *more]
        return has_unknown, errors

    def _take(self, name: str, *, required: bool) -> Json:
        self._known.add(name)
        if required and name not in self._value:
            self.refuse(name, "required", "it is required")
        return self._value.get(name, _ABSENT)

    def _wrong_type(self, name: str, value: Json, wanted: str) -> None:
        self.refuse(name, "wrong_type", f"it is {json_type(value)}; it must be {wanted}")


def parse_instant(text: str) -> datetime | None:
    """The RFC 3339 time with an offset that a text says, in UTC; None when it says none."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


_ABSENT = object()
