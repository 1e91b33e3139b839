"""What counts as use, on which day, and how it adds up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.model import Amounts, DayUsage, TaskFact, Use
from services.auth.times import day_of, days_of, month_of
from services.auth.usage import added_up, every_day, last_day_of, may_count, use_of

TENANT = UUID(int=1)
AT = datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
LAST_OF_MAY, FIRST_OF_JUNE = date(2026, 5, 31), date(2026, 6, 1)
USED = Amounts(sandbox_ms=12, tokens=30, cost_usd=Decimal("0.0001"))
NOTHING = Amounts()


def fact(
    *,
    kind: str = "status_transition",
    seq: int = 1,
    mode: str = "live",
    used: Amounts = NOTHING,
) -> TaskFact:
    return TaskFact(kind=kind, tenant_id=TENANT, seq=seq, at=AT, mode=mode, used=used)


def use(day: date = LAST_OF_MAY, tenant_id: UUID = TENANT, **counts: Any) -> Use:
    return Use(tenant_id=tenant_id, day=day, amounts=Amounts(**counts))


def test_first_event_is_an_accepted_task() -> None:
    assert use_of(fact()) == use(tasks=1)


def test_finished_step_counts_with_what_it_used() -> None:
    found = use_of(fact(kind="step_finished", seq=6, used=USED))

    assert found is not None
    assert found.amounts == Amounts(steps=1) + USED


def test_finished_step_of_an_older_release_counts_as_a_step() -> None:
    assert use_of(fact(kind="step_finished", seq=6)) == use(steps=1)


def test_end_of_a_task_counts_what_its_killed_step_used() -> None:
    assert use_of(fact(seq=7, used=USED)) == Use(tenant_id=TENANT, day=LAST_OF_MAY, amounts=USED)


@pytest.mark.parametrize(
    "event",
    [
        fact(seq=2),
        fact(kind="step_started", seq=5),
        fact(kind="progress", seq=9),
        fact(kind="progress", seq=9, used=USED),
        fact(kind="cancel_requested", seq=9),
        fact(kind="plan_validation_failed", seq=2),
        fact(kind="of_a_later_release", seq=2),
        fact(kind="of_a_later_release", seq=2, used=USED),
        fact(mode="test"),
        fact(kind="step_finished", seq=6, mode="test"),
        fact(kind="step_finished", seq=6, mode="test", used=USED),
    ],
)
def test_anything_else_counts_nothing(event: TaskFact) -> None:
    assert use_of(event) is None


@pytest.mark.parametrize(
    ("kind", "seq", "members", "counts"),
    [
        ("status_transition", 1, set(), True),
        ("step_finished", 6, {"status"}, True),
        ("status_transition", 8, {"task_hash", "cost_usd"}, True),
        ("status_transition", 8, {"task_hash", "sandbox_ms"}, True),
        ("status_transition", 8, {"task_hash"}, False),
        ("progress", 8, {"tokens"}, False),
    ],
)
def test_most_events_need_no_look(kind: str, seq: int, members: set[str], counts: bool) -> None:
    assert may_count(kind=kind, seq=seq, members=members) is counts


def test_day_and_month_are_those_of_utc() -> None:
    east = datetime(2026, 6, 1, 1, tzinfo=timezone(timedelta(hours=2)))

    assert (day_of(AT), month_of(AT)) == (LAST_OF_MAY, "2026-05")
    assert day_of(AT + timedelta(microseconds=1)) == FIRST_OF_JUNE
    assert (day_of(east), month_of(east)) == (LAST_OF_MAY, "2026-05")


@pytest.mark.parametrize(
    ("month", "last"), [("2026-02", 28), ("2024-02", 29), ("2026-12", 31), ("9999-12", 31)]
)
def test_month_has_its_days(month: str, last: int) -> None:
    first, end = days_of(month) or (None, None)

    assert (str(first), str(end)) == (f"{month}-01", f"{month}-{last}")


def test_uses_add_up_by_tenant_and_day() -> None:
    other = uuid4()
    uses = [
        use(tasks=1),
        None,
        use(tenant_id=other, steps=1),
        use(steps=1, sandbox_ms=5),
        use(FIRST_OF_JUNE, steps=1),
        use(steps=1, tokens=7),
    ]

    assert added_up(uses) == [
        use(tasks=1, steps=2, sandbox_ms=5, tokens=7),
        use(tenant_id=other, steps=1),
        use(FIRST_OF_JUNE, steps=1),
    ]
    assert added_up([None]) == []


@given(st.lists(st.integers(0, 10**15)), st.integers(0, 20))
def test_costs_add_up_exactly_however_they_are_batched(billionths: list[int], at: int) -> None:
    uses = [
        Use(
            tenant_id=TENANT,
            day=LAST_OF_MAY,
            amounts=Amounts(steps=1, cost_usd=Decimal(one).scaleb(-9)),
        )
        for one in billionths
    ]

    whole = added_up(uses)
    parts = added_up([*added_up(uses[:at]), *added_up(uses[at:])])

    assert whole == parts
    total = sum((one.amounts for one in whole), Amounts())
    assert total.cost_usd == Decimal(sum(billionths)).scaleb(-9)


def test_days_without_use_are_there_too() -> None:
    known = [DayUsage(day=date(2026, 5, 30), requests=4), DayUsage(day=FIRST_OF_JUNE)]

    days = every_day(known, first=date(2026, 5, 29), last=FIRST_OF_JUNE)

    assert [(day.day.isoformat(), day.requests) for day in days] == [
        ("2026-05-29", 0),
        ("2026-05-30", 4),
        ("2026-05-31", 0),
        ("2026-06-01", 0),
    ]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2026, 5, 1), LAST_OF_MAY),
        (date(2024, 1, 1), date(2024, 12, 31)),
        (date(9999, 5, 1), LAST_OF_MAY),
    ],
)
def test_last_day_is_today_but_at_most_a_year_of_days(first: date, last: date) -> None:
    assert last_day_of(first, today=LAST_OF_MAY) == last
