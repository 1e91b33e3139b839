"""Use cases about permits: take some for a key's requests, give back what was not used."""

from __future__ import annotations

from libs.core.api_key import LIVE
from libs.core.tiers import limits_of
from services.auth.model import KeyHolder, Permits, PermitsAsked, PermitsReturned
from services.auth.permits import check_returned, permits_of
from services.auth.store import AuthStore, PermitsWanted


class Granting:
    """Permits of tenants, over all their keys, however many processes ask at once."""

    def __init__(self, auth_store: AuthStore) -> None:
        self._store = auth_store

    async def take(self, holder: KeyHolder, asked: PermitsAsked) -> Permits:
        """As many of the permits asked for as the tenant's minute and month allow.

        Requests of test keys count against the minute only.
        """
        limits = limits_of(holder.tier)
        is_metered = holder.key.mode == LIVE
        wanted = PermitsWanted(
            tenant_id=holder.key.tenant_id,
            wanted=asked.wanted,
            returned=asked.returned,
            per_minute=limits.rate_limit_per_minute,
            per_month=limits.monthly_requests,
            is_metered=is_metered,
        )
        return permits_of(await self._store.take_permits(wanted), limits)

    async def give_back(self, returned: tuple[PermitsReturned, ...]) -> None:
        """Credit unused permits; those of tenants that there are not are nobody's.

        PawlError: `validation_failed`.
        """
        check_returned(returned)
        tiers = await self._store.tiers_of({one.tenant_id for one in returned})
        known = (one for one in returned if one.tenant_id in tiers)
        await self._store.return_permits([_wanted(one, tiers[one.tenant_id]) for one in known])


def _wanted(returned: PermitsReturned, tier: str) -> PermitsWanted:
    limits = limits_of(tier)
    return PermitsWanted(
        tenant_id=returned.tenant_id,
        wanted=0,
        returned=returned.count,
        per_minute=limits.rate_limit_per_minute,
        per_month=limits.monthly_requests,
        is_metered=returned.mode == LIVE,
    )
