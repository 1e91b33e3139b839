"""A whole history: machines and clients to the end, and whether all is well then."""

from __future__ import annotations

from tests.simulation.clients import TOTAL_SECONDS, Clients, Wish
from tests.simulation.invariants import Violation
from tests.simulation.tables import S

PROBE_SECONDS = 2.0
DRAIN_SECONDS = 9.0
"""Longer than an executor drains."""
SETTLE_SECONDS = 21.0
"""Longer than a silent stream lasts, than a cancel is waited for, and than the relay rests."""


class World(Clients):
    """Everything that happens in one history; `finish` judges it."""

    def finish(self) -> None:
        """Heal everything, let every task end, and judge the whole."""
        self.heal_all()
        self.advance(DRAIN_SECONDS)
        self.heal_all()
        self._await_ends()
        self.advance(SETTLE_SECONDS)
        self._judge_slots()
        self._probe()
        self.watch.all_published()
        self._judge_promises()

    def heal_all(self) -> None:
        """Everything runs and is connected."""
        self.fail(0)
        self.resume_database()
        for n in range(len(self.schedulers)):
            self.thaw_scheduler(n)
            self.start_scheduler(n)
        for n in range(len(self.executors)):
            self.thaw_executor(n)
            self.heal(n)
            self.start_executor(n)

    def _await_ends(self) -> None:
        """Nothing may take longer than its queue's time, its own, and what judging takes."""
        now = self.tables.now()
        waits = [t.queue_deadline_at for t in self.tables.tasks.values() if not t.state.is_terminal]
        queue = max([(at - now).total_seconds() for at in waits if at is not None], default=0.0)
        left = max(queue, 0.0) + TOTAL_SECONDS + 20.0
        while any(not task.state.is_terminal for task in self.tables.tasks.values()):
            if left <= 0:
                stuck = [t for t in self.tables.tasks.values() if not t.state.is_terminal]
                raise Violation(f"{len(stuck)} tasks never end: {stuck[0]}")
            self.advance(2.0)
            left -= 2.0

    def _judge_promises(self) -> None:
        for promise in self.submits:
            if promise.task_id is not None and promise.task_id not in self.tables.tasks:
                raise Violation(f"task {promise.task_id} was acknowledged and is lost")
        for promise in self.cancels:
            if promise.state is not None and promise.task_id is not None:
                task = self.tables.tasks[promise.task_id]
                if task.cancel_requested_at is None:
                    raise Violation(f"the cancel of {task.id} was acknowledged and is lost")
                if promise.state.is_terminal and promise.state is not task.state:
                    raise Violation(f"{task.id} was {promise.state} and is {task.state}")

    def _judge_slots(self) -> None:
        """Nothing runs any more: nobody may think that something does."""
        for executor in self.executors:
            if executor is not None and executor.worker.running_task_ids:
                raise Violation(f"{executor.name} still runs {executor.worker.running_task_ids}")
        connected = 0
        for scheduler in self.schedulers:
            for session in scheduler.dispatcher._sessions.values() if scheduler else ():
                if self.tables.boots[session.stream.boot_id].ended_at is not None:
                    # Of an executor whose end nobody could tell.
                    continue
                connected += 1
                if session.free_slots != session.stream.slots:
                    raise Violation(f"{session.stream.executor_id} has {session.free_slots} free")
        if connected < len(self.executors):
            raise Violation(f"{connected} of {len(self.executors)} executors are connected")
        if any(task.state is S.RUNNING for task in self.tables.tasks.values()):
            raise Violation("a task still runs")

    def _probe(self) -> None:
        """Idle and whole as it is, every scheduler must get a task done at once."""
        for scheduler in self.schedulers:
            self.submit(Wish(tenant=1, seconds=(0.01,)), at=scheduler)
            self.advance(PROBE_SECONDS)
            task_id = self.submits[-1].task_id
            task = None if task_id is None else self.tables.tasks[task_id]
            if task is None or task.state is not S.SUCCEEDED:
                raise Violation(f"a task is not done though everybody is idle: {task}")
