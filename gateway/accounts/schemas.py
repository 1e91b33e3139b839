"""The JSON shapes of tenants and keys, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TENANT_ID = "0199d29f-1be0-7d05-8f2a-5cf3a6d0a911"
KEY_ID = "0199d29f-8a44-7f6e-b1d4-0e9c5a7b3f62"
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
}
Scope = Literal["tasks:read", "tasks:write", "keys:read", "keys:write", "operator"]
Tier = Literal["free", "starter", "pro", "enterprise"]


class CreateTenant(BaseModel):
    """An account to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "acme", "tier": "pro"}]}
    )
    name: str = Field(pattern="^[a-z][a-z0-9-]{0,63}$")
    tier: Tier
    email: str = Field("", description="The owner's address.")


class Tenant(BaseModel):
    """An account."""

    model_config = ConfigDict(json_schema_extra={"examples": [TENANT]})
    id: str
    name: str
    tier: Tier
    created_at: str


class TenantList(BaseModel):
    """A page of accounts by name."""

    data: list[Tenant]
    next_cursor: str | None


class CreateKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "ci", "scopes": ["tasks:read", "tasks:write"]}, {}]
        },
    )
    tenant: str = Field("", description="Name or id; yours when absent, another's for operators.")
    name: str = Field("", max_length=100, description="A label for people.")
    mode: Literal["live", "test"] = "live"
    prefix: Literal["pawl", "atx", "ra"] = Field("pawl", description="Only how the key looks.")
    scopes: list[Scope] = Field([], description="What it may do; all but operator when absent.")
    expires_at: str = Field("", description="RFC 3339; never when absent.")


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEY]})
    id: str
    tenant_id: str
    name: str
    display: str = Field(description="The part that is shown.")
    mode: Literal["live", "test"]
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewKey(Key):
    """A key and its secret, which is never shown again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [KEY | {"key": "pawl_live_…all 48 characters…"}]}
    )
    key: str


class KeyList(BaseModel):
    """A page of keys, newest first, revoked ones included."""

    data: list[Key]
    next_cursor: str | None
