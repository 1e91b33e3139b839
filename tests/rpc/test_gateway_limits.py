"""Limits as clients meet them: headers, 429, shares of the gateway, tokens that end on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.core.tiers import MONTHLY_REQUESTS, RATE_LIMIT
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, task_pb2
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of
from tests.waiting import eventually

EXECUTE = "/api/v1/tasks/execute"
BODY: dict[str, Any] = {"task_definition": {"topic": "x"}}
LARGE: dict[str, Any] = {"task_definition": {"text": "x" * 900_000}}
LIMIT_HEADERS = (
    "ratelimit-policy",
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
)
FREE_POLICY = '"rate_limit_per_minute";q=20;w=60, "monthly_requests";q=200'


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def minute(granted: int, *, remaining: int = 0) -> auth_pb2.Permits:
    """Permits of a free tenant."""
    return auth_pb2.Permits(
        granted=granted,
        limit_name=RATE_LIMIT,
        limit=20,
        remaining=remaining,
        reset_seconds=60 - 3 * remaining,
        retry_after_seconds=0 if remaining else 2.2,
    )


def limits_in(answer: httpx2.Response) -> list[str | None]:
    return [answer.headers.get(name) for name in LIMIT_HEADERS]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", EXECUTE, 200),
        ("GET", f"/api/v1/tasks/{new_id()}", 404),
        ("GET", f"/api/v1/tasks/{new_id()}?x=1", 422),
        ("HEAD", f"/api/v1/tasks/{new_id()}", 404),
        ("GET", "/v1/tools", 200),
        ("DELETE", "/v1/keys/x", 404),
    ],
)
async def test_every_answer_with_a_key_says_how_the_limit_stands(
    world: GatewayWorld, method: str, path: str, status: int
) -> None:
    world.auth.granted = [minute(1, remaining=19)]
    key = world.auth.new_key(tier="free")
    body = BODY if method == "POST" else None

    answer = await world.http.request(method, path, json=body, headers=bearer(key))

    assert answer.status_code == status
    assert limits_in(answer) == [
        FREE_POLICY,
        '"rate_limit_per_minute";r=19;t=3',
        "20",
        "19",
        "3",
    ]


async def test_a_stream_says_it_too(world: GatewayWorld) -> None:
    world.auth.granted = [minute(1, remaining=19)]
    key = world.auth.new_key(tier="free")

    async with world.http.stream("GET", "/v1/events", headers=bearer(key)) as answer:
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining"] == "19"


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/openapi.json"])
async def test_what_needs_no_key_says_nothing_of_limits(world: GatewayWorld, path: str) -> None:
    assert limits_in(await world.http.get(path)) == [None] * 5


async def test_who_has_no_limit_is_told_of_none(world: GatewayWorld) -> None:
    answer = await world.http.post(EXECUTE, json=BODY)

    assert answer.status_code == 200
    assert limits_in(answer) == [None] * 5


async def test_beyond_the_minute_is_429_and_nothing_is_passed_on(world: GatewayWorld) -> None:
    world.auth.granted = [minute(1), minute(0)]
    headers = bearer(world.auth.new_key(tier="free"))

    answers = [await world.http.post(EXECUTE, json=BODY, headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert len(world.scheduler.requests) == 1
    assert len(world.auth.asked) == 2
    problem = problem_of(answers[1])
    assert problem["code"] == "rate_limited"
    assert problem["detail"] == (
        "rate_limit_per_minute: the tier free allows 20 requests per minute; "
        "the next one is allowed in 3 s"
    )
    assert answers[1].headers["retry-after"] == "3"
    assert limits_in(answers[1]) == [
        FREE_POLICY,
        '"rate_limit_per_minute";r=0;t=3',
        "20",
        "0",
        "3",
    ]


async def test_beyond_the_month_is_429_in_its_own_words(world: GatewayWorld) -> None:
    world.auth.granted = [
        auth_pb2.Permits(
            limit_name=MONTHLY_REQUESTS,
            limit=200,
            reset_seconds=86_400.5,
            retry_after_seconds=86_400.5,
        )
    ]
    headers = bearer(world.auth.new_key(tier="free"))

    answer = await world.http.get("/v1/tools", headers=headers)

    assert answer.status_code == 429
    assert problem_of(answer)["code"] == "monthly_requests_exceeded"
    assert "the tier free allows 200 requests per calendar month" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "86401"
    assert answer.headers["ratelimit"] == '"monthly_requests";r=0;t=86401'


async def test_a_body_is_not_read_beyond_the_limit(world: GatewayWorld) -> None:
    world.auth.granted = [minute(0)]
    key = world.auth.new_key(tier="free")
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 900000\r\nConnection: close\r\n\r\n{"
    )

    answer = await world.send(raw.encode())

    assert answer.startswith(b"HTTP/1.1 429 ")


async def test_bad_keys_of_one_address_become_429_and_good_ones_pass(
    world: GatewayWorld,
) -> None:
    tried, began = 0, time.monotonic()

    async def try_one() -> httpx2.Response:
        key = world.auth.new_key()
        del world.auth.callers[key]
        return await world.http.post(EXECUTE, json=BODY, headers=bearer(key))

    while (answer := await try_one()).status_code == 401:
        tried += 1
        # One comes back every second.
        assert tried <= 51 + time.monotonic() - began
    good = await world.http.post(EXECUTE, json=BODY, headers=bearer(world.auth.new_key()))

    assert tried >= 50
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert problem_of(answer)["code"] == "rate_limited"
    assert good.status_code == 200


async def test_a_tenant_has_its_share_of_requests_at_once(keys: KeyRing) -> None:
    async with gateway_world(keys, max_in_flight=8) as world:
        second = world.auth.new_key(tenant_of=world.key)
        other = world.auth.new_key()
        world.scheduler.open.clear()
        waiting = [
            asyncio.create_task(world.http.post(EXECUTE, json=BODY, headers=bearer(key)))
            for key in (world.key, second)
        ]
        await eventually(lambda: len(world.scheduler.requests) == 2)

        beyond = await world.http.post(EXECUTE, json=BODY)
        theirs = asyncio.create_task(world.http.post(EXECUTE, json=BODY, headers=bearer(other)))
        await eventually(lambda: len(world.scheduler.requests) == 3)
        world.scheduler.open.set()
        answers = await asyncio.gather(*waiting, theirs)
        after = await world.http.post(EXECUTE, json=BODY)

    assert beyond.status_code == 429
    assert problem_of(beyond)["code"] == "rate_limited"
    assert "2 of this tenant" in beyond.json()["detail"]
    assert beyond.headers["retry-after"] == "1"
    assert [answer.status_code for answer in (*answers, after)] == [200] * 4


async def test_streams_count_as_long_as_they_last(keys: KeyRing) -> None:
    async with gateway_world(keys, max_in_flight=4) as world:
        async with world.http.stream("GET", "/v1/events") as stream:
            beyond = await world.http.post(EXECUTE, json=BODY)
            assert stream.status_code == 200

        async def is_free() -> bool:
            return (await world.http.post(EXECUTE, json=BODY)).status_code == 200

        await eventually(is_free, timeout=5)

    assert beyond.status_code == 429


async def test_large_bodies_of_one_tenant_leave_space_to_others(keys: KeyRing) -> None:
    async with gateway_world(keys, max_body_bytes=4 * 2**20) as world:
        other = world.auth.new_key()
        world.scheduler.open.clear()
        held = asyncio.create_task(world.http.post(EXECUTE, json=LARGE))
        await eventually(lambda: world.scheduler.requests)

        beyond = asyncio.create_task(world.http.post(EXECUTE, json=LARGE))
        small = asyncio.create_task(world.http.post(EXECUTE, json=BODY))
        theirs = asyncio.create_task(world.http.post(EXECUTE, json=LARGE, headers=bearer(other)))
        await eventually(lambda: len(world.scheduler.requests) == 3)
        refused = await beyond
        assert world.gateway.load.bodies.held_bytes == 2 * len(json_of(LARGE))
        world.scheduler.open.set()
        answers = await asyncio.gather(held, small, theirs)
        assert world.gateway.load.bodies.held_bytes == 0

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert problem_of(refused)["code"] == "unavailable"
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_a_body_that_comes_without_its_size_is_counted_too(keys: KeyRing) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        data = json_of(LARGE)
        for begin in range(0, len(data), 100_000):
            yield data[begin : begin + 100_000]

    async with gateway_world(keys, max_body_bytes=4 * 2**20) as world:
        world.scheduler.open.clear()
        headers = {"Content-Type": "application/json"}
        held = asyncio.create_task(world.http.post(EXECUTE, content=pieces(), headers=headers))
        await eventually(lambda: world.scheduler.requests)

        held_bytes = world.gateway.load.bodies.held_bytes
        world.scheduler.open.set()
        answer = await held

    assert held_bytes == 2**20
    assert answer.status_code == 200
    assert world.gateway.load.bodies.held_bytes == 0


async def test_a_large_body_is_not_held_while_its_task_is_waited_for(
    world: GatewayWorld,
) -> None:
    world.scheduler.task = make_task(task_pb2.TASK_STATE_QUEUED)
    world.scheduler.keep(make_task(task_pb2.TASK_STATE_SUCCEEDED, id=world.scheduler.task.id))

    answer = await world.http.post(f"{EXECUTE}?wait=3", json=LARGE)

    submitted, looked = world.scheduler.requests
    assert submitted.wait_seconds == 0
    assert isinstance(looked, scheduler_service_pb2.GetTaskRequest)
    assert (looked.task_id, looked.wait_seconds) == (world.scheduler.task.id, 3)
    assert answer.json()["status"] == "succeeded"
    assert world.gateway.load.bodies.held_bytes == 0


async def test_a_small_body_waits_in_one_call(world: GatewayWorld) -> None:
    await world.http.post(f"{EXECUTE}?wait=3", json=BODY)

    [submitted] = world.scheduler.requests
    assert submitted.wait_seconds == 3


async def test_a_stored_task_is_answered_whatever_becomes_of_the_wait(
    world: GatewayWorld,
) -> None:
    # GetTask does not know it.
    answer = await world.http.post(f"{EXECUTE}?wait=3", json=LARGE)

    assert answer.status_code == 200
    assert answer.json()["task_id"] == world.scheduler.task.id
    assert answer.json()["status"] == "queued"


async def test_a_key_that_may_not_read_waits_in_one_call(world: GatewayWorld) -> None:
    key = world.auth.new_key(scopes=("tasks:write",))

    await world.http.post(f"{EXECUTE}?wait=3", json=LARGE, headers=bearer(key))

    [submitted] = world.scheduler.requests
    assert submitted.wait_seconds == 3


async def test_a_body_that_takes_longer_than_its_token_lives_gets_a_new_one(
    world: GatewayWorld,
) -> None:
    world.auth.token_lives = 1.0
    data = json_of(BODY)

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:5]
        await asyncio.sleep(1.3)
        yield data[5:]

    answer = await world.http.post(
        EXECUTE,
        content=slowly(),
        headers={"Content-Type": "application/json", **bearer(world.auth.new_key())},
    )

    assert answer.status_code == 200
    assert len(world.auth.asked) == 2


@pytest.mark.parametrize("path", [EXECUTE, f"{EXECUTE}?wait=1"])
async def test_a_token_that_ended_on_its_way_is_an_overload_and_no_bad_key(
    world: GatewayWorld, path: str
) -> None:
    world.scheduler.refusal = PawlError("token_expired", "the token has expired")

    answer = await world.http.post(path, json=BODY)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "www-authenticate" not in answer.headers
    assert problem_of(answer)["code"] == "unavailable"


def json_of(body: dict[str, Any]) -> bytes:
    """As httpx writes it."""
    return json.dumps(body, separators=(",", ":")).encode()
