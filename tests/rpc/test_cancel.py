"""Cancelling over real gRPC: at once, when the step is dead, or when it will not die."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.core.errors import PawlError
from libs.core.ids import new_id
from libs.pb.pawl.scheduler.v1 import trace_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.rpc.tokens import KeyRing
from tests.rpc.work import begin
from tests.scheduler_world import (
    OTHER_TENANT,
    SchedulerWorld,
    State,
    closed_step,
    scheduler_world,
)
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def refusal(world: SchedulerWorld, task_id: str, **who: object) -> str:
    """The code with which a cancel is refused."""
    with pytest.raises(PawlError) as refused:
        await world.cancel(task_id, **who)  # type: ignore[arg-type]
    return refused.value.code


async def test_waiting_task_is_cancelled_at_once_and_only_once(world: SchedulerWorld) -> None:
    submitted = (await world.submit()).task

    task = await world.cancel(submitted.id)

    assert task.state == State.TASK_STATE_CANCELLED
    assert task.task_hash
    assert await refusal(world, submitted.id) == "conflict"
    async with world.executor() as executor:
        await world.submit({"steps": 1}, wait_seconds=5)
    assert [a.task_id for a in executor.assignments] != [submitted.id]
    assert len(executor.assignments) == 1


async def test_unknown_task_and_another_tenants_are_not_found(world: SchedulerWorld) -> None:
    submitted = (await world.submit()).task

    assert await refusal(world, str(new_id())) == "not_found"
    assert await refusal(world, "no id") == "not_found"
    assert await refusal(world, submitted.id, tenant_id=OTHER_TENANT) == "not_found"
    assert (await world.get(submitted.id)).state == State.TASK_STATE_QUEUED


async def test_open_step_is_killed_first(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2})).task
    async with world.executor(is_manual=True) as executor:
        await begin(executor)
        began = time.monotonic()
        task = await world.cancel(submitted.id)

    assert time.monotonic() - began < 2
    assert task.state == State.TASK_STATE_CANCELLED
    assert [(s.task_id, s.cancel) for s in executor.stops] == [(submitted.id, True)]
    assert task.HasField("cancel_requested_at")


async def test_trace_says_what_a_killed_step_used(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2})).task
    async with world.executor(is_manual=True) as executor:
        executor.obeys = False
        task = await begin(executor)
        asking = asyncio.create_task(world.cancel(submitted.id))
        await eventually(lambda: executor.stops)
        report = work_pb.StepReport(task_id=task.task_id, lease_token=task.lease_token)
        report.end.CopyFrom(
            work_pb.TaskEnd(
                state=State.TASK_STATE_CANCELLED, cost_usd=0.125, tokens=7, sandbox_ms=40
            )
        )
        await executor.report(report)
        ended = await asking

    (step,) = [step for page in await world.trace(submitted.id) for step in page.steps]
    assert step.status == trace_pb2.STEP_STATUS_INTERRUPTED
    assert (step.cost_usd, step.tokens, step.sandbox_ms) == (0.125, 7, 40)
    assert ended.cost_usd == step.cost_usd


async def test_cancel_reaches_the_executor_of_another_scheduler(
    world: SchedulerWorld, keys: KeyRing, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    async with scheduler_world(world.database, keys, tmp_path / "b") as other:
        submitted = (await world.submit({"steps": 2})).task
        async with other.executor(is_manual=True) as executor:
            await begin(executor)
            began = time.monotonic()
            task = await world.cancel(submitted.id)

    assert time.monotonic() - began < 2
    assert task.state == State.TASK_STATE_CANCELLED
    assert len(executor.stops) == 1


async def test_step_that_will_not_die_is_fenced_off_after_the_grace(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2})).task
    async with world.executor(is_manual=True) as executor:
        executor.obeys = False
        task = await begin(executor)
        began = time.monotonic()
        both = await asyncio.gather(world.cancel(submitted.id), world.cancel(submitted.id))
        took = time.monotonic() - began
        late = work_pb.StepReport(
            task_id=task.task_id, lease_token=task.lease_token, started_step_index=2
        )
        status = await executor.report(late)
        await eventually(lambda: len(executor.stops) == 2)

    assert {one.state for one in both} == {State.TASK_STATE_CANCELLED}
    assert 4.9 <= took <= 6
    assert status == work_pb.ACK_STATUS_STALE_LEASE
    assert [stop.cancel for stop in executor.stops] == [True, False]


async def test_started_report_after_a_cancel_starts_nothing(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2})).task
    async with world.executor(is_manual=True) as executor:
        executor.obeys = False
        task = await begin(executor)
        asking = asyncio.create_task(world.cancel(submitted.id))
        await eventually(lambda: executor.stops)
        report = work_pb.StepReport(task_id=task.task_id, lease_token=task.lease_token)
        report.finished.CopyFrom(closed_step(task, 1, previous=task.plan_hash))
        report.started_step_index = 2

        assert await executor.report(report) == work_pb.ACK_STATUS_LATE
        found = await asking

    assert found.state == State.TASK_STATE_CANCELLED
    steps = await world.ask("SELECT step_index FROM scheduler.steps")
    events = await world.ask("SELECT type FROM scheduler.task_events ORDER BY seq")
    assert steps == [{"step_index": 1}]
    assert [e["type"] for e in events].count("step_started") == 1


async def test_reconnected_executor_is_told_what_to_cancel(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2})).task
    async with world.executor(name="a", is_manual=True) as executor:
        executor.obeys = False
        task = await begin(executor)
    asking = asyncio.create_task(world.cancel(submitted.id))
    await eventually(lambda: _is_asked(world))

    async with world.executor(
        name="a",
        boot_id=executor.boot_id,
        running=[(task.task_id, task.lease_token)],
        is_manual=True,
    ) as again:
        found = await asking

    assert found.state == State.TASK_STATE_CANCELLED
    assert [stop.cancel for stop in again.stops] == [True]


async def _is_asked(world: SchedulerWorld) -> bool:
    rows = await world.ask("SELECT id FROM scheduler.tasks WHERE cancel_requested_at IS NOT NULL")
    return bool(rows)
