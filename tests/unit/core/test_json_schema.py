from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from libs.core.json_schema import (
    MAX_MESSAGE_LENGTH,
    MAX_VIOLATIONS,
    SchemaRefused,
    compile_schema,
)
from libs.core.schema_bounds import MAX_DEPTH, MAX_NODES, MAX_PATTERN_LENGTH, MAX_PATTERNS

MATH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "expression": {"type": "string"},
        "variables": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["expression"],
    "additionalProperties": False,
}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "number"}, "children": {"items": {"$ref": "#"}}},
    "additionalProperties": False,
}
# Two branches lead to the same part: explaining a mismatch doubles with every level.
DOUBLING: dict[str, Any] = {
    "anyOf": [
        {"properties": {"a": {"$ref": "#"}}, "required": ["y"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["z"]},
    ]
}


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_violations_name_path_and_keyword() -> None:
    validator = compile_schema(MATH)

    found = validator.violations({"variables": {"a": "x"}, "extra": 1})

    assert {(v.path, v.keyword) for v in found} == {
        ("variables.a", "type"),
        ("expression", "required"),
        ("extra", "additionalProperties"),
    }
    assert validator.violations({"expression": "1+1"}) == []
    assert validator.accepts({"expression": "1+1"})


def test_an_object_without_any_key_says_so() -> None:
    [found] = compile_schema({"additionalProperties": False}).violations({"a": 1, "b": 2})

    assert (found.path, found.message) == ("", "no key is known here")
    validator = compile_schema({"additionalProperties": False})
    assert len(validator.violations({"a": 1}, unknown=[("a",)])) == 1


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        ({"enum": ["GET", 1, None]}, "x", 'it is none of "GET", 1, null'),
        (
            {"oneOf": [{"required": ["rows"]}, {"properties": {"csv": {"type": "string"}}}]},
            {"csv": 1},
            (
                'it fits none of the forms allowed here: "rows" is a required property; or csv: '
                'the value is not of type "string"'
            ),
        ),
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            1,
            (
                'it fits none of the forms allowed here: the value is not of type "string"; or the '
                'value is not of type "null"'
            ),
        ),
        (
            {"not": {"required": ["a", "b"]}},
            {"a": 1, "b": 2},
            "a and b may not stand here together",
        ),
    ],
)
def test_a_violation_says_what_is_allowed(schema: Any, value: Any, said: str) -> None:
    (violation,) = compile_schema(schema).violations(value)

    assert violation.message == said


def test_violations_echo_no_values_and_are_bounded() -> None:
    secret = "hunter2" * 1000
    validator = compile_schema({"items": {"enum": ["a" * 2000]}})

    found = validator.violations([secret] * 50)

    assert len(found) == MAX_VIOLATIONS
    assert all("hunter2" not in v.message and len(v.message) <= MAX_MESSAGE_LENGTH for v in found)


def test_unexpected_keys_are_one_violation_each_and_bounded() -> None:
    found = compile_schema(MATH).violations({"expression": "1", **{f"k{i}": 1 for i in range(99)}})

    assert len(found) == MAX_VIOLATIONS
    assert found[0].path == "k0"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2026-11-23T10:00:00Z", "nope"),
        ("email", "a@example.com", "nope"),
        ("uuid", "185d012b-a332-4924-b84c-8edd78d64975", "nope"),
        ("uri", "https://example.com/x", "no uri"),
    ],
)
def test_formats_are_checked(name: str, good: str, bad: str) -> None:
    validator = compile_schema({"type": "string", "format": name})

    assert validator.accepts(good)
    assert [v.keyword for v in validator.violations(bad)] == ["format"]


def test_compile_is_cached_by_canonical_form_and_immune_to_later_changes() -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["a"]}
    validator = compile_schema(schema)

    schema["required"].append("b")

    assert compile_schema({"required": ["a"], "type": "object"}) is validator
    assert compile_schema(schema) is not validator
    assert validator.accepts({"a": 1})


def wide_any_of(depth: int, width: int) -> dict[str, Any]:
    named: dict[str, Any] = {"d0": {"type": "string"}}
    for level in range(1, depth + 1):
        named[f"d{level}"] = {"anyOf": [{"$ref": f"#/$defs/d{level - 1}"}] * width}
    return {"$ref": f"#/$defs/d{depth}", "$defs": named}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


