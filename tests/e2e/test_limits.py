"""Limits of a whole Pawl: exact over two gateways, and refusals that keep nothing."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from libs.cli.up.processes import environment_of
from libs.core.tiers import TIERS
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user
from libs.process.child import tied
from tests.e2e.tasks import EXECUTE
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

MATH: dict[str, Any] = {"task_definition": {"expression": "6*7"}}


def new_key(stack: Stack, tier: str, *, mode: str = "live") -> tuple[str, str]:
    """A key of a new tenant, and the tenant's id."""
    operator = Client(stack.server)
    name = f"limits-{secrets.token_hex(4)}"
    tenant = operator.post("/v1/tenants", {"name": name, "tier": tier})
    made = operator.post("/v1/keys", {"tenant": name, "mode": mode})
    return str(made["key"]), str(tenant["id"])


async def count(stack: Stack, query: str, *values: object) -> int:
    async with await psycopg.AsyncConnection.connect(
        stack.ready.postgres.dsn, autocommit=True
    ) as inspector:
        cursor = await inspector.execute(query.encode(), values)
        row = await cursor.fetchone()
        return 0 if row is None or row[0] is None else int(row[0])


async def requests_of(stack: Stack, tenant: str) -> int:
    query = "SELECT sum(requests) FROM auth.request_days WHERE tenant_id = %s"
    return await count(stack, query, tenant)


async def tasks_of(stack: Stack, tenant: str) -> int:
    return await count(stack, "SELECT count(*) FROM scheduler.tasks WHERE tenant_id = %s", tenant)


@contextmanager
def second_gateway(stack: Stack) -> Iterator[str]:
    """One more gateway of the same Pawl; its address."""
    [first] = stack.ready.services["gateway"]
    env = environment_of(first.pid) | {
        "PAWL_HTTP_LISTEN": "127.0.0.2:" + stack.ready.url.rpartition(":")[2],
        "PAWL_METRICS_LISTEN": "",
    }
    process = subprocess.Popen(
        tied((sys.executable, "-P", "-m", "gateway"), death_signal=signal.SIGTERM),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield "http://" + env["PAWL_HTTP_LISTEN"]
    finally:
        process.terminate()
        assert process.wait(20) == 0


async def is_up(url: str) -> bool:
    async with httpx2.AsyncClient(trust_env=False) as http:
        try:
            return (await http.get(f"{url}/healthz")).status_code == 200
        except httpx2.TransportError:
            return False


async def burst(urls: list[str], key: str, *, each: int) -> Counter[int]:
    """Statuses of so many requests to each address at once."""
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=20) as http:
        answers = await asyncio.gather(
            *(http.get(f"{url}/v1/tools?limit=1") for url in urls * each)
        )
    return Counter(answer.status_code for answer in answers)


async def test_a_minute_is_exact_over_two_gateways(stack: Stack) -> None:
    limit = TIERS["starter"].rate_limit_per_minute
    key, tenant = new_key(stack, "starter")
    assert limit is not None

    with second_gateway(stack) as second:
        await eventually(lambda: is_up(second), timeout=30)
        began = asyncio.get_running_loop().time()
        statuses = await burst([stack.ready.url, second], key, each=100)
        seconds = asyncio.get_running_loop().time() - began

    assert set(statuses) == {200, 429}
    # Nobody gets more than the minute and what came back while it lasted, and nothing is lost.
    assert limit <= statuses[200] <= limit + seconds * limit / 60 + 1

    async def is_settled() -> bool:
        return await requests_of(stack, tenant) == statuses[200]

    await eventually(is_settled, timeout=10)


async def test_every_request_is_counted_once_whatever_was_taken_for_it(stack: Stack) -> None:
    key, tenant = new_key(stack, "enterprise")

    with second_gateway(stack) as second:
        await eventually(lambda: is_up(second), timeout=30)
        statuses = await burst([stack.ready.url, second], key, each=150)
        # It stops with permits in its hands, and gives them back.

    assert statuses == {200: 300}

    async def is_settled() -> bool:
        return await requests_of(stack, tenant) == 300

    await eventually(is_settled, timeout=10)


async def test_requests_of_test_keys_are_limited_and_not_counted(stack: Stack) -> None:
    key, tenant = new_key(stack, "free", mode="test")

    statuses = await burst([stack.ready.url], key, each=40)

    limit = TIERS["free"].rate_limit_per_minute
    assert limit is not None
    assert limit <= statuses[200] <= limit + 2
    assert await requests_of(stack, tenant) == 0


async def test_a_month_that_is_used_up_is_429_with_its_name(stack: Stack) -> None:
    key, tenant = new_key(stack, "free")
    async with await psycopg.AsyncConnection.connect(_owner(stack), autocommit=True) as owner:
        await owner.execute(
            "INSERT INTO auth.request_days VALUES (%s, %s, 198)",
            (tenant, datetime.now(UTC).date()),
        )
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        answers = [await http.post(f"{stack.ready.url}{EXECUTE}", json=MATH) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[0].headers["ratelimit"].startswith('"monthly_requests";r=1;t=')
    assert answers[2].json()["code"] == "monthly_requests_exceeded"
    assert "the tier free allows 200 requests per calendar month" in answers[2].json()["detail"]
    assert int(answers[2].headers["retry-after"]) >= 1
    assert await tasks_of(stack, tenant) == 2


async def test_what_is_above_the_tier_is_refused_and_nothing_is_kept(stack: Stack) -> None:
    key, tenant = new_key(stack, "free")
    step = {"tool": "math", "input": {"expression": "1+1"}}
    nine = [{"step_index": n, **step} for n in range(1, 10)]
    cases = [
        (MATH | {"max_steps": 9}, "max_steps", "9 is above what the tier free allows"),
        (MATH | {"timeout_seconds": 31}, "timeout_seconds", "31 is above what the tier free"),
        (
            {"task_definition": {}, "plan": {"steps": nine}},
            "plan.steps",
            "9 steps; max_steps is 8, and the tier free allows 8",
        ),
        (
            {
                "task_definition": {},
                "plan": {"steps": nine[:1], "limits": {"max_total_tokens": 10_001}},
            },
            "plan.limits.max_total_tokens",
            "10001 is above what the tier free allows; the most is 10000",
        ),
        (
            {
                "task_definition": {},
                "plan": {"steps": nine[:1], "limits": {"max_step_seconds": 30.5}},
            },
            "plan.limits.max_step_seconds",
            "30.5 is above what the tier free allows; the most is 30",
        ),
    ]
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http:
        for body, field, words in cases:
            answer = await http.post(f"{stack.ready.url}{EXECUTE}", json=body)

            assert answer.status_code == 422, answer.text
            [error] = answer.json()["errors"]
            assert error["field"] == field
            assert words in error["detail"]

    assert await tasks_of(stack, tenant) == 0


async def test_a_large_task_is_waited_for_without_its_body(stack: Stack) -> None:
    key, _ = new_key(stack, "enterprise")
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 0.2}}]}
    body = {"task_definition": {"text": "x" * 800_000}, "plan": plan}
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=40) as http:
        answer = await http.post(f"{stack.ready.url}{EXECUTE}?wait=20", json=body)

    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded", answer.text[:500]


def _owner(stack: Stack) -> str:
    given = os.environ.get("PAWL_DATABASE_URL", "")
    return given or with_user(stack.ready.postgres.dsn, user=SUPERUSER)
