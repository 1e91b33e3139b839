"""Server-Sent Events over HTTP: ids, resuming, endings, refusals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import make_event, make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of
from tests.waiting import eventually

QUEUED = task_pb2.TASK_STATE_QUEUED
RUNNING = task_pb2.TASK_STATE_RUNNING
CANCELLED = task_pb2.TASK_STATE_CANCELLED
SUCCEEDED = task_pb2.TASK_STATE_SUCCEEDED
TASK = "0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


def frames(text: str) -> list[dict[str, str]]:
    """The fields of every frame that has data."""
    split = [block.splitlines() for block in text.replace("\r\n", "\n").split("\n\n")]
    blocks = [dict(line.split(": ", 1) for line in lines if ": " in line) for lines in split]
    return [block for block in blocks if "data" in block]


async def test_a_task_is_followed_to_its_end(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
    world.scheduler.events.put_nowait([make_event(4, "status_transition", QUEUED, RUNNING)])
    started_step = make_event(5, "step_started", RUNNING, RUNNING, data='{"step_index":1}')
    ended = make_event(6, "status_transition", RUNNING, SUCCEEDED)
    world.scheduler.events.put_nowait([started_step, ended])

    answer = await world.http.get(f"/api/v1/tasks/task_{task_id}/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    found = frames(answer.text)
    assert [(f["id"], f["event"]) for f in found] == [
        ("4", "task.status_transition"),
        ("5", "task.step_started"),
        ("6", "task.status_transition"),
    ]
    assert json.loads(found[0]["data"]) == {
        "task_id": "",
        "event": "task.status_transition",
        "payload": {"from": "queued", "to": "running", "at": "2026-02-27T11:18:01.527894+00:00"},
        "created_at": "2026-02-27T11:18:01.527894+00:00",
        "seq": 4,
    }
    watched = world.scheduler.requests[-1]
    assert (watched.task_id, watched.after_seq) == (task_id, 0)
    await eventually(lambda: world.scheduler.watching == 0)


async def test_a_stream_is_taken_up_after_the_last_event_id(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
    world.scheduler.events.put_nowait(None)

    answer = await world.http.get(f"/api/v1/tasks/{task_id}/events", headers={"Last-Event-ID": "3"})

    assert answer.status_code == 200
    assert world.scheduler.requests[-1].after_seq == 3


async def test_a_task_that_has_ended_and_was_seen_to_end_is_204(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(SUCCEEDED, seq=9))

    answer = await world.http.get(f"/api/v1/tasks/{task_id}/events", headers={"Last-Event-ID": "9"})

    assert answer.status_code == 204
    assert not answer.content


@pytest.mark.parametrize("sent", ["x", "-1", "1.0", "2147483648", "١", "9" * 30])
async def test_what_is_no_event_id_is_refused(world: GatewayWorld, sent: str) -> None:
    headers: Any = [(b"Last-Event-ID", sent.encode())]

    answer = await world.http.get(f"/api/v1/tasks/{new_id()}/events", headers=headers)

    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == "Last-Event-ID"


async def test_the_tenants_events_come_as_they_happen(world: GatewayWorld) -> None:
    async with world.http.stream("GET", "/v1/events") as answer:
        lines = answer.aiter_lines()
        event = make_event(7, "status_transition", RUNNING, CANCELLED)
        event.position = 1024
        event.task_id = str(new_id())
        world.scheduler.events.put_nowait([event])

        frame = await _frame(lines)

    assert frame["id"] == "1024"
    data = json.loads(frame["data"])
    assert data["position"] == 1024
    assert data["seq"] == 7
    assert data["payload"]["to"] == "cancelled"
    assert not world.scheduler.requests[0].HasField("after_position")
    await eventually(lambda: world.scheduler.watching == 0)


async def test_the_tenants_events_are_taken_up_after_a_position(world: GatewayWorld) -> None:
    world.scheduler.events.put_nowait(None)

    answer = await world.http.get("/v1/events", headers={"Last-Event-ID": "0"})

    assert answer.status_code == 200
    assert world.scheduler.requests[0].HasField("after_position")
    assert world.scheduler.requests[0].after_position == 0


@pytest.mark.parametrize("path", ["/v1/events", f"/api/v1/tasks/{new_id()}/events"])
async def test_a_refusal_comes_before_the_stream(world: GatewayWorld, path: str) -> None:
    world.scheduler.refusal = PawlError("unavailable", "away", retry_after_seconds=1)

    answer = await world.http.get(path)

    assert answer.status_code == 503
    assert problem_of(answer)["code"] == "unavailable"


async def test_a_client_that_leaves_ends_the_schedulers_stream(world: GatewayWorld) -> None:
    task_id = world.scheduler.keep(make_task(RUNNING, seq=4))

    async with world.http.stream("GET", f"/api/v1/tasks/{task_id}/events") as answer:
        assert answer.status_code == 200
        await eventually(lambda: world.scheduler.watching == 1)

    await eventually(lambda: world.scheduler.watching == 0)


async def test_a_stream_that_breaks_off_ends_the_answer(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        task_id = world.scheduler.keep(make_task(RUNNING, seq=4))
        async with world.http.stream("GET", f"/api/v1/tasks/{task_id}/events") as answer:
            await eventually(lambda: world.scheduler.watching == 1)
            await world.servers["scheduler"].stop()

            text = b"".join([chunk async for chunk in answer.aiter_bytes()])

    assert b"data:" not in text


async def _frame(lines: AsyncIterator[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    async for line in lines:
        if not line and "data" in found:
            return found
        name, separator, value = line.partition(": ")
        if separator and name:
            found[name] = value
    raise httpx2.StreamClosed


@pytest.mark.parametrize(
    ("body", "which"),
    [({"task_id": TASK}, "task_id"), ({"from_dead_letters": True}, "from_dead_letters")],
)
async def test_replay_passes_on_what_is_asked_for(
    world: GatewayWorld, body: dict[str, Any], which: str
) -> None:
    answer = await world.http.post("/v1/events/replay", json=body)

    assert answer.json() == {"events": 9, "letters": 4, "unknown_letters": 1}
    assert world.scheduler.requests[-1].WhichOneof("which") == which


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "required"),
        ({"task_id": TASK, "from_dead_letters": True}, "required"),
        ({"task_id": "nobody"}, "invalid_format"),
        ({"task_id": 7}, "wrong_type"),
        ({"from_dead_letters": False}, "wrong_type"),
        ({"task_id": TASK, "all": True}, "unknown_field"),
    ],
)
async def test_replay_refuses_what_does_not_say_which(
    world: GatewayWorld, body: dict[str, Any], code: str
) -> None:
    answer = await world.http.post("/v1/events/replay", json=body)

    assert answer.status_code == 422
    assert code in [error["code"] for error in problem_of(answer)["errors"]]
    assert world.scheduler.requests == []
