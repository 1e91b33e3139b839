"""How large and how tangled a JSON Schema may be, judged before it is compiled.

Refused are remote references, references to nothing, schemas that apply themselves to the same
value for ever, and schemas whose size, depth, patterns or expansion are out of bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import unquote

from libs.core.canonical import Json
from libs.core.references import Path, dotted

MAX_DEPTH = 40
MAX_NODES = 5_000
MAX_TEXT_CHARACTERS = 256 * 1024
MAX_PATTERN_LENGTH = 500
MAX_PATTERNS = 100
MAX_EXPANSION = 10_000
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Way(Enum):
    """How a keyword applies its subschemas: to the same value, to parts of it, or not at all."""

    SAME = auto()
    INTO = auto()
    NAMED = auto()


_SINGLE = {
    "not": _Way.SAME,
    "if": _Way.SAME,
    "then": _Way.SAME,
    "else": _Way.SAME,
    "items": _Way.INTO,
    "contains": _Way.INTO,
    "additionalProperties": _Way.INTO,
    "propertyNames": _Way.INTO,
    "unevaluatedItems": _Way.INTO,
    "unevaluatedProperties": _Way.INTO,
    "contentSchema": _Way.INTO,
}
_WAYS = _SINGLE | {
    "allOf": _Way.SAME,
    "anyOf": _Way.SAME,
    "oneOf": _Way.SAME,
    "dependentSchemas": _Way.SAME,
    "prefixItems": _Way.INTO,
    "properties": _Way.INTO,
    "patternProperties": _Way.INTO,
    "$defs": _Way.NAMED,
    "definitions": _Way.NAMED,
}
# Keywords that can lead to one part of a value by several ways.
_BRANCHES = frozenset(
    {
        *(key for key, way in _WAYS.items() if way is _Way.SAME),
        "patternProperties",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contains",
    }
)
_UNSUPPORTED = ("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary")


class SchemaRefused(Exception):  # noqa: N818 - a refusal that its author reads, not a fault of Pawl
    """A schema that Pawl does not take: `code` is the fine word, `path` (dotted) the place."""

    def __init__(self, code: str, message: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.code = code
        self.message = message
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a sound schema is like.

    `recursive`: it refers to itself. `explains`: every violation can be told in bounded time.
    """

    recursive: bool
    explains: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where references can lead: subschemas by anchor and by the keys of their pointer."""

    anchors: dict[Json, Path]
    pointers: dict[tuple[str, ...], Path]


@dataclass(slots=True)
class _Node:
    """One subschema: what it applies to the same value (its reference too), what to parts of it."""

    in_place: list[Path] = field(default_factory=list)
    into: list[Path] = field(default_factory=list)


def survey(schema: Json) -> Survey:
    """Judge a schema. Raises SchemaRefused."""
    _check_size(schema)
    if isinstance(schema, bool):
        return Survey(recursive=False, explains=True)
    subschemas = dict(_subschemas(schema))
    if sum(len(_patterns(sub)) for sub in subschemas.values()) > MAX_PATTERNS:
        raise SchemaRefused("schema_limit", f"a schema has at most {MAX_PATTERNS} patterns")
    anchors: dict[Json, Path] = {
        sub["$anchor"]: path
        for path, sub in subschemas.items()
        if isinstance(sub, dict) and isinstance(sub.get("$anchor"), str)
    }
    places = _Places(anchors=anchors, pointers={tuple(map(str, path)): path for path in subschemas})
    nodes = {path: _node(sub, path=path, places=places) for path, sub in subschemas.items()}
    recursive = _judge_cycles(nodes)
    branching = any(
        isinstance(sub, dict) and not _BRANCHES.isdisjoint(sub) for sub in subschemas.values()
    )
    return Survey(recursive=recursive, explains=not (recursive and branching))


def _check_size(schema: Json) -> None:
    count = characters = 0
    level: list[Json] = [schema]
    for _ in range(MAX_DEPTH + 1):
        following: list[Json] = []
        for value in level:
            count += 1
            if isinstance(value, dict):
                characters += sum(map(len, value))
                following.extend(value.values())
            elif isinstance(value, list):
                following.extend(value)
            elif isinstance(value, str):
                characters += len(value)
        if count + len(following) > MAX_NODES:
            raise SchemaRefused("schema_limit", f"a schema has at most {MAX_NODES} values")
        if characters > MAX_TEXT_CHARACTERS:
            raise SchemaRefused(
                "schema_limit", f"a schema has at most {MAX_TEXT_CHARACTERS} characters"
            )
        if not following:
            return
        level = following
    raise SchemaRefused("schema_limit", f"a schema is nested at most {MAX_DEPTH} deep")


def _subschemas(schema: Json) -> Iterator[tuple[Path, Json]]:
    waiting: list[tuple[Path, Json]] = [((), schema)]
    while waiting:
        path, sub = waiting.pop()
        yield path, sub
        if isinstance(sub, dict):
            _check_keywords(sub, path=path)
            waiting.extend((place, part) for place, part, _ in _parts(sub, path=path))


def _parts(sub: dict[str, Json], *, path: Path) -> Iterator[tuple[Path, Json, _Way]]:
    """The direct subschemas, and the way each is applied (see _WAYS)."""
    for key, way in _WAYS.items():
        held = sub.get(key)
        if key in _SINGLE:
            if isinstance(held, dict | bool):
                yield (*path, key), held, way
        elif isinstance(held, list):
            for index, item in enumerate(held):
                yield (*path, key, index), item, way
        elif isinstance(held, dict):
            for name, item in held.items():
                yield (*path, key, name), item, way


def _check_keywords(sub: dict[str, Json], *, path: Path) -> None:
    for key in _UNSUPPORTED:
        if key in sub:
            raise SchemaRefused(
                "invalid_schema", "is not supported; use $ref", path=dotted((*path, key))
            )
    if path and "$id" in sub:
        raise SchemaRefused(
            "invalid_schema", "stands only at the root", path=dotted((*path, "$id"))
        )
    dialect = sub.get("$schema", DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise SchemaRefused(
            "invalid_schema", f"only {DIALECT} is read", path=dotted((*path, "$schema"))
        )
    for pattern in _patterns(sub):
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise SchemaRefused(
                "schema_limit",
                f"a pattern has at most {MAX_PATTERN_LENGTH} characters",
                path=dotted((*path, "pattern")),
            )


def _patterns(sub: Json) -> list[str]:
    if not isinstance(sub, dict):
        return []
    keyed = sub.get("patternProperties")
    patterns = list(keyed) if isinstance(keyed, dict) else []
    pattern = sub.get("pattern")
    return [*patterns, pattern] if isinstance(pattern, str) else patterns


def _node(sub: Json, *, path: Path, places: _Places) -> _Node:
    node = _Node()
    if not isinstance(sub, dict):
        return node
    for place, _, way in _parts(sub, path=path):
        if way is _Way.SAME:
            node.in_place.append(place)
        elif way is _Way.INTO:
            node.into.append(place)
    ref = sub.get("$ref")
    if isinstance(ref, str):
        node.in_place.append(_ref_target(ref, path=path, places=places))
    return node


def _ref_target(ref: str, *, path: Path, places: _Places) -> Path:
    here = dotted((*path, "$ref"))
    if not ref.startswith("#"):
        raise SchemaRefused(
            "remote_ref_forbidden", "a reference starts with #: nothing is fetched", path=here
        )
    fragment = unquote(ref[1:])
    if not fragment:
        return ()
    if not fragment.startswith("/"):
        if fragment in places.anchors:
            return places.anchors[fragment]
        raise SchemaRefused("bad_ref", f"there is no anchor {fragment[:100]}", path=here)
    keys = tuple(key.replace("~1", "/").replace("~0", "~") for key in fragment[1:].split("/"))
    if keys in places.pointers:
        return places.pointers[keys]
    raise SchemaRefused("bad_ref", f"there is no schema at {fragment[:100]}", path=here)


def _judge_cycles(nodes: dict[Path, _Node]) -> bool:
    """Whether the schema refers to itself. Raises when it does so for ever, or expands too far."""
    _refuse_endless(nodes)
    sizes: dict[Path, int] = {}
    recursive = False
    open_paths: set[Path] = set()
    for root in nodes:
        stack: list[tuple[Path, bool]] = [(root, False)]
        while stack:
            path, done = stack.pop()
            following = [*nodes[path].in_place, *nodes[path].into]
            if done:
                open_paths.discard(path)
                sizes[path] = 1 + sum(sizes.get(part, 0) for part in following)
                if sizes[path] > MAX_EXPANSION:
                    raise SchemaRefused(
                        "schema_limit",
                        f"with references spelled out, a schema has at most {MAX_EXPANSION} parts",
                        path=dotted(path),
                    )
            elif path in open_paths:
                recursive = True
            elif path not in sizes:
                open_paths.add(path)
                stack.append((path, True))
                stack.extend((part, False) for part in following)
    return recursive


def _refuse_endless(nodes: dict[Path, _Node]) -> None:
    """Refuse a schema that comes back to itself without going into a part of the value."""
    done: set[Path] = set()
    for root in nodes:
        on_the_way: set[Path] = set()
        stack: list[tuple[Path, bool]] = [(root, False)]
        while stack:
            path, left = stack.pop()
            if left:
                on_the_way.discard(path)
                done.add(path)
            elif path in on_the_way:
                raise SchemaRefused(
                    "schema_recursion",
                    "the schema applies itself to the same value for ever",
                    path=dotted(path),
                )
            elif path not in done:
                on_the_way.add(path)
                stack.append((path, True))
                stack.extend((part, False) for part in nodes[path].in_place)
