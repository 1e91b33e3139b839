"""Tasks that end-to-end tests submit, and what they ask of the answers."""

from __future__ import annotations

from typing import Any

from libs.cli.client import Client, Server
from libs.cli.stack import Stack

EXECUTE = "/api/v1/tasks/execute"
CHAIN: dict[str, Any] = {
    "task_definition": {"a": 4, "b": [1, 2.5]},
    "plan": {
        "steps": [
            {
                "step_index": 1,
                "tool": "math",
                "input": {"expression": "a + 2", "variables": {"a": {"$ref": "input.a"}}},
            },
            {
                "step_index": 2,
                "tool": "json_query",
                "input": {
                    "data": {"from": {"$ref": "steps.1.output.result"}, "b": {"$ref": "input.b"}},
                    "query": "[from, b[1]]",
                },
            },
            {
                "step_index": 3,
                "tool": "math",
                "input": {
                    "expression": "x / y",
                    "variables": {
                        "x": {"$ref": "steps.2.output.result.0"},
                        "y": {"$ref": "steps.2.output.result.1"},
                    },
                },
            },
        ]
    },
}
"""Three steps with references to the input and to earlier outputs; the result is 2.4."""
FAILING: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "math", "input": {"expression": "1 - 1"}},
            {
                "step_index": 2,
                "tool": "math",
                "input": {
                    "expression": "1 / zero",
                    "variables": {"zero": {"$ref": "steps.1.output.result"}},
                },
            },
            {"step_index": 3, "tool": "math", "input": {"expression": "3"}},
        ]
    },
}
"""Fails in step 2 of 3."""
UNRESOLVED: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "json_query", "input": {"data": {"x": 1}, "query": "x"}},
            {
                "step_index": 2,
                "tool": "json_query",
                "input": {"data": {"$ref": "steps.1.output.result.y"}, "query": "@"},
            },
        ]
    },
}
"""The reference of step 2 is possible by the schema and leads nowhere."""
WAITING: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 30}}]},
    "timeout_seconds": 0.3,
}
"""Is stopped by its total time."""
UNPLANNABLE: dict[str, Any] = {"task_definition": {"colour": "blue"}}
"""Nobody can plan it without a model."""


def finished(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Submit and wait for the end: the answer of execute."""
    return client.post(f"{EXECUTE}?wait=25", body)


def trace_of(client: Client, task_id: str) -> dict[str, Any]:
    """The trace of a task."""
    return client.get(f"/api/v1/tasks/{task_id}/trace")


def run_and_trace(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Submit, wait, and return the trace."""
    return trace_of(client, finished(client, body)["task_id"])


def hashes(trace: dict[str, Any]) -> tuple[Any, ...]:
    """Everything of a trace that must repeat."""
    summary, block = trace["summary"], trace["verification"]
    return block["plan_hash"], tuple(summary["step_hashes"]), summary["task_hash"]


def new_tenant(stack: Stack, name: str, *, tier: str = "pro") -> Client:
    """A new tenant, and a client with a key of it."""
    operator = Client(stack.server)
    operator.post("/v1/tenants", {"name": name, "tier": tier})
    key = operator.post("/v1/keys", {"tenant": name})["key"]
    return Client(Server(url=stack.server.url, api_key=key))
