"""The schema of auth on real PostgreSQL: its promises, its grants, what the store reads back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.core.ids import new_id
from libs.db.engine import open_pool, refuse_privileged, transaction
from libs.rpc.tokens import KeyRing
from services.auth import store as store_module
from services.auth.keys import make_key
from services.auth.model import Amounts, ApiKey, Change, KeyWanted, Tenant, TenantWanted, Use
from services.auth.store import QUERIES, AuthStore
from tests.auth_world import START, AuthWorld, auth_world
from tests.servers import Database

pytestmark = pytest.mark.db

USED = (
    "INSERT INTO auth.usage_days (tenant_id, day, {}) VALUES (gen_random_uuid(), '2026-12-01', {})"
)
SECOND_OWNER = """
INSERT INTO auth.users (tenant_id, email, role, created_at)
SELECT id, 'x', 'owner', now() FROM auth.tenants
"""
SECRET = make_key(prefix="pawl", mode="live", random_chars="a" * 32)


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


def make_tenant(name: str = "acme") -> Tenant:
    return Tenant(id=new_id(), name=name, tier="pro", created_at=START)


def make_api_key(
    tenant: Tenant, *, user_number: int = 1, expires_at: datetime | None = None
) -> ApiKey:
    return ApiKey(
        id=new_id(),
        tenant_id=tenant.id,
        name="CI",
        prefix="pawl",
        mode="live",
        last_four=SECRET.last_four,
        scopes=("tasks:read", "keys:write"),
        created_at=START,
        expires_at=expires_at,
        revoked_at=None,
        user_number=user_number,
        allowed_agent_ids=(tenant.id,),
        allowed_task_ids=(),
    )


async def insert_tenant(world: AuthWorld, tenant: Tenant) -> Tenant | None:
    async with transaction(world.pool) as tx:
        return await store_module.insert_tenant(tx, tenant, email="o@example.org")


async def insert_key(world: AuthWorld, key: ApiKey) -> ApiKey:
    async with transaction(world.pool) as tx:
        return await store_module.insert_key(tx, key, secret=SECRET)


async def test_tenant_reads_back(world: AuthWorld) -> None:
    tenant = make_tenant()

    made = await insert_tenant(world, tenant)

    assert made == tenant
    assert await world.store.tenant_by_id(tenant.id) == tenant
    assert await world.store.tenant_by_name("acme") == tenant
    assert await world.store.tenant_by_name("acm") is None
    assert await world.store.tenant_by_id(uuid4()) is None


async def test_taken_name_gives_no_second_tenant(world: AuthWorld) -> None:
    first = await insert_tenant(world, make_tenant())

    second = await insert_tenant(world, make_tenant())

    assert second is None
    assert await world.store.list_tenants(after="", count=9) == [first]
    assert await world.rows("SELECT role FROM auth.users") == [{"role": "owner"}]


async def test_key_reads_back_with_its_holder(world: AuthWorld) -> None:
    tenant = make_tenant()
    await insert_tenant(world, tenant)
    owner = await world.owner_of(tenant.id)
    key = make_api_key(tenant, user_number=owner.number, expires_at=START + timedelta(days=1))

    made = await insert_key(world, key)

    holder = await world.store.read_holder(SECRET.hash)
    assert made == key
    assert holder is not None
    assert (holder.key, holder.tier, holder.role) == (key, "pro", "owner")
    assert await world.store.read_key(key.id, tenant_id=tenant.id) == key
    assert await world.store.read_key(key.id, tenant_id=uuid4()) is None
    assert await world.store.read_any_key(key.id) == key
    assert await world.store.read_holder(b"\0" * 32) is None


async def test_secret_is_nowhere_in_the_database(world: AuthWorld) -> None:
    made = await world.operator_key()

    tables = ("tenants", "users", "api_keys", "audit_log")
    dump = [await world.rows(f"SELECT t::text AS row FROM auth.{t} t") for t in tables]

    assert made.secret not in str(dump)
    assert made.secret[10:-6] not in str(dump)


async def test_key_of_unknown_tenant_is_not_made(world: AuthWorld) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await insert_key(world, make_api_key(make_tenant()))
    with pytest.raises(LookupError, match="no owner"):
        await world.owner_of(uuid4())


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("read_holder", [("hash",), ("id",), ("tenant_id", "number")]),
        ("note_use", [("tenant_id", "id"), ("tenant_id", "id")]),
        ("lock_tenant", [("id",)]),
        ("lock_actor", [("tenant_id", "id")]),
        ("lock_role", [("tenant_id", "number")]),
        ("lock_key", [("tenant_id", "id")]),
        ("replace_key", [("tenant_id", "id")]),
        ("revoke_keys_of_user", [("tenant_id",)]),
        ("set_tier", [("id",)]),
        ("read_user", [("tenant_id", "number")]),
        ("read_any_user", [("number",)]),
        ("read_owner", [("tenant_id",)]),
        ("list_users", [("tenant_id", "number")]),
        ("set_role", [("tenant_id", "number")]),
        ("remove_user", [("tenant_id", "number")]),
        ("list_audit", [("tenant_id", "id")]),
        ("read_key", [("tenant_id", "id")]),
        ("read_any_key", [("id",)]),
        ("revoke_key", [("tenant_id", "id")]),
        ("list_keys", [("tenant_id", "id")]),
        ("list_tenants", [("name",)]),
        ("tenant_by_name", [("name",)]),
        ("tenant_by_id", [("id",)]),
        ("list_usage", [("tenant_id", "day", "day")] * 2),
        ("read_account", [("tenant_id", "id"), ("tenant_id", "number"), ("id",)]),
    ],
)
async def test_plan_made_on_empty_tables_goes_by_indexes(
    world: AuthWorld, name: str, columns: list[tuple[str, ...]]
) -> None:
    await world.rows("VACUUM ANALYZE")
    query = QUERIES.block(name)
    numbers = {p: f"${number}" for number, p in enumerate(query.parameters, start=1)}
    nulls = ", ".join(["NULL"] * len(numbers))

    async with world.pool.connection() as connection:
        # This pool makes generic plans only, so NULL stands for any value.
        await connection.execute(f"PREPARE p AS {query.text % numbers}".encode())
        cursor = await connection.execute(f"EXPLAIN EXECUTE p ({nulls})".encode())
        plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())

    conditions = re.findall(r"Index Cond: (.*)", plan)
    assert [tuple(re.findall(r"\((\w+) [=<>]", found)) for found in conditions] == columns
    assert len(re.findall(r"Scan .*using|Seq Scan", plan)) == len(columns)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE auth.audit_log SET action = 'key.revoked'", "permission"),
        ("DELETE FROM auth.audit_log", "permission"),
        ("DELETE FROM auth.api_keys", "permission"),
        ("DELETE FROM auth.tenants", "permission"),
        ("UPDATE auth.api_keys SET scopes = '{operator}'", "permission"),
        ("UPDATE auth.api_keys SET tenant_id = gen_random_uuid()", "permission"),
        ("UPDATE auth.api_keys SET allowed_agent_ids = NULL", "permission"),
        ("UPDATE auth.api_keys SET user_number = 1", "permission"),
        ("UPDATE auth.api_keys SET mode = 'live'", "permission"),
        ("UPDATE auth.tenants SET name = 'x'", "permission"),
        ("UPDATE auth.users SET email = 'x'", "permission"),
        ("UPDATE auth.users SET tenant_id = gen_random_uuid()", "permission"),
        ("DELETE FROM auth.users", "permission"),
        ("TRUNCATE auth.usage_days", "permission"),
        ("UPDATE auth.usage_days SET day = now()", "permission"),
        ("DELETE FROM auth.request_days", "permission"),
        ("ALTER TABLE auth.api_keys DISABLE TRIGGER ALL", "owner"),
    ],
)
async def test_service_may_not(world: AuthWorld, statement: str, why: str) -> None:
    await world.operator_key()

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=why):
        async with world.pool.connection() as connection:
            await connection.execute(statement.encode())


async def test_service_role_is_accepted_and_the_owner_is_not(world: AuthWorld) -> None:
    await refuse_privileged(world.pool, "auth")

    owner = await open_pool(world.database.owner_dsn, name="owner")
    with pytest.raises(Exception, match=r"superuser|owns"):
        await refuse_privileged(owner, "auth")
    await owner.close()


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("INSERT INTO auth.tenants VALUES (gen_random_uuid(), 'A', 'free', now())", "plain"),
        ("INSERT INTO auth.tenants VALUES (gen_random_uuid(), 'a', 'gold', now())", "tier"),
        ("UPDATE auth.users SET role = 'root'", "users_role_is_known"),
        ("UPDATE auth.api_keys SET hash = 'short'", "sha256"),
        ("UPDATE auth.api_keys SET prefix = 'sk'", "prefix"),
        ("UPDATE auth.api_keys SET mode = 'prod'", "mode"),
        ("UPDATE auth.api_keys SET mode = 'test'", "operator_is_live"),
        ("UPDATE auth.api_keys SET last_four = 'abc'", "four"),
        ("UPDATE auth.api_keys SET name = repeat('x', 101)", "short"),
        ("UPDATE auth.api_keys SET scopes = '{}'", "scopes"),
        ("UPDATE auth.api_keys SET scopes = '{root}'", "scopes"),
        ("UPDATE auth.api_keys SET expires_at = created_at - interval '1 s'", "birth"),
        (
            "UPDATE auth.api_keys SET allowed_task_ids = array_fill(id, ARRAY[101])",
            "lists_are_short",
        ),
        ("UPDATE auth.api_keys SET replaced_by_id = gen_random_uuid()", "replacement_exists"),
        ("UPDATE auth.api_keys SET user_number = 0", "user_is_of_tenant"),
        (
            """INSERT INTO auth.audit_log (tenant_id, action, subject, at)
            VALUES (gen_random_uuid(), 'x', 'x', now())""",
            "action",
        ),
        (USED.format("sandbox_ms", "-1"), "negative"),
        (USED.format("cost_usd", "-0.000000001"), "negative"),
        (SECOND_OWNER, "one_owner"),
    ],
)
async def test_constraints_hold_for_the_owner_too(
    world: AuthWorld, change: str, constraint: str
) -> None:
    await world.operator_key()

    with pytest.raises(psycopg.IntegrityError) as refused:
        await world.rows(change)

    assert constraint in str(refused.value.diag.constraint_name)


@pytest.mark.parametrize("value", ["NULL", "now() + interval '1 s'"])
async def test_revocation_cannot_be_undone_or_moved(world: AuthWorld, value: str) -> None:
    await world.operator_key()
    await world.rows("UPDATE auth.api_keys SET revoked_at = now()")

    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await world.rows(
            f"SET session_replication_role = replica; UPDATE auth.api_keys SET revoked_at = {value}"
        )

    assert refused.value.diag.constraint_name == "api_keys_revoked_for_good"


async def test_revoking_twice_keeps_the_first_time(world: AuthWorld) -> None:
    key = (await world.operator_key()).key
    later = START + timedelta(seconds=9)

    async with transaction(world.pool) as tx:
        first = await store_module.revoke_key(tx, key.id, tenant_id=key.tenant_id, now=START)
        second = await store_module.revoke_key(tx, key.id, tenant_id=key.tenant_id, now=later)

    assert first is not None
    assert first.revoked_at == START
    assert second is None


async def test_key_is_revoked_by_its_tenant_only(world: AuthWorld) -> None:
    key = (await world.operator_key()).key

    async with transaction(world.pool) as tx:
        revoked = await store_module.revoke_key(tx, key.id, tenant_id=uuid4(), now=START)

    assert revoked is None


async def test_keys_are_listed_newest_first(world: AuthWorld) -> None:
    made = []
    for _ in range(5):
        made.append((await world.operator_key()).key)
        world.clock.move(timedelta(milliseconds=1))
    tenant_id = made[0].tenant_id

    page = await world.store.list_keys(tenant_id=tenant_id, before=UUID(int=2**128 - 1), count=3)
    rest = await world.store.list_keys(tenant_id=tenant_id, before=page[-1].id, count=9)

    assert page + rest == made[::-1]


async def test_tenants_are_listed_by_bytes_of_the_name(world: AuthWorld) -> None:
    for name in ("b", "a-b", "a", "ab", "a0"):
        await insert_tenant(world, make_tenant(name))

    found = await world.store.list_tenants(after="a", count=9)

    assert [tenant.name for tenant in found] == ["a-b", "a0", "ab", "b"]


async def test_actor_is_locked_against_revocation(world: AuthWorld) -> None:
    key = (await world.operator_key()).key
    async with transaction(world.pool) as tx:
        actor = await store_module.lock_actor(tx, key.id, tenant_id=key.tenant_id, now=START)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await world.rows(
                "SET lock_timeout = '50ms'; UPDATE auth.api_keys SET revoked_at = now()"
            )

    assert actor is not None


@pytest.mark.parametrize("end", ["revoked_at = now()", "expires_at = created_at + interval '1 s'"])
async def test_ended_key_acts_no_longer(world: AuthWorld, end: str) -> None:
    key = (await world.operator_key()).key
    await world.rows(f"UPDATE auth.api_keys SET {end}")

    async with transaction(world.pool) as tx:
        actor = await store_module.lock_actor(
            tx, key.id, tenant_id=key.tenant_id, now=START + timedelta(seconds=1)
        )

    assert actor is None


async def test_use_adds_up_by_tenant_and_day(world: AuthWorld) -> None:
    ours, theirs = uuid4(), uuid4()
    last, first = date(2026, 5, 31), date(2026, 6, 1)
    tenth = Amounts(steps=1, cost_usd=Decimal("0.1"))
    async with transaction(world.pool) as tx:
        for uses in (
            [
                Use(tenant_id=ours, day=first, amounts=Amounts(tasks=1)),
                Use(tenant_id=ours, day=last, amounts=Amounts(tasks=1) + tenth),
                Use(tenant_id=theirs, day=last, amounts=Amounts(tasks=1)),
            ],
            [Use(tenant_id=ours, day=last, amounts=tenth)],
            [Use(tenant_id=ours, day=last, amounts=tenth)],
        ):
            await store_module.add_uses(tx, uses)

    (day,) = await world.store.list_usage(tenant_id=ours, first=date(2026, 5, 1), last=last)

    assert day.amounts == Amounts(tasks=1, steps=3, cost_usd=Decimal("0.3"))
    assert await world.store.list_usage(tenant_id=theirs, first=first, last=first) == []


async def test_account_is_that_of_the_keys_own_user(world: AuthWorld) -> None:
    made = await world.key_of_new_tenant("acme", tier="pro")
    other = await world.key_of_new_tenant("other")

    account = await world.store.read_account(made.key.id, tenant_id=made.key.tenant_id)

    assert account is not None
    assert (account.user.email, account.user.role, account.tier) == (
        "acme@localhost",
        "owner",
        "pro",
    )
    elsewhere = await world.store.read_account(made.key.id, tenant_id=other.key.tenant_id)
    assert elsewhere is None


async def test_key_belongs_to_the_user_who_made_it_or_to_the_owner(world: AuthWorld) -> None:
    operator = await world.caller((await world.operator_key()).secret)
    await world.do.tenants.create(operator, TenantWanted(name="acme", tier="free"))
    owners = await world.do.keys.create(operator, KeyWanted(tenant="acme"))
    admin, admins = await world.user_with_key(owners, "admin")

    second = await world.do.keys.create(await world.caller(admins.secret), KeyWanted())

    owner = await world.owner_of(owners.key.tenant_id)
    assert owners.key.user_number == owner.number
    assert second.key.user_number == admins.key.user_number == admin.number


async def test_change_is_rolled_back_with_its_audit_line(world: AuthWorld) -> None:
    async def change_and_fail() -> None:
        async with AuthStore(world.pool).transaction() as tx:
            tenant = make_tenant()
            await store_module.insert_tenant(tx, tenant, email="e")
            change = Change(
                tenant_id=tenant.id,
                actor_key_id=None,
                action="tenant.created",
                subject=str(tenant.id),
            )
            await store_module.insert_audit(tx, change, now=START)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await change_and_fail()

    assert await world.audit() == []
    assert await world.rows("SELECT 1 FROM auth.tenants") == []
