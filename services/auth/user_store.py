"""Runs the SQL about people. Whoever changes something brings the transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from libs.db.engine import Connection
from services.auth.model import ApiKey, User
from services.auth.store import QUERIES, key_of, one_row


async def read_user(connection: Connection, number: int, *, tenant_id: UUID) -> User | None:
    """A person of one tenant."""
    return _user(await one_row(connection, "read_user", number=number, tenant_id=tenant_id))


async def read_owner(connection: Connection, *, tenant_id: UUID) -> User:
    """The owner of a tenant. LookupError: there is no such tenant."""
    owner = _user(await one_row(connection, "read_owner", tenant_id=tenant_id))
    if owner is None:
        raise LookupError(f"tenant {tenant_id} has no owner")
    return owner


async def insert_user(
    tx: Connection, *, tenant_id: UUID, email: str, role: str, now: datetime
) -> User | None:
    """A new person, as stored; None when the tenant has somebody with that address."""
    row = await one_row(tx, "insert_user", tenant_id=tenant_id, email=email, role=role, now=now)
    return _user(row)


async def set_role(tx: Connection, user: User, *, role: str) -> User | None:
    """The person with their new role; None when they were removed or are the owner."""
    values = {"number": user.number, "tenant_id": user.tenant_id, "role": role}
    return _user(await one_row(tx, "set_role", **values))


async def hand_over(tx: Connection, *, to: User, owner: User) -> dict[int, User]:
    """Make `to` the owner and the owner an admin; both as they are then, by number."""
    values = {"tenant_id": to.tenant_id, "number": to.number, "owner": owner.number}
    cursor = await tx.execute(QUERIES["hand_over"], values)
    return {row["number"]: User(**row) for row in await cursor.fetchall()}


async def remove_user(tx: Connection, user: User, *, now: datetime) -> bool:
    """Remove a person; False when they were removed before or are the owner."""
    values = {"tenant_id": user.tenant_id, "number": user.number, "now": now}
    return await one_row(tx, "remove_user", **values) is not None


async def revoke_keys(tx: Connection, user: User, *, now: datetime) -> list[ApiKey]:
    """Revoke every key of a person; the keys that were good until then."""
    values = {"tenant_id": user.tenant_id, "number": user.number, "now": now}
    cursor = await tx.execute(QUERIES["revoke_keys_of_user"], values)
    return [key_of(row) for row in await cursor.fetchall()]


def _user(row: dict[str, Any] | None) -> User | None:
    return None if row is None else User(**row)
