"""JSON Schema (draft 2020-12): values against schemas.

Formats are checked. A schema refers only to itself; nothing is ever fetched. Patterns are those of
a regular language (no look-around, no back references), so that matching takes time in proportion
to the text. What else bounds a schema stands in schema_bounds.py.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import jsonschema_rs

from libs.core.canonical import Json, canonical
from libs.core.references import Path, dotted
from libs.core.schema_bounds import SchemaRefused, survey

MAX_VIOLATIONS = 20
MAX_MESSAGE_LENGTH = 300
MAX_VALUE_DEPTH = 200

# Bytes of a pattern's automaton; nested counts such as (a{1,100}){1,100} grow past it.
_PATTERN_BYTES = 1_000_000
# Keywords that can turn good or bad with a value deeper down: an unknown part leaves them open.
_DEPENDS_ON_PARTS = frozenset(
    {
        "anyOf",
        "oneOf",
        "not",
        "contains",
        "uniqueItems",
        "enum",
        "const",
        "if",
        "unevaluatedProperties",
        "unevaluatedItems",
    }
)
_ABOUT_KEYS = frozenset({"additionalProperties", "required"})
_CONDITIONAL = frozenset({"then", "else"})
_NO_FORM = (
    jsonschema_rs.ValidationErrorKind.AnyOf,
    jsonschema_rs.ValidationErrorKind.OneOfNotValid,
)

__all__ = ["SchemaRefused", "Validator", "Violation", "compile_schema"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing wrong with a value. `path` is dotted (`items[0].name`, empty for the whole value).

    Path and message are at most MAX_MESSAGE_LENGTH long. `location` is the path as parts; a missing
    or unexpected key is its last part. The message names what is expected and no value.
    `conditional`: it stands under `then` or `else`.
    """

    path: str
    message: str
    keyword: str
    location: Path
    conditional: bool = False


class Validator:
    """A compiled schema. Made by `compile_schema`; safe to share."""

    __slots__ = ("_compiled", "_explains", "_recursive")

    def __init__(self, schema: dict[str, Json] | bool) -> None:
        """Compile a schema. Raises SchemaRefused."""
        found = survey(schema)
        self._explains = found.explains
        self._recursive = found.recursive
        try:
            self._compiled = jsonschema_rs.Draft202012Validator(
                schema,
                validate_formats=True,
                retriever=_refuse_remote,
                mask="the value",
                pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            message = getattr(error, "message", None) or str(error)
            path = dotted(tuple(getattr(error, "instance_path", ())))
            raise SchemaRefused("invalid_schema", _short(message), path=path) from error

    def accepts(self, value: Json) -> bool:
        """Whether `value` is valid; what is no JSON at all is not."""
        if self._recursive and _is_deeper(value, MAX_VALUE_DEPTH):
            return False
        try:
            return bool(self._compiled.is_valid(value))
        except ValueError:  # another type, a key that is no string, half a surrogate pair
            return False

    def violations(self, value: Json, *, unknown: Collection[Path] = ()) -> list[Violation]:
        """What is wrong with `value`, at most MAX_VIOLATIONS; empty when it is valid.

        At the paths `unknown` stands something in place of values that are not known yet: what
        another value there could put right is left out.

        A schema that refers to itself in several branches is answered with one violation for the
        whole value: to explain it could take exponential time, to judge it does not.
        """
        if self.accepts(value):
            return []
        if not self._explains or (self._recursive and _is_deeper(value, MAX_VALUE_DEPTH)):
            return [] if unknown else [_whole("the value does not match the schema")]
        open_paths = frozenset(unknown)
        try:
            errors = self._compiled.iter_errors(value)
            certain = (v for error in errors for v in _read(error) if not _is_open(v, open_paths))
            found = list(islice(certain, MAX_VIOLATIONS))
        except ValueError:
            return [_whole("the value is not JSON, or nested too deeply to be explained")]
        return found if found or unknown else [_whole("the value does not match the schema")]


def compile_schema(schema: Json) -> Validator:
    """The validator of a schema, compiled once per canonical form.

    Raises SchemaRefused; its code is invalid_schema, schema_limit, schema_recursion,
    remote_ref_forbidden or bad_ref.
    """
    if not isinstance(schema, dict | bool):
        raise SchemaRefused("invalid_schema", "a schema is an object or a boolean")
    try:
        text = canonical(schema)
    except (ValueError, RecursionError) as error:
        raise SchemaRefused("invalid_schema", "a schema is JSON") from error
    return _compile(text)


@lru_cache(maxsize=1024)
def _compile(text: bytes) -> Validator:
    return Validator(json.loads(text))


def _refuse_remote(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: a schema refers only to itself")


def _read(error: jsonschema_rs.ValidationError) -> Iterator[Violation]:
    path: Path = tuple(error.instance_path)
    keyword = error.kind.name
    conditional = any(part in _CONDITIONAL for part in error.evaluation_path)
    parts: tuple[str, ...] = ()
    message = error.message
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        parts, message = tuple(error.kind.unexpected), "this key is not known here"
    elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        parts, message = (str(error.kind.property),), "this key is required"
    elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Enum):
        options = islice(error.kind.options, MAX_MESSAGE_LENGTH)
        message = f"it is none of {', '.join(map(json.dumps, options))}"
    elif isinstance(error.kind, _NO_FORM):
        message = _forms(path, error.kind.context)
    elif isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Not):
        message = _not_together(error.kind.schema) or message
    elif keyword == "falseSchema" and error.evaluation_path[-1:] == ["additionalProperties"]:
        message = "no key is known here"
    for location in [(*path, part) for part in parts] or [path]:
        yield Violation(
            path=_cut(dotted(location)),
            message=_short(message),
            keyword=keyword,
            location=location,
            conditional=conditional,
        )


def _forms(path: Path, branches: list[list[jsonschema_rs.ValidationError]]) -> str:
    """What keeps a value from each of the forms that it might have."""
    told = []
    for error in (branch[0] for branch in branches if branch):
        inside = dotted(tuple(error.instance_path)[len(path) :])
        told.append(f"{inside}: {error.message}" if inside else error.message)
    return f"it fits none of the forms allowed here: {'; or '.join(told)}"


def _not_together(schema: Any) -> str | None:
    names = schema.get("required") if isinstance(schema, dict) and len(schema) == 1 else None
    return f"{' and '.join(names)} may not stand here together" if names else None


def _is_open(violation: Violation, unknown: frozenset[Path]) -> bool:
    """Whether a violation could go away if the values at `unknown` were others."""
    if not unknown:
        return False
    # Whether a key may or must stand somewhere does not depend on the value it holds.
    about_key = violation.keyword in _ABOUT_KEYS
    place = violation.location[:-1] if about_key else violation.location
    if violation.conditional or any(place[:end] in unknown for end in range(len(place) + 1)):
        return True
    return violation.keyword in _DEPENDS_ON_PARTS and any(
        path[: len(place)] == place for path in unknown
    )


def _whole(message: str) -> Violation:
    return Violation(path="", message=message, keyword="", location=())


def _short(message: str) -> str:
    return _cut(" ".join(message.split()))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else text[: MAX_MESSAGE_LENGTH - 1] + "…"


def _is_deeper(value: Json, depth: int) -> bool:
    level: list[Json] = [value]
    for _ in range(depth + 1):
        level = [
            item
            for holder in level
            for item in (
                holder.values()
                if isinstance(holder, dict)
                else holder
                if isinstance(holder, list)
                else ()
            )
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
