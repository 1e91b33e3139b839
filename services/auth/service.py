"""Use cases about keys: exchange one for a token, make, list and revoke them."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from libs.core.api_key import LIVE
from libs.core.clock import Clock
from libs.core.paging import Listing, page_size_of
from libs.core.tiers import limits_of
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from libs.rpc.tokens import CallerTokens
from services.auth import allow_lists, keys, names, scopes, store, user_store
from services.auth.acting import Actor, begin_change
from services.auth.granting import Granting
from services.auth.key_making import (
    NewKey,
    RandomChars,
    make_key,
    refuse_escalation,
    refuse_live_by_test,
    revocation,
)
from services.auth.model import (
    ApiKey,
    Authenticated,
    KeyHolder,
    KeyPage,
    KeyWanted,
    MadeKey,
    PermitsAsked,
    User,
)
from services.auth.refusals import bad_key, no_such_key, no_such_user
from services.auth.store import AuthStore
from services.auth.tenants import Tenants
from services.auth.visibility import visible_key

ONE_PERMIT = PermitsAsked()

_HIGHEST_ID = UUID(int=2**128 - 1)


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
        now = self._clock.now()
        if holder is None or not holder.key.is_usable(now):
            raise bad_key()
        if not holder.key.is_use_noted(now):
            await self._store.note_use(holder.key, now=now)
        taken = await self._granting.take(holder, permits)
        left = scopes.cut(holder.key.scopes, role=holder.role)
        caller = _caller(holder, left)
        token, expires_at = self._tokens.issue(caller)
        return Authenticated(
            token=token,
            expires_at=datetime.fromtimestamp(expires_at, UTC),
            token_seconds=max(0.0, expires_at - self._clock.now().timestamp()),
            holder=holder,
            scopes=left,
            limits=caller.limits,
            permits=taken,
        )

    async def create(self, caller: Caller, wanted: KeyWanted) -> MadeKey:
        """Make a key; its secret is in the answer and nowhere else.

        PawlError: `insufficient_scope` without keys:write, for another tenant without operator, and
        for scopes that the caller lacks; `permission_denied` when a test key asks for a live one,
        for a wider list of agents or definitions, and for a user of a higher role;
        `validation_failed`, also for scopes beyond the user's role; `not_found` (tenant, user);
        `unauthenticated` when the caller's key was revoked since its token was issued.
        """
        require_scope(caller, scopes.KEYS_WRITE)
        now = self._clock.now()
        check_key(wanted, now=now)
        tenant_id = await self._tenants.meant(caller, wanted.tenant)
        async with self._store.transaction() as tx:
            actor = await begin_change(
                tx, caller, tenant_id=tenant_id, scope=scopes.KEYS_WRITE, now=now
            )
            user = await _user_meant(tx, actor, wanted, tenant_id=tenant_id)
            names.check(scopes.beyond_role_errors(wanted.scopes, role=user.role))
            new = _resolved(wanted, user=user, caller=actor.caller)
            refuse_escalation(actor.caller, new)
            return await make_key(
                tx,
                new,
                now=now,
                random_chars=self._random_chars,
                actor_key_id=caller.key_id,
            )

    async def get(self, caller: Caller, key_id: str) -> ApiKey:
        """One key, without its secret.

        PawlError: `insufficient_scope` without keys:read; `not_found` for an unknown key and,
        without operator, for another tenant's.
        """
        require_scope(caller, scopes.KEYS_READ)
        return await visible_key(self._store, caller, key_id)

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
        found = await self._store.list_keys(tenant_id=tenant_id, before=before, count=count + 1)
        page, token = listing.page(found, count=count, keyset_of=lambda key: (str(key.id),))
        return KeyPage(keys=page, next_page_token=token)

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke a key for good; the second time changes nothing and answers the same.

        PawlError: `insufficient_scope` without keys:write, and without operator for a key that has
        it; `permission_denied` when a test key names a live one; `not_found` for an unknown key
        and, without operator, for another tenant's.
        """
        require_scope(caller, scopes.KEYS_WRITE)
        key = await visible_key(self._store, caller, key_id)
        if scopes.OPERATOR in key.scopes:
            require_scope(caller, scopes.OPERATOR)
        refuse_live_by_test(caller, key.mode)
        now = self._clock.now()
        async with self._store.transaction() as tx:
            # Without the tenant's lock: no other change may keep a key from being revoked.
            revoked = await store.revoke_key(tx, key.id, tenant_id=key.tenant_id, now=now)
            if revoked is not None:
                change = revocation(revoked, actor_key_id=caller.key_id)
                await store.insert_audit(tx, change, now=now)
                return revoked
        # It was revoked before, perhaps a moment ago: answer what stands.
        stands = await self._store.read_key(key.id, tenant_id=key.tenant_id)
        if stands is None:
            raise no_such_key(key.id)
        return stands


def check_key(wanted: KeyWanted, *, now: datetime) -> None:
    """PawlError `validation_failed` with everything that is wrong with the key asked for."""
    names.check(
        names.tenant_ref_errors(wanted.tenant),
        names.label_errors(wanted.name),
        names.mode_errors(wanted.mode),
        names.prefix_errors(wanted.prefix),
        scopes.scope_errors(wanted.scopes),
        names.expiry_errors(wanted.expires_at, now=now),
        allow_lists.list_errors(allow_lists.AGENTS, wanted.allowed_agent_ids),
        allow_lists.list_errors(allow_lists.DEFINITIONS, wanted.allowed_task_ids),
    )


async def _user_meant(tx: Connection, actor: Actor, wanted: KeyWanted, *, tenant_id: UUID) -> User:
    """Whose key a new one will be. PawlError `not_found`, `permission_denied` for a higher role."""
    number = wanted.user_number
    if number is None and tenant_id != actor.caller.tenant_id:
        return await user_store.read_owner(tx, tenant_id=tenant_id)
    number = actor.user_number if number is None else number
    user = await user_store.read_user(tx, number, tenant_id=tenant_id)
    if user is None:
        raise no_such_user(number)
    actor.refuse_role(user.role)
    return user


def _resolved(wanted: KeyWanted, *, user: User, caller: Caller) -> NewKey:
    return NewKey(
        tenant_id=user.tenant_id,
        user_number=user.number,
        name=wanted.name,
        mode=wanted.mode or LIVE,
        prefix=wanted.prefix or "pawl",
        scopes=scopes.granted(wanted.scopes, role=user.role),
        expires_at=wanted.expires_at,
        allowed_agent_ids=allow_lists.given_or_own(
            allow_lists.AGENTS, wanted.allowed_agent_ids, own=caller.allowed_agent_ids
        ),
        allowed_task_ids=allow_lists.given_or_own(
            allow_lists.DEFINITIONS, wanted.allowed_task_ids, own=caller.allowed_task_ids
        ),
    )


def _caller(holder: KeyHolder, left: Collection[str]) -> Caller:
    key = holder.key
    return Caller(
        key_id=key.id,
        tenant_id=key.tenant_id,
        tier=holder.tier,
        scopes=frozenset(left),
        roles=frozenset({holder.role}),
        mode=key.mode,
        limits=limits_of(holder.tier),
        expires_at=math.inf if key.expires_at is None else key.expires_at.timestamp(),
        allowed_agent_ids=allow_lists.texts_of(key.allowed_agent_ids),
        allowed_task_ids=allow_lists.texts_of(key.allowed_task_ids),
    )
