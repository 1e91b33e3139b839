"""auth.take_permits on real PostgreSQL: exact whoever asks at once, by the minute and the month."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.core.tiers import TIERS
from libs.db.engine import open_pool, transaction
from libs.rpc.tokens import KeyRing
from services.auth.model import KeyWanted, PermitsAsked, PermitsReturned, PermitsTaken
from services.auth.store import AuthStore, PermitsWanted
from tests.auth_world import AuthWorld, auth_world
from tests.servers import Database

pytestmark = pytest.mark.db

CONNECTIONS = 8


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


@pytest.fixture
def tenant() -> UUID:
    return uuid4()


def ask(
    tenant_id: UUID,
    wanted: int = 1,
    *,
    returned: int = 0,
    per_minute: int | None = None,
    per_month: int | None = None,
    is_metered: bool = True,
) -> PermitsWanted:
    return PermitsWanted(
        tenant_id=tenant_id,
        wanted=wanted,
        returned=returned,
        per_minute=per_minute,
        per_month=per_month,
        is_metered=is_metered,
    )


async def requests_of(world: AuthWorld, tenant_id: UUID) -> dict[date, int]:
    rows = await world.rows("SELECT * FROM auth.request_days WHERE tenant_id = %s", tenant_id)
    return {row["day"]: row["requests"] for row in rows}


def today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Some permits, granted at some moment between the two."""

    began: float
    ended: float
    count: int


async def test_a_minute_may_be_used_at_once_and_no_more(world: AuthWorld, tenant: UUID) -> None:
    first = await world.store.take_permits(ask(tenant, 15, per_minute=20))
    second = await world.store.take_permits(ask(tenant, 15, per_minute=20))
    third = await world.store.take_permits(ask(tenant, 15, per_minute=20))

    assert [first.granted, second.granted, third.granted] == [15, 5, 0]
    assert [first.minute_left, second.minute_left, third.minute_left] == [5, 0, 0]
    assert third.minute_reset == pytest.approx(60, abs=1)
    assert third.minute_retry == pytest.approx(3, abs=1)
    assert first.month_left is None


async def test_what_was_used_comes_back_by_the_second(world: AuthWorld, tenant: UUID) -> None:
    await world.store.take_permits(ask(tenant, 20, per_minute=20))
    # As if that was 30 s ago.
    await world.rows("UPDATE auth.rates SET full_at = full_at - interval '30 s'")

    taken = await world.store.take_permits(ask(tenant, 20, per_minute=20))

    assert taken.granted == 10


async def test_a_refusal_costs_nothing(world: AuthWorld, tenant: UUID) -> None:
    await world.store.take_permits(ask(tenant, 20, per_minute=20))
    before = await world.rows("SELECT * FROM auth.rates")

    for _ in range(5):
        await world.store.take_permits(ask(tenant, 3, per_minute=20))

    assert await world.rows("SELECT * FROM auth.rates") == before
    assert await requests_of(world, tenant) == {today(): 20}


async def test_unused_permits_are_credited_and_never_more_than_whole(
    world: AuthWorld, tenant: UUID
) -> None:
    await world.store.take_permits(ask(tenant, 20, per_minute=20, per_month=200))

    back = await world.store.take_permits(ask(tenant, 0, returned=7, per_minute=20, per_month=200))
    again = await world.store.take_permits(
        ask(tenant, 20, returned=500, per_minute=20, per_month=200)
    )

    assert (back.granted, back.minute_left, back.month_left) == (0, 7, 187)
    assert (again.granted, again.minute_left, again.month_left) == (20, 0, 180)
    assert await requests_of(world, tenant) == {today(): 0}


async def test_returned_with_a_question_counts_for_it(world: AuthWorld, tenant: UUID) -> None:
    await world.store.take_permits(ask(tenant, 20, per_minute=20, per_month=25))

    taken = await world.store.take_permits(ask(tenant, 9, returned=4, per_minute=20, per_month=25))

    assert taken.granted == 4
    assert taken.month_left == 5
    assert await requests_of(world, tenant) == {today(): 20}


