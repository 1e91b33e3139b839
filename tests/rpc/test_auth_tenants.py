"""Making and listing tenants over real gRPC."""

from __future__ import annotations

import asyncio
import json
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


@pytest.mark.parametrize("by", ["name", "id"])
async def test_tenant_is_read_by_name_or_id(auth: Auth, operator: str, by: str) -> None:
    request = pb.CreateTenantRequest(name="acme", tier="starter")
    made = (await auth.as_key(operator, "CreateTenant", request)).tenant

    asked = pb.GetTenantRequest(tenant=getattr(made, by))
    assert (await auth.as_key(operator, "GetTenant", asked)).tenant == made


async def test_own_tenant_is_read_and_no_other(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=("keys:read",))
    await auth.world.key_of_new_tenant("other")

    own = await auth.as_key(made.secret, "GetTenant", pb.GetTenantRequest())
    codes = [
        (await auth.refusal(made.secret, "GetTenant", pb.GetTenantRequest(tenant=ref))).code
        for ref in ("other", "unknown")
    ]

    assert own.tenant.name == "acme"
    assert codes == ["insufficient_scope"] * 2


async def test_tier_is_effective_with_the_next_token(auth: Auth, operator: str) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    request = pb.UpdateTenantRequest(tenant="acme", tier="pro")

    changed = (await auth.as_key(operator, "UpdateTenant", request)).tenant

    assert changed.tier == "pro"
    caller = await auth.world.caller(made.secret)
    assert (caller.tier, caller.limits.max_steps) == ("pro", 32)


async def test_tier_that_changes_nothing_leaves_no_line(auth: Auth, operator: str) -> None:
    await auth.world.key_of_new_tenant("acme", tier="free")
    for tier in ("free", "pro", "pro"):
        request = pb.UpdateTenantRequest(tenant="acme", tier=tier)
        await auth.as_key(operator, "UpdateTenant", request)

    log = await auth.as_key(operator, "ListAudit", pb.ListAuditRequest(tenant="acme"))

    changed = [e for e in log.entries if e.action == "tenant.tier_changed"]
    assert [json.loads(e.details_json) for e in changed] == [
        {"tier_before": "free", "tier_after": "pro"}
    ]


async def test_tier_of_no_or_an_unknown_tenant_is_refused(auth: Auth, operator: str) -> None:
    none = await auth.refusal(operator, "UpdateTenant", pb.UpdateTenantRequest(tier="gold"))
    unknown = pb.UpdateTenantRequest(tenant="unknown", tier="pro")

    assert fields(none) == [("tenant", "required"), ("tier", "unknown_value")]
    assert (await auth.refusal(operator, "UpdateTenant", unknown)).code == "not_found"
