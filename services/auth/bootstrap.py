"""Use cases of the installation's command line: the first tenant and the operator's key."""

from __future__ import annotations

from libs.core.api_key import LIVE
from libs.core.clock import Clock
from libs.process.logs import get_logger
from services.auth import keys, scopes, user_store
from services.auth.key_making import NewKey, RandomChars, make_key
from services.auth.model import MadeKey, TenantWanted
from services.auth.store import AuthStore
from services.auth.tenants import check_tenant, make_tenant

log = get_logger(__name__)


async def make_operator_key(
    auth_store: AuthStore, wanted: TenantWanted, *, clock: Clock, random_chars: RandomChars
) -> MadeKey:
    """A fresh key with every scope, of the tenant with this name, which is made when there is none.

    A tenant that exists keeps its tier. PawlError `validation_failed` for what no tenant can be.
    """
    check_tenant(wanted)
    async with auth_store.transaction() as tx:
        tenant = await make_tenant(tx, wanted, clock=clock, actor_key_id=None)
        if tenant is None:
            tenant = await auth_store.tenant_by_name(wanted.name)
        if tenant is None:
            raise LookupError(f"tenant {wanted.name} is neither new nor there")
        if tenant.tier != wanted.tier:
            log.warning("tenant keeps its tier", tenant=tenant.name, tier=tenant.tier)
        owner = await user_store.read_owner(tx, tenant_id=tenant.id)
        new = NewKey(
            tenant_id=tenant.id,
            user_number=owner.number,
            name="operator",
            mode=LIVE,
            prefix="pawl",
            scopes=scopes.ALL,
            expires_at=None,
        )
        return await make_key(
            tx, new, now=clock.now(), random_chars=random_chars, actor_key_id=None
        )


async def is_operator_key(auth_store: AuthStore, text: str, *, clock: Clock) -> bool:
    """Whether `text` is a key with the scope operator, neither revoked nor expired."""
    parsed = keys.parse_key(text)
    holder = None if parsed is None else await auth_store.read_holder(parsed.hash)
    if holder is None:
        return False
    return scopes.OPERATOR in holder.key.scopes and holder.key.is_usable(clock.now())
