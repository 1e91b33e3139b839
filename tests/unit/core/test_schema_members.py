"""Schemas as rows that people read."""

from __future__ import annotations

from typing import Any

import pytest

from libs.core.schema_members import MAX_DEPTH, Member, members_of, type_of


def test_members_come_in_order_with_type_need_and_words() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "Prose.", "minLength": 1, "maxLength": 9},
            "count": {"type": "integer", "minimum": 1, "maximum": 20, "default": 3},
        },
        "required": ["text"],
    }

    assert members_of(schema) == (
        Member(path="text", type="string", required=True, words="Prose. (1 to 9 characters)"),
        Member(path="count", type="integer", required=False, words="(1 to 20; default 3)"),
    )


def test_deeper_members_are_named_by_their_way() -> None:
    schema: dict[str, Any] = {
        "properties": {
            "links": {"type": "array", "items": {"properties": {"url": {"type": "string"}}}},
            "tables": {"type": "object", "additionalProperties": {"type": "number"}},
            "free": {"type": "object", "additionalProperties": True},
        }
    }

    assert [member.path for member in members_of(schema)] == [
        "links",
        "links[]",
        "links[].url",
        "tables",
        "tables.*",
        "free",
    ]


def test_the_members_of_choices_stand_side_by_side() -> None:
    schema: dict[str, Any] = {
        "oneOf": [
            {"properties": {"rows": {"type": "array"}}, "required": ["rows"]},
            {"properties": {"csv": {"type": "string"}}, "required": ["csv"]},
        ]
    }

    found = [(member.path, member.required) for member in members_of(schema)]
    assert found == [("rows", False), ("csv", False)]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "x"}, '"x"'),
        (
            {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "string"}]},
            "string or number",
        ),
        ({}, "any"),
        (True, "any"),
        ({"enum": "broken"}, "any"),
    ],
)
def test_a_type_is_said_in_words(schema: Any, words: str) -> None:
    assert type_of(schema) == words


@pytest.mark.parametrize("schema", [{"properties": []}, {"items": True, "required": 1}, {}])
def test_schemas_without_members_have_no_rows(schema: Any) -> None:
    assert members_of(schema) == ()


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {}
    for _ in range(3 * MAX_DEPTH):
        schema = {"properties": {"a": schema}}

    assert len(members_of(schema)) == MAX_DEPTH


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"maxItems": 3}, "(at most 3 items)"),
        ({"minimum": 0}, "(at least 0)"),
        ({"format": "date", "default": None}, '(format "date"; default null)'),
        ({"minProperties": 1, "maxProperties": 2}, "(1 to 2 members)"),
    ],
)
def test_bounds_are_said_in_words(schema: Any, words: str) -> None:
    [member] = members_of({"properties": {"a": schema}})

    assert member.words == words
