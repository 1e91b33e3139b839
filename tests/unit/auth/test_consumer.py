"""Events to what metering needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.bus.envelope import BusEvent, UnreadableEventError
from services.auth.consumer import fact_from_event
from services.auth.model import TaskFact

TASK, TENANT = UUID(int=7), UUID(int=8)
AT = datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC)


def event(data: Mapping[str, object] | None = None) -> BusEvent:
    said: dict[str, object] = {
        "task_id": str(TASK),
        "tenant_id": str(TENANT),
        "seq": 4,
        "from_state": "running",
        "to_state": "running",
        "at": "2026-05-01T12:00:00Z",
        "mode": "live",
    }
    values: Mapping[str, Any] = said | dict(data or {})
    return BusEvent(
        topic="pawl.task.events.v1",
        position=1,
        key=TASK,
        sequence=4,
        id=f"{TASK}:4",
        type="pawl.task.step_finished.v1",
        source="/pawl/scheduler",
        subject=str(TASK),
        tenant_id=TENANT,
        time=AT,
        data=values,
    )


def test_event_becomes_a_fact() -> None:
    assert fact_from_event(event()) == TaskFact(
        kind="step_finished", tenant_id=TENANT, seq=4, at=AT, mode="live"
    )


@pytest.mark.parametrize(
    "change",
    [{"mode": "prod"}, {"mode": ""}, {"seq": 5}, {"tenant_id": str(TASK)}, {"step_index": "x"}],
)
def test_event_that_cannot_be_believed_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(UnreadableEventError):
        fact_from_event(event(change))
