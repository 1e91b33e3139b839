"""How an executor ends: its last word to the scheduler, and what it does without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from libs.rpc.tokens import KeyRing
from tests.executor_world import FakeTool, Stubborn
from tests.waiting import eventually
from tests.worker_world import FAST, World, open_world


@pytest_asyncio.fixture
async def world(keys: KeyRing) -> AsyncIterator[World]:
    async with open_world(keys) as world:
        yield world


async def test_idle_executor_leaves_on_the_stream_that_it_has(world: World) -> None:
    session = await world.scheduler.session()
    await eventually(world.worker.connected.is_set)

    await asyncio.wait_for(world.end(), FAST.leave)

    assert session.has_left
    assert len(world.scheduler.sessions) == 1


async def test_killed_tool_is_dead_before_the_executor_leaves(world: World) -> None:
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    await world.begun(order)

    world.stop.set()
    draining = await world.scheduler.session(2)
    early = [request for request in draining.requests if request.leaving]
    was_dead_first = await eventually(lambda: draining.has_left and world.gate.cancelled.is_set())
    await world.end()

    assert early == []
    assert was_dead_first
    assert draining.reports == []


async def test_executor_leaves_after_its_last_acknowledgement(world: World) -> None:
    order = world.assignment(("fake", {}))
    world.scheduler.keep = [order.task_id]
    await world.begun(order)
    world.stop.set()
    draining = await world.scheduler.session(2)
    world.gate.open.set()
    last = await draining.report(1)

    left_early = draining.has_left
    draining.ack(last)
    await world.end()

    assert not left_early
    assert draining.has_left


async def test_task_that_comes_while_the_executor_leaves_is_not_begun(world: World) -> None:
    session = await world.scheduler.session()
    await eventually(world.worker.connected.is_set)

    world.stop.set()
    session.send(assignments=[world.assignment(("fake", {}))])
    await world.end()

    assert not world.gate.entered.is_set()
    assert session.reports == []
    assert session.has_left


async def test_scheduler_that_is_away_does_not_hold_up_the_end(world: World) -> None:
    session = await world.scheduler.session()
    session.end()
    await world.server.stop()

    await asyncio.wait_for(world.end(), 2 * FAST.leave)

    assert not session.has_left


async def test_executor_with_a_tool_that_does_not_end_says_nothing(keys: KeyRing) -> None:
    tool = Stubborn()
    async with open_world(keys, FakeTool(tool.call, name="stubborn")) as world:
        session = await world.scheduler.session()
        order = world.assignment(("stubborn", {}))
        world.scheduler.keep = [order.task_id]
        session.send(assignments=[order])
        session.ack(await session.report(1))
        await eventually(tool.entered.is_set)

        await asyncio.wait_for(world.end(), 2 * FAST.drain)

        assert not any(one.has_left for one in world.scheduler.sessions)
        tool.open.set()
