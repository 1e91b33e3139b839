"""auth counts each task and each step once, from the bus, whatever dies meanwhile."""

from __future__ import annotations

import os
import secrets
import signal
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from libs.bus.topics import DEAD_LETTERS
from libs.cli.client import Client, Server
from libs.cli.stack import Stack
from libs.cli.up import ready_file
from libs.cli.up.data_dir import DataDir
from libs.core.errors import PawlError
from libs.core.prices import PRICES, usd
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.client import RpcChannel, caller_token
from tests.e2e.tasks import (
    CHAIN,
    EXECUTE,
    FAILING,
    UNPLANNABLE,
    finished,
    new_tenant,
    trace_of,
)
from tests.published import read_published
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

PAUSES: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": index, "tool": "wait", "input": {"seconds": 0.5}} for index in (1, 2, 3)
        ]
    },
}
"""Three steps that take their time."""


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


async def test_the_count_is_exact_though_auth_is_killed_in_the_middle_of_it(stack: Stack) -> None:
    name = f"killed-{secrets.token_hex(4)}"
    client = new_tenant(stack, name)
    key = _key_of(stack, name)
    tasks = [str(client.post(EXECUTE, PAUSES)["task_id"]) for _ in range(60)]
    expected = (60, 180, PRICES.of(steps=180))

    at_death = [await _killed_while_it_counts(stack, name, key)]
    while len(at_death) < 3 and await _counted(stack, name) != expected:
        at_death.append(await _killed_while_it_counts(stack, name, key))

    async def is_exact() -> bool:
        return await _counted(stack, name) == expected

    await eventually(is_exact, timeout=20.0)
    assert at_death[0] < expected
    assert await _usage(stack, key) == expected[:2]
    traces = [trace_of(client, task_id) for task_id in tasks]
    assert {trace["status"] for trace in traces} == {"succeeded"}
    assert sum(usd(trace["estimated_cost_usd"]) for trace in traces) == expected[2]
    assert await _dead_letters(stack) == 0


async def _killed_while_it_counts(stack: Stack, tenant: str, key: str) -> tuple[int, int, Decimal]:
    """Kill auth right after a batch, when the next is on its way, and wait until it is back: what
    was counted then.
    """
    before = await _counted(stack, tenant)

    async def counts_more() -> bool:
        return await _counted(stack, tenant) > before

    await eventually(counts_more, timeout=20.0)
    at_death, pid = await _counted(stack, tenant), _pid_of_auth(stack)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: _pid_of_auth(stack) != pid, timeout=20.0)
    await eventually(lambda: _answers(stack, key), timeout=20.0)
    return at_death


async def _counted(stack: Stack, tenant: str) -> tuple[int, int, Decimal]:
    """Tasks, steps and cost of a tenant as the table has them."""
    query = """
        SELECT coalesce(sum(d.tasks), 0)::int, coalesce(sum(d.steps), 0)::int,
          coalesce(sum(d.cost_usd), 0)
        FROM auth.usage_days d JOIN auth.tenants t ON t.id = d.tenant_id WHERE t.name = %s"""
    async with await psycopg.AsyncConnection.connect(stack.ready.postgres.dsn) as connection:
        row = await (await connection.execute(query, (tenant,))).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


async def _answers(stack: Stack, key: str) -> bool:
    try:
        await _usage(stack, key)
    except PawlError:  # auth is starting again
        return False
    return True


def _pid_of_auth(stack: Stack) -> int:
    ready = ready_file.read(DataDir(path=stack.data_dir).ready_file)
    assert ready is not None
    return ready.services["auth"][0].pid


async def _dead_letters(stack: Stack) -> int:
    return len([one for one in await read_published(stack) if one.topic == DEAD_LETTERS])
