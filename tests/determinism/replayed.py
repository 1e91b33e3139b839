"""Replays recorded runs in this process: the executor's own use case, with the record as it is read
from a file in place of the scheduler. No database, no other process but those of the tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from libs.core.canonical import Json, canonical, canonical_text, doubles, read_canonical
from libs.core.clock import SystemClock
from libs.core.errors import Failure, FailureCode
from libs.core.hashing import plan_hash, task_hash
from libs.core.plan import plan_from_json
from libs.core.prices import FREE
from libs.core.recorded_trace import RecordedBlock, RecordedStep, read_trace
from libs.core.tool_spec import ToolRef
from services.executor.model import StepOutcome, TaskAssignment
from services.executor.service import ExecutorService
from services.executor.step_runner import StepRunner
from services.executor.tools.recorded import Found, RecordedAnswer
from services.executor.tools.registry import ToolRegistry
from tests.executor_world import TASK_ID, TENANT_ID, FakeArtifacts, FakeReporter


def block_of(trace: dict[str, Any]) -> RecordedBlock:
    """The verification block; a trace spells the double 1e16 as an integer."""
    return read_trace(doubles(trace["verification"])).block


def tools_of(block: RecordedBlock) -> tuple[ToolRef, ...]:
    """The exact tools of a run."""
    return tuple(ToolRef(*each) for each in block.tool_set)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRecordings:
    """Answers steps from a trace, as the scheduler does: only for the input on record.
    `asked` are the steps that were.
    """

    trace: dict[str, Any]
    asked: list[int]

    async def recall(
        self, *, task_id: UUID, lease_token: int, step_index: int, input_sha256: str
    ) -> RecordedAnswer:
        """As Recordings.recall."""
        del task_id, lease_token
        self.asked.append(step_index)
        block, of = block_of(self.trace), str(self.trace["task_id"])
        if step_index > len(block.steps) or not block.steps[step_index - 1].is_finished:
            return RecordedAnswer(found=Found.NOT_FINISHED, of_task_id=of)
        step = block.steps[step_index - 1]
        if hashlib.sha256(canonical(step.resolved_input)).hexdigest() != input_sha256:
            return RecordedAnswer(found=Found.OTHER_INPUT, of_task_id=of)
        if step.failure_code is not None:
            failure = Failure(code=FailureCode(step.failure_code), message="as it was")
            return RecordedAnswer(found=Found.YES, of_task_id=of, failure=failure)
        text = canonical_text(step.output)
        return RecordedAnswer(found=Found.YES, of_task_id=of, output_json=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay came to, and which of its steps were answered from the record."""

    block: RecordedBlock
    recalled: tuple[int, ...]


async def replay(
    trace: dict[str, Any], *, registry: ToolRegistry, recorded: Collection[ToolRef]
) -> Replayed:
    """Run the frozen plan of a trace once more, at the time at which it was created. The steps of
    the tools in `recorded` are answered from the trace, all others by the registry's tools.
    """
    block = block_of(trace)
    recordings, reporter = TraceRecordings(trace=trace, asked=[]), FakeReporter()
    clock = SystemClock()
    service = ExecutorService(
        registry,
        runner=StepRunner(artifacts=FakeArtifacts(), clock=clock, prices=FREE),
        recordings=recordings,
        clock=clock,
    )
    assignment = _assignment(block, trace, recorded=recorded, received_at=clock.monotonic())
    await service.run_task(assignment, reporter)
    end = reporter.reports[-1].end
    assert end is not None, "the run did not come to an end"
    outcomes = [report.finished for report in reporter.reports if report.finished is not None]
    steps = tuple(_step(outcome, block) for outcome in outcomes)
    code = None if end.failure is None else end.failure.code
    whole = task_hash(
        assignment.plan_hash,
        step_hashes=[outcome.step_hash for outcome in outcomes],
        state=end.state,
        failure_code=code,
    )
    replayed = replace(
        block,
        plan_hash=assignment.plan_hash,
        state=end.state,
        failure_code=code,
        steps=steps,
        task_hash=whole,
    )
    return Replayed(block=replayed, recalled=tuple(recordings.asked))


def _assignment(
    block: RecordedBlock,
    trace: dict[str, Any],
    *,
    recorded: Collection[ToolRef],
    received_at: float,
) -> TaskAssignment:
    written: Json = read_canonical(canonical_text(block.plan))
    plan, tools = plan_from_json(written), tools_of(block)
    return TaskAssignment(
        task_id=TASK_ID,
        tenant_id=TENANT_ID,
        lease_token=1,
        plan=plan,
        tool_set=tuple(ref for ref in tools if ref not in recorded),
        recorded_tools=tuple(ref for ref in tools if ref in recorded),
        task_input=read_canonical(canonical_text(block.task_input)),
        plan_hash=plan_hash(plan, tools=tools, task_input=block.task_input),
        seconds_left=None,
        received_at=received_at,
        created_at=datetime.fromisoformat(trace["events"][0]["created_at"]),
        mode="live",
    )


def _step(outcome: StepOutcome, block: RecordedBlock) -> RecordedStep:
    """How the step would stand in a trace of the replay."""
    name = block.plan_steps[outcome.step_index - 1]["tool"]
    (ref,) = (ref for ref in tools_of(block) if ref.name == name)
    return RecordedStep(
        step_index=outcome.step_index,
        tool=ref.name,
        tool_version=ref.version,
        tool_digest=ref.digest,
        resolved_input=read_canonical(outcome.resolved_input_json),
        output=outcome.output,
        status="succeeded" if outcome.failure is None else "failed",
        failure_code=None if outcome.failure is None else outcome.failure.code,
        step_hash=outcome.step_hash,
    )
