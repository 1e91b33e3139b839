"""`pawl tools`: the catalogue as a table, one tool with schemas and examples."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

_PAGE = "GET /v1/tools?limit=200"


def make_tool(name: str, version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    tool = {
        "name": name,
        "version": version,
        "description": f"Does {name}.",
        "effects": ["pure"],
        "input_schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "description": "How many.", "minimum": 1}},
            "required": ["n"],
        },
        "output_schema": {"type": "object"},
        "examples": [
            {"title": "Goes well", "input": {"n": 1}, "output": {"text": "x" * 300}},
            {"title": "Goes wrong", "input": {"n": 2}, "failure_code": "TOOL_ERROR"},
        ],
        "digest": "d" * 64,
        "available": True,
        "registered_at": "2026-02-27T11:00:00.000000+00:00",
    }
    return tool | changes


def answer(fake: FakeServer, *tools: dict[str, Any]) -> None:
    fake.json(_PAGE, {"data": list(tools), "next_cursor": None})


def test_tools_are_listed(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_tool("math"), make_tool("gone", available=False, effects=["network"]))

    done = pawl("tools")

    math, gone = (line for line in done.out.splitlines() if "1.0.0" in line)
    assert [cell.strip() for cell in math.split("│")[1:-1]] == [
        "math",
        "1.0.0",
        "pure",
        "yes",
        "Does math.",
    ]
    assert "network" in gone
    assert " no " in gone


def test_tools_with_json_are_the_catalogue_of_all_pages(pawl: Pawl, fake: FakeServer) -> None:
    first, second = make_tool("a"), make_tool("b")
    fake.json(_PAGE, {"data": [first], "next_cursor": "c"})
    fake.json(f"{_PAGE}&cursor=c", {"data": [second], "next_cursor": None})

    assert json.loads(pawl("tools", "--json").out) == [first, second]


def test_a_tool_is_shown_with_schemas_and_whole_examples(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_tool("math", description="Counts\x1b[31m."))

    done = pawl("tools", "math")

    for words in ("How many. (at least 1)", "required", "Goes well", "TOOL_ERROR", '"type"'):
        assert words in done.out
    assert done.out.count("x") >= 300
    assert "\x1b" not in done.out


def test_the_newest_version_on_offer_is_shown(pawl: Pawl, fake: FakeServer) -> None:
    gone, offered = make_tool("math", "2.0.0", available=False), make_tool("math", "1.5.0")
    answer(fake, gone, offered, make_tool("math", "1.0.0"))

    done = pawl("tools", "math")

    assert json.loads(pawl("tools", "math", "--json").out) == offered
    assert "2.0.0, 1.0.0" in done.out


def test_a_tool_that_nobody_offers_is_shown_as_such(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_tool("math", available=False))

    assert "no living executor" in pawl("tools", "math").out


def test_an_unknown_tool_exits_2_and_says_what_there_is(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_tool("math"), make_tool("wait"))

    done = pawl("tools", "maths")

    assert (done.code, done.out) == (2, "")
    assert "there is no tool named 'maths'; known are: math, wait" in done.err
