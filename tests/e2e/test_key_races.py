"""Keys and quotas on a whole Pawl while requests are on their way."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import httpx2
import psycopg
import pytest

from libs.cli.client import Client, Server
from libs.cli.stack import Stack
from libs.core.tiers import TIERS
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user
from tests.e2e.tasks import EXECUTE
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

EFFECTIVE_SECONDS = 5.0
SUM: dict[str, Any] = {"task_definition": {"expression": "6*7"}}
BATCH = "/api/v1/tasks/batch"
TURNS = 4
Seen = list[tuple[float, int]]
"""When a request was sent (monotonic), and its status."""


class Account:
    """A tenant of its own."""

    def __init__(self, stack: Stack, *, tier: str = "enterprise") -> None:
        self.stack = stack
        self.operator = Client(stack.server)
        self.name = f"races-{secrets.token_hex(4)}"
        self.id = self.operator.post("/v1/tenants", {"name": self.name, "tier": tier})["id"]

    def key(self, **body: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.operator.post("/v1/keys", {"tenant": self.name, **body})
        return made

    async def tasks(self) -> int:
        return await self._count("SELECT count(*) FROM scheduler.tasks WHERE tenant_id = %s")

    async def requests(self) -> int:
        return await self._count(
            "SELECT coalesce(sum(requests), 0) FROM auth.request_days WHERE tenant_id = %s"
        )

    async def _count(self, query: LiteralString) -> int:
        async with await psycopg.AsyncConnection.connect(
            self.stack.ready.postgres.dsn, autocommit=True
        ) as inspector:
            cursor = await inspector.execute(query, (self.id,))
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])


@asynccontextmanager
async def client(stack: Stack, secret: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a key, from an address of its own: bad keys are counted by address."""
    source = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.3"
    async with httpx2.AsyncClient(
        base_url=stack.ready.url,
        headers={"Authorization": f"Bearer {secret}"},
        transport=httpx2.AsyncHTTPTransport(local_address=source),
        trust_env=False,
        timeout=40,
    ) as http:
        yield http


async def asked_until(http: httpx2.AsyncClient, end: asyncio.Event) -> Seen:
    """Ask without a pause: reads, and a submission now and then."""
    seen: Seen = []
    while not end.is_set():
        sent = time.monotonic()
        answer = await (
            http.post(EXECUTE, json=SUM) if len(seen) % 8 == 0 else http.get("/v1/keys?limit=1")
        )
        seen.append((sent, answer.status_code))
        if answer.status_code != 200:
            await asyncio.sleep(0.02)
    return seen


def statuses(seen: Seen, *, before: float = float("inf"), after: float = 0.0) -> set[int]:
    return {status for sent, status in seen if after <= sent < before}


async def test_a_hundred_at_once_at_the_edge_of_a_month_accept_exactly_what_is_left(
    stack: Stack,
) -> None:
    left = 30
    limits = TIERS["starter"]
    assert limits.rate_limit_per_minute is not None
    assert limits.rate_limit_per_minute >= left
    account = Account(stack, tier="starter")
    key = account.key()["key"]
    given = os.environ.get("PAWL_DATABASE_URL", "")
    owner_dsn = given or with_user(stack.ready.postgres.dsn, user=SUPERUSER)
    async with await psycopg.AsyncConnection.connect(owner_dsn, autocommit=True) as owner:
        await owner.execute(
            "INSERT INTO auth.request_days VALUES (%s, %s, %s)",
            (account.id, datetime.now(UTC).date(), (limits.monthly_requests or 0) - left),
        )

    async with client(stack, key) as http:
        answers = await asyncio.gather(*(http.post(EXECUTE, json=SUM) for _ in range(100)))

    said = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    assert said == {(200, None): left, (429, "monthly_requests_exceeded"): 100 - left}
    assert await account.tasks() == left


async def test_many_at_once_at_the_edge_of_a_minute_store_what_was_accepted(stack: Stack) -> None:
    account = Account(stack, tier="free")
    limit = TIERS["free"].rate_limit_per_minute
    assert limit is not None

    began = time.monotonic()
    async with (
        client(stack, account.key()["key"]) as one,
        client(stack, account.key()["key"]) as another,
    ):
        answers = await asyncio.gather(
            *(http.post(EXECUTE, json=SUM) for http in (one, another) for _ in range(50))
        )
    took = time.monotonic() - began

    said = Counter((answer.status_code, answer.json().get("code")) for answer in answers)
    assert set(said) == {(200, None), (429, "rate_limited")}
    assert limit <= said[200, None] <= limit + took * limit / 60 + 1
    assert await account.tasks() == said[200, None]


async def test_requests_are_counted_for_the_account_whose_key_came_with_them(stack: Stack) -> None:
    """Also while two accounts ask at once, with whatever the one says of the other."""
    busy, idle, refused = Account(stack), Account(stack), Account(stack)
    reading = idle.key(scopes=["tasks:read"])["key"]
    async with client(stack, busy.key()["key"]) as http, client(stack, reading) as other:
        answers = await asyncio.gather(
            *(http.get(f"/v1/keys?tenant={refused.name}") for _ in range(30)),
            *(other.post(EXECUTE, json=SUM) for _ in range(20)),
        )

    assert Counter(answer.status_code for answer in answers) == {403: 50}

    async def is_settled() -> bool:
        return [await one.requests() for one in (busy, idle, refused)] == [30, 20, 0]

    await eventually(is_settled, timeout=10)
    assert [await one.tasks() for one in (busy, idle, refused)] == [0, 0, 0]


