"""ListTasks and CountTasks over real gRPC: pages, cursors, refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.rpc.client import caller_token
from libs.rpc.convert import from_timestamp, to_timestamp
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import OTHER_TENANT, TENANT, SchedulerWorld, State, scheduler_world
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

QUEUED = State.TASK_STATE_QUEUED
CANCELLED = State.TASK_STATE_CANCELLED


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def page(
    world: SchedulerWorld,
    *,
    tenant_id: UUID = TENANT,
    token: dict[str, Any] | None = None,
    **members: Any,
) -> service_pb.ListTasksResponse:
    request = service_pb.ListTasksRequest(**members)
    with caller_token(world.token(tenant_id, **token or {})):
        answer: service_pb.ListTasksResponse = await world.tasks.ListTasks(request, timeout=30)
    return answer


async def walk(world: SchedulerWorld, **members: Any) -> list[str]:
    """The ids of every page."""
    ids: list[str] = []
    token = ""
    while True:
        answer = await page(world, page_token=token, **members)
        ids += [task.id for task in answer.tasks]
        token = answer.next_page_token
        if not token:
            return ids


async def refused(call: Any) -> PawlError:
    with pytest.raises(PawlError) as caught:
        await call
    return caught.value


async def submitted(world: SchedulerWorld, count: int) -> list[str]:
    """The ids of new tasks, the newest first."""
    ids = [(await world.submit({"steps": 1})).task.id for _ in range(count)]
    return list(reversed(ids))


async def test_pages_have_every_task_once_the_newest_first(world: SchedulerWorld) -> None:
    ids = await submitted(world, 11)

    for page_size in (1, 3, 10, 11, 200, 0):
        assert await walk(world, page_size=page_size) == ids
    assert not (await page(world, page_size=11)).next_page_token


async def test_a_listed_task_has_no_plan_and_says_not_why_it_waits(world: SchedulerWorld) -> None:
    (task_id,) = await submitted(world, 1)

    (task,) = (await page(world)).tasks

    whole = await world.get(task_id)
    assert whole.HasField("plan")
    for name in ("plan", "planner_note", "waiting"):
        whole.ClearField(name)
    assert task == whole


async def test_filters_are_heeded(world: SchedulerWorld) -> None:
    newest, middle, oldest = await submitted(world, 3)
    await world.cancel(middle)
    at = to_timestamp(from_timestamp((await world.get(middle)).created_at))
    later = to_timestamp(from_timestamp(at) + timedelta(microseconds=1))
    test = (await world.submit({"steps": 1}, mode="test")).task.id

    assert await walk(world, states=[CANCELLED]) == [middle]
    assert await walk(world, states=[QUEUED], mode="live") == [newest, oldest]
    assert await walk(world, mode="test") == [test]
    assert await walk(world, created_from=at, created_before=later) == [middle]
    assert await walk(world, created_before=at) == [oldest]
    assert await walk(world, created_from=later, mode="live") == [newest]
    assert await walk(world, agent_id=str(new_id())) == []
    assert await walk(world, replay_of_task_id=oldest) == []
    replay = (await world.replay(middle)).task.id
    assert await walk(world, replay_of_task_id=f"task_{middle}") == [replay]


async def test_a_cursor_goes_on_when_the_size_of_pages_changes(world: SchedulerWorld) -> None:
    ids = await submitted(world, 9)
    first = await page(world, page_size=2)

    second = await page(world, page_size=5, page_token=first.next_page_token)

    assert [task.id for task in (*first.tasks, *second.tasks)] == ids[:7]


async def test_tasks_that_come_and_change_while_pages_are_read(world: SchedulerWorld) -> None:
    """Cancels, new tasks and their ends skip and repeat nobody who stood there before."""
    ids = await submitted(world, 40)

    async def trouble() -> None:
        for task_id in ids[::3]:
            # It may have ended by itself.
            with contextlib.suppress(PawlError):
                await world.cancel(task_id)
            await world.submit({"steps": 1})

    async with world.executor():
        troubling = asyncio.create_task(trouble())
        walks = []
        while not troubling.done():
            walks.append(await walk(world, page_size=7))
        await troubling
        walks.append(await walk(world, page_size=7))

    assert len(walks) > 1
    for found in walks:
        assert [one for one in found if one in set(ids)] == ids
        assert len(found) == len(set(found))


async def test_another_tenant_lists_nothing(world: SchedulerWorld) -> None:
    (task_id,) = await submitted(world, 1)
    await world.cancel(task_id)
    await world.replay(task_id)

    assert await walk(world, tenant_id=OTHER_TENANT) == []
    assert await walk(world, tenant_id=OTHER_TENANT, replay_of_task_id=task_id) == []


async def test_a_cursor_is_of_one_tenant_and_one_filter(world: SchedulerWorld) -> None:
    await submitted(world, 3)
    token = (await page(world, page_size=1, states=[QUEUED])).next_page_token
    tampered = ("A" if token[0] != "A" else "B") + token[1:]

    for call in (
        page(world, page_token=token),
        page(world, page_token=token, states=[QUEUED, CANCELLED]),
        page(world, page_token=token, states=[QUEUED], mode="live"),
        page(world, page_token=token, states=[QUEUED], tenant_id=OTHER_TENANT),
        page(world, page_token=tampered, states=[QUEUED]),
        page(world, page_token=token[:-1], states=[QUEUED]),
        page(world, page_token=token + "A", states=[QUEUED]),
        page(world, page_token="x" * 2000),
        page(world, page_token="\x00"),
    ):
        error = await refused(call)
        assert (error.code, error.errors[0].field) == ("invalid_cursor", "page_token")


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_size": 201}, "page_size"),
        ({"page_size": 2**31 - 1}, "page_size"),
        ({"states": [0]}, "states"),
        ({"states": [QUEUED, 99]}, "states"),
        ({"mode": "LIVE"}, "mode"),
        ({"mode": "x" * 5000}, "mode"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "me"}, "agent_id"),
        ({"replay_of_task_id": "\x00"}, "replay_of_task_id"),
    ],
)
async def test_what_no_task_can_have_is_refused(
    world: SchedulerWorld, members: dict[str, Any], field: str
) -> None:
    error = await refused(page(world, **members))

    assert (error.code, error.errors[0].field) == ("validation_failed", field)


@pytest.mark.parametrize("name", ["created_from", "created_before"])
async def test_a_time_that_is_none_is_refused(world: SchedulerWorld, name: str) -> None:
    request = service_pb.ListTasksRequest()
    getattr(request, name).seconds = 2**62
    with caller_token(world.token()):
        error = await refused(world.tasks.ListTasks(request))

    assert (error.code, error.errors[0].field) == ("validation_failed", name)


async def test_lists_and_counts_need_the_scope_of_reading(world: SchedulerWorld) -> None:
    token: dict[str, Any] = {"scopes": frozenset({"tasks:write"})}

    assert (await refused(page(world, token=token))).code == "insufficient_scope"
    with caller_token(world.token(**token)):
        error = await refused(world.tasks.CountTasks(service_pb.CountTasksRequest()))
    assert error.code == "insufficient_scope"


async def test_a_bound_key_lists_and_counts_what_it_reaches(world: SchedulerWorld) -> None:
    agent_id, other = str(new_id()), str(new_id())
    await world.submit({"steps": 1})
    theirs = [
        (await world.submit({"steps": 1}, agent=service_pb.AgentRef(agent_id=one))).task.id
        for one in (agent_id, other)
    ]
    bound: dict[str, Any] = {"allowed_agent_ids": frozenset({agent_id})}

    assert await walk(world, token=bound) == theirs[:1]
    assert await walk(world, token=bound, agent_id=agent_id) == theirs[:1]
    assert await walk(world, token=bound, agent_id=other) == []
    assert await walk(world, token=bound | {"allowed_task_ids": frozenset({other})}) == []
    assert await count(world, **bound) == (1, 0)
    assert await count(world, allowed_task_ids=frozenset({other})) == (0, 0)
    assert await count(world) == (3, 0)


async def test_what_has_not_ended_is_counted(world: SchedulerWorld) -> None:
    (task_id,) = await submitted(world, 1)
    await world.submit({"steps": 1}, tenant_id=OTHER_TENANT)
    async with world.executor(slots=1, is_manual=True) as executor:
        await submitted(world, 2)
        await eventually(lambda: executor.assignments)
        assert await count(world) == (2, 1)
        await world.cancel(task_id)

    assert await count(world, tenant_id=OTHER_TENANT) == (1, 0)


async def count(
    world: SchedulerWorld, *, tenant_id: UUID = TENANT, **token: Any
) -> tuple[int, int]:
    with caller_token(world.token(tenant_id, **token)):
        said = await world.tasks.CountTasks(service_pb.CountTasksRequest())
    return said.waiting, said.running
