"""Events published anew over real gRPC: of a task, and of what consumers had put aside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus.topics import ARTIFACT_EVENTS, TASK_EVENTS
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc as service_grpc
from libs.rpc.client import caller_token
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import (
    OTHER_TENANT,
    TENANT,
    SchedulerWorld,
    issue,
    scheduler_world,
)
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

OPERATOR = frozenset({"operator"})


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def republish(
    world: SchedulerWorld, *, scopes: frozenset[str] = OPERATOR, **which: Any
) -> service_pb.RepublishEventsResponse:
    stub = world.channel.stub(service_grpc.SchedulerServiceStub)
    with caller_token(issue(world.keys, OTHER_TENANT, scopes=scopes)):
        answer = await stub.RepublishEvents(service_pb.RepublishEventsRequest(**which))
    assert isinstance(answer, service_pb.RepublishEventsResponse)
    return answer


async def published(world: SchedulerWorld) -> list[str]:
    """The ids of all events on the topic, in order."""
    rows = await world.ask(
        "SELECT headers::json->>'ce_id' AS id FROM bus.records WHERE topic = %s ORDER BY position",
        (TASK_EVENTS,),
    )
    return [row["id"] for row in rows]


async def put_letter(world: SchedulerWorld, key: str, **headers: str) -> None:
    said = {
        "pawl_reason": "ValueError: it hurt",
        "pawl_group": "auth-usage",
        "pawl_attempts": "3",
        "pawl_partition": "0",
        "pawl_position": "1",
    }
    await world.ask("SELECT bus.dead_letter(%s, %s, '{}')", (key, json.dumps(said | headers)))


async def a_finished_task(world: SchedulerWorld) -> str:
    async with world.executor():
        task_id = (await world.submit({"steps": 1}, tenant_id=TENANT, wait_seconds=10)).task.id

    async def all_out() -> bool:
        return len(await published(world)) >= 7

    await eventually(all_out)
    return task_id


async def test_events_of_a_task_go_out_once_more_with_their_ids(world: SchedulerWorld) -> None:
    task_id = await a_finished_task(world)

    answer = await republish(world, task_id=task_id)

    async def twice() -> bool:
        return len(await published(world)) == 14

    await eventually(twice)
    assert (answer.events, answer.letters, answer.unknown_letters) == (7, 0, 0)
    assert await published(world) == [f"{task_id}:{seq}" for seq in range(1, 8)] * 2


async def test_dead_letters_bring_their_events_once(world: SchedulerWorld) -> None:
    task_id = await a_finished_task(world)
    for seq in ("3", "5", "3"):
        await put_letter(world, task_id, pawl_topic=TASK_EVENTS, ce_sequence=seq)
    await put_letter(world, task_id, pawl_topic=TASK_EVENTS, ce_sequence="99")
    await put_letter(world, str(new_id()), pawl_topic=TASK_EVENTS, ce_sequence="1")
    await put_letter(world, "junk", pawl_topic=TASK_EVENTS)
    await put_letter(world, task_id, pawl_topic=ARTIFACT_EVENTS, ce_sequence="1")

    first = await republish(world, from_dead_letters=True)
    second = await republish(world, from_dead_letters=True)

    async def out() -> bool:
        return len(await published(world)) == 9

    await eventually(out)
    assert (first.events, first.letters, first.unknown_letters) == (2, 7, 4)
    assert (second.events, second.letters) == (0, 0)
    assert sorted((await published(world))[7:]) == [f"{task_id}:3", f"{task_id}:5"]


@pytest.mark.parametrize(
    ("which", "scopes", "code"),
    [
        ({"task_id": str(new_id())}, OPERATOR, "not_found"),
        ({"task_id": "what"}, OPERATOR, "not_found"),
        ({}, OPERATOR, "validation_failed"),
        ({"from_dead_letters": False}, OPERATOR, "validation_failed"),
        ({"task_id": str(new_id())}, frozenset({"tasks:write"}), "insufficient_scope"),
        ({"from_dead_letters": True}, frozenset({"tasks:read"}), "insufficient_scope"),
    ],
)
async def test_refusals(
    world: SchedulerWorld, which: dict[str, Any], scopes: frozenset[str], code: str
) -> None:
    with pytest.raises(PawlError) as refused:
        await republish(world, scopes=scopes, **which)

    assert refused.value.code == code
