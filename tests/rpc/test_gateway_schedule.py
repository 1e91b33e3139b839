"""Due times, priorities and why a task waits, over HTTP in the runtime dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from gateway.dialects.runtime.mapping import WAIT_REASONS
from libs.core.errors import field_error
from libs.pb.pawl.scheduler.v1 import task_pb2, trace_pb2
from libs.rpc.convert import from_timestamp
from libs.rpc.tokens import KeyRing
from tests.gateway_fakes import at, make_task
from tests.gateway_world import GatewayWorld, gateway_world, problem_of

EXECUTE = "/api/v1/tasks/execute"
BODY: dict[str, Any] = {"task_definition": {"topic": "x"}}
WAITING = task_pb2.Waiting(
    reason=task_pb2.WAIT_REASON_NO_SLOT, detail="every executor is busy", position=3
)


@pytest_asyncio.fixture(scope="module")
async def started(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as world:
        yield world


@pytest.fixture
def world(started: GatewayWorld) -> GatewayWorld:
    started.forget()
    return started


async def seen(world: GatewayWorld, state: task_pb2.TaskState.ValueType, **members: Any) -> Any:
    task_id = world.scheduler.keep(make_task(state, **members))
    return (await world.http.get(f"/api/v1/tasks/{task_id}")).json()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-06-15T09:00:00+02:00", datetime(2026, 6, 15, 7, tzinfo=UTC)),
        ("2026-06-15t09:00:00z", datetime(2026, 6, 15, 9, tzinfo=UTC)),
        ("2026-06-15T09:00:00.123456789Z", datetime(2026, 6, 15, 9, 0, 0, 123456, tzinfo=UTC)),
        ("1999-01-01T00:00:00-00:00", datetime(1999, 1, 1, tzinfo=UTC)),
    ],
)
async def test_execute_asks_for_a_due_time_and_a_priority(
    world: GatewayWorld, text: str, meant: datetime
) -> None:
    await world.http.post(EXECUTE, json=BODY | {"scheduled_at": text, "priority": -1000})

    (asked,) = world.scheduler.requests
    assert from_timestamp(asked.scheduled_at) == meant
    assert asked.priority == -1000


async def test_execute_without_them_asks_for_neither(world: GatewayWorld) -> None:
    await world.http.post(EXECUTE, json=BODY)

    (asked,) = world.scheduler.requests
    assert not asked.HasField("scheduled_at")
    assert asked.priority == 0


@pytest.mark.parametrize(
    "text",
    [
        "2026-06-15",
        "2026-06-15T09:00:00",
        "2026-06-15 09:00:00Z",
        "2026-06-15T09:00:00+99:99",
        "2026-06-31T09:00:00Z",
        "2026-06-15T09:00:60Z",
        "2026-06-15T24:00:00Z",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\u06622026-06-15T09:00:00Z",
        "2026-W25-1T09:00:00Z",
        "tomorrow",
        "1781510400",
    ],
)
async def test_a_time_of_another_form_is_refused(world: GatewayWorld, text: str) -> None:
    answer = await world.http.post(EXECUTE, json=BODY | {"scheduled_at": text})

    problem = problem_of(answer)
    assert answer.status_code == 422
    assert problem["code"] == "validation_failed"
    assert [(e["field"], e["code"]) for e in problem["errors"]] == [
        ("scheduled_at", "invalid_datetime")
    ]
    assert not world.scheduler.requests


@pytest.mark.parametrize(
    ("change", "field", "fine"),
    [
        ({"scheduled_at": None}, "scheduled_at", "wrong_type"),
        ({"scheduled_at": 1781510400}, "scheduled_at", "wrong_type"),
        ({"scheduled_at": ""}, "scheduled_at", "out_of_range"),
        ({"scheduled_at": "2026-06-15T09:00:00Z" + " " * 40}, "scheduled_at", "out_of_range"),
        ({"priority": None}, "priority", "wrong_type"),
        ({"priority": "10"}, "priority", "wrong_type"),
        ({"priority": True}, "priority", "wrong_type"),
        ({"priority": 1.0}, "priority", "wrong_type"),
        ({"priority": 1001}, "priority", "out_of_range"),
        ({"priority": -1001}, "priority", "out_of_range"),
    ],
)
async def test_a_member_of_the_wrong_kind_is_refused(
    world: GatewayWorld, change: dict[str, Any], field: str, fine: str
) -> None:
    answer = await world.http.post(EXECUTE, json=BODY | change)

    assert answer.status_code == 422
    assert [(e["field"], e["code"]) for e in problem_of(answer)["errors"]] == [(field, fine)]
    assert not world.scheduler.requests


async def test_a_time_too_far_ahead_is_refused_in_the_scheduler_s_words(
    world: GatewayWorld,
) -> None:
    world.scheduler.refusal = field_error(
        "validation_failed", "scheduled_at", "it is more than 366 days ahead"
    )

    answer = await world.http.post(EXECUTE, json=BODY | {"scheduled_at": "2099-01-01T00:00:00Z"})

    assert answer.status_code == 422
    assert problem_of(answer)["detail"] == "scheduled_at: it is more than 366 days ahead"


async def test_a_scheduled_task_shows_when_it_is_due(world: GatewayWorld) -> None:
    waiting = task_pb2.Waiting(reason=task_pb2.WAIT_REASON_SCHEDULED, detail="it is due later")

    task = await seen(
        world, task_pb2.TASK_STATE_PLANNED, scheduled_at=at(60), waiting=waiting, priority=7
    )

    assert task["status"] == "planned"
    assert task["priority"] == 7
    assert task["scheduled_at"] == "2026-02-27T11:19:01.127894+00:00"
    assert task["queue"] == {
        "reason": "scheduled",
        "detail": "it is due later",
        "position": None,
    }


async def test_a_waiting_task_says_why(world: GatewayWorld) -> None:
    task = await seen(world, task_pb2.TASK_STATE_QUEUED, waiting=WAITING)

    assert task["queue"] == {
        "reason": "no_slot",
        "detail": "every executor is busy",
        "position": 3,
    }


async def test_a_task_that_does_not_wait_says_nothing_of_it(world: GatewayWorld) -> None:
    task = await seen(world, task_pb2.TASK_STATE_RUNNING, cancel_requested_at=at(1.25))

    assert task["queue"] is None
    assert task["scheduled_at"] is None
    assert task["priority"] == 0
    assert task["cancel_requested_at"] == "2026-02-27T11:18:02.377894+00:00"


async def test_a_trace_says_why_its_task_waits_and_what_it_used(world: GatewayWorld) -> None:
    task = make_task(
        task_pb2.TASK_STATE_QUEUED, waiting=WAITING, scheduled_at=at(0.5), tokens_used=120
    )
    world.scheduler.pages = [trace_pb2.TracePage(head=trace_pb2.TraceHead(task=task))]

    answer = await world.http.get(f"/api/v1/tasks/{world.scheduler.keep(task)}/trace")

    trace = answer.json()
    assert trace["queue"]["reason"] == "no_slot"
    assert trace["scheduled_at"] == "2026-02-27T11:18:01.627894+00:00"
    assert trace["cancel_requested_at"] is None
    assert trace["summary"]["tokens"] == 120


def test_every_reason_to_wait_has_a_word() -> None:
    assert set(WAIT_REASONS) == set(task_pb2.WaitReason.values()) - {0}
