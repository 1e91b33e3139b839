"""One step as a pipeline: resolve references → check input → call tool → check output → hash."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from prometheus_client import Counter, Histogram

from libs.core.canonical import Json, canonical_text, read_canonical
from libs.core.clock import Clock
from libs.core.errors import Failure, FailureCode, StepFailed
from libs.core.hashing import step_hash
from libs.core.plan import Step
from libs.core.prices import Prices
from libs.core.tool_spec import NOT_IN_TEST_MODE
from libs.process.logs import get_logger
from libs.process.tracing import span
from libs.rpc.context import bind, current
from services.executor.bounds import Allowance, Bounds
from services.executor.cancellation import Cancellation
from services.executor.model import (
    SchemaFailure,
    StepKilled,
    StepOutcome,
    TaskAssignment,
    Used,
)
from services.executor.step_validation import (
    SchemaMismatch,
    output_text,
    resolve_step_input,
    validate_step_input,
    validate_step_output,
)
from services.executor.tools.registry import OfferedTool
from services.executor.tools.tool import ArtifactSink, ToolContext
from services.executor.usage import Usage

# Canonical text is written at some MB/s; what is larger than this is written beside the event loop.
BULKY_BYTES = 16 * 2**10
MAX_MESSAGE_LENGTH = 4000
TEST_MODE = "test"
_UNSENDABLE = re.compile("[\ud800-\udfff]")

log = get_logger(__name__)
_steps = Counter(
    "pawl_executor_steps_total", "Steps closed, by tool and outcome", ["tool", "outcome"]
)
_seconds = Histogram("pawl_executor_step_seconds", "Seconds in the tool of a step", ["tool"])

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """One step to run. `outputs` are those of the steps before it, `used` what they used together;
    `previous_hash` is theirs or the plan's. `cancellation` ends the step when it is asked for.
    """

    assignment: TaskAssignment
    step: Step
    tool: OfferedTool
    bounds: Bounds
    outputs: Mapping[int, Json]
    previous_hash: str
    used: Used
    cancellation: Cancellation
    is_bulky: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """How far the step has come. `input_json` is what will be hashed as its input."""

    input_json: str
    arguments: Json = None
    output_json: str | None = None
    output: Json = None
    failed: StepFailed | None = None

    @property
    def is_bulky(self) -> bool:
        return len(self.input_json) + len(self.output_json or "") > BULKY_BYTES


class _KilledError(Exception):
    """The task is to be cancelled, and nothing of the step runs any more."""

    def __init__(self, used: Used) -> None:
        super().__init__()
        self.used = used


class StepRunner:
    """Runs steps within their bounds. A failure is an outcome; only being stopped raises."""

    def __init__(
        self,
        *,
        artifacts: ArtifactSink,
        clock: Clock,
        prices: Prices,
        grace_seconds: float = 1.0,
    ) -> None:
        """A tool that is stopped has `grace_seconds` to end; then the log says that it does not."""
        self.prices = prices
        self._artifacts = artifacts
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._calls: set[asyncio.Task[Json]] = set()

    @property
    def live_calls(self) -> int:
        """How many calls of tools have not ended, those that outlived their step included."""
        return len(self._calls)

    async def run(self, work: StepWork) -> StepOutcome | StepKilled:
        """Run one step to its end and hash it, unless its cancellation kills it.

        The asyncio task cancelled: the step is stopped, and a tool that does not end is left.
        """
        context = current()
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": work.tool.ref.name,
            "pawl.task_id": str(work.assignment.task_id),
            "pawl.step_index": work.step.step_index,
        }
        with (
            span(
                f"execute_tool {work.tool.ref.name}",
                traceparent=context.traceparent,
                attributes=attributes,
            ) as step,
            bind(replace(context, traceparent=step.traceparent)),
        ):
            try:
                outcome = await self._run(work)
            except _KilledError as killed:
                step.fail(FailureCode.CANCELLED)
                _steps.labels(work.tool.ref.name, FailureCode.CANCELLED).inc()
                return StepKilled(used=killed.used)
            if outcome.failure is not None:
                step.fail(outcome.failure.code)
        _steps.labels(work.tool.ref.name, outcome.failure.code if outcome.failure else "OK").inc()
        return outcome

    async def _run(self, work: StepWork) -> StepOutcome:
        usage = Usage(work.assignment.plan.limits, before=work.used, prices=self.prices)
        draft = await _aside(
            work.is_bulky, lambda: _Draft(input_json=canonical_text(work.step.input))
        )
        try:
            draft = await _aside(work.is_bulky, lambda: _resolve_references(work, draft))
            draft = _check_input(work, draft)
            _check_mode(work)
            output = await self._call_tool(work, draft, usage)
            draft = await _aside(_may_be_bulky(output), lambda: _check_output(work, draft, output))
        except StepFailed as failed:
            draft = replace(draft, output_json=None, output=None, failed=failed)
        return await _aside(draft.is_bulky, lambda: _close(work, draft, usage.used))

    async def _call_tool(self, work: StepWork, draft: _Draft, usage: Usage) -> Json:
        """The tool's output, within the step's time. However the wait ends, the tool has been
        stopped. Raises _KilledError once a cancellation has ended the tool, however long that
        takes.
        """
        if work.cancellation.is_asked:
            raise _KilledError(usage.used_without_step)
        began = self._clock.monotonic()
        allowance = work.bounds.allowance(began)
        call = asyncio.create_task(_guarded(work, draft, self._context(work, usage, allowance)))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        # Whoever waits for it may be stopped in the moment in which it fails.
        call.add_done_callback(_take_result)
        ends: set[asyncio.Future[Any]] = {call, work.cancellation.asked}
        try:
            await asyncio.wait(ends, timeout=allowance.seconds, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                elapsed = self._clock.monotonic() - began
                return _result(call, work, allowance=allowance, elapsed=elapsed)
            if work.cancellation.is_asked:
                await self._stop(call, work)
                await asyncio.wait({call})
                raise _KilledError(usage.used_without_step)
        finally:
            _seconds.labels(work.tool.ref.name).observe(self._clock.monotonic() - began)
            if not call.done():
                await self._stop(call, work)
        raise work.bounds.timed_out(allowance.word)

    async def _stop(self, call: asyncio.Task[Json], work: StepWork) -> None:
        call.cancel()
        await asyncio.wait({call}, timeout=self._grace_seconds)
        if not call.done():
            log.error("tool does not end when it is stopped", tool=work.tool.ref.label)

    def _context(self, work: StepWork, usage: Usage, allowance: Allowance) -> ToolContext:
        return ToolContext(
            task_id=work.assignment.task_id,
            tenant_id=work.assignment.tenant_id,
            step_index=work.step.step_index,
            created_at=work.assignment.created_at,
            mode=work.assignment.mode,
            seconds=allowance.seconds,
            artifacts=self._artifacts,
            usage=usage,
        )


def _resolve_references(work: StepWork, draft: _Draft) -> _Draft:
    input_json, resolved = draft.input_json, work.step.input
    # Canonical text never escapes a $, so a text without these two has nothing to resolve.
    if '"$ref"' in input_json or '"$literal"' in input_json:
        resolved = resolve_step_input(
            work.step.input, task_input=work.assignment.task_input, outputs=work.outputs
        )
        input_json = canonical_text(resolved)
    # The tool gets what is hashed, read back: the same values and order of keys wherever it runs.
    return replace(draft, input_json=input_json, arguments=read_canonical(input_json))


def _check_input(work: StepWork, draft: _Draft) -> _Draft:
    validate_step_input(draft.arguments, schema=work.tool.input_schema, tool=work.tool.ref.label)
    return draft


def _check_mode(work: StepWork) -> None:
    """A planner refuses such a plan; whatever reaches this executor all the same ends here."""
    refused = sorted(NOT_IN_TEST_MODE.intersection(work.tool.tool.spec.effects))
    if work.assignment.mode == TEST_MODE and refused:
        raise StepFailed(
            FailureCode.EGRESS_DENIED,
            f"{work.tool.ref.label} reaches {' and '.join(refused)}, which a task of a test key "
            "may not use; submit it with a live key",
            reason="TEST_MODE",
        )


async def _guarded(work: StepWork, draft: _Draft, context: ToolContext) -> Json:
    """Call the tool; what it raises beyond StepFailed is its error, told without its insides."""
    label = work.tool.ref.label
    try:
        return await work.tool.tool.call(cast("dict[str, Json]", draft.arguments), context)
    except (StepFailed, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        log.exception("tool failed unexpectedly", tool=label)
        raise StepFailed(
            FailureCode.TOOL_ERROR, f"{label} failed unexpectedly ({type(error).__name__})"
        ) from error


def _result(
    call: asyncio.Task[Json], work: StepWork, *, allowance: Allowance, elapsed: float
) -> Json:
    """What a call that ended by itself came back with."""
    if allowance.is_exceeded_by(elapsed):
        # It kept the loop busy, or the process stood still: the wait could not end before.
        late = None if call.cancelled() else call.exception()
        raise work.bounds.timed_out(allowance.word) from late
    if call.cancelled():
        raise StepFailed(FailureCode.TOOL_ERROR, f"{work.tool.ref.label} gave up its own call")
    return call.result()


def _check_output(work: StepWork, draft: _Draft, output: Json) -> _Draft:
    text = output_text(output)
    read_back = read_canonical(text)
    validate_step_output(read_back, schema=work.tool.output_schema, tool=work.tool.ref.label)
    return replace(draft, output_json=text, output=read_back)


def _close(work: StepWork, draft: _Draft, used: Used) -> StepOutcome:
    failed = draft.failed
    return StepOutcome(
        step_index=work.step.step_index,
        resolved_input_json=draft.input_json,
        output_json=draft.output_json,
        output=draft.output,
        failure=None if failed is None else _failure(work, failed),
        step_hash=step_hash(
            work.previous_hash,
            step_index=work.step.step_index,
            tool=work.tool.ref.label,
            resolved_input=read_canonical(draft.input_json),
            output=draft.output,
            failure_code=None if failed is None else failed.code,
        ),
        schema_failures=_schema_failures(failed),
        used=used,
    )


def _failure(work: StepWork, failed: StepFailed) -> Failure:
    # The scheduler, which has the records, adds what was and was not executed.
    return Failure(
        code=failed.code,
        message=_sendable(failed.message[:MAX_MESSAGE_LENGTH]),
        step=work.step.tool,
        step_index=work.step.step_index,
        reason=None if failed.reason is None else _sendable(failed.reason),
    )


def _sendable(text: str) -> str:
    """The text without halves of characters, which no message of a report can hold."""
    return _UNSENDABLE.sub("\ufffd", text)


def _schema_failures(failed: StepFailed | None) -> tuple[SchemaFailure, ...]:
    return failed.schema_failures if isinstance(failed, SchemaMismatch) else ()


def _may_be_bulky(output: Json) -> bool:
    """A quick guess from the top levels; a wrong one costs a moment, not the result."""
    parts = list(output.values()) if isinstance(output, dict) else [output]
    return any(isinstance(part, str | list | dict) and len(part) > 100 for part in parts)


async def _aside(is_bulky: bool, work: Callable[[], T]) -> T:
    """Do `work` here, or in a thread when it would hold up the event loop."""
    return await asyncio.to_thread(work) if is_bulky else work()


def _take_result(call: asyncio.Task[Json]) -> None:
    if not call.cancelled():
        call.exception()
