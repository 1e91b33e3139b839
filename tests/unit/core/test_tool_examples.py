"""What examples of a tool may be like."""

from __future__ import annotations

from typing import Any

import pytest

from libs.core.json_schema import compile_schema
from libs.core.tool_examples import (
    MAX_EXAMPLES,
    example_from_json,
    example_json,
    example_problems,
)
from libs.core.tool_spec import ToolExample

_INPUT = compile_schema(
    {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
)
_OUTPUT = compile_schema({"type": "object", "properties": {"m": {"type": "number"}}})


def make_example(**changes: Any) -> ToolExample:
    fields: dict[str, Any] = {"title": "Twice", "input": {"n": 1}, "output": {"m": 2}}
    return ToolExample(**(fields | changes))


def problems(*examples: ToolExample) -> list[tuple[int | None, str]]:
    return list(example_problems(examples, input_schema=_INPUT, output_schema=_OUTPUT))


@pytest.mark.parametrize(
    "example",
    [
        make_example(),
        make_example(output=None),
        make_example(output=None, failure_code="TOOL_ERROR"),
        make_example(output=None, failure_code="INPUT_SCHEMA", input={}),
    ],
)
def test_good_examples_have_no_problem(example: ToolExample) -> None:
    assert problems(example) == []


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (make_example(title=""), "title"),
        (make_example(title="x" * 201), "title"),
        (make_example(title="a\x1b[2J"), "title"),
        (make_example(input={}), "input schema at n: this key is required"),
        (make_example(input={"n": "one"}), "input schema at n"),
        (make_example(output={"m": "two"}), "output schema at m"),
        (make_example(failure_code="TOOL_ERROR"), "an output and a failure"),
        (make_example(output=None, failure_code="OOPS"), "'OOPS' is no failure code"),
        (make_example(output=None, failure_code="INPUT_SCHEMA"), "fits the input schema"),
        (make_example(input={"n": float("nan")}), "not JSON"),
        (make_example(input={"n": object()}), "not JSON"),
    ],
)
def test_bad_examples_are_named_by_place_and_fault(example: ToolExample, said: str) -> None:
    found = problems(make_example(), example)

    assert [place for place, _ in found] == [1]
    assert said in found[0][1]


def test_examples_are_bounded_in_number_and_size() -> None:
    many = problems(*[make_example()] * (MAX_EXAMPLES + 1))
    large = problems(make_example(input={"n": 1, "text": "x" * 9000}), make_example(), *_wide(9000))

    assert many == [(None, "11 examples; 10 are allowed")]
    assert [place for place, _ in large] == [None]
    assert "16384 are allowed" in large[0][1]


def test_an_example_comes_back_from_json_as_it_was() -> None:
    examples = [
        make_example(),
        make_example(output=None),
        make_example(output=None, failure_code="TOOL_ERROR"),
    ]

    assert [example_from_json(example_json(example)) for example in examples] == examples
    assert set(example_json(examples[1])) == {"title", "input"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"title": "a"},
        {"title": 1, "input": {}},
        {"title": "a", "input": []},
        {"title": "a", "input": {}, "failure_code": 1},
    ],
)
def test_what_is_no_example_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="example"):
        example_from_json(value)


def _wide(characters: int) -> list[ToolExample]:
    return [make_example(input={"n": 1, "text": "y" * characters})]
