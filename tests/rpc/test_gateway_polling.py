"""Polling over HTTP: Prefer, Retry-After, entity tags, caching."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import at, make_event, make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

EXECUTE = "/api/v1/tasks/execute"
BODY: dict[str, Any] = {"task_definition": {"topic": "x"}}
CREATED = task_pb2.TASK_STATE_CREATED
QUEUED = task_pb2.TASK_STATE_QUEUED
RUNNING = task_pb2.TASK_STATE_RUNNING
SUCCEEDED = task_pb2.TASK_STATE_SUCCEEDED


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


def keep(world: GatewayWorld, task: task_pb2.Task) -> str:
    """Let the task and its trace be found; the path of the task."""
    world.scheduler.keep(task)
    event = make_event(1, "status_transition", task_pb2.TASK_STATE_UNSPECIFIED, CREATED)
    page = trace_pb2.TracePage(events=[event])
    page.head.task.CopyFrom(task)
    world.scheduler.pages = [page, trace_pb2.TracePage()]
    return f"/api/v1/tasks/{task.id}"


async def ways(world: GatewayWorld, query: str, headers: dict[str, str]) -> list[Any]:
    """A create, a replay and a look, asked in the same way."""
    path = keep(world, make_task(SUCCEEDED))
    return [
        await world.http.post(f"{EXECUTE}{query}", json=BODY, headers=headers),
        await world.http.post(f"{path}/replay{query}", headers=headers),
        await world.http.get(f"{path}{query}", headers=headers),
    ]


# ---------------------------------------------------------------- waiting


@pytest.mark.parametrize(("sent", "seconds"), [("wait=10", 10), ("respond-async, wait=99", 25)])
async def test_a_preference_to_wait_is_heeded(world: GatewayWorld, sent: str, seconds: int) -> None:
    answers = await ways(world, "", {"Prefer": sent})

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [asked.wait_seconds for asked in world.scheduler.requests] == [seconds] * 3
    assert {answer.headers["preference-applied"] for answer in answers} == {f"wait={seconds}"}


async def test_the_query_comes_before_the_preference(world: GatewayWorld) -> None:
    answers = await ways(world, "?wait=2.5", {"Prefer": "wait=10"})

    assert [asked.wait_seconds for asked in world.scheduler.requests] == [2.5] * 3
    assert not any("preference-applied" in answer.headers for answer in answers)


@pytest.mark.parametrize("sent", ["", "wait", "wait=soon", "return=minimal", '"', "wait=-1"])
async def test_another_preference_is_ignored(world: GatewayWorld, sent: str) -> None:
    answers = await ways(world, "", {"Prefer": sent})

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [asked.wait_seconds for asked in world.scheduler.requests] == [0] * 3
    assert not any("preference-applied" in answer.headers for answer in answers)


async def test_a_query_that_is_wrong_is_refused_whatever_is_preferred(world: GatewayWorld) -> None:
    answers = await ways(world, "?wait=99", {"Prefer": "wait=1"})

    assert [answer.status_code for answer in answers] == [422] * 3
    assert not world.scheduler.requests


# ---------------------------------------------------------------- asking again


async def test_whoever_has_to_ask_again_is_told_when(world: GatewayWorld) -> None:
    """The fakes' tasks are old."""
    path = keep(world, make_task(RUNNING))

    for answer in (
        await world.http.post(EXECUTE, json=BODY),
        await world.http.get(path),
        await world.http.get(f"{path}/trace"),
        await world.http.head(path),
    ):
        assert answer.status_code == 200
        assert answer.headers["retry-after"] == "5"


async def test_a_new_task_is_asked_for_after_a_second(world: GatewayWorld) -> None:
    world.scheduler.task = make_task(QUEUED)
    world.scheduler.task.created_at.GetCurrentTime()

    answer = await world.http.post(EXECUTE, json=BODY)

    assert answer.headers["retry-after"] == "1"


async def test_whoever_asks_for_an_ended_task_need_not_ask_again(world: GatewayWorld) -> None:
    path = keep(world, make_task(SUCCEEDED))
    world.scheduler.task = make_task(SUCCEEDED)

    for answer in (
        await world.http.post(EXECUTE, json=BODY),
        await world.http.get(path),
        await world.http.get(f"{path}/trace"),
    ):
        assert answer.status_code == 200
        assert "retry-after" not in answer.headers


# ---------------------------------------------------------------- entity tags


