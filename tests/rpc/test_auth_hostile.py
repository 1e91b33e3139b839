"""What a hostile or unlucky caller gets: a refusal that names the field, never a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import PawlError
from libs.core.paging import Listing
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from tests.auth_world import Auth, auth_server, fields
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


HOSTILE = [
    "\x00",
    "a\x00",
    "\ufeffacme",
    "١٢٣",
    "acme\n",
    "acme ",
    "ａｃｍｅ",
    "'; DROP TABLE auth.tenants; --",
    "%s %(x)s :name",
    "a" * 1_000_000,
    "\U0010ffff",
]
BUILD: dict[str, Callable[[str], tuple[str, Any]]] = {
    "CreateTenant.name": lambda t: ("CreateTenant", pb.CreateTenantRequest(name=t, tier="free")),
    "CreateTenant.tier": lambda t: ("CreateTenant", pb.CreateTenantRequest(name="n", tier=t)),
    "CreateTenant.email": lambda t: (
        "CreateTenant",
        pb.CreateTenantRequest(name="n", tier="free", email=t),
    ),
    "ListTenants.page_token": lambda t: ("ListTenants", pb.ListTenantsRequest(page_token=t)),
    "CreateKey.tenant": lambda t: ("CreateKey", pb.CreateKeyRequest(tenant=t)),
    "CreateKey.mode": lambda t: ("CreateKey", pb.CreateKeyRequest(mode=t)),
    "CreateKey.prefix": lambda t: ("CreateKey", pb.CreateKeyRequest(prefix=t)),
    "CreateKey.scopes": lambda t: ("CreateKey", pb.CreateKeyRequest(scopes=[t] * 3)),
    "ListKeys.tenant": lambda t: ("ListKeys", pb.ListKeysRequest(tenant=t)),
    "ListKeys.page_token": lambda t: ("ListKeys", pb.ListKeysRequest(page_token=t)),
    "RevokeKey.key_id": lambda t: ("RevokeKey", pb.RevokeKeyRequest(key_id=t)),
    "CreateKey.allowed_agent_ids": lambda t: (
        "CreateKey",
        pb.CreateKeyRequest(allowed_agent_ids=auth_pb2.IdAllowList(ids=[t])),
    ),
    "CreateKey.allowed_task_ids": lambda t: (
        "CreateKey",
        pb.CreateKeyRequest(allowed_task_ids=auth_pb2.IdAllowList(ids=[t] * 3)),
    ),
    "GetTenant.tenant": lambda t: ("GetTenant", pb.GetTenantRequest(tenant=t)),
    "UpdateTenant.tenant": lambda t: (
        "UpdateTenant",
        pb.UpdateTenantRequest(tenant=t, tier="free"),
    ),
    "UpdateTenant.tier": lambda t: (
        "UpdateTenant",
        pb.UpdateTenantRequest(tenant="default", tier=t),
    ),
    "GetKey.key_id": lambda t: ("GetKey", pb.GetKeyRequest(key_id=t)),
    "RotateKey.key_id": lambda t: ("RotateKey", pb.RotateKeyRequest(key_id=t)),
    "CreateUser.tenant": lambda t: (
        "CreateUser",
        pb.CreateUserRequest(tenant=t, email="a@example.org", role="viewer"),
    ),
    "CreateUser.email": lambda t: ("CreateUser", pb.CreateUserRequest(email=t, role="viewer")),
    "CreateUser.role": lambda t: (
        "CreateUser",
        pb.CreateUserRequest(email="a@example.org", role=t),
    ),
    "ListUsers.tenant": lambda t: ("ListUsers", pb.ListUsersRequest(tenant=t)),
    "ListUsers.page_token": lambda t: ("ListUsers", pb.ListUsersRequest(page_token=t)),
    "UpdateUser.role": lambda t: ("UpdateUser", pb.UpdateUserRequest(number=1, role=t)),
    "ListAudit.tenant": lambda t: ("ListAudit", pb.ListAuditRequest(tenant=t)),
    "ListAudit.page_token": lambda t: ("ListAudit", pb.ListAuditRequest(page_token=t)),
    "GetUsage.month": lambda t: ("GetUsage", pb.GetUsageRequest(month=t)),
    "ListUsage.first_day": lambda t: ("ListUsage", pb.ListUsageRequest(first_day=t)),
    "ListUsage.last_day": lambda t: ("ListUsage", pb.ListUsageRequest(last_day=t)),
}


@pytest.mark.parametrize("field", BUILD)
async def test_hostile_text_is_refused_by_name_and_never_reaches_sql(
    auth: Auth, operator: str, field: str
) -> None:
    for text in HOSTILE:
        refused = await auth.refusal(operator, *BUILD[field](text))

        expected = {"page_token": "invalid_cursor", "key_id": "not_found"}
        assert refused.code == expected.get(field.partition(".")[2], "validation_failed"), text
        assert len(refused.message) < 500
        assert "\x00" not in refused.message


async def test_label_keeps_odd_but_plain_text(auth: Auth, operator: str) -> None:
    for text in (
        "'; DROP TABLE x; --",
        "%s %(x)s :name",
        "\U0010ffff",
        "ａ١",
        "\ufeff",
        "</script>",
    ):
        made = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest(name=text))
        assert made.key.name == text


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(2**62, 0), (-(2**62), 0), (0, -5), (253_402_300_799, 0), (-1, 0)]
)
async def test_hostile_instant_is_refused(
    auth: Auth, operator: str, seconds: int, nanos: int
) -> None:
    request = pb.CreateKeyRequest(expires_at=Timestamp(seconds=seconds, nanos=nanos))

    refused = await auth.refusal(operator, "CreateKey", request)

    assert refused.code == "validation_failed"
    assert [name for name, _ in fields(refused)] == ["expires_at"]


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**63 - 1])
@pytest.mark.parametrize("name", ["UpdateUser", "RemoveUser"])
async def test_hostile_number_is_nobody(auth: Auth, operator: str, name: str, number: int) -> None:
    request: Any = (
        pb.UpdateUserRequest(number=number, role="viewer")
        if name == "UpdateUser"
        else pb.RemoveUserRequest(number=number)
    )

    assert (await auth.refusal(operator, name, request)).code == "not_found"
    made = pb.CreateKeyRequest(user_number=number)
    assert (await auth.refusal(operator, "CreateKey", made)).code == "not_found"


@pytest.mark.parametrize("number", [-1, 2**53 - 1, 0.5, "x"])
async def test_forged_number_of_a_row_is_refused_or_harmless(
    auth: Auth, operator: str, number: Any
) -> None:
    tenant_id = str((await auth.world.caller(operator)).tenant_id)
    users = Listing(name="users", bound_to=(tenant_id,)).token((number,))
    audit = Listing(name="audit", bound_to=(tenant_id,)).token((number,))

    codes = []
    for name, request in (
        ("ListUsers", pb.ListUsersRequest(page_token=users)),
        ("ListAudit", pb.ListAuditRequest(page_token=audit)),
    ):
        try:
            await auth.as_key(operator, name, request)
            codes.append("")
        except PawlError as refused:
            codes.append(refused.code)

    assert codes == (["", ""] if number == 2**53 - 1 else ["invalid_cursor"] * 2)


@pytest.mark.parametrize("keyset", ["", "\x00", "acme\n", "A", "a" * 700])
async def test_forged_keyset_is_refused(auth: Auth, operator: str, keyset: str) -> None:
    """The tag of a page token is no signature: whoever knows the recipe can write any keyset."""
    tenant_id = str((await auth.world.caller(operator)).tenant_id)
    keys = Listing(name="keys", bound_to=(tenant_id,)).token((keyset,))
    tenants = Listing(name="tenants").token((keyset,))

    of_keys = await auth.refusal(operator, "ListKeys", pb.ListKeysRequest(page_token=keys))
    request = pb.ListTenantsRequest(page_token=tenants)
    of_tenants = await auth.refusal(operator, "ListTenants", request)

    assert of_keys.code == of_tenants.code == "invalid_cursor"
