"""Use case: put a new key in an old one's place while both are good."""

from __future__ import annotations

from datetime import datetime, timedelta

from libs.core.clock import Clock
from libs.core.errors import FieldError, PawlError, field_error
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from services.auth import names, scopes, store
from services.auth.acting import Actor, begin_change
from services.auth.key_making import (
    NewKey,
    RandomChars,
    make_key,
    refuse_escalation,
    written,
)
from services.auth.model import ApiKey, Change, MadeKey, Rotated, RotationWanted
from services.auth.refusals import no_such_key
from services.auth.store import AuthStore
from services.auth.visibility import visible_key

KEY_ROTATED = "key.rotated"
OVERLAP_SECONDS = 24 * 3600
MAX_OVERLAP_SECONDS = 30 * 24 * 3600


class Rotations:
    """Every method raises PawlError; which codes, its docstring says."""

    def __init__(self, auth_store: AuthStore, *, clock: Clock, random_chars: RandomChars) -> None:
        self._store = auth_store
        self._clock = clock
        self._random_chars = random_chars

    async def rotate(self, caller: Caller, wanted: RotationWanted) -> Rotated:
        """Make a key that takes another's place; the old one ends with the overlap at the latest.

        PawlError: `insufficient_scope` without keys:write and for scopes that the caller lacks;
        `validation_failed`; `not_found` for an unknown key and, without operator, for another
        tenant's; `permission_denied` for a key that the caller could not make, and for an
        operator's; `conflict` when the key has ended or was replaced before; `unauthenticated` when
        the caller's key was revoked since its token was issued.
        """
        require_scope(caller, scopes.KEYS_WRITE)
        now = self._clock.now()
        check_rotation(wanted, now=now)
        key = await visible_key(self._store, caller, wanted.key_id)
        if scopes.OPERATOR in key.scopes:
            raise _of_operator()
        seconds = OVERLAP_SECONDS if wanted.overlap_seconds is None else wanted.overlap_seconds
        async with self._store.transaction() as tx:
            actor = await begin_change(
                tx, caller, tenant_id=key.tenant_id, scope=scopes.KEYS_WRITE, now=now
            )
            old = await store.lock_key(tx, key.id, tenant_id=key.tenant_id)
            if old is None:
                raise no_such_key(key.id)
            refuse_ended(old, now=now)
            ends_at = now + timedelta(seconds=seconds)
            new = await self._successor(tx, actor, old, wanted, ends_at=ends_at)
            made = await make_key(
                tx,
                new,
                now=now,
                random_chars=self._random_chars,
                actor_key_id=caller.key_id,
                replaces_id=old.id,
            )
            replaced = await _replace(tx, old, made, actor=actor, ends_at=ends_at, now=now)
            return Rotated(made=made, replaced=replaced)

    async def _successor(
        self,
        tx: Connection,
        actor: Actor,
        old: ApiKey,
        wanted: RotationWanted,
        *,
        ends_at: datetime,
    ) -> NewKey:
        """The key in the old one's place; PawlError when the actor could not make it."""
        role = await store.lock_role(tx, old.user_number, tenant_id=old.tenant_id)
        if role is None:
            raise _conflict(old, "its user was removed")
        actor.refuse_role(role)
        expires_at = old.expires_at if wanted.expires_at is None else wanted.expires_at
        overlap_ends = ends_at if old.expires_at is None else min(ends_at, old.expires_at)
        if expires_at is not None and expires_at < overlap_ends:
            detail = f"the new key cannot end before the old one, {written(overlap_ends)}"
            raise field_error("validation_failed", "expires_at", detail, fine="out_of_range")
        new = NewKey(
            tenant_id=old.tenant_id,
            user_number=old.user_number,
            name=old.name,
            mode=old.mode,
            prefix=old.prefix,
            scopes=old.scopes,
            expires_at=expires_at,
            allowed_agent_ids=old.allowed_agent_ids,
            allowed_task_ids=old.allowed_task_ids,
        )
        refuse_escalation(actor.caller, new)
        return new


def check_rotation(wanted: RotationWanted, *, now: datetime) -> None:
    """PawlError `validation_failed` with everything that is wrong with what is asked for."""
    overlap: list[FieldError] = []
    seconds = wanted.overlap_seconds
    if seconds is not None and not 0 <= seconds <= MAX_OVERLAP_SECONDS:
        detail = f"{seconds}; 0 to {MAX_OVERLAP_SECONDS} (30 days) are allowed"
        overlap = [FieldError(field="overlap_seconds", code="out_of_range", detail=detail)]
    names.check(overlap, names.expiry_errors(wanted.expires_at, now=now))


def refuse_ended(key: ApiKey, *, now: datetime) -> None:
    """PawlError `conflict` for a key that cannot be replaced, and why."""
    if key.revoked_at is not None:
        raise _conflict(key, "it is revoked")
    if key.replaced_by_id is not None:
        raise _conflict(key, f"{key.replaced_by_id} has taken its place; rotate that one")
    if not key.is_usable(now):
        raise _conflict(key, "it has expired; make a new one")


async def _replace(
    tx: Connection, old: ApiKey, made: MadeKey, *, actor: Actor, ends_at: datetime, now: datetime
) -> ApiKey:
    """Note on the old key, and in the audit log, which key took its place."""
    replaced = await store.replace_key(tx, old, replaced_by_id=made.key.id, ends_at=ends_at)
    if replaced is None:
        raise LookupError(f"key {old.id} changed while it was held")
    change = Change(
        tenant_id=old.tenant_id,
        actor_key_id=actor.caller.key_id,
        action=KEY_ROTATED,
        subject=str(old.id),
        details={
            "replaced_by_id": str(made.key.id),
            "expires_at_before": written(old.expires_at),
            "expires_at_after": written(replaced.expires_at),
        },
    )
    await store.insert_audit(tx, change, now=now)
    return replaced


def _conflict(key: ApiKey, why: str) -> PawlError:
    return PawlError("conflict", f"key {key.id} cannot be rotated: {why}")


def _of_operator() -> PawlError:
    return PawlError(
        "permission_denied",
        "only the installation makes keys with the scope operator: make a new one there, then "
        "revoke this one",
    )
