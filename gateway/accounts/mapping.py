"""Tenants and keys: the API's words to auth's and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gateway.answers import rfc3339, stamp
from gateway.members import Members
from gateway.query import Query, cursor_of, limit_of
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.ids import parse_id
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.rpc.convert import from_timestamp, to_timestamp

_FIELDS = {"page_size": "limit", "page_token": "cursor"}


def tenant_wanted(body: dict[str, Json]) -> auth_service_pb2.CreateTenantRequest:
    """The tenant that a body asks for; what its members may say, auth checks."""
    members = Members(body)
    wanted = auth_service_pb2.CreateTenantRequest(
        name=members.text("name", required=True),
        tier=members.text("tier", required=True),
        email=members.text("email"),
    )
    members.check()
    return wanted


def key_wanted(body: dict[str, Json]) -> auth_service_pb2.CreateKeyRequest:
    """The key that a body asks for; what its members may say, auth checks."""
    members = Members(body)
    expires_at = members.instant("expires_at")
    wanted = auth_service_pb2.CreateKeyRequest(
        tenant=members.text("tenant"),
        name=members.text("name", min_length=0),
        mode=members.text("mode"),
        prefix=members.text("prefix"),
        scopes=_scopes(members),
        expires_at=None if expires_at is None else to_timestamp(expires_at),
    )
    members.check()
    return wanted


def tenants_asked(query: Query) -> auth_service_pb2.ListTenantsRequest:
    """The page of tenants that a query asks for."""
    return auth_service_pb2.ListTenantsRequest(
        page_size=limit_of(query), page_token=cursor_of(query)
    )


def keys_asked(query: Query) -> auth_service_pb2.ListKeysRequest:
    """The page of keys that a query asks for."""
    return auth_service_pb2.ListKeysRequest(
        tenant=query.get("tenant", ""), page_size=limit_of(query), page_token=cursor_of(query)
    )


def key_id_of(text: str) -> str:
    """A key's id; anything else is answered as an unknown id is."""
    key_id = parse_id(text, prefix="key_")
    if key_id is None:
        raise no_such_key()
    return str(key_id)


def no_such_key() -> PawlError:
    """The same words for what is no id, is unknown or belongs to another tenant."""
    return PawlError("not_found", "there is no such key")


def tenant_record(tenant: auth_pb2.Tenant) -> dict[str, Any]:
    """A tenant."""
    return {
        "id": tenant.id,
        "name": tenant.name,
        "tier": tenant.tier,
        "created_at": stamp(tenant.created_at),
    }


def key_record(key: auth_pb2.ApiKey) -> dict[str, Any]:
    """A key without its secret."""
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "name": key.name,
        "display": key.display,
        "mode": key.mode,
        "scopes": list(key.scopes),
        "created_at": stamp(key.created_at),
        "expires_at": rfc3339(from_timestamp(key.expires_at))
        if key.HasField("expires_at")
        else None,
        "revoked_at": rfc3339(from_timestamp(key.revoked_at))
        if key.HasField("revoked_at")
        else None,
    }


@contextmanager
def in_our_words() -> Iterator[None]:
    """Turn auth's refusal into the API's names of fields."""
    try:
        yield
    except PawlError as error:
        errors = tuple(replace(e, field=_FIELDS.get(e.field, e.field)) for e in error.errors)
        message = error.message
        for theirs, ours in _FIELDS.items():
            message = message.replace(f"{theirs}:", f"{ours}:")
        raise PawlError(
            error.code, message, errors=errors, retry_after_seconds=error.retry_after_seconds
        ) from error


def _scopes(members: Members) -> list[str] | None:
    """The scopes asked for. An empty list is refused: to auth it would mean all of them."""
    scopes = members.texts("scopes")
    if scopes == []:
        detail = "at least one scope is needed; leave it out for all that a key can have"
        members.refuse("scopes", "out_of_range", detail)
    return scopes
