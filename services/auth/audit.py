"""Use case: read what was changed, by whom."""

from __future__ import annotations

from libs.core.paging import Listing, page_size_of
from libs.rpc.context import Caller, require_scope
from services.auth import names
from services.auth.model import AuditPage
from services.auth.scopes import AUDIT_READ
from services.auth.store import AuthStore
from services.auth.tenants import Tenants


class Audit:
    """The audit log, which every other use case writes in the transaction of its change."""

    def __init__(self, auth_store: AuthStore, *, tenants: Tenants) -> None:
        self._store = auth_store
        self._tenants = tenants

    async def list(
        self, caller: Caller, *, tenant: str, page_size: int, page_token: str
    ) -> AuditPage:
        """A page of the lines about a tenant, newest first.

        PawlError: `insufficient_scope` without audit:read, for another tenant without operator;
        `validation_failed`, `invalid_cursor`, `not_found` (tenant).
        """
        require_scope(caller, AUDIT_READ)
        count = page_size_of(page_size)
        tenant_id = await self._tenants.meant(caller, tenant)
        listing = Listing(name="audit", bound_to=(str(tenant_id),))
        before = names.row_number(listing, page_token) if page_token else names.HIGHEST_NUMBER
        found = await self._store.list_audit(tenant_id=tenant_id, before=before, count=count + 1)
        page, token = listing.page(found, count=count, keyset_of=lambda line: (line.id,))
        return AuditPage(lines=page, next_page_token=token)
