"""Reading what a tenant used, over real gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.db.engine import transaction
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from services.auth import store as store_module
from services.auth.model import Amounts, Use
from tests.auth_world import Auth, auth_server, fields
from tests.servers import Database

pytestmark = pytest.mark.db

APRIL, MAY, TODAY = date(2026, 4, 30), date(2026, 5, 1), date(2026, 5, 31)


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


async def use(auth: Auth, tenant_id: UUID, day: date, *, tasks: int, requests: int = 0) -> None:
    """Tasks of two steps each that the tenant ran on a day, and its requests."""
    amounts = Amounts(
        tasks=tasks,
        steps=2 * tasks,
        sandbox_ms=100 * tasks,
        tokens=10 * tasks,
        cost_usd=Decimal("0.1") * tasks,
    )
    async with transaction(auth.world.pool) as tx:
        await store_module.add_uses(tx, [Use(tenant_id=tenant_id, day=day, amounts=amounts)])
    await auth.world.rows(
        "INSERT INTO auth.request_days VALUES (%s, %s, %s)", tenant_id, day, requests
    )


async def days(auth: Auth, secret: str, first: str = "", last: str = "") -> list[auth_pb2.DayUsage]:
    asked = pb.ListUsageRequest(first_day=first, last_day=last)
    return list((await auth.as_key(secret, "ListUsage", asked)).days)


async def test_month_is_the_sum_of_the_days_of_the_callers_tenant(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=("tasks:read",), tier="pro")
    other = await auth.world.key_of_new_tenant("other")
    await use(auth, made.key.tenant_id, APRIL, tasks=2, requests=9)
    await use(auth, made.key.tenant_id, MAY, tasks=1, requests=4)
    await use(auth, made.key.tenant_id, TODAY, tasks=2, requests=1)

    async def usage(secret: str, month: str) -> auth_pb2.Usage:
        answer = await auth.as_key(secret, "GetUsage", pb.GetUsageRequest(month=month))
        found: auth_pb2.Usage = answer.usage
        return found

    # Three tenths: the sum of doubles would be 0.30000000000000004.
    assert await usage(made.secret, "") == auth_pb2.Usage(
        month="2026-05", tasks=3, steps=6, requests=5, sandbox_ms=300, tokens=30, cost_usd=0.3
    )
    assert (await usage(made.secret, "2026-04")).requests == 9
    assert await usage(made.secret, "1999-01") == auth_pb2.Usage(month="1999-01")
    assert await usage(other.secret, "") == auth_pb2.Usage(month="2026-05")


async def test_month_begins_anew_in_utc(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    await use(auth, made.key.tenant_id, TODAY, tasks=2, requests=3)
    auth.world.clock.move(timedelta(hours=12))

    answer = await auth.as_key(made.secret, "GetUsage", pb.GetUsageRequest())

    assert answer.usage == auth_pb2.Usage(month="2026-06")
    assert [day.day for day in await days(auth, made.secret)] == ["2026-06-01"]


async def test_usage_says_who_asks_and_what_the_tier_allows(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="pro")
    operator = await auth.world.operator_key()

    answer = await auth.as_key(made.secret, "GetUsage", pb.GetUsageRequest())
    unlimited = await auth.as_key(operator.secret, "GetUsage", pb.GetUsageRequest())

    (owner,) = await auth.world.rows(
        "SELECT number FROM auth.users WHERE tenant_id = %s", made.key.tenant_id
    )
    assert (answer.user.number, answer.user.email) == (owner["number"], "acme@localhost")
    assert (answer.tier, answer.limits.rate_limit_per_minute) == ("pro", 120)
    assert unlimited.tier == "enterprise"
    assert not unlimited.limits.HasField("rate_limit_per_minute")


async def test_key_of_a_user_who_is_gone_is_told_nothing(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))
    await auth.world.rows(
        "UPDATE auth.users SET removed_at = now() WHERE tenant_id = %s", made.key.tenant_id
    )

    with pytest.raises(PawlError, match="not valid"):
        await auth.with_token(answer.caller_token, "GetUsage", pb.GetUsageRequest())


async def test_every_day_is_listed(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    await use(auth, made.key.tenant_id, APRIL, tasks=2, requests=9)
    await use(auth, made.key.tenant_id, TODAY, tasks=1, requests=4)

    month = await days(auth, made.secret)
    asked = await days(auth, made.secret, "2026-04-29", "2026-05-01")
    year = await days(auth, made.secret, "2024-01-01")

    assert [day.day for day in month] == [f"2026-05-{n:02}" for n in range(1, 32)]
    assert month[0] == auth_pb2.DayUsage(day="2026-05-01")
    assert month[-1] == auth_pb2.DayUsage(
        day="2026-05-31", tasks=1, steps=2, requests=4, sandbox_ms=100, tokens=10, cost_usd=0.1
    )
    assert [day.requests for day in asked] == [0, 9, 0]
    assert (len(year), year[-1].day) == (366, "2024-12-31")


@pytest.mark.parametrize(
    ("first", "last", "field"),
    [
        ("2026-02-30", "", "first_day"),
        ("", "2026-5-1", "last_day"),
        ("2026-05-02", "2026-05-01", "last_day"),
        ("2026-06-01", "", "last_day"),
        ("2024-01-01", "2025-01-02", "last_day"),
        ("9999-12-31", "", "last_day"),
    ],
)
async def test_days_that_cannot_be_listed_are_refused(
    auth: Auth, first: str, last: str, field: str
) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    asked = pb.ListUsageRequest(first_day=first, last_day=last)

    refused = await auth.refusal(made.secret, "ListUsage", asked)

    assert refused.code == "validation_failed"
    assert [name for name, _ in fields(refused)] == [field]


@pytest.mark.parametrize("name", ["GetUsage", "ListUsage"])
async def test_usage_needs_tasks_read(auth: Auth, name: str) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=("keys:read",))

    refused = await auth.refusal(made.secret, name, getattr(pb, f"{name}Request")())

    assert refused.code == "insufficient_scope"