REFUSED: list[tuple[str, object]] = [
    ("remote_ref_forbidden", {"$ref": "http://127.0.0.1:1/x"}),
    ("remote_ref_forbidden", {"properties": {"a": {"$ref": "file:///etc/passwd"}}}),
    ("remote_ref_forbidden", {"$ref": "other.json#/x"}),
    ("remote_ref_forbidden", {"$ref": "https://json-schema.org/draft/2020-12/schema"}),
    ("remote_ref_forbidden", {"$ref": "//host/x"}),
    ("remote_ref_forbidden", {"$id": "http://h/a", "$ref": "b"}),
    ("schema_recursion", {"$ref": "#"}),
    ("schema_recursion", {"allOf": [{"anyOf": [{"$ref": "#"}]}]}),
    ("schema_recursion", {"not": {"$ref": "#"}}),
    (
        "schema_recursion",
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    ),
    ("schema_recursion", {"dependentSchemas": {"a": {"$ref": "#"}}}),
    ("bad_ref", {"$ref": "#/$defs/%2e%2e"}),
    ("bad_ref", {"$ref": "#/$defs/a", "$defs": {}}),
    ("bad_ref", {"$ref": "#nowhere"}),
    ("bad_ref", {"$ref": "#/enum/0", "enum": [{"type": "string"}]}),
    ("schema_limit", {"type": "string", "pattern": "a?" * 5000}),
    ("schema_limit", {"patternProperties": {"a" * (MAX_PATTERN_LENGTH + 1): True}}),
    ("schema_limit", {"anyOf": [{"pattern": f"a{i}"} for i in range(MAX_PATTERNS + 1)]}),
    ("schema_limit", {"patternProperties": {f"a{i}": True for i in range(MAX_PATTERNS + 1)}}),
    ("schema_limit", {"enum": list(range(MAX_NODES))}),
    ("schema_limit", {"$comment": "c" * 2_000_000}),
    ("schema_limit", wide_any_of(12, 4)),
    ("schema_limit", wide_any_of(20, 2)),
    ("schema_limit", deep(200)),
    ("schema_limit", deep(MAX_DEPTH)),
    ("invalid_schema", {"required": "a"}),
    ("invalid_schema", {"type": "text"}),
    ("invalid_schema", {"multipleOf": 0}),
    ("invalid_schema", {"pattern": "("}),
    ("invalid_schema", {"pattern": r"^(a+)+\1$"}),
    ("invalid_schema", {"pattern": "(?=a)b"}),
    ("invalid_schema", {"pattern": "((a{1,100}){1,100}){1,100}"}),
    ("invalid_schema", {"items": [{"type": "string"}]}),
    ("invalid_schema", {"properties": 5}),
    ("invalid_schema", {"$schema": "http://json-schema.org/draft-07/schema#"}),
    ("invalid_schema", {"$schema": "http://nowhere/x"}),
    ("invalid_schema", {"$dynamicRef": "#x"}),
    ("invalid_schema", {"properties": {"a": {"$id": "http://h/x"}}}),
    ("invalid_schema", {"minimum": float("nan")}),
    ("invalid_schema", {"a": object()}),
    ("invalid_schema", "string"),
    ("invalid_schema", None),
    ("invalid_schema", 5),
]


@pytest.mark.parametrize(("code", "schema"), REFUSED)
def test_unsound_schemas_are_refused_quickly(code: str, schema: object) -> None:
    started = time.perf_counter()

    with pytest.raises(SchemaRefused) as caught:
        compile_schema(schema)

    assert caught.value.code == code
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        MATH,
        TREE,
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
        {"$id": "https://example.com/a.json", "$ref": "#/$defs/a", "$defs": {"a": True}},
        {"$ref": "#/definitions/a~1b%20c", "definitions": {"a/b c": {"type": "string"}}},
        {"$ref": "#name", "$defs": {"a": {"$anchor": "name", "type": "string"}}},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}},
        {"prefixItems": [{"type": "string"}], "items": {"$ref": "#/prefixItems/0"}},
        {"x-note": "a keyword of one's own is an annotation", "format": "own"},
        {"pattern": "^(a+)+$"},
    ],
)
def test_ordinary_schemas_compile(schema: object) -> None:
    compile_schema(schema)


def test_a_refused_schema_says_where() -> None:
    with pytest.raises(SchemaRefused) as caught:
        compile_schema({"properties": {"a": {"items": {"$ref": "http://h/x"}}}})

    assert caught.value.path == "properties.a.items.$ref"


