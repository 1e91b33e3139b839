"""Use cases about people: add, list, give another role, remove."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from libs.core.canonical import Json
from libs.core.clock import Clock
from libs.core.errors import FieldError, PawlError
from libs.core.paging import Listing, page_size_of
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from services.auth import names, scopes, store, user_store
from services.auth.acting import Actor, begin_change
from services.auth.key_making import revocation
from services.auth.model import ApiKey, Change, RemovedUser, User, UserPage, UserWanted
from services.auth.refusals import no_such_user
from services.auth.store import AuthStore
from services.auth.tenants import Tenants
from services.auth.visibility import refuse_test_mode, visible_user

USER_CREATED = "user.created"
USER_ROLE_CHANGED = "user.role_changed"
USER_REMOVED = "user.removed"

_PEOPLE = "a tenant's people"


class Users:
    """Every method raises PawlError; which codes, its docstring says."""

    def __init__(self, auth_store: AuthStore, *, tenants: Tenants, clock: Clock) -> None:
        self._store = auth_store
        self._tenants = tenants
        self._clock = clock

    async def create(self, caller: Caller, wanted: UserWanted) -> User:
        """Add a person to a tenant.

        PawlError: `insufficient_scope` without users:write, for another tenant without operator;
        `permission_denied` for a role above the caller's, and for a test key; `validation_failed`;
        `already_exists` when the address is taken; `not_found` (tenant); `unauthenticated` when the
        caller's key was revoked since its token was issued.
        """
        require_scope(caller, scopes.USERS_WRITE)
        refuse_test_mode(caller, _PEOPLE)
        check_user(wanted)
        tenant_id = await self._tenants.meant(caller, wanted.tenant)
        now = self._clock.now()
        async with self._store.transaction() as tx:
            actor = await begin_change(
                tx, caller, tenant_id=tenant_id, scope=scopes.USERS_WRITE, now=now
            )
            actor.refuse_role(wanted.role)
            user = await user_store.insert_user(
                tx, tenant_id=tenant_id, email=wanted.email, role=wanted.role, now=now
            )
            if user is None:
                raise PawlError("already_exists", f"there is a user {wanted.email}")
            details = {"email": user.email, "role": user.role}
            await self._note(tx, actor, USER_CREATED, user, details)
            return user

    async def list(
        self, caller: Caller, *, tenant: str, page_size: int, page_token: str
    ) -> UserPage:
        """A page of a tenant's people by number.

        PawlError: `insufficient_scope` without users:read, for another tenant without operator;
        `validation_failed`, `invalid_cursor`, `not_found` (tenant).
        """
        require_scope(caller, scopes.USERS_READ)
        count = page_size_of(page_size)
        tenant_id = await self._tenants.meant(caller, tenant)
        listing = Listing(name="users", bound_to=(str(tenant_id),))
        after = names.row_number(listing, page_token) if page_token else 0
        found = await self._store.list_users(tenant_id=tenant_id, after=after, count=count + 1)
        page, token = listing.page(found, count=count, keyset_of=lambda user: (user.number,))
        return UserPage(users=page, next_page_token=token)

    async def set_role(self, caller: Caller, number: int, *, role: str) -> User:
        """Give a person another role; making somebody the owner makes the owner an admin.

        PawlError: `insufficient_scope` without users:write; `permission_denied` for a role above
        the caller's, the person's of now or the new one, and for a test key; `validation_failed`;
        `not_found` for an unknown person and, without operator, for another tenant's; `conflict`
        for the owner, whose place somebody else must take; `unauthenticated` as for `create`.
        """
        require_scope(caller, scopes.USERS_WRITE)
        refuse_test_mode(caller, _PEOPLE)
        names.check(scopes.role_errors(role))
        tenant_id = (await visible_user(self._store, caller, number)).tenant_id
        async with self._store.transaction() as tx:
            actor, user = await self._begin(tx, caller, number, tenant_id=tenant_id)
            actor.refuse_role(role)
            if user.role == role:
                return user
            if user.role == scopes.OWNER:
                raise PawlError("conflict", "a tenant keeps an owner: make somebody else owner")
            if role == scopes.OWNER:
                return await self._hand_over(tx, actor, user)
            changed = await user_store.set_role(tx, user, role=role)
            if changed is None:
                raise LookupError(f"user {number} changed while their tenant was held")
            await self._note_role(tx, actor, user, changed)
            return changed

    async def remove(self, caller: Caller, number: int) -> RemovedUser:
        """Remove a person and revoke their keys, for good.

        PawlError: `insufficient_scope` without users:write, and without operator for somebody who
        has a key with that scope; `permission_denied` for a role above the caller's, and for a test
        key; `not_found` as for `set_role`; `conflict` for the owner; `unauthenticated` as for
        `create`.
        """
        require_scope(caller, scopes.USERS_WRITE)
        refuse_test_mode(caller, _PEOPLE)
        tenant_id = (await visible_user(self._store, caller, number)).tenant_id
        async with self._store.transaction() as tx:
            actor, user = await self._begin(tx, caller, number, tenant_id=tenant_id)
            if user.role == scopes.OWNER:
                raise PawlError(
                    "conflict", "the owner cannot be removed: make somebody else owner first"
                )
            now = self._clock.now()
            revoked = await user_store.revoke_keys(tx, user, now=now)
            if any(scopes.OPERATOR in key.scopes for key in revoked):
                require_scope(actor.caller, scopes.OPERATOR)
            if not await user_store.remove_user(tx, user, now=now):
                raise LookupError(f"user {number} changed while their tenant was held")
            await self._note_removal(tx, actor, user, revoked)
            return RemovedUser(user=user, keys_revoked=len(revoked))

    async def _begin(
        self, tx: Connection, caller: Caller, number: int, *, tenant_id: UUID
    ) -> tuple[Actor, User]:
        """The actor and the person to be changed, as they are while the tenant is held."""
        actor = await begin_change(
            tx, caller, tenant_id=tenant_id, scope=scopes.USERS_WRITE, now=self._clock.now()
        )
        user = await user_store.read_user(tx, number, tenant_id=tenant_id)
        if user is None:
            raise no_such_user(number)
        actor.refuse_role(user.role)
        return actor, user

    async def _hand_over(self, tx: Connection, actor: Actor, user: User) -> User:
        owner = await user_store.read_owner(tx, tenant_id=user.tenant_id)
        changed = await user_store.hand_over(tx, to=user, owner=owner)
        for before in (owner, user):
            await self._note_role(tx, actor, before, changed[before.number])
        return changed[user.number]

    async def _note_role(self, tx: Connection, actor: Actor, before: User, after: User) -> None:
        details = {"email": after.email, "role_before": before.role, "role_after": after.role}
        await self._note(tx, actor, USER_ROLE_CHANGED, after, details)

    async def _note_removal(
        self, tx: Connection, actor: Actor, user: User, revoked: Sequence[ApiKey]
    ) -> None:
        now = self._clock.now()
        for key in revoked:
            change = revocation(key, actor_key_id=actor.caller.key_id)
            await store.insert_audit(tx, change, now=now)
        details: dict[str, Json] = {
            "email": user.email,
            "role_before": user.role,
            "keys_revoked": len(revoked),
        }
        await self._note(tx, actor, USER_REMOVED, user, details)

    async def _note(
        self, tx: Connection, actor: Actor, action: str, user: User, details: Mapping[str, Json]
    ) -> None:
        change = Change(
            tenant_id=user.tenant_id,
            actor_key_id=actor.caller.key_id,
            action=action,
            subject=str(user.number),
            details=details,
        )
        await store.insert_audit(tx, change, now=self._clock.now())


def check_user(wanted: UserWanted) -> None:
    """PawlError `validation_failed` with everything that is wrong with the person asked for."""
    required: list[FieldError] = []
    if not wanted.email:
        required = [FieldError(field="email", code="required", detail="it is required")]
    names.check(
        names.tenant_ref_errors(wanted.tenant),
        required,
        names.email_errors(wanted.email),
        scopes.role_errors(wanted.role, allowed=scopes.JOINABLE),
    )