async def test_a_month_ends_where_it_says(world: AuthWorld, tenant: UUID) -> None:
    await world.rows(
        "INSERT INTO auth.request_days VALUES (%s, %s, 180), (%s, %s, 999)",
        tenant,
        today().replace(day=1),
        tenant,
        today().replace(day=1) - timedelta(days=1),
    )

    taken = [
        await world.store.take_permits(ask(tenant, 15, per_minute=1000, per_month=200))
        for _ in range(3)
    ]

    assert [one.granted for one in taken] == [15, 5, 0]
    assert [one.month_left for one in taken] == [5, 0, 0]
    next_month = (today().replace(day=1) + timedelta(days=32)).replace(day=1)
    left = datetime(next_month.year, next_month.month, 1, tzinfo=UTC) - datetime.now(UTC)
    assert taken[2].month_reset == pytest.approx(left.total_seconds(), abs=30)
    # What the month refuses is not taken from the minute.
    assert taken[2].minute_left == 980


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
async def test_days_and_months_are_those_of_utc(world: AuthWorld, tenant: UUID, zone: str) -> None:
    async with world.pool.connection() as connection:
        await connection.execute(f"SET timezone = '{zone}'".encode())
        cursor = await connection.execute(
            "SELECT * FROM auth.take_permits(%s, 1, 0, NULL, 100, true)", (tenant,)
        )
        row = await cursor.fetchone()
        await connection.execute("RESET timezone")

    next_month = (today().replace(day=1) + timedelta(days=32)).replace(day=1)
    left = datetime(next_month.year, next_month.month, 1, tzinfo=UTC) - datetime.now(UTC)
    assert row is not None
    assert row["month_reset"] == pytest.approx(left.total_seconds(), abs=30)
    assert await requests_of(world, tenant) == {today(): 1}


async def test_what_was_taken_before_midnight_goes_back_there(
    world: AuthWorld, tenant: UUID
) -> None:
    yesterday = today() - timedelta(days=1)
    await world.rows(
        "INSERT INTO auth.request_days VALUES (%s, %s, 30), (%s, %s, 2)",
        tenant,
        yesterday,
        tenant,
        today(),
    )

    await world.store.take_permits(ask(tenant, 0, returned=5, per_minute=120))

    assert await requests_of(world, tenant) == {yesterday: 27, today(): 0}


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_minute(
    world: AuthWorld, tenant: UUID
) -> None:
    await world.store.take_permits(ask(tenant, 1, per_minute=60))
    # As it looks from an hour earlier.
    await world.rows("UPDATE auth.rates SET full_at = full_at + interval '1 hour'")

    refused = await world.store.take_permits(ask(tenant, 5, per_minute=60))
    credited = await world.store.take_permits(ask(tenant, 1, returned=1, per_minute=60))

    assert refused.granted == 0
    assert refused.minute_reset == pytest.approx(60, abs=0.01)
    assert refused.minute_retry == pytest.approx(1, abs=0.01)
    assert credited.granted in {0, 1}
    assert credited.minute_reset is not None
    assert credited.minute_reset <= 60


async def test_nothing_is_limited_without_limits_but_counted(
    world: AuthWorld, tenant: UUID
) -> None:
    taken = await world.store.take_permits(ask(tenant, 1_000_000))
    back = await world.store.take_permits(ask(tenant, 0, returned=999_990))

    assert taken == PermitsTaken(
        granted=1_000_000,
        minute_left=None,
        minute_reset=None,
        minute_retry=None,
        month_left=None,
        month_reset=None,
    )
    assert back.granted == 0
    assert await requests_of(world, tenant) == {today(): 10}


async def test_unmetered_requests_are_limited_by_the_minute_alone(
    world: AuthWorld, tenant: UUID
) -> None:
    taken = await world.store.take_permits(
        ask(tenant, 30, per_minute=20, per_month=5, is_metered=False)
    )

    assert (taken.granted, taken.month_left) == (20, None)
    assert await requests_of(world, tenant) == {}


