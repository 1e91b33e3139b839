"""Making, listing and revoking keys over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from services.auth.keys import parse_key
from services.auth.scopes import GRANTABLE
from tests.auth_world import START, Auth, auth_server, fields, stamp
from tests.servers import Database

pytestmark = pytest.mark.db

LATER = START + timedelta(days=1)


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def operator(auth: Auth) -> str:
    """The secret of an operator's key."""
    return (await auth.world.operator_key()).secret


async def test_made_key_works_and_is_shown_once(auth: Auth, operator: str) -> None:
    request = pb.CreateKeyRequest(
        name="CI ✓", prefix="atx", scopes=["tasks:write", "tasks:read"], expires_at=stamp(LATER)
    )

    made = await auth.as_key(operator, "CreateKey", request)
    listed = (await auth.as_key(operator, "ListKeys", pb.ListKeysRequest())).keys

    parsed = parse_key(made.secret)
    assert parsed is not None
    assert (parsed.prefix, parsed.mode) == ("atx", "live")
    assert made.key in listed
    assert made.key.display == f"atx_live_...{made.secret[-4:]}"
    assert list(made.key.scopes) == ["tasks:read", "tasks:write"]
    assert made.key.expires_at.ToDatetime(tzinfo=UTC) == LATER
    assert made.secret not in str(listed)
    await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))


async def test_defaults_of_a_key(auth: Auth, operator: str) -> None:
    made = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest())

    key = made.key
    assert made.secret.startswith("pawl_live_")
    assert (key.name, key.mode, tuple(key.scopes)) == ("", "live", GRANTABLE)
    assert not key.HasField("expires_at")


@pytest.mark.parametrize("by", ["name", "id"])
async def test_operator_makes_and_lists_another_tenants_keys(
    auth: Auth, operator: str, by: str
) -> None:
    request = pb.CreateTenantRequest(name="acme", tier="free")
    tenant = (await auth.as_key(operator, "CreateTenant", request)).tenant
    ref = getattr(tenant, by)

    made = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest(tenant=ref))

    listed = await auth.as_key(
        operator, "ListKeys", pb.ListKeysRequest(tenant=ref.upper() if by == "id" else ref)
    )
    assert made.key.tenant_id == tenant.id
    assert [key.id for key in listed.keys] == [made.key.id]
    audit = await auth.world.audit()
    assert audit[-1] == ("key.created", (await auth.world.caller(operator)).key_id, made.key.id)


async def test_own_tenant_may_be_named(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")

    for ref in ("acme", str(made.key.tenant_id), str(made.key.tenant_id).upper()):
        listed = await auth.as_key(made.secret, "ListKeys", pb.ListKeysRequest(tenant=ref))
        assert [key.id for key in listed.keys] == [str(made.key.id)]


@pytest.mark.parametrize("name", ["CreateKey", "ListKeys"])
async def test_another_tenant_is_refused_in_the_same_words_as_an_unknown_one(
    auth: Auth, name: str
) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    other = await auth.world.key_of_new_tenant("other")
    request = {"CreateKey": pb.CreateKeyRequest, "ListKeys": pb.ListKeysRequest}[name]

    said = set()
    for ref in ("other", "unknown", str(other.key.tenant_id), str(uuid4())):
        refused = await auth.refusal(made.secret, name, request(tenant=ref))
        said.add((refused.code, refused.message))

    assert len(said) == 1
    assert said.pop()[0] == "insufficient_scope"


@pytest.mark.parametrize("ref", ["unknown", str(uuid4())])
@pytest.mark.parametrize("name", ["CreateKey", "ListKeys"])
async def test_operator_is_told_that_a_tenant_is_unknown(
    auth: Auth, operator: str, name: str, ref: str
) -> None:
    request = {"CreateKey": pb.CreateKeyRequest, "ListKeys": pb.ListKeysRequest}[name]

    assert (await auth.refusal(operator, name, request(tenant=ref))).code == "not_found"


async def test_every_bad_field_of_a_key_is_named(auth: Auth, operator: str) -> None:
    request = pb.CreateKeyRequest(
        tenant="No",
        name="x" * 101,
        mode="prod",
        prefix="sk",
        scopes=["tasks:read", "operator", "root"],
        expires_at=stamp(START),
    )

    refused = await auth.refusal(operator, "CreateKey", request)

    assert refused.code == "validation_failed"
    assert fields(refused) == [
        ("tenant", "invalid_format"),
        ("name", "too_long"),
        ("mode", "unknown_value"),
        ("prefix", "unknown_value"),
        ("scopes[1]", "unknown_value"),
        ("scopes[2]", "unknown_value"),
        ("expires_at", "out_of_range"),
    ]


async def test_key_gives_no_scope_that_it_lacks(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=("keys:write", "tasks:read"))

    everything_else = "tasks:write, keys:read, users:read, users:write, audit:read"
    for scopes, lacking in (([], everything_else), (["tasks:write"], "tasks:write")):
        request = pb.CreateKeyRequest(scopes=scopes)
        refused = await auth.refusal(made.secret, "CreateKey", request)
        assert refused.code == "insufficient_scope"
        assert refused.message.endswith(lacking)
    await auth.as_key(made.secret, "CreateKey", pb.CreateKeyRequest(scopes=["tasks:read"]))


async def test_test_key_makes_test_keys_only(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", mode="test")

    refused = await auth.refusal(made.secret, "CreateKey", pb.CreateKeyRequest())
    child = await auth.as_key(made.secret, "CreateKey", pb.CreateKeyRequest(mode="test"))

    assert refused.code == "permission_denied"
    assert child.secret.startswith("pawl_test_")
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=child.secret))
    assert answer.mode == "test"


