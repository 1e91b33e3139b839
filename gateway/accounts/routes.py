"""/v1/tenants and /v1/keys: parse, one call of auth, map."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.accounts import mapping, schemas
from gateway.answers import json_answer, page_answer
from gateway.body import read_body
from gateway.call import open_call
from gateway.links import KEY_LINKS, TENANT_LINKS, next_page
from gateway.openapi import (
    BODY_REFUSALS,
    CURSOR,
    LIMIT,
    REFUSALS,
    answer,
    query_parameter,
    reads,
)
from gateway.optional_body import read_optional_body
from gateway.route import Route
from libs.pb.pawl.auth.v1 import auth_service_pb2
from libs.rpc.client import caller_token

router = APIRouter(route_class=Route, tags=["Accounts"])
KeyId = Annotated[str, Path(description="The key's id, a UUID.", examples=[schemas.KEY_ID])]
TenantRef = Annotated[str, Path(description="A tenant's name or id.", examples=["acme"])]
TENANT = query_parameter(
    "tenant",
    "A tenant's name or id; for operators.",
    {"type": "string", "pattern": schemas.TENANT_PATTERN},
)


@router.post(
    "/v1/tenants",
    summary="Make a tenant",
    status_code=201,
    response_model=schemas.Tenant,
    responses=BODY_REFUSALS | answer(201, "The new tenant.", links=TENANT_LINKS),
    openapi_extra=reads(body=schemas.CreateTenant),
)
async def create_tenant(request: Request) -> Response:
    """Needs the scope operator."""
    call = await open_call(request)
    wanted = await read_body(request, mapping.tenant_wanted)
    with caller_token(call.token), mapping.in_our_words():
        said = await call.clients.auth.CreateTenant(wanted)
    return json_answer(mapping.tenant_record(said.tenant), status=201)


@router.get(
    "/v1/tenants",
    summary="List tenants",
    response_model=schemas.TenantList,
    responses=REFUSALS | answer(200, "A page of them.", links=next_page("list_tenants")),
    openapi_extra=reads(LIMIT, CURSOR),
)
async def list_tenants(request: Request) -> Response:
    """All tenants by name. Needs the scope operator."""
    call = await open_call(request, query=("limit", "cursor"))
    asked = mapping.tenants_asked(call.query)
    with caller_token(call.token), mapping.in_our_words():
        said = await call.clients.auth.ListTenants(asked)
    tenants = [mapping.tenant_record(tenant) for tenant in said.tenants]
    return page_answer(tenants, next_page_token=said.next_page_token)


@router.get(
    "/v1/tenants/{tenant}",
    summary="Look at a tenant",
    response_model=schemas.Tenant,
    responses=REFUSALS,
)
async def get_tenant(request: Request, tenant: TenantRef) -> Response:
    """Your own needs keys:read, another the scope operator."""
    call = await open_call(request)
    asked = auth_service_pb2.GetTenantRequest(tenant=mapping.tenant_ref_of(tenant))
    with caller_token(call.token):
        said = await call.clients.auth.GetTenant(asked)
    return json_answer(mapping.tenant_record(said.tenant))


@router.patch(
    "/v1/tenants/{tenant}",
    summary="Give a tenant another tier",
    response_model=schemas.Tenant,
    responses=BODY_REFUSALS,
    openapi_extra=reads(body=schemas.UpdateTenant),
)
async def update_tenant(request: Request, tenant: TenantRef) -> Response:
    """New requests have its limits within 5 s; accepted tasks keep theirs. Needs operator."""
    call = await open_call(request)
    parse = partial(mapping.tier_wanted, tenant=mapping.tenant_ref_of(tenant))
    wanted = await read_body(request, parse)
    with caller_token(call.token):
        said = await call.clients.auth.UpdateTenant(wanted)
    return json_answer(mapping.tenant_record(said.tenant))


@router.post(
    "/v1/keys",
    summary="Make a key",
    status_code=201,
    response_model=schemas.NewKey,
    responses=BODY_REFUSALS | answer(201, "The new key.", links=KEY_LINKS),
    openapi_extra=reads(body=schemas.CreateKey),
)
async def create_key(request: Request) -> Response:
    """The answer is the only place where the key's secret is ever shown. Needs keys:write."""
    call = await open_call(request)
    wanted = await read_body(request, mapping.key_wanted)
    with caller_token(call.token), mapping.in_our_words():
        said = await call.clients.auth.CreateKey(wanted)
    return json_answer(mapping.key_record(said.key) | {"key": said.secret}, status=201)


@router.get(
    "/v1/keys",
    summary="List keys",
    response_model=schemas.KeyList,
    responses=REFUSALS | answer(200, "A page of them.", links=next_page("list_keys")),
    openapi_extra=reads(LIMIT, CURSOR, TENANT),
)
async def list_keys(request: Request) -> Response:
    """A tenant's keys, newest first, without their secrets. Needs keys:read."""
    call = await open_call(request, query=("limit", "cursor", "tenant"))
    asked = mapping.keys_asked(call.query)
    with caller_token(call.token), mapping.in_our_words():
        said = await call.clients.auth.ListKeys(asked)
    keys = [mapping.key_record(key) for key in said.keys]
    return page_answer(keys, next_page_token=said.next_page_token)


@router.get(
    "/v1/keys/{key_id}",
    summary="Look at a key",
    response_model=schemas.Key,
    responses=REFUSALS,
)
async def get_key(request: Request, key_id: KeyId) -> Response:
    """Without its secret. Needs keys:read."""
    call = await open_call(request)
    asked = auth_service_pb2.GetKeyRequest(key_id=mapping.key_id_of(key_id))
    with caller_token(call.token), mapping.as_unknown(mapping.no_such_key):
        said = await call.clients.auth.GetKey(asked)
    return json_answer(mapping.key_record(said.key))


@router.post(
    "/v1/keys/{key_id}/rotate",
    summary="Rotate a key",
    status_code=201,
    response_model=schemas.RotatedKey,
    responses=BODY_REFUSALS | answer(201, "The new key.", links=KEY_LINKS),
    openapi_extra=reads(body=schemas.RotateKey, is_body_required=False),
)
async def rotate_key(request: Request, key_id: KeyId) -> Response:
    """Make a key that may do what this one may; both are good for overlap_seconds. The answer is
    the only place where the new secret is ever shown. A key is rotated once: again is 409. Needs
    keys:write.
    """
    call = await open_call(request)
    parse = partial(mapping.rotation_wanted, key_id=mapping.key_id_of(key_id))
    wanted = await read_optional_body(request, parse)
    with caller_token(call.token), mapping.as_unknown(mapping.no_such_key):
        said = await call.clients.auth.RotateKey(wanted)
    return json_answer(mapping.rotated_record(said), status=201)


@router.delete(
    "/v1/keys/{key_id}",
    summary="Revoke a key",
    response_model=schemas.Key,
    responses=REFUSALS,
)
async def revoke_key(request: Request, key_id: KeyId) -> Response:
    """For good, and refused everywhere within 5 s; again changes nothing. Needs keys:write."""
    call = await open_call(request)
    asked = auth_service_pb2.RevokeKeyRequest(key_id=mapping.key_id_of(key_id))
    with caller_token(call.token), mapping.as_unknown(mapping.no_such_key):
        said = await call.clients.auth.RevokeKey(asked)
    return json_answer(mapping.key_record(said.key))
