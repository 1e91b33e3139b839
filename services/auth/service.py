"""Use cases about keys: exchange one for a token, make, list and revoke them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from libs.core.clock import Clock
from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.core.paging import Listing, page_size_of
from libs.core.tiers import limits_of
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from libs.rpc.tokens import CallerTokens
from services.auth import keys, names, scopes, store
from services.auth.granting import Granting
from services.auth.model import (
    ApiKey,
    Authenticated,
    KeyHolder,
    KeyPage,
    KeyWanted,
    MadeKey,
    PermitsAsked,
)
from services.auth.refusals import bad_key, no_such_key
from services.auth.store import AuditEntry, AuthStore
from services.auth.tenants import Tenants
from services.auth.times import unix_ms

ONE_PERMIT = PermitsAsked()
KEY_CREATED = "key.created"
KEY_REVOKED = "key.revoked"

_HIGHEST_ID = UUID(int=2**128 - 1)

RandomChars = Callable[[int], str]
"""So many random characters of the keys' alphabet, from a source fit for secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A checked key to make, every default resolved."""

    tenant_id: UUID
    name: str
    mode: str
    prefix: str
    scopes: tuple[str, ...]
    expires_at: datetime | None


class Keys:
    """Every method raises PawlError; which codes, its docstring says."""

    def __init__(
        self,
        auth_store: AuthStore,
        *,
        tenants: Tenants,
        granting: Granting,
        tokens: CallerTokens,
        clock: Clock,
        random_chars: RandomChars,
    ) -> None:
        self._store = auth_store
        self._tenants = tenants
        self._granting = granting
        self._tokens = tokens
        self._clock = clock
        self._random_chars = random_chars

    async def authenticate(self, api_key: str, permits: PermitsAsked = ONE_PERMIT) -> Authenticated:
        """A caller token of 5 s for a good key, and permits for its requests.

        The key's form is checked before the one indexed read; only a good key takes permits.

        PawlError: `unauthenticated`, in the same words for every reason.
        """
        parsed = keys.parse_key(api_key)
        holder = None if parsed is None else await self._store.read_holder(parsed.hash)
        if holder is None or not holder.key.is_usable(self._clock.now()):
            raise bad_key()
        taken = await self._granting.take(holder, permits)
        caller = _caller(holder)
        token, expires_at = self._tokens.issue(caller)
        return Authenticated(
            token=token,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            token_seconds=max(0.0, expires_at - self._clock.now().timestamp()),
            holder=holder,
            limits=caller.limits,
            permits=taken,
        )

    async def create(self, caller: Caller, wanted: KeyWanted) -> MadeKey:
        """Make a key; its secret is in the answer and nowhere else.

        PawlError: `insufficient_scope` without keys:write, for another tenant without operator, and
        for scopes that the caller lacks; `permission_denied` when a test key asks for a live one;
        `validation_failed`; `not_found` (tenant); `unauthenticated` when the caller's key was
        revoked since its token was issued.
        """
        require_scope(caller, scopes.KEYS_WRITE)
        now = self._clock.now()
        check_key(wanted, now=now)
        tenant_id = await self._tenants.meant(caller, wanted.tenant)
        new = _resolved(wanted, tenant_id=tenant_id)
        _refuse_escalation(caller, new)
        async with self._store.transaction() as tx:
            actor = await store.lock_actor(tx, caller.key_id, tenant_id=caller.tenant_id, now=now)
            if actor is None:
                raise bad_key()
            return await make_key(tx, new, now=now, random_chars=self._random_chars, actor=actor)

    async def list(
        self, caller: Caller, *, tenant: str, page_size: int, page_token: str
    ) -> KeyPage:
        """A page of a tenant's keys, newest first, revoked ones included.

        PawlError: `insufficient_scope` without keys:read, for another tenant without operator;
        `validation_failed`, `invalid_cursor`, `not_found` (tenant).
        """
        require_scope(caller, scopes.KEYS_READ)
        count = page_size_of(page_size)
        tenant_id = await self._tenants.meant(caller, tenant)
        listing = Listing(name="keys", bound_to=(str(tenant_id),))
        before = _HIGHEST_ID
        if page_token:
            ended_at = names.parse_uuid(str(listing.keyset(page_token, kinds=(str,))[0]))
            if ended_at is None:
                raise listing.refused()
            before = ended_at
        # One row more than asked says whether there is a next page.
        found = await self._store.list_keys(tenant_id=tenant_id, before=before, count=count + 1)
        page = tuple(found[:count])
        token = listing.token((str(page[-1].id),)) if len(found) > count else ""
        return KeyPage(keys=page, next_page_token=token)

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke a key for good; the second time changes nothing and answers the same.

        PawlError: `insufficient_scope` without keys:write, and without operator for a key that has
        it; `not_found` for an unknown key and, without operator, for another tenant's.
        """
        require_scope(caller, scopes.KEYS_WRITE)
        wanted = names.parse_uuid(key_id)
        key = None if wanted is None else await self._visible(caller, wanted)
        if key is None:
            raise no_such_key(wanted)
        if scopes.OPERATOR in key.scopes:
            require_scope(caller, scopes.OPERATOR)
        now = self._clock.now()
        async with self._store.transaction() as tx:
            revoked = await store.revoke_key(tx, key.id, tenant_id=key.tenant_id, now=now)
            if revoked is not None:
                entry = AuditEntry(
                    tenant_id=key.tenant_id,
                    actor_key_id=caller.key_id,
                    action=KEY_REVOKED,
                    subject=key.id,
                )
                await store.insert_audit(tx, entry, now=now)
                return revoked
        # It was revoked before, perhaps a moment ago: answer what stands.
        stands = await self._store.read_key(key.id, tenant_id=key.tenant_id)
        if stands is None:
            raise no_such_key(key.id)
        return stands

    async def _visible(self, caller: Caller, key_id: UUID) -> ApiKey | None:
        if scopes.OPERATOR in caller.scopes:
            return await self._store.read_any_key(key_id)
        return await self._store.read_key(key_id, tenant_id=caller.tenant_id)


def check_key(wanted: KeyWanted, *, now: datetime) -> None:
    """PawlError `validation_failed` with everything that is wrong with the key asked for."""
    names.check(
        names.tenant_ref_errors(wanted.tenant),
        names.label_errors(wanted.name),
        names.mode_errors(wanted.mode),
        names.prefix_errors(wanted.prefix),
        scopes.scope_errors(wanted.scopes),
        names.expiry_errors(wanted.expires_at, now=now),
    )


async def make_key(
    tx: Connection,
    new: NewKey,
    *,
    now: datetime,
    random_chars: RandomChars,
    actor: store.Actor | None,
) -> MadeKey:
    """Store a checked key with its audit line. No actor: the command line of the installation."""
    secret = keys.make_key(
        prefix=new.prefix, mode=new.mode, random_chars=random_chars(keys.RANDOM_CHARS)
    )
    key = ApiKey(
        id=new_id(unix_ms=unix_ms(now)),
        tenant_id=new.tenant_id,
        name=new.name,
        prefix=new.prefix,
        mode=new.mode,
        last_four=secret.last_four,
        scopes=new.scopes,
        created_at=now,
        expires_at=new.expires_at,
        revoked_at=None,
    )
    made = await store.insert_key(
        tx, key, secret=secret, user_number=None if actor is None else actor.user_number
    )
    entry = AuditEntry(
        tenant_id=made.tenant_id,
        actor_key_id=None if actor is None else actor.key_id,
        action=KEY_CREATED,
        subject=made.id,
    )
    await store.insert_audit(tx, entry, now=now)
    return MadeKey(key=made, secret=secret.secret)


def _resolved(wanted: KeyWanted, *, tenant_id: UUID) -> NewKey:
    return NewKey(
        tenant_id=tenant_id,
        name=wanted.name,
        mode=wanted.mode or "live",
        prefix=wanted.prefix or "pawl",
        scopes=scopes.granted(wanted.scopes),
        expires_at=wanted.expires_at,
    )


def _refuse_escalation(caller: Caller, new: NewKey) -> None:
    """No key makes another that may do more than itself."""
    lacking = scopes.missing(new.scopes, held=caller.scopes)
    if lacking:
        raise PawlError(
            "insufficient_scope",
            f"a key cannot give scopes that it lacks: {', '.join(lacking)}",
        )
    if caller.mode == "test" and new.mode != "test":
        raise PawlError("permission_denied", "a test key can make test keys only: set mode to test")


def _caller(holder: KeyHolder) -> Caller:
    key = holder.key
    return Caller(
        key_id=key.id,
        tenant_id=key.tenant_id,
        tier=holder.tier,
        scopes=frozenset(key.scopes),
        roles=frozenset({holder.role}),
        mode=key.mode,
        limits=limits_of(holder.tier),
        expires_at=math.inf if key.expires_at is None else key.expires_at.timestamp(),
    )
