"""Ends what nobody else brings to an end: judges leases, lost executors, and tasks that are due.

Every scheduler sweeps; what two of them decide at once is carried out once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from libs.core.clock import Clock
from libs.core.lifecycle import TaskState
from libs.db.outage import Outage, is_outage, pause
from libs.db.wakeups import Wakeup
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from services.scheduler.judgement import JudgedTask, Settlement, judge_due, judge_lost
from services.scheduler.metrics import LOST, TASKS
from services.scheduler.sweep_store import SweepStore
from services.scheduler.wakeups import Signals

SWEEP_SECONDS = 1.0
FORGET_SECONDS = 3600.0
# Sleeping to the very moment would find it not yet due by a hair.
_DUE_MARGIN_SECONDS = 0.005
_RETRY_SECONDS = 0.1

log = get_logger(__name__)


class Sweeper:
    """`run` must be running; `wake` makes it look at once, `wake_in` after some seconds."""

    def __init__(self, store: SweepStore, *, signals: Signals, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._signals = signals
        self._flag = Wakeup()
        self._next_forget = self._clock.monotonic()

    def wake(self) -> None:
        """Sweep now: something has ended."""
        self._flag.set()

    def wake_in(self, seconds: float) -> None:
        """Sweep after so many seconds."""
        asyncio.get_running_loop().call_later(seconds, self._flag.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep every second, and whenever something is due, until `stop` is set."""
        outage = Outage(log, "sweeps")
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._flag.set())
        try:
            while not stop.is_set():
                self._flag.clear()
                try:
                    seconds = await self.sweep()
                    outage.over()
                except Exception as error:
                    if not is_outage(error):
                        raise
                    await pause(stop, outage.failed(error))
                    continue
                await self._flag.wait(seconds)
        finally:
            stopping.cancel()

    async def sweep(self) -> float:
        """One sweep; how many seconds until the next is needed."""
        swept = await self._store.sweep()
        self._signals.peers(swept.listening)
        if swept.was_paused:
            log.warning("nobody swept for a while: every lease is extended, no boot has ended")
        for boot_id in swept.ended:
            log.warning("executor lost", boot_id=str(boot_id))
            LOST.inc()
        if swept.is_unsettled:
            await self._settle_lost()
        due_in = swept.due_in_seconds
        if due_in is not None and due_in <= 0:
            # Another scheduler may be at it: then there is nothing left for this one.
            return _DUE_MARGIN_SECONDS if await self._settle_due() else _RETRY_SECONDS
        await self._forget()
        return SWEEP_SECONDS if due_in is None else min(SWEEP_SECONDS, due_in + _DUE_MARGIN_SECONDS)

    async def _settle_lost(self) -> None:
        while tasks := await self._store.lost_tasks():
            pass_crash_point("lost.before_settle")
            settled = await self._settle(tasks, [judge_lost(task) for task in tasks])
            pass_crash_point("lost.after_settle")
            if not settled:
                # All of them have changed meanwhile: whoever did that, or the next sweep, sees on.
                break
        await self._store.settle_boots()

    async def _settle_due(self) -> bool:
        """Whether something was done."""
        queued = await self._store.queue_due()
        if queued:
            TASKS.labels(TaskState.QUEUED.value).inc(len(queued))
            self._signals.committed(changed=queued)
            self._signals.work_has_come()
        tasks = await self._store.due_tasks()
        settled = await self._settle(tasks, [judge_due(task) for task in tasks]) if tasks else {}
        return bool(queued or settled)

    async def _settle(
        self, tasks: Sequence[JudgedTask], settlements: Sequence[Settlement]
    ) -> dict[UUID, TaskState]:
        settled = await self._store.settle(settlements)
        ended = [task_id for task_id, state in settled.items() if state.is_terminal]
        freed = [task_id for task_id in settled if task_id not in set(ended)]
        for task in tasks:
            if task.task_id in settled:
                self._note(task, settled[task.task_id])
        if settled:
            self._signals.committed(changed=freed, ended=ended)
            self._signals.revoked(
                {task.task_id: task.lease_token for task in tasks if task.task_id in settled}
            )
        if freed:
            self._signals.work_has_come()
        return settled

    def _note(self, task: JudgedTask, state: TaskState) -> None:
        became = state.value if state.is_terminal else "free"
        log.info(
            "task settled",
            task_id=str(task.task_id),
            request_id=task.request_id,
            became=became,
        )
        if state.is_terminal:
            TASKS.labels(state.value).inc()

    async def _forget(self) -> None:
        if self._clock.monotonic() >= self._next_forget:
            await self._store.forget_boots()
            self._next_forget = self._clock.monotonic() + FORGET_SECONDS
