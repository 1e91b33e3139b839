from __future__ import annotations

import pytest

from libs.core.errors import FailureCode, StepFailed
from libs.core.references import (
    MAX_PATH_KEYS,
    MAX_REF_LENGTH,
    BadReference,
    Ref,
    RefSite,
    dotted,
    find_refs,
    is_index,
    kind_of,
    parse_ref,
    resolve,
    without_literals,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input", Ref(None, ())),
        ("input.topic", Ref(None, ("topic",))),
        ("input.items.0.order-id", Ref(None, ("items", "0", "order-id"))),
        ("input.größe", Ref(None, ("größe",))),
        ("steps.1.output", Ref(1, ())),
        ("steps.12.output.result", Ref(12, ("result",))),
        ("steps.1.output.steps.1.output", Ref(1, ("steps", "1", "output"))),
    ],
)
def test_parse_ref_reads_paths(text: str, expected: Ref) -> None:
    ref = parse_ref(text)

    assert ref == expected
    assert ref.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inputs.x",
        "env.DATABASE_URL",
        "steps.0.output",
        "steps.01.output",
        "steps.-1.output",
        "steps.١.output",
        "steps.1",
        "steps.1.input.x",
        "steps.1.outputs",
        "steps.one.output",
        "steps[1].output",
        'steps[1].output|attr("x")',
        "steps.1.output|upper",
        "steps.1.output.result*9**9",
        "steps.1.output.result + 1",
        "steps.1.output.a[0]",
        "steps.1.output..a",
        "steps.1.output.",
        ".input",
        "input.a b",
        "input.a\n",
        "input.a\x00",
        "input.'a'",
        "input.$where",
        "${input.topic}",
        "{{input.topic}}",
        " input.topic",
        "Input.topic",
        "steps.1234567.output",
        "input." + "a" * MAX_REF_LENGTH,
        "input" + ".a" * (MAX_PATH_KEYS + 1),
        None,
        5,
        True,
        ["input"],
        {"$ref": "input"},
    ],
)
def test_parse_ref_refuses_everything_else(text: object) -> None:
    with pytest.raises(BadReference):
        parse_ref(text)


def test_find_refs_names_places_and_malformed_ones_and_skips_literals() -> None:
    # Beside another key, $literal is data like any other key.
    value = {
        "a": [{"$ref": "input.x"}, 1],
        "b": {"$ref": 5, "other": {"$ref": "inside a malformed one"}},
        "c": {"$literal": {"$ref": "input.y"}},
        "d": {"$literal": {"$ref": "input.y"}, "e": {"$ref": "steps.1.output"}},
    }

    assert find_refs(value) == [
        RefSite(("a", 0), "input.x", alone=True),
        RefSite(("b",), 5, alone=False),
        RefSite(("d", "$literal"), "input.y", alone=True),
        RefSite(("d", "e"), "steps.1.output", alone=True),
    ]
    assert find_refs({"$ref": "input"}) == [RefSite((), "input", alone=True)]


def test_resolve_replaces_references_and_unwraps_literals_once() -> None:
    task_input = {"topic": "t", "list": [10, {"k": "v"}], "data": {"$ref": "input.topic"}}
    outputs = {1: {"result": 2}}
    value = {
        "a": {"$ref": "steps.1.output.result"},
        "b": [{"$ref": "input.list.1.k"}, {"$ref": "input.list.0"}],
        "c": {"$literal": {"$ref": "input.topic", "n": {"$literal": 1}}},
        "d": {"$ref": "input.data"},
        "e": "input.topic",
    }

    resolved = resolve(value, task_input=task_input, outputs=outputs)

    assert resolved == {
        "a": 2,
        "b": ["v", 10],
        "c": {"$ref": "input.topic", "n": {"$literal": 1}},
        "d": {"$ref": "input.topic"},
        "e": "input.topic",
    }


def test_without_literals_leaves_references_alone() -> None:
    value = {"a": {"$literal": {"$ref": 1}}, "b": [{"$ref": "input", "$literal": 2}]}

    assert without_literals(value) == {"a": {"$ref": 1}, "b": [{"$ref": "input", "$literal": 2}]}


def test_resolve_takes_a_whole_input_from_a_reference() -> None:
    assert resolve({"$ref": "steps.1.output"}, task_input={}, outputs={1: {"r": 1}}) == {"r": 1}


@pytest.mark.parametrize(
    ("holder", "reason"),
    [
        ({"$ref": "input.absent"}, "REF_MISSING"),
        ({"$ref": "input.list.2"}, "REF_MISSING"),
        ({"$ref": "input.list.99999999999"}, "REF_TYPE"),
        ({"$ref": "input.list.01"}, "REF_TYPE"),
        ({"$ref": "input.list.length"}, "REF_TYPE"),
        ({"$ref": "input.text.0"}, "REF_TYPE"),
        ({"$ref": "input.text.upper"}, "REF_TYPE"),
        ({"$ref": "input.none.x"}, "REF_TYPE"),
        ({"$ref": "input.__class__"}, "REF_MISSING"),
        ({"$ref": "steps.2.output"}, "REF_MISSING"),
        ({"$ref": "steps.0.output"}, "REF_TYPE"),
        ({"$ref": "input.text", "x": 1}, "REF_TYPE"),
        ({"$ref": 7}, "REF_TYPE"),
    ],
)
def test_resolve_fails_with_input_schema(holder: object, reason: str) -> None:
    task_input = {"list": [1, 2], "text": "abc", "none": None}

    with pytest.raises(StepFailed) as caught:
        resolve({"x": [holder]}, task_input=task_input, outputs={1: {}})

    assert caught.value.code is FailureCode.INPUT_SCHEMA
    assert caught.value.reason == reason


def test_words_for_places_and_types() -> None:
    assert dotted(("variables", "a", 0, "b")) == "variables.a[0].b"
    assert dotted((0,), under="plan.steps") == "plan.steps[0]"
    assert dotted((), under="plan") == "plan"
    values: list[object] = [None, True, 1, 1.5, "x", [], {}]
    assert [kind_of(value) for value in values] == [
        "null",
        "a boolean",
        "a number",
        "a number",
        "a string",
        "an array",
        "an object",
    ]
    assert is_index("0")
    assert not is_index("00")
