"""The plans made without a model, held against the tools that executors really ship, and run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.core.canonical import Json
from libs.core.plan import Limits
from libs.core.references import resolve
from services.executor.model import Used
from services.executor.tools.registry import ToolRegistry, built_in_tools
from services.executor.tools.tool import NewArtifact, ToolContext
from services.executor.usage import Usage
from services.planner.model import FrozenPlan
from tests.unit.planner.test_service import OFFLINE_INPUTS, frozen, make_request

REGISTRY = ToolRegistry(built_in_tools())


class NoArtifacts:
    """Plans made without a model emit none."""

    async def put(self, artifact: NewArtifact) -> str:
        raise AssertionError(f"nobody asked for {artifact.type}")


async def run(outcome: FrozenPlan, *, task_input: dict[str, Json]) -> Any:
    """The result of a plan: what an executor would do, without durability and bounds."""
    outputs: dict[int, Json] = {}
    exact = {ref.name: ref for ref in outcome.tool_set}
    for step in outcome.plan.steps:
        offered = REGISTRY.find(exact[step.tool])
        assert offered is not None
        arguments = resolve(step.input, task_input=task_input, outputs=outputs)
        assert offered.input_schema.violations(arguments) == []
        assert isinstance(arguments, dict)
        context = ToolContext(
            task_id=UUID(int=1),
            tenant_id=UUID(int=2),
            step_index=step.step_index,
            created_at=datetime(2026, 11, 23, tzinfo=UTC),
            mode="live",
            seconds=None,
            artifacts=NoArtifacts(),
            usage=Usage(Limits(), before=Used()),
        )
        outputs[step.step_index] = await offered.tool.call(arguments, context)
        assert offered.output_schema.violations(outputs[step.step_index]) == []
    return outputs[len(outputs)]


async def planned_and_run(task_input: dict[str, Any]) -> Any:
    outcome = await frozen(make_request(task_input), *REGISTRY.specs)
    return await run(outcome, task_input=task_input)


@pytest.mark.parametrize("task_input", OFFLINE_INPUTS, ids="+".join)
async def test_every_offline_plan_runs_to_its_end(task_input: dict[str, Any]) -> None:
    await planned_and_run(task_input)


async def test_results_are_what_the_input_asked_for() -> None:
    computed = await planned_and_run({"expression": "a*2", "variables": {"a": 21}})
    queried = await planned_and_run({"data": {"a": [1, 2]}, "query": "a[1]"})
    read = await planned_and_run({"html": "<title>T</title><p>Cats sleep. Dogs bark.</p>"})

    assert computed == {"result": 42}
    assert queried == {"result": 2}
    assert "Cats sleep." in read["summary"]


async def test_a_bare_topic_ends_with_an_honest_outline() -> None:
    outline = (await planned_and_run({"topic": "Summarize weekly release notes"}))["result"]

    assert outline["topic"] == outline["summary"] == "Summarize weekly release notes"
    assert {"weekly", "release", "notes"} <= set(outline["key_terms"])
    assert outline["made_without_a_model"] is True
    assert outline["sources"] == []


async def test_every_shipped_spec_can_be_registered() -> None:
    await frozen(make_request({"expression": "1"}), *REGISTRY.specs)
