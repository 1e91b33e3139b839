"""Events to what metering needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bus.envelope import BusEvent, UnreadableEventError
from services.auth.consumer import fact_from_event
from services.auth.model import Amounts, TaskFact

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
    used = {"tokens": 30, "sandbox_ms": 12, "cost_usd": 0.1}

    assert fact_from_event(event(used)) == TaskFact(
        kind="step_finished",
        tenant_id=TENANT,
        seq=4,
        at=AT,
        mode="live",
        used=Amounts(tokens=30, sandbox_ms=12, cost_usd=Decimal("0.1")),
    )


def test_event_from_before_there_were_costs_is_read_as_zero() -> None:
    assert fact_from_event(event()).used == Amounts()


@given(st.integers(0, 10**15 - 1))
def test_cost_is_the_decimal_number_that_was_written(billionths: int) -> None:
    cost = Decimal(billionths).scaleb(-9)
    written = orjson.loads(f'{{"cost_usd":{cost:f}}}')

    assert fact_from_event(event(written)).used.cost_usd == cost


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "prod"},
        {"mode": ""},
        {"seq": 5},
        {"tenant_id": str(TASK)},
        {"step_index": "x"},
        {"tokens": -1},
        {"sandbox_ms": -1},
        {"sandbox_ms": 2**63},
        {"sandbox_ms": 0.5},
        {"cost_usd": -0.001},
        {"cost_usd": float("nan")},
        {"cost_usd": float("inf")},
        {"cost_usd": "1"},
    ],
)
def test_event_that_cannot_be_believed_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(UnreadableEventError):
        fact_from_event(event(change))
