"""The JSON shapes of people and the audit log, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.accounts.schemas import KEY_ID, TENANT_ID, Email, Id, TenantMeant, Time
from gateway.optional_members import ABSENT, Optional

USER: dict[str, Any] = {
    "number": 42,
    "tenant_id": TENANT_ID,
    "email": "ann@example.org",
    "role": "member",
    "created_at": "2026-02-27T11:00:00.000000+00:00",
}
AUDIT_ENTRY: dict[str, Any] = {
    "id": 1207,
    "at": "2026-02-27T11:00:00.000000+00:00",
    "tenant_id": TENANT_ID,
    "actor_key_id": KEY_ID,
    "actor_user_number": 41,
    "action": "user.role_changed",
    "subject": "42",
    "details": {"email": "ann@example.org", "role_before": "viewer", "role_after": "member"},
}
Role = Literal["owner", "admin", "member", "viewer"]
Action = Literal[
    "tenant.created",
    "tenant.tier_changed",
    "key.created",
    "key.rotated",
    "key.revoked",
    "user.created",
    "user.role_changed",
    "user.removed",
]


class CreateUser(BaseModel):
    """A person to add."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"email": "ann@example.org", "role": "member"}]},
    )
    tenant: Optional[TenantMeant] = ABSENT
    email: Email
    role: Literal["admin", "member", "viewer"]


class UpdateUser(BaseModel):
    """What of a person is to change. A new owner makes the old one an admin."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "admin"}]})
    role: Role


class User(BaseModel):
    """A person."""

    model_config = ConfigDict(json_schema_extra={"examples": [USER]})
    number: int = Field(description="Unique over all tenants, never given again.")
    tenant_id: Id
    email: str
    role: Role
    created_at: Time


class RemovedUser(User):
    """A person as they were."""

    model_config = ConfigDict(json_schema_extra={"examples": [USER | {"keys_revoked": 2}]})
    keys_revoked: int = Field(description="How many of their keys that revoked.")


class UserList(BaseModel):
    """A page of people by number."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [USER], "next_cursor": None}]}
    )
    data: list[User]
    next_cursor: str | None


class AuditEntry(BaseModel):
    """What was changed, by whom."""

    model_config = ConfigDict(json_schema_extra={"examples": [AUDIT_ENTRY]})
    id: int = Field(description="Grows with time.")
    at: Time
    tenant_id: Id = Field(description="The tenant that was changed.")
    actor_key_id: Id | None = Field(
        description="The key that made the change; null: the installation's command line."
    )
    actor_user_number: int | None = Field(description="The user whose key that is.")
    action: Action
    subject: str = Field(description="The id or number of what was changed.")
    details: dict[str, Any] = Field(description="What it was and what it is now.")


class AuditLog(BaseModel):
    """A page of the audit log, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [AUDIT_ENTRY], "next_cursor": None}]}
    )
    data: list[AuditEntry]
    next_cursor: str | None
