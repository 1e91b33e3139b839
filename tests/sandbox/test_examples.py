"""What python_sandbox shows as examples comes out so, in each sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.core.tool_spec import ToolExample
from services.executor.sandbox.model import Sandbox, SandboxIdentity, SandboxUnavailable
from services.executor.sandbox.monty import MontySandbox
from services.executor.tools.python_sandbox import PythonSandboxTool, make_spec
from tests.executor_world import FakeReporter, make_assignment, make_registry, make_service
from tests.sandbox.guest_world import BACKENDS, Backends
from tests.sandbox.lent_pool import lent_pool

EXAMPLES = make_spec(SandboxIdentity(backend="none", python="3", build="0")).examples


@pytest_asyncio.fixture(params=[*BACKENDS, "monty"])
async def sandbox(backends: Backends, request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    if request.param == "monty":
        try:
            monty = await MontySandbox.open(processes=1)
        except SandboxUnavailable as error:
            pytest.skip(f"no monty: {error}")
        yield monty
        await monty.close()
        return
    world = await backends.world(request.param)
    async with lent_pool(world) as pool:
        yield pool


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
async def test_a_step_does_what_the_example_shows(sandbox: Sandbox, example: ToolExample) -> None:
    registry = make_registry(PythonSandboxTool(sandbox))
    reporter = FakeReporter()
    assignment = make_assignment(("python_sandbox", {"$literal": example.input}), registry=registry)

    await make_service(registry).run_task(assignment, reporter)

    [outcome] = [report.finished for report in reporter.reports if report.finished is not None]
    failure = outcome.failure
    assert (failure.code if failure else None) == example.failure_code, failure
    assert outcome.output == example.output
