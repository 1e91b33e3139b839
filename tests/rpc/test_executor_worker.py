"""The worker against a scheduler that is a fake, over real gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.core.canonical import Json
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.rpc.convert import tool_ref_to_proto
from libs.rpc.tokens import KeyRing
from tests.executor_world import FakeTool, echo
from tests.waiting import eventually
from tests.worker_world import BOOT_ID, World, open_world


@pytest_asyncio.fixture
async def world(keys: KeyRing) -> AsyncIterator[World]:
    async with open_world(keys) as world:
        yield world


async def test_hello_names_the_executor_and_its_exact_tools(world: World) -> None:
    hello = (await world.scheduler.session()).hello

    assert (hello.executor_id, hello.boot_id, hello.slots) == ("e1", BOOT_ID, 4)
    assert [tool_ref_to_proto(ref) for ref in world.registry.refs] == list(hello.tools)
    assert list(hello.running) == []
    await eventually(world.worker.connected.is_set)


async def test_other_tools_are_said_in_a_new_hello_that_keeps_what_runs(world: World) -> None:
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    before = await world.begun(order)

    world.registry.add(FakeTool(echo, name="later"))
    after = await world.scheduler.session(2)
    world.gate.open.set()
    closed = await after.report(1)

    assert before.closed.is_set()
    assert not before.has_left
    assert [tool_ref_to_proto(ref) for ref in world.registry.refs] == list(after.hello.tools)
    assert "later" in {tool.name for tool in after.hello.tools}
    assert [running.task_id for running in after.hello.running] == [order.task_id]
    assert closed.finished.step_index == 1
    assert not world.gate.cancelled.is_set()


async def test_a_tool_that_is_not_available_is_in_no_hello(world: World) -> None:
    """Its tasks go to another executor, or wait."""
    available = True
    world.registry.add(FakeTool(echo, name="later"), is_available=lambda: available)
    with_it = await world.scheduler.session(2)
    await eventually(world.worker.connected.is_set)

    available = False
    world.registry.changed()
    without = await world.scheduler.session(3)
    available = True
    world.registry.changed()
    again = await world.scheduler.session(4)

    names = [{tool.name for tool in one.hello.tools} for one in (with_it, without, again)]
    assert [("later" in found, "math" in found) for found in names] == [
        (True, True),
        (False, True),
        (True, True),
    ]


async def test_a_change_that_changes_no_tool_leaves_the_stream(world: World) -> None:
    session = await world.scheduler.session()
    await eventually(world.worker.connected.is_set)

    world.registry.changed()
    before = session.heartbeats
    await eventually(lambda: session.heartbeats >= before + 3)

    assert not session.closed.is_set()
    assert len(world.scheduler.sessions) == 1


async def test_heartbeats_come_by_themselves(world: World) -> None:
    session = await world.scheduler.session()

    await eventually(lambda: session.heartbeats >= 3)


async def test_task_runs_step_by_step_on_acknowledgements(world: World) -> None:
    session = await world.scheduler.session()
    chained: Json = {"expression": "a+1", "variables": {"a": {"$ref": "steps.1.output.result"}}}
    order = world.assignment(("math", {"expression": "1/4"}), ("math", chained), lease_token=9)

    session.send(assignments=[order])
    first = await session.report(1)
    session.ack(first)
    second = await session.report(2)
    session.ack(second)
    third = await session.report(3)
    session.ack(third)

    assert {(r.task_id, r.lease_token) for r in session.reports} == {(order.task_id, 9)}
    assert first.started_step_index == 1
    assert not first.HasField("finished")
    assert (second.finished.step_index, second.finished.output_json) == (1, '{"result":0.25}')
    assert second.started_step_index == 2
    assert not second.HasField("end")
    assert (third.finished.step_index, third.finished.output_json) == (2, '{"result":1.25}')
    assert third.end.state == task_pb2.TASK_STATE_SUCCEEDED
    assert first.report_id < second.report_id < third.report_id
    await eventually(lambda: not world.worker.running_task_ids)


async def test_step_waits_for_the_acknowledgement_of_its_start(world: World) -> None:
    session = await world.scheduler.session()
    session.send(assignments=[world.assignment(("fake", {}))])
    started = await session.report(1)
    beats = session.heartbeats

    await eventually(lambda: session.heartbeats > beats + 2)
    assert not world.gate.entered.is_set()
    session.ack(started)

    await eventually(world.gate.entered.is_set)


async def test_failed_step_reports_failure_and_schema_failures(world: World) -> None:
    session = await world.scheduler.session()
    world.scheduler.acks_all = True

    session.send(assignments=[world.assignment(("math", {"expression": {"$ref": "input.x"}}))])
    report = await session.report(2)

    assert not report.finished.HasField("output_json")
    assert report.finished.failure.code == "INPUT_SCHEMA"
    assert report.finished.failure.step_index == 1
    assert report.end.state == task_pb2.TASK_STATE_FAILED
    assert report.end.failure == report.finished.failure
    (listed,) = json.loads(report.finished.schema_failures_json)
    assert (listed["path"], listed["where"]) == ("expression", "input")


@pytest.mark.parametrize(
    "status", [pb.ACK_STATUS_STALE_LEASE, pb.ACK_STATUS_LATE, pb.ACK_STATUS_TERMINAL]
)
async def test_refused_report_ends_the_task_in_silence(
    world: World, status: pb.AckStatus.ValueType
) -> None:
    session = await world.scheduler.session()
    session.send(assignments=[world.assignment(("fake", {}))])

    session.ack(await session.report(1), status)

    await eventually(lambda: not world.worker.running_task_ids)
    assert not world.gate.entered.is_set()
    assert len(session.reports) == 1


async def test_stop_order_cancels_the_tool_and_forgets_the_task(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), lease_token=5)
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    session.send(stops=[pb.Stop(task_id=order.task_id, lease_token=4, reason="older")])
    session.send(stops=[pb.Stop(task_id=order.task_id, lease_token=5, reason="cancelled")])

    await eventually(world.gate.cancelled.is_set)
    await eventually(lambda: not world.worker.running_task_ids)
    assert len(session.reports) == 1


async def test_stop_order_of_another_lease_is_ignored(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), lease_token=5)
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    session.send(stops=[pb.Stop(task_id=order.task_id, lease_token=4, reason="older")])
    world.gate.open.set()

    assert (await session.report(2)).end.state == task_pb2.TASK_STATE_SUCCEEDED
    assert not world.gate.cancelled.is_set()


async def test_broken_stream_is_resumed_and_reports_are_sent_again(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), ("math", {"expression": "1"}), lease_token=3)
    world.scheduler.keep = [order.task_id]
    session.send(assignments=[order])
    started = await session.report(1)
    session.ack(started)
    await eventually(world.gate.entered.is_set)
    world.gate.open.set()
    lost = await session.report(2)

    session.end()
    resumed = await world.scheduler.session(2)
    again = await resumed.report(1)
    resumed.ack(again, pb.ACK_STATUS_SEEN)

    assert resumed.hello.boot_id == BOOT_ID
    assert list(resumed.hello.running) == [
        pb.RunningTask(task_id=order.task_id, lease_token=3, last_acked_report_id=started.report_id)
    ]
    assert again == lost
    assert (await resumed.report(2)).end.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_reports_of_several_tasks_are_sent_again_in_order(world: World) -> None:
    session = await world.scheduler.session()
    orders = [world.assignment(("math", {"expression": "1"})) for _ in range(3)]
    world.scheduler.keep = [order.task_id for order in orders]
    session.send(assignments=orders)
    await session.report(3)

    session.end()
    resumed = await world.scheduler.session(2)
    await resumed.report(3)

    ids = [report.report_id for report in resumed.reports]
    assert ids == sorted(report.report_id for report in session.reports)
    assert len(resumed.requests[0].reports) == 3


async def test_task_that_is_not_kept_is_stopped(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))
    world.scheduler.stop = [order.task_id]
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    session.end()

    await eventually(world.gate.cancelled.is_set)
    await eventually(lambda: not world.worker.running_task_ids)
    assert (await world.scheduler.session(2)).reports == []


async def test_worker_connects_again_when_hello_is_not_answered(world: World) -> None:
    world.scheduler.answers_hello = False
    (await world.scheduler.session()).end()
    await world.scheduler.session(2)
    world.scheduler.answers_hello = True

    session = await world.scheduler.session(3)

    await eventually(world.worker.connected.is_set)
    await eventually(lambda: session.heartbeats > 0)


async def test_task_assigned_anew_replaces_the_old_run(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), lease_token=1)
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    again = world.assignment(("math", {"expression": "1"}), lease_token=2, task_id=order.task_id)
    session.send(assignments=[again])
    session.ack(await session.report(2))

    assert (await session.report(3)).lease_token == 2
    await eventually(world.gate.cancelled.is_set)


async def test_unreadable_assignment_fails_the_task(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("math", {"expression": "1"}))
    order.plan.steps[0].input_json = "{"

    session.send(assignments=[order])
    report = await session.report(1)

    assert report.end.state == task_pb2.TASK_STATE_FAILED
    assert report.end.failure.code == "INTERNAL"


async def test_assignment_says_what_was_used_before(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("math", {"expression": "1"}))
    order.plan.limits.max_total_tokens = 5
    order.tokens_used = 6

    session.send(assignments=[order])
    report = await session.report(1)

    assert report.end.failure.code == "TOKEN_LIMIT"
    assert not report.HasField("started_step_index")


async def test_scheduler_that_drains_is_left_when_nothing_runs(world: World) -> None:
    session = await world.scheduler.session()
    session.send(assignments=[world.assignment(("fake", {}))])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    session.send(drain=True)
    world.gate.open.set()
    session.ack(await session.report(2))

    await world.scheduler.session(2)
    assert session.reports[1].end.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_stopping_executor_brings_running_tasks_to_their_end(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), ("math", {"expression": "1"}))
    world.scheduler.keep = [order.task_id]
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    world.stop.set()
    draining = await world.scheduler.session(2)
    world.gate.open.set()
    draining.ack(await draining.report(1))
    last = await draining.report(2)
    draining.ack(last)
    await asyncio.wait_for(world.end(), 5)

    assert last.end.state == task_pb2.TASK_STATE_SUCCEEDED


async def test_stopping_executor_hands_over_between_steps_in_the_end(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}), ("fake", {}))
    world.scheduler.keep = [order.task_id]
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    world.stop.set()
    draining = await world.scheduler.session(2)
    await eventually(lambda: world.worker._runs._hands_over)
    draining.send(assignments=[world.assignment(("fake", {}))])
    world.gate.open.set()
    closed = await draining.report(1)
    draining.ack(closed)
    await asyncio.wait_for(world.end(), 5)

    assert list(draining.hello.tools) == []
    assert [running.task_id for running in draining.hello.running] == [order.task_id]
    assert closed.finished.step_index == 1
    assert not closed.HasField("started_step_index")
    assert not closed.HasField("end")
    assert len(draining.reports) == 1
    assert not world.gate.cancelled.is_set()


async def test_stopping_executor_ends_tools_that_outlast_the_drain(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    await asyncio.wait_for(world.end(), 5)

    assert world.gate.cancelled.is_set()
    assert world.worker.running_task_ids == ()


async def test_ended_boot_is_followed_by_a_new_one_without_the_old_tasks(world: World) -> None:
    session = await world.scheduler.session()
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    session.send(assignments=[order])
    session.ack(await session.report(1))
    await eventually(world.gate.entered.is_set)

    world.scheduler.ended_boots.add(BOOT_ID)
    session.end()
    await eventually(world.gate.cancelled.is_set)
    fresh = await world.scheduler.session(2)

    assert fresh.hello.boot_id != BOOT_ID
    assert list(fresh.hello.running) == []
    assert fresh.hello.boot_id == world.worker.boot_id
