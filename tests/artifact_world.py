"""Artifact over a test's database, and tasks whose event log says what a test wants."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.core.tiers import TIERS
from libs.db.engine import Pool, open_pool
from libs.pb.pawl.artifact.v1 import artifact_pb2
from libs.pb.pawl.artifact.v1 import artifact_service_pb2 as pb
from libs.pb.pawl.artifact.v1 import artifact_service_pb2_grpc as pb_grpc
from libs.rpc.client import RpcChannel, caller_token, on_behalf
from libs.rpc.context import Caller
from libs.rpc.tokens import CallerTokens, KeyRing, ServiceTokens, TokenVerifier
from services.artifact.blob_place import BlobSettings, LocalPlace
from services.artifact.blobs import open_blobs
from services.artifact.content import content_of
from services.artifact.model import NewArtifact, Place
from services.artifact.server import make_server
from services.artifact.service import Artifacts
from services.artifact.store import ArtifactStore
from tests.servers import Database

TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
OTHER_TENANT = UUID("01936b2e-0000-7000-8000-00000000000b")

# The way of a task through its states; where it ends is the last one.
_WAY = (TaskState.CREATED, TaskState.PLANNED, TaskState.QUEUED, TaskState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactWorld:
    """The store, the server behind a channel of an executor, and the owner's view."""

    database: Database
    pool: Pool
    store: ArtifactStore
    blobs_dir: Path
    channel: RpcChannel
    callers: CallerTokens

    async def task(self, state: TaskState = TaskState.RUNNING) -> UUID:
        """A new task whose committed events end in `state`; none of them is published."""
        task_id = new_id()
        way = _WAY[: _WAY.index(state) + 1] if state in _WAY else (*_WAY, state)
        await self.tell(task_id, *way)
        return task_id

    async def ends(self, task_id: UUID, state: TaskState) -> None:
        """Commit the last event of a running task."""
        await self.tell(task_id, state, first_seq=len(_WAY) + 1)

    async def tell(self, task_id: UUID, *states: TaskState, first_seq: int = 1) -> None:
        """Commit transitions to the event log, without the task's own row."""
        before = None if first_seq == 1 else TaskState.RUNNING
        async with await psycopg.AsyncConnection.connect(self.database.owner_dsn) as owner:
            await owner.execute("ALTER TABLE scheduler.task_events DISABLE TRIGGER ALL")
            for seq, state in enumerate(states, start=first_seq):
                await owner.execute(
                    "INSERT INTO scheduler.task_events"
                    " (task_id, seq, type, from_state, to_state, at, data)"
                    " VALUES (%s, %s, 'status_transition', %s, %s, now(), '{}')",
                    (task_id, seq, before, state),
                )
                before = state

    def blobs(self) -> list[Path]:
        """The files in the blob store."""
        return [path for path in self.blobs_dir.rglob("*") if path.is_file()]

    async def ask(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement run as the owner."""
        dsn = self.database.owner_dsn
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as owner:
            cursor = await owner.execute(sql.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def put(self, request: pb.PutArtifactRequest, **claims: Any) -> artifact_pb2.Artifact:
        """PutArtifact by an executor at work on the request's task, unless `claims` differ."""
        claims.setdefault("tenant_id", TENANT)
        if "task_id" not in claims:
            claims["task_id"] = UUID(request.task_id)
        with on_behalf(**claims):
            response = await self.channel.stub(pb_grpc.ArtifactServiceStub).PutArtifact(request)
        return response.artifact

    async def get(
        self, artifact_id: str, *, tenant_id: UUID = TENANT, scope: str = "tasks:read"
    ) -> artifact_pb2.Artifact:
        """GetArtifact as a caller of a tenant."""
        with caller_token(self.token(tenant_id, scope=scope)):
            stub = self.channel.stub(pb_grpc.ArtifactServiceStub)
            response = await stub.GetArtifact(pb.GetArtifactRequest(artifact_id=artifact_id))
        return response.artifact

    async def list(
        self,
        task_id: UUID | str,
        *,
        tenant_id: UUID = TENANT,
        scope: str = "tasks:read",
        page_size: int = 0,
        page_token: str = "",
    ) -> pb.ListArtifactsResponse:
        """ListArtifacts as a caller of a tenant."""
        request = pb.ListArtifactsRequest(
            task_id=str(task_id), page_size=page_size, page_token=page_token
        )
        with caller_token(self.token(tenant_id, scope=scope)):
            return await self.channel.stub(pb_grpc.ArtifactServiceStub).ListArtifacts(request)

    def token(self, tenant_id: UUID, *, scope: str, **changes: Any) -> str:
        """A caller token."""
        caller = Caller(
            key_id=new_id(),
            tenant_id=tenant_id,
            tier="pro",
            scopes=frozenset({scope}),
            mode="live",
            limits=TIERS["pro"],
            expires_at=time.time() + 60,
        )
        return self.callers.issue(replace(caller, **changes))[0]


def make_request(task_id: UUID, /, **changes: Any) -> pb.PutArtifactRequest:
    """A good PutArtifact request, with changes."""
    fields: dict[str, Any] = {
        "task_id": str(task_id),
        "step_index": 1,
        "ordinal": 0,
        "type": "report.summary",
        "data_json": '{"title":"x"}',
    }
    return pb.PutArtifactRequest(**(fields | changes))


def make_artifact(
    task_id: UUID, *, tenant_id: UUID = TENANT, step_index: int = 1, data_json: str = '{"a":1}'
) -> NewArtifact:
    """A checked new artifact."""
    place = Place(tenant_id=tenant_id, task_id=task_id, step_index=step_index, ordinal=0)
    return NewArtifact(place=place, type="report.summary", content=content_of(data_json))


async def refused(call: Any) -> PawlError:
    """The refusal of a call."""
    try:
        await call
    except PawlError as error:
        return error
    raise AssertionError("the call was not refused")


@asynccontextmanager
async def artifact_world(database: Database, keys: KeyRing) -> AsyncIterator[ArtifactWorld]:
    """The service over a test's database, closed at the end."""
    async with AsyncExitStack() as stack:
        pool = await open_pool(database.dsn("artifact"), name="test-artifact", hot=True)
        stack.push_async_callback(pool.close)
        store = ArtifactStore(pool)
        blobs_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pawl-blobs-")))
        blobs = open_blobs(BlobSettings(place=LocalPlace(directory=blobs_dir)))
        server = make_server(
            Artifacts(store, blobs=blobs, new_id=new_id),
            address="127.0.0.1:0",
            verifier=TokenVerifier(keys.public, audience="artifact"),
        )
        port = await server.start()
        stack.push_async_callback(server.stop)
        tokens = ServiceTokens("executor", keys.private["executor"])
        channel = RpcChannel(f"127.0.0.1:{port}", audience="artifact", tokens=tokens)
        stack.push_async_callback(channel.close)
        yield ArtifactWorld(
            database=database,
            pool=pool,
            store=store,
            blobs_dir=blobs_dir,
            channel=channel,
            callers=CallerTokens(keys.private["auth"]),
        )
