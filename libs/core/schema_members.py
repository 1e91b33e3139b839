"""The members of a JSON Schema, one a row, for people to read.

What a row cannot say (conditions, combinations, patterns) stays in the schema itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from libs.core.canonical import Json

MAX_DEPTH = 8
_CHOICES = ("anyOf", "oneOf")
_COUNTS = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
    ("minProperties", "maxProperties", "members"),
    ("minimum", "maximum", ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member. `path` is dotted; `[]` is each item of an array, `*` each key of an object.

    `words` hold bounds, default and description.
    """

    path: str
    type: str
    required: bool
    words: str


def members_of(schema: Mapping[str, Json]) -> tuple[Member, ...]:
    """The members of an object's schema in its own order, deeper ones after their holder."""
    return tuple(dict.fromkeys(_members(schema, path="", depth=0)))


def type_of(schema: Json) -> str:
    """The type in words: `string`, `number or null`, `"a" | "b"`, `any`."""
    if not isinstance(schema, Mapping):
        return "any"
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(map(_text, values)) if isinstance(values, list) else "any"
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    return " or ".join(dict.fromkeys(map(type_of, _choices(schema)))) or "any"


def _members(schema: Mapping[str, Any], *, path: str, depth: int) -> Iterator[Member]:
    if depth >= MAX_DEPTH:
        return
    required = schema.get("required", ())
    for name, part in _mapping(schema.get("properties")).items():
        here = f"{path}.{name}" if path else name
        yield Member(path=here, type=type_of(part), required=name in required, words=_words(part))
        yield from _members(_mapping(part), path=here, depth=depth + 1)
    for key, mark in (("additionalProperties", "*"), ("items", "[]")):
        part = _mapping(schema.get(key))
        if part:
            here = f"{path}{mark}" if mark == "[]" or not path else f"{path}.{mark}"
            yield Member(path=here, type=type_of(part), required=False, words=_words(part))
            yield from _members(part, path=here, depth=depth + 1)
    for choice in _choices(schema):
        # What one choice requires, another may not even know.
        for member in _members(_mapping(choice), path=path, depth=depth + 1):
            yield replace(member, required=False)


def _words(schema: Any) -> str:
    part = _mapping(schema)
    said = [text for least, most, unit in _COUNTS if (text := _range(part, least, most, unit))]
    said += [f"{key} {_text(part[key])}" for key in ("format", "default") if key in part]
    bounds = "; ".join(said)
    description = str(part.get("description", "")).strip()
    return " ".join(text for text in (description, f"({bounds})" if bounds else "") if text)


def _range(part: Mapping[str, Any], least: str, most: str, unit: str) -> str:
    low, high = part.get(least), part.get(most)
    if low is None and high is None:
        return ""
    if high is None:
        words = f"at least {low}"
    else:
        words = f"at most {high}" if low is None else f"{low} to {high}"
    return f"{words} {unit}".strip()


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    found = (schema.get(key) for key in _CHOICES)
    return [choice for choices in found if isinstance(choices, list) for choice in choices]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
