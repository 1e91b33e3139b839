"""What may enter before anybody plans it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.plan import Limits
from libs.core.tiers import TIERS
from services.scheduler.admission import (
    admit,
    check_same_request,
    idempotency_key,
    tier_bounds,
)
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


def test_key_of_another_request_is_refused() -> None:
    given = IdempotencyKey(key="k", fingerprint=FINGERPRINT)

    check_same_request(given, stored_fingerprint=FINGERPRINT)
    with pytest.raises(PawlError) as refused:
        check_same_request(given, stored_fingerprint="0" * 64)

    assert refused.value.code == "idempotency_key_reused"


def test_tier_speaks_in_the_words_of_a_plan() -> None:
    assert tier_bounds(TIERS["free"]) == Limits(
        max_steps=8, max_total_seconds=30, max_total_tokens=10_000, max_queue_seconds=3600
    )
