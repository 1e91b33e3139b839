"""Why a task waits: the first thing that keeps it from running."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.waiting import QueueView, why_waiting

RUNNING = TaskState.RUNNING


def make_view(**changes: Any) -> QueueView:
    """A queued task that an executor is about to take."""
    fields: dict[str, Any] = {
        "state": TaskState.QUEUED,
        "scheduled_at": None,
        "is_offered": True,
        "has_slot": True,
        "tenant_running": 0,
        "tenant_limit": 2,
        "agent_running": 0,
        "agent_limit": None,
        "ahead": 0,
    }
    return QueueView(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "turn"),
        ({"has_slot": False}, "no_slot"),
        ({"tenant_running": 2}, "tenant_limit"),
        ({"tenant_running": 2, "tenant_limit": None}, "turn"),
        ({"agent_running": 3, "agent_limit": 3}, "agent_limit"),
        ({"tenant_running": 2, "has_slot": False}, "tenant_limit"),
        ({"is_offered": False, "tenant_running": 2, "has_slot": False}, "no_executor"),
        ({"state": RUNNING, "tenant_running": 2, "has_slot": False}, "no_slot"),
        ({"state": RUNNING, "tenant_running": 2}, "turn"),
    ],
)
def test_reason(changes: dict[str, Any], reason: str) -> None:
    assert why_waiting(make_view(**changes)).reason == reason


def test_numbers_are_in_the_sentence() -> None:
    assert "2 tasks of its tenant run; 2 may" in why_waiting(make_view(tenant_running=2)).detail


def test_task_that_is_not_due_says_when_it_is() -> None:
    due = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
    waiting = why_waiting(make_view(state=TaskState.PLANNED, scheduled_at=due, is_offered=False))

    assert (waiting.reason, waiting.position) == ("scheduled", None)
    assert "2026-12-01T08:30:00+00:00" in waiting.detail


@pytest.mark.parametrize(("ahead", "position"), [(0, 1), (10_000, 10_001), (10_001, None)])
def test_position_counts_from_one_as_far_as_it_is_counted(ahead: int, position: int | None) -> None:
    assert why_waiting(make_view(ahead=ahead)).position == position
