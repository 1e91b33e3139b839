"""The workflows of examples/n8n are whole, hold no secret, and are what docs/automation.md says.

That a real n8n runs them: tests/automation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[3]
_PAGE = (_ROOT / "docs" / "automation.md").read_text(encoding="utf-8")
_FILES = sorted((_ROOT / "examples" / "n8n").glob("*.json"))
_CREDENTIAL = {"httpHeaderAuth": {"id": "pawlHeaderAuth01", "name": "Pawl"}}

Workflow = dict[str, Any]


@pytest.fixture(params=_FILES, ids=lambda file: file.stem)
def workflow(request: pytest.FixtureRequest) -> Workflow:
    read: Workflow = json.loads(request.param.read_text(encoding="utf-8"))
    return read


def strings(value: object) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def requests_of(workflow: Workflow) -> list[Workflow]:
    return [node for node in workflow["nodes"] if node["type"].endswith(".httpRequest")]


def test_there_is_a_workflow_for_each_that_the_page_names() -> None:
    assert _FILES
    assert all(f"](../examples/n8n/{file.name})" in _PAGE for file in _FILES)


def test_every_wire_leads_to_a_node(workflow: Workflow) -> None:
    names = {node["name"] for node in workflow["nodes"]}
    outputs = [out for wires in workflow["connections"].values() for out in wires["main"]]
    ends = {wire["node"] for output in outputs for wire in output}

    assert set(workflow["connections"]) | ends == names


def test_address_and_key_are_not_in_the_file(workflow: Workflow) -> None:
    assert not [text for text in strings(workflow) if "://" in text or "Bearer" in text]
    assert [node["credentials"] for node in requests_of(workflow)] == [_CREDENTIAL] * 3
    assert "pawlHeaderAuth01" in _PAGE


def test_the_key_of_a_post_is_made_of_the_execution(workflow: Workflow) -> None:
    made = "n8n-{{ $workflow.id }}-{{ $execution.id }}"

    assert any(made in text for text in strings(workflow))
    assert f"`{made}`" in _PAGE


def test_a_node_that_tries_again_has_its_answer_under_body(workflow: Workflow) -> None:
    plain = [
        node["name"]
        for node in requests_of(workflow)
        if node.get("retryOnFail") and "response" not in node["parameters"]["options"]
    ]

    # A trace has no member `error` that n8n could take for a failure.
    assert set(plain) <= {"Trace"}
