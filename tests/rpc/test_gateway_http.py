"""HTTP as it may come: large, broken, cut off, run together."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.http_server import LINGER_SECONDS
from libs.rpc.tokens import KeyRing
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

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
    "path",
    [
        "/",
        "/api",
        "/api/v1/tasks/execute/",
        "//api/v1/tasks/execute",
        "/api/v1/tasks/execute%0a",
        "/api/v1/tasks/execute%00",
        "/api/v1%2ftasks/execute",
        "/api/v1/tasks/%2e%2e/execute",
        "/API/v1/tasks/execute",
        "/api/v1/tasks/execute;x=1",
        "/%ff",
        "/%zz",
        "/%",
        "/docs",
        "/..%5c..%5cetc",
    ],
)
async def test_an_unknown_path_is_404(world: GatewayWorld, path: str) -> None:
    raw = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    answer = await world.send(raw.encode())

    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")), answer
    assert b'"code":"not_found"' in answer or b'"code":"method_not_allowed"' in answer
    assert not world.scheduler.requests


async def test_a_body_of_1_mib_is_read_and_one_byte_more_refused(world: GatewayWorld) -> None:
    frame = len(json.dumps({"task_definition": {"a": ""}}))
    fits = json.dumps({"task_definition": {"a": "x" * (2**20 - frame)}}).encode()

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for begin in range(0, len(data), 100_000):
            yield data[begin : begin + 100_000]

    assert len(fits) == 2**20
    assert (await world.http.post(EXECUTE, content=fits, headers=JSON)).status_code == 200
    assert (await world.http.post(EXECUTE, content=pieces(fits), headers=JSON)).status_code == 200
    for content in (fits + b" ", pieces(fits + b" "), b" " * 20_000_000):
        answer = await world.http.post(EXECUTE, content=content, headers=JSON)
        assert answer.status_code == 413
        assert problem_of(answer)["code"] == "payload_too_large"
    assert (await world.http.post(EXECUTE, json=BODY)).status_code == 200


@pytest.mark.parametrize("length", ["1048577", "9" * 18, "99999999999999999999999"])
async def test_an_announced_size_is_refused_before_it_is_sent(
    world: GatewayWorld, length: str
) -> None:
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.key}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )

    answer = await world.send(raw.encode())

    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 ")), answer


async def test_a_refused_client_that_sends_on_gets_its_answer(world: GatewayWorld) -> None:
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.key}\r\n"
        "Content-Type: application/json\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n"
    )

    def sends_all_before_it_reads() -> bytes:
        with socket.create_connection(("127.0.0.1", world.port), timeout=10) as client:
            client.sendall(raw.encode() + b" " * 20_000_000)
            return b"".join(iter(lambda: client.recv(65536), b""))

    answer = await asyncio.to_thread(sends_all_before_it_reads)

    assert answer.startswith(b"HTTP/1.1 413 "), answer
    assert b'"code":"payload_too_large"' in answer


async def test_a_client_that_never_stops_sending_is_left(world: GatewayWorld) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"not HTTP at all\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 1)

    async def send_on() -> None:
        while True:
            writer.write(b"more")
            await writer.drain()
            await asyncio.sleep(0.05)

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_on(), LINGER_SECONDS + 3)
    writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\n", 400, b"bad_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, b"duplicate_header"),
        (b"GET /healthz HTTP/1.0\r\nHost: a\r\nhost: b\r\n", 400, b"duplicate_header"),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\n", 200, b""),
        (b"GET /healthz HTTP/1.0\r\n", 200, b""),
    ],
)
async def test_a_request_names_one_host(
    world: GatewayWorld, head: bytes, status: int, code: bytes
) -> None:
    answer = await world.send(head + b"Connection: close\r\n\r\n")

    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert code in answer


async def test_blanks_around_a_header_are_no_part_of_it(world: GatewayWorld) -> None:
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization:  Bearer {world.key} \t\r\n"
        "Content-Type: application/json \r\nIdempotency-Key: \t k \r\nConnection: close\r\n"
        'Content-Length: 22\r\n\r\n{"task_definition":{}}'
    )

    answer = await world.send(raw.encode())

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert world.scheduler.requests[0].idempotency_key == "k"


async def test_heads_that_are_too_large_are_431(world: GatewayWorld) -> None:
    large = await world.http.get("/healthz", headers={"X-A": "a" * 40_000})
    endless = await world.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 2_000_000)

    assert large.status_code == 431
    assert problem_of(large)["code"] == "header_too_large"
    assert endless.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"header_too_large"' in endless


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /api/v1/tasks/execute HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT /api/v1/tasks/execute HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 33\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        ),
        b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_broken_http_is_refused_without_a_500(world: GatewayWorld, raw: bytes) -> None:
    answer = await world.send(raw)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")), answer
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert f"x-request-id: {problem['request_id']}".encode() in head
    assert problem["status"] == int(head.split()[1])
    assert (await world.http.get("/healthz")).status_code == 200


async def test_a_second_request_behind_a_body_stands_alone(world: GatewayWorld) -> None:
    raw = (
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )

    answer = await world.send(raw.encode())

    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"HTTP/1.1 404 " in answer


async def test_an_upgrade_that_is_not_spoken_is_ignored(world: GatewayWorld) -> None:
    raw = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

    answer = await world.send(raw)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer


async def test_a_client_that_leaves_in_the_middle_does_no_harm(world: GatewayWorld) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(
        f"POST {EXECUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {world.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert (await world.http.post(EXECUTE, json=BODY)).status_code == 200
    assert len(world.scheduler.requests) == 1


async def test_another_host_appears_in_no_answer(world: GatewayWorld) -> None:
    answer = await world.http.post(EXECUTE, json=BODY, headers={"Host": "evil.example"})

    assert answer.status_code == 200
    assert "evil.example" not in answer.text + str(answer.headers)
