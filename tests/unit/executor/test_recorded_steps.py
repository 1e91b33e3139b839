"""Steps that are answered from a record: never by a call, and only for the recorded input."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from libs.core.canonical import Json, canonical, canonical_text
from libs.core.errors import Failure, FailureCode
from libs.core.hashing import step_hash
from libs.core.lifecycle import TaskState
from libs.core.tool_spec import ToolRef
from services.executor.model import Report, StepOutcome, TaskAssignment, Used
from services.executor.tools.recorded import RECORDING_MISSING, Found, RecordedAnswer
from tests.executor_world import (
    PLAN_HASH,
    FakeRecordings,
    FakeReporter,
    FakeTool,
    answering,
    make_assignment,
    make_registry,
    make_service,
)

FETCH = ToolRef("fetch", "3", "f" * 64)
ORIGINAL = "0193f9c8-0000-7000-8000-00000000000f"


def make_replay(*steps: tuple[str, Json]) -> TaskAssignment:
    """A recorded replay of these steps, of which `fetch` is not called."""
    return replace(make_assignment(*steps), recorded_tools=(FETCH,))


def answer(output: Json = None, **changes: object) -> RecordedAnswer:
    made = RecordedAnswer(found=Found.YES, of_task_id=ORIGINAL, output_json=canonical_text(output))
    return replace(made, **changes)  # type: ignore[arg-type]


async def run(assignment: TaskAssignment, recordings: FakeRecordings) -> list[Report]:
    reporter = FakeReporter()
    await make_service(recordings=recordings).run_task(assignment, reporter)
    return reporter.reports


def closed(reports: list[Report]) -> list[StepOutcome]:
    return [report.finished for report in reports if report.finished is not None]


async def test_a_recorded_step_is_answered_and_hashed_as_if_it_had_been_called() -> None:
    recordings = FakeRecordings([answer({"status": 200, "body": "1e20 is 100000000000000000000"})])

    reports = await run(make_replay(("fetch", {"url": "x", "n": 1.0})), recordings)

    (step,) = closed(reports)
    assert step.output == {"status": 200, "body": "1e20 is 100000000000000000000"}
    assert step.step_hash == step_hash(
        PLAN_HASH,
        step_index=1,
        tool="fetch@3",
        resolved_input={"n": 1, "url": "x"},
        output=step.output,
        failure_code=None,
    )
    sha256 = hashlib.sha256(canonical({"url": "x", "n": 1})).hexdigest()
    assert recordings.asked == [(7, 1, sha256)]
    assert step.used == Used()
    assert reports[-1].end is not None
    assert reports[-1].end.state is TaskState.SUCCEEDED


async def test_later_steps_see_the_recorded_output_and_run() -> None:
    recordings = FakeRecordings([answer({"price": 4})])
    steps: list[tuple[str, Json]] = [
        ("fetch", {}),
        ("math", {"expression": "p*2", "variables": {"p": {"$ref": "steps.1.output.price"}}}),
    ]

    outcomes = closed(await run(make_replay(*steps), recordings))

    assert [outcome.output for outcome in outcomes] == [{"price": 4}, {"result": 8}]
    assert len(recordings.asked) == 1


async def test_a_tool_that_is_offered_is_not_called_all_the_same() -> None:
    fetch = FakeTool(answering({"live": True}), name="fetch")
    registry = make_registry(fetch)
    (ref,) = (ref for ref in registry.refs if ref.name == "fetch")
    assignment = replace(make_assignment(("fetch", {})), recorded_tools=(ref,))
    reporter = FakeReporter()

    await make_service(registry, recordings=FakeRecordings([answer({"live": False})])).run_task(
        assignment, reporter
    )

    assert fetch.calls == []
    assert closed(reporter.reports)[0].output == {"live": False}


async def test_a_test_key_may_have_what_is_not_called() -> None:
    assignment = replace(make_replay(("fetch", {})), mode="test")

    (step,) = closed(await run(assignment, FakeRecordings([answer({"x": 1})])))

    assert step.output == {"x": 1}


@pytest.mark.parametrize("code", [FailureCode.TIMEOUT, FailureCode.INPUT_SCHEMA])
async def test_a_recorded_failure_fails_the_step_with_its_code(code: FailureCode) -> None:
    failure = Failure(code=code, message="it took too long", reason="SLOW", step_index=1)
    recorded = answer(output_json=None, failure=failure)

    reports = await run(make_replay(("fetch", {})), FakeRecordings([recorded]))

    (step,) = closed(reports)
    assert step.failure is not None
    assert (step.failure.code, step.failure.reason) == (code, "SLOW")
    assert (step.failure.step, step.failure.step_index) == ("fetch", 1)
    assert step.failure.message == "it took too long"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found.OTHER_INPUT, "step 1 had another input"),
        (Found.NOT_FINISHED, "step 1 never finished there"),
    ],
)
async def test_without_a_record_the_step_fails_and_says_why(found: Found, words: str) -> None:
    missing = RecordedAnswer(found=found, of_task_id=ORIGINAL)

    reports = await run(
        make_replay(("fetch", {}), ("math", {"expression": "1"})), FakeRecordings([missing])
    )

    (step,) = closed(reports)
    assert step.failure is not None
    assert (step.failure.code, step.failure.reason) == (FailureCode.TOOL_ERROR, RECORDING_MISSING)
    assert f"fetch@3 was not called: it is answered from the record of task {ORIGINAL}" in (
        step.failure.message
    )
    assert words in step.failure.message


async def test_an_input_that_cannot_be_resolved_fails_before_the_record_is_asked() -> None:
    recordings = FakeRecordings([answer()])

    reports = await run(make_replay(("fetch", {"url": {"$ref": "input.nowhere"}})), recordings)

    (step,) = closed(reports)
    assert step.failure is not None
    assert step.failure.code is FailureCode.INPUT_SCHEMA
    assert recordings.asked == []


async def test_a_tool_that_is_neither_called_nor_recorded_ends_the_task() -> None:
    reports = await run(make_replay(("fetch", {}), ("unknown", {})), FakeRecordings([answer()]))

    (report,) = reports
    assert report.end is not None
    assert report.end.failure is not None
    assert report.end.failure.code is FailureCode.TOOL_UNAVAILABLE
