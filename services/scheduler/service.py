"""Use cases on single tasks: submit, look, wait, read the trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from uuid import UUID

from libs.core.clock import Clock
from libs.core.errors import Failure, PawlError
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.db.wakeups import Wakeup
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from libs.rpc.context import Caller, current, require_scope
from services.scheduler.admission import (
    admit,
    check_same_request,
    check_wait,
    key_reused,
    tier_bounds,
)
from services.scheduler.clients import PlannerClient
from services.scheduler.failure_text import with_progress
from services.scheduler.metrics import TASKS
from services.scheduler.model import (
    Admitted,
    FrozenPlan,
    IdempotencyKey,
    NewTask,
    StoredTask,
    Submission,
    Submitted,
    TracePart,
    Waiting,
)
from services.scheduler.reach import check_submission, is_bound, may_see, seen
from services.scheduler.replay_comparison import compare_with_original
from services.scheduler.store import TaskStore
from services.scheduler.trace_pages import EVENTS_PER_PAGE, open_step, step_ranges
from services.scheduler.waiting import why_waiting
from services.scheduler.wakeups import Signals

READ = "tasks:read"
WRITE = "tasks:write"

log = get_logger(__name__)

OnQueued = Callable[[tuple[str, ...]], None]
"""Told the exact tools of a task that was just queued."""


class TaskService:
    """Tasks as callers see them; every method acts for the caller's tenant alone."""

    def __init__(
        self,
        store: TaskStore,
        *,
        planner: PlannerClient,
        signals: Signals,
        on_queued: OnQueued,
        clock: Clock,
        new_id: Callable[[], UUID] = new_id,
    ) -> None:
        self._store = store
        self._new_id = new_id
        self._clock = clock
        self._planner = planner
        self._signals = signals
        self._on_queued = on_queued

    async def submit(self, caller: Caller, submission: Submission) -> Submitted:
        """Plan and store a task, or answer with the one that the idempotency key names.

        A refusal (PawlError) leaves nothing behind. An input that nobody can plan is stored as
        failed. permission_denied: the key is bound to other agents, or to definitions.
        """
        require_scope(caller, WRITE)
        check_submission(caller, submission.agent)
        admitted = admit(submission, now=self._clock.now())
        if admitted.idempotency is not None:
            earlier = await self.earlier(caller, admitted.idempotency, submission.wait_seconds)
            if earlier is not None:
                return earlier
        planned = await self.plan(caller, submission, admitted)
        task = new_task(self._new_id(), caller, submission, admitted, planned)
        return await self.accept(caller, task, planned, wait_seconds=submission.wait_seconds)

    async def plan(
        self, caller: Caller, submission: Submission, admitted: Admitted
    ) -> FrozenPlan | Failure:
        """The planner's plan, or why nobody could make one. PawlError: what it refuses."""
        return await self._planner.build(
            tenant_id=caller.tenant_id,
            task_input=admitted.task_input,
            plan_json=submission.plan_json,
            asked=submission.asked,
            tier=tier_bounds(caller.limits),
            test_mode=caller.mode == "test",
        )

    async def accept(
        self, caller: Caller, task: NewTask, planned: FrozenPlan | Failure, *, wait_seconds: float
    ) -> Submitted:
        """Store a new task, failed when nobody could plan it, and wait for its end as long as
        asked; the one that its idempotency key names when another was faster.
        """
        with self._signals.ended.flag(task.id) as flag:
            stored = await self._write(task, planned)
            if stored is None:
                return await self._lost_race(caller, task.idempotency, wait_seconds)
            if wait_seconds > 0 and not stored.state.is_terminal:
                end = self._clock.monotonic() + wait_seconds
                # The flag is older than the task: nothing can have been missed, so nothing is read
                # yet.
                if not self._signals.is_closing:
                    await flag.wait(wait_seconds)
                left = max(0.0, end - self._clock.monotonic())
                stored = await self._until_ended(caller, stored.id, flag, left)
            return Submitted(task=stored, replayed=False)

    async def earlier(
        self, caller: Caller, given: IdempotencyKey, wait_seconds: float
    ) -> Submitted | None:
        """The task that an idempotency key names already, None when it is free.

        PawlError idempotency_key_reused when it stands for another request, or for a task that the
        caller's key may not see.
        """
        holder = await self._store.read_key(caller.tenant_id, caller.mode, given.key)
        if holder is None:
            return None
        check_same_request(given, holder)
        (task_id,) = holder.task_ids
        if is_bound(caller):
            held = await self._store.get(caller.tenant_id, task_id)
            if held is None or not may_see(caller, held):
                raise key_reused()
        with self._signals.ended.flag(task_id) as flag:
            task = await self._until_ended(caller, task_id, flag, wait_seconds)
        return Submitted(task=task, replayed=True)

    async def get(self, caller: Caller, task_id: UUID, *, wait_seconds: float) -> StoredTask:
        """The task as it stands, or as it stands when it has ended or the time is up (at most 25
        s), or the caller's token ends.
        """
        require_scope(caller, READ)
        check_wait(wait_seconds)
        wait_seconds = min(wait_seconds, caller.seconds_left(self._clock.now()))
        with self._signals.ended.flag(task_id) as flag:
            return await self._until_ended(caller, task_id, flag, wait_seconds)

    async def waiting(self, task: StoredTask) -> Waiting | None:
        """Why a task waits; None when it does not."""
        if not task.is_waiting:
            return None
        view = await self._store.queue_view(task.tenant_id, task.id)
        return None if view is None else why_waiting(view)

    async def trace(self, caller: Caller, task_id: UUID) -> AsyncIterator[TracePart]:
        """The trace in pages of at most 200 events or steps and about 2 MiB.

        All pages show the moment at which the head was read: events and steps are append only, so
        what the head's own counters cover is what was committed with it. No transaction stays open
        for a slow reader.
        """
        require_scope(caller, READ)
        head = seen(caller, await self._store.get(caller.tenant_id, task_id))
        waiting = await self.waiting(head)
        comparison = await compare_with_original(self._store, head)
        first: StoredTask | None = head
        for after in range(0, head.seq, EVENTS_PER_PAGE):
            events = await self._store.events(
                head.tenant_id, head.id, after=after, up_to=head.seq, limit=EVENTS_PER_PAGE
            )
            yield TracePart(
                head=first, waiting=waiting, comparison=comparison, events=tuple(events)
            )
            first = waiting = comparison = None
        tools = {tool.name: tool for tool in head.tool_set}
        if head.steps_closed:
            for begin, end in step_ranges(await self._store.step_sizes(head)):
                steps = await self._store.steps(head, first=begin, last=end)
                yield TracePart(steps=tuple((step, tools[name]) for step, name in steps))
        if (unfinished := open_step(head, last_event=events[-1])) is not None:
            step, name = unfinished
            yield TracePart(steps=((step, tools[name]),))

    async def _write(self, task: NewTask, planned: FrozenPlan | Failure) -> StoredTask | None:
        pass_crash_point("create.before_commit")
        failure = unplanned(planned)
        if failure is not None:
            stored = await self._store.submit_failed(task, failure)
        else:
            stored = await self._store.submit(task)
        if stored is None:
            return None
        pass_crash_point("create.after_commit_before_reply")
        self.committed([(task, stored)])
        return stored

    def committed(self, tasks: Sequence[tuple[NewTask, StoredTask]]) -> None:
        """Tell whoever has to know that these new tasks were committed."""
        queued = []
        for task, stored in tasks:
            TASKS.labels(stored.state.value).inc()
            log.debug("task stored", task_id=str(stored.id), state=stored.state.value)
            if stored.state is TaskState.QUEUED:
                queued.append(task)
        self._signals.committed()
        if len(queued) == 1:
            self._on_queued(tuple(tool.offer for tool in queued[0].called_tools))
        elif queued:
            # More than one executor may be needed.
            self._signals.work_has_come()

    async def _lost_race(
        self, caller: Caller, key: IdempotencyKey | None, wait_seconds: float
    ) -> Submitted:
        """The loser of a key drops its plan and reads the winner: a new statement can see it."""
        if key is not None:
            winner = await self.earlier(caller, key, wait_seconds)
            if winner is not None:
                return winner
        raise just_expired()

    async def _until_ended(
        self, caller: Caller, task_id: UUID, flag: Wakeup, wait_seconds: float
    ) -> StoredTask:
        end = self._clock.monotonic() + wait_seconds
        while True:
            flag.clear()
            task = seen(caller, await self._store.get(caller.tenant_id, task_id))
            left = end - self._clock.monotonic()
            if task.state.is_terminal or left <= 0 or self._signals.is_closing:
                return task
            await flag.wait(left)


def just_expired() -> PawlError:
    """The key's 24 hours ended between two statements: sent again, it is a new one."""
    message = "the idempotency key has just expired; send it again"
    return PawlError("unavailable", message, retry_after_seconds=1)


def unplanned(planned: FrozenPlan | Failure) -> Failure | None:
    """Why a task fails that nobody could plan, None when somebody could."""
    if isinstance(planned, Failure):
        return with_progress(planned, step_count=0, succeeded=0)
    return None


def new_task(
    task_id: UUID,
    caller: Caller,
    submission: Submission,
    admitted: Admitted,
    planned: FrozenPlan | Failure,
) -> NewTask:
    """What is stored for an admitted submission."""
    context = current()
    return NewTask(
        id=task_id,
        tenant_id=caller.tenant_id,
        mode=caller.mode,
        task_input=admitted.task_input,
        priority=submission.priority,
        frozen=None if isinstance(planned, Failure) else planned,
        idempotency=admitted.idempotency,
        request_id=context.request_id,
        traceparent=context.traceparent,
        scheduled_at=submission.scheduled_at,
        tenant_limit=caller.limits.max_concurrent_tasks,
        agent=submission.agent,
    )
