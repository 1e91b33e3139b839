"""What tests of the executor share: assignments, a clock that stands, tools that remember."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from libs.core.canonical import Json
from libs.core.errors import StepFailed
from libs.core.plan import Limits, Plan, Step
from libs.core.prices import FREE, Prices
from libs.core.tool_spec import ToolExample, ToolSpec
from services.executor.model import AckStatus, Report, TaskAssignment, Used
from services.executor.service import ExecutorService
from services.executor.step_runner import StepRunner
from services.executor.tools.recorded import RecordedAnswer
from services.executor.tools.registry import ToolRegistry, built_in_tools
from services.executor.tools.tool import NewArtifact, Tool, ToolContext
from services.executor.usage import Usage

TASK_ID = UUID("0193f9c8-0000-7000-8000-000000000001")
TENANT_ID = UUID("0193f9c8-0000-7000-8000-0000000000aa")
CREATED_AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLAN_HASH = "ab" * 32
ANYTHING: dict[str, Json] = {}


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return CREATED_AT

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class FakeArtifacts:
    """Remembers what was put; answers its SHA-256, `answer`, or `failure`."""

    stored: list[NewArtifact] = field(default_factory=list)
    answer: str | None = None
    failure: StepFailed | None = None

    async def put(self, artifact: NewArtifact) -> str:
        if self.failure is not None:
            raise self.failure
        self.stored.append(artifact)
        return self.answer or hashlib.sha256(artifact.data_json.encode()).hexdigest()


@dataclass
class FakeRecordings:
    """Answers step k with the k-th of `answers`; remembers what was asked."""

    answers: Sequence[RecordedAnswer] = ()
    asked: list[tuple[int, int, str]] = field(default_factory=list)

    async def recall(
        self, *, task_id: UUID, lease_token: int, step_index: int, input_sha256: str
    ) -> RecordedAnswer:
        assert task_id == TASK_ID
        self.asked.append((lease_token, step_index, input_sha256))
        return self.answers[step_index - 1]


Call = Callable[[dict[str, Json], ToolContext], Awaitable[Json]]


class FakeTool:
    """A tool named `fake` that does what the test says and remembers its calls."""

    def __init__(
        self,
        call: Call,
        *,
        name: str = "fake",
        input_schema: dict[str, Json] | None = None,
        output_schema: dict[str, Json] | None = None,
        examples: tuple[ToolExample, ...] = (),
    ) -> None:
        self.spec = ToolSpec(
            name=name,
            version="1",
            description="For tests.",
            input_schema=ANYTHING if input_schema is None else input_schema,
            output_schema=ANYTHING if output_schema is None else output_schema,
            examples=examples,
        )
        self.calls: list[dict[str, Json]] = []
        self._call = call

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        self.calls.append(arguments)
        return await self._call(arguments, context)


class Gate:
    """A tool call that begins, then waits until it is let go or cancelled."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        del context
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return {"input": arguments}


class Stubborn:
    """A tool call that does not end when it is stopped, only when it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        del context
        self.entered.set()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
        return {"input": arguments}


class FakeReporter:
    """Acknowledges reports with the given statuses, then with OK; remembers the reports."""

    def __init__(self, *statuses: AckStatus) -> None:
        self.reports: list[Report] = []
        self._statuses = list(statuses)

    async def report(self, report: Report) -> AckStatus:
        self.reports.append(report)
        return self._statuses.pop(0) if self._statuses else AckStatus.OK


async def echo(arguments: dict[str, Json], context: ToolContext) -> Json:
    """A tool call that answers its input."""
    del context
    return arguments


def answering(value: Json) -> Call:
    """A tool call that answers `value`."""

    async def call(arguments: dict[str, Json], context: ToolContext) -> Json:
        del arguments, context
        return value

    return call


def raising(error: BaseException) -> Call:
    """A tool call that raises `error`."""

    async def call(arguments: dict[str, Json], context: ToolContext) -> Json:
        del arguments, context
        raise error

    return call


def make_context(artifacts: FakeArtifacts | None = None) -> ToolContext:
    """What a tool gets to know."""
    return ToolContext(
        task_id=TASK_ID,
        tenant_id=TENANT_ID,
        step_index=1,
        created_at=CREATED_AT,
        mode="live",
        seconds=None,
        artifacts=artifacts or FakeArtifacts(),
        usage=Usage(Limits(), before=Used()),
    )


def make_registry(*tools: Tool) -> ToolRegistry:
    """The shipped tools and these."""
    return ToolRegistry((*built_in_tools(), *tools))


def make_assignment(
    *steps: tuple[str, Json],
    registry: ToolRegistry | None = None,
    task_input: Json = None,
    limits: Limits | None = None,
    closed_outputs: Iterable[Json] = (),
    used: Used | None = None,
    seconds_left: float | None = None,
    clock: FakeClock | None = None,
) -> TaskAssignment:
    """A task of these steps (tool, input), with the tool set of `registry`."""
    plan = Plan(
        steps=tuple(
            Step(step_index=index, tool=tool, input=value)
            for index, (tool, value) in enumerate(steps, start=1)
        ),
        limits=limits or Limits(),
    )
    names = {tool for tool, _ in steps}
    return TaskAssignment(
        task_id=TASK_ID,
        tenant_id=TENANT_ID,
        lease_token=7,
        plan=plan,
        tool_set=tuple(ref for ref in (registry or make_registry()).refs if ref.name in names),
        task_input={} if task_input is None else task_input,
        plan_hash=PLAN_HASH,
        closed_outputs=tuple(closed_outputs),
        last_step_hash="cd" * 32 if closed_outputs else None,
        used=used or Used(),
        seconds_left=seconds_left,
        received_at=(clock or FakeClock()).monotonic(),
        created_at=CREATED_AT,
        mode="live",
    )


def make_service(
    registry: ToolRegistry | None = None,
    *,
    clock: FakeClock | None = None,
    artifacts: FakeArtifacts | None = None,
    recordings: FakeRecordings | None = None,
    prices: Prices = FREE,
) -> ExecutorService:
    """The use case over fakes."""
    clock = clock or FakeClock()
    runner = StepRunner(artifacts=artifacts or FakeArtifacts(), clock=clock, prices=prices)
    return ExecutorService(
        registry or make_registry(),
        runner=runner,
        recordings=recordings or FakeRecordings(),
        clock=clock,
    )
