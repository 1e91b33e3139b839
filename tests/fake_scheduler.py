"""A scheduler's end of the Work stream, over real gRPC, that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import WorkServiceServicer
from tests.waiting import eventually

WORK = "pawl.scheduler.v1.WorkService"
METHODS = ("Work", "JudgeBoots", "RecallStep")
OK = pb.ACK_STATUS_OK


@dataclass(eq=False)
class Session:
    """One stream: what came in, and a queue of what goes out."""

    hello: pb.Hello
    out: asyncio.Queue[pb.WorkResponse | None] = field(default_factory=asyncio.Queue)
    requests: list[pb.WorkRequest] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reports(self) -> list[pb.StepReport]:
        return [report for request in self.requests for report in request.reports]

    @property
    def has_left(self) -> bool:
        """Whether its last message was that the executor leaves."""
        return bool(self.requests) and self.requests[-1].leaving

    @property
    def heartbeats(self) -> int:
        return sum(request.HasField("heartbeat") for request in self.requests)

    async def report(self, number: int) -> pb.StepReport:
        """The report with this number, from 1."""
        await eventually(lambda: len(self.reports) >= number)
        return self.reports[number - 1]

    def send(self, **parts: Any) -> None:
        self.out.put_nowait(pb.WorkResponse(**parts))

    def ack(self, report: pb.StepReport, status: pb.AckStatus.ValueType = OK) -> None:
        ack = pb.Ack(report_id=report.report_id, task_id=report.task_id, status=status)
        self.send(acks=[ack])

    def end(self) -> None:
        """End the stream from this side."""
        self.out.put_nowait(None)


class FakeScheduler(WorkServiceServicer):
    """Answers hello with `keep`, remembers the sessions; acknowledges by itself when `acks_all`.

    A stream ends when its executor has said its last.
    """

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.keep: list[str] = []
        self.stop: list[str] = []
        self.acks_all = False
        self.answers_hello = True
        self.ended_boots: set[str] = set()

    def acknowledge_all(self) -> None:
        """From now on, and for what has come: OK to every report."""
        self.acks_all = True
        for session in self.sessions:
            for report in session.reports:
                session.ack(report)

    async def session(self, number: int = 1) -> Session:
        """The session with this number, from 1."""
        await eventually(lambda: len(self.sessions) >= number)
        return self.sessions[number - 1]

    async def Work(
        self,
        request_iterator: AsyncIterator[pb.WorkRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.WorkResponse]:
        del context
        first = await anext(request_iterator)
        if first.hello.boot_id in self.ended_boots:
            raise PawlError("conflict", "this boot has ended")
        session = Session(hello=first.hello)
        self.sessions.append(session)
        if self.answers_hello:
            yield pb.WorkResponse(
                hello=pb.HelloReply(
                    keep_task_ids=self.keep, stop_task_ids=self.stop, lease_seconds=10
                )
            )
        reading = asyncio.create_task(self._read(session, request_iterator))
        try:
            while (response := await session.out.get()) is not None:
                yield response
        finally:
            reading.cancel()
            session.closed.set()

    async def _read(
        self, session: Session, request_iterator: AsyncIterator[pb.WorkRequest]
    ) -> None:
        async for request in request_iterator:
            session.requests.append(request)
            if self.acks_all:
                for report in request.reports:
                    session.ack(report)
        session.end()
