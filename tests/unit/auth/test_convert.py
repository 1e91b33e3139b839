"""Messages to model and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1.auth_service_pb2 import CreateKeyRequest, CreateTenantRequest
from services.auth import convert
from services.auth.model import ApiKey, KeyWanted, TenantWanted

TASK, TENANT = UUID(int=7), UUID(int=8)
AT = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)


def key(*, expires_at: datetime | None = None, revoked_at: datetime | None = None) -> ApiKey:
    return ApiKey(
        id=UUID(int=1),
        tenant_id=TENANT,
        name="CI",
        prefix="atx",
        mode="test",
        last_four="wxyz",
        scopes=("tasks:read",),
        created_at=AT,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )


def test_key_shows_prefix_and_last_four_only() -> None:
    message = convert.key_to_proto(key())

    assert message.display == "atx_test_...wxyz"
    assert not message.HasField("expires_at")
    assert not message.HasField("revoked_at")


def test_key_times_come_through() -> None:
    message = convert.key_to_proto(key(expires_at=AT, revoked_at=AT + timedelta(days=1)))

    assert message.expires_at.ToDatetime(tzinfo=UTC) == AT
    assert message.revoked_at.ToDatetime(tzinfo=UTC) == AT + timedelta(days=1)


def test_wanted_key_keeps_what_was_said() -> None:
    stamp = Timestamp()
    stamp.FromDatetime(AT)
    message = CreateKeyRequest(
        tenant="t", name="n", mode="m", prefix="p", scopes=["a", "a"], expires_at=stamp
    )

    assert convert.key_wanted_from_proto(message) == KeyWanted(
        tenant="t", name="n", mode="m", prefix="p", scopes=("a", "a"), expires_at=AT
    )
    assert convert.key_wanted_from_proto(CreateKeyRequest()) == KeyWanted()


def test_wanted_tenant_keeps_what_was_said() -> None:
    message = CreateTenantRequest(name="n", tier="t", email="e")

    assert convert.tenant_wanted_from_proto(message) == TenantWanted(name="n", tier="t", email="e")


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(2**63 - 1, 0), (-(2**63), 0), (253_402_300_800, 0), (0, -1), (0, 10**9), (0, 2**31 - 1)],
)
def test_timestamp_that_is_no_instant_is_refused(seconds: int, nanos: int) -> None:
    message = CreateKeyRequest(expires_at=Timestamp(seconds=seconds, nanos=nanos))

    with pytest.raises(PawlError) as refused:
        convert.key_wanted_from_proto(message)

    assert refused.value.code == "validation_failed"
    assert [error.field for error in refused.value.errors] == ["expires_at"]
