"""Auth over real gRPC and PostgreSQL: who may call, and the exchange of keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.core.errors import PawlError
from libs.core.tiers import TIERS
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.context import Caller
from libs.rpc.convert import tier_limits_from_proto
from libs.rpc.tokens import CALLER_TOKEN_SECONDS, KeyRing, ServiceTokens
from services.auth.keys import make_key
from services.auth.scopes import GRANTABLE
from tests.auth_world import START, Auth, auth_server, stamp
from tests.servers import Database

pytestmark = pytest.mark.db

UNKNOWN = make_key(prefix="pawl", mode="live", random_chars="a" * 32).secret
LATER = START + timedelta(days=1)


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def operator(auth: Auth) -> str:
    """The secret of an operator's key."""
    return (await auth.world.operator_key()).secret


async def test_key_is_exchanged_for_a_token_that_verifies_offline(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="pro", scopes=("tasks:read",))

    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))

    principal = auth.world.verifier.verify(answer.caller_token)
    expires_at = START + timedelta(seconds=CALLER_TOKEN_SECONDS)
    assert principal == Caller(
        key_id=made.key.id,
        tenant_id=made.key.tenant_id,
        tier="pro",
        scopes=frozenset({"tasks:read"}),
        roles=frozenset({"owner"}),
        mode="live",
        limits=TIERS["pro"],
        expires_at=expires_at.timestamp(),
    )
    assert tier_limits_from_proto(answer.limits) == TIERS["pro"]
    assert answer.expires_at.ToDatetime(tzinfo=UTC) == expires_at
    assert (answer.tenant_id, answer.key_id) == (str(made.key.tenant_id), str(made.key.id))
    assert (answer.tier, list(answer.scopes), answer.mode) == ("pro", ["tasks:read"], "live")


async def test_unlimited_limits_stay_unset(auth: Auth, operator: str) -> None:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=operator))

    assert not answer.limits.HasField("rate_limit_per_minute")
    assert answer.limits.max_steps == TIERS["enterprise"].max_steps


async def test_token_ends_with_its_key(auth: Auth, operator: str) -> None:
    end = START + timedelta(seconds=2)
    request = pb.CreateKeyRequest(expires_at=stamp(end))
    made = await auth.as_key(operator, "CreateKey", request)

    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))

    assert answer.expires_at.ToDatetime(tzinfo=UTC) == end


async def test_every_refused_key_gets_the_same_words(auth: Auth, operator: str) -> None:
    made = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest())
    await auth.as_key(operator, "RevokeKey", pb.RevokeKeyRequest(key_id=made.key.id))
    ending = await auth.as_key(operator, "CreateKey", pb.CreateKeyRequest(expires_at=stamp(LATER)))
    auth.world.clock.move(timedelta(days=1))
    bad = ["", "null", UNKNOWN, UNKNOWN[:-1], operator.upper(), operator + "\n", "٠" * 48]
    bad += [made.secret, ending.secret, "pawl_live_\x00", "a" * 257, "a" * 2_000_000]

    said = set()
    for api_key in bad:
        with pytest.raises(PawlError) as refused:
            await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=api_key))
        said.add((refused.value.code, refused.value.message, refused.value.errors))

    assert said == {("unauthenticated", "the API key is not valid", ())}


async def test_malformed_key_is_refused_without_asking_the_database(auth: Auth) -> None:
    await auth.world.pool.close()

    codes = []
    for api_key in (UNKNOWN[:-1] + "x", UNKNOWN):
        with pytest.raises(PawlError) as refused:
            await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=api_key))
        codes.append((refused.value.code, refused.value.retry_after_seconds))

    assert codes == [("unauthenticated", None), ("unavailable", 1.0)]


