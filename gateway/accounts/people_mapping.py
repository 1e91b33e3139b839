"""People and the audit log: the API's words to auth's and back."""

from __future__ import annotations

import re
from typing import Any

from gateway.answers import embedded, stamp
from gateway.members import Members
from gateway.query import Query, cursor_of, limit_of, text_of
from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def user_wanted(body: dict[str, Json]) -> auth_service_pb2.CreateUserRequest:
    """The person that a body asks for; what its members may say, auth checks."""
    members = Members(body)
    wanted = auth_service_pb2.CreateUserRequest(
        tenant=members.text("tenant"),
        email=members.text("email", required=True),
        role=members.text("role", required=True),
    )
    members.check()
    return wanted


def role_wanted(body: dict[str, Json], *, number: int) -> auth_service_pb2.UpdateUserRequest:
    """The role that a body asks for."""
    members = Members(body)
    wanted = auth_service_pb2.UpdateUserRequest(
        number=number, role=members.text("role", required=True)
    )
    members.check()
    return wanted


def users_asked(query: Query) -> auth_service_pb2.ListUsersRequest:
    """The page of people that a query asks for."""
    return auth_service_pb2.ListUsersRequest(
        tenant=text_of(query, "tenant"), page_size=limit_of(query), page_token=cursor_of(query)
    )


def audit_asked(query: Query) -> auth_service_pb2.ListAuditRequest:
    """The page of the audit log that a query asks for."""
    return auth_service_pb2.ListAuditRequest(
        tenant=text_of(query, "tenant"), page_size=limit_of(query), page_token=cursor_of(query)
    )


def user_number_of(text: str) -> int:
    """A user's number; anything else is answered as an unknown one is."""
    if _NUMBER.fullmatch(text) is None:
        raise no_such_user()
    return int(text)


def no_such_user() -> PawlError:
    """The same words for what is no number, is unknown or belongs to another tenant."""
    return PawlError("not_found", "there is no such user")


def user_record(user: auth_pb2.User) -> dict[str, Any]:
    """A person."""
    return {
        "number": user.number,
        "tenant_id": user.tenant_id,
        "email": user.email,
        "role": user.role,
        "created_at": stamp(user.created_at),
    }


def audit_record(entry: auth_pb2.AuditEntry) -> dict[str, Any]:
    """A line of the audit log."""
    by_user = entry.HasField("actor_user_number")
    return {
        "id": entry.id,
        "at": stamp(entry.at),
        "tenant_id": entry.tenant_id,
        "actor_key_id": entry.actor_key_id if entry.HasField("actor_key_id") else None,
        "actor_user_number": entry.actor_user_number if by_user else None,
        "action": entry.action,
        "subject": entry.subject,
        "details": embedded(entry.details_json),
    }
