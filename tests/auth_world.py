"""Auth over a test's database, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg.rows import dict_row

from libs.core.errors import PawlError
from libs.db.engine import Pool, open_pool
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.pb.pawl.auth.v1 import auth_service_pb2_grpc as pb_grpc
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.context import Caller
from libs.rpc.tokens import CallerTokens, KeyRing, TokenVerifier
from services.auth import user_store
from services.auth.__main__ import random_chars
from services.auth.audit import Audit
from services.auth.bootstrap import make_operator_key
from services.auth.granting import Granting
from services.auth.metering import Metering
from services.auth.model import KeyWanted, MadeKey, TenantWanted, User, UserWanted
from services.auth.rotation import Rotations
from services.auth.server import UseCases, make_server
from services.auth.service import Keys
from services.auth.store import AuthStore
from services.auth.tenants import Tenants
from services.auth.users import Users
from tests.servers import Database

START = datetime(2026, 5, 31, 12, tzinfo=UTC)


class StillClock:
    """Stands at `START` until moved; monotonic seconds move with it."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    def move(self, delta: timedelta) -> None:
        self._now += delta


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthWorld:
    """The use cases and what a test looks through."""

    database: Database
    pool: Pool
    store: AuthStore
    clock: StillClock
    tokens: CallerTokens
    verifier: TokenVerifier
    do: UseCases

    async def operator_key(self, *, tenant: str = "default", tier: str = "enterprise") -> MadeKey:
        """A fresh operator key, as `bootstrap` makes it."""
        wanted = TenantWanted(name=tenant, tier=tier)
        return await make_operator_key(
            self.store, wanted, clock=self.clock, random_chars=random_chars
        )

    async def caller(self, secret: str) -> Caller:
        """The caller that a key's token speaks for."""
        principal = self.verifier.verify((await self.do.keys.authenticate(secret)).token)
        assert isinstance(principal, Caller)
        return principal

    async def key_of_new_tenant(
        self, name: str, *, scopes: Sequence[str] = (), mode: str = "live", tier: str = "free"
    ) -> MadeKey:
        """A tenant and a key of it, both made by the operator."""
        operator = await self.caller((await self.operator_key()).secret)
        await self.do.tenants.create(operator, TenantWanted(name=name, tier=tier))
        wanted = KeyWanted(tenant=name, scopes=tuple(scopes), mode=mode)
        return await self.do.keys.create(operator, wanted)

    async def user_with_key(
        self, owner: MadeKey, role: str, *, email: str = ""
    ) -> tuple[User, MadeKey]:
        """A person added with a key of the owner, and a key of theirs with all that they may."""
        caller = await self.caller(owner.secret)
        wanted = UserWanted(email=email or f"{role}@example.org", role=role)
        user = await self.do.users.create(caller, wanted)
        key = await self.do.keys.create(caller, KeyWanted(user_number=user.number))
        return user, key

    async def owner_of(self, tenant_id: UUID) -> User:
        """The owner of a tenant."""
        async with self.pool.connection() as connection:
            return await user_store.read_owner(connection, tenant_id=tenant_id)

    async def another_key(self, made: MadeKey) -> MadeKey:
        """One more key of the same tenant, made with the first."""
        return await self.do.keys.create(await self.caller(made.secret), KeyWanted())

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Run SQL as the owner, who may see and do what auth may not."""
        async with await psycopg.AsyncConnection.connect(
            self.database.owner_dsn, autocommit=True, row_factory=dict_row
        ) as owner:
            cursor = await owner.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def audit(self) -> list[tuple[str, UUID | None, str]]:
        """The audit log in order: action, actor, subject."""
        rows = await self.rows("SELECT * FROM auth.audit_log ORDER BY id")
        return [(row["action"], row["actor_key_id"], row["subject"]) for row in rows]


@asynccontextmanager
async def auth_world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    """Auth as `python -m services.auth` wires it, but for the clock."""
    clock = StillClock()
    pool = await open_pool(database.dsn("auth"), name="test-auth", hot=True)
    store = AuthStore(pool)
    tokens = CallerTokens(keys.private["auth"], now=lambda: clock.now().timestamp())
    tenants = Tenants(store, clock=clock)
    granting = Granting(store)
    do = UseCases(
        keys=Keys(
            store,
            tenants=tenants,
            granting=granting,
            tokens=tokens,
            clock=clock,
            random_chars=random_chars,
        ),
        tenants=tenants,
        granting=granting,
        rotations=Rotations(store, clock=clock, random_chars=random_chars),
        users=Users(store, tenants=tenants, clock=clock),
        audit=Audit(store, tenants=tenants),
        metering=Metering(store, clock=clock),
    )
    try:
        yield AuthWorld(
            database=database,
            pool=pool,
            store=store,
            clock=clock,
            tokens=tokens,
            verifier=TokenVerifier(
                keys.public, audience="auth", now=lambda: clock.now().timestamp()
            ),
            do=do,
        )
    finally:
        await pool.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Auth behind its port, and the world behind auth."""

    world: AuthWorld
    stub: Any

    async def as_key(self, secret: str, name: str, request: Any) -> Any:
        """Call an RPC with a fresh token of the key."""
        answer = await self.stub.Authenticate(pb.AuthenticateRequest(api_key=secret))
        return await self.with_token(answer.caller_token, name, request)

    async def with_token(self, token: str, name: str, request: Any) -> Any:
        """Call an RPC with this token."""
        with caller_token(token):
            return await getattr(self.stub, name)(request)

    async def refusal(self, secret: str, name: str, request: Any) -> PawlError:
        """Call an RPC that is refused."""
        with pytest.raises(PawlError) as refused:
            await self.as_key(secret, name, request)
        return refused.value


@asynccontextmanager
async def auth_server(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    """Auth as its processes serve it, and a channel to it."""
    async with auth_world(database, keys) as world:
        server = make_server(world.do, address="127.0.0.1:0", verifier=world.verifier)
        port = await server.start()
        channel = RpcChannel(f"127.0.0.1:{port}", audience="auth")
        try:
            yield Auth(world=world, stub=channel.stub(pb_grpc.AuthServiceStub))
        finally:
            await channel.close()
            await server.stop()


def stamp(at: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(at)
    return made


def fields(error: PawlError) -> list[tuple[str, str]]:
    return [(found.field, found.code) for found in error.errors]
