"""Messages to model and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1.auth_pb2 import IdAllowList
from libs.pb.pawl.auth.v1.auth_service_pb2 import (
    CreateKeyRequest,
    CreateTenantRequest,
    RotateKeyRequest,
)
from services.auth import convert
from services.auth.model import (
    ApiKey,
    AuditLine,
    AuditPage,
    KeyWanted,
    RotationWanted,
    TenantWanted,
)

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
        user_number=42,
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


def test_what_a_key_is_not_bound_to_stays_unset() -> None:
    unbound = convert.key_to_proto(key())
    bound = convert.key_to_proto(
        replace(
            key(),
            allowed_agent_ids=(TENANT,),
            allowed_task_ids=(),
            replaced_by_id=TASK,
            last_used_at=AT,
        )
    )

    for name in ("allowed_agent_ids", "allowed_task_ids", "replaced_by_id", "last_used_at"):
        assert not unbound.HasField(name)
        assert bound.HasField(name)
    assert (unbound.user_number, list(bound.allowed_agent_ids.ids)) == (42, [str(TENANT)])
    assert list(bound.allowed_task_ids.ids) == []


def test_empty_list_is_not_an_absent_one() -> None:
    wanted = convert.key_wanted_from_proto(
        CreateKeyRequest(allowed_agent_ids=IdAllowList(), user_number=0)
    )

    assert (wanted.allowed_agent_ids, wanted.allowed_task_ids) == ((), None)
    assert wanted.user_number == 0


def test_wanted_rotation_keeps_what_was_said() -> None:
    stamp = Timestamp()
    stamp.FromDatetime(AT)
    message = RotateKeyRequest(key_id="k", overlap_seconds=0, expires_at=stamp)

    assert convert.rotation_wanted_from_proto(message) == RotationWanted(
        key_id="k", overlap_seconds=0, expires_at=AT
    )
    assert convert.rotation_wanted_from_proto(RotateKeyRequest()) == RotationWanted(key_id="")


def test_line_by_the_command_line_has_no_actor() -> None:
    line = AuditLine(
        id=7,
        tenant_id=TENANT,
        actor_key_id=None,
        actor_user_number=None,
        action="key.created",
        subject="s",
        details='{"a":1}',
        at=AT,
    )

    page = convert.audit_page_to_proto(AuditPage(lines=(line,), next_page_token="more"))

    [entry] = page.entries
    assert not entry.HasField("actor_key_id")
    assert not entry.HasField("actor_user_number")
    assert (entry.id, entry.details_json, page.next_page_token) == (7, '{"a":1}', "more")


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
