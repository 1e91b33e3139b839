"""http_request on a whole Pawl that may reach loopback."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.cli.client import Client, Refused, Server
from libs.cli.stack import Stack, running_stack
from libs.core.verification import verify
from tests.e2e.tasks import EXECUTE, hashes, trace_of
from tests.net_world import Handler, http_answer, peer
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture(scope="module")
async def developing(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """`pawl up` as a developer runs it."""
    data_dir = tmp_path_factory.mktemp("developing") / "data"
    with running_stack(data_dir, environ=environs.fresh(PAWL_EGRESS_ALLOW="loopback")) as running:
        yield running


def fetching(url: str, **limits: float) -> dict[str, Any]:
    step = {"step_index": 1, "tool": "http_request", "input": {"url": url}}
    return {"task_definition": {}, "plan": {"steps": [step], "limits": limits}}


async def run(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """The trace of the task, once it has ended. The server it calls runs meanwhile."""
    ended = await asyncio.to_thread(client.post, f"{EXECUTE}?wait=25", body)
    return await asyncio.to_thread(trace_of, client, ended["task_id"])


def dripping(entered: asyncio.Event) -> Handler:
    """Answers a byte at a time, for ever."""

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        entered.set()
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)

    return drip


async def test_the_same_answer_gives_the_same_hashes(developing: Stack) -> None:
    dates = itertools.count()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = [("Date", str(next(dates))), ("Content-Type", "application/json")]
        writer.write(http_answer(b'{"price": 12.50}', headers=headers))
        await writer.drain()

    async with peer(answer) as server:
        body = fetching(f"http://localhost:{server.port}/price")
        one, other = [await run(Client(developing.server), body) for _ in range(2)]

    assert one["status"] == "succeeded", one["failure"]
    assert one["verification"]["steps"][0]["output"]["body"] == {"price": 12.5}
    assert hashes(one) == hashes(other)
    assert verify(one).holds
    assert server.connections == 2


async def test_a_drip_ends_with_the_step(developing: Stack) -> None:
    async with peer(dripping(asyncio.Event())) as server:
        body = fetching(f"http://127.0.0.1:{server.port}/", max_step_seconds=1)
        trace = await run(Client(developing.server), body)
        await asyncio.wait_for(server.closed.wait(), 5)

    assert (trace["failure"]["code"], trace["failure"]["reason"]) == ("TIMEOUT", "STEP_TIMEOUT")
    assert 1000 <= trace["steps"][0]["duration_ms"] < 2000
    assert server.connections == 1


async def test_a_cancel_closes_the_connection(developing: Stack) -> None:
    client, entered = Client(developing.server), asyncio.Event()

    async with peer(dripping(entered)) as server:
        body = fetching(f"http://127.0.0.1:{server.port}/")
        accepted = await asyncio.to_thread(client.post, EXECUTE, body)
        await asyncio.wait_for(entered.wait(), 10)
        began = time.monotonic()
        path = f"/v1/tasks/{accepted['task_id']}/cancel"
        task = await asyncio.to_thread(client.post, path, {})
        await asyncio.wait_for(server.closed.wait(), 5)

    assert task["status"] == "cancelled"
    assert time.monotonic() - began < 2


async def test_what_is_not_allowed_is_denied_with_a_hint(developing: Stack) -> None:
    trace = await run(Client(developing.server), fetching("http://10.0.0.1:8080/"))

    assert (trace["failure"]["code"], trace["failure"]["reason"]) == ("EGRESS_DENIED", "ADDRESS")
    assert "PAWL_EGRESS_ALLOW" in trace["failure"]["message"]


async def test_a_test_key_submits_no_such_plan(developing: Stack) -> None:
    operator = Client(developing.server)
    key = operator.post("/v1/keys", {"mode": "test"})["key"]
    tester = Client(Server(url=developing.server.url, api_key=key))

    with pytest.raises(Refused, match="which a test key may not use") as refused:
        tester.post(EXECUTE, fetching("https://ok.example/"))

    assert (refused.value.status, refused.value.code) == (422, "plan_invalid")
