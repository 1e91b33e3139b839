"""What steps cost by the price table, and what becomes of a task whose money is used up."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.lifecycle import TaskState
from libs.core.plan import Limits
from libs.core.prices import FREE, Prices, usd
from services.executor.cancellation import Cancellation
from services.executor.convert import report_to_proto
from services.executor.model import Report, TaskEnd, Used
from services.executor.sandbox.model import CodeRequest, CodeResult
from services.executor.tools.python_sandbox import PythonSandboxTool
from services.executor.tools.tool import Tool, ToolContext
from services.executor.usage import MAX_CALL_USD, Usage
from tests.executor_world import (
    Call,
    FakeReporter,
    FakeTool,
    Gate,
    echo,
    make_assignment,
    make_registry,
    make_service,
    raising,
)
from tests.sandbox_fakes import FakeSandbox

PRICES = Prices(
    step_usd=Decimal("0.1"),
    sandbox_second_usd=Decimal("0.2"),
    thousand_tokens_usd=Decimal("0.003"),
)
CODE: tuple[str, Json] = ("python_sandbox", {"code": "result = 1"})
BROKE = StepFailed(FailureCode.TOOL_ERROR, "no")
TOO_LONG = StepFailed(FailureCode.TIMEOUT, "the code took too long", reason="WALL")


async def run(
    tool: Tool,
    *steps: tuple[str, Json],
    limits: Limits | None = None,
    used: Used | None = None,
    prices: Prices = PRICES,
) -> list[Report]:
    """The reports of a task of these steps."""
    registry = make_registry(tool)
    assignment = make_assignment(*steps, registry=registry, limits=limits, used=used)
    reporter = FakeReporter()
    await make_service(registry, prices=prices).run_task(assignment, reporter)
    return reporter.reports


def counting(*, then: StepFailed | None = None, **used: Any) -> Call:
    """A tool call that counts this, then answers or raises."""

    async def call(arguments: dict[str, Json], context: ToolContext) -> Json:
        context.usage.add(**used)
        if then is not None:
            raise then
        return arguments

    return call


def sandbox(
    seconds: float, *, failure: StepFailed | None = None
) -> tuple[FakeSandbox, PythonSandboxTool]:
    """A sandbox that says that code had so many seconds, and the tool over it."""

    def answer(_: CodeRequest) -> CodeResult:
        if failure is not None:
            raise failure
        return CodeResult(result_json="1", stdout="", stderr="")

    made = FakeSandbox(answer)
    made.seconds = seconds
    return made, PythonSandboxTool(made)


def used_by(reports: list[Report]) -> list[Used]:
    """What each closed step used."""
    return [report.finished.used for report in reports if report.finished]


def failure_of(reports: list[Report]) -> tuple[FailureCode, str, int | None]:
    """Code, words and step of a task's failure."""
    end = reports[-1].end
    assert end is not None
    assert end.failure is not None
    return end.failure.code, end.failure.message, end.failure.step_index


async def test_step_costs_its_price_its_tokens_and_what_its_tool_counted() -> None:
    reports = await run(FakeTool(counting(tokens=500, cost_usd=0.1)), ("fake", {}), ("fake", {}))

    cost = Decimal("0.1") + Decimal("0.0015") + Decimal("0.1")
    assert used_by(reports) == [Used(tokens=500, cost_usd=cost)] * 2
    message = report_to_proto(reports[1], report_id=1, task_id="t", lease_token=1).finished
    assert (message.cost_usd, message.tokens, message.sandbox_ms) == (0.2015, 500, 0)


async def test_step_that_failed_costs_what_it_used() -> None:
    reports = await run(FakeTool(counting(tokens=1000, then=BROKE)), ("fake", {}))

    assert used_by(reports) == [Used(tokens=1000, cost_usd=Decimal("0.103"))]


async def test_step_whose_input_is_refused_costs_its_price() -> None:
    reports = await run(FakeTool(echo), ("math", {"expression": {"$ref": "input.gone"}}))

    assert used_by(reports) == [Used(cost_usd=Decimal("0.1"))]


@pytest.mark.parametrize(
    ("seconds", "sandbox_ms"), [(1.5, 1500), (0.0121, 13), (0.007, 7), (0.00001, 1), (0.0, 0)]
)
async def test_time_in_the_sandbox_counts_in_begun_milliseconds(
    seconds: float, sandbox_ms: int
) -> None:
    _, tool = sandbox(seconds)

    reports = await run(tool, CODE)

    cost = Decimal("0.1") + Decimal("0.0002") * sandbox_ms
    assert used_by(reports) == [Used(sandbox_ms=sandbox_ms, cost_usd=cost)]
    message = report_to_proto(reports[1], report_id=1, task_id="t", lease_token=1).finished
    assert (message.sandbox_ms, usd(message.cost_usd)) == (sandbox_ms, cost)


async def test_code_that_fails_has_spent_its_time() -> None:
    _, tool = sandbox(0.5, failure=StepFailed(FailureCode.CODE_ERROR, "no"))

    reports = await run(tool, CODE)

    assert used_by(reports) == [Used(sandbox_ms=500, cost_usd=Decimal("0.2"))]


async def test_step_that_is_killed_costs_what_it_used_but_not_its_price() -> None:
    gate, cancellation = Gate(), Cancellation()

    async def call(arguments: dict[str, Json], context: ToolContext) -> Json:
        context.usage.add(tokens=1000, sandbox_seconds=0.5)
        return await gate.call(arguments, context)

    registry = make_registry(FakeTool(call))
    reporter = FakeReporter()
    running = asyncio.create_task(
        make_service(registry, prices=PRICES).run_task(
            make_assignment(("fake", {}), registry=registry), reporter, cancellation=cancellation
        )
    )
    await gate.entered.wait()

    cancellation.ask()
    await running

    used = Used(tokens=1000, sandbox_ms=500, cost_usd=Decimal("0.103"))
    assert reporter.reports[1:] == [Report(end=TaskEnd(state=TaskState.CANCELLED, used=used))]
    end = report_to_proto(reporter.reports[1], report_id=1, task_id="t", lease_token=1).end
    assert (end.cost_usd, end.tokens, end.sandbox_ms) == (0.103, 1000, 500)


