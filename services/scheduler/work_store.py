"""All SQL between the queue and the executors."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from libs.core.lifecycle import TaskState
from libs.db.engine import Pool
from services.scheduler.model import Assigned, Fate, Renewal, ReportRow, Stream, Verdict
from services.scheduler.rows import assigned, report_parameters
from services.scheduler.store import QUERIES


class WorkStore:
    """Leases, claims and reports in PostgreSQL; `hot` is a pool whose plans use indexes only."""

    def __init__(self, hot: Pool, *, lease_seconds: float) -> None:
        self._hot = hot
        self._lease_seconds = lease_seconds

    async def hello(self, stream: Stream) -> bool:
        """Note a stream as its boot's newest and lease the boot; earlier boots of the executor end.

        False when this boot has ended itself: it gets no work any more.
        """
        parameters = {
            "executor_id": stream.executor_id,
            "boot_id": stream.boot_id,
            "stream_id": stream.stream_id,
            "slots": stream.slots,
            "offers": list(stream.offers),
            "lease_seconds": self._lease_seconds,
        }
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["hello"], parameters)
            return await cursor.fetchone() is not None

    async def renew(self, stream: Stream) -> Renewal:
        """Renew the lease of all that the stream runs."""
        parameters = {
            "boot_id": stream.boot_id,
            "stream_id": stream.stream_id,
            "lease_seconds": self._lease_seconds,
        }
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["renew"], parameters)
            row = await cursor.fetchone()
        if row is None:
            return Renewal.REFUSED
        return Renewal.AFTER_LAPSE if row["had_lapsed"] else Renewal.IN_TIME

    async def held(self, boot_id: UUID) -> list[Assigned]:
        """Every running task that the boot holds."""
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["held"], {"boot_id": boot_id})
            return [assigned(row) for row in await cursor.fetchall()]

    async def claim(self, stream: Stream, *, slots: int) -> list[Assigned]:
        """Lease at most `slots` waiting tasks to the stream's boot, in the order of the queue."""
        parameters = {
            "boot_id": stream.boot_id,
            "stream_id": stream.stream_id,
            "offers": list(stream.offers),
            "slots": slots,
        }
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["claim"], parameters)
            return [assigned(row) for row in await cursor.fetchall()]

    async def report(self, rows: Sequence[ReportRow]) -> dict[UUID, Fate]:
        """Write at most one report per task; the fate of each whose task exists.

        Writing the same again is safe: what was written the first time is then SEEN.
        """
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["report"], report_parameters(rows))
            return {
                row["task_id"]: Fate(
                    verdict=Verdict(row["verdict"]),
                    ended=_ended(row["verdict"], row["ended"]),
                )
                for row in await cursor.fetchall()
            }

    async def announce(self, channel: str, payload: str) -> None:
        """Notify the other schedulers; the payload must stay below 8,000 bytes."""
        async with self._hot.connection() as connection:
            await connection.execute(QUERIES["announce"], {"channel": channel, "payload": payload})

    async def count_waiting(self) -> int:
        """How many tasks wait for an executor."""
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["count_waiting"])
            row = await cursor.fetchone()
            return 0 if row is None else int(row["waiting"])


def _ended(verdict: str, ended: str | None) -> TaskState | None:
    return TaskState(ended) if ended is not None and verdict in {"OK", "LATE"} else None
