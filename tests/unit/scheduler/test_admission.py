"""What may enter before anybody plans it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.plan import Limits
from libs.core.tiers import TIERS, TierLimits
from services.scheduler.admission import (
    MAX_TASKS,
    admit,
    admit_in_batch,
    check_same_request,
    check_size,
    idempotency_key,
    tier_bounds,
)
from services.scheduler.batch_model import Batch, KeyHolder
from services.scheduler.model import Agent, IdempotencyKey, Submission

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TASK_ID = UUID("0193f9c8-0000-7000-8000-000000000001")
FINGERPRINT = "0123456789abcdef" * 4


def make_submission(**changes: object) -> Submission:
    fields: dict[str, object] = {
        "task_input_json": "{}",
        "plan_json": None,
        "asked": Limits(),
        "priority": 0,
        "key": None,
        "fingerprint": "",
        "wait_seconds": 0.0,
    }
    return Submission(**fields | changes)  # type: ignore[arg-type]  # a test names its own


def test_input_becomes_canonical() -> None:
    text = '{ "b": 1.0, "a": [1e2, "\\u00e4"] }'
    admitted = admit(make_submission(task_input_json=text), now=NOW)

    assert admitted.task_input == '{"a":[100,"ä"],"b":1}'
    assert admitted.idempotency is None


@pytest.mark.parametrize("priority", [-1000, 0, 1000])
def test_priority_within_bounds_passes(priority: int) -> None:
    admit(make_submission(priority=priority), now=NOW)


@pytest.mark.parametrize("days", [-10_000, 0, 366])
def test_due_time_within_bounds_passes(days: int) -> None:
    admit(make_submission(scheduled_at=NOW + timedelta(days=days)), now=NOW)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"priority": 1001}, "priority"),
        ({"priority": -1001}, "priority"),
        ({"wait_seconds": -0.1}, "wait_seconds"),
        ({"wait_seconds": 25.1}, "wait_seconds"),
        ({"wait_seconds": float("nan")}, "wait_seconds"),
        ({"scheduled_at": NOW + timedelta(days=367)}, "scheduled_at"),
        (
            {"agent": Agent(agent_id=TASK_ID, max_concurrent_tasks=0)},
            "agent.max_concurrent_tasks",
        ),
        ({"task_input_json": "[]"}, "task_input"),
        ({"task_input_json": "null"}, "task_input"),
        ({"key": "k"}, "request_fingerprint"),
        ({"key": "k", "fingerprint": FINGERPRINT.upper()}, "request_fingerprint"),
    ],
)
def test_refusal_names_its_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(PawlError) as refused:
        admit(make_submission(**changes), now=NOW)

    assert refused.value.code == "validation_failed"
    assert refused.value.errors[0].field == field


@pytest.mark.parametrize("key", ["x", "ord-123-create", "a b", "~" * 255])
def test_key_of_printable_ascii_passes(key: str) -> None:
    assert idempotency_key(key, FINGERPRINT) == IdempotencyKey(key=key, fingerprint=FINGERPRINT)


@pytest.mark.parametrize("key", ["", " x", "x ", "x" * 256, "ä", "a\nb", "a\x00", "x\n"])
def test_key_of_anything_else_is_refused(key: str) -> None:
    with pytest.raises(PawlError) as refused:
        idempotency_key(key, FINGERPRINT)

    assert refused.value.code == "invalid_idempotency_key"


@pytest.mark.parametrize("is_batch", [False, True])
def test_key_of_the_same_request_passes(*, is_batch: bool) -> None:
    given = IdempotencyKey(key="k", fingerprint=FINGERPRINT)
    holder = KeyHolder(task_ids=(TASK_ID,), fingerprint=FINGERPRINT, is_batch=is_batch)

    check_same_request(given, holder, is_batch=is_batch)


@pytest.mark.parametrize(
    ("fingerprint", "is_batch"), [("0" * 64, False), (FINGERPRINT, True), ("0" * 64, True)]
)
def test_key_of_another_request_is_refused(fingerprint: str, *, is_batch: bool) -> None:
    given = IdempotencyKey(key="k", fingerprint=FINGERPRINT)
    holder = KeyHolder(task_ids=(TASK_ID,), fingerprint=fingerprint, is_batch=is_batch)

    with pytest.raises(PawlError) as refused:
        check_same_request(given, holder)

    assert refused.value.code == "idempotency_key_reused"


def make_batch(count: int) -> Batch:
    return Batch(submissions=(make_submission(),) * count, key=None, fingerprint="")


@pytest.mark.parametrize(("count", "most"), [(1, 1), (100, 100), (MAX_TASKS, None)])
def test_batch_of_as_many_as_allowed_passes(count: int, most: int | None) -> None:
    check_size(make_batch(count), tier="pro", limits=TierLimits(max_tasks_per_request=most))


@pytest.mark.parametrize(("count", "most"), [(2, 1), (101, 100), (MAX_TASKS + 1, None)])
def test_batch_of_more_names_field_value_limit_and_tier(count: int, most: int | None) -> None:
    with pytest.raises(PawlError) as refused:
        check_size(make_batch(count), tier="pro", limits=TierLimits(max_tasks_per_request=most))

    (error,) = refused.value.errors
    assert (refused.value.code, error.field, error.pointer) == ("limit_exceeded", "tasks", "/tasks")
    assert error.detail.startswith(f"{count} tasks")
    assert ("the tier pro allows" in error.detail) is (most is not None)
    assert str(most or MAX_TASKS) in error.detail


def test_empty_batch_is_refused() -> None:
    with pytest.raises(PawlError) as refused:
        check_size(make_batch(0), tier="pro", limits=TierLimits())

    assert refused.value.code == "validation_failed"
    assert refused.value.errors[0].field == "tasks"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"key": "k"}, "idempotency_key"),
        ({"fingerprint": FINGERPRINT}, "request_fingerprint"),
        ({"wait_seconds": 1.0}, "wait_seconds"),
        ({"wait_seconds": float("nan")}, "wait_seconds"),
        ({"priority": 1001}, "priority"),
    ],
)
def test_task_of_a_batch_has_no_key_and_no_wait(changes: dict[str, object], field: str) -> None:
    with pytest.raises(PawlError) as refused:
        admit_in_batch(make_submission(**changes), now=NOW)

    assert refused.value.errors[0].field == field
    assert admit_in_batch(make_submission(), now=NOW).task_input == "{}"


def test_tier_speaks_in_the_words_of_a_plan() -> None:
    assert tier_bounds(TIERS["free"]) == Limits(
        max_steps=8, max_total_seconds=30, max_total_tokens=10_000, max_queue_seconds=3600
    )
