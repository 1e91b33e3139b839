"""Streams of one task's events: resuming, heartbeats, many followers, one who does not read."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from libs.client.sse import EventReader
from tests.e2e.tasks import CHAIN, EXECUTE, finished, new_tenant, trace_of

pytestmark = pytest.mark.e2e

FOLLOWERS = 200
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "wait", "input": {"seconds": 2}},
            {"step_index": 2, "tool": "math", "input": {"expression": "1+1"}},
        ]
    },
}
PING_SECONDS = 15


@pytest.fixture
def tenant(stack: Stack) -> Client:
    """A client of a tenant of its own."""
    return new_tenant(stack, f"followed-{secrets.token_hex(4)}", tier="enterprise")


@asynccontextmanager
async def followed(
    client: Client, task_id: str, *, after: int | None = None
) -> AsyncIterator[asyncio.StreamReader]:
    """The bytes of a stream, from its status line on."""
    parts = urlsplit(client.server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    resumed = "" if after is None else f"Last-Event-ID: {after}\r\n"
    writer.write(
        f"GET /api/v1/tasks/{task_id}/events HTTP/1.1\r\nHost: {parts.netloc}\r\n{resumed}"
        f"Authorization: Bearer {client.server.api_key}\r\nConnection: close\r\n\r\n".encode()
    )
    try:
        yield reader
    finally:
        writer.close()


async def events_of(client: Client, task_id: str, *, after: int | None = None) -> list[int]:
    """The ids of a stream, read to its end."""
    async with followed(client, task_id, after=after) as reader:
        content = await reader.read()
    head, _, body = content.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    lines = [line for line in body.split(b"\r\n") if b":" in line or not line]
    whole = b"".join(line + b"\n" for line in lines)
    return [int(event.id) for event in EventReader().feed(whole)]


async def test_two_hundred_followers_see_every_event_and_slow_nobody(tenant: Client) -> None:
    task_id = (await asyncio.to_thread(tenant.post, EXECUTE, SLOW))["task_id"]
    following = [asyncio.create_task(events_of(tenant, task_id)) for _ in range(FOLLOWERS)]

    # Meanwhile others are served.
    for _ in range(5):
        done = await asyncio.to_thread(finished, tenant, CHAIN)
        assert done["status"] == "succeeded"
    seen = await asyncio.gather(*following)

    trace = await asyncio.to_thread(trace_of, tenant, task_id)
    ids = [event["seq"] for event in trace["events"]]
    assert ids == list(range(1, len(ids) + 1))
    assert [one for one in seen if one != ids] == []


async def test_a_stream_goes_on_after_any_event(tenant: Client) -> None:
    task_id = (await asyncio.to_thread(tenant.post, EXECUTE, SLOW))["task_id"]

    live = await asyncio.gather(*(events_of(tenant, task_id, after=n) for n in range(6)))
    past = await asyncio.gather(*(events_of(tenant, task_id, after=n) for n in range(6)))

    last = live[0][-1]
    assert live == past == [list(range(n + 1, last + 1)) for n in range(6)]
    async with followed(tenant, task_id, after=last) as reader:
        assert (await reader.readline()).startswith(b"HTTP/1.1 204")


async def test_a_stream_without_events_shows_that_it_lives(tenant: Client) -> None:
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": PING_SECONDS + 15}}]}
    task_id = (
        await asyncio.to_thread(
            tenant.post,
            EXECUTE,
            {
                "task_definition": {},
                "plan": {**plan, "limits": {"max_step_seconds": 40}},
                "timeout_seconds": 45,
            },
        )
    )["task_id"]

    async with followed(tenant, task_id) as reader, asyncio.timeout(PING_SECONDS + 5):
        async for line in reader:
            if line.startswith(b": ping"):
                break
    await asyncio.to_thread(tenant.post, f"/v1/tasks/{task_id}/cancel", {})


async def test_who_does_not_read_holds_up_nobody(tenant: Client) -> None:
    """Its socket takes a few KiB; whatever it was sent, the others and the task go on."""
    task_id = (await asyncio.to_thread(tenant.post, EXECUTE, SLOW))["task_id"]
    parts = urlsplit(tenant.server.url)
    deaf = []
    for _ in range(20):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.connect((parts.hostname, parts.port))
        one.sendall(
            f"GET /api/v1/tasks/{task_id}/events HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {tenant.server.api_key}\r\n\r\n".encode()
        )
        deaf.append(one)

    ids = await events_of(tenant, task_id)
    task = await asyncio.to_thread(tenant.get, f"/api/v1/tasks/{task_id}")
    for one in deaf:
        one.close()

    assert ids == list(range(1, len(ids) + 1))
    assert task["status"] == "succeeded"
