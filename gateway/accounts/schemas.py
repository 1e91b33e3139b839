"""The JSON shapes of tenants and keys, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.optional_members import ABSENT, Optional

TENANT_ID = "0199d29f-1be0-7d05-8f2a-5cf3a6d0a911"
KEY_ID = "0199d29f-8a44-7f6e-b1d4-0e9c5a7b3f62"
AGENT_ID = "0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55"
TENANT: dict[str, Any] = {
    "id": TENANT_ID,
    "name": "acme",
    "tier": "pro",
    "created_at": "2026-02-27T11:00:00.000000+00:00",
}
KEY: dict[str, Any] = {
    "id": KEY_ID,
    "tenant_id": TENANT_ID,
    "name": "ci",
    "display": "pawl_live_…9xQ2",
    "mode": "live",
    "scopes": ["tasks:read", "tasks:write"],
    "created_at": "2026-02-27T11:00:00.000000+00:00",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": "2026-02-27T11:18:00.000000+00:00",
    "user_number": 42,
    "allowed_agent_ids": [AGENT_ID],
    "allowed_task_ids": None,
    "replaced_by_id": None,
}
Grantable = Literal[
    "tasks:read",
    "tasks:write",
    "keys:read",
    "keys:write",
    "users:read",
    "users:write",
    "audit:read",
]
Scope = Grantable | Literal["operator"]
Mode = Literal["live", "test"]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
TENANT_PATTERN = "^([a-z][a-z0-9-]{0,63}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"
TenantMeant = Annotated[
    str,
    Field(
        pattern=TENANT_PATTERN,
        description="Name or id; yours when absent, another's for operators.",
    ),
]
Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Ids = Annotated[list[Id], Field(max_length=100)]
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
Email = Annotated[
    str,
    Field(
        pattern=rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(\.{_LABEL})*$",
        max_length=254,
    ),
]
Tier = Literal["free", "starter", "pro", "enterprise"]


class CreateTenant(BaseModel):
    """An account to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "acme", "tier": "pro"}]}
    )
    name: str = Field(pattern="^[a-z][a-z0-9-]{0,63}$")
    tier: Tier
    email: Optional[Annotated[Email, Field(description="The owner's address.")]] = ABSENT


class Tenant(BaseModel):
    """An account."""

    model_config = ConfigDict(json_schema_extra={"examples": [TENANT]})
    id: Id
    name: str
    tier: Tier
    created_at: Time


class UpdateTenant(BaseModel):
    """What of an account is to change."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"tier": "enterprise"}]}
    )
    tier: Tier


class TenantList(BaseModel):
    """A page of accounts by name."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [TENANT], "next_cursor": None}]}
    )
    data: list[Tenant]
    next_cursor: str | None


class CreateKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "ci", "scopes": ["tasks:read", "tasks:write"]},
                {"allowed_agent_ids": [AGENT_ID], "expires_at": "2027-01-01T00:00:00Z"},
                {},
            ]
        },
    )
    tenant: Optional[TenantMeant] = ABSENT
    name: Optional[
        Annotated[
            str,
            Field(
                max_length=100,
                pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
                description="A label for people, of one line.",
            ),
        ]
    ] = ABSENT
    mode: Optional[Annotated[Mode, Field(description="live when absent.")]] = ABSENT
    prefix: Optional[
        Annotated[
            Literal["pawl", "atx", "ra"],
            Field(description="Only how the key looks; pawl when absent."),
        ]
    ] = ABSENT
    scopes: Optional[
        Annotated[
            list[Grantable],
            Field(
                min_length=1,
                description="What it may do; all that the role of its user allows when absent.",
            ),
        ]
    ] = ABSENT
    expires_at: Optional[Annotated[Time, Field(description="Never when absent.")]] = ABSENT
    allowed_agent_ids: Optional[
        Annotated[
            Ids,
            Field(
                description="The agents that it may use, none when empty; as your own key when"
                " absent."
            ),
        ]
    ] = ABSENT
    allowed_task_ids: Optional[
        Annotated[
            Ids,
            Field(
                description="The definitions that it may run, none when empty; as your own key when"
                " absent."
            ),
        ]
    ] = ABSENT
    user_number: Optional[
        Annotated[
            int,
            Field(
                ge=1,
                le=2**53 - 1,
                description="Whose key it is, of no higher role than yours; yours when absent.",
            ),
        ]
    ] = ABSENT


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEY]})
    id: Id
    tenant_id: Id
    name: str
    display: str = Field(description="The part that is shown.")
    mode: Mode
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="To about a minute.")
    user_number: int = Field(description="Whose key it is.")
    allowed_agent_ids: list[str] | None = Field(description="Null: every agent.")
    allowed_task_ids: list[str] | None = Field(description="Null: every definition.")
    replaced_by_id: Id | None = Field(description="The key that took its place by rotation.")


class NewKey(Key):
    """A key and its secret, which is never shown again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [KEY | {"key": "pawl_live_…all 48 characters…"}]}
    )
    key: str


class RotateKey(BaseModel):
    """How a key is to be replaced."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 3600}, {}]}
    )
    overlap_seconds: Optional[
        Annotated[
            int,
            Field(
                ge=0,
                le=2_592_000,
                description="For how long the old key stays good; a day when absent.",
            ),
        ]
    ] = ABSENT
    expires_at: Optional[
        Annotated[
            Time,
            Field(
                description="When the new key ends, not before the old one; when the old one was to"
                " end when absent."
            ),
        ]
    ] = ABSENT


class RotatedKey(NewKey):
    """The new key with its secret, and the key that it replaces."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                KEY
                | {
                    "key": "pawl_live_…all 48 characters…",
                    "replaced": KEY
                    | {
                        "id": "0199d29f-0b1c-7d20-a4f7-64d1c0f3b2e8",
                        "display": "pawl_live_…tR7a",
                        "expires_at": "2026-02-28T11:00:00.000000+00:00",
                        "replaced_by_id": KEY_ID,
                    },
                }
            ]
        }
    )
    replaced: Key


class KeyList(BaseModel):
    """A page of keys, newest first, revoked ones included."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"data": [KEY], "next_cursor": None}]}
    )
    data: list[Key]
    next_cursor: str | None
