"""Tasks of test keys reach no network and no model, whatever plan has come this far."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.core.errors import FailureCode
from libs.core.lifecycle import TaskState
from libs.core.tool_spec import Effect
from services.executor.model import TaskEnd
from tests.executor_world import (
    FakeReporter,
    FakeTool,
    echo,
    make_assignment,
    make_registry,
    make_service,
)


async def run(tool: FakeTool, *, mode: str) -> TaskEnd:
    """How a task of one call of the tool ends."""
    registry = make_registry(tool)
    assignment = replace(make_assignment(("fake", {}), registry=registry), mode=mode)
    reporter = FakeReporter()
    await make_service(registry).run_task(assignment, reporter)
    end = reporter.reports[-1].end
    assert end is not None
    return end


def reaching(*effects: Effect) -> FakeTool:
    tool = FakeTool(echo)
    tool.spec = replace(tool.spec, effects=effects)
    return tool


@pytest.mark.parametrize("effect", [Effect.NETWORK, Effect.MODEL])
async def test_a_test_task_calls_no_tool_that_reaches_out(effect: Effect) -> None:
    tool = reaching(Effect.SANDBOX, effect)

    end = await run(tool, mode="test")

    assert tool.calls == []
    assert end.failure is not None
    assert (end.failure.code, end.failure.reason) == (FailureCode.EGRESS_DENIED, "TEST_MODE")
    assert end.failure.message == (
        f"fake@1 reaches {effect}, which a task of a test key may not use; "
        "submit it with a live key"
    )


@pytest.mark.parametrize(
    ("effect", "mode"),
    [(Effect.NETWORK, "live"), (Effect.PURE, "test"), (Effect.ARTIFACT, "test")],
)
async def test_other_calls_are_made(effect: Effect, mode: str) -> None:
    tool = reaching(effect)

    assert (await run(tool, mode=mode)).state == TaskState.SUCCEEDED
    assert len(tool.calls) == 1
