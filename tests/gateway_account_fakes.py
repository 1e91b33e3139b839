"""What the fake auth answers about keys, people and the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.convert import to_timestamp

AT = datetime(2026, 2, 27, 11, 0, tzinfo=UTC)
AGENT = "0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55"
UNKNOWN_KEY = "00000000-0000-0000-0000-000000000000"
UNKNOWN_USER = 404
OWNER = 1


def stamp(hours: float) -> Timestamp:
    """A moment so many hours after these tests' morning."""
    return to_timestamp(AT + timedelta(hours=hours))


def make_key(**members: Any) -> auth_pb2.ApiKey:
    """A key, as auth would send it; `members` replace its own."""
    made: dict[str, Any] = {
        "id": str(new_id()),
        "tenant_id": str(new_id()),
        "name": "ci",
        "display": "pawl_live_...abcd",
        "mode": "live",
        "scopes": ["tasks:read"],
        "created_at": stamp(0),
        "user_number": 42,
    }
    return auth_pb2.ApiKey(**made | members)


def make_user(**members: Any) -> auth_pb2.User:
    """A person."""
    made: dict[str, Any] = {
        "number": 42,
        "tenant_id": str(new_id()),
        "email": "ann@example.org",
        "role": "member",
        "created_at": stamp(0),
    }
    return auth_pb2.User(**made | members)


class AccountAnswers:
    """RPCs of auth that tests of the gateway's accounts call."""

    requests: list[Any]

    async def GetTenant(self, request: pb.GetTenantRequest, _context: object) -> Any:
        self.requests.append(request)
        tenant = auth_pb2.Tenant(
            id=str(new_id()), name=request.tenant, tier="pro", created_at=stamp(0)
        )
        return pb.GetTenantResponse(tenant=tenant)

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, _context: object) -> Any:
        self.requests.append(request)
        tenant = auth_pb2.Tenant(
            id=str(new_id()), name=request.tenant, tier=request.tier, created_at=stamp(0)
        )
        return pb.UpdateTenantResponse(tenant=tenant)

    async def GetKey(self, request: pb.GetKeyRequest, _context: object) -> Any:
        self.requests.append(request)
        _refuse_unknown_key(request.key_id)
        key = make_key(
            id=request.key_id,
            allowed_agent_ids=auth_pb2.IdAllowList(ids=[AGENT]),
            allowed_task_ids=auth_pb2.IdAllowList(),
            last_used_at=stamp(1),
        )
        return pb.GetKeyResponse(key=key)

    async def RotateKey(self, request: pb.RotateKeyRequest, _context: object) -> Any:
        self.requests.append(request)
        _refuse_unknown_key(request.key_id)
        made = make_key()
        replaced = make_key(id=request.key_id, replaced_by_id=made.id, expires_at=stamp(24))
        return pb.RotateKeyResponse(key=made, secret="pawl_live_new", replaced=replaced)

    async def CreateUser(self, request: pb.CreateUserRequest, _context: object) -> Any:
        self.requests.append(request)
        user = make_user(email=request.email, role=request.role)
        return pb.CreateUserResponse(user=user)

    async def ListUsers(self, request: pb.ListUsersRequest, _context: object) -> Any:
        self.requests.append(request)
        return pb.ListUsersResponse(users=[make_user()], next_page_token="more")

    async def UpdateUser(self, request: pb.UpdateUserRequest, _context: object) -> Any:
        self.requests.append(request)
        _refuse_unknown_user(request.number)
        return pb.UpdateUserResponse(user=make_user(number=request.number, role=request.role))

    async def RemoveUser(self, request: pb.RemoveUserRequest, _context: object) -> Any:
        self.requests.append(request)
        _refuse_unknown_user(request.number)
        if request.number == OWNER:
            raise PawlError("conflict", "the owner cannot be removed")
        return pb.RemoveUserResponse(user=make_user(number=request.number), keys_revoked=2)

    async def ListAudit(self, request: pb.ListAuditRequest, _context: object) -> Any:
        self.requests.append(request)
        mine = auth_pb2.AuditEntry(
            id=8,
            tenant_id=str(new_id()),
            actor_key_id=str(new_id()),
            actor_user_number=42,
            action="user.created",
            subject="43",
            details_json='{"email":"bo@example.org","role":"viewer"}',
            at=stamp(0),
        )
        by_installation = auth_pb2.AuditEntry(
            id=7,
            tenant_id=str(new_id()),
            action="key.created",
            subject=str(new_id()),
            details_json="{}",
            at=stamp(0),
        )
        return pb.ListAuditResponse(entries=[mine, by_installation])


def _refuse_unknown_key(key_id: str) -> None:
    if key_id == UNKNOWN_KEY:
        raise PawlError("not_found", f"there is no key {key_id}")


def _refuse_unknown_user(number: int) -> None:
    if number == UNKNOWN_USER:
        raise PawlError("not_found", f"there is no user {number}")
