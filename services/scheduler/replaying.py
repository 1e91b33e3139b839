"""Use case of replaying: a new task does once more what one that has ended did."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from libs.core.canonical import read_canonical
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.core.plan import plan_from_json
from libs.rpc.context import Caller, current, require_scope
from services.scheduler.admission import check_wait, idempotency_key, tier_bounds
from services.scheduler.clients import PlannerClient
from services.scheduler.model import FrozenPlan, IdempotencyKey, NewTask, StoredTask, Submitted
from services.scheduler.reach import check_submission, seen
from services.scheduler.replay_model import ReplayMode, ReplayOf, ReplayRequest
from services.scheduler.service import READ, WRITE, TaskService
from services.scheduler.store import TaskStore


class ReplayService:
    """Replays as callers see them; acts for the caller's tenant alone."""

    def __init__(
        self,
        tasks: TaskService,
        *,
        store: TaskStore,
        planner: PlannerClient,
        new_id: Callable[[], UUID] = new_id,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._planner = planner
        self._new_id = new_id

    async def replay(self, caller: Caller, request: ReplayRequest) -> Submitted:
        """Store a task with the frozen plan, input, limits and clock of one that has ended, or
        answer with the one that the idempotency key names.

        A refusal (PawlError) leaves nothing behind: not_found, permission_denied for a key that is
        bound to definitions, conflict, and what the planner says of a plan that may not run any
        more.
        """
        require_scope(caller, WRITE)
        # Its answer says what the original's said.
        require_scope(caller, READ)
        check_wait(request.wait_seconds)
        if caller.allowed_task_ids is not None:
            check_submission(caller, None)
        key = idempotency_key(request.key, request.fingerprint)
        if key is not None:
            earlier = await self._tasks.earlier(caller, key, request.wait_seconds)
            if earlier is not None:
                return earlier
        original = seen(caller, await self._store.get(caller.tenant_id, request.task_id))
        frozen = frozen_plan_of(original)
        is_recorded = request.mode is ReplayMode.RECORDED
        recorded = await self._planner.admit(
            frozen,
            tenant_id=caller.tenant_id,
            tier=tier_bounds(caller.limits),
            test_mode=caller.mode == "test",
            recorded=is_recorded,
        )
        replay = ReplayOf(
            task_id=original.id,
            clock_at=original.clock_at,
            recorded_tools=recorded if is_recorded else None,
        )
        task = self._new_task(caller, original, frozen, key=key, replay=replay)
        return await self._tasks.accept(caller, task, frozen, wait_seconds=request.wait_seconds)

    def _new_task(
        self,
        caller: Caller,
        original: StoredTask,
        frozen: FrozenPlan,
        *,
        key: IdempotencyKey | None,
        replay: ReplayOf,
    ) -> NewTask:
        context = current()
        return NewTask(
            id=self._new_id(),
            tenant_id=caller.tenant_id,
            mode=caller.mode,
            task_input=original.task_input,
            priority=0,
            frozen=frozen,
            idempotency=key,
            request_id=context.request_id,
            traceparent=context.traceparent,
            tenant_limit=caller.limits.max_concurrent_tasks,
            agent=original.agent,
            replay=replay,
        )


def frozen_plan_of(original: StoredTask) -> FrozenPlan:
    """The plan of a task that can be replayed. PawlError conflict: it cannot, and why."""
    if not original.state.is_terminal:
        raise PawlError(
            "conflict",
            f"the task is {original.state}; only a task that has ended can be replayed",
        )
    if original.plan is None:
        code = "" if original.failure is None else f" with {original.failure.code}"
        raise PawlError(
            "conflict",
            f"the task is {original.state}{code} and was never planned, so there is no plan to "
            "replay; submit its input as a new task",
        )
    return FrozenPlan(
        plan=plan_from_json(read_canonical(original.plan)),
        tool_set=original.tool_set,
        plan_hash=original.plan_hash,
        planned_by=original.planned_by,
        note=original.planner_note,
    )
