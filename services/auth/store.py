"""Runs the SQL of auth and returns models. Whoever changes something brings the transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.db.engine import Connection, Pool, transaction
from libs.db.queries import load_queries
from services.auth.keys import ParsedKey
from services.auth.model import ApiKey, KeyHolder, PermitsTaken, Tenant, Usage, Use

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The key that makes a change, and the user whose key it is."""

    key_id: UUID
    user_number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit log. `actor_key_id` is None for the installation's command line."""

    tenant_id: UUID
    actor_key_id: UUID | None
    action: str
    subject: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitsWanted:
    """Permits to take and to give back; no number is no limit. Only what is metered counts against
    the month.
    """

    tenant_id: UUID
    wanted: int
    returned: int
    per_minute: int | None
    per_month: int | None
    is_metered: bool


class AuthStore:
    """The schema `auth` of one database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: committed at the end of the block, rolled back by an error."""
        async with transaction(self._pool) as tx:
            yield tx

    async def read_holder(self, key_hash: bytes) -> KeyHolder | None:
        """Whose key has this SHA-256, revoked and expired ones included."""
        row = await self._read("read_holder", hash=key_hash)
        if row is None:
            return None
        tier, role = row.pop("tier"), row.pop("role")
        return KeyHolder(key=_key(row), tier=tier, role=role)

    async def take_permits(self, wanted: PermitsWanted) -> PermitsTaken:
        """As many permits as the tenant's limits allow now; committed when this returns."""
        async with self._pool.connection() as connection:
            return await _take_permits(connection, wanted)

    async def return_permits(self, returned: Collection[PermitsWanted]) -> None:
        """The same for many tenants, all or none."""
        # In one order for everybody, so that two gateways cannot block each other.
        async with self.transaction() as tx:
            for one in sorted(returned, key=lambda one: (one.tenant_id, one.is_metered)):
                await _take_permits(tx, one)

    async def tiers_of(self, tenant_ids: Collection[UUID]) -> dict[UUID, str]:
        """The tiers of those tenants that there are."""
        rows = await self._read_all("tiers_of", tenant_ids=list(tenant_ids))
        return {row["id"]: row["tier"] for row in rows}

    async def tenant_by_id(self, tenant_id: UUID) -> Tenant | None:
        """The tenant with this id."""
        row = await self._read("tenant_by_id", id=tenant_id)
        return None if row is None else Tenant(**row)

    async def tenant_by_name(self, name: str) -> Tenant | None:
        """The tenant with this name."""
        row = await self._read("tenant_by_name", name=name)
        return None if row is None else Tenant(**row)

    async def list_tenants(self, *, after: str, count: int) -> list[Tenant]:
        """At most `count` tenants by name, from after the name `after`."""
        rows = await self._read_all("list_tenants", after=after, count=count)
        return [Tenant(**row) for row in rows]

    async def read_any_key(self, key_id: UUID) -> ApiKey | None:
        """A key of whichever tenant."""
        row = await self._read("read_any_key", id=key_id)
        return None if row is None else _key(row)

    async def read_key(self, key_id: UUID, *, tenant_id: UUID) -> ApiKey | None:
        """A key of one tenant."""
        row = await self._read("read_key", id=key_id, tenant_id=tenant_id)
        return None if row is None else _key(row)

    async def list_keys(self, *, tenant_id: UUID, before: UUID, count: int) -> list[ApiKey]:
        """At most `count` keys of a tenant, newest first, from before the id `before`."""
        rows = await self._read_all("list_keys", tenant_id=tenant_id, before=before, count=count)
        return [_key(row) for row in rows]

    async def read_usage(self, *, tenant_id: UUID, month: str) -> Usage | None:
        """What a tenant used in a month; None when nothing."""
        row = await self._read("read_usage", tenant_id=tenant_id, month=month)
        return None if row is None else Usage(**row)

    async def _read(self, name: str, /, **values: object) -> dict[str, Any] | None:
        async with self._pool.connection() as connection:
            return await _one(connection, name, **values)

    async def _read_all(self, name: str, /, **values: object) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES[name], values)
            return await cursor.fetchall()


async def lock_actor(
    tx: Connection, key_id: UUID, *, tenant_id: UUID, now: datetime
) -> Actor | None:
    """The acting key, held against revocation until `tx` ends; None when it is good no longer."""
    row = await _one(tx, "lock_actor", key_id=key_id, tenant_id=tenant_id, now=now)
    return None if row is None else Actor(key_id=row["id"], user_number=row["user_number"])


async def insert_tenant(tx: Connection, tenant: Tenant, *, email: str) -> Tenant | None:
    """A new tenant with its owner, as stored; None when the name is taken."""
    made = await _one(
        tx,
        "insert_tenant",
        id=tenant.id,
        name=tenant.name,
        tier=tenant.tier,
        now=tenant.created_at,
    )
    if made is None:
        return None
    owner = {"tenant_id": tenant.id, "email": email, "now": tenant.created_at}
    await tx.execute(QUERIES["insert_owner"], owner)
    return Tenant(**made)


async def insert_key(
    tx: Connection, key: ApiKey, *, secret: ParsedKey, user_number: int | None
) -> ApiKey:
    """A new key, as stored: of that user if the tenant has them, else of the tenant's owner."""
    made = await _one(
        tx,
        "insert_key",
        id=key.id,
        tenant_id=key.tenant_id,
        user_number=user_number,
        hash=secret.hash,
        prefix=key.prefix,
        mode=key.mode,
        last_four=key.last_four,
        name=key.name,
        scopes=list(key.scopes),
        now=key.created_at,
        expires_at=key.expires_at,
    )
    if made is None:
        raise LookupError(f"tenant {key.tenant_id} has no owner")
    return _key(made)


async def revoke_key(
    tx: Connection, key_id: UUID, *, tenant_id: UUID, now: datetime
) -> ApiKey | None:
    """The key, revoked by this very statement; None when it is unknown or was revoked before."""
    row = await _one(tx, "revoke_key", id=key_id, tenant_id=tenant_id, now=now)
    return None if row is None else _key(row)


async def insert_audit(tx: Connection, entry: AuditEntry, *, now: datetime) -> None:
    """One line of the audit log, in the transaction of the change that it tells of."""
    values = {
        "tenant_id": entry.tenant_id,
        "actor_key_id": entry.actor_key_id,
        "action": entry.action,
        "subject": str(entry.subject),
        "now": now,
    }
    await tx.execute(QUERIES["insert_audit"], values)


async def add_uses(tx: Connection, uses: Sequence[Use]) -> None:
    """Add to months of tenants, each named once, in the transaction that moves the consumer's
    position.
    """
    values = {
        "tenant_ids": [use.tenant_id for use in uses],
        "months": [use.month for use in uses],
        "tasks": [use.tasks for use in uses],
        "steps": [use.steps for use in uses],
    }
    await tx.execute(QUERIES["add_uses"], values)


async def _take_permits(connection: Connection, wanted: PermitsWanted) -> PermitsTaken:
    row = await _one(connection, "take_permits", **asdict(wanted))
    if row is None:
        raise LookupError("take_permits gives one row")
    return PermitsTaken(**row)


async def _one(connection: Connection, name: str, /, **values: object) -> dict[str, Any] | None:
    cursor = await connection.execute(QUERIES[name], values)
    return await cursor.fetchone()


def _key(row: dict[str, Any]) -> ApiKey:
    return ApiKey(**row | {"scopes": tuple(row["scopes"])})
