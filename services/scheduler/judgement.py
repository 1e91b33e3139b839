"""What becomes of a task that its executor does not end: lost, too late, told to end; pure rules.

A judgement is made on a task as it was read, and carried out only if it has not changed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from libs.core.errors import Failure, FailureCode
from libs.core.lifecycle import TaskState
from services.scheduler.failure_text import with_progress

RECONNECT_SECONDS = 3.0
"""How long an executor may take to come back after its stream has ended."""
CANCEL_GRACE_SECONDS = 5.0
"""How long a cancelled task's step may take to die."""
TASK_TIMEOUT = "TASK_TIMEOUT"
QUEUE_TIMEOUT = "QUEUE_TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTask:
    """A task as a judgement sees it.

    `is_offered`: some living executor offers all its tools. `open_tool` is that of its open step.
    """

    task_id: UUID
    state: TaskState
    seq: int
    lease_token: int
    steps_begun: int
    steps_closed: int
    step_count: int
    is_cancelling: bool
    is_offered: bool
    max_total_seconds: float | None
    open_tool: str | None
    request_id: str = ""

    @property
    def is_step_open(self) -> bool:
        """Whether a step was begun and has not closed."""
        return self.steps_begun > self.steps_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What to do with a task that stands as it was judged: end it as `end`, or free it (None).

    Whoever held its lease has lost it either way.
    """

    task_id: UUID
    seq: int
    lease_token: int
    end: TaskState | None
    failure: Failure | None = None


def judge_lost(task: JudgedTask) -> Settlement:
    """A running task whose executor is gone for good.

    One that was to be cancelled before that is cancelled. Otherwise an open step may have done
    anything: it is never run again. Between two steps another executor goes on.
    """
    if task.is_cancelling:
        return _settled(task, TaskState.CANCELLED)
    if task.is_step_open:
        failure = Failure(
            code=FailureCode.EXECUTOR_LOST,
            message=f"the executor was lost during step {task.steps_begun}, whose outcome is "
            "unknown; it is not run again",
            step=task.open_tool,
            step_index=task.steps_begun,
        )
        return _failed(task, failure)
    return _settled(task, None)


def judge_due(task: JudgedTask) -> Settlement:
    """A task whose patience has ended: a cancelled one, one that ran or waited too long."""
    if task.is_cancelling:
        return _settled(task, TaskState.CANCELLED)
    if task.state is TaskState.QUEUED:
        return _failed(task, _waited_too_long(task))
    said = (
        "the task used up its total time"
        if task.max_total_seconds is None
        else f"the task took longer than {task.max_total_seconds:g} s"
    )
    failure = Failure(
        code=FailureCode.TIMEOUT,
        message=f"{TASK_TIMEOUT}: {said}",
        step=task.open_tool if task.is_step_open else None,
        step_index=task.steps_begun if task.is_step_open else None,
        reason=TASK_TIMEOUT,
    )
    return _failed(task, failure)


def _waited_too_long(task: JudgedTask) -> Failure:
    if not task.is_offered:
        return Failure(
            code=FailureCode.TOOL_UNAVAILABLE,
            message="no executor offered all of its tools while the task waited",
            reason=QUEUE_TIMEOUT,
        )
    return Failure(
        code=FailureCode.TIMEOUT,
        message=f"{QUEUE_TIMEOUT}: the task waited in the queue for longer than it may",
        reason=QUEUE_TIMEOUT,
    )


def _failed(task: JudgedTask, failure: Failure) -> Settlement:
    said = with_progress(
        failure,
        step_count=task.step_count,
        succeeded=task.steps_closed,
        failed_step=task.steps_begun if task.is_step_open else None,
    )
    return _settled(task, TaskState.FAILED, said)


def _settled(task: JudgedTask, end: TaskState | None, failure: Failure | None = None) -> Settlement:
    return Settlement(
        task_id=task.task_id,
        seq=task.seq,
        lease_token=task.lease_token,
        end=end,
        failure=failure,
    )
