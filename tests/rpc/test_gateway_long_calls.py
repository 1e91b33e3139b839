"""Streams and waits last longer than a caller token, and no longer than the key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import make_event, make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of
from tests.waiting import eventually

RUNNING = task_pb2.TASK_STATE_RUNNING
SUCCEEDED = task_pb2.TASK_STATE_SUCCEEDED
EXECUTE = "/api/v1/tasks/execute"
BODY = {"task_definition": {"topic": "ai"}, "max_steps": 1, "timeout_seconds": 45}
TOKEN_SECONDS = 1.0


@pytest_asyncio.fixture
async def world(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        world.auth.token_lives = TOKEN_SECONDS
        yield world


def made_requests(world: GatewayWorld, kind: type) -> list[Any]:
    return [one for one in world.scheduler.requests if isinstance(one, kind)]


def watches(world: GatewayWorld) -> list[scheduler_service_pb2.WatchEventsRequest]:
    return made_requests(world, scheduler_service_pb2.WatchEventsRequest)


async def collected(world: GatewayWorld, path: str) -> str:
    return (await world.http.get(path, timeout=10)).text


async def test_a_tasks_stream_goes_on_with_the_next_token(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
    world.scheduler.events.put_nowait([make_event(5, "step_started", RUNNING, RUNNING)])
    following = asyncio.create_task(collected(world, f"/api/v1/tasks/{task_id}/events"))
    await eventually(lambda: len(watches(world)) >= 3)

    world.scheduler.events.put_nowait([make_event(6, "status_transition", RUNNING, SUCCEEDED)])

    text = await following
    assert [line for line in text.splitlines() if line.startswith("id:")] == ["id: 5", "id: 6"]
    assert [one.after_seq for one in watches(world)[:3]] == [0, 5, 5]
    tokens = [caller.expires_at for caller in world.scheduler.callers]
    assert len(set(tokens)) >= 3


async def test_a_tenants_stream_goes_on_from_where_it_stood(world: GatewayWorld) -> None:
    world.scheduler.position = 1024
    following = asyncio.create_task(collected(world, "/v1/events"))
    await eventually(lambda: len(watches(world)) >= 2)
    event = make_event(7, "status_transition", RUNNING, SUCCEEDED)
    event.position = world.scheduler.position = 1030
    world.scheduler.events.put_nowait([event])
    await eventually(lambda: len(watches(world)) >= 3)

    world.auth.callers.clear()

    assert "id: 1030" in await following
    assert not watches(world)[0].HasField("after_position")
    assert [one.after_position for one in watches(world)[1:3]] == [1024, 1030]


@pytest.mark.parametrize("path", ["/v1/events", "/api/v1/tasks/{}/events"])
async def test_a_stream_ends_soon_after_its_key(world: GatewayWorld, path: str) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
    following = asyncio.create_task(collected(world, path.format(task_id)))
    await eventually(lambda: world.scheduler.watching == 1)

    world.auth.callers.clear()

    async with asyncio.timeout(5):
        assert "event:" not in await following
    await eventually(lambda: world.scheduler.watching == 0)


async def test_a_wait_goes_on_with_the_next_token(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING))
    looks = _looks_at(world)
    waiting = asyncio.create_task(world.http.get(f"/api/v1/tasks/{task_id}?wait=20", timeout=20))
    await eventually(lambda: len(looks()) >= 3)

    world.scheduler.keep(make_task(SUCCEEDED, id=task_id))

    answer = await waiting
    assert answer.json()["status"] == "succeeded"
    waits = [one.wait_seconds for one in looks()]
    assert waits[0] == 20.0
    assert waits == sorted(waits, reverse=True)


async def test_a_scheduler_whose_clock_is_fast_is_asked_again_with_another_token(
    world: GatewayWorld,
) -> None:
    world.auth.token_lives, world.scheduler.hurry_seconds = 2.0, 0.8
    task_id = world.scheduler.keep(make_task(RUNNING))
    following = asyncio.create_task(collected(world, f"/api/v1/tasks/{task_id}/events"))
    waiting = asyncio.create_task(world.http.get(f"/api/v1/tasks/{task_id}?wait=20", timeout=20))
    await eventually(lambda: len(watches(world)) >= 3, timeout=10)
    await eventually(lambda: len(_looks_at(world)()) >= 4, timeout=10)

    world.scheduler.keep(make_task(SUCCEEDED, id=task_id))
    world.scheduler.events.put_nowait([make_event(6, "status_transition", RUNNING, SUCCEEDED)])

    assert "id: 6" in await following
    assert (await waiting).json()["status"] == "succeeded"


async def test_a_stream_outlasts_an_outage_of_auth(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
    following = asyncio.create_task(collected(world, f"/api/v1/tasks/{task_id}/events"))
    await eventually(lambda: world.scheduler.watching == 1)
    world.auth.refusal = PawlError("unavailable", "away", retry_after_seconds=1)
    await eventually(lambda: world.scheduler.watching == 0)

    world.auth.refusal = None

    await eventually(lambda: world.scheduler.watching == 1)
    world.scheduler.events.put_nowait([make_event(6, "status_transition", RUNNING, SUCCEEDED)])
    assert "id: 6" in await following


async def test_a_wait_in_an_outage_of_auth_is_answered_with_the_state_of_then(
    world: GatewayWorld,
) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING))
    waiting = asyncio.create_task(world.http.get(f"/api/v1/tasks/{task_id}?wait=20", timeout=20))
    await eventually(_looks_at(world))

    world.auth.refusal = PawlError("unavailable", "away", retry_after_seconds=1)

    async with asyncio.timeout(10):
        answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert answer.headers["retry-after"]


async def test_a_wait_that_is_over_is_answered_with_the_state_of_then(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING))

    answer = await world.http.get(f"/api/v1/tasks/{task_id}?wait=2")

    assert answer.json()["status"] == "running"
    assert len(_looks_at(world)()) >= 2


async def test_a_wait_is_not_answered_once_its_key_has_ended(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING))
    waiting = asyncio.create_task(world.http.get(f"/api/v1/tasks/{task_id}?wait=20", timeout=20))
    await eventually(_looks_at(world))

    world.auth.callers.clear()

    async with asyncio.timeout(5):
        answer = await waiting
    assert answer.status_code == 401
    assert problem_of(answer)["code"] == "unauthenticated"


async def test_a_create_that_waits_is_not_answered_once_its_key_has_ended(
    world: GatewayWorld,
) -> None:
    answer = await _held_create(world, world.auth.callers.clear)

    assert answer.status_code == 401


async def test_a_create_that_waits_is_answered_soon_after_its_key_has_ended(
    world: GatewayWorld,
) -> None:
    world.scheduler.open.clear()
    sent = world.http.post(f"{EXECUTE}?wait=20", json=BODY, timeout=20)
    creating = asyncio.create_task(sent)
    await eventually(lambda: world.scheduler.callers)

    world.auth.callers.clear()

    async with asyncio.timeout(5):
        answer = await creating
    assert answer.status_code == 401


async def test_a_replay_that_waits_is_answered_soon_after_its_key_has_ended(
    world: GatewayWorld,
) -> None:
    original = world.scheduler.keep(make_task(SUCCEEDED))
    world.scheduler.open.clear()
    path = f"/api/v1/tasks/{original}/replay?wait=20"
    replaying = asyncio.create_task(world.http.post(path, json={}, timeout=20))
    await eventually(lambda: world.scheduler.callers)

    world.auth.callers.clear()

    async with asyncio.timeout(5):
        answer = await replaying
    assert answer.status_code == 401


async def test_a_create_that_waited_is_answered_while_auth_is_away(world: GatewayWorld) -> None:
    def leave() -> None:
        world.auth.refusal = PawlError("unavailable", "away", retry_after_seconds=1)

    answer = await _held_create(world, leave)

    assert answer.status_code == 200
    assert answer.json()["task_id"].endswith(world.scheduler.task.id)


async def _held_create(world: GatewayWorld, change: Callable[[], None]) -> httpx2.Response:
    """The answer to a create whose wait outlasted its token, with a change meanwhile."""
    world.scheduler.open.clear()
    headers = {"Idempotency-Key": str(new_id())}
    sent = world.http.post(f"{EXECUTE}?wait=20", json=BODY, headers=headers, timeout=20)
    creating = asyncio.create_task(sent)
    await eventually(lambda: world.scheduler.callers)
    change()
    # No other event marks the end of a token.
    await asyncio.sleep(TOKEN_SECONDS)
    world.scheduler.open.set()
    return await creating


def _looks_at(world: GatewayWorld) -> Callable[[], list[scheduler_service_pb2.GetTaskRequest]]:
    return lambda: made_requests(world, scheduler_service_pb2.GetTaskRequest)
