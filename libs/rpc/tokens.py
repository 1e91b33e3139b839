"""Signed tokens inside the mesh: caller tokens (auth signs) and service tokens (each service
signs).

JWT (RFC 7519) with Ed25519 (RFC 9864), verified offline with the public keys that all services
read.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from libs.core.errors import PawlError
from libs.core.tiers import TierLimits
from libs.rpc.context import Caller, Principal, Service

SERVICES = ("auth", "planner", "scheduler", "executor", "artifact", "gateway", "sandbox")
CALLER_TOKEN_SECONDS = 5
SERVICE_TOKEN_SECONDS = 60
SKEW_SECONDS = 1
ALGORITHM = "Ed25519"
CACHE_SIZE = 10_000

_TIER_LIMITS = frozenset(field.name for field in fields(TierLimits))

Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The signing keys of a whole installation, one per service."""

    private: Mapping[str, OKPKey]

    @classmethod
    def generate(cls, services: Iterable[str] = SERVICES) -> KeyRing:
        """New keys for `services`."""
        names = tuple(services)
        return cls(
            {name: OKPKey.generate_key("Ed25519", parameters={"kid": name}) for name in names}
        )

    @property
    def public(self) -> dict[str, OKPKey]:
        """The public halves by service."""
        halves = {name: key.as_dict(private=False) for name, key in self.private.items()}
        return {name: OKPKey.import_key(half) for name, half in halves.items()}

    def write(self, secrets_dir: Path) -> None:
        """Write `service_<name>.jwk` (0600) per service and, last, `public_keys.json`."""
        for name, key in self.private.items():
            _write_private(
                private_key_file(secrets_dir, name), json.dumps(key.as_dict(private=True))
            )
        halves = [key.as_dict(private=False) for key in self.private.values()]
        _write_private(public_keys_file(secrets_dir), json.dumps({"keys": halves}))


def private_key_file(secrets_dir: Path, service: str) -> Path:
    """Where a service's signing key lies."""
    return secrets_dir / f"service_{service}.jwk"


def public_keys_file(secrets_dir: Path) -> Path:
    """Where the public keys of all services lie."""
    return secrets_dir / "public_keys.json"


def load_private_key(path: Path) -> OKPKey:
    """Read a signing key that `KeyRing.write` wrote."""
    return OKPKey.import_key(json.loads(path.read_text()))


def load_public_keys(path: Path) -> dict[str, OKPKey]:
    """Read all public keys, by the service (`kid`) that signs with them."""
    keys = json.loads(path.read_text())["keys"]
    return {key["kid"]: OKPKey.import_key(key) for key in keys}


class CallerTokens:
    """Signs caller tokens. Only auth has the key that verifiers accept for them."""

    def __init__(self, key: OKPKey, *, now: Now = time.time) -> None:
        self._key = key
        self._now = now

    def issue(self, caller: Caller) -> tuple[str, float]:
        """A token for `caller` and the Unix time at which it ends, 5 s from now.

        The caller's own `expires_at` is an upper bound: a key that ends sooner ends its token.
        """
        issued_at = self._now()
        expires_at = min(issued_at + CALLER_TOKEN_SECONDS, caller.expires_at)
        claims: dict[str, Any] = {
            "iss": "auth",
            "sub": str(caller.key_id),
            "iat": issued_at,
            "exp": expires_at,
            "tenant": str(caller.tenant_id),
            "tier": caller.tier,
            "scopes": sorted(caller.scopes),
            "roles": sorted(caller.roles),
            "mode": caller.mode,
            "limits": {k: v for k, v in asdict(caller.limits).items() if v is not None},
        }
        if caller.allowed_agent_ids is not None:
            claims["allowed_agent_ids"] = _packed(caller.allowed_agent_ids)
        if caller.allowed_task_ids is not None:
            claims["allowed_task_ids"] = _packed(caller.allowed_task_ids)
        return _sign(claims, key=self._key, kind="caller"), expires_at


class ServiceTokens:
    """Signs one service's own tokens and keeps each until shortly before its end."""

    def __init__(self, service: str, key: OKPKey, *, now: Now = time.time) -> None:
        self._service = service
        self._key = key
        self._now = now
        self._kept: dict[tuple[str, UUID | None, UUID | None], tuple[str, float]] = {}

    def token_for(
        self, audience: str, *, tenant_id: UUID | None = None, task_id: UUID | None = None
    ) -> str:
        """A token that `audience` accepts from this service, for the tenant and task if given."""
        wanted = (audience, tenant_id, task_id)
        now = self._now()
        token, good_until = self._kept.get(wanted, ("", 0.0))
        if now < good_until:
            return token
        claims: dict[str, Any] = {"iss": self._service, "aud": audience, "iat": now}
        claims["exp"] = now + SERVICE_TOKEN_SECONDS
        if tenant_id is not None:
            claims["tenant"] = str(tenant_id)
        if task_id is not None:
            claims["task"] = str(task_id)
        token = _sign(claims, key=self._key, kind="service")
        if len(self._kept) >= CACHE_SIZE:
            self._kept.clear()
        self._kept[wanted] = (token, now + SERVICE_TOKEN_SECONDS / 2)
        return token


