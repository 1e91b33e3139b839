"""Use case: submit several tasks, all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from libs.core.clock import Clock
from libs.core.errors import Failure, PawlError
from libs.core.ids import new_id
from libs.process.crash_points import pass_crash_point
from libs.rpc.context import Caller, require_scope
from services.scheduler.admission import (
    admit_in_batch,
    check_same_request,
    check_size,
    idempotency_key,
    key_reused,
)
from services.scheduler.batch_model import Batch, Entry, SubmittedBatch
from services.scheduler.batch_refusal import refusal
from services.scheduler.model import Admitted, FrozenPlan, IdempotencyKey
from services.scheduler.reach import check_submission, may_see
from services.scheduler.service import WRITE, TaskService, just_expired, new_task, unplanned
from services.scheduler.store import TaskStore

PLANS_AT_ONCE = 8

Planned = FrozenPlan | Failure


class BatchService:
    """Batches as callers see them; acts for the caller's tenant alone."""

    def __init__(
        self,
        tasks: TaskService,
        *,
        store: TaskStore,
        clock: Clock,
        new_id: Callable[[], UUID] = new_id,
    ) -> None:
        self._tasks = tasks
        self._store = store
        self._clock = clock
        self._new_id = new_id

    async def submit(self, caller: Caller, batch: Batch) -> SubmittedBatch:
        """Plan and store all tasks, or answer with those that the idempotency key names.

        A refusal (PawlError) of one leaves nothing of any; too many are refused before any is
        planned. Tasks that nobody can plan are stored as failed, beside the others.
        """
        require_scope(caller, WRITE)
        key = idempotency_key(batch.key, batch.fingerprint)
        if key is not None:
            earlier = await self._earlier(caller, key)
            if earlier is not None:
                return earlier
        check_size(batch, tier=caller.tier, limits=caller.limits)
        admitted = self._admitted(caller, batch)
        planned = await self._planned(caller, batch, admitted)
        entries = self._entries(caller, batch, admitted, planned, key=key)
        pass_crash_point("create.before_commit")
        stored = await self._store.submit_batch(entries)
        if stored is None:
            return await self._lost_race(caller, key)
        pass_crash_point("create.after_commit_before_reply")
        self._tasks.committed(
            [(entry.task, one) for entry, one in zip(entries, stored, strict=True)]
        )
        return SubmittedBatch(tasks=tuple(stored), replayed=False)

    async def _earlier(self, caller: Caller, given: IdempotencyKey) -> SubmittedBatch | None:
        holder = await self._store.read_key(caller.tenant_id, caller.mode, given.key)
        if holder is None:
            return None
        check_same_request(given, holder, is_batch=True)
        tasks = await asyncio.gather(
            *(self._store.get(caller.tenant_id, task_id) for task_id in holder.task_ids)
        )
        held = [task for task in tasks if task is not None and may_see(caller, task)]
        if len(held) < len(tasks):
            raise key_reused()
        return SubmittedBatch(tasks=tuple(held), replayed=True)

    async def _lost_race(self, caller: Caller, key: IdempotencyKey | None) -> SubmittedBatch:
        winner = None if key is None else await self._earlier(caller, key)
        if winner is None:
            raise just_expired()
        return winner

    def _admitted(self, caller: Caller, batch: Batch) -> list[Admitted]:
        now = self._clock.now()
        admitted, refused = [], {}
        for place, submission in enumerate(batch.submissions):
            try:
                check_submission(caller, submission.agent)
                admitted.append(admit_in_batch(submission, now=now))
            except PawlError as error:
                refused[place] = error
        if (why := refusal(refused)) is not None:
            raise why
        return admitted

    async def _planned(
        self, caller: Caller, batch: Batch, admitted: Sequence[Admitted]
    ) -> list[Planned]:
        """The plan of each task, a few made at a time; PawlError for all that are refused."""
        turns = asyncio.Semaphore(PLANS_AT_ONCE)
        planned: dict[int, Planned] = {}
        refused: dict[int, PawlError] = {}

        async def plan(place: int) -> None:
            async with turns:
                try:
                    planned[place] = await self._tasks.plan(
                        caller, batch.submissions[place], admitted[place]
                    )
                except PawlError as error:
                    refused[place] = error

        async with asyncio.TaskGroup() as group:
            for place in range(len(admitted)):
                group.create_task(plan(place))
        if (why := refusal(refused)) is not None:
            raise why
        return [planned[place] for place in range(len(admitted))]

    def _entries(
        self,
        caller: Caller,
        batch: Batch,
        admitted: Sequence[Admitted],
        planned: Sequence[Planned],
        *,
        key: IdempotencyKey | None,
    ) -> list[Entry]:
        # Lists order tasks of one moment by id: sorted ids keep those of a batch in its order.
        ids = sorted(self._new_id() for _ in admitted)
        entries = []
        for place, task_id in enumerate(ids):
            one = replace(admitted[place], idempotency=key if place == 0 else None)
            task = new_task(task_id, caller, batch.submissions[place], one, planned[place])
            entries.append(Entry(task=task, failure=unplanned(planned[place])))
        return entries
