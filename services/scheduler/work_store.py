"""All SQL between the queue and the executors."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from libs.core.lifecycle import TaskState
from libs.db.engine import Pool
from libs.db.kept import KeptConnection
from services.scheduler.model import Assigned, Claimed, Fate, Renewal, ReportRow, Stream, Verdict
from services.scheduler.replay_model import Recall, RecordedAnswer
from services.scheduler.rows import assigned, recorded_answer, report_parameters
from services.scheduler.store import QUERIES


class WorkStore:
    """Leases, claims and reports in PostgreSQL; `hot` is a pool whose plans use indexes only.

    Claims take turns in the database, so they share one connection; `writers` have one each.
    """

    def __init__(self, hot: Pool, *, lease_seconds: float, writers: int = 1) -> None:
        self._hot = hot
        self._lease_seconds = lease_seconds
        self._claiming = KeptConnection(hot)
        self._writing = tuple(KeptConnection(hot) for _ in range(writers))

    async def close(self) -> None:
        """Hand back the connections that were kept."""
        for kept in (self._claiming, *self._writing):
            await kept.give_back()

    async def hello(self, stream: Stream) -> int | None:
        """Note a stream as its boot's newest and lease the boot; earlier boots of the executor end.

        How many did; None when this boot has ended itself: it gets no work any more.
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
            row = await cursor.fetchone()
        return None if row is None else int(row["ended"])

    async def end_stream(self, stream: Stream) -> None:
        """Note that a stream is gone; its boot has 3 s to come back, if it was its newest."""
        await self._end("end_stream", stream)

    async def end_boot(self, stream: Stream) -> None:
        """End the boot of a stream, if that is its newest."""
        await self._end("end_boot", stream)

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

    async def claim(self, stream: Stream, *, slots: int) -> Claimed:
        """Lease at most `slots` waiting tasks to the stream's boot, in the order of the queue."""
        parameters = {
            "boot_id": stream.boot_id,
            "stream_id": stream.stream_id,
            "offers": list(stream.offers),
            "slots": slots,
        }
        rows = await self._claiming.rows(QUERIES.block("claim"), parameters)
        return Claimed(
            tasks=tuple(assigned(row) for row in rows if row["id"] is not None),
            is_limited=any(row["limited"] for row in rows),
        )

    async def report(self, rows: Sequence[ReportRow], *, writer: int = 0) -> dict[UUID, Fate]:
        """Write at most one report per task; the fate of each whose task exists.

        Writing the same again is safe: what was written the first time is then SEEN.
        """
        written = await self._writing[writer].rows(QUERIES.block("report"), report_parameters(rows))
        return {
            row["task_id"]: Fate(
                verdict=Verdict(row["verdict"]), ended=_ended(row["verdict"], row["ended"])
            )
            for row in written
        }

    async def recall(self, asked: Recall) -> RecordedAnswer | None:
        """What is on record of a step; None unless that recorded replay runs under that token."""
        parameters = {
            "id": asked.task_id,
            "token": asked.lease_token,
            "step_index": asked.step_index,
        }
        async with self._hot.connection() as connection:
            cursor = await connection.execute(QUERIES["recall_step"], parameters)
            row = await cursor.fetchone()
        return None if row is None else recorded_answer(row)

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

    async def _end(self, name: str, stream: Stream) -> None:
        parameters = {"boot_id": stream.boot_id, "stream_id": stream.stream_id}
        async with self._hot.connection() as connection:
            await connection.execute(QUERIES[name], parameters)


def _ended(verdict: str, ended: str | None) -> TaskState | None:
    return TaskState(ended) if ended is not None and verdict in {"OK", "LATE"} else None
