"""Digests that tie a plan to exact tools."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import permutations

import pytest

from libs.core.tool_spec import (
    Effect,
    ToolExample,
    ToolRef,
    ToolSpec,
    tool_set_digest,
    tool_set_json,
)

_SPEC = ToolSpec(
    name="math",
    version="1",
    description="Evaluates an expression.",
    input_schema={"type": "object", "properties": {"expression": {"type": "string"}}},
    output_schema={"type": "object"},
    effects=(Effect.PURE,),
)
_A = ToolRef("json_query", "1", "aa")
_B = ToolRef("math", "1", "bb")
_C = ToolRef("math", "2", "cc")


def test_digest_hashes_the_promise_in_canonical_form() -> None:
    promise = (
        b'{"effects":["pure"],"input_schema":{"properties":{"expression":{"type":"string"}},'
        b'"type":"object"},"name":"math","output_schema":{"type":"object"},"version":"1"}'
    )

    assert _SPEC.digest() == hashlib.sha256(b"pawl:tool:v1\n" + promise).hexdigest()


def test_digest_forgets_words_examples_key_order_and_order_of_effects() -> None:
    shown = (ToolExample(title="A sum", input={"expression": "1+1"}),)
    reworded = replace(_SPEC, description="Other words.", examples=shown)
    reordered = replace(
        _SPEC, input_schema={"properties": {"expression": {"type": "string"}}, "type": "object"}
    )
    two = (Effect.SANDBOX, Effect.NETWORK)

    assert reworded.digest() == reordered.digest() == _SPEC.digest()
    assert replace(_SPEC, effects=two).digest() == replace(_SPEC, effects=two[::-1]).digest()


@pytest.mark.parametrize(
    "other",
    [
        replace(_SPEC, name="maths"),
        replace(_SPEC, version="2"),
        replace(_SPEC, input_schema={}),
        replace(_SPEC, output_schema={}),
        replace(_SPEC, effects=(Effect.NETWORK,)),
    ],
)
def test_digest_changes_with_each_part_of_the_promise(other: ToolSpec) -> None:
    assert other.digest() != _SPEC.digest()


def test_tool_set_forgets_order_and_repetition() -> None:
    sets = [tool_set_json(order) for order in permutations((_A, _B, _C, _B))]

    assert sets[0] == [["json_query", "1", "aa"], ["math", "1", "bb"], ["math", "2", "cc"]]
    assert all(one == sets[0] for one in sets)


def test_tool_set_digest_hashes_the_sorted_list() -> None:
    expected = hashlib.sha256(b'pawl:toolset:v1\n[["json_query","1","aa"],["math","1","bb"]]')

    assert tool_set_digest([_B, _A]) == expected.hexdigest()
    assert tool_set_digest([_B]) != tool_set_digest([_A])


def test_labels_name_tool_and_version() -> None:
    assert _SPEC.label == _B.label == "math@1"
    assert _B.offer == "math@1#bb"
