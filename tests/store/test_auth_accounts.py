"""People, rotation, last use and the audit log on real PostgreSQL: what holds whoever writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from libs.db.engine import transaction
from libs.rpc.tokens import KeyRing
from services.auth import store, user_store
from services.auth.model import KeyWanted, MadeKey, TenantWanted, User
from tests.auth_world import START, AuthWorld, auth_world
from tests.servers import Database

pytestmark = pytest.mark.db

NOTED = "SELECT last_used_at FROM auth.api_keys WHERE id = %s"

COUNT_WRITES = """
CREATE TABLE public.written ();
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO public.written DEFAULT VALUES; RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON auth.api_keys FOR EACH ROW EXECUTE FUNCTION public.note();
"""


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


@pytest.fixture
async def acme(world: AuthWorld) -> MadeKey:
    """A key of the owner of a tenant."""
    return await world.key_of_new_tenant("acme")


async def last_used(world: AuthWorld, key: MadeKey) -> object:
    [row] = await world.rows(NOTED, key.key.id)
    return row["last_used_at"]


async def test_use_of_a_key_is_noted_once_a_minute(world: AuthWorld, acme: MadeKey) -> None:
    noted = []
    for seconds in (0, 59, 2, 58, 60):
        world.clock.move(timedelta(seconds=seconds))
        await world.caller(acme.secret)
        noted.append(await last_used(world, acme))

    times = [START + timedelta(seconds=s) for s in (0, 0, 61, 61, 179)]
    assert noted == times


async def test_noting_a_use_waits_for_nobody(world: AuthWorld, acme: MadeKey) -> None:
    async with transaction(world.pool) as tx:
        await store.lock_actor(tx, acme.key.id, tenant_id=acme.key.tenant_id, now=START)
        # It would wait for the lock until the statement is cancelled, after 2.5 s.
        async with asyncio.timeout(2):
            caller = await world.caller(acme.secret)

    assert caller.key_id == acme.key.id
    assert await last_used(world, acme) is None
    await world.caller(acme.secret)
    assert await last_used(world, acme) == START


async def test_many_first_uses_at_once_write_once(world: AuthWorld, acme: MadeKey) -> None:
    await world.rows(COUNT_WRITES)

    await asyncio.gather(*(world.caller(acme.secret) for _ in range(20)))

    assert await last_used(world, acme) == START
    assert await world.rows("SELECT count(*) AS written FROM public.written") == [{"written": 1}]


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("UPDATE auth.api_keys SET expires_at = NULL", "never_end_later"),
        ("UPDATE auth.api_keys SET expires_at = expires_at + interval '1 s'", "never_end_later"),
        ("UPDATE auth.api_keys SET replaced_by_id = NULL", "replaced_once"),
        ("UPDATE auth.users SET role = 'owner' WHERE removed_at IS NOT NULL", "removed_for_good"),
        ("UPDATE auth.users SET removed_at = NULL", "removed_for_good"),
        ("UPDATE auth.audit_log SET subject = 'x'", "only_grows"),
        ("DELETE FROM auth.audit_log", "only_grows"),
        ("TRUNCATE auth.audit_log", "only_grows"),
    ],
)
async def test_what_has_ended_stays_so_for_the_owner_of_the_database_too(
    world: AuthWorld, acme: MadeKey, change: str, constraint: str
) -> None:
    gone, _ = await world.user_with_key(acme, "viewer")
    await world.do.users.remove(await world.caller(acme.secret), gone.number)
    await world.rows("UPDATE auth.api_keys SET expires_at = '2026-06-02', replaced_by_id = id")

    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await world.rows(f"SET session_replication_role = replica; {change}")

    assert constraint in str(refused.value.diag.constraint_name)


async def test_end_of_a_replaced_key_is_the_earlier_one(world: AuthWorld, acme: MadeKey) -> None:
    ends = [START + timedelta(hours=hours) for hours in (1, 3)]
    keys = [await world.another_key(acme) for _ in range(2)]
    await world.rows(
        "UPDATE auth.api_keys SET expires_at = %s WHERE id = %s", ends[0], keys[0].key.id
    )

    async with transaction(world.pool) as tx:
        replaced = [
            await store.replace_key(tx, key.key, replaced_by_id=acme.key.id, ends_at=ends[1])
            for key in keys
        ]
        again = await store.replace_key(
            tx, keys[1].key, replaced_by_id=acme.key.id, ends_at=ends[0]
        )

    assert [key and key.expires_at for key in replaced] == ends
    assert again is None


async def test_replaced_key_ends_no_earlier_than_it_began(world: AuthWorld, acme: MadeKey) -> None:
    """The clocks of two processes of auth may differ a little."""
    before = START - timedelta(seconds=3)

    async with transaction(world.pool) as tx:
        replaced = await store.replace_key(tx, acme.key, replaced_by_id=acme.key.id, ends_at=before)

    assert replaced is not None
    assert replaced.expires_at == acme.key.created_at


async def test_hand_over_has_one_owner_at_every_moment(world: AuthWorld, acme: MadeKey) -> None:
    owner = await world.owner_of(acme.key.tenant_id)
    member, _ = await world.user_with_key(acme, "member")

    async with transaction(world.pool) as tx:
        changed = await user_store.hand_over(tx, to=member, owner=owner)

    roles = {user.number: user.role for user in changed.values()}
    assert roles == {owner.number: "admin", member.number: "owner"}
    assert (await world.owner_of(acme.key.tenant_id)).number == member.number


async def test_owner_is_not_demoted_nor_removed_by_a_statement(
    world: AuthWorld, acme: MadeKey
) -> None:
    owner = await world.owner_of(acme.key.tenant_id)

    async with transaction(world.pool) as tx:
        demoted = await user_store.set_role(tx, owner, role="viewer")
        removed = await user_store.remove_user(tx, owner, now=START)

    assert (demoted, removed) == (None, False)


@pytest.mark.parametrize("email", ["ANN@example.org", "ann@EXAMPLE.org"])
async def test_address_is_taken_once_in_a_tenant_whatever_its_case(
    world: AuthWorld, acme: MadeKey, email: str
) -> None:
    other = await world.key_of_new_tenant("other")

    async def add(address: str, *, of: MadeKey = acme) -> User | None:
        async with transaction(world.pool) as tx:
            return await user_store.insert_user(
                tx, tenant_id=of.key.tenant_id, email=address, role="viewer", now=START
            )

    first = await add("ann@example.org")
    taken = await add(email)
    elsewhere = await add(email, of=other)
    assert first is not None
    await world.do.users.remove(await world.caller(acme.secret), first.number)
    free_again = await add(email)

    assert (taken, elsewhere is not None) == (None, True)
    assert free_again is not None
    assert free_again.number > first.number


async def test_key_of_a_removed_user_has_no_holder(world: AuthWorld, acme: MadeKey) -> None:
    user, key = await world.user_with_key(acme, "member")
    # As if the removal had not revoked the key.
    await world.rows("UPDATE auth.users SET removed_at = now() WHERE number = %s", user.number)

    with pytest.raises(Exception, match="not valid"):
        await world.caller(key.secret)
    async with transaction(world.pool) as tx:
        assert await store.lock_role(tx, user.number, tenant_id=user.tenant_id) is None


async def test_tenant_is_held_against_a_second_change(world: AuthWorld, acme: MadeKey) -> None:
    tenant_id = acme.key.tenant_id
    caller = await world.caller(acme.secret)
    async with transaction(world.pool) as tx:
        await store.lock_tenant(tx, tenant_id)
        making = asyncio.create_task(world.do.keys.create(caller, KeyWanted()))
        async with asyncio.timeout(2):
            while not await world.rows("SELECT 1 FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        await store.set_tier(tx, tenant_id, tier="pro")

    made = await making
    assert made.key.tenant_id == tenant_id


async def test_tier_is_set_once(world: AuthWorld, acme: MadeKey) -> None:
    async with transaction(world.pool) as tx:
        first = await store.set_tier(tx, acme.key.tenant_id, tier="pro")
        second = await store.set_tier(tx, acme.key.tenant_id, tier="pro")
        tenant = await store.read_tenant(tx, acme.key.tenant_id)

    assert (first, second) == (tenant, None)
    assert tenant.tier == "pro"


async def test_line_of_the_audit_log_knows_whose_key_acted(world: AuthWorld, acme: MadeKey) -> None:
    user, _ = await world.user_with_key(acme, "admin")
    operator = await world.operator_key()
    await world.do.tenants.create(
        await world.caller(operator.secret), TenantWanted(name="new", tier="free")
    )

    lines = await world.store.list_audit(tenant_id=acme.key.tenant_id, before=2**62, count=99)
    [new] = await world.store.list_audit(
        tenant_id=(await world.rows("SELECT id FROM auth.tenants WHERE name = 'new'"))[0]["id"],
        before=2**62,
        count=99,
    )

    owner = await world.owner_of(acme.key.tenant_id)
    by = [(line.action, line.actor_user_number) for line in lines]
    assert by[:2] == [("key.created", owner.number), ("user.created", owner.number)]
    assert lines[1].subject == str(user.number)
    assert new.actor_user_number == operator.key.user_number
    made = await world.rows("SELECT actor_key_id, actor_user_number FROM auth.audit_log LIMIT 1")
    assert made == [{"actor_key_id": None, "actor_user_number": None}]
