"""What the command line of the installation makes, and which key it accepts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from libs.core.errors import PawlError
from libs.rpc.tokens import KeyRing
from services.auth.bootstrap import is_operator_key
from services.auth.keys import make_key
from services.auth.model import KeyWanted
from services.auth.scopes import ALL, GRANTABLE
from tests.auth_world import AuthWorld, auth_world
from tests.servers import Database

pytestmark = pytest.mark.db

UNKNOWN = make_key(prefix="pawl", mode="live", random_chars="a" * 32).secret


@pytest.fixture
async def world(database: Database, keys: KeyRing) -> AsyncIterator[AuthWorld]:
    async with auth_world(database, keys) as world:
        yield world


async def test_bootstrap_makes_the_tenant_once_and_a_key_each_time(world: AuthWorld) -> None:
    made = await asyncio.gather(*(world.operator_key() for _ in range(8)))

    assert len({key.key.tenant_id for key in made}) == 1
    assert len({key.secret for key in made}) == 8
    assert all(key.key.scopes == ALL for key in made)
    actions = [action for action, actor, _ in await world.audit() if actor is None]
    assert sorted(actions) == ["key.created"] * 8 + ["tenant.created"]


async def test_bootstrap_leaves_the_tier_of_a_tenant(world: AuthWorld) -> None:
    await world.operator_key(tier="pro")

    await world.operator_key(tier="enterprise")

    assert await world.rows("SELECT tier FROM auth.tenants") == [{"tier": "pro"}]


@pytest.mark.parametrize("wanted", [("Default", "pro"), ("default", "gold"), ("", "")])
async def test_bootstrap_refuses_what_no_tenant_can_be(
    world: AuthWorld, wanted: tuple[str, str]
) -> None:
    with pytest.raises(PawlError) as refused:
        await world.operator_key(tenant=wanted[0], tier=wanted[1])

    assert refused.value.code == "validation_failed"
    assert await world.rows("SELECT 1 FROM auth.tenants") == []


async def test_only_a_good_operator_key_passes_the_check(world: AuthWorld) -> None:
    async def passes(text: str) -> bool:
        return await is_operator_key(world.store, text, clock=world.clock)

    good = await world.operator_key()
    operator = await world.caller(good.secret)
    plain = await world.do.keys.create(operator, KeyWanted(scopes=GRANTABLE))
    revoked = await world.operator_key()
    await world.do.keys.revoke(operator, str(revoked.key.id))

    assert await passes(good.secret)
    for bad in ("", "null", plain.secret, revoked.secret, good.secret[:-1], UNKNOWN):
        assert not await passes(bad)
    await world.rows("UPDATE auth.api_keys SET expires_at = created_at + interval '1 h'")
    world.clock.move(timedelta(hours=1))
    assert not await passes(good.secret)
