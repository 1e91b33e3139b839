"""Clients in the simulation: what they ask for, and what they are promised."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from libs.core.canonical import Json, canonical_text
from libs.core.errors import PawlError
from libs.core.lifecycle import TaskState
from libs.core.plan import Limits, Plan, Step
from libs.core.tiers import TierLimits
from libs.db.outage import AWAY
from libs.rpc.context import Caller
from services.scheduler.model import Agent, Submission
from tests.simulation.machines import Machines
from tests.simulation.processes import SPEC, SimulatedScheduler

TENANTS = (UUID(int=0xA1), UUID(int=0xA2), UUID(int=0xA3))
TENANT_LIMITS = (2, None, 4)
AGENT = Agent(agent_id=UUID(int=0xB1), max_concurrent_tasks=1)
QUEUE_SECONDS = 40.0
TOTAL_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A task that a client wants: how long each step takes, and whether the last one fails."""

    tenant: int
    seconds: tuple[float, ...]
    fails: bool = False
    priority: int = 0
    has_agent: bool = False
    scheduled_in: float | None = None
    total: float = TOTAL_SECONDS
    key: str | None = None


@dataclass(slots=True)
class Promise:
    """What a client was told of a call; without an answer, nobody knows."""

    task_id: UUID | None = None
    state: TaskState | None = None
    refusal: str = ""


class Clients(Machines):
    """Machines, and clients that submit and cancel tasks."""

    def __post_init__(self) -> None:
        self.submits: list[Promise] = []
        self.cancels: list[Promise] = []
        super().__post_init__()

    def submit(self, wish: Wish, *, at: SimulatedScheduler | None = None) -> None:
        """A client submits a task, at some scheduler unless one is given."""
        scheduler = at or self._some_scheduler()
        if scheduler is None:
            return
        promise = Promise()
        self.submits.append(promise)

        async def submit() -> None:
            found = await scheduler.tasks.submit(_caller(wish.tenant), self._submission(wish))
            promise.task_id, promise.state = found.task.id, found.task.state

        self._call(scheduler, submit, promise)

    def cancel(self, number: int) -> None:
        """A client cancels one of the tasks that were acknowledged."""
        known = [promise.task_id for promise in self.submits if promise.task_id is not None]
        scheduler = self._some_scheduler()
        if not known or scheduler is None:
            return
        task_id = known[-1 - number % len(known)]
        tenant = TENANTS.index(self.tables.tasks[task_id].tenant_id)
        promise = Promise(task_id=task_id)
        self.cancels.append(promise)

        async def cancel() -> None:
            found = await scheduler.cancels.cancel(_caller(tenant), task_id)
            promise.state = found.state
            self.marks["cancel answered late"] += not found.state.is_terminal

        self._call(scheduler, cancel, promise)

    def _call(
        self,
        scheduler: SimulatedScheduler,
        call: Callable[[], Coroutine[Any, Any, None]],
        promise: Promise,
    ) -> None:
        async def guarded() -> None:
            try:
                await call()
            except PawlError as error:
                promise.refusal = error.code
            except AWAY:
                promise.refusal = "unavailable"

        self.loop.create_task(guarded(), context=scheduler.process.context.copy())

    def _submission(self, wish: Wish) -> Submission:
        steps = [
            Step(step_index=n, tool=SPEC.name, input=_input(wish, n))
            for n in range(1, len(wish.seconds) + 1)
        ]
        limits = Limits(max_steps=9, max_total_seconds=wish.total, max_queue_seconds=QUEUE_SECONDS)
        scheduled_at = None
        if wish.scheduled_in is not None:
            scheduled_at = self.tables.now() + timedelta(seconds=wish.scheduled_in)
        return Submission(
            task_input_json="{}",
            plan_json=canonical_text(Plan(steps=tuple(steps), limits=limits).as_json()),
            asked=Limits(),
            priority=wish.priority,
            key=wish.key,
            fingerprint="f" * 64,
            wait_seconds=0,
            scheduled_at=scheduled_at,
            agent=AGENT if wish.has_agent else None,
        )


def _input(wish: Wish, step_index: int) -> Json:
    fails = wish.fails and step_index == len(wish.seconds)
    return {"seconds": wish.seconds[step_index - 1], **({"fails": True} if fails else {})}


def _caller(tenant: int) -> Caller:
    return Caller(
        key_id=TENANTS[tenant],
        tenant_id=TENANTS[tenant],
        tier="simulated",
        scopes=frozenset({"tasks:read", "tasks:write"}),
        mode="live",
        limits=TierLimits(max_concurrent_tasks=TENANT_LIMITS[tenant]),
        expires_at=0.0,
    )