def test_patterns_take_linear_time() -> None:
    validator = compile_schema({"type": "string", "pattern": "^(a+)+$"})
    started = time.perf_counter()

    assert not validator.accepts("a" * 100_000 + "b")

    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    "schema",
    [
        DOUBLING,
        {"oneOf": DOUBLING["anyOf"]},
        {"properties": {"a": {"$ref": "#"}}, "patternProperties": {"^a": {"$ref": "#"}}, "not": {}},
        {
            "allOf": [
                {"properties": {"a": {"$ref": "#"}}, "minProperties": 1},
                {"properties": {"a": {"$ref": "#"}}},
            ]
        },
    ],
)
def test_branching_recursion_is_judged_in_bounded_time(schema: object) -> None:
    validator = compile_schema(schema)
    started = time.perf_counter()

    found = validator.violations(nested(64))

    assert [v.path for v in found] == [""]
    assert time.perf_counter() - started < 0.5


def test_plain_recursion_is_explained() -> None:
    value = {"value": 1, "children": [{"value": 2, "children": [{"value": "x"}]}]}

    found = compile_schema(TREE).violations(value)

    assert [v.path for v in found] == ["children[0].children[0].value"]


def test_a_value_of_endless_depth_is_refused_by_a_recursive_schema() -> None:
    value: dict[str, Any] = {"value": 1}
    for _ in range(5000):
        value = {"children": [value]}

    found = compile_schema(TREE).violations(value)

    assert [v.path for v in found] == [""]


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {"a": {1, 2}}, "\ud800", {"\ud800": 1}, b"x"],
    ids=["object", "number as key", "set", "surrogate", "surrogate as key", "bytes"],
)
def test_what_is_no_json_is_not_valid(value: object) -> None:
    assert len(compile_schema({"type": "null"}).violations(value)) == 1


def test_a_value_of_endless_depth_is_not_valid_where_it_does_not_fit() -> None:
    value: object = 1
    for _ in range(20_000):
        value = [value]

    assert len(compile_schema({"type": "string"}).violations(value)) == 1


def test_paths_are_bounded() -> None:
    [found] = compile_schema(MATH).violations({"expression": "1", "k" * 10_000: 1})

    assert len(found.path) == MAX_MESSAGE_LENGTH
    assert found.location == ("k" * 10_000,)


def test_violations_that_an_unknown_part_may_cause_are_told_apart() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"properties": {"a": {"const": "x"}}}, {"properties": {"a": {"const": "y"}}}],
        "if": {"properties": {"a": {"const": "x"}}},
        "then": {"required": ["c"]},
        "else": {"required": ["d"]},
    }
    value = {"a": {"$ref": "input.a"}, "b": 1}

    certain = compile_schema(schema).violations(value, unknown=[("a",)])

    assert [v.path for v in certain] == ["b"]


def test_an_unexpected_key_is_certain_whatever_it_holds() -> None:
    validator = compile_schema(MATH)
    value = {"expression": "1", "x": {"$ref": "input.a"}}

    assert [v.path for v in validator.violations(value, unknown=[("x",)])] == ["x"]
    assert validator.violations(value, unknown=[()]) == []


def test_unknown_parts_do_not_use_up_the_room_for_what_is_certain() -> None:
    variables: dict[str, object] = {f"v{i}": {"$ref": "input.a"} for i in range(100)}
    value = {"expression": "1", "variables": variables | {"w": "x"}}

    found = compile_schema(MATH).violations(value, unknown=[("variables", v) for v in variables])

    assert [v.path for v in found] == ["variables.w"]


def test_a_schema_that_is_not_explained_is_open_to_unknown_parts() -> None:
    assert compile_schema(DOUBLING).violations({"a": {}}, unknown=[("a",)]) == []


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", hits
    server.shutdown()
    server.server_close()
    thread.join()


def test_nothing_is_fetched(canary: tuple[str, list[str]]) -> None:
    url, hits = canary
    for schema in (
        {"$ref": f"{url}/x"},
        {"$schema": f"{url}/x"},
        {"$id": f"{url}/x", "$ref": "y"},
        {"$dynamicRef": f"{url}/x"},
        {"$vocabulary": {f"{url}/x": True}},
    ):
        with pytest.raises(SchemaRefused):
            compile_schema(schema)

    assert hits == []
