"""How long a step may take: its own bound, and what is left of the task's total time."""

from __future__ import annotations

from dataclasses import dataclass

from libs.core.errors import FailureCode, StepFailed
from libs.core.plan import Plan
from services.executor.model import TaskAssignment

STEP_TIMEOUT = "STEP_TIMEOUT"
TASK_TIMEOUT = "TASK_TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Seconds until a step is ended, None without a bound; `word` says which bound ends it."""

    seconds: float | None
    word: str

    def is_exceeded_by(self, elapsed: float) -> bool:
        """Whether a step that took `elapsed` seconds took too long."""
        return self.seconds is not None and elapsed > self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The time bounds of one task. `deadline` is on the monotonic clock; None means no bound."""

    max_step_seconds: float | None
    deadline: float | None
    max_total_seconds: float | None = None

    def allowance(self, now: float) -> Allowance:
        """What a step that begins `now` may take."""
        left = None if self.deadline is None else max(0.0, self.deadline - now)
        if left is not None and (self.max_step_seconds is None or left <= self.max_step_seconds):
            return Allowance(seconds=left, word=TASK_TIMEOUT)
        return Allowance(seconds=self.max_step_seconds, word=STEP_TIMEOUT)

    def is_over(self, now: float) -> bool:
        """Whether the task's total time is used up."""
        return self.deadline is not None and now >= self.deadline

    def timed_out(self, word: str) -> StepFailed:
        """The failure of a task or step whose time ran out."""
        if word == STEP_TIMEOUT:
            said = f"{STEP_TIMEOUT}: the step took longer than {self.max_step_seconds:g} s"
        elif self.max_total_seconds is None:
            said = f"{TASK_TIMEOUT}: the task used up its total time"
        else:
            said = f"{TASK_TIMEOUT}: the task took longer than {self.max_total_seconds:g} s"
        return StepFailed(FailureCode.TIMEOUT, said, reason=word)


def bounds_of(assignment: TaskAssignment) -> Bounds:
    """The bounds of an assignment; its total time counts from when it was received."""
    left = assignment.seconds_left
    return Bounds(
        max_step_seconds=assignment.plan.limits.max_step_seconds,
        deadline=None if left is None else assignment.received_at + left,
        max_total_seconds=assignment.plan.limits.max_total_seconds,
    )


def check_steps(plan: Plan) -> None:
    """StepFailed(STEP_LIMIT) when the plan has more steps than its own limit; a planner refuses it
    before.
    """
    limit = plan.limits.max_steps
    if limit is not None and len(plan.steps) > limit:
        raise StepFailed(
            FailureCode.STEP_LIMIT, f"the plan has {len(plan.steps)} steps; {limit} are allowed"
        )