@pytest.mark.parametrize("per_minute", [7, 20, 60, 600, 6000, 90_000])
async def test_no_window_gets_more_than_the_limit_and_what_came_back(
    world: AuthWorld, tenant: UUID, per_minute: int
) -> None:
    grants = await race(world, tenant, per_minute=per_minute, seconds=1.5, returning=False)

    check_windows(grants, per_minute=per_minute)
    # And all that may be granted is: the last refusal of each is younger than one emission.
    span = max(g.ended for g in grants) - min(g.began for g in grants)
    total = sum(grant.count for grant in grants)
    assert total >= per_minute + int(span * per_minute / 60 * 0.8) - 2
    assert await requests_of(world, tenant) == {today(): total}


async def test_no_window_uses_more_when_what_is_unused_comes_back(
    world: AuthWorld, tenant: UUID
) -> None:
    grants = await race(world, tenant, per_minute=600, seconds=2.5, returning=True)

    # Used is what was granted and not given back; all of it within the window that it was taken in.
    check_windows([g for g in grants if g.count > 0], per_minute=600)
    [row] = await world.rows("SELECT full_at - now() AS left FROM auth.rates")
    assert row["left"] <= timedelta(seconds=60)
    assert min((await requests_of(world, tenant)).values()) >= 0


async def race(
    world: AuthWorld, tenant: UUID, *, per_minute: int, seconds: float, returning: bool
) -> list[Grant]:
    """Eight connections ask for random numbers; with `returning` they use a part of each."""
    grants: list[Grant] = []
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        rng, back = random.Random(number), 0
        while (began := time.monotonic()) < end:
            wanted = ask(tenant, rng.randint(1, per_minute), returned=back, per_minute=per_minute)
            taken = await world.store.take_permits(wanted)
            ended = time.monotonic()
            assert 0 <= taken.granted <= wanted.wanted
            assert taken.minute_left is not None
            assert 0 <= taken.minute_left <= per_minute
            back = rng.randint(0, taken.granted) if returning else 0
            if taken.granted > back:
                grants.append(Grant(began=began, ended=ended, count=taken.granted - back))

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return grants


def check_windows(grants: list[Grant], *, per_minute: int) -> None:
    """In every window: at most the limit, and what came back meanwhile."""
    ordered = sorted(grants, key=lambda grant: grant.ended)
    for first, earliest in enumerate(ordered[:400]):
        total, began = 0, earliest.began
        for grant in ordered[first:]:
            began = min(began, grant.began)
            total += grant.count
            assert total <= per_minute + (grant.ended - began) * per_minute / 60 + 1


async def test_a_month_is_exact_whoever_asks_at_once(world: AuthWorld, tenant: UUID) -> None:
    async def one(number: int) -> int:
        rng, total = random.Random(number), 0
        for _ in range(40):
            wanted = ask(tenant, rng.randint(1, 9), per_month=700)
            total += (await world.store.take_permits(wanted)).granted
        return total

    totals = await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))

    assert sum(totals) == 700
    assert await requests_of(world, tenant) == {today(): 700}


async def test_a_month_stays_exact_while_permits_come_back(world: AuthWorld, tenant: UUID) -> None:
    async def one(number: int) -> int:
        rng, used, back = random.Random(number), 0, 0
        for _ in range(60):
            wanted = ask(tenant, rng.randint(1, 9), returned=back, per_minute=50_000, per_month=500)
            granted = (await world.store.take_permits(wanted)).granted
            back = rng.randint(0, granted)
            used += granted - back
        await world.store.return_permits(
            [ask(tenant, 0, returned=back, per_minute=50_000, per_month=500)]
        )
        return used

    used = sum(await asyncio.gather(*(one(number) for number in range(CONNECTIONS))))

    assert used <= 500
    assert await requests_of(world, tenant) == {today(): used}


