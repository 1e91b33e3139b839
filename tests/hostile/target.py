"""A running Pawl under attack: its address, the keys that cases need, and a look behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from libs.cli.up.ready_file import ReadyFile
from libs.core.ids import new_id
from libs.pb.pawl.auth.v1 import auth_service_pb2, auth_service_pb2_grpc
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2, scheduler_service_pb2_grpc
from libs.rpc.client import RpcChannel, caller_token
from tests.hostile.canary import Canary
from tests.hostile.wire import Answer, Wire, request

EXECUTE = "/api/v1/tasks/execute"
MATH: dict[str, Any] = {"task_definition": {"expression": "1+1"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One installation."""

    wire: Wire
    ready: ReadyFile
    names: dict[str, str]
    canary: Canary
    inspector: psycopg.AsyncConnection[tuple[int, ...]]

    @property
    def key(self) -> str:
        """A good key."""
        return self.names["KEY"]

    async def call(self, method: str, target: str, *, key: str, body: Any = None) -> Answer:
        """An ordinary request."""
        headers = [("Authorization", f"Bearer {key}"), ("Content-Type", "application/json")]
        data = None if body is None else json.dumps(body).encode()
        return await self.wire.send(request(method, target, headers, data))

    async def tasks(self) -> int:
        """How many tasks there are. Events need a task: this counts what requests leave behind."""
        cursor = await self.inspector.execute("SELECT count(*) FROM scheduler.tasks")
        row = await cursor.fetchone()
        assert row is not None
        return row[0]

    def resident_bytes(self) -> int:
        """Memory of all services together."""
        pids = [one.pid for instances in self.ready.services.values() for one in instances]
        return sum(_resident_bytes(pid) for pid in pids)

    async def get_task_over_grpc(self, task_id: str, *, key: str) -> None:
        """Scheduler.GetTask as an internal client calls it; PawlError when it refuses."""
        auth = RpcChannel(self.ready.services["auth"][0].address, audience="auth")
        scheduler = RpcChannel(self.ready.services["scheduler"][0].address, audience="scheduler")
        try:
            said = await auth.stub(auth_service_pb2_grpc.AuthServiceStub).Authenticate(
                auth_service_pb2.AuthenticateRequest(api_key=key)
            )
            with caller_token(said.caller_token):
                await scheduler.stub(scheduler_service_pb2_grpc.SchedulerServiceStub).GetTask(
                    scheduler_service_pb2.GetTaskRequest(task_id=task_id)
                )
        finally:
            await auth.close()
            await scheduler.close()


@asynccontextmanager
async def target_of(ready: ReadyFile, canary: Canary) -> AsyncIterator[Target]:
    """The installation with two tenants, each with a key, and a task of the first."""
    parts = urlsplit(ready.url)
    wire = Wire(host=parts.hostname or "", port=parts.port or 80)
    async with await psycopg.AsyncConnection.connect(
        ready.postgres.dsn, autocommit=True
    ) as inspector:
        names = {"KEY": ready.api_key, "CANARY": str(canary.port)}
        target = Target(wire=wire, ready=ready, names=names, canary=canary, inspector=inspector)
        name = f"hostile-{new_id().hex}"[:40]
        await _made(target, "/v1/tenants", {"name": name, "tier": "enterprise"})
        other = await _made(target, "/v1/keys", {"tenant": name})
        reading = await _made(target, "/v1/keys", {"scopes": ["tasks:read"]})
        task = await _made(target, EXECUTE, MATH)
        target.names.update(
            KEY_B=other["key"],
            KEY_READONLY=reading["key"],
            KEY_BADSUM=ready.api_key[:-1] + ("A" if ready.api_key[-1] != "A" else "B"),
            KEY_UPPERCASED=ready.api_key.upper(),
            ID=task["task_id"],
            TENANT_A_ID=task["task_id"],
        )
        yield target


async def _made(target: Target, path: str, body: dict[str, Any]) -> Any:
    answer = await target.call("POST", path, key=target.key, body=body)
    assert answer.status in {200, 201}, answer
    return answer.json


def _resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096
