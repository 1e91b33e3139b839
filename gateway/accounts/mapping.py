"""Tenants and keys: the API's words to auth's and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from gateway.answers import stamp
from gateway.members import Members
from gateway.query import Query, cursor_of, limit_of, text_of
from gateway.wording import reworded
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.ids import parse_id
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.rpc.convert import to_timestamp

MAX_IDS = 100
MAX_USER_NUMBER = 2**53 - 1

_TENANT = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
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
        allowed_agent_ids=_ids(members, "allowed_agent_ids"),
        allowed_task_ids=_ids(members, "allowed_task_ids"),
        user_number=members.integer("user_number", minimum=1, maximum=MAX_USER_NUMBER),
    )
    members.check()
    return wanted


def tier_wanted(body: dict[str, Json], *, tenant: str) -> auth_service_pb2.UpdateTenantRequest:
    """The tier that a body asks for."""
    members = Members(body)
    wanted = auth_service_pb2.UpdateTenantRequest(
        tenant=tenant, tier=members.text("tier", required=True)
    )
    members.check()
    return wanted


def rotation_wanted(body: dict[str, Json], *, key_id: str) -> auth_service_pb2.RotateKeyRequest:
    """The rotation that a body asks for; what its members may say, auth checks."""
    members = Members(body)
    expires_at = members.instant("expires_at")
    wanted = auth_service_pb2.RotateKeyRequest(
        key_id=key_id,
        overlap_seconds=members.integer("overlap_seconds", minimum=0, maximum=2**31 - 1),
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
        tenant=text_of(query, "tenant"), page_size=limit_of(query), page_token=cursor_of(query)
    )


def key_id_of(text: str) -> str:
    """A key's id; anything else is answered as an unknown id is."""
    key_id = parse_id(text, prefix="key_")
    if key_id is None:
        raise no_such_key()
    return str(key_id)


def tenant_ref_of(text: str) -> str:
    """A tenant's name or id; anything else is answered as a tenant that there is not."""
    if _TENANT.fullmatch(text) is None and parse_id(text) is None:
        raise PawlError("not_found", "there is no such tenant")
    return text


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
        "expires_at": stamp(key.expires_at) if key.HasField("expires_at") else None,
        "revoked_at": stamp(key.revoked_at) if key.HasField("revoked_at") else None,
        "last_used_at": stamp(key.last_used_at) if key.HasField("last_used_at") else None,
        "user_number": key.user_number,
        "allowed_agent_ids": list(key.allowed_agent_ids.ids)
        if key.HasField("allowed_agent_ids")
        else None,
        "allowed_task_ids": list(key.allowed_task_ids.ids)
        if key.HasField("allowed_task_ids")
        else None,
        "replaced_by_id": key.replaced_by_id if key.HasField("replaced_by_id") else None,
    }


def rotated_record(said: auth_service_pb2.RotateKeyResponse) -> dict[str, Any]:
    """A new key with its secret, and the key that it replaces."""
    return key_record(said.key) | {"key": said.secret, "replaced": key_record(said.replaced)}


@contextmanager
def as_unknown(no_such: Callable[[], PawlError]) -> Iterator[None]:
    """Turn auth's not_found into the words for what is no id."""
    try:
        yield
    except PawlError as error:
        raise no_such() if error.code == "not_found" else error from error


def in_our_words() -> AbstractContextManager[None]:
    """Turn auth's refusal into the API's names of fields."""
    return reworded(_FIELDS)


def _ids(members: Members, name: str) -> auth_pb2.IdAllowList | None:
    """The ids of that name; an empty list allows none, an absent one is the caller's own."""
    ids = members.texts(name, max_items=MAX_IDS)
    return None if ids is None else auth_pb2.IdAllowList(ids=ids)


def _scopes(members: Members) -> list[str] | None:
    """The scopes asked for. An empty list is refused: to auth it would mean all of them."""
    scopes = members.texts("scopes")
    if scopes == []:
        detail = "at least one scope is needed; leave it out for all that a key can have"
        members.refuse("scopes", "out_of_range", detail)
    return scopes
