"""Caller tokens and service tokens: who may sign what, and for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from joserfc import jwt

from libs.core.errors import PawlError
from libs.core.tiers import TIERS, TierLimits, limits_of
from libs.rpc.context import Caller, Service
from libs.rpc.tokens import (
    CallerTokens,
    KeyRing,
    ServiceTokens,
    TokenVerifier,
    load_private_key,
    load_public_keys,
    private_key_file,
    public_keys_file,
)

NOW = 1_800_000_000.0
TENANT = UUID("01900000-0000-7000-8000-000000000001")
TASK = UUID("01900000-0000-7000-8000-000000000002")
RING = KeyRing.generate()
CALLER = Caller(
    key_id=UUID("01900000-0000-7000-8000-000000000003"),
    tenant_id=TENANT,
    tier="pro",
    scopes=frozenset({"tasks:read", "tasks:write"}),
    mode="live",
    limits=TIERS["pro"],
    expires_at=NOW + 3600,
    allowed_agent_ids=frozenset({str(TASK), str(TENANT)}),
    allowed_task_ids=frozenset(),
)


def verifier(*, audience: str = "scheduler", now: float = NOW) -> TokenVerifier:
    return TokenVerifier(RING.public, audience=audience, now=lambda: now)


def caller_token(*, now: float = NOW, caller: Caller = CALLER) -> tuple[str, float]:
    return CallerTokens(RING.private["auth"], now=lambda: now).issue(caller)


def service_token(service: str = "executor", *, audience: str = "scheduler") -> str:
    tokens = ServiceTokens(service, RING.private[service], now=lambda: NOW)
    return tokens.token_for(audience, tenant_id=TENANT, task_id=TASK)


def test_caller_token_brings_back_the_caller() -> None:
    token, expires_at = caller_token()

    principal = verifier().verify(token)

    assert principal == replace(CALLER, expires_at=expires_at)
    assert expires_at == NOW + 5


def test_caller_token_ends_with_its_key() -> None:
    _, expires_at = caller_token(caller=replace(CALLER, expires_at=NOW + 2))

    assert expires_at == NOW + 2


def test_a_tier_and_limits_of_another_release_do_not_hurt() -> None:
    claims = {
        "iss": "auth",
        "sub": str(CALLER.key_id),
        "iat": NOW,
        "exp": NOW + 5,
        "tenant": str(TENANT),
        "tier": "platinum",
        "scopes": ["tasks:read"],
        "roles": [],
        "mode": "live",
        "limits": {"max_steps": 64, "max_dreams": 3},
    }
    header = {"alg": "Ed25519", "kid": "auth", "typ": "pawl-caller+jwt"}
    token = jwt.encode(header, claims, RING.private["auth"], algorithms=["Ed25519"])

    principal = verifier().verify(token)

    assert isinstance(principal, Caller)
    assert principal.tier == "platinum"
    assert principal.limits == TierLimits(max_steps=64)


def test_what_an_unknown_tier_allows_is_what_the_lowest_does() -> None:
    assert limits_of("platinum") == TIERS["free"]
    assert limits_of("pro") == TIERS["pro"]


@pytest.mark.parametrize("seconds", [-2.0, 6.1])
def test_caller_token_is_refused_outside_its_life(seconds: float) -> None:
    token, _ = caller_token()

    with pytest.raises(PawlError) as refused:
        verifier(now=NOW + seconds).verify(token)

    assert refused.value.code == "token_expired"


def test_a_verified_token_is_refused_after_its_end_too() -> None:
    token, _ = caller_token()
    clock = [NOW]
    remembering = TokenVerifier(RING.public, audience="scheduler", now=lambda: clock[0])
    remembering.verify(token)

    clock[0] = NOW + 7

    with pytest.raises(PawlError):
        remembering.verify(token)


def test_service_token_names_service_tenant_and_task() -> None:
    assert verifier().verify(service_token()) == Service(
        name="executor", tenant_id=TENANT, task_id=TASK
    )


def test_service_token_is_refused_by_another_audience() -> None:
    with pytest.raises(PawlError):
        verifier(audience="planner").verify(service_token())


def test_service_token_is_kept_and_renewed_before_its_end() -> None:
    clock = [NOW]
    tokens = ServiceTokens("gateway", RING.private["gateway"], now=lambda: clock[0])
    first = tokens.token_for("auth")

    clock[0] = NOW + 29
    again = tokens.token_for("auth")
    clock[0] = NOW + 31
    renewed = tokens.token_for("auth")

    assert again == first
    assert renewed != first


def test_no_service_can_sign_for_a_caller() -> None:
    forged, _ = CallerTokens(RING.private["executor"], now=lambda: NOW).issue(CALLER)

    with pytest.raises(PawlError):
        verifier().verify(forged)


def test_no_service_can_sign_for_another() -> None:
    claims = {"iss": "executor", "aud": "scheduler", "iat": NOW, "exp": NOW + 60}
    header = {"alg": "Ed25519", "kid": "gateway", "typ": "pawl-service+jwt"}
    forged = jwt.encode(header, claims, RING.private["gateway"], algorithms=["Ed25519"])

    with pytest.raises(PawlError):
        verifier().verify(forged)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": "executor"},
        {"iss": "executor", "aud": "scheduler", "iat": "soon", "exp": NOW + 60},
        {"iss": "executor", "aud": "scheduler", "iat": NOW, "exp": NOW + 60, "tenant": "x"},
        {"iss": "executor", "aud": "scheduler", "iat": NOW, "exp": NOW + 60, "task": 5},
    ],
)
def test_token_with_a_missing_or_bad_claim_is_refused(claims: dict[str, object]) -> None:
    header = {"alg": "Ed25519", "kid": "executor", "typ": "pawl-service+jwt"}
    token = jwt.encode(header, claims, RING.private["executor"], algorithms=["Ed25519"])

    with pytest.raises(PawlError) as refused:
        verifier().verify(token)

    assert refused.value.code == "unauthenticated"


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "é.é.é", "." * 1000, "eyJhbGciOiJub25lIn0.e30."]
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(PawlError) as refused:
        verifier().verify(token)

    assert refused.value.code == "unauthenticated"


def test_a_changed_token_is_refused() -> None:
    head, body, signature = service_token().split(".")
    swapped = ("A" if body[20] != "A" else "B").join((body[:20], body[21:]))

    with pytest.raises(PawlError):
        verifier().verify(f"{head}.{swapped}.{signature}")


def test_key_ring_survives_the_disk(tmp_path: Path) -> None:
    RING.write(tmp_path)

    key = load_private_key(private_key_file(tmp_path, "executor"))
    token = ServiceTokens("executor", key, now=lambda: NOW).token_for("scheduler")
    public = load_public_keys(public_keys_file(tmp_path))

    principal = TokenVerifier(public, audience="scheduler", now=lambda: NOW).verify(token)
    assert principal == Service(name="executor")
    assert private_key_file(tmp_path, "executor").stat().st_mode & 0o077 == 0
