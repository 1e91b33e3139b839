"""Whether a path can exist in a value that a JSON Schema allows."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from libs.core.canonical import Json
from libs.core.references import is_index

# A sound schema may name itself; beyond this many looks a path counts as possible.
_MAX_LOOKS = 2_000


def is_possible(path: tuple[str, ...], *, schema: Json) -> bool:
    """Whether some value allowed by `schema` (one that compiles) has something at `path`.

    False only when the schema rules it out: a closed object without the key, a type without parts,
    an array too short. Whatever is not plain, such as `not`, counts as possible.
    """
    return _Look(schema).possible(schema, path)


class _Look:
    def __init__(self, root: Json) -> None:
        self._root = root
        self._looks = 0

    def possible(self, schema: Json, path: tuple[str, ...]) -> bool:
        self._looks += 1
        if schema is False:
            return False
        if not isinstance(schema, dict) or self._looks > _MAX_LOOKS:
            return True
        every = [*_listed(schema, "allOf"), *self._referenced(schema)]
        if not all(self.possible(part, path) for part in every):
            return False
        for key in ("anyOf", "oneOf"):
            branches = _listed(schema, key)
            if branches and not any(self.possible(branch, path) for branch in branches):
                return False
        if not path:
            return True
        return self._in_object(schema, path) or self._in_array(schema, path)

    def _in_object(self, schema: dict[str, Json], path: tuple[str, ...]) -> bool:
        if not _allows_type(schema, "object"):
            return False
        key, rest = path[0], path[1:]
        applied = _applied(schema, key)
        if not applied and "additionalProperties" in schema:
            applied = [schema["additionalProperties"]]
        if not applied and schema.get("unevaluatedProperties") is False:
            return not _is_plain(schema)
        return all(self.possible(part, rest) for part in applied)

    def _in_array(self, schema: dict[str, Json], path: tuple[str, ...]) -> bool:
        key, rest = path[0], path[1:]
        if not is_index(key) or not _allows_type(schema, "array"):
            return False
        index, most = int(key), schema.get("maxItems")
        if isinstance(most, int | float) and index >= most:
            return False
        first = _listed(schema, "prefixItems")
        item = first[index] if index < len(first) else schema.get("items", True)
        return self.possible(item, rest)

    def _referenced(self, schema: dict[str, Json]) -> Iterable[Json]:
        ref = schema.get("$ref")
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            return
        target = self._root
        for key in unquote(ref[2:]).split("/") if ref != "#" else ():
            name = key.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                target = target[int(name)]
            elif isinstance(target, dict):
                target = target[name]
        yield target


def _applied(schema: dict[str, Json], key: str) -> list[Json]:
    """The schemas that `properties` and `patternProperties` may apply to the key."""
    applied: list[Json] = []
    named = schema.get("properties")
    if isinstance(named, dict) and key in named:
        applied.append(named[key])
    # Patterns are not tried here: a key may match any of them.
    if schema.get("patternProperties"):
        applied.append(True)
    return applied


def _allows_type(schema: dict[str, Json], name: str) -> bool:
    kind = schema.get("type")
    return kind is None or kind == name or (isinstance(kind, list) and name in kind)


def _is_plain(schema: dict[str, Json]) -> bool:
    """Whether nothing but `properties` of the schema itself can make a key known to it."""
    others = ("$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")
    return all(key not in schema for key in others)


def _listed(schema: dict[str, Json], key: str) -> list[Json]:
    held = schema.get(key)
    return held if isinstance(held, list) else []
