"""What the scheduler speaks of: tasks, steps, events, streams of executors and their reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from libs.core.comparison import Comparison
from libs.core.errors import Failure
from libs.core.lifecycle import TaskState
from libs.core.plan import Limits, Plan
from libs.core.tool_spec import ToolRef
from services.scheduler.replay_model import ReplayOf


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A caller's key, and the SHA-256 (hex) of the request that it stands for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The agent that a task belongs to, and how many of its tasks may run at once (None: any)."""

    agent_id: UUID
    max_concurrent_tasks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a caller asks for, before anything is checked."""

    task_input_json: str
    plan_json: str | None
    asked: Limits
    priority: int
    key: str | None
    fingerprint: str
    wait_seconds: float
    scheduled_at: datetime | None = None
    agent: Agent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A submission that may go on to the planner; the input is canonical JSON text."""

    task_input: str
    idempotency: IdempotencyKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPlan:
    """A validated plan, tied to exact tools."""

    plan: Plan
    tool_set: tuple[ToolRef, ...]
    plan_hash: str
    planned_by: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A task about to be stored: created without a plan, else planned until its time, or queued.

    `tenant_limit` is how many tasks of the tenant may run at once; None: any number.
    """

    id: UUID
    tenant_id: UUID
    mode: str
    task_input: str
    priority: int
    frozen: FrozenPlan | None
    idempotency: IdempotencyKey | None
    request_id: str
    traceparent: str
    scheduled_at: datetime | None = None
    tenant_limit: int | None = None
    agent: Agent | None = None
    replay: ReplayOf | None = None

    @property
    def called_tools(self) -> tuple[ToolRef, ...]:
        """The tools that an executor must offer to run it."""
        recorded = None if self.replay is None else self.replay.recorded_tools
        tools = () if self.frozen is None else self.frozen.tool_set
        return tuple(tool for tool in tools if tool.name not in (recorded or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """A task as its row says. `plan`, `task_input` and `result` are canonical JSON text.

    `clock_at` is the time that tools are shown: its creation, of a replay its original's clock.
    """

    id: UUID
    tenant_id: UUID
    state: TaskState
    seq: int
    mode: str
    priority: int
    task_input: str
    plan: str | None
    plan_hash: str
    tool_set: tuple[ToolRef, ...]
    planned_by: str
    planner_note: str | None
    steps_begun: int
    steps_closed: int
    step_started_at: datetime | None
    result: str | None
    failure: Failure | None
    cost_usd: float
    created_at: datetime
    execution_started_at: datetime | None
    finished_at: datetime | None
    replay: ReplayOf | None
    clock_at: datetime
    task_hash: str
    scheduled_at: datetime | None
    cancel_requested_at: datetime | None
    tokens_used: int
    agent: Agent | None
    is_held: bool

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its time, or for an executor."""
        return self.state in {TaskState.PLANNED, TaskState.QUEUED} or (
            self.state is TaskState.RUNNING and not self.is_held
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The answer to a submission; `replayed` when its key named an earlier task."""

    task: StoredTask
    replayed: bool


class EventType(StrEnum):
    """What an event of a task can be about."""

    STATUS_TRANSITION = "status_transition"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    CANCEL_REQUESTED = "cancel_requested"
    PLAN_VALIDATION_FAILED = "plan_validation_failed"
    PROGRESS = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One row of the event table; `position` is its place in the bus, if it was read there."""

    task_id: UUID
    seq: int
    type: str
    from_state: TaskState | None
    to_state: TaskState
    at: datetime
    data: str
    position: int | None = None


class StepStatus(StrEnum):
    """How a step stands. Only succeeded and failed are rows of their own."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """What is recorded of one started step; the texts are canonical JSON."""

    step_index: int
    status: StepStatus
    started_at: datetime | None
    finished_at: datetime | None = None
    resolved_input: str | None = None
    output: str | None = None
    failure: Failure | None = None
    step_hash: str = ""
    schema_failures: str = ""
    cost_usd: float = 0.0
    tokens: int = 0
    sandbox_ms: int = 0


class WaitReason(StrEnum):
    """What a task waits for."""

    SCHEDULED = "scheduled"
    NO_EXECUTOR = "no_executor"
    TENANT_LIMIT = "tenant_limit"
    AGENT_LIMIT = "agent_limit"
    NO_SLOT = "no_slot"
    TURN = "turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why it waits, the same in a sentence, and its place in the whole queue from 1, if known."""

    reason: WaitReason
    detail: str
    position: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePart:
    """One page of a trace; `head`, why it waits if it does, and of a replay what it came to beside
    its original, in the first only.
    """

    head: StoredTask | None = None
    waiting: Waiting | None = None
    comparison: Comparison | None = None
    events: tuple[StoredEvent, ...] = ()
    steps: tuple[tuple[StoredStep, ToolRef], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """A task that an executor says it still runs."""

    task_id: UUID
    lease_token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorHello:
    """An executor's first words. `offers` are the exact tools, as ToolRef.offer."""

    executor_id: str
    boot_id: UUID
    slots: int
    offers: tuple[str, ...]
    running: tuple[RunningTask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One Work stream: the boot that it serves, under the lease of `stream_id`."""

    boot_id: UUID
    stream_id: UUID
    executor_id: str
    slots: int
    offers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a claim took. `is_limited`: tasks wait that only the end of others can let in."""

    tasks: tuple[Assigned, ...]
    is_limited: bool


class Renewal(StrEnum):
    """How a renewal fared; refused: the boot has ended or has a newer stream."""

    IN_TIME = "in_time"
    AFTER_LAPSE = "after_lapse"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A task leased to a boot, with all that its executor needs.

    `task_input` is canonical JSON text. `seconds_left` until the total deadline by the database's
    clock; 0: none. `clock_at` is the time that tools are shown. The steps of `recorded_tools` are
    not run but answered from the task that this one replays.
    """

    task_id: UUID
    tenant_id: UUID
    lease_token: int
    plan: Plan
    tool_set: tuple[ToolRef, ...]
    task_input: str
    plan_hash: str
    closed_outputs: tuple[str, ...]
    last_step_hash: str
    seconds_left: float
    clock_at: datetime
    mode: str
    traceparent: str
    request_id: str
    is_step_open: bool
    is_cancelling: bool = False
    tokens_used: int = 0
    cost_usd: float = 0.0
    recorded_tools: frozenset[str] = frozenset()

    @property
    def step_count(self) -> int:
        """How many steps the plan has."""
        return len(self.plan.steps)

    def tool_of(self, step_index: int) -> str:
        """The tool's name of a step that the plan has."""
        return self.plan.steps[step_index - 1].tool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepClosed:
    """A step that ended, with output or failure."""

    step_index: int
    resolved_input: str
    output: str | None
    failure: Failure | None
    step_hash: str
    schema_failures: str
    cost_usd: float
    tokens: int = 0
    sandbox_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """A task's end as its executor sees it: succeeded, failed with a failure, or cancelled.

    The rest is what a step used that was killed, so that it never closed.
    """

    state: TaskState
    failure: Failure | None
    cost_usd: float = 0.0
    tokens: int = 0
    sandbox_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to one task: a step closed, the next began, the task ended."""

    task_id: UUID
    lease_token: int
    closed: StepClosed | None = None
    begins: int | None = None
    end: TaskEnd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A report as it is written: under a boot, with the tools' names that its events carry."""

    report: Report
    boot_id: UUID
    closed_tool: str | None
    begins_tool: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """An order to stop a task. `is_cancel`: its end is to be reported once its step is dead."""

    task_id: UUID
    lease_token: int
    reason: str
    is_cancel: bool


class Verdict(StrEnum):
    """How a report fared."""

    OK = "OK"
    SEEN = "SEEN"
    STALE_LEASE = "STALE_LEASE"
    LATE = "LATE"
    TERMINAL = "TERMINAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """The verdict on a report, and the terminal state that it led to, if any."""

    verdict: Verdict
    ended: TaskState | None = None
