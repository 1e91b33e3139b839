"""Use case: cancel a task."""

from __future__ import annotations

from uuid import UUID

from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.core.lifecycle import TaskState
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from libs.rpc.context import Caller, require_scope
from services.scheduler.convert import no_such_task
from services.scheduler.metrics import TASKS
from services.scheduler.model import StoredTask
from services.scheduler.reach import is_bound, seen
from services.scheduler.service import WRITE
from services.scheduler.store import TaskStore
from services.scheduler.wakeups import Signals

WAIT_SECONDS = 6.0
"""Longer than the grace of a step that does not die."""

log = get_logger(__name__)


class CancelService:
    """Ends tasks on request; the first to commit wins, a finished task or the request."""

    def __init__(self, store: TaskStore, *, signals: Signals, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._signals = signals

    async def cancel(self, caller: Caller, task_id: UUID) -> StoredTask:
        """The task once it has ended, at the latest after 6 s.

        No step starts any more when this has committed its request. PawlError: not_found; conflict
        when the task had ended before anybody asked.
        """
        require_scope(caller, WRITE)
        if is_bound(caller):
            seen(caller, await self._store.get(caller.tenant_id, task_id))
        with self._signals.ended.flag(task_id) as flag:
            task = await self._store.cancel(caller.tenant_id, task_id)
            if task is not None:
                self._tell(task)
            else:
                # It has ended, or somebody has asked before.
                task = await self._store.get(caller.tenant_id, task_id)
                if task is None:
                    raise no_such_task()
                if task.state.is_terminal:
                    raise PawlError("conflict", f"the task has ended already: {task.state.value}")
            end = self._clock.monotonic() + WAIT_SECONDS
            while not task.state.is_terminal and (left := end - self._clock.monotonic()) > 0:
                self._signals.check_open()
                await flag.wait(left)
                flag.clear()
                task = await self._again(task)
        return task

    def _tell(self, task: StoredTask) -> None:
        pass_crash_point("cancel.after_commit_before_kill")
        log.debug("task cancelled", task_id=str(task.id), state=task.state.value)
        if task.state is TaskState.CANCELLED:
            TASKS.labels(task.state.value).inc()
            self._signals.committed(ended=[task.id])
        else:
            self._signals.committed(changed=[task.id])
        # Also when it has ended: an executor may hold it between two steps.
        self._signals.cancelling([task.id])

    async def _again(self, task: StoredTask) -> StoredTask:
        found = await self._store.get(task.tenant_id, task.id)
        if found is None:
            raise no_such_task()
        return found
