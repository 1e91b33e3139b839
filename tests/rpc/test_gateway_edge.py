"""What holds for every route: callers, request ids, methods, media types, bodies, stopping."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.rpc.tokens import KeyRing
from tests.gateway_world import GatewayWorld, gateway_world, problem_of
from tests.waiting import eventually

EXECUTE = "/api/v1/tasks/execute"
BODY: dict[str, Any] = {"task_definition": {"topic": "x"}}
JSON = {"Content-Type": "application/json"}


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer null",
        "Token {key}",
        "Basic {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {badsum}",
        "Bearer {upper}",
        "Bearer {key} {key}",
        "Bearer {key},",
        "Bearer \tx",
        "Bearer é",
        "Bearer " + "a" * 5000,
        "Bearer sk_live_" + "a" * 38,
    ],
)
async def test_what_is_no_key_is_401_and_nobody_is_asked(
    world: GatewayWorld, authorization: str | None
) -> None:
    other = "B" if world.key[-1] == "A" else "A"
    badsum = world.key[:-1] + other
    headers: list[tuple[bytes, bytes]] = []
    if authorization is not None:
        text = authorization.format(key=world.key, badsum=badsum, upper=world.key.upper())
        headers = [(b"Authorization", text.encode("latin-1"))]
    request = world.http.build_request("POST", EXECUTE, json=BODY)
    del request.headers["authorization"]
    request.headers.update(headers)

    answer = await world.http.send(request)

    assert answer.status_code == 401
    assert problem_of(answer)["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not world.auth.asked
    assert not world.scheduler.requests


async def test_an_unknown_key_is_401_in_the_same_words(world: GatewayWorld) -> None:
    unknown = world.auth.new_key()
    del world.auth.callers[unknown]

    answers = [
        await world.http.post(EXECUTE, json=BODY, headers={"Authorization": f"Bearer {key}"})
        for key in (unknown, "x")
    ]

    first, second = (problem_of(answer) | {"request_id": ""} for answer in answers)
    assert first == second
    assert world.auth.asked == [unknown]


async def test_auth_is_asked_seldom_for_many_requests_at_once(world: GatewayWorld) -> None:
    headers = {"Authorization": f"bearer {world.auth.new_key()}"}

    answers = await asyncio.gather(
        *(world.http.post(EXECUTE, json=BODY, headers=headers) for _ in range(30))
    )

    assert {answer.status_code for answer in answers} == {200}
    assert len(world.auth.asked) <= 6  # each question is for twice as many as the one before


async def test_a_refused_key_is_refused_within_a_second(world: GatewayWorld) -> None:
    key = world.auth.new_key()
    headers = {"Authorization": f"Bearer {key}"}
    begin = time.monotonic()
    assert (await world.http.post(EXECUTE, json=BODY, headers=headers)).status_code == 200
    del world.auth.callers[key]

    async def is_refused() -> bool:
        return (await world.http.post(EXECUTE, json=BODY, headers=headers)).status_code == 401

    await eventually(is_refused, timeout=3)
    assert time.monotonic() - begin < 2


async def test_auth_that_is_away_is_503(world: GatewayWorld) -> None:
    world.auth.refusal = PawlError("unavailable", "away", retry_after_seconds=1)
    headers = {"Authorization": f"Bearer {world.auth.new_key()}"}

    answer = await world.http.post(EXECUTE, json=BODY, headers=headers)
    world.auth.refusal = None
    again = await world.http.post(EXECUTE, json=BODY, headers=headers)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert again.status_code == 200


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "Idempotency-Key"])
async def test_a_header_that_occurs_twice_is_refused(world: GatewayWorld, header: str) -> None:
    values = {"Authorization": f"Bearer {world.key}", "Content-Type": "application/json"}
    text = values.get(header, "a")
    lines = {"Authorization": values["Authorization"], **JSON}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if name != header)
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\n{head}{header}: {text}\r\n"
        f"{header.lower()}: {text}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    )

    answer = await world.send(raw.encode())

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"duplicate_header"' in answer


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-DEF_1.2:3/4", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a\\nINFO forged", False),
        ("a b", False),
        ("é", False),
        ("", False),
    ],
)
async def test_a_sane_request_id_comes_back(world: GatewayWorld, sent: str, kept: bool) -> None:
    headers = [(b"X-Request-Id", sent.encode("latin-1"))]

    for answer in (
        await world.http.get("/healthz", headers=headers),
        await world.http.get("/nothing", headers=headers),
        await world.http.post(EXECUTE, headers=headers),
    ):
        found = answer.headers["x-request-id"]
        assert (found == sent) is kept
        assert found


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", EXECUTE, "OPTIONS, POST"),
        ("DELETE", "/v1/keys", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", f"/v1/keys/{new_id()}", "DELETE, GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("PUT", "/openapi.json", "GET, HEAD, OPTIONS"),
        ("GET", EXECUTE, "OPTIONS, POST"),
        ("POST", f"/api/v1/tasks/{new_id()}/trace", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_are_405(
    world: GatewayWorld, method: str, path: str, allow: str
) -> None:
    answer = await world.http.request(method, path)
    options = await world.http.options(path)

    assert answer.status_code == 405
    assert problem_of(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == allow
    assert options.status_code == 204
    assert options.headers["allow"] == allow


async def test_head_is_get_without_a_body(world: GatewayWorld) -> None:
    health = await world.http.head("/healthz")
    missing = await world.http.head(f"/api/v1/tasks/{new_id()}")
    stream = await world.http.head("/v1/events")

    assert health.status_code == 200
    assert int(health.headers["content-length"]) > 0
    assert not health.content
    assert missing.status_code == 404
    assert not missing.content
    assert stream.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "application/json-patch+json",
        "application/jsonx",
        "application/json; charset=utf-16",
        "application/json, text/plain",
        "application/json; a=b",
        "application/json" + "; a=b" * 3000,
        "application/json" + ";" * 20000,
    ],
)
async def test_other_media_types_are_415(world: GatewayWorld, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    begin = time.perf_counter()

    answer = await world.http.post(EXECUTE, content=b"{}", headers=headers)

    assert answer.status_code == 415
    assert problem_of(answer)["code"] == "unsupported_media_type"
    assert time.perf_counter() - begin < 0.1


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "x"])
async def test_compressed_bodies_are_415(world: GatewayWorld, encoding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    answer = await world.http.post(EXECUTE, content=json.dumps(BODY), headers=headers)

    assert answer.status_code == 415
    assert problem_of(answer)["code"] == "unsupported_media_type"
    assert not world.scheduler.requests


async def test_an_encoding_that_changes_nothing_is_read(world: GatewayWorld) -> None:
    answer = await world.http.post(EXECUTE, json=BODY, headers={"Content-Encoding": "Identity"})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;",
        'application/json ; Charset="UTF-8"',
    ],
)
async def test_json_in_utf8_is_read(world: GatewayWorld, content_type: str) -> None:
    answer = await world.http.post(
        EXECUTE, content=json.dumps(BODY), headers={"Content-Type": content_type}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{'task_definition':{}}", 400, "malformed_json"),
        (b"null", 422, "validation_failed"),
        (b'{"task_definition":{"a":NaN}}', 400, "non_finite_number"),
        (b'{"task_definition":{"a":1,"a":2}}', 400, "duplicate_key"),
        (b'{"topic":"\xff\xfe"}', 400, "invalid_encoding"),
        ('{"task_definition":{}}'.encode("utf-16"), 400, "invalid_encoding"),
        (b'{"task_definition":{"a":"\\ud800"}}', 422, "invalid_characters"),
        (b'{"task_definition":{"a":9007199254740993}}', 422, "number_out_of_range"),
        (b"[" * 1_000_000, 422, "too_deep"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(10_001)) + b"}", 422, "too_many_keys"),
        (b'{"task_definition":{},"\xf0\x9f\x98\x80":1}', 422, "unknown_field"),
    ],
)
async def test_a_body_that_the_reader_refuses(
    world: GatewayWorld, body: bytes, status: int, code: str
) -> None:
    answer = await world.http.post(EXECUTE, content=body, headers=JSON)

    assert answer.status_code == status
    assert problem_of(answer)["code"] == code
    assert len(answer.content) < 2000


async def test_the_key_is_checked_before_the_body_is_read(world: GatewayWorld) -> None:
    headers = {"Authorization": "Bearer x", "Content-Type": "text/plain"}

    answer = await world.http.post(EXECUTE, content=b"x" * 2_000_000, headers=headers)

    assert answer.status_code == 401


async def test_a_gateway_that_stops_says_so_to_who_waits(keys: KeyRing) -> None:
    async with gateway_world(keys) as world:
        world.scheduler.open.clear()
        waiting = asyncio.create_task(world.http.post(f"{EXECUTE}?wait=20", json=BODY))
        await eventually(lambda: world.scheduler.requests)

        world.http_server.should_exit = True
        answer = await waiting

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_more_requests_than_allowed_at_once_are_503(keys: KeyRing) -> None:
    async with (
        gateway_world(keys, max_in_flight=1) as world,
        world.http.stream("GET", "/v1/events") as stream,
    ):
        answer = await world.http.get("/healthz")

        assert stream.status_code == 200
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert problem_of(answer)["code"] == "unavailable"
