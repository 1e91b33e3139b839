"""What the executor speaks of: an assignment, how its steps close, and what it reports.

A TaskAssignment is what the scheduler ordered. Running a step gives a StepOutcome: its resolved
input, its output or its failure, and its hash. A Report tells the scheduler that a step closed,
that the next is about to begin, that the task ended, or these together; the answer to it is an
AckStatus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

from libs.core.canonical import Json
from libs.core.errors import Failure
from libs.core.lifecycle import TaskState
from libs.core.plan import Plan
from libs.core.tool_spec import ToolRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Model tokens, US dollars and milliseconds in a sandbox that were used."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    sandbox_ms: int = 0

    def __add__(self, other: Used) -> Used:
        """Both together."""
        return Used(
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            sandbox_ms=self.sandbox_ms + other.sandbox_ms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAssignment:
    """A task to run, frozen.

    `lease_token` goes into every report. `closed_outputs` are those of the steps that another
    executor closed, from step 1 on; `last_step_hash` is the hash of the last of them, `used` what
    they used together.
    `seconds_left` is what was left of the total time when the assignment was sent, None without a
    bound; it counts from `received_at`, on the monotonic clock. `size_bytes` is the size of all its
    JSON texts. `created_at` is the clock that tools are shown. `tool_set` are the tools that are
    called; the steps of `recorded_tools` are answered from a record.
    """

    task_id: UUID
    tenant_id: UUID
    lease_token: int
    plan: Plan
    tool_set: tuple[ToolRef, ...]
    task_input: Json
    plan_hash: str
    closed_outputs: tuple[Json, ...] = ()
    last_step_hash: str | None = None
    used: Used = Used()
    seconds_left: float | None
    received_at: float
    created_at: datetime
    mode: str
    size_bytes: int = 0
    recorded_tools: tuple[ToolRef, ...] = ()
    traceparent: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFailure:
    """One place where a step's input or output breaks its schema; `where` is input or output."""

    path: str
    message: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    """How a step closed. A failed step has a failure and no output.

    `resolved_input_json` and `output_json` are canonical JSON texts, exactly what `step_hash`
    covers; `output` is `output_json` read back: what later steps get to see.
    """

    step_index: int
    resolved_input_json: str
    output_json: str | None
    output: Json = field(repr=False)
    failure: Failure | None
    step_hash: str
    schema_failures: tuple[SchemaFailure, ...] = ()
    used: Used = Used()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKilled:
    """A step that a cancellation killed: it has no outcome, but it used something."""

    used: Used


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """How a task ended here: succeeded, failed with a failure, or cancelled because that was
    asked. `used` is what a step used that was killed for it and so never closed.
    """

    state: TaskState
    failure: Failure | None = None
    used: Used = Used()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to one task: a step closed, the next is about to begin, the task ended."""

    finished: StepOutcome | None = None
    started_step_index: int | None = None
    end: TaskEnd | None = None


class AckStatus(Enum):
    """How the scheduler took a report."""

    OK = "ok"
    SEEN = "seen"
    STALE_LEASE = "stale_lease"
    LATE = "late"
    TERMINAL = "terminal"

    @property
    def may_go_on(self) -> bool:
        """Whether the report stands and the task is still this executor's to run."""
        return self in {AckStatus.OK, AckStatus.SEEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBoots:
    """Boots that have ended, and boots that nobody knows."""

    ended: frozenset[str]
    unknown: frozenset[str]