async def test_prices_do_not_touch_hashes() -> None:
    tools = [FakeTool(counting(tokens=5, sandbox_seconds=seconds)) for seconds in (0.5, 0.7)]

    dear = await run(tools[0], ("fake", {"a": 1}))
    free = await run(tools[1], ("fake", {"a": 1}), prices=FREE)

    assert used_by(dear) != used_by(free)
    assert [r.finished.step_hash for r in dear if r.finished] == [
        r.finished.step_hash for r in free if r.finished
    ]


# ---------------------------------------------------------------- max_cost_usd


async def test_step_begins_only_if_its_price_is_left() -> None:
    tool = FakeTool(echo)

    reports = await run(tool, *[("fake", {})] * 4, limits=Limits(max_cost_usd=0.3))

    # Three times a tenth is three tenths, which is allowed.
    assert len(tool.calls) == 3
    assert reports[-1].finished is not None
    assert reports[-1].finished.failure is None
    assert failure_of(reports) == (
        FailureCode.COST_LIMIT,
        "the task cost $0.3 and its next step costs $0.1; $0.3 are allowed",
        None,
    )


async def test_task_without_money_begins_nothing() -> None:
    tool = FakeTool(echo)

    reports = await run(tool, ("fake", {}), limits=Limits(max_cost_usd=0))

    assert (len(reports), tool.calls) == (1, [])
    assert failure_of(reports)[0] == FailureCode.COST_LIMIT


async def test_task_without_money_runs_where_steps_are_free() -> None:
    reports = await run(FakeTool(echo), ("fake", {}), limits=Limits(max_cost_usd=0), prices=FREE)

    assert reports[-1].end == TaskEnd(state=TaskState.SUCCEEDED)


async def test_taken_over_task_goes_on_from_what_it_cost() -> None:
    reports = await run(
        FakeTool(echo),
        ("fake", {}),
        limits=Limits(max_cost_usd=0.3),
        used=Used(cost_usd=Decimal("0.25")),
    )

    assert failure_of(reports)[1].startswith("the task cost $0.25 and its next step costs $0.1;")


async def test_reservation_counts_the_price_of_its_tokens() -> None:
    usage = Usage(Limits(max_cost_usd=0.106), before=Used(cost_usd=Decimal("0.001")), prices=PRICES)
    usage.reserve(tokens=1000)

    with pytest.raises(StepFailed) as failed:
        usage.reserve(tokens=1000)

    assert failed.value.code is FailureCode.COST_LIMIT
    assert failed.value.message == (
        "the call may cost $0.003; the task has used or reserved $0.104 of $0.106"
    )


async def test_code_may_run_for_as_long_as_the_money_lasts() -> None:
    made, tool = sandbox(0.25)

    reports = await run(tool, CODE, CODE, limits=Limits(max_cost_usd=0.35))

    # After the price of two steps and a quarter of a second there is 0.1 left: half a second.
    assert [request.wall_seconds for request in made.requests] == [1.25, 0.5]
    assert reports[-1].end == TaskEnd(state=TaskState.SUCCEEDED)


async def test_code_that_uses_up_the_money_fails_with_the_limit() -> None:
    _, tool = sandbox(0.5, failure=TOO_LONG)

    reports = await run(tool, CODE, limits=Limits(max_cost_usd=0.2))

    assert used_by(reports) == [Used(sandbox_ms=500, cost_usd=Decimal("0.2"))]
    assert failure_of(reports) == (
        FailureCode.COST_LIMIT,
        "a second in the sandbox costs $0.2; the task has used or reserved $0.2 of $0.2",
        1,
    )


async def test_code_that_takes_too_long_while_there_is_money_is_a_timeout() -> None:
    _, tool = sandbox(0.5, failure=TOO_LONG)

    reports = await run(tool, CODE, limits=Limits(max_cost_usd=100, max_step_seconds=1))

    assert failure_of(reports)[0] == FailureCode.TIMEOUT


async def test_code_is_not_run_when_nothing_is_left_for_it() -> None:
    made, tool = sandbox(0.5)

    reports = await run(tool, CODE, limits=Limits(max_cost_usd=0.1))

    assert made.requests == []
    assert failure_of(reports)[0] == FailureCode.COST_LIMIT


async def test_time_in_the_sandbox_is_not_bounded_where_it_is_free() -> None:
    usage = Usage(Limits(max_cost_usd=0), before=Used(), prices=FREE)

    assert usage.affordable_seconds(30.0) == 30.0


@pytest.mark.parametrize(
    "used",
    [
        {"sandbox_seconds": -0.1},
        {"sandbox_seconds": float("nan")},
        {"sandbox_seconds": float("inf")},
        {"cost_usd": MAX_CALL_USD + 1},
    ],
)
async def test_tool_that_counts_nonsense_fails(used: dict[str, Any]) -> None:
    reports = await run(FakeTool(counting(**used)), ("fake", {}))

    assert failure_of(reports)[0] == FailureCode.TOOL_ERROR
    assert used_by(reports) == [Used(cost_usd=Decimal("0.1"))]


async def test_tool_that_breaks_costs_the_step() -> None:
    reports = await run(FakeTool(raising(RuntimeError("x"))), ("fake", {}))

    assert used_by(reports) == [Used(cost_usd=Decimal("0.1"))]
