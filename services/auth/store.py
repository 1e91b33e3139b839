"""Runs the SQL of auth and returns models. Whoever changes something brings the transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from libs.core.canonical import canonical_text
from libs.db.engine import Connection, Pool, transaction
from libs.db.queries import load_queries
from services.auth.keys import ParsedKey
from services.auth.model import (
    NOTED_FOR,
    Account,
    AllowList,
    Amounts,
    ApiKey,
    AuditLine,
    Change,
    DayUsage,
    KeyHolder,
    PermitsTaken,
    Tenant,
    Use,
    User,
)

_LISTS = ("allowed_agent_ids", "allowed_task_ids")

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))

_AMOUNTS = tuple(field.name for field in fields(Amounts))


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
        """Whose key has this SHA-256, revoked and expired ones included; None also when its user
        was removed.
        """
        row = await self._read("read_holder", hash=key_hash)
        if row is None or row["role"] is None:
            return None
        tier, role = row.pop("tier"), row.pop("role")
        return KeyHolder(key=key_of(row), tier=tier, role=role)

    async def note_use(self, key: ApiKey, *, now: datetime) -> None:
        """Note that a key is used, unless that was noted within a minute or is being noted."""
        values = {
            "id": key.id,
            "tenant_id": key.tenant_id,
            "now": now,
            "noted_until": now - NOTED_FOR,
        }
        async with self._pool.connection() as connection:
            await connection.execute(QUERIES["note_use"], values)

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
        return None if row is None else key_of(row)

    async def read_key(self, key_id: UUID, *, tenant_id: UUID) -> ApiKey | None:
        """A key of one tenant."""
        row = await self._read("read_key", id=key_id, tenant_id=tenant_id)
        return None if row is None else key_of(row)

    async def list_keys(self, *, tenant_id: UUID, before: UUID, count: int) -> list[ApiKey]:
        """At most `count` keys of a tenant, newest first, from before the id `before`."""
        rows = await self._read_all("list_keys", tenant_id=tenant_id, before=before, count=count)
        return [key_of(row) for row in rows]

    async def read_user(self, number: int, *, tenant_id: UUID) -> User | None:
        """A person of one tenant."""
        row = await self._read("read_user", number=number, tenant_id=tenant_id)
        return None if row is None else User(**row)

    async def read_any_user(self, number: int) -> User | None:
        """A person of whichever tenant."""
        row = await self._read("read_any_user", number=number)
        return None if row is None else User(**row)

    async def list_users(self, *, tenant_id: UUID, after: int, count: int) -> list[User]:
        """At most `count` people of a tenant by number, from after the number `after`."""
        rows = await self._read_all("list_users", tenant_id=tenant_id, after=after, count=count)
        return [User(**row) for row in rows]

    async def list_audit(self, *, tenant_id: UUID, before: int, count: int) -> list[AuditLine]:
        """At most `count` lines about a tenant, newest first, from before the line `before`."""
        rows = await self._read_all("list_audit", tenant_id=tenant_id, before=before, count=count)
        return [AuditLine(**row) for row in rows]

    async def list_usage(self, *, tenant_id: UUID, first: date, last: date) -> list[DayUsage]:
        """The days of a tenant from `first` to `last` on which anything was used, in order."""
        rows = await self._read_all("list_usage", tenant_id=tenant_id, first=first, last=last)
        return [
            DayUsage(
                day=row["day"],
                requests=row["requests"],
                amounts=Amounts(**{name: row[name] for name in _AMOUNTS}),
            )
            for row in rows
        ]

    async def read_account(self, key_id: UUID, *, tenant_id: UUID) -> Account | None:
        """The user whose key it is, and the tier of their tenant."""
        row = await self._read("read_account", key_id=key_id, tenant_id=tenant_id)
        if row is None:
            return None
        tier = row.pop("tier")
        return Account(user=User(**row), tier=tier)

    async def _read(self, name: str, /, **values: object) -> dict[str, Any] | None:
        async with self._pool.connection() as connection:
            return await one_row(connection, name, **values)

    async def _read_all(self, name: str, /, **values: object) -> list[dict[str, Any]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(QUERIES[name], values)
            return await cursor.fetchall()


async def lock_tenant(tx: Connection, tenant_id: UUID) -> None:
    """Hold a tenant until `tx` ends against other changes of its keys and people."""
    await one_row(tx, "lock_tenant", tenant_id=tenant_id)


async def lock_actor(tx: Connection, key_id: UUID, *, tenant_id: UUID, now: datetime) -> int | None:
    """The number of the user whose key this is, the key held against revocation until `tx` ends;
    None when it is good no longer.
    """
    row = await one_row(tx, "lock_actor", key_id=key_id, tenant_id=tenant_id, now=now)
    return None if row is None else int(row["user_number"])


async def lock_role(tx: Connection, number: int, *, tenant_id: UUID) -> str | None:
    """The role of a user, held until `tx` ends; None when they were removed."""
    row = await one_row(tx, "lock_role", number=number, tenant_id=tenant_id)
    return None if row is None else str(row["role"])


async def insert_tenant(tx: Connection, tenant: Tenant, *, email: str) -> Tenant | None:
    """A new tenant with its owner, as stored; None when the name is taken."""
    made = await one_row(
        tx,
        "insert_tenant",
        id=tenant.id,
        name=tenant.name,
        tier=tenant.tier,
        now=tenant.created_at,
    )
    if made is None:
        return None
    owner = {"tenant_id": tenant.id, "email": email, "role": "owner", "now": tenant.created_at}
    await tx.execute(QUERIES["insert_user"], owner)
    return Tenant(**made)


async def read_tenant(tx: Connection, tenant_id: UUID) -> Tenant:
    """A tenant as it stands in `tx`. LookupError: there is none."""
    row = await one_row(tx, "tenant_by_id", id=tenant_id)
    if row is None:
        raise LookupError(f"there is no tenant {tenant_id}")
    return Tenant(**row)


async def set_tier(tx: Connection, tenant_id: UUID, *, tier: str) -> Tenant | None:
    """The tenant with its new tier; None when it is unknown or of that tier."""
    row = await one_row(tx, "set_tier", tenant_id=tenant_id, tier=tier)
    return None if row is None else Tenant(**row)


async def insert_key(tx: Connection, key: ApiKey, *, secret: ParsedKey) -> ApiKey:
    """A new key, as stored."""
    made = await one_row(
        tx,
        "insert_key",
        id=key.id,
        tenant_id=key.tenant_id,
        user_number=key.user_number,
        hash=secret.hash,
        prefix=key.prefix,
        mode=key.mode,
        last_four=key.last_four,
        name=key.name,
        scopes=list(key.scopes),
        now=key.created_at,
        expires_at=key.expires_at,
        allowed_agent_ids=_listed(key.allowed_agent_ids),
        allowed_task_ids=_listed(key.allowed_task_ids),
    )
    if made is None:
        raise LookupError(f"key {key.id} was not stored")
    return key_of(made)


async def lock_key(tx: Connection, key_id: UUID, *, tenant_id: UUID) -> ApiKey | None:
    """A key of a tenant, held until `tx` ends."""
    row = await one_row(tx, "lock_key", id=key_id, tenant_id=tenant_id)
    return None if row is None else key_of(row)


async def replace_key(
    tx: Connection, key: ApiKey, *, replaced_by_id: UUID, ends_at: datetime
) -> ApiKey | None:
    """The key, replaced by this very statement and good until `ends_at` at the latest; None when it
    was replaced or revoked before.
    """
    row = await one_row(
        tx,
        "replace_key",
        id=key.id,
        tenant_id=key.tenant_id,
        replaced_by_id=replaced_by_id,
        ends_at=ends_at,
    )
    return None if row is None else key_of(row)


async def revoke_key(
    tx: Connection, key_id: UUID, *, tenant_id: UUID, now: datetime
) -> ApiKey | None:
    """The key, revoked by this very statement; None when it is unknown or was revoked before."""
    row = await one_row(tx, "revoke_key", id=key_id, tenant_id=tenant_id, now=now)
    return None if row is None else key_of(row)


async def insert_audit(tx: Connection, change: Change, *, now: datetime) -> None:
    """One line of the audit log, in the transaction of the change that it tells of."""
    values = {
        "tenant_id": change.tenant_id,
        "actor_key_id": change.actor_key_id,
        "action": change.action,
        "subject": change.subject,
        "details": canonical_text(dict(change.details)),
        "now": now,
    }
    await tx.execute(QUERIES["insert_audit"], values)


async def add_uses(tx: Connection, uses: Sequence[Use]) -> None:
    """Add to days of tenants, each named once, in the transaction that moves the consumer's
    position.
    """
    values = {
        "tenant_ids": [use.tenant_id for use in uses],
        "days": [use.day for use in uses],
        **{name: [getattr(use.amounts, name) for use in uses] for name in _AMOUNTS},
    }
    await tx.execute(QUERIES["add_uses"], values)


async def _take_permits(connection: Connection, wanted: PermitsWanted) -> PermitsTaken:
    row = await one_row(connection, "take_permits", **asdict(wanted))
    if row is None:
        raise LookupError("take_permits gives one row")
    return PermitsTaken(**row)


async def one_row(connection: Connection, name: str, /, **values: object) -> dict[str, Any] | None:
    """The only row that a statement gives, None when it gives none."""
    cursor = await connection.execute(QUERIES[name], values)
    return await cursor.fetchone()


def key_of(row: dict[str, Any]) -> ApiKey:
    """A row with the columns of a key."""
    lists = {name: None if row[name] is None else tuple(row[name]) for name in _LISTS}
    return ApiKey(**row | lists | {"scopes": tuple(row["scopes"])})


def _listed(ids: AllowList) -> list[UUID] | None:
    return None if ids is None else list(ids)
