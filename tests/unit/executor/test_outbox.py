"""The outbox: batches, acknowledgements, and what is sent again."""

from __future__ import annotations

import asyncio

from libs.pb.pawl.scheduler.v1.work_service_pb2 import StepFinished, StepReport
from services.executor.model import AckStatus
from services.executor.outbox import MAX_BATCH_BYTES, Outbox


def report(outbox: Outbox, size: int = 1) -> StepReport:
    finished = StepFinished(output_json="x" * size)
    return StepReport(report_id=outbox.next_id(), finished=finished)


async def test_everything_that_waits_goes_into_one_message() -> None:
    outbox = Outbox()
    reports = [report(outbox) for _ in range(3)]
    for one in reports:
        outbox.post(one)
    outbox.beat()

    request = await outbox.next_request()

    assert list(request.reports) == reports
    assert request.HasField("heartbeat")


async def test_a_message_is_bounded_but_never_empty() -> None:
    outbox = Outbox()
    for _ in range(3):
        outbox.post(report(outbox, MAX_BATCH_BYTES * 2 // 3))

    sizes = [len((await outbox.next_request()).reports) for _ in range(3)]

    assert sizes == [1, 1, 1]


async def test_nothing_to_send_waits() -> None:
    outbox = Outbox()
    waiting = asyncio.create_task(outbox.next_request())
    await asyncio.sleep(0)
    assert not waiting.done()

    outbox.post(report(outbox))

    assert len((await waiting).reports) == 1


async def test_acknowledgement_reaches_its_report_once() -> None:
    outbox = Outbox()
    future = outbox.post(report(outbox))

    assert outbox.acknowledge(1, AckStatus.OK)
    assert not outbox.acknowledge(1, AckStatus.SEEN)
    assert not outbox.acknowledge(99, AckStatus.OK)
    assert await future == AckStatus.OK


async def test_rewind_sends_what_is_open_again_in_order() -> None:
    outbox = Outbox()
    for _ in range(4):
        outbox.post(report(outbox))
    await outbox.next_request()
    outbox.acknowledge(2, AckStatus.OK)
    outbox.drop(3)

    outbox.rewind()

    assert [r.report_id for r in (await outbox.next_request()).reports] == [1, 4]


async def test_dropped_report_is_not_sent() -> None:
    outbox = Outbox()
    outbox.post(report(outbox))
    outbox.post(report(outbox))
    outbox.drop(1)

    assert [r.report_id for r in (await outbox.next_request()).reports] == [2]
