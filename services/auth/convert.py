"""Auth's messages to its model and back; pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import field_error
from libs.core.tiers import TIERS
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2
from libs.rpc.convert import tier_limits_to_proto, to_timestamp
from services.auth.model import (
    AllowList,
    ApiKey,
    AuditLine,
    AuditPage,
    Authenticated,
    DayUsage,
    KeyPage,
    KeyWanted,
    MonthUsage,
    Permits,
    PermitsAsked,
    PermitsReturned,
    Rotated,
    RotationWanted,
    Tenant,
    TenantPage,
    TenantWanted,
    User,
    UserPage,
    UserWanted,
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
        scopes=answer.scopes,
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
        allowed_agent_ids=_ids(message, "allowed_agent_ids"),
        allowed_task_ids=_ids(message, "allowed_task_ids"),
        user_number=message.user_number if message.HasField("user_number") else None,
    )


def rotation_wanted_from_proto(message: auth_service_pb2.RotateKeyRequest) -> RotationWanted:
    """A key to replace, unchecked but for the new one's end, as `key_wanted_from_proto`."""
    return RotationWanted(
        key_id=message.key_id,
        overlap_seconds=message.overlap_seconds if message.HasField("overlap_seconds") else None,
        expires_at=_instant(message.expires_at) if message.HasField("expires_at") else None,
    )


def user_wanted_from_proto(message: auth_service_pb2.CreateUserRequest) -> UserWanted:
    """A person to add, unchecked."""
    return UserWanted(tenant=message.tenant, email=message.email, role=message.role)


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
        expires_at=_stamp(key.expires_at),
        revoked_at=_stamp(key.revoked_at),
        allowed_agent_ids=_list_to_proto(key.allowed_agent_ids),
        allowed_task_ids=_list_to_proto(key.allowed_task_ids),
        last_used_at=_stamp(key.last_used_at),
        user_number=key.user_number,
        replaced_by_id=None if key.replaced_by_id is None else str(key.replaced_by_id),
    )


def key_page_to_proto(page: KeyPage) -> auth_service_pb2.ListKeysResponse:
    """A page of keys."""
    return auth_service_pb2.ListKeysResponse(
        keys=[key_to_proto(key) for key in page.keys], next_page_token=page.next_page_token
    )


def rotated_to_proto(rotated: Rotated) -> auth_service_pb2.RotateKeyResponse:
    """Both keys, and the secret of the new one."""
    return auth_service_pb2.RotateKeyResponse(
        key=key_to_proto(rotated.made.key),
        secret=rotated.made.secret,
        replaced=key_to_proto(rotated.replaced),
    )


def month_usage_to_proto(usage: MonthUsage) -> auth_service_pb2.GetUsageResponse:
    """A month's use, who asks, and what the tenant may use."""
    used, account = usage.amounts, usage.account
    return auth_service_pb2.GetUsageResponse(
        usage=auth_pb2.Usage(
            month=usage.month,
            tasks=used.tasks,
            steps=used.steps,
            requests=usage.requests,
            sandbox_ms=used.sandbox_ms,
            tokens=used.tokens,
            cost_usd=float(used.cost_usd),
        ),
        user=user_to_proto(account.user),
        tier=account.tier,
        limits=tier_limits_to_proto(TIERS[account.tier]),
    )


def day_usage_to_proto(usage: DayUsage) -> auth_pb2.DayUsage:
    """A day's use."""
    used = usage.amounts
    return auth_pb2.DayUsage(
        day=usage.day.isoformat(),
        tasks=used.tasks,
        steps=used.steps,
        requests=usage.requests,
        sandbox_ms=used.sandbox_ms,
        tokens=used.tokens,
        cost_usd=float(used.cost_usd),
    )


def user_to_proto(user: User) -> auth_pb2.User:
    """A person."""
    return auth_pb2.User(
        number=user.number,
        tenant_id=str(user.tenant_id),
        email=user.email,
        role=user.role,
        created_at=to_timestamp(user.created_at),
    )


def user_page_to_proto(page: UserPage) -> auth_service_pb2.ListUsersResponse:
    """A page of people."""
    return auth_service_pb2.ListUsersResponse(
        users=[user_to_proto(user) for user in page.users], next_page_token=page.next_page_token
    )


def audit_page_to_proto(page: AuditPage) -> auth_service_pb2.ListAuditResponse:
    """A page of the audit log."""
    return auth_service_pb2.ListAuditResponse(
        entries=[_line_to_proto(line) for line in page.lines],
        next_page_token=page.next_page_token,
    )


def _line_to_proto(line: AuditLine) -> auth_pb2.AuditEntry:
    return auth_pb2.AuditEntry(
        id=line.id,
        tenant_id=str(line.tenant_id),
        actor_key_id=None if line.actor_key_id is None else str(line.actor_key_id),
        actor_user_number=line.actor_user_number,
        action=line.action,
        subject=line.subject,
        details_json=line.details,
        at=to_timestamp(line.at),
    )


def _ids(
    message: auth_service_pb2.CreateKeyRequest,
    name: Literal["allowed_agent_ids", "allowed_task_ids"],
) -> tuple[str, ...] | None:
    given: auth_pb2.IdAllowList = getattr(message, name)
    return tuple(given.ids) if message.HasField(name) else None


def _list_to_proto(ids: AllowList) -> auth_pb2.IdAllowList | None:
    return None if ids is None else auth_pb2.IdAllowList(ids=[str(one) for one in ids])


def _stamp(at: datetime | None) -> Timestamp | None:
    return None if at is None else to_timestamp(at)


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
