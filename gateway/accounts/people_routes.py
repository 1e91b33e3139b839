"""/v1/users and /v1/audit: parse, one call of auth, map."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from gateway.accounts import people_mapping as mapping
from gateway.accounts import people_schemas as schemas
from gateway.accounts.mapping import as_unknown, in_our_words
from gateway.accounts.routes import TENANT
from gateway.answers import json_answer, page_answer
from gateway.body import read_body
from gateway.call import open_call
from gateway.links import USER_LINKS, next_page
from gateway.openapi import (
    BODY_REFUSALS,
    CURSOR,
    LIMIT,
    REFUSALS,
    answer,
    problem_response,
    reads,
)
from gateway.route import Route
from libs.pb.pawl.auth.v1 import auth_service_pb2
from libs.rpc.client import caller_token

router = APIRouter(route_class=Route, tags=["Accounts"])
UserNumber = Annotated[str, Path(description="The user's number.", examples=["42"])]


@router.post(
    "/v1/users",
    summary="Add a person",
    status_code=201,
    response_model=schemas.User,
    responses=BODY_REFUSALS | answer(201, "The new person.", links=USER_LINKS),
    openapi_extra=reads(body=schemas.CreateUser),
)
async def create_user(request: Request) -> Response:
    """With no higher role than yours. Needs users:write."""
    call = await open_call(request)
    wanted = await read_body(request, mapping.user_wanted)
    with caller_token(call.token):
        said = await call.clients.auth.CreateUser(wanted)
    return json_answer(mapping.user_record(said.user), status=201)


@router.get(
    "/v1/users",
    summary="List people",
    response_model=schemas.UserList,
    responses=REFUSALS | answer(200, "A page of them.", links=next_page("list_users")),
    openapi_extra=reads(LIMIT, CURSOR, TENANT),
)
async def list_users(request: Request) -> Response:
    """A tenant's people by number. Needs users:read."""
    call = await open_call(request, query=("limit", "cursor", "tenant"))
    asked = mapping.users_asked(call.query)
    with caller_token(call.token), in_our_words():
        said = await call.clients.auth.ListUsers(asked)
    users = [mapping.user_record(user) for user in said.users]
    return page_answer(users, next_page_token=said.next_page_token)


@router.patch(
    "/v1/users/{number}",
    summary="Give a person another role",
    response_model=schemas.User,
    responses=BODY_REFUSALS,
    openapi_extra=reads(body=schemas.UpdateUser),
)
async def update_user(request: Request, number: UserNumber) -> Response:
    """Their keys can do no more than the role within 5 s. Making somebody the owner makes the owner
    an admin. Needs users:write.
    """
    call = await open_call(request)
    parse = partial(mapping.role_wanted, number=mapping.user_number_of(number))
    wanted = await read_body(request, parse)
    with caller_token(call.token), as_unknown(mapping.no_such_user):
        said = await call.clients.auth.UpdateUser(wanted)
    return json_answer(mapping.user_record(said.user))


@router.delete(
    "/v1/users/{number}",
    summary="Remove a person",
    response_model=schemas.RemovedUser,
    responses=REFUSALS | {409: problem_response(409)},
)
async def remove_user(request: Request, number: UserNumber) -> Response:
    """For good, and their keys are revoked. The owner is 409. Needs users:write."""
    call = await open_call(request)
    asked = auth_service_pb2.RemoveUserRequest(number=mapping.user_number_of(number))
    with caller_token(call.token), as_unknown(mapping.no_such_user):
        said = await call.clients.auth.RemoveUser(asked)
    return json_answer(mapping.user_record(said.user) | {"keys_revoked": said.keys_revoked})


@router.get(
    "/v1/audit",
    summary="Read the audit log",
    response_model=schemas.AuditLog,
    responses=REFUSALS | answer(200, "A page of it.", links=next_page("list_audit")),
    openapi_extra=reads(LIMIT, CURSOR, TENANT),
)
async def list_audit(request: Request) -> Response:
    """What was changed of a tenant, by whom, newest first. Needs audit:read."""
    call = await open_call(request, query=("limit", "cursor", "tenant"))
    asked = mapping.audit_asked(call.query)
    with caller_token(call.token), in_our_words():
        said = await call.clients.auth.ListAudit(asked)
    entries = [mapping.audit_record(entry) for entry in said.entries]
    return page_answer(entries, next_page_token=said.next_page_token)
