"""Events of the bus as events of the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.bus.envelope import BusEvent, UnreadableEventError
from libs.core.lifecycle import TaskState
from services.scheduler.task_events import from_bus

EVENT = BusEvent(
    topic="pawl.task.events.v1",
    position=9,
    key=UUID(int=1),
    sequence=4,
    id="x",
    type="pawl.task.status_transition.v1",
    source="/pawl/scheduler",
    subject="x",
    tenant_id=UUID(int=2),
    time=datetime(2026, 1, 1, tzinfo=UTC),
    data={"from_state": "queued", "to_state": "running"},
)


def test_event_keeps_its_text_and_its_place() -> None:
    stored = from_bus(EVENT, data='{"a":1}')

    assert (stored.task_id, stored.seq, stored.position) == (UUID(int=1), 4, 9)
    assert (stored.type, stored.data, stored.at) == ("status_transition", '{"a":1}', EVENT.time)
    assert (stored.from_state, stored.to_state) == (TaskState.QUEUED, TaskState.RUNNING)


def test_first_event_has_no_state_before() -> None:
    stored = from_bus(replace(EVENT, data={"to_state": "created"}), data="{}")

    assert (stored.from_state, stored.to_state) == (None, TaskState.CREATED)


@pytest.mark.parametrize(
    "event",
    [
        replace(EVENT, type="pawl.artifact.created.v1"),
        replace(EVENT, type="pawl.task.rumour.v1"),
        replace(EVENT, type="status_transition"),
        replace(EVENT, data={"to_state": "flying"}),
        replace(EVENT, data={"from_state": "queued"}),
    ],
)
def test_anything_else_is_unreadable(event: BusEvent) -> None:
    with pytest.raises(UnreadableEventError):
        from_bus(event, data="{}")
