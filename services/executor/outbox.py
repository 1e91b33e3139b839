"""Reports that wait to be sent, and those that were sent and are not acknowledged yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from libs.pb.pawl.scheduler.v1.work_service_pb2 import Heartbeat, StepReport, WorkRequest
from services.executor.model import AckStatus

# One report has at most an input and an output, about 1.3 MiB; a message may have 16 MiB.
MAX_BATCH_BYTES = 4 * 2**20


@dataclass(slots=True)
class _Open:
    message: StepReport
    acknowledged: asyncio.Future[AckStatus]


@dataclass(slots=True)
class Outbox:
    """The reports of all tasks, each kept until it is acknowledged or dropped.

    Whatever waits when the previous write has ended goes into one message. After a broken stream
    `rewind` makes every kept report wait again, in order and under its old id.
    """

    _open: dict[int, _Open] = field(default_factory=dict)
    _waiting: list[int] = field(default_factory=list)
    _last_id: int = 0
    _heartbeat_due: bool = False
    _is_leaving: bool = False
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def next_id(self) -> int:
        """A report id; they grow by one."""
        self._last_id += 1
        return self._last_id

    def post(self, message: StepReport) -> asyncio.Future[AckStatus]:
        """Queue a report; the future gets its acknowledgement."""
        future: asyncio.Future[AckStatus] = asyncio.get_running_loop().create_future()
        self._open[message.report_id] = _Open(message, future)
        self._waiting.append(message.report_id)
        self._filled.set()
        return future

    def acknowledge(self, report_id: int, status: AckStatus) -> bool:
        """Hand an acknowledgement to whoever waits for it; False when nobody does any more."""
        found = self._open.pop(report_id, None)
        if found is None or found.acknowledged.done():
            return False
        found.acknowledged.set_result(status)
        return True

    def drop(self, report_id: int) -> None:
        """Forget a report whose task is gone."""
        self._open.pop(report_id, None)

    def beat(self) -> None:
        """Ask for a heartbeat with the next message."""
        self._heartbeat_due = True
        self._filled.set()

    def leave(self) -> None:
        """Say with the next message that nothing comes any more. No report may be open."""
        self._is_leaving = True
        self._filled.set()

    def rewind(self) -> None:
        """A new stream: everything that is not acknowledged waits again."""
        self._waiting = sorted(self._open)
        if self._waiting or self._is_leaving:
            self._filled.set()

    async def next_request(self) -> WorkRequest:
        """Wait until something is to be sent, and take it."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            reports = self._take()
            if self._waiting:
                self._filled.set()
            if reports or self._heartbeat_due or self._is_leaving:
                heartbeat = Heartbeat() if self._heartbeat_due else None
                self._heartbeat_due = False
                leaving = self._is_leaving and not self._waiting
                return WorkRequest(reports=reports, heartbeat=heartbeat, leaving=leaving)

    def _take(self) -> list[StepReport]:
        taken: list[StepReport] = []
        size_bytes = 0
        place = 0
        for report_id in self._waiting:
            found = self._open.get(report_id)
            if found is not None:
                size_bytes += found.message.ByteSize()
                if taken and size_bytes > MAX_BATCH_BYTES:
                    break
                taken.append(found.message)
            place += 1
        del self._waiting[:place]
        return taken