async def test_keys_are_listed_newest_first_page_by_page(auth: Auth) -> None:
    made = [await auth.world.key_of_new_tenant("acme")]
    for _ in range(4):
        auth.world.clock.move(timedelta(milliseconds=1))
        made.append(await auth.world.another_key(made[0]))

    ids, token, pages = [], "", 0
    while pages == 0 or token:
        request = pb.ListKeysRequest(page_size=2, page_token=token)
        page = await auth.as_key(made[0].secret, "ListKeys", request)
        ids += [key.id for key in page.keys]
        token, pages = page.next_page_token, pages + 1

    assert ids == [str(key.key.id) for key in reversed(made)]
    assert pages == 3


async def test_page_token_of_another_list_is_refused(auth: Auth, operator: str) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    other = await auth.world.key_of_new_tenant("other")
    for _ in range(2):
        await auth.world.another_key(other)
    page = await auth.as_key(other.secret, "ListKeys", pb.ListKeysRequest(page_size=1))
    tenants = await auth.as_key(operator, "ListTenants", pb.ListTenantsRequest(page_size=1))

    for token in (page.next_page_token, tenants.next_page_token, "\x00", "x", "é", "A" * 10**6):
        request = pb.ListKeysRequest(page_token=token)
        refused = await auth.refusal(made.secret, "ListKeys", request)
        assert refused.code == "invalid_cursor"
        assert fields(refused) == [("page_token", "invalid_cursor")]


@pytest.mark.parametrize("name", ["ListTenants", "ListKeys"])
@pytest.mark.parametrize("size", [-1, 201, 2**31 - 1])
async def test_page_size_is_bounded(auth: Auth, operator: str, name: str, size: int) -> None:
    request = {"ListTenants": pb.ListTenantsRequest, "ListKeys": pb.ListKeysRequest}[name]

    refused = await auth.refusal(operator, name, request(page_size=size))

    assert refused.code == "validation_failed"
    assert fields(refused) == [("page_size", "out_of_range")]


async def test_revoked_key_is_refused_and_stays_revoked(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    second = await auth.world.another_key(made)
    request = pb.RevokeKeyRequest(key_id=str(second.key.id))

    first = await auth.as_key(made.secret, "RevokeKey", request)
    auth.world.clock.move(timedelta(minutes=1))
    again = await auth.as_key(made.secret, "RevokeKey", request)

    assert first.key.revoked_at.ToDatetime(tzinfo=UTC) == START
    assert again == first
    with pytest.raises(PawlError):
        await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=second.secret))
    lines = [line for line in await auth.world.audit() if line[0] == "key.revoked"]
    assert lines == [("key.revoked", made.key.id, str(second.key.id))]


async def test_many_revocations_at_once_write_one_audit_line(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    second = await auth.world.another_key(made)
    request = pb.RevokeKeyRequest(key_id=str(second.key.id))

    answers = await asyncio.gather(
        *(auth.as_key(made.secret, "RevokeKey", request) for _ in range(10))
    )

    assert all(answer == answers[0] for answer in answers)
    assert [line[0] for line in await auth.world.audit()].count("key.revoked") == 1


async def test_another_tenants_key_is_as_unknown_as_no_key(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    other = await auth.world.key_of_new_tenant("other")
    unknown = str(uuid4())

    foreign = await auth.refusal(
        made.secret, "RevokeKey", pb.RevokeKeyRequest(key_id=str(other.key.id))
    )
    none = await auth.refusal(made.secret, "RevokeKey", pb.RevokeKeyRequest(key_id=unknown))

    assert foreign.code == none.code == "not_found"
    assert foreign.message.replace(str(other.key.id), unknown) == none.message
    await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=other.secret))


@pytest.mark.parametrize(
    "key_id", ["", "null", "\x00", "../x", "urn:uuid:" + "0" * 32, "a" * 10**6]
)
async def test_what_is_no_id_is_not_found(auth: Auth, operator: str, key_id: str) -> None:
    refused = await auth.refusal(operator, "RevokeKey", pb.RevokeKeyRequest(key_id=key_id))

    assert refused.code == "not_found"
    assert len(refused.message) < 100


async def test_operator_revokes_any_key_and_only_an_operator_an_operators(
    auth: Auth, operator: str
) -> None:
    made = await auth.world.key_of_new_tenant("acme")
    plain = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest())
    another = await auth.world.operator_key()
    of_operator = pb.RevokeKeyRequest(key_id=str(another.key.id))

    await auth.as_key(operator, "RevokeKey", pb.RevokeKeyRequest(key_id=str(made.key.id)))
    refused = await auth.refusal(plain.secret, "RevokeKey", of_operator)
    revoked = await auth.as_key(operator, "RevokeKey", of_operator)

    assert refused.code == "insufficient_scope"
    assert revoked.key.HasField("revoked_at")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("CreateKey", pb.CreateKeyRequest()),
        ("CreateTenant", pb.CreateTenantRequest(name="new", tier="free")),
    ],
)
async def test_token_of_a_revoked_key_makes_nothing_lasting(
    auth: Auth, operator: str, name: str, made: Any
) -> None:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=operator))
    request = pb.RevokeKeyRequest(key_id=answer.key_id)
    await auth.with_token(answer.caller_token, "RevokeKey", request)
    before = await auth.world.audit()

    with pytest.raises(PawlError) as refused:
        await auth.with_token(answer.caller_token, name, made)

    assert refused.value.code == "unauthenticated"
    assert await auth.world.audit() == before
