"""run_task: what is reported, in which order, with which hashes; and one step as a pipeline."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.hashing import step_hash
from libs.core.lifecycle import TaskState
from libs.core.plan import Limits
from libs.core.tool_spec import ToolRef
from services.executor.cancellation import Cancellation
from services.executor.model import AckStatus, Report, StepOutcome, TaskAssignment, TaskEnd
from services.executor.tools.registry import ToolRegistry
from services.executor.tools.tool import ToolContext
from tests.executor_world import (
    PLAN_HASH,
    Call,
    FakeArtifacts,
    FakeClock,
    FakeReporter,
    FakeTool,
    Gate,
    answering,
    echo,
    make_assignment,
    make_registry,
    make_service,
    raising,
)


async def run(
    assignment: TaskAssignment, registry: ToolRegistry | None = None, *statuses: AckStatus
) -> list[Report]:
    reporter = FakeReporter(*statuses)
    await make_service(registry).run_task(assignment, reporter)
    return reporter.reports


async def run_one(call: Call, value: Json = None, limits: Limits | None = None) -> StepOutcome:
    """The outcome of a task with one step of a fake tool."""
    registry = make_registry(FakeTool(call))
    assignment = make_assignment(("fake", value or {}), registry=registry, limits=limits)
    reports = await run(assignment, registry)
    outcome = reports[1].finished
    assert outcome is not None
    return outcome


def math_hash(previous: str, index: int, value: Json, output: Json) -> str:
    (ref,) = (ref for ref in make_registry().refs if ref.name == "math")
    return step_hash(
        previous,
        step_index=index,
        tool=ref.label,
        resolved_input=value,
        output=output,
        failure_code=None,
    )


async def test_run_task_reports_before_and_after_each_step() -> None:
    chained: Json = {"expression": "a*2", "variables": {"a": {"$ref": "steps.1.output.result"}}}

    reports = await run(make_assignment(("math", {"expression": "1+2"}), ("math", chained)))

    before, between, after = reports
    assert before == Report(started_step_index=1)
    assert between.finished is not None
    assert (between.finished.step_index, between.started_step_index, between.end) == (1, 2, None)
    assert after.finished is not None
    assert after.started_step_index is None
    assert after.end is not None
    assert after.end.state == TaskState.SUCCEEDED
    assert after.finished.output_json == '{"result":6}'
    assert after.finished.resolved_input_json == '{"expression":"a*2","variables":{"a":3}}'


async def test_run_task_chains_hashes() -> None:
    reports = await run(
        make_assignment(("math", {"expression": "1+2"}), ("math", {"expression": "2"}))
    )

    first, second = reports[1].finished, reports[2].finished
    assert first is not None
    assert second is not None
    assert first.step_hash == math_hash(PLAN_HASH, 1, {"expression": "1+2"}, {"result": 3})
    assert second.step_hash == math_hash(first.step_hash, 2, {"expression": "2"}, {"result": 2})


async def test_run_task_stops_at_the_first_failure() -> None:
    registry = make_registry(tool := FakeTool(echo))
    assignment = make_assignment(
        ("math", {"expression": "1/0"}), ("fake", {}), ("fake", {}), registry=registry
    )

    reports = await run(assignment, registry)

    assert len(reports) == 2
    assert reports[1].finished is not None
    assert reports[1].end is not None
    failure = reports[1].end.failure
    assert failure is not None
    assert failure == reports[1].finished.failure
    assert (failure.code, failure.reason) == (FailureCode.TOOL_ERROR, "MATH_DOMAIN")
    assert (failure.step, failure.step_index) == ("math", 1)
    assert failure.message == "division by zero"
    assert tool.calls == []


@pytest.mark.parametrize("status", [AckStatus.STALE_LEASE, AckStatus.LATE, AckStatus.TERMINAL])
async def test_run_task_starts_nothing_without_a_good_acknowledgement(status: AckStatus) -> None:
    registry = make_registry(tool := FakeTool(echo))
    assignment = make_assignment(("fake", {}), ("fake", {}), registry=registry)

    refused_at_once = await run(assignment, registry, status)
    refused_later = await run(assignment, registry, AckStatus.SEEN, status)

    assert (len(refused_at_once), len(refused_later), len(tool.calls)) == (1, 2, 1)


async def test_run_task_takes_over_between_closed_steps() -> None:
    assignment = make_assignment(
        ("math", {"expression": "1"}),
        ("math", {"expression": "a", "variables": {"a": {"$ref": "steps.1.output.result"}}}),
        closed_outputs=[{"result": 41}],
    )

    reports = await run(assignment)

    assert reports[0] == Report(started_step_index=2)
    assert reports[1].finished is not None
    assert reports[1].finished.output == {"result": 41}
    assert reports[1].finished.step_hash == math_hash(
        "cd" * 32, 2, {"expression": "a", "variables": {"a": 41}}, {"result": 41}
    )


async def test_run_task_refuses_a_tool_that_it_does_not_offer_exactly() -> None:
    assignment = make_assignment(("math", {"expression": "1"}))
    other = replace(assignment, tool_set=(ToolRef("math", "0.9.0", "00" * 32),))

    (report,) = await run(other)

    assert report.end is not None
    assert report.end.failure is not None
    assert report.end.failure.code == FailureCode.TOOL_UNAVAILABLE
    assert report.end.failure.step is None
    assert report.started_step_index is None


async def test_run_task_out_of_total_time_starts_nothing_more() -> None:
    clock = FakeClock()

    async def slow(arguments: dict[str, Json], context: ToolContext) -> Json:
        del arguments, context
        clock.seconds += 60
        return {}

    registry = make_registry(FakeTool(slow))
    assignment = make_assignment(
        ("fake", {}), ("fake", {}), registry=registry, seconds_left=45, clock=clock
    )
    reporter = FakeReporter()

    await make_service(registry, clock=clock).run_task(assignment, reporter)

    assert len(reporter.reports) == 2
    last = reporter.reports[1]
    assert last.finished is not None
    assert last.finished.failure is not None
    assert last.finished.output_json is None
    assert last.end is not None
    assert last.end.failure == last.finished.failure
    assert last.end.failure.code == FailureCode.TIMEOUT
    assert last.end.failure.message.startswith("TASK_TIMEOUT: ")
    assert last.end.failure.step == "fake"


@pytest.mark.parametrize("ends", [{}, StepFailed(FailureCode.TOOL_ERROR, "no")])
async def test_a_tool_that_comes_back_too_late_in_one_go_is_timed_out(
    ends: Json | StepFailed,
) -> None:
    clock = FakeClock()

    async def busy(arguments: dict[str, Json], context: ToolContext) -> Json:
        del arguments, context
        clock.seconds += 2
        if isinstance(ends, StepFailed):
            raise ends
        return ends

    registry = make_registry(FakeTool(busy))
    limits = Limits(max_step_seconds=1)
    assignment = make_assignment(("fake", {}), registry=registry, limits=limits, clock=clock)
    reporter = FakeReporter()

    await make_service(registry, clock=clock).run_task(assignment, reporter)

    closed = reporter.reports[1].finished
    assert closed is not None
    assert closed.failure is not None
    assert (closed.failure.code, closed.failure.reason) == (FailureCode.TIMEOUT, "STEP_TIMEOUT")


async def test_run_task_handing_over_leaves_the_task_between_steps() -> None:
    reporter = FakeReporter()
    steps = (("math", {"expression": "1"}), ("math", {"expression": "2"}))

    await make_service().run_task(
        make_assignment(*steps), reporter, hands_over=lambda: len(reporter.reports) > 0
    )

    assert len(reporter.reports) == 2
    assert reporter.reports[1].finished is not None
    assert reporter.reports[1].started_step_index is None
    assert reporter.reports[1].end is None


async def test_run_task_cancelled_stops_the_tool_and_reports_nothing() -> None:
    gate = Gate()
    registry = make_registry(FakeTool(gate.call))
    reporter = FakeReporter()
    running = asyncio.create_task(
        make_service(registry).run_task(make_assignment(("fake", {}), registry=registry), reporter)
    )
    await gate.entered.wait()

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert gate.cancelled.is_set()
    assert len(reporter.reports) == 1


async def test_run_task_that_is_to_be_cancelled_begins_nothing() -> None:
    cancellation = Cancellation()
    cancellation.ask()
    reporter = FakeReporter()

    await make_service().run_task(
        make_assignment(("math", {"expression": "1"})), reporter, cancellation=cancellation
    )

    assert reporter.reports == [Report(end=TaskEnd(state=TaskState.CANCELLED))]


async def test_run_task_that_is_cancelled_in_a_step_kills_it_and_says_so() -> None:
    gate, cancellation = Gate(), Cancellation()
    registry = make_registry(FakeTool(gate.call))
    assignment = make_assignment(("fake", {}), ("fake", {}), registry=registry)
    reporter = FakeReporter()
    running = asyncio.create_task(
        make_service(registry).run_task(assignment, reporter, cancellation=cancellation)
    )
    await gate.entered.wait()

    cancellation.ask()
    await running

    assert gate.cancelled.is_set()
    assert reporter.reports[1:] == [Report(end=TaskEnd(state=TaskState.CANCELLED))]


async def test_step_that_ends_as_it_is_cancelled_is_reported() -> None:
    cancellation = Cancellation()

    async def last_moment(arguments: dict[str, Json], context: ToolContext) -> Json:
        del context
        cancellation.ask()
        return arguments

    registry = make_registry(FakeTool(last_moment))
    assignment = make_assignment(("fake", {}), ("fake", {}), registry=registry)
    reporter = FakeReporter(AckStatus.OK, AckStatus.LATE)

    await make_service(registry).run_task(assignment, reporter, cancellation=cancellation)

    assert len(reporter.reports) == 2
    assert reporter.reports[1].finished is not None
    assert reporter.reports[1].finished.output == {}


async def test_step_over_its_time_is_stopped() -> None:
    gate = Gate()

    outcome = await run_one(gate.call, limits=Limits(max_step_seconds=0.01))

    assert gate.cancelled.is_set()
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.reason) == (FailureCode.TIMEOUT, "STEP_TIMEOUT")
    assert outcome.failure.message == "STEP_TIMEOUT: the step took longer than 0.01 s"
    assert outcome.output_json is None


class Panic(BaseException):
    """What a library in Rust raises when it panics is no Exception either."""


@pytest.mark.parametrize(
    "error", [KeyError("/secret/path"), RecursionError(), SystemExit(3), Panic("insides")]
)
async def test_step_whose_tool_breaks_is_a_tool_error_without_its_insides(
    error: BaseException,
) -> None:
    outcome = await run_one(raising(error))

    assert outcome.failure is not None
    assert outcome.failure.code == FailureCode.TOOL_ERROR
    assert outcome.failure.message == f"fake@1 failed unexpectedly ({type(error).__name__})"


async def test_step_whose_tool_cancels_itself_fails() -> None:
    outcome = await run_one(raising(asyncio.CancelledError()))

    assert outcome.failure is not None
    assert outcome.failure.code == FailureCode.TOOL_ERROR


async def test_step_failure_keeps_code_and_reason_of_the_tool_and_bounds_its_message() -> None:
    failed = StepFailed(FailureCode.EGRESS_DENIED, "no " * 5000, reason="PRIVATE")

    outcome = await run_one(raising(failed))

    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.reason) == (FailureCode.EGRESS_DENIED, "PRIVATE")
    assert len(outcome.failure.message) == 4000


async def test_step_failure_of_which_half_a_character_was_told_is_reported() -> None:
    failed = StepFailed(FailureCode.TOOL_ERROR, "a\ud800b", reason="\udfff")

    outcome = await run_one(raising(failed))

    assert outcome.failure is not None
    assert (outcome.failure.message, outcome.failure.reason) == ("a\ufffdb", "\ufffd")


async def test_a_code_that_is_spelled_out_is_the_code_and_another_one_an_error() -> None:
    async def unknown(*_: object) -> Json:
        raise StepFailed("NO_SUCH_CODE", "no")  # type: ignore[arg-type]

    known = StepFailed("TOOL_ERROR", "no")  # type: ignore[arg-type]
    outcome = await run_one(unknown)

    assert known.code is FailureCode.TOOL_ERROR
    assert outcome.failure is not None
    assert outcome.failure.message == "fake@1 failed unexpectedly (ValueError)"


async def test_step_output_is_what_is_recorded() -> None:
    outcome = await run_one(answering({"b": 2.0, "a": -0.0}))

    assert outcome.output_json == '{"a":0,"b":2}'
    assert outcome.output == {"a": 0, "b": 2}
    assert isinstance(outcome.output, dict)
    assert [type(part) for part in outcome.output.values()] == [int, int]


async def test_step_gives_the_tool_what_is_hashed() -> None:
    registry = make_registry(tool := FakeTool(echo))
    assignment = make_assignment(
        ("fake", {"z": 1.0, "a": {"$ref": "input"}}), registry=registry, task_input={"y": 1, "b": 2}
    )

    await run(assignment, registry)

    (arguments,) = tool.calls
    assert list(arguments) == ["a", "z"]
    assert arguments["a"] == {"b": 2, "y": 1}
    assert isinstance(arguments["z"], int)


async def test_step_with_a_large_output_fails_with_a_hint() -> None:
    outcome = await run_one(answering("x" * 300_000))

    assert outcome.failure is not None
    assert outcome.failure.code == FailureCode.OUTPUT_LIMIT
    assert "artifact" in outcome.failure.message


async def test_step_with_large_values_works_beside_the_event_loop() -> None:
    outcome = await run_one(echo, {"parts": ["x" * 1000] * 200})

    assert outcome.failure is None
    assert outcome.output_json == outcome.resolved_input_json


async def test_step_failing_its_output_schema_lists_it() -> None:
    registry = make_registry(FakeTool(echo, output_schema={"required": ["result"]}))

    reports = await run(make_assignment(("fake", {}), registry=registry), registry)

    outcome = reports[1].finished
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.code == FailureCode.OUTPUT_SCHEMA
    assert [(f.path, f.where) for f in outcome.schema_failures] == [("result", "output")]


async def test_step_with_a_broken_reference_hashes_the_planned_input() -> None:
    planned: Json = {"expression": {"$ref": "input.missing"}}

    reports = await run(make_assignment(("math", planned)))

    outcome = reports[1].finished
    assert outcome is not None
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.reason) == (
        FailureCode.INPUT_SCHEMA,
        "REF_MISSING",
    )
    assert outcome.resolved_input_json == '{"expression":{"$ref":"input.missing"}}'
    assert [f.path for f in outcome.schema_failures] == ["expression"]
    (ref,) = (ref for ref in make_registry().refs if ref.name == "math")
    assert outcome.step_hash == step_hash(
        PLAN_HASH,
        step_index=1,
        tool=ref.label,
        resolved_input=planned,
        output=None,
        failure_code="INPUT_SCHEMA",
    )


async def test_step_with_a_resolved_input_of_the_wrong_type_is_not_called() -> None:
    steps = (
        ("math", {"expression": "1+1"}),
        ("math", {"expression": {"$ref": "steps.1.output"}}),
    )

    reports = await run(make_assignment(*steps))

    outcome = reports[2].finished
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.code == FailureCode.INPUT_SCHEMA
    assert outcome.resolved_input_json == '{"expression":{"result":2}}'
    assert [f.path for f in outcome.schema_failures] == ["expression"]


async def test_same_task_gives_the_same_hashes_in_another_order_of_keys() -> None:
    one: Json = {"expression": "a+b", "variables": {"a": 1, "b": 2}}
    other: Json = {"variables": {"b": 2, "a": 1}, "expression": "a+b"}

    first = await run(make_assignment(("math", one)))
    second = await run(make_assignment(("math", other)))

    assert first == second


async def test_artifact_step_stores_for_its_task() -> None:
    artifacts = FakeArtifacts()
    reporter = FakeReporter()
    steps = (
        ("math", {"expression": "40+2"}),
        ("artifact", {"type": "answer", "data": {"$ref": "steps.1.output"}}),
    )

    await make_service(artifacts=artifacts).run_task(make_assignment(*steps), reporter)

    assert [(a.step_index, a.data_json) for a in artifacts.stored] == [(2, '{"result":42}')]
    assert reporter.reports[-1].end is not None
    assert reporter.reports[-1].end.state == TaskState.SUCCEEDED


async def test_artifact_store_failure_fails_the_step() -> None:
    artifacts = FakeArtifacts(failure=StepFailed(FailureCode.ARTIFACT_STORE, "it is away"))
    reporter = FakeReporter()

    await make_service(artifacts=artifacts).run_task(
        make_assignment(("artifact", {"type": "a", "data": 1})), reporter
    )

    assert reporter.reports[-1].end is not None
    assert reporter.reports[-1].end.failure is not None
    assert reporter.reports[-1].end.failure.code == FailureCode.ARTIFACT_STORE
