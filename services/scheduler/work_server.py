"""The gRPC face of the Work stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from libs.core.errors import PawlError
from libs.core.ids import parse_id
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1 import work_service_pb2_grpc as work_grpc
from libs.process.logs import get_logger
from services.scheduler import work_convert
from services.scheduler.dispatch import Dispatcher
from services.scheduler.reports import MalformedReportError
from services.scheduler.sweep_store import SweepStore
from services.scheduler.work_messages import Incoming
from services.scheduler.work_session import WorkSession, unavailable
from services.scheduler.work_store import WorkStore

SILENT_LEASES = 2
"""For how many leases a stream may be silent; executors say something every few seconds."""

log = get_logger(__name__)


class WorkServicer(work_grpc.WorkServiceServicer):
    """pawl.scheduler.v1.WorkService."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        sweeps: SweepStore,
        work: WorkStore,
        lease_seconds: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._sweeps = sweeps
        self._work = work
        self._lease_seconds = lease_seconds

    async def JudgeBoots(  # noqa: D102 - named and described by the proto
        self, request: work_pb.JudgeBootsRequest, _context: Any
    ) -> work_pb.JudgeBootsResponse:
        judged = await self._sweeps.judge_boots(work_convert.boot_ids(request))
        return work_pb.JudgeBootsResponse(
            ended=map(str, judged.ended), unknown=map(str, judged.unknown)
        )

    async def RecallStep(  # noqa: D102 - named and described by the proto
        self, request: work_pb.RecallStepRequest, _context: Any
    ) -> work_pb.RecallStepResponse:
        asked = work_convert.recall(request)
        answer = await self._work.recall(asked)
        if answer is None:
            raise PawlError("conflict", "no recorded replay runs under this lease token")
        return work_convert.recalled(answer, input_sha256=asked.input_sha256)

    async def Work(  # noqa: D102 - named and described by the proto
        self, request_iterator: AsyncIterator[work_pb.WorkRequest], _context: Any
    ) -> AsyncIterator[work_pb.WorkResponse]:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or not first.HasField("hello"):
            raise PawlError("validation_failed", "the first message must say hello")
        async with self._dispatcher.open(work_convert.hello(first.hello)) as opened:
            yield work_convert.hello_reply(
                keep=opened.keep, stop=opened.stop, lease_seconds=self._lease_seconds
            )
            session = opened.session
            silence_seconds = SILENT_LEASES * self._lease_seconds
            reading = asyncio.create_task(_read(first, requests, session, silence_seconds))
            try:
                while (out := await session.take()) is not None:
                    yield work_convert.work_response(
                        assignments=out.assignments,
                        acks=out.acks,
                        stops=out.stops,
                        drain=out.drain,
                    )
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def _read(
    first: work_pb.WorkRequest,
    requests: AsyncIterator[work_pb.WorkRequest],
    session: WorkSession,
    silence_seconds: float,
) -> None:
    """Take in messages until the executor has said its last; a broken stream ends the session, and
    so does a silent one: of a machine that is gone nobody may ever hear.
    """
    try:
        message: work_pb.WorkRequest | None = first
        while message is not None:
            session.heard()
            _take_reports(message, session)
            if message.HasField("heartbeat"):
                session.heartbeat()
            if message.leaving:
                session.is_leaving = True
                break
            async with asyncio.timeout(silence_seconds):
                message = await anext(requests, None)
        await session.finish()
    except asyncio.CancelledError:
        raise
    except TimeoutError:
        log.warning("stream is silent", executor_id=session.stream.executor_id)
        session.end(unavailable("nothing was heard for too long; connect again"))
    except PawlError as error:
        session.end(error)
    except Exception as error:
        log.exception("stream cannot be read", executor_id=session.stream.executor_id)
        session.end(PawlError("internal", f"the stream cannot be read: {type(error).__name__}"))


def _take_reports(message: work_pb.WorkRequest, session: WorkSession) -> None:
    for report in message.reports:
        session.handle(_incoming(report))


def _incoming(message: work_pb.StepReport) -> Incoming:
    task_id = parse_id(message.task_id)
    report, flaw = None, ""
    if task_id is not None:
        try:
            report = work_convert.report(message, task_id=task_id)
        except MalformedReportError as error:
            flaw = str(error)
    return Incoming(
        report_id=message.report_id,
        task_id=message.task_id,
        known_id=task_id,
        report=report,
        flaw=flaw,
    )