REQUESTS: dict[str, Any] = {
    "CreateTenant": pb.CreateTenantRequest(name="new", tier="free"),
    "UpdateTenant": pb.UpdateTenantRequest(tenant="acme", tier="pro"),
    "ListTenants": pb.ListTenantsRequest(),
    "GetTenant": pb.GetTenantRequest(),
    "CreateKey": pb.CreateKeyRequest(scopes=["keys:write"]),
    "GetKey": pb.GetKeyRequest(key_id=str(uuid4())),
    "ListKeys": pb.ListKeysRequest(),
    "RevokeKey": pb.RevokeKeyRequest(key_id=str(uuid4())),
    "RotateKey": pb.RotateKeyRequest(key_id=str(uuid4())),
    "CreateUser": pb.CreateUserRequest(email="ann@example.org", role="viewer"),
    "ListUsers": pb.ListUsersRequest(),
    "UpdateUser": pb.UpdateUserRequest(number=2**60, role="viewer"),
    "RemoveUser": pb.RemoveUserRequest(number=2**60),
    "ListAudit": pb.ListAuditRequest(),
    "GetUsage": pb.GetUsageRequest(),
    "ListUsage": pb.ListUsageRequest(),
}
NEEDED = {
    "CreateTenant": "operator",
    "UpdateTenant": "operator",
    "ListTenants": "operator",
    "GetTenant": "keys:read",
    "CreateKey": "keys:write",
    "GetKey": "keys:read",
    "ListKeys": "keys:read",
    "RevokeKey": "keys:write",
    "RotateKey": "keys:write",
    "CreateUser": "users:write",
    "ListUsers": "users:read",
    "UpdateUser": "users:write",
    "RemoveUser": "users:write",
    "ListAudit": "audit:read",
    "GetUsage": "tasks:read",
    "ListUsage": "tasks:read",
}
NAME_NOBODY = {"GetKey", "RevokeKey", "RotateKey", "UpdateUser", "RemoveUser"}


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_token_and_a_services_token_are_refused(
    auth: Auth, keys: KeyRing, name: str
) -> None:
    tokens = ServiceTokens(
        "gateway", keys.private["gateway"], now=lambda: auth.world.clock.now().timestamp()
    )

    codes = []
    for token in ("", "nonsense", tokens.token_for("auth")):
        with pytest.raises(PawlError) as refused:
            await auth.with_token(token, name, REQUESTS[name])
        codes.append(refused.value.code)

    assert codes == ["unauthenticated", "unauthenticated", "permission_denied"]


@pytest.mark.parametrize("name", REQUESTS)
async def test_token_is_refused_after_its_end(auth: Auth, operator: str, name: str) -> None:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=operator))
    auth.world.clock.move(timedelta(seconds=CALLER_TOKEN_SECONDS + 1))

    with pytest.raises(PawlError) as refused:
        await auth.with_token(answer.caller_token, name, REQUESTS[name])

    assert refused.value.code == "token_expired"


@pytest.mark.parametrize("scope", GRANTABLE)
@pytest.mark.parametrize("name", REQUESTS)
async def test_one_scope_opens_only_its_methods(auth: Auth, name: str, scope: str) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=(scope,))

    if NEEDED[name] not in {None, scope}:
        refused = await auth.refusal(made.secret, name, REQUESTS[name])
        assert refused.code == "insufficient_scope"
        assert str(NEEDED[name]) in refused.message
    elif name in NAME_NOBODY:
        refused = await auth.refusal(made.secret, name, REQUESTS[name])
        assert refused.code == "not_found"
    else:
        await auth.as_key(made.secret, name, REQUESTS[name])


async def test_refused_call_leaves_no_trace(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", scopes=("tasks:read",))
    before = await auth.world.audit()

    for name in ("CreateTenant", "UpdateTenant", "CreateKey", "RotateKey", "CreateUser"):
        await auth.refusal(made.secret, name, REQUESTS[name])

    assert await auth.world.audit() == before
    assert len(await auth.world.rows("SELECT 1 FROM auth.tenants")) == 2


async def test_database_that_is_away_is_unavailable(auth: Auth, operator: str) -> None:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=operator))
    await auth.world.pool.close()

    for name, request in REQUESTS.items():
        with pytest.raises(PawlError) as refused:
            await auth.with_token(answer.caller_token, name, request)
        assert (refused.value.code, refused.value.retry_after_seconds) == ("unavailable", 1.0)