class TokenVerifier:
    """Verifies tokens offline for one audience; remembers good ones until they end."""

    def __init__(
        self, public_keys: Mapping[str, OKPKey], *, audience: str, now: Now = time.time
    ) -> None:
        self._keys = public_keys
        self._audience = audience
        self._now = now
        self._good: dict[str, tuple[Principal, float]] = {}

    def verify(self, token: str) -> Principal:
        """Who signed for whom. PawlError `token_expired` for one that lives no more or not yet,
        `unauthenticated` for anything else but a valid one.
        """
        now = self._now()
        principal, ends_at = self._good.get(token, (None, 0.0))
        if principal is not None and now < ends_at:
            return principal
        claims = self._claims(token)
        issued_at, ends_at = float(claims["iat"]), float(claims["exp"]) + SKEW_SECONDS
        if not issued_at - SKEW_SECONDS <= now < ends_at:
            raise PawlError("token_expired", "the token has expired or is not valid yet")
        principal = _principal(claims, audience=self._audience)
        if len(self._good) >= CACHE_SIZE:
            self._good.clear()
        self._good[token] = (principal, ends_at)
        return principal

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            decoded = jwt.decode(token, key=self._key_of, algorithms=[ALGORITHM])
            claims = dict(decoded.claims)
            if decoded.header.get("kid") != claims["iss"]:
                raise PawlError("unauthenticated", "the token is signed with another's key")
            if decoded.header.get("typ") != _type_of("caller" if "sub" in claims else "service"):
                raise PawlError("unauthenticated", "the token is of another kind")
            float(claims["iat"]), float(claims["exp"])
            return claims
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise PawlError("unauthenticated", "the token is not valid") from error

    def _key_of(self, guest: Any) -> OKPKey:
        kid = guest.headers().get("kid")
        if not isinstance(kid, str) or kid not in self._keys:
            raise ValueError("no such key")
        return self._keys[kid]


def _principal(claims: Mapping[str, Any], *, audience: str) -> Principal:
    try:
        if "sub" in claims:
            return _caller(claims)
        if claims["aud"] != audience:
            raise PawlError("unauthenticated", "the token is for another service")
        return Service(
            name=claims["iss"],
            tenant_id=UUID(claims["tenant"]) if "tenant" in claims else None,
            task_id=UUID(claims["task"]) if "task" in claims else None,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise PawlError("unauthenticated", "the token lacks a claim or has a bad one") from error


def _caller(claims: Mapping[str, Any]) -> Caller:
    if claims["iss"] != "auth":
        raise PawlError("unauthenticated", "only auth signs for callers")
    return Caller(
        key_id=UUID(claims["sub"]),
        tenant_id=UUID(claims["tenant"]),
        tier=claims["tier"],
        scopes=frozenset(claims["scopes"]),
        roles=frozenset(claims["roles"]),
        mode=claims["mode"],
        limits=_tier_limits(claims["limits"]),
        expires_at=float(claims["exp"]),
        allowed_agent_ids=_unpacked(claims, "allowed_agent_ids"),
        allowed_task_ids=_unpacked(claims, "allowed_task_ids"),
    )


def _packed(ids: Iterable[str]) -> str:
    """UUIDs as base64url of their bytes, sorted. Metadata of a call may have 8 KiB, of which two
    lists of 100 UUIDs as text would take 10.
    """
    data = b"".join(UUID(one).bytes for one in sorted(ids))
    return base64.urlsafe_b64encode(data).decode()


def _unpacked(claims: Mapping[str, Any], name: str) -> frozenset[str] | None:
    """The canonical texts of packed UUIDs; ValueError for anything else, None where none are."""
    if name not in claims:
        return None
    data = base64.b64decode(claims[name], altchars=b"-_", validate=True)
    return frozenset(str(UUID(bytes=data[at : at + 16])) for at in range(0, len(data), 16))


def _tier_limits(claimed: Mapping[str, Any]) -> TierLimits:
    """The limits of a token, without those that only a later release knows."""
    return TierLimits(**{k: v for k, v in claimed.items() if k in _TIER_LIMITS})


def _sign(claims: Mapping[str, Any], *, key: OKPKey, kind: str) -> str:
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": _type_of(kind)}
    return jwt.encode(header, dict(claims), key, algorithms=[ALGORITHM])


def _type_of(kind: str) -> str:
    return f"pawl-{kind}+jwt"


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
