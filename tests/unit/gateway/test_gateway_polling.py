"""When to ask again for a task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.polling import poll_headers, retry_after
from libs.pb.pawl.scheduler.v1 import task_pb2
from tests.gateway_fakes import START, at, make_task

CREATED = task_pb2.TASK_STATE_CREATED
PLANNED = task_pb2.TASK_STATE_PLANNED
QUEUED = task_pb2.TASK_STATE_QUEUED
RUNNING = task_pb2.TASK_STATE_RUNNING


def seconds(state: task_pb2.TaskState.ValueType, age: float, **members: Any) -> int | None:
    return retry_after(make_task(state, **members), now=START + timedelta(seconds=age))


@pytest.mark.parametrize("state", [CREATED, PLANNED, QUEUED, RUNNING])
@pytest.mark.parametrize(
    ("age", "expected"),
    [(-60, 1), (0, 1), (9.9, 1), (10, 2), (25, 3), (39, 4), (40, 5), (86_400, 5)],
)
def test_pauses_grow_with_the_age(
    state: task_pb2.TaskState.ValueType, age: float, expected: int
) -> None:
    assert seconds(state, age) == expected


@pytest.mark.parametrize("state", [CREATED, PLANNED])
@pytest.mark.parametrize(("age", "expected"), [(0, 3600), (0.4, 3600), (3599.5, 1)])
def test_a_task_that_waits_for_its_time_need_not_be_looked_at_before(
    state: task_pb2.TaskState.ValueType, age: float, expected: int
) -> None:
    assert seconds(state, age, scheduled_at=at(3600)) == expected


@pytest.mark.parametrize(("age", "expected"), [(3600, 1), (3601, 1), (3625, 3), (4000, 5)])
def test_its_age_counts_from_its_time(age: float, expected: int) -> None:
    assert seconds(QUEUED, age, scheduled_at=at(3600)) == expected


def test_a_time_that_had_passed_when_it_was_submitted_changes_nothing() -> None:
    assert seconds(QUEUED, 25, scheduled_at=at(-3600)) == 3


@pytest.mark.parametrize(
    "state",
    [
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
    ],
)
def test_nothing_more_happens_to_a_task_that_has_ended(state: task_pb2.TaskState.ValueType) -> None:
    assert seconds(state, 5) is None
    assert poll_headers([make_task(state)], now=START) == {}


def test_of_several_the_first_that_may_change_decides() -> None:
    tasks = [
        make_task(task_pb2.TASK_STATE_SUCCEEDED),
        make_task(PLANNED, scheduled_at=at(3600)),
        make_task(RUNNING, created_at=at(-20)),
    ]

    assert poll_headers(tasks, now=START) == {"Retry-After": "3"}
    assert poll_headers([], now=START) == {}