async def test_one_idempotency_key_at_once_is_one_task_for_each_tenant_and_mode(
    stack: Stack,
) -> None:
    """Two keys of a tenant share it; another tenant, and test mode, have their own."""
    account, other = Account(stack), Account(stack)
    keys = [
        account.key()["key"],
        account.key()["key"],
        account.key(mode="test")["key"],
        account.key(mode="test")["key"],
        other.key()["key"],
    ]
    for path, body in ((EXECUTE, SUM), (BATCH, {"tasks": [SUM]})):
        same = {"Idempotency-Key": f"same {secrets.token_hex(8)}"}
        before = await account.tasks(), await other.tasks()
        answers = await asyncio.gather(
            *(_create(stack, key, path, body, same) for _ in range(TURNS) for key in keys)
        )

        made = [{_task_of(a) for a in answers[place :: len(keys)]} for place in range(len(keys))]
        assert {answer.status_code for answer in answers} == {200}
        assert [len(tasks) for tasks in made] == [1] * len(keys)
        assert made[0] == made[1]
        assert made[2] == made[3]
        assert len(made[0] | made[2] | made[4]) == 3
        replayed = [answer.headers.get("idempotent-replayed") == "true" for answer in answers]
        assert replayed.count(False) == 3
        assert (await account.tasks(), await other.tasks()) == (before[0] + 2, before[1] + 1)


async def _create(
    stack: Stack, key: str, path: str, body: Any, headers: dict[str, str]
) -> httpx2.Response:
    async with client(stack, key) as http:
        return await http.post(path, json=body, headers=headers)


def _task_of(answer: httpx2.Response) -> str:
    said = answer.json()
    return str(said["task_id"] if "task_id" in said else said["tasks"][0]["task_id"])


async def test_rotation_in_use_has_both_keys_good_and_then_the_new_one_alone(stack: Stack) -> None:
    overlap = 2
    account = Account(stack)
    owner = Client(stack.server)
    made = account.key()
    end = asyncio.Event()
    async with client(stack, made["key"]) as old_http:
        old = [asyncio.create_task(asked_until(old_http, end)) for _ in range(3)]
        await asyncio.sleep(0.5)
        asked = time.monotonic()
        rotated = await asyncio.to_thread(
            owner.post, f"/v1/keys/{made['id']}/rotate", {"overlap_seconds": overlap}
        )
        begun = time.monotonic()
        async with client(stack, rotated["key"]) as new_http:
            new = [asyncio.create_task(asked_until(new_http, end)) for _ in range(3)]
            await asyncio.sleep(overlap + EFFECTIVE_SECONDS + 1)
            end.set()
            old_seen = [one for seen in await asyncio.gather(*old) for one in seen]
            new_seen = [one for seen in await asyncio.gather(*new) for one in seen]

    assert statuses(new_seen) == {200}
    assert statuses(old_seen, before=asked + overlap - 0.5) == {200}
    assert statuses(old_seen) <= {200, 401, 429}
    assert statuses(old_seen, after=begun + overlap + EFFECTIVE_SECONDS) <= {401, 429}
    assert statuses(old_seen, after=begun + overlap + EFFECTIVE_SECONDS)


async def test_a_key_that_ends_while_it_is_used_is_told_so_and_nothing_else(stack: Stack) -> None:
    account = Account(stack)
    ends = datetime.now(UTC) + timedelta(seconds=2.5)
    made = account.key(expires_at=ends.isoformat())
    end = asyncio.Event()
    async with client(stack, made["key"]) as http:
        asking = [asyncio.create_task(asked_until(http, end)) for _ in range(4)]
        at_end = time.monotonic() + (ends - datetime.now(UTC)).total_seconds()
        await asyncio.sleep(max(0.0, at_end - time.monotonic()) + EFFECTIVE_SECONDS + 0.5)
        end.set()
        seen = [one for some in await asyncio.gather(*asking) for one in some]

    assert statuses(seen, before=at_end - 0.5) == {200}
    assert statuses(seen) <= {200, 401, 429}
    late = statuses(seen, after=at_end + EFFECTIVE_SECONDS)
    assert late
    assert late <= {401, 429}


async def test_a_wait_past_the_end_of_its_key_is_answered_401_and_the_task_goes_on(
    stack: Stack,
) -> None:
    account = Account(stack)
    ends = datetime.now(UTC) + timedelta(seconds=3)
    made = account.key(expires_at=ends.isoformat())
    owner = Client(Server(url=stack.server.url, api_key=account.key()["key"]))
    plan = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 9}}]}
    body = {"task_definition": {}, "plan": plan}

    async with client(stack, made["key"]) as http:
        waited = await http.post(f"{EXECUTE}?wait=20", json=body)
        answered = datetime.now(UTC)

    (task,) = owner.get("/api/v1/tasks")["data"]
    assert (waited.status_code, waited.json()["code"]) == (401, "unauthenticated")
    assert timedelta(0) < answered - ends < timedelta(seconds=EFFECTIVE_SECONDS)
    assert task["status"] == "running"
    assert owner.get(f"/api/v1/tasks/{task['task_id']}?wait=20")["status"] == "succeeded"
