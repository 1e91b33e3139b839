"""Permits over real gRPC and PostgreSQL: who may take them, who may give them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing, ServiceTokens
from tests.auth_world import Auth, auth_server
from tests.servers import Database

pytestmark = pytest.mark.db


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
def service_token(auth: Auth, keys: KeyRing) -> Any:
    """Makes a service's token for auth."""

    def make(service: str) -> str:
        now = auth.world.clock.now().timestamp()
        return ServiceTokens(service, keys.private[service], now=lambda: now).token_for("auth")

    return make


async def asked(auth: Auth, secret: str, *, token: str = "", **more: int) -> auth_pb2.Permits:
    request = pb.AuthenticateRequest(api_key=secret, **more)
    said = await auth.with_token(token, "Authenticate", request)
    permits: auth_pb2.Permits = said.permits
    return permits


async def test_a_key_is_granted_what_its_tier_allows(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")

    granted = [await asked(auth, made.secret, permits_wanted=9) for _ in range(4)]

    assert [one.granted for one in granted] == [9, 9, 2, 0]
    assert [one.remaining for one in granted] == [11, 2, 0, 0]
    assert {(one.limit_name, one.limit) for one in granted} == {("rate_limit_per_minute", 20)}
    assert granted[3].retry_after_seconds == pytest.approx(3, abs=1)
    assert granted[3].reset_seconds == pytest.approx(60, abs=1)


async def test_a_key_that_may_not_ask_now_has_its_token_all_the_same(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    await asked(auth, made.secret, permits_wanted=20)

    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))

    assert answer.permits.granted == 0
    assert auth.world.verifier.verify(answer.caller_token)
    assert answer.token_seconds == pytest.approx(5)


async def test_no_number_takes_one(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")

    permits = await asked(auth, made.secret)

    assert (permits.granted, permits.remaining) == (1, 19)


async def test_enterprise_has_no_limit_to_name(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="enterprise")

    permits = await asked(auth, made.secret, permits_wanted=1_000_000)

    assert permits == auth_pb2.Permits(granted=1_000_000)


@pytest.mark.parametrize("wanted", [-1, 1_000_001])
async def test_an_impossible_number_is_refused(auth: Auth, wanted: int) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")

    with pytest.raises(PawlError) as refused:
        await asked(auth, made.secret, permits_wanted=wanted)

    assert refused.value.code == "validation_failed"
    assert [error.field for error in refused.value.errors] == ["permits_wanted"]


async def test_the_gateway_gives_back_with_its_next_question(
    auth: Auth, service_token: Any
) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    await asked(auth, made.secret, permits_wanted=20)

    permits = await asked(
        auth, made.secret, token=service_token("gateway"), permits_wanted=9, permits_returned=5
    )

    assert (permits.granted, permits.remaining) == (5, 0)


@pytest.mark.parametrize("who", ["nobody", "scheduler", "caller", "nonsense"])
async def test_nobody_else_gives_back_what_it_may_have_used(
    auth: Auth, service_token: Any, who: str
) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    answer = await auth.stub.Authenticate(
        pb.AuthenticateRequest(api_key=made.secret, permits_wanted=20)
    )
    tokens = {"nobody": "", "caller": answer.caller_token, "nonsense": "nonsense"}
    token = tokens[who] if who in tokens else service_token(who)

    with pytest.raises(PawlError) as refused:
        await asked(auth, made.secret, token=token, permits_returned=9)
    after = await asked(auth, made.secret, token=token)

    assert refused.value.code == "permission_denied"
    assert after.granted == 0


async def test_the_gateway_gives_back_for_many_tenants(auth: Auth, service_token: Any) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    await asked(auth, made.secret, permits_wanted=20)
    tenant_id = str(made.key.tenant_id)
    request = pb.ReturnPermitsRequest(
        permits=[
            pb.TenantPermits(tenant_id=tenant_id, mode="live", count=3),
            pb.TenantPermits(tenant_id=tenant_id, mode="test", count=2),
            pb.TenantPermits(tenant_id=str(uuid4()), mode="live", count=2),
        ]
    )

    await auth.with_token(service_token("gateway"), "ReturnPermits", request)

    assert (await asked(auth, made.secret, permits_wanted=20)).granted == 5


@pytest.mark.parametrize(
    ("who", "code"),
    [
        ("nobody", "unauthenticated"),
        ("scheduler", "permission_denied"),
        ("caller", "permission_denied"),
    ],
)
async def test_only_the_gateway_may_return_permits(
    auth: Auth, service_token: Any, who: str, code: str
) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    answer = await auth.stub.Authenticate(
        pb.AuthenticateRequest(api_key=made.secret, permits_wanted=20)
    )
    tokens = {"nobody": "", "caller": answer.caller_token}
    token = tokens[who] if who in tokens else service_token(who)
    one = pb.TenantPermits(tenant_id=str(made.key.tenant_id), mode="live", count=9)

    with pytest.raises(PawlError) as refused:
        await auth.with_token(token, "ReturnPermits", pb.ReturnPermitsRequest(permits=[one]))

    assert refused.value.code == code
    assert (await asked(auth, made.secret)).granted == 0


@pytest.mark.parametrize("tenant_id", ["", "acme", "x" * 5000])
async def test_a_tenant_that_is_no_id_is_refused(
    auth: Auth, service_token: Any, tenant_id: str
) -> None:
    one = pb.TenantPermits(tenant_id=tenant_id, mode="live", count=9)

    with pytest.raises(PawlError) as refused:
        await auth.with_token(
            service_token("gateway"), "ReturnPermits", pb.ReturnPermitsRequest(permits=[one])
        )

    assert refused.value.code == "validation_failed"
    assert refused.value.errors[0].field == "permits[0].tenant_id"


async def test_a_changed_tier_counts_at_the_next_question(auth: Auth) -> None:
    made = await auth.world.key_of_new_tenant("acme", tier="free")
    await asked(auth, made.secret, permits_wanted=20)

    await auth.world.rows("UPDATE auth.tenants SET tier = 'enterprise' WHERE name = 'acme'")
    raised = await asked(auth, made.secret, permits_wanted=500)
    await auth.world.rows("UPDATE auth.tenants SET tier = 'free' WHERE name = 'acme'")
    lowered = await asked(auth, made.secret, permits_wanted=20)

    assert raised.granted == 500
    # The month of a free tenant has 200, and those were used.
    assert (lowered.granted, lowered.limit_name) == (0, "monthly_requests")