@pytest.mark.parametrize("route", ["", "/trace"])
async def test_whoever_has_the_answer_gets_none(world: GatewayWorld, route: str) -> None:
    path = keep(world, make_task(RUNNING)) + route
    etag = (await world.http.get(path)).headers["etag"]

    for sent in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        answer = await world.http.get(path, headers={"If-None-Match": sent})
        head = await world.http.head(path, headers={"If-None-Match": sent})

        for one in (answer, head):
            assert (one.status_code, one.content) == (304, b"")
            assert one.headers["etag"] == etag
            assert one.headers["cache-control"] == "private, no-cache"
            assert one.headers["retry-after"] == "5"
            assert one.headers["x-request-id"]
            assert "content-type" not in one.headers


@pytest.mark.parametrize("route", ["", "/trace"])
async def test_a_change_of_the_task_is_a_new_answer(world: GatewayWorld, route: str) -> None:
    task = make_task(RUNNING, seq=4)
    path = keep(world, task) + route
    etag = (await world.http.get(path)).headers["etag"]
    task.seq = 5
    keep(world, task)

    answer = await world.http.get(path, headers={"If-None-Match": etag})

    assert answer.status_code == 200
    assert answer.headers["etag"] != etag
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_another_place_in_the_queue_is_a_new_answer(world: GatewayWorld) -> None:
    task = make_task(QUEUED)
    task.waiting.CopyFrom(
        task_pb2.Waiting(reason=task_pb2.WAIT_REASON_NO_SLOT, detail="busy", position=7)
    )
    path = keep(world, task)
    etag = (await world.http.get(path)).headers["etag"]
    same = await world.http.get(path, headers={"If-None-Match": etag})
    task.waiting.position = 6
    keep(world, task)

    moved = await world.http.get(path, headers={"If-None-Match": etag})

    assert (same.status_code, moved.status_code) == (304, 200)
    assert moved.json()["queue"]["position"] == 6


async def test_tags_of_task_trace_and_other_tasks_differ(world: GatewayWorld) -> None:
    tags = []
    for _ in range(2):
        path = keep(world, make_task(SUCCEEDED, seq=6))
        tags += [(await world.http.get(path + route)).headers["etag"] for route in ("", "/trace")]

    assert len(set(tags)) == 4


async def test_a_wait_that_ends_without_a_change_is_304(world: GatewayWorld) -> None:
    path = keep(world, make_task(RUNNING))
    etag = (await world.http.get(path)).headers["etag"]

    by_query = await world.http.get(f"{path}?wait=0.5", headers={"If-None-Match": etag})
    by_header = await world.http.get(path, headers={"If-None-Match": etag, "Prefer": "wait=1"})

    assert (by_query.status_code, by_header.status_code) == (304, 304)
    assert [asked.wait_seconds for asked in world.scheduler.requests[1:]] == [0.5, 1]
    assert by_header.headers["preference-applied"] == "wait=1"


async def test_a_known_trace_is_not_read_to_its_end(world: GatewayWorld) -> None:
    path = keep(world, make_task(SUCCEEDED)) + "/trace"
    etag = (await world.http.get(path)).headers["etag"]
    # Whoever read on would find a second head, and fail.
    world.scheduler.pages = [world.scheduler.pages[0]] * 2

    known = await world.http.get(path, headers={"If-None-Match": etag})
    unknown = await world.http.get(path, headers={"If-None-Match": '"x"'})

    assert (known.status_code, unknown.status_code) == (304, 500)


@pytest.mark.parametrize("sent", ["", "x", '"x', "W/", '"' * 9000, "\xff"])
async def test_a_tag_that_is_none_is_no_reason_to_refuse(world: GatewayWorld, sent: str) -> None:
    path = keep(world, make_task(SUCCEEDED))

    headers: Any = [(b"If-None-Match", sent.encode("latin-1"))]
    answer = await world.http.get(path, headers=headers)

    assert answer.status_code == 200


@pytest.mark.parametrize("route", ["", "/trace"])
async def test_a_tag_opens_nobody_elses_task(world: GatewayWorld, route: str) -> None:
    unknown = f"/api/v1/tasks/{new_id()}{route}"

    answer = await world.http.get(unknown, headers={"If-None-Match": "*"})

    assert (answer.status_code, problem_of(answer)["code"]) == (404, "not_found")
    assert "etag" not in answer.headers
    world.scheduler.refusal = PawlError("unavailable", "away", retry_after_seconds=1)
    refused = await world.http.get(unknown, headers={"If-None-Match": "*"})
    assert refused.status_code == 503


async def test_a_task_that_is_due_later_is_asked_for_then(world: GatewayWorld) -> None:
    task = make_task(task_pb2.TASK_STATE_PLANNED, scheduled_at=at(10**9))
    path = keep(world, task)

    answer = await world.http.get(path)

    assert int(answer.headers["retry-after"]) > 10**8
