"""auth counts each task and each step once, from the bus, whatever dies meanwhile."""

from __future__ import annotations

import os
import secrets
import signal

import pytest

from libs.bus.topics import DEAD_LETTERS
from libs.cli.client import Client, Server
from libs.cli.stack import Stack
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.client import RpcChannel, caller_token
from tests.e2e.tasks import CHAIN, FAILING, UNPLANNABLE, finished, new_tenant
from tests.published import read_published
from tests.waiting import eventually

pytestmark = pytest.mark.e2e


def _key_of(stack: Stack, tenant: str, *, mode: str = "live") -> str:
    made = Client(stack.server).post("/v1/keys", {"tenant": tenant, "mode": mode})
    return str(made["key"])


async def _usage(stack: Stack, key: str) -> tuple[int, int]:
    """Tasks and steps of this month, as auth says to whoever holds the key."""
    channel = RpcChannel(stack.ready.services["auth"][0].address, audience="auth")
    try:
        stub = channel.stub(auth_service_pb2_grpc.AuthServiceStub)
        said = await stub.Authenticate(auth_service_pb2.AuthenticateRequest(api_key=key))
        with caller_token(said.caller_token):
            usage = (await stub.GetUsage(auth_service_pb2.GetUsageRequest())).usage
        return usage.tasks, usage.steps
    finally:
        await channel.close()


async def _settles(stack: Stack, key: str, *, at: tuple[int, int]) -> None:
    async def is_there() -> bool:
        return await _usage(stack, key) == at

    await eventually(is_there, timeout=10.0)


async def test_tasks_and_steps_are_counted_once(any_stack: Stack) -> None:
    name = f"metered-{secrets.token_hex(4)}"
    client = new_tenant(any_stack, name)
    key = _key_of(any_stack, name)
    for body in (CHAIN, FAILING, CHAIN, UNPLANNABLE):
        finished(client, body)
    headers = {"Idempotency-Key": "once"}
    for _ in range(3):
        client.post("/api/v1/tasks/execute?wait=25", CHAIN, headers=headers)

    await _settles(any_stack, key, at=(5, 3 + 2 + 3 + 0 + 3))


async def test_tasks_of_test_keys_are_not_counted(stack: Stack) -> None:
    name = f"tested-{secrets.token_hex(4)}"
    live = new_tenant(stack, name)
    test = Client(Server(url=stack.server.url, api_key=_key_of(stack, name, mode="test")))
    finished(test, CHAIN)
    finished(live, CHAIN)

    await _settles(stack, _key_of(stack, name), at=(1, 3))


async def test_the_count_is_exact_though_auth_is_killed(stack: Stack) -> None:
    name = f"killed-{secrets.token_hex(4)}"
    client = new_tenant(stack, name)
    key = _key_of(stack, name)
    before = stack.ready.services["auth"][0].pid
    for _ in range(5):
        finished(client, CHAIN)

    os.kill(before, signal.SIGKILL)

    async def counted() -> bool:
        try:
            return await _usage(stack, key) == (5, 15)
        except PawlError:  # auth is starting again
            return False

    await eventually(counted, timeout=20.0)
    assert await _dead_letters(stack) == 0


async def _dead_letters(stack: Stack) -> int:
    return len([one for one in await read_published(stack) if one.topic == DEAD_LETTERS])
