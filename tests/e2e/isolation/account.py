"""A tenant of a running Pawl with things in it that nobody else may see or touch."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx2
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from libs.cli.stack import Stack
from libs.core.ids import new_id
from libs.pb.pawl.artifact.v1 import artifact_service_pb2, artifact_service_pb2_grpc
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.rpc.client import RpcChannel, caller_token
from services.auth.scopes import GRANTABLE
from tests.e2e.tasks import EXECUTE
from tests.waiting import eventually

FIRST_SECONDS = 5.0
IDLE_SECONDS = 0.7
"""So long nothing comes on a stream that has begun, and it is taken for read."""

UNSETTLED = {"rates", "request_days", "outbox"}
"""Tables that tell when somebody asked, not what they own; the outbox is emptied as it fills."""
VOLATILE = {"last_used_at"}

_TABLES = """
SELECT table_schema, table_name, array_agg(column_name::text) AS columns
FROM information_schema.columns
WHERE table_schema IN ('auth', 'scheduler', 'planner', 'artifact')
GROUP BY table_schema, table_name ORDER BY table_schema, table_name
"""

T = TypeVar("T")
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; of a stream, what came until nothing more did."""

    status: int
    headers: str
    body: str

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def whole(self) -> str:
        """Everything that a caller can read."""
        return self.headers + self.body


@dataclass(kw_only=True)
class Account:
    """One tenant. `marks` are strings that occur in nobody else's answers."""

    stack: Stack
    http: httpx2.AsyncClient
    canary: str
    tenant_id: str
    owner: str
    marks: set[str]
    things: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, *, key: str | None, body: Any = None, **headers: str
    ) -> Answer:
        """One request; `key` None sends none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            named["authorization"] = f"Bearer {key}"
        async with self.http.stream(method, path, json=body, headers=named) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                read = b"".join([chunk async for chunk in until_idle(answer.aiter_raw())])
            else:
                read = await answer.aread()
            shown = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
            return Answer(status=answer.status_code, headers=shown, body=read.decode())

    async def make(self, path: str, body: Any, *, key: str | None = None) -> Any:
        """Something new of this account, made with its owner's key."""
        answer = await self.ask("POST", path, key=key or self.owner, body=body)
        assert answer.status in {200, 201}, answer
        return answer.json

    async def key(self, **body: Any) -> str:
        """The secret of a new key; without `scopes` it may do all that its owner may."""
        made = await self.make("/v1/keys", {"name": self.canary, **body})
        self.marks |= {made["id"], made["key"]}
        return str(made["key"])

    async def key_without(self, *lacking: str) -> str:
        """A key with every scope that can be had but these."""
        return await self.key(scopes=[scope for scope in GRANTABLE if scope not in lacking])

    async def fresh(self, kind: str) -> str:
        """What names a new thing of this kind."""
        if kind in self.things:
            return self.things[kind]
        if kind == "KEY":
            made = await self.make("/v1/keys", {"name": self.canary})
            self.marks |= {made["id"], made["key"]}
            return str(made["id"])
        if kind == "USER":
            email = f"{self.canary}-{secrets.token_hex(4)}@example.org"
            return str((await self.make("/v1/users", {"email": email, "role": "member"}))["number"])
        if kind == "WAITING":
            later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            task = await self.make(EXECUTE, task_of(self.canary) | {"scheduled_at": later})
            self.marks.add(task["task_id"])
            return str(task["task_id"])
        if kind == "NEW":
            return f"new-{secrets.token_hex(6)}"
        raise LookupError(kind)

    async def rows(self) -> Rows:
        """Every row of this account in the database, by table."""
        async with await psycopg.AsyncConnection.connect(
            self.stack.ready.postgres.dsn, autocommit=True, row_factory=dict_row
        ) as inspector:
            tables = await (await inspector.execute(_TABLES)).fetchall()
            found: Rows = {}
            for table in tables:
                query = _rows_of(table)
                if query is not None:
                    cursor = await inspector.execute(query, {"tenant": self.tenant_id})
                    rows = [_without(row) for row in await cursor.fetchall()]
                    found[f"{table['table_schema']}.{table['table_name']}"] = rows
            return found

    def seen_in(self, text: str, *, said: str = "") -> set[str]:
        """The marks of this account in a text, but for those that the asker said itself."""
        return {mark for mark in self.marks if mark in text and mark not in said}


async def filled(whose: Account, text: str) -> str:
    """The text with every thing of the account that it names."""
    names = {
        kind: await whose.fresh(kind) for kind in sorted(set(re.findall(r"[$#]([A-Z_]+)", text)))
    }
    for kind in sorted(names, key=len, reverse=True):
        text = text.replace(f'"#{kind}"', names[kind]).replace(f"${kind}", names[kind])
    return text


