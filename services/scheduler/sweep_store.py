"""All SQL on what nobody else brings to an end: dead boots, tasks that are due, settlements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from libs.core.lifecycle import TaskState
from libs.db.engine import Pool
from libs.db.fetch import fetch
from services.scheduler.judgement import RECONNECT_SECONDS, JudgedTask, Settlement
from services.scheduler.store import QUERIES

LISTENER = "pawl-scheduler-listen"
"""The name of the connection on which a scheduler listens."""
MOST_TASKS = 200
KEPT_SECONDS = 7 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found. `is_unsettled`: boots have ended whose tasks have to be judged.

    `due_in_seconds` until the next task is due, negative when one is, None when none will be.
    `was_paused`: nobody had swept for so long that no lease could be judged. `listening`: how many
    schedulers listen for notifications.
    """

    ended: tuple[UUID, ...]
    is_unsettled: bool
    due_in_seconds: float | None
    was_paused: bool
    listening: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBoots:
    """Boots that have ended, and boots that nobody knows."""

    ended: tuple[UUID, ...]
    unknown: tuple[UUID, ...]


class SweepStore:
    """Judgements in PostgreSQL; `hot` is a pool whose plans use indexes only."""

    def __init__(self, hot: Pool, *, lease_seconds: float) -> None:
        self._hot = hot
        self._lease_seconds = lease_seconds

    async def sweep(self) -> Swept:
        """End the boots that are dead by the database's clock."""
        parameters = {
            "lease_seconds": self._lease_seconds,
            "grace_seconds": RECONNECT_SECONDS,
            "listener": LISTENER,
        }
        (row,) = await self._rows("sweep", parameters)
        return Swept(
            ended=tuple(row["ended"]),
            is_unsettled=row["is_unsettled"],
            due_in_seconds=row["due_in_seconds"],
            was_paused=row["paused"],
            listening=row["listening"],
        )

    async def lost_tasks(self) -> list[JudgedTask]:
        """Running tasks of boots that have ended, at most 200."""
        return [_judged(row) for row in await self._rows("lost_tasks", {"most": MOST_TASKS})]

    async def due_tasks(self) -> list[JudgedTask]:
        """Queued and running tasks whose patience has ended, at most 200."""
        return [_judged(row) for row in await self._rows("due_tasks", {"most": MOST_TASKS})]

    async def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, TaskState]:
        """Carry out judgements; the state of each task that had not changed since it was judged."""
        parameters = {
            "ids": [one.task_id for one in settlements],
            "settlements": orjson.dumps([_said(one) for one in settlements]).decode(),
        }
        rows = await self._rows("settle", parameters)
        return {row["id"]: TaskState(row["state"]) for row in rows}

    async def settle_boots(self) -> None:
        """Note which boots that have ended hold nothing any more."""
        async with self._hot.connection() as connection:
            await connection.execute(QUERIES["settle_boots"])

    async def forget_boots(self) -> None:
        """Drop boots that were settled a week ago."""
        async with self._hot.connection() as connection:
            await connection.execute(QUERIES["forget_boots"], {"kept_seconds": KEPT_SECONDS})

    async def judge_boots(self, boot_ids: Sequence[UUID]) -> JudgedBoots:
        """Which of these boots hold no lease and never will again, and which nobody knows."""
        rows = await self._rows("judge_boots", {"boot_ids": list(boot_ids)})
        return JudgedBoots(
            ended=tuple(row["boot_id"] for row in rows if row["is_known"]),
            unknown=tuple(row["boot_id"] for row in rows if not row["is_known"]),
        )

    async def queue_due(self) -> list[UUID]:
        """Queue planned tasks whose time has come, at most 200; which."""
        return [row["id"] for row in await self._rows("queue_due", {"most": MOST_TASKS})]

    async def _rows(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        async with self._hot.connection() as connection:
            return await fetch(connection, QUERIES.block(name), parameters)


def _judged(row: Mapping[str, Any]) -> JudgedTask:
    return JudgedTask(
        task_id=row["id"],
        state=TaskState(row["state"]),
        seq=row["seq"],
        lease_token=row["lease_token"],
        steps_begun=row["steps_begun"],
        steps_closed=row["steps_closed"],
        step_count=row["step_count"],
        is_cancelling=row["is_cancelling"],
        is_offered=row["is_offered"],
        max_total_seconds=row["max_total_seconds"],
        open_tool=row["open_tool"],
        request_id=row["request_id"],
    )


def _said(settlement: Settlement) -> dict[str, object]:
    failure = settlement.failure
    said: dict[str, object] = {
        "task_id": settlement.task_id,
        "seq": settlement.seq,
        "token": settlement.lease_token,
        "term": None if settlement.end is None else settlement.end.value,
    }
    if failure is not None:
        said |= {
            "code": failure.code.value,
            "message": failure.message,
            "reason": failure.reason,
            "step": failure.step,
            "step_index": failure.step_index,
        }
    return said