async def test_many_tenants_at_once_do_not_block_each_other(world: AuthWorld) -> None:
    tenants = [uuid4() for _ in range(20)]

    async def returning(number: int) -> None:
        order = tenants[:]
        random.Random(number).shuffle(order)
        for _ in range(10):
            await world.store.return_permits(
                [ask(one, 0, returned=1, per_minute=60, per_month=99) for one in order]
            )

    async def taking() -> None:
        for one in itertools.chain(*([tenants] * 10)):
            await world.store.take_permits(ask(one, 1, per_minute=60, per_month=99))

    async with asyncio.timeout(60):
        await asyncio.gather(*(returning(n) for n in range(4)), *(taking() for _ in range(4)))

    rows = await world.rows("SELECT count(*) AS n FROM auth.rates")
    assert rows == [{"n": 20}]


async def test_two_pools_share_one_limit(world: AuthWorld, tenant: UUID) -> None:
    pool = await open_pool(world.database.dsn("auth"), name="second-auth", hot=True)
    try:
        other = AuthStore(pool)
        taken = await asyncio.gather(
            *(
                store.take_permits(ask(tenant, 1, per_minute=60))
                for store in (world.store, other) * 60
            )
        )
    finally:
        await pool.close()

    assert 60 <= sum(one.granted for one in taken) <= 62


async def test_a_key_takes_permits_as_its_tier_says(world: AuthWorld) -> None:
    made = await world.key_of_new_tenant("acme", tier="free")
    test = await world.do.keys.create(await world.caller(made.secret), KeyWanted(mode="test"))

    # The first went with the caller above.
    live = await world.do.keys.authenticate(made.secret, PermitsAsked(wanted=9))
    unmetered = await world.do.keys.authenticate(test.secret, PermitsAsked(wanted=9))
    last = await world.do.keys.authenticate(made.secret, PermitsAsked(wanted=9))

    free = TIERS["free"]
    assert (live.permits.granted, live.permits.limit_name) == (9, "rate_limit_per_minute")
    assert (live.permits.limit, live.permits.remaining) == (free.rate_limit_per_minute, 10)
    assert (unmetered.permits.granted, unmetered.permits.remaining) == (9, 1)
    assert (last.permits.granted, last.permits.remaining) == (1, 0)
    assert last.permits.retry_after_seconds == pytest.approx(3, abs=1)
    assert await requests_of(world, made.key.tenant_id) == {today(): 11}


async def test_what_is_given_back_by_tier_and_mode(world: AuthWorld) -> None:
    made = await world.key_of_new_tenant("acme", tier="free")
    tenant_id = made.key.tenant_id
    await world.do.keys.authenticate(made.secret, PermitsAsked(wanted=20))

    await world.do.granting.give_back(
        (
            PermitsReturned(tenant_id=tenant_id, mode="live", count=4),
            PermitsReturned(tenant_id=tenant_id, mode="test", count=3),
            PermitsReturned(tenant_id=uuid4(), mode="live", count=9),
        )
    )

    again = await world.do.keys.authenticate(made.secret, PermitsAsked(wanted=20))
    assert again.permits.granted == 7
    assert await requests_of(world, tenant_id) == {today(): 23}
    assert len(await world.rows("SELECT 1 FROM auth.rates")) == 1


async def test_a_refused_key_takes_nothing(world: AuthWorld) -> None:
    made = await world.key_of_new_tenant("acme", tier="free")
    await world.do.keys.revoke(await world.caller(made.secret), str(made.key.id))
    before = await world.rows("SELECT * FROM auth.rates")

    with pytest.raises(Exception, match="not valid"):
        await world.do.keys.authenticate(made.secret, PermitsAsked(wanted=5))

    assert await world.rows("SELECT * FROM auth.rates") == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM auth.rates",
        "DELETE FROM auth.request_days",
        "UPDATE auth.rates SET tenant_id = gen_random_uuid()",
        "UPDATE auth.request_days SET day = day + 1",
        "TRUNCATE auth.request_days",
    ],
)
async def test_service_may_not(world: AuthWorld, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with world.pool.connection() as connection:
            await connection.execute(statement.encode())


async def test_a_count_never_becomes_negative(world: AuthWorld, tenant: UUID) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="never_negative"):
        async with transaction(world.pool) as tx:
            await tx.execute(
                "INSERT INTO auth.request_days VALUES (%s, current_date, -1)", (tenant,)
            )
