"""Use cases about tenants: make one, list them, and find the one that a request means."""

from __future__ import annotations

from uuid import UUID

from libs.core.clock import Clock
from libs.core.errors import FieldError, PawlError
from libs.core.ids import new_id
from libs.core.paging import Listing, page_size_of
from libs.db.engine import Connection
from libs.rpc.context import Caller, require_scope
from services.auth import names, store
from services.auth.acting import begin_change, lock_actor
from services.auth.model import Change, Tenant, TenantPage, TenantWanted
from services.auth.refusals import another_tenant
from services.auth.scopes import KEYS_READ, OPERATOR
from services.auth.store import AuthStore
from services.auth.times import unix_ms
from services.auth.wording import shown

TENANT_CREATED = "tenant.created"
TIER_CHANGED = "tenant.tier_changed"
_TENANTS = Listing(name="tenants")


class Tenants:
    """Every method raises PawlError; which codes, its docstring says."""

    def __init__(self, auth_store: AuthStore, *, clock: Clock) -> None:
        self._store = auth_store
        self._clock = clock

    async def create(self, caller: Caller, wanted: TenantWanted) -> Tenant:
        """Make a tenant and its owner.

        PawlError: `insufficient_scope` without operator, `validation_failed`, `already_exists` when
        the name is taken, `unauthenticated` when the caller's key was revoked since its token was
        issued.
        """
        require_scope(caller, OPERATOR)
        check_tenant(wanted)
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await lock_actor(tx, caller, scope=OPERATOR, now=now)
            tenant = await make_tenant(tx, wanted, clock=self._clock, actor_key_id=caller.key_id)
            if tenant is None:
                raise PawlError("already_exists", f"there is a tenant called {wanted.name}")
            return tenant

    async def get(self, caller: Caller, ref: str) -> Tenant:
        """The tenant with this name or id; empty means the caller's own.

        PawlError: `insufficient_scope` without keys:read, for another tenant without operator;
        `validation_failed`, `not_found`.
        """
        require_scope(caller, KEYS_READ)
        tenant_id = await self.meant(caller, ref)
        tenant = await self._store.tenant_by_id(tenant_id)
        if tenant is None:
            raise LookupError(f"tenant {tenant_id} of a caller is not there")
        return tenant

    async def set_tier(self, caller: Caller, ref: str, *, tier: str) -> Tenant:
        """Give a tenant another tier: new requests have its limits within 5 s.

        PawlError: `insufficient_scope` without operator, `validation_failed`, `not_found`,
        `unauthenticated` as for `create`.
        """
        require_scope(caller, OPERATOR)
        names.check(names.tenant_ref_errors(ref), _required_ref(ref), names.tier_errors(tier))
        tenant_id = await self.meant(caller, ref)
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await begin_change(tx, caller, tenant_id=tenant_id, scope=OPERATOR, now=now)
            before = await store.read_tenant(tx, tenant_id)
            changed = await store.set_tier(tx, tenant_id, tier=tier)
            if changed is None:
                return before
            change = Change(
                tenant_id=tenant_id,
                actor_key_id=caller.key_id,
                action=TIER_CHANGED,
                subject=str(tenant_id),
                details={"tier_before": before.tier, "tier_after": changed.tier},
            )
            await store.insert_audit(tx, change, now=now)
            return changed

    async def list(self, caller: Caller, *, page_size: int, page_token: str) -> TenantPage:
        """A page of all tenants by name.

        PawlError: `insufficient_scope` without operator, `validation_failed`, `invalid_cursor`.
        """
        require_scope(caller, OPERATOR)
        count = page_size_of(page_size)
        after = ""
        if page_token:
            after = str(_TENANTS.keyset(page_token, kinds=(str,))[0])
            if not names.is_tenant_name(after):
                raise _TENANTS.refused()
        found = await self._store.list_tenants(after=after, count=count + 1)
        page, token = _TENANTS.page(found, count=count, keyset_of=lambda tenant: (tenant.name,))
        return TenantPage(tenants=page, next_page_token=token)

    async def meant(self, caller: Caller, ref: str) -> UUID:
        """The tenant that a request names by name or id; empty means the caller's own.

        PawlError: `validation_failed` for what can be neither; `insufficient_scope` for any tenant
        but the caller's own, whether it exists or not; to the operator `not_found` for one that
        does not exist.
        """
        names.check(names.tenant_ref_errors(ref))
        by_id = names.parse_uuid(ref)
        if not ref or by_id == caller.tenant_id:
            return caller.tenant_id
        is_operator = OPERATOR in caller.scopes
        tenant = await (
            self._store.tenant_by_name(ref) if by_id is None else self._store.tenant_by_id(by_id)
        )
        if tenant is not None and (is_operator or tenant.id == caller.tenant_id):
            return tenant.id
        if is_operator:
            raise PawlError("not_found", f"there is no tenant {shown(ref)}")
        raise another_tenant()


def check_tenant(wanted: TenantWanted) -> None:
    """PawlError `validation_failed` with everything that is wrong with the tenant asked for."""
    names.check(
        names.tenant_name_errors(wanted.name),
        names.tier_errors(wanted.tier),
        names.email_errors(wanted.email),
    )


async def make_tenant(
    tx: Connection, wanted: TenantWanted, *, clock: Clock, actor_key_id: UUID | None
) -> Tenant | None:
    """Store a checked tenant with its owner and its audit line; None when the name is taken."""
    now = clock.now()
    email = wanted.email or f"{wanted.name}@localhost"
    made = await store.insert_tenant(
        tx,
        Tenant(id=new_id(unix_ms=unix_ms(now)), name=wanted.name, tier=wanted.tier, created_at=now),
        email=email,
    )
    if made is not None:
        change = Change(
            tenant_id=made.id,
            actor_key_id=actor_key_id,
            action=TENANT_CREATED,
            subject=str(made.id),
            details={"name": made.name, "tier": made.tier, "owner": email},
        )
        await store.insert_audit(tx, change, now=now)
    return made


def _required_ref(ref: str) -> list[FieldError]:
    if ref:
        return []
    return [FieldError(field="tenant", code="required", detail="it is required")]
