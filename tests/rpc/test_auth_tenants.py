"""Making and listing tenants over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from tests.auth_world import START, Auth, auth_server, fields
from tests.servers import Database

pytestmark = pytest.mark.db


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def operator(auth: Auth) -> str:
    """The secret of an operator's key."""
    return (await auth.world.operator_key()).secret


async def test_tenant_is_made_with_its_owner_and_an_audit_line(auth: Auth, operator: str) -> None:
    request = pb.CreateTenantRequest(name="acme", tier="starter", email="ann@example.org")

    tenant = (await auth.as_key(operator, "CreateTenant", request)).tenant

    actor = (await auth.world.caller(operator)).key_id
    assert (tenant.name, tenant.tier) == ("acme", "starter")
    assert tenant.created_at.ToDatetime(tzinfo=UTC) == START
    [owner] = await auth.world.rows(
        "SELECT email, role FROM auth.users WHERE tenant_id = %s", UUID(tenant.id)
    )
    assert owner == {"email": "ann@example.org", "role": "owner"}
    assert (await auth.world.audit())[-1] == ("tenant.created", actor, tenant.id)


async def test_owner_has_an_address_when_none_is_given(auth: Auth, operator: str) -> None:
    await auth.as_key(operator, "CreateTenant", pb.CreateTenantRequest(name="acme", tier="free"))

    rows = await auth.world.rows("SELECT email FROM auth.users ORDER BY number")
    assert [row["email"] for row in rows] == ["default@localhost", "acme@localhost"]


async def test_taken_name_is_refused(auth: Auth, operator: str) -> None:
    request = pb.CreateTenantRequest(name="acme", tier="free")
    await auth.as_key(operator, "CreateTenant", request)

    refused = await auth.refusal(operator, "CreateTenant", request)

    assert refused.code == "already_exists"
    assert "acme" in refused.message


async def test_one_of_many_makes_the_tenant(auth: Auth, operator: str) -> None:
    request = pb.CreateTenantRequest(name="acme", tier="free")

    answers = await asyncio.gather(
        *(auth.as_key(operator, "CreateTenant", request) for _ in range(10)),
        return_exceptions=True,
    )

    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    codes = [answer.code for answer in answers if isinstance(answer, PawlError)]
    assert (len(made), codes) == (1, ["already_exists"] * 9)


async def test_every_bad_field_of_a_tenant_is_named(auth: Auth, operator: str) -> None:
    request = pb.CreateTenantRequest(name="Not A Name", tier="gold", email="no")

    refused = await auth.refusal(operator, "CreateTenant", request)

    assert refused.code == "validation_failed"
    expected = [("name", "invalid_format"), ("tier", "unknown_value"), ("email", "invalid_format")]
    assert fields(refused) == expected


async def test_tenants_are_listed_page_by_page(auth: Auth, operator: str) -> None:
    for index in range(5):
        request = pb.CreateTenantRequest(name=f"t{index}", tier="free")
        await auth.as_key(operator, "CreateTenant", request)

    names, token, pages = [], "", 0
    while pages == 0 or token:
        request_page = pb.ListTenantsRequest(page_size=2, page_token=token)
        page = await auth.as_key(operator, "ListTenants", request_page)
        names += [tenant.name for tenant in page.tenants]
        token, pages = page.next_page_token, pages + 1

    assert names == ["default", "t0", "t1", "t2", "t3", "t4"]
    assert pages == 3
