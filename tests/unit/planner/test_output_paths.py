from __future__ import annotations

from typing import Any

import pytest

from libs.core.json_schema import compile_schema
from services.planner.output_paths import is_possible

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "result": {"type": "number"},
        "open": {"type": "object"},
        "list": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
        "pair": {"type": "array", "prefixItems": [{}], "items": False},
        "maybe": {"type": ["object", "null"], "properties": {"a": True}},
        "never": False,
    },
    "additionalProperties": False,
}
CASES: list[tuple[object, str, bool]] = [
    (CLOSED, "", True),
    (CLOSED, "result", True),
    (CLOSED, "absent", False),
    (CLOSED, "result.x", False),
    (CLOSED, "open.any.thing.0", True),
    (CLOSED, "list.2", True),
    (CLOSED, "list.3", False),
    (CLOSED, "list.first", False),
    (CLOSED, "list.0.x", False),
    (CLOSED, "pair.0", True),
    (CLOSED, "pair.1", False),
    (CLOSED, "maybe.a.b", True),
    (CLOSED, "maybe.b", True),
    (CLOSED, "never", False),
    (CLOSED, "0", False),
    (True, "a.b", True),
    ({}, "a.0.b", True),
    (False, "", False),
    ({"type": "string"}, "0", False),
    ({"type": "array"}, "0.a", True),
    ({"type": "array"}, "a", False),
    ({"type": "object"}, "0", True),
    ({"additionalProperties": {"type": "number"}}, "a", True),
    ({"additionalProperties": {"type": "number"}, "type": "object"}, "a.b", False),
    ({"patternProperties": {"^a": {}}, "additionalProperties": False}, "b", True),
    ({"properties": {"a": True}, "unevaluatedProperties": False, "type": "object"}, "b", False),
    (
        {
            "allOf": [{"properties": {"b": True}}],
            "unevaluatedProperties": False,
            "type": "object",
        },
        "b",
        True,
    ),
    ({"allOf": [CLOSED, {"type": "object"}]}, "absent", False),
    ({"anyOf": [CLOSED, {"type": "string"}]}, "absent", False),
    ({"anyOf": [CLOSED, {"type": "object"}]}, "absent", True),
    ({"oneOf": [CLOSED, {"type": "object"}]}, "absent", True),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": CLOSED}}, "absent", False),
    ({"$ref": "#/$defs/a", "$defs": {"a": CLOSED}}, "result", True),
    ({"$ref": "#here", "$defs": {"a": CLOSED | {"$anchor": "here"}}}, "absent", True),
    ({"not": {"required": ["a"]}}, "a", True),
]


@pytest.mark.parametrize(("schema", "path", "expected"), CASES)
def test_whether_a_path_can_exist(schema: object, path: str, expected: bool) -> None:
    compile_schema(schema)

    keys = tuple(path.split(".")) if path else ()

    assert is_possible(keys, schema=schema) is expected


def test_a_schema_that_names_itself_is_followed_along_the_path() -> None:
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "value": {"type": "number"}},
        "additionalProperties": False,
    }

    assert is_possible(("left",) * 60 + ("value",), schema=tree)
    assert not is_possible(("left",) * 60 + ("right",), schema=tree)


def test_a_schema_that_branches_without_end_is_given_up_as_possible() -> None:
    branching = {"anyOf": [{"properties": {"a": {"$ref": "#"}}, "type": "object"}] * 2}
    ends = {"anyOf": [branching["anyOf"][0], branching["anyOf"][1]], "maxProperties": 1}

    assert is_possible(("a",) * 60, schema=ends)
