"""The trace of a task as records, and its hashes checked offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from libs.client.reading import Unexpected, read
from libs.client.tasks import ENDED, Event, Failure, Queue
from libs.core import verification
from libs.core.plan import Plan
from libs.core.recorded_trace import NotATrace
from libs.core.verification import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step that was started. Interrupted: it never finished, and is never run again."""

    step_index: int
    tool_name: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None
    input: Any = None
    output: Any = None
    error: str | None = None
    failure: Failure | None = None
    tool_version: str = ""
    step_hash: str | None = None
    cost_usd: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts, durations in milliseconds and hashes."""

    total_steps: int
    total_duration_ms: int
    task_hash: str | None
    step_hashes: tuple[str, ...]
    succeeded_steps: int = 0
    failed_steps: int = 0
    running_steps: int = 0
    interrupted_steps: int = 0
    tokens: int = 0
    sandbox_runs: int = 0
    queue_latency_ms: int | None = None
    retry_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first thing in which two runs differ. `step_index` None: the whole task."""

    step_index: int | None
    field: str
    original: Any
    replayed: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replay beside its original. `matches` is None while nothing differs and it goes on."""

    of_task_id: str
    mode: str
    matches: bool | None
    first_divergence: Divergence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedStep:
    """What a step's hash is computed from."""

    step_index: int
    tool: str
    tool_version: str
    tool_digest: str
    status: str
    failure_code: str | None
    step_hash: str | None
    resolved_input: Any = None
    output: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All that is needed to check the hashes. `state` is Pawl's own word, also for cancelled."""

    recipe: str
    task_input: Any
    plan: Plan | None
    tool_set: tuple[tuple[str, str, str], ...]
    plan_hash: str | None
    state: str
    failure_code: str | None
    steps: tuple[VerifiedStep, ...]
    task_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Everything that happened to a task. `raw` is the answer itself: save that to verify it."""

    task_id: str
    status: str
    failure: Failure | None
    events: tuple[Event, ...]
    steps: tuple[StepRecord, ...]
    summary: Summary
    verification: Verification
    estimated_cost_usd: float = 0.0
    replay_of_task_id: str | None = None
    scheduled_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    queue: Queue | None = None
    plan_validation_failures: tuple[Mapping[str, Any], ...] = ()
    runtime_schema_failures: tuple[Mapping[str, Any], ...] = ()
    replay: Replay | None = None
    version: str = ""
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def has_ended(self) -> bool:
        """Whether the task will never change again."""
        return self.status in ENDED

    def verify(self, *, expected_task_hash: str | None = None) -> Report:
        """Compute every hash again, without any server, as `verify`. Raises NotATrace."""
        return verify(self.raw, expected_task_hash=expected_task_hash)


def read_trace(value: object) -> Trace:
    """The trace that JSON spells, such as what a file holds. Raises NotATrace."""
    try:
        return read(Trace, value)
    except Unexpected as error:
        raise NotATrace(str(error)) from error
    except RecursionError as error:
        raise NotATrace("the trace is nested too deeply") from error


def verify(trace: Trace | Mapping[str, Any], *, expected_task_hash: str | None = None) -> Report:
    """Compute every hash of a trace again, without any server. Raises NotATrace.

    A hash is no signature: give the task hash that was kept elsewhere, if there is one. The
    verification block of a trace alone will do.
    """
    raw = trace.raw if isinstance(trace, Trace) else trace
    return verification.verify(dict(raw), expected_task_hash=expected_task_hash)
