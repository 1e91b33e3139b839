"""Streams and waits at the scheduler end with the caller token that they began with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.client import NO_DEADLINE, caller_token
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import TENANT, SchedulerWorld, scheduler_world
from tests.servers import Database

TOKEN_SECONDS = 1.0


@pytest_asyncio.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


def brief(world: SchedulerWorld) -> str:
    """A token that ends soon."""
    return world.token(TENANT, expires_at=time.time() + TOKEN_SECONDS)


async def answers_of(
    world: SchedulerWorld, request: service_pb.WatchEventsRequest
) -> list[service_pb.WatchEventsResponse]:
    """Every answer until the stream ends, which is well."""
    with caller_token(brief(world)):
        stream = world.tasks.WatchEvents(request, timeout=NO_DEADLINE)
        async with asyncio.timeout(10):
            return [answer async for answer in stream]


async def test_the_stream_of_a_task_ends_with_the_token(world: SchedulerWorld) -> None:
    task_id = (await world.submit({"steps": 1})).task.id
    began = time.monotonic()

    answers = await answers_of(world, service_pb.WatchEventsRequest(task_id=task_id))

    assert [event.seq for answer in answers for event in answer.events] == [1, 2, 3]
    assert time.monotonic() - began < TOKEN_SECONDS + 2


@pytest.mark.parametrize("after", [None, 0])
async def test_the_stream_of_a_tenant_ends_with_the_token_and_says_how_far_it_has_come(
    world: SchedulerWorld, after: int | None
) -> None:
    request = service_pb.WatchEventsRequest(after_position=after)
    following = asyncio.create_task(answers_of(world, request))
    async with world.executor():
        await world.submit({"steps": 1}, wait_seconds=10)

    first, *middle, last = await following

    assert first.HasField("position")
    assert first.position == 0
    events = [event for answer in middle for event in answer.events]
    assert [event.seq for event in events] == list(range(1, 8))
    assert not any(answer.HasField("position") for answer in middle)
    assert not last.events
    assert last.position == events[-1].position


async def test_streams_taken_up_one_after_another_miss_nothing_and_repeat_nothing(
    world: SchedulerWorld,
) -> None:
    async def submit() -> None:
        for _ in range(30):
            await world.submit({"steps": 1}, wait_seconds=10)

    found: list[int] = []
    async with world.executor():
        submitting = asyncio.create_task(submit())
        position = 0
        while len(found) < 210:
            *answers, last = await answers_of(
                world, service_pb.WatchEventsRequest(after_position=position)
            )
            found += [event.position for answer in answers for event in answer.events]
            position = last.position
        await submitting

    rows: list[dict[str, Any]] = await world.ask("SELECT position FROM bus.records ORDER BY 1")
    assert found == [row["position"] for row in rows]


async def test_a_wait_ends_with_the_token(world: SchedulerWorld) -> None:
    task_id = (await world.submit({"steps": 1})).task.id
    began = time.monotonic()

    with caller_token(brief(world)):
        asked = service_pb.GetTaskRequest(task_id=task_id, wait_seconds=20)
        said = await world.tasks.GetTask(asked, timeout=25)

    assert said.task.state == task_pb2.TASK_STATE_QUEUED
    assert time.monotonic() - began < TOKEN_SECONDS + 2