async def until_idle(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    """What comes on a stream that may have no end, until nothing more does."""
    for number in itertools.count():
        # What comes first only says that the stream stands.
        patience = FIRST_SECONDS if number < 2 else IDLE_SECONDS
        try:
            yield await asyncio.wait_for(anext(stream), patience)
        except (StopAsyncIteration, TimeoutError):
            return


def task_of(canary: str) -> dict[str, Any]:
    """A task whose input, plan, output and artifact have the canary in them."""
    step = {"tool": "artifact", "input": {"type": "note", "data": {"text": canary}}}
    return {"task_definition": {"note": canary}, "plan": {"steps": [{"step_index": 1, **step}]}}


def unknown(kind: str) -> str:
    """What names nothing of this kind."""
    return {"USER": "999999999", "TENANT": "nobody-of-that-name"}.get(kind) or str(new_id())


@asynccontextmanager
async def account(stack: Stack) -> AsyncIterator[Account]:
    """A new tenant that has run a task with an artifact; everything about it has settled."""
    canary = f"canary-{secrets.token_hex(8)}"
    operator = stack.ready.api_key
    # Bad keys are counted by address: so each account has its own.
    source = f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.2"
    transport = httpx2.AsyncHTTPTransport(local_address=source)
    async with httpx2.AsyncClient(
        base_url=stack.ready.url, timeout=30, trust_env=False, transport=transport
    ) as http:
        new = Account(
            stack=stack, http=http, canary=canary, tenant_id="", owner=operator, marks={canary}
        )
        tenant = await new.make("/v1/tenants", {"name": canary, "tier": "enterprise"})
        new.tenant_id = tenant["id"]
        made = await new.make("/v1/keys", {"tenant": canary, "name": canary})
        new.owner = made["key"]
        new.marks |= {tenant["id"], made["id"], made["key"]}
        await _fill(new)
        yield new


async def _fill(new: Account) -> None:
    task = await new.make(EXECUTE, task_of(new.canary))
    path = f"/api/v1/tasks/{task['task_id']}"

    async def has_ended() -> bool:
        answer = await new.ask("GET", path, key=new.owner)
        return bool(answer.json["status"] == "succeeded")

    await eventually(has_ended, timeout=20)
    new.things = {"TASK": task["task_id"], "TENANT": new.canary, "TENANT_ID": new.tenant_id}
    new.things["ARTIFACT"] = await _artifact_of(new)
    new.things["WAITING"] = await new.fresh("WAITING")
    new.marks |= {new.things["TASK"], new.things["ARTIFACT"]}

    async def is_metered() -> bool:
        rows = await new.rows()
        return [(day["tasks"], day["steps"]) for day in rows["auth.usage_days"]] == [(2, 1)]

    await eventually(is_metered, timeout=20)


async def _artifact_of(new: Account) -> str:
    """The task's artifact, which reading settles."""
    addresses = {name: one[0].address for name, one in new.stack.ready.services.items()}
    auth = RpcChannel(addresses["auth"], audience="auth")
    artifact = RpcChannel(addresses["artifact"], audience="artifact")
    try:
        said = await auth.stub(auth_service_pb2_grpc.AuthServiceStub).Authenticate(
            auth_service_pb2.AuthenticateRequest(api_key=new.owner)
        )
        with caller_token(said.caller_token):
            listed = await artifact.stub(
                artifact_service_pb2_grpc.ArtifactServiceStub
            ).ListArtifacts(artifact_service_pb2.ListArtifactsRequest(task_id=new.things["TASK"]))
        (one,) = listed.artifacts
        return str(one.id)
    finally:
        await auth.close()
        await artifact.close()


def _rows_of(table: dict[str, Any]) -> sql.Composed | None:
    """The statement that reads a tenant's rows of a table; None where no row is anybody's."""
    name = sql.Identifier(table["table_schema"], table["table_name"])
    columns: Iterable[str] = table["columns"]
    if table["table_name"] in UNSETTLED:
        return None
    if "tenant_id" in columns:
        whose = sql.SQL("tenant_id = %(tenant)s")
    elif table["table_name"] == "tenants":
        whose = sql.SQL("id = %(tenant)s")
    elif "task_id" in columns:
        whose = sql.SQL("task_id IN (SELECT id FROM scheduler.tasks WHERE tenant_id = %(tenant)s)")
    else:
        return None
    return sql.SQL("SELECT * FROM {} AS t WHERE {} ORDER BY t::text").format(name, whose)


def _without(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in VOLATILE}
