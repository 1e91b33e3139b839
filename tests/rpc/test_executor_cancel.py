"""Stops that cancel a task: what is killed, what is reported, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from tests.executor_world import FakeTool, Stubborn
from tests.waiting import eventually
from tests.worker_world import World, open_world


@pytest_asyncio.fixture
async def world(keys: KeyRing) -> AsyncIterator[World]:
    async with open_world(keys) as world:
        yield world


@pytest_asyncio.fixture
async def stubborn(keys: KeyRing) -> AsyncIterator[tuple[World, Stubborn]]:
    """A world with a tool `stubborn` that outlives every stop."""
    tool = Stubborn()
    async with open_world(keys, FakeTool(tool.call, name="stubborn")) as world:
        yield world, tool
        tool.open.set()


def cancel(order: pb.Assignment) -> pb.Stop:
    return pb.Stop(
        task_id=order.task_id, lease_token=order.lease_token, reason="cancelled", cancel=True
    )


async def test_cancel_kills_the_step_and_reports_the_end(world: World) -> None:
    order = world.assignment(("fake", {}), ("fake", {}), lease_token=5)
    session = await world.begun(order)

    session.send(stops=[cancel(order)])
    report = await session.report(2)

    assert world.gate.cancelled.is_set()
    assert (report.task_id, report.lease_token) == (order.task_id, 5)
    assert report.end == pb.TaskEnd(state=task_pb2.TASK_STATE_CANCELLED)
    assert not report.HasField("finished")
    assert not report.HasField("started_step_index")
    session.ack(report)
    await eventually(lambda: not world.worker.running_task_ids)


async def test_cancel_asked_for_twice_reports_once(world: World) -> None:
    order = world.assignment(("fake", {}))
    session = await world.begun(order)

    session.send(stops=[cancel(order), cancel(order)])
    report = await session.report(2)
    session.send(stops=[cancel(order)])
    session.ack(report)

    await eventually(lambda: not world.worker.running_task_ids)
    assert len(session.reports) == 2


async def test_cancel_of_another_lease_or_task_is_ignored(world: World) -> None:
    order = world.assignment(("fake", {}), lease_token=5)
    session = await world.begun(order)
    older, unknown = cancel(order), cancel(order)
    older.lease_token = 4
    unknown.task_id = "0193f9c8-0000-7000-8000-0000000000ff"

    session.send(stops=[older, unknown])
    world.gate.open.set()

    assert (await session.report(2)).end.state == task_pb2.TASK_STATE_SUCCEEDED
    assert not world.gate.cancelled.is_set()


async def test_cancel_while_the_start_is_late_ends_in_silence(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))
    session.send(assignments=[order])
    started = await session.report(1)

    session.send(stops=[cancel(order)])
    session.ack(started, pb.ACK_STATUS_LATE)

    await eventually(lambda: not world.worker.running_task_ids)
    assert len(session.reports) == 1
    assert not world.gate.entered.is_set()


async def test_cancel_after_the_start_was_recorded_calls_no_tool(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))
    session.send(assignments=[order])
    started = await session.report(1)

    session.send(stops=[cancel(order)])
    session.ack(started)
    report = await session.report(2)

    assert report.end.state == task_pb2.TASK_STATE_CANCELLED
    assert not report.HasField("finished")
    assert not world.gate.entered.is_set()


async def test_cancel_together_with_the_assignment_starts_nothing(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))

    session.send(assignments=[order], stops=[cancel(order)])
    report = await session.report(1)

    assert report.end.state == task_pb2.TASK_STATE_CANCELLED
    assert not report.HasField("started_step_index")


async def test_step_that_closed_by_itself_is_reported_in_spite_of_the_cancel(world: World) -> None:
    order = world.assignment(("fake", {}), ("fake", {}))
    session = await world.begun(order)
    world.gate.open.set()
    closed = await session.report(2)

    session.send(stops=[cancel(order)])
    session.ack(closed, pb.ACK_STATUS_LATE)

    await eventually(lambda: not world.worker.running_task_ids)
    assert (closed.finished.step_index, closed.started_step_index) == (1, 2)
    assert len(session.reports) == 2
    assert not world.gate.cancelled.is_set()


async def test_cancelled_end_is_sent_again_after_a_broken_stream(world: World) -> None:
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    session = await world.begun(order)
    session.send(stops=[cancel(order)])
    lost = await session.report(2)

    session.end()
    again = await (await world.scheduler.session(2)).report(1)

    assert again == lost


async def test_cancel_waits_for_a_tool_that_does_not_end(
    stubborn: tuple[World, Stubborn],
) -> None:
    world, tool = stubborn
    session = await world.scheduler.session()
    order = world.assignment(("stubborn", {}))
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(tool.entered.is_set)

    session.send(stops=[cancel(order)])
    await eventually(tool.cancelled.is_set)
    beats = session.heartbeats
    await eventually(lambda: session.heartbeats > beats + 5)
    reported, running = len(session.reports), world.worker.running_task_ids
    tool.open.set()

    assert (reported, running) == (1, (order.task_id,))
    assert (await session.report(2)).end.state == task_pb2.TASK_STATE_CANCELLED


async def test_stop_gives_up_a_tool_that_does_not_end(stubborn: tuple[World, Stubborn]) -> None:
    world, tool = stubborn
    session = await world.scheduler.session()
    order = world.assignment(("stubborn", {}))
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(tool.entered.is_set)
    session.send(stops=[cancel(order)])
    await eventually(tool.cancelled.is_set)

    session.send(stops=[pb.Stop(task_id=order.task_id, lease_token=1, reason="fenced")])

    await eventually(lambda: not world.worker.running_task_ids)
    assert len(session.reports) == 1
