"""Which limit the next request meets first, and which numbers of permits make sense."""

from __future__ import annotations

from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.tiers import MONTHLY_REQUESTS, RATE_LIMIT, TIERS
from services.auth.model import Permits, PermitsAsked, PermitsReturned, PermitsTaken
from services.auth.permits import MAX_PERMITS, check_asked, check_returned, permits_of

TENANT = UUID(int=1)
FREE = TIERS["free"]


def taken(granted: int, *, minute: int | None = None, month: int | None = None) -> PermitsTaken:
    """With so much left of each."""
    return PermitsTaken(
        granted=granted,
        minute_left=minute,
        minute_reset=None if minute is None else 60.0 - 3 * minute,
        minute_retry=None if minute is None else (0.0 if minute else 3.0),
        month_left=month,
        month_reset=None if month is None else 86_400.0,
    )


def test_without_limits_there_is_nothing_to_say() -> None:
    assert permits_of(taken(7), TIERS["enterprise"]) == Permits(granted=7)


@pytest.mark.parametrize(
    ("minute", "month", "name", "limit", "reset", "retry"),
    [
        (19, 199, RATE_LIMIT, 20, 3.0, 0.0),
        (19, 5, MONTHLY_REQUESTS, 200, 86_400.0, 0.0),
        (0, 5, RATE_LIMIT, 20, 60.0, 3.0),
        (5, 0, MONTHLY_REQUESTS, 200, 86_400.0, 86_400.0),
        # What lasts longer is said when both have nothing.
        (0, 0, MONTHLY_REQUESTS, 200, 86_400.0, 86_400.0),
        (5, 5, RATE_LIMIT, 20, 45.0, 0.0),
        (4, None, RATE_LIMIT, 20, 48.0, 0.0),
        (None, 4, MONTHLY_REQUESTS, 200, 86_400.0, 0.0),
    ],
)
def test_the_limit_with_the_least_left_is_said(
    minute: int | None, month: int | None, name: str, limit: int, reset: float, retry: float
) -> None:
    permits = permits_of(taken(1, minute=minute, month=month), FREE)

    assert (permits.limit_name, permits.limit) == (name, limit)
    assert (permits.reset_seconds, permits.retry_after_seconds) == (reset, retry)
    assert permits.remaining == min(one for one in (minute, month) if one is not None)


def test_no_number_means_one() -> None:
    assert check_asked(PermitsAsked(wanted=0), is_gateway=False) == PermitsAsked(wanted=1)


@pytest.mark.parametrize(
    "asked",
    [
        PermitsAsked(wanted=-1),
        PermitsAsked(wanted=MAX_PERMITS + 1),
        PermitsAsked(returned=-1),
        PermitsAsked(returned=MAX_PERMITS + 1),
    ],
)
def test_impossible_numbers_are_refused(asked: PermitsAsked) -> None:
    with pytest.raises(PawlError) as caught:
        check_asked(asked, is_gateway=True)

    assert caught.value.code == "validation_failed"
    assert "0 to 1000000" in caught.value.message


def test_only_the_gateway_gives_back_with_a_question() -> None:
    asked = PermitsAsked(wanted=3, returned=2)

    assert check_asked(asked, is_gateway=True) == asked
    with pytest.raises(PawlError) as caught:
        check_asked(asked, is_gateway=False)

    assert caught.value.code == "permission_denied"


def one(*, mode: str = "live", count: int = 1, tenant: UUID = TENANT) -> PermitsReturned:
    return PermitsReturned(tenant_id=tenant, mode=mode, count=count)


def test_a_tenant_may_be_named_once_for_each_mode() -> None:
    check_returned((one(), one(mode="test"), one(tenant=UUID(int=2), count=MAX_PERMITS)))


@pytest.mark.parametrize(
    ("returned", "field"),
    [
        ((one(count=0),), "permits[0].count"),
        ((one(count=-3),), "permits[0].count"),
        ((one(), one(count=MAX_PERMITS + 1, mode="test")), "permits[1].count"),
        ((one(mode="prod"),), "permits[0].mode"),
        ((one(), one()), "permits[1]"),
        (tuple(one(tenant=UUID(int=n)) for n in range(1001)), "permits"),
    ],
)
def test_what_cannot_be_given_back_is_named(
    returned: tuple[PermitsReturned, ...], field: str
) -> None:
    with pytest.raises(PawlError) as caught:
        check_returned(returned)

    assert caught.value.code == "validation_failed"
    assert [error.field for error in caught.value.errors] == [field]
