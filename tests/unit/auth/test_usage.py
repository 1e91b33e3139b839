"""What counts as use, and in which month."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from services.auth.model import TaskFact, Use
from services.auth.usage import added_up, month_of, use_of

TENANT = UUID(int=1)
AT = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def fact(*, kind: str = "status_transition", seq: int = 1, mode: str = "live") -> TaskFact:
    return TaskFact(kind=kind, tenant_id=TENANT, seq=seq, at=AT, mode=mode)


def test_first_event_is_an_accepted_task() -> None:
    assert use_of(fact()) == Use(tenant_id=TENANT, month="2026-05", tasks=1, steps=0)


def test_finished_step_counts() -> None:
    use = use_of(fact(kind="step_finished", seq=6))

    assert use == Use(tenant_id=TENANT, month="2026-05", tasks=0, steps=1)


@pytest.mark.parametrize(
    "event",
    [
        fact(seq=2),
        fact(kind="step_started", seq=5),
        fact(kind="progress", seq=9),
        fact(kind="cancel_requested", seq=9),
        fact(kind="plan_validation_failed", seq=2),
        fact(kind="of_a_later_release", seq=2),
        fact(mode="test"),
        fact(kind="step_finished", seq=6, mode="test"),
    ],
)
def test_anything_else_counts_nothing(event: TaskFact) -> None:
    assert use_of(event) is None


def test_month_is_that_of_utc() -> None:
    assert month_of(AT) == "2026-05"
    assert month_of(AT + timedelta(microseconds=1)) == "2026-06"
    assert month_of(datetime(2026, 6, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-05"


def test_uses_add_up_by_tenant_and_month() -> None:
    other = uuid4()
    uses = [
        Use(tenant_id=TENANT, month="2026-05", tasks=1, steps=0),
        None,
        Use(tenant_id=other, month="2026-05", tasks=0, steps=1),
        Use(tenant_id=TENANT, month="2026-05", tasks=0, steps=1),
        Use(tenant_id=TENANT, month="2026-06", tasks=0, steps=1),
        Use(tenant_id=TENANT, month="2026-05", tasks=0, steps=1),
    ]

    assert added_up(uses) == [
        Use(tenant_id=TENANT, month="2026-05", tasks=1, steps=2),
        Use(tenant_id=other, month="2026-05", tasks=0, steps=1),
        Use(tenant_id=TENANT, month="2026-06", tasks=0, steps=1),
    ]
    assert added_up([None]) == []
