"""Which keys and people a caller may name: those of their tenant, for an operator all."""

from __future__ import annotations

from libs.core.api_key import LIVE
from libs.core.errors import PawlError
from libs.rpc.context import Caller
from services.auth import names
from services.auth.model import ApiKey, User
from services.auth.refusals import no_such_key, no_such_user
from services.auth.scopes import OPERATOR
from services.auth.store import AuthStore


async def visible_key(auth_store: AuthStore, caller: Caller, key_id: str) -> ApiKey:
    """The key with this id. PawlError `not_found`, in the same words for every reason."""
    wanted = names.parse_uuid(key_id)
    if wanted is None:
        raise no_such_key(None)
    if OPERATOR in caller.scopes:
        key = await auth_store.read_any_key(wanted)
    else:
        key = await auth_store.read_key(wanted, tenant_id=caller.tenant_id)
    if key is None:
        raise no_such_key(wanted)
    return key


async def visible_user(auth_store: AuthStore, caller: Caller, number: int) -> User:
    """The person with this number. PawlError `not_found`, in the same words for every reason."""
    if OPERATOR in caller.scopes:
        user = await auth_store.read_any_user(number)
    else:
        user = await auth_store.read_user(number, tenant_id=caller.tenant_id)
    if user is None:
        raise no_such_user(number)
    return user


def refuse_test_mode(caller: Caller, what: str) -> None:
    """PawlError `permission_denied` when a test key would change what live keys depend on."""
    if caller.mode != LIVE:
        raise PawlError("permission_denied", f"a test key cannot change {what}; use a live one")
