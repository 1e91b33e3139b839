"""The scheduler before keys that are bound to agents or definitions, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.client import NO_DEADLINE, caller_token
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import FINGERPRINT, SchedulerWorld, State, scheduler_world
from tests.servers import Database

pytestmark = pytest.mark.db

OURS, THEIRS = (str(UUID(int=2**100 + place)) for place in range(2))
BOUND: dict[str, Any] = {"allowed_agent_ids": frozenset({OURS})}
TO_DEFINITIONS: dict[str, Any] = {"allowed_task_ids": frozenset({OURS})}
AGENTS = (OURS, THEIRS, None)


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def submit(
    world: SchedulerWorld, agent_id: str | None, *, token: Any = None, **request: Any
) -> task_pb2.Task:
    agent = None if agent_id is None else service_pb.AgentRef(agent_id=agent_id)
    return (await world.submit({"steps": 1}, token=token, agent=agent, **request)).task


async def refusal_of(call: Any) -> PawlError:
    with pytest.raises(PawlError) as refused:
        await call
    return refused.value


async def collected(stream: Any) -> list[Any]:
    return [answer async for answer in stream]


async def test_bound_key_submits_for_its_agents_alone(world: SchedulerWorld) -> None:
    ours = await submit(world, OURS, token=BOUND)
    codes = [(await refusal_of(submit(world, agent, token=BOUND))).code for agent in (THEIRS, None)]
    refused = await refusal_of(submit(world, THEIRS, token=BOUND))

    assert ours.agent_id == OURS
    assert codes == ["permission_denied"] * 2
    assert THEIRS in refused.message
    assert await world.ask("SELECT count(*) FROM scheduler.tasks") == [{"count": 1}]


@pytest.mark.parametrize("agent_id", AGENTS)
async def test_key_bound_to_definitions_submits_no_free_task(
    world: SchedulerWorld, agent_id: str | None
) -> None:
    refused = await refusal_of(submit(world, agent_id, token=TO_DEFINITIONS))

    assert refused.code == "permission_denied"
    assert "allowed_task_ids" in refused.message
    assert await world.ask("SELECT count(*) FROM scheduler.tasks") == [{"count": 0}]
    assert world.planner.requests == []


@pytest.mark.parametrize("binding", [BOUND, TO_DEFINITIONS], ids=["agents", "definitions"])
async def test_tasks_beyond_reach_are_as_unknown_as_none(
    world: SchedulerWorld, binding: dict[str, Any]
) -> None:
    beyond = [(await submit(world, agent)).id for agent in (THEIRS, None)]
    said = set()

    for task_id in (*beyond, str(new_id())):
        for name, request in (
            ("GetTask", service_pb.GetTaskRequest(task_id=task_id, wait_seconds=25)),
            ("CancelTask", service_pb.CancelTaskRequest(task_id=task_id)),
        ):
            with caller_token(world.token(**binding)):
                refused = await refusal_of(getattr(world.tasks, name)(request, timeout=30))
            said.add((refused.code, refused.message))
        for name, asked in (
            ("GetTrace", service_pb.GetTraceRequest(task_id=task_id)),
            ("WatchEvents", service_pb.WatchEventsRequest(task_id=task_id)),
        ):
            with caller_token(world.token(**binding)):
                refused = await refusal_of(collected(getattr(world.tasks, name)(asked)))
            said.add((refused.code, refused.message))

    assert len(said) == 1
    assert said.pop()[0] == "not_found"
    states = {(await world.get(task_id)).state for task_id in beyond}
    assert states == {State.TASK_STATE_QUEUED}


async def test_bound_key_sees_cancels_and_follows_its_agents_tasks(world: SchedulerWorld) -> None:
    task = await submit(world, OURS)
    watched = service_pb.WatchEventsRequest(task_id=task.id)

    with caller_token(world.token(**BOUND)):
        found = await world.tasks.GetTask(service_pb.GetTaskRequest(task_id=task.id))
        cancelled = await world.tasks.CancelTask(service_pb.CancelTaskRequest(task_id=task.id))
        pages = await collected(world.tasks.GetTrace(service_pb.GetTraceRequest(task_id=task.id)))
        events = await collected(world.tasks.WatchEvents(watched))

    assert found.task.id == task.id
    assert cancelled.task.state == State.TASK_STATE_CANCELLED
    assert pages[0].page.head.task.id == task.id
    assert [event.seq for answer in events for event in answer.events] == [1, 2, 3, 4, 5]


async def test_replay_stays_within_reach(world: SchedulerWorld) -> None:
    async with world.executor():
        ours, theirs = [(await submit(world, a, wait_seconds=10)).id for a in (OURS, THEIRS)]

    async def replay(task_id: str, binding: dict[str, Any]) -> Any:
        with caller_token(world.token(**binding)):
            wanted = service_pb.ReplayTaskRequest(task_id=task_id)
            return await world.tasks.ReplayTask(wanted, timeout=30)

    answer = await replay(ours, BOUND)
    assert answer.task.agent_id == OURS
    assert (await refusal_of(replay(theirs, BOUND))).code == "not_found"
    assert (await refusal_of(replay(ours, TO_DEFINITIONS))).code == "permission_denied"


async def test_idempotency_key_of_an_unseen_task_tells_nothing_of_it(
    world: SchedulerWorld,
) -> None:
    """The fingerprint is the caller's word: it cannot open a task of another agent."""
    key = {"idempotency_key": "k", "request_fingerprint": FINGERPRINT}
    await submit(world, THEIRS, **key)

    refused = await refusal_of(submit(world, OURS, token=BOUND, **key))
    other = await refusal_of(submit(world, OURS, **{**key, "request_fingerprint": "0" * 64}))

    assert refused.code == "idempotency_key_reused"
    assert refused.message == other.message


async def test_feed_of_a_bound_key_has_its_agents_tasks_alone(world: SchedulerWorld) -> None:
    before = await submit(world, OURS)
    await submit(world, THEIRS)
    request = service_pb.WatchEventsRequest(after_position=0)
    seen: list[Any] = []

    async with aclosing(world.tasks.WatchEvents(request, timeout=NO_DEADLINE)) as stream:
        with caller_token(world.token(**BOUND)):
            first = await anext(stream)
        await submit(world, None)
        after = await submit(world, OURS)
        async with asyncio.timeout(10):
            while len(seen) < 6:
                seen.extend((await anext(stream)).events)

    assert list(first.events) == []
    assert [event.task_id for event in seen] == [before.id] * 3 + [after.id] * 3
    positions = [event.position for event in seen]
    assert positions == sorted(set(positions))
    assert positions[-1] > 6  # events of others stand between
