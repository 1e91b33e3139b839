"""Makes keys: what every new key is checked for, stored with, and noted as."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from libs.core.api_key import LIVE
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.db.engine import Connection
from libs.rpc.context import Caller
from services.auth import allow_lists, keys, scopes, store
from services.auth.model import AllowList, ApiKey, Change, MadeKey
from services.auth.times import unix_ms

KEY_CREATED = "key.created"
KEY_REVOKED = "key.revoked"

RandomChars = Callable[[int], str]
"""So many random characters of the keys' alphabet, from a source fit for secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A checked key to make, every default resolved."""

    tenant_id: UUID
    user_number: int
    name: str
    mode: str
    prefix: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    allowed_agent_ids: AllowList = None
    allowed_task_ids: AllowList = None


def refuse_escalation(caller: Caller, new: NewKey) -> None:
    """No key makes another that may do more than itself.

    PawlError: `insufficient_scope` for scopes that the caller lacks; `permission_denied` for a live
    key by a test key, and for a wider list of agents or definitions.
    """
    lacking = scopes.missing(new.scopes, held=caller.scopes)
    if lacking:
        raise PawlError(
            "insufficient_scope",
            f"a key cannot give scopes that it lacks: {', '.join(lacking)}",
        )
    refuse_live_by_test(caller, new.mode)
    for field, wanted, own in (
        (allow_lists.AGENTS, new.allowed_agent_ids, caller.allowed_agent_ids),
        (allow_lists.DEFINITIONS, new.allowed_task_ids, caller.allowed_task_ids),
    ):
        beyond = allow_lists.beyond(wanted, own=own)
        if beyond:
            raise PawlError(
                "permission_denied",
                f"a key cannot give {field} beyond its own: {beyond}",
            )


def refuse_live_by_test(caller: Caller, mode: str) -> None:
    """PawlError `permission_denied` when a test key would make, replace or revoke a live one."""
    if caller.mode not in {LIVE, mode}:
        raise PawlError("permission_denied", "a test key handles test keys only: mode is test")


async def make_key(
    tx: Connection,
    new: NewKey,
    *,
    now: datetime,
    random_chars: RandomChars,
    actor_key_id: UUID | None,
    replaces_id: UUID | None = None,
) -> MadeKey:
    """Store a checked key with its audit line. No actor: the command line of the installation."""
    secret = keys.make_key(
        prefix=new.prefix, mode=new.mode, random_chars=random_chars(keys.RANDOM_CHARS)
    )
    key = ApiKey(
        id=new_id(unix_ms=unix_ms(now)),
        tenant_id=new.tenant_id,
        user_number=new.user_number,
        name=new.name,
        prefix=new.prefix,
        mode=new.mode,
        last_four=secret.last_four,
        scopes=new.scopes,
        created_at=now,
        expires_at=new.expires_at,
        revoked_at=None,
        allowed_agent_ids=new.allowed_agent_ids,
        allowed_task_ids=new.allowed_task_ids,
    )
    made = await store.insert_key(tx, key, secret=secret)
    replaces: dict[str, Json] = {} if replaces_id is None else {"replaces_id": str(replaces_id)}
    change = Change(
        tenant_id=made.tenant_id,
        actor_key_id=actor_key_id,
        action=KEY_CREATED,
        subject=str(made.id),
        details={**key_details(made), **replaces},
    )
    await store.insert_audit(tx, change, now=now)
    return MadeKey(key=made, secret=secret.secret)


def revocation(key: ApiKey, *, actor_key_id: UUID) -> Change:
    """What the audit log says of a key that was just revoked."""
    return Change(
        tenant_id=key.tenant_id,
        actor_key_id=actor_key_id,
        action=KEY_REVOKED,
        subject=str(key.id),
        details={"name": key.name, "display": key.display, "user_number": key.user_number},
    )


def key_details(key: ApiKey) -> Mapping[str, Json]:
    """What the audit log says of a new key: all that is stored but for the hash."""
    return {
        "name": key.name,
        "display": key.display,
        "mode": key.mode,
        "scopes": list(key.scopes),
        "user_number": key.user_number,
        "expires_at": written(key.expires_at),
        allow_lists.AGENTS: _texts(key.allowed_agent_ids),
        allow_lists.DEFINITIONS: _texts(key.allowed_task_ids),
    }


def written(at: datetime | None) -> str | None:
    """A time as the audit log has it."""
    return None if at is None else at.isoformat(timespec="microseconds")


def _texts(ids: AllowList) -> Json:
    return None if ids is None else [str(one) for one in ids]
