"""Who makes a change: the caller as the database knows them now, not as their token says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from libs.core.errors import PawlError
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from services.auth import scopes, store
from services.auth.refusals import bad_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The key that makes a change, its user, and that user's role, none of which can change before
    the transaction ends. The scopes of `caller` are those that the role leaves now.
    """

    caller: Caller
    user_number: int
    role: str

    def refuse_role(self, role: str) -> None:
        """PawlError `permission_denied` for a role above the actor's; an operator is above all."""
        if scopes.OPERATOR not in self.caller.scopes and scopes.is_above(role, self.role):
            raise PawlError(
                "permission_denied",
                f"a key whose user has the role {self.role} may not act on the role {role}",
            )


async def begin_change(
    tx: Connection, caller: Caller, *, tenant_id: UUID, scope: str, now: datetime
) -> Actor:
    """Lock the tenant that is to be changed, then the actor.

    Changes of one tenant's keys and people so come one after the other: what one has judged, no
    other alters before it commits. PawlError as `lock_actor`.
    """
    await store.lock_tenant(tx, tenant_id)
    return await lock_actor(tx, caller, scope=scope, now=now)


async def lock_actor(tx: Connection, caller: Caller, *, scope: str, now: datetime) -> Actor:
    """Hold the acting key against revocation, and its user against another role, until `tx` ends.

    PawlError: `unauthenticated` when the key has ended since its token was issued, or its user was
    removed; `insufficient_scope` when the user's role has been lowered.
    """
    user_number = await store.lock_actor(tx, caller.key_id, tenant_id=caller.tenant_id, now=now)
    if user_number is None:
        raise bad_key()
    role = await store.lock_role(tx, user_number, tenant_id=caller.tenant_id)
    if role is None:
        raise bad_key()
    left = frozenset(scopes.cut(caller.scopes, role=role))
    as_now = replace(caller, scopes=left, roles=frozenset({role}))
    require_scope(as_now, scope)
    return Actor(caller=as_now, user_number=user_number, role=role)
