from __future__ import annotations

from typing import Any

import pytest

from services.planner.generators.offline import INPUTS, WITHOUT_MODEL, propose
from services.planner.model import Proposal, Unplannable


def planned(task_input: dict[str, Any], *, max_steps: int | None = 12) -> Proposal:
    proposal = propose(task_input, max_steps=max_steps)
    assert isinstance(proposal, Proposal)
    return proposal


def tools(proposal: Proposal) -> list[str]:
    return [step.tool for step in proposal.steps]


@pytest.mark.parametrize(
    ("task_input", "expected"),
    [
        ({"expression": "1+1"}, ["math"]),
        ({"expression": "a", "variables": {"a": 1.5}}, ["math"]),
        ({"text": "Words."}, ["text_summarize"]),
        ({"text": "Words.", "topic": "w"}, ["text_summarize"]),
        ({"html": "<p>Words."}, ["text_extract", "text_summarize"]),
        ({"html": "<p>Words.", "topic": "w"}, ["text_extract", "text_summarize"]),
        ({"data": None, "query": "@"}, ["json_query"]),
        ({"topic": "Summarize weekly release notes"}, ["text_summarize", "json_query"]),
        ({"expression": "1", "text": "x", "topic": "y"}, ["math"]),
    ],
)
def test_inputs_are_recognised_by_their_keys(
    task_input: dict[str, Any], expected: list[str]
) -> None:
    proposal = planned(task_input)

    assert tools(proposal) == expected
    assert [step.step_index for step in proposal.steps] == list(range(1, len(expected) + 1))
    assert proposal.note.startswith(WITHOUT_MODEL)


def test_steps_refer_to_the_input_and_copy_nothing() -> None:
    task_input = {"expression": "secret+1", "variables": {"$ref": 1, "secret": 2}}

    assert planned(task_input).steps[0].input == {
        "expression": {"$ref": "input.expression"},
        "variables": {"$ref": "input.variables"},
    }


def test_the_note_says_what_was_not_used() -> None:
    note = planned({"text": "x", "audience": "all", "style": "dry"}).note

    assert note == f"{WITHOUT_MODEL}; not used of the input: audience, style"


def test_a_plan_is_as_short_as_asked_where_that_makes_sense() -> None:
    assert tools(planned({"topic": "x"}, max_steps=1)) == ["text_summarize"]
    assert tools(planned({"html": "x"}, max_steps=1)) == ["text_extract"]
    assert tools(planned({"topic": "x"}, max_steps=None)) == ["text_summarize", "json_query"]


@pytest.mark.parametrize(
    "task_input",
    [{}, {"a": [[1]]}, {"Topic": "x"}, {"question": "why?"}, {"variables": {"a": 1}}],
)
def test_what_nobody_recognises_is_answered_with_what_to_supply(task_input: dict[str, Any]) -> None:
    answer = propose(task_input, max_steps=12)

    assert isinstance(answer, Unplannable)
    assert INPUTS in answer.message
    assert "no model is configured" in answer.message


@pytest.mark.parametrize(
    ("task_input", "said"),
    [
        ({"expression": 5}, "expression is a number; a string is allowed"),
        ({"expression": None}, "expression is null; a string is allowed"),
        ({"expression": "a", "variables": [1]}, "variables is an array; an object of numbers"),
        ({"expression": "a", "variables": {"a": "1"}}, "variables.a is a string; a number"),
        ({"expression": "a", "variables": {"a": True}}, "variables.a is a boolean; a number"),
        ({"text": ["x"]}, "text is an array; a string is allowed"),
        ({"text": "x", "topic": 1}, "topic is a number; a string is allowed"),
        ({"html": {}}, "html is an object; a string is allowed"),
        ({"topic": " \n"}, "topic is empty"),
        ({"topic": False}, "topic is a boolean; a string is allowed"),
        ({"data": [], "query": 1}, "query is a number; a string is allowed"),
        ({"data": []}, "data is there, query is missing"),
        ({"query": "@"}, "query is there, data is missing"),
    ],
)
def test_recognised_keys_of_a_wrong_type_are_named(task_input: dict[str, Any], said: str) -> None:
    answer = propose(task_input, max_steps=12)

    assert isinstance(answer, Unplannable)
    assert said in answer.message
