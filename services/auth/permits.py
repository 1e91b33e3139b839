"""Which limit the next request of a tenant meets first, and how far permits may be asked for."""

from __future__ import annotations

from collections.abc import Iterable

from libs.core.api_key import MODES
from libs.core.errors import FieldError, PawlError
from libs.core.tiers import MONTHLY_REQUESTS, RATE_LIMIT, TierLimits
from services.auth import names
from services.auth.model import Permits, PermitsAsked, PermitsReturned, PermitsTaken

MAX_PERMITS = 1_000_000
MAX_RETURNS = 1_000


def permits_of(taken: PermitsTaken, limits: TierLimits) -> Permits:
    """What was granted, said with the limit that has least left; the one that lasts longer when
    both have nothing.
    """
    stands: list[tuple[int, float, Permits]] = []
    if taken.minute_left is not None:
        stands.append(
            _stand(
                taken.granted,
                name=RATE_LIMIT,
                limit=limits.rate_limit_per_minute,
                remaining=taken.minute_left,
                reset=taken.minute_reset,
                retry=taken.minute_retry,
            )
        )
    if taken.month_left is not None:
        stands.append(
            _stand(
                taken.granted,
                name=MONTHLY_REQUESTS,
                limit=limits.monthly_requests,
                remaining=taken.month_left,
                reset=taken.month_reset,
                retry=taken.month_reset,
            )
        )
    if not stands:
        return Permits(granted=taken.granted)
    return min(stands, key=lambda stand: stand[:2])[2]


def check_asked(asked: PermitsAsked, *, is_gateway: bool) -> PermitsAsked:
    """What is asked for, none meaning one.

    PawlError: `validation_failed` beyond 1,000,000; `permission_denied` for whoever gives permits
    back and is not the gateway: it could give back what it has used.
    """
    names.check(
        _count_errors("permits_wanted", asked.wanted, least=0),
        _count_errors("permits_returned", asked.returned, least=0),
    )
    if asked.returned and not is_gateway:
        raise PawlError("permission_denied", "only the gateway gives permits back")
    return PermitsAsked(wanted=asked.wanted or 1, returned=asked.returned)


def check_returned(returned: tuple[PermitsReturned, ...]) -> None:
    """PawlError `validation_failed` for too many, for an impossible one, and for one said twice."""
    if len(returned) > MAX_RETURNS:
        detail = f"there are {len(returned)}; at most {MAX_RETURNS} are allowed"
        names.check([FieldError(field="permits", code="out_of_range", detail=detail)])
    names.check(_return_errors(returned))


def _return_errors(returned: Iterable[PermitsReturned]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[object] = set()
    for index, one in enumerate(returned):
        field = f"permits[{index}]"
        errors += _count_errors(f"{field}.count", one.count, least=1)
        if one.mode not in MODES:
            detail = f"it must be one of {', '.join(MODES)}"
            errors.append(FieldError(field=f"{field}.mode", code="unknown_value", detail=detail))
        if (one.tenant_id, one.mode) in seen:
            detail = "this tenant and mode were named before"
            errors.append(FieldError(field=field, code="duplicate", detail=detail))
        seen.add((one.tenant_id, one.mode))
    return errors[:10]


def _count_errors(field: str, count: int, *, least: int) -> list[FieldError]:
    if least <= count <= MAX_PERMITS:
        return []
    detail = f"{count}; {least} to {MAX_PERMITS} are allowed"
    return [FieldError(field=field, code="out_of_range", detail=detail)]


def _stand(
    granted: int,
    *,
    name: str,
    limit: int | None,
    remaining: int,
    reset: float | None,
    retry: float | None,
) -> tuple[int, float, Permits]:
    """A limit as it stands, after what orders it: what is left, then how long that lasts."""
    lasts = (retry or 0.0) if remaining == 0 else 0.0
    permits = Permits(
        granted=granted,
        limit_name=name,
        limit=limit or 0,
        remaining=remaining,
        reset_seconds=reset or 0.0,
        retry_after_seconds=lasts,
    )
    return remaining, -lasts, permits
