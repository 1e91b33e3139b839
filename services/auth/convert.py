"""Auth's messages to its model and back; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import field_error
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.rpc.convert import tier_limits_to_proto, to_timestamp
from services.auth.model import (
    ApiKey,
    Authenticated,
    KeyPage,
    KeyWanted,
    Permits,
    PermitsAsked,
    PermitsReturned,
    Tenant,
    TenantPage,
    TenantWanted,
    Usage,
)
from services.auth.names import parse_uuid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NANOS = 10**9


def authenticated_to_proto(answer: Authenticated) -> auth_service_pb2.AuthenticateResponse:
    """The answer to Authenticate."""
    key = answer.holder.key
    return auth_service_pb2.AuthenticateResponse(
        caller_token=answer.token,
        expires_at=to_timestamp(answer.expires_at),
        token_seconds=answer.token_seconds,
        tenant_id=str(key.tenant_id),
        key_id=str(key.id),
        tier=answer.holder.tier,
        limits=tier_limits_to_proto(answer.limits),
        scopes=key.scopes,
        mode=key.mode,
        permits=_permits_to_proto(answer.permits),
    )


def permits_asked_from_proto(message: auth_service_pb2.AuthenticateRequest) -> PermitsAsked:
    """Permits asked for, unchecked."""
    return PermitsAsked(wanted=message.permits_wanted, returned=message.permits_returned)


def permits_returned_from_proto(
    message: auth_service_pb2.ReturnPermitsRequest,
) -> tuple[PermitsReturned, ...]:
    """Permits given back, unchecked but for the ids: PawlError `validation_failed` for none."""
    return tuple(
        PermitsReturned(
            tenant_id=_tenant_id(one.tenant_id, field=f"permits[{index}].tenant_id"),
            mode=one.mode,
            count=one.count,
        )
        for index, one in enumerate(message.permits)
    )


def tenant_wanted_from_proto(message: auth_service_pb2.CreateTenantRequest) -> TenantWanted:
    """A tenant to make, unchecked."""
    return TenantWanted(name=message.name, tier=message.tier, email=message.email)


def key_wanted_from_proto(message: auth_service_pb2.CreateKeyRequest) -> KeyWanted:
    """A key to make, unchecked but for its end: PawlError `validation_failed` for no instant."""
    return KeyWanted(
        tenant=message.tenant,
        name=message.name,
        mode=message.mode,
        prefix=message.prefix,
        scopes=tuple(message.scopes),
        expires_at=_instant(message.expires_at) if message.HasField("expires_at") else None,
    )


def tenant_to_proto(tenant: Tenant) -> auth_pb2.Tenant:
    """A tenant."""
    return auth_pb2.Tenant(
        id=str(tenant.id),
        name=tenant.name,
        tier=tenant.tier,
        created_at=to_timestamp(tenant.created_at),
    )


def tenant_page_to_proto(page: TenantPage) -> auth_service_pb2.ListTenantsResponse:
    """A page of tenants."""
    return auth_service_pb2.ListTenantsResponse(
        tenants=[tenant_to_proto(tenant) for tenant in page.tenants],
        next_page_token=page.next_page_token,
    )


def key_to_proto(key: ApiKey) -> auth_pb2.ApiKey:
    """A key without its secret; None stays unset."""
    return auth_pb2.ApiKey(
        id=str(key.id),
        tenant_id=str(key.tenant_id),
        name=key.name,
        display=key.display,
        mode=key.mode,
        scopes=key.scopes,
        created_at=to_timestamp(key.created_at),
        expires_at=None if key.expires_at is None else to_timestamp(key.expires_at),
        revoked_at=None if key.revoked_at is None else to_timestamp(key.revoked_at),
    )


def key_page_to_proto(page: KeyPage) -> auth_service_pb2.ListKeysResponse:
    """A page of keys."""
    return auth_service_pb2.ListKeysResponse(
        keys=[key_to_proto(key) for key in page.keys], next_page_token=page.next_page_token
    )


def usage_to_proto(usage: Usage) -> auth_pb2.Usage:
    """A month's use."""
    return auth_pb2.Usage(month=usage.month, tasks=usage.tasks, steps=usage.steps)


def _permits_to_proto(permits: Permits) -> auth_pb2.Permits:
    return auth_pb2.Permits(
        granted=permits.granted,
        limit_name=permits.limit_name,
        limit=permits.limit,
        remaining=permits.remaining,
        reset_seconds=permits.reset_seconds,
        retry_after_seconds=permits.retry_after_seconds,
    )


def _tenant_id(text: str, *, field: str) -> UUID:
    tenant_id = parse_uuid(text)
    if tenant_id is None:
        detail = "it is not a UUID"
        raise field_error("validation_failed", field, detail, fine="invalid_format")
    return tenant_id


def _instant(stamp: Timestamp) -> datetime:
    """A caller's Timestamp, which can hold numbers that are no instant."""
    try:
        if not 0 <= stamp.nanos < _NANOS:
            raise OverflowError(f"{stamp.nanos} nanoseconds")
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError as error:
        detail = "it is not an instant between the years 1 and 9999"
        raise field_error(
            "validation_failed", "expires_at", detail, fine="invalid_format"
        ) from error
