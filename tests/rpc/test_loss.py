"""Executors that vanish, hang or leave: what becomes of their tasks, over real gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from libs.core.errors import PawlError
from libs.core.tiers import TIERS, TierLimits
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import WorkServiceStub
from libs.rpc.client import RpcChannel
from libs.rpc.tokens import KeyRing, ServiceTokens
from services.scheduler import work_session
from tests import scheduler_world as scheduler_world_module
from tests.rpc.work import assigned, begin
from tests.scheduler_world import SchedulerWorld, State, scheduler_world
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

STALE = work_pb.ACK_STATUS_STALE_LEASE


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def ended(world: SchedulerWorld, task_id: str, within: float) -> task_pb2.Task:
    """The ended task; it must end within so many seconds."""
    began = time.monotonic()
    task = await world.get(task_id, wait_seconds=20)
    assert task.state in {State.TASK_STATE_SUCCEEDED, State.TASK_STATE_FAILED}
    assert time.monotonic() - began <= within
    return task


async def test_task_between_steps_goes_to_another_executor(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 3})).task
    async with world.executor(name="a", is_manual=True) as a:
        await assigned(a)

    async with world.executor(name="b") as b:
        task = await ended(world, submitted.id, 5)

    assert task.state == State.TASK_STATE_SUCCEEDED
    assert [step for _, step in b.ran] == [1, 2, 3]
    assert b.assignments[0].lease_token == 3


async def test_open_step_is_lost_and_nobody_runs_it_again(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 3})).task
    async with world.executor(name="a", is_manual=True) as a:
        await begin(a)

    async with world.executor(name="b") as b:
        task = await ended(world, submitted.id, 5)

    assert (task.failure.code, task.failure.step_index) == ("EXECUTOR_LOST", 1)
    assert b.assignments == []


async def test_new_boot_of_the_executor_settles_its_former_at_once(world: SchedulerWorld) -> None:
    open_one = (await world.submit({"steps": 1})).task
    async with world.executor(name="a", is_manual=True, slots=1) as a:
        await begin(a)
        async with world.executor(name="a") as again:
            task = await ended(world, open_one.id, 1.5)
            free = (await world.submit({"steps": 2}, wait_seconds=5)).task

    assert task.failure.code == "EXECUTOR_LOST"
    assert free.state == State.TASK_STATE_SUCCEEDED
    assert len(again.ran) == 2


async def test_executor_that_leaves_frees_its_tasks_at_once(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 1})).task
    async with world.executor(name="a", is_manual=True) as a, world.executor(name="b") as b:
        holder = a if a.assignments or not b.assignments else b
        await eventually(lambda: a.assignments or b.ran)
        if holder is a and a.assignments:
            await a.leave()
        task = await ended(world, submitted.id, 1.5)

    assert task.state == State.TASK_STATE_SUCCEEDED
    assert len(b.ran) == 1


async def test_stream_that_comes_back_in_time_keeps_its_tasks(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 1})).task
    async with world.executor(name="a", is_manual=True) as a:
        task = await begin(a)
    running = [(task.task_id, task.lease_token)]

    async with world.executor(
        name="a", boot_id=a.boot_id, running=running, is_manual=True
    ) as again:
        assert again.hello.keep_task_ids == [submitted.id]
        await eventually(lambda: _swept_after(world, seconds=3.2), timeout=10)

        assert (await world.get(submitted.id)).state == State.TASK_STATE_RUNNING


async def _swept_after(world: SchedulerWorld, *, seconds: float) -> bool:
    (row,) = await world.ask(
        "SELECT last > connected_at + make_interval(secs => %s) AS yes"
        " FROM scheduler.sweep, scheduler.executors",
        (seconds,),
    )
    return bool(row["yes"])


async def test_silent_executor_loses_its_lease_and_its_late_report_is_stale(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    async with scheduler_world(database, keys, tmp_path, lease_seconds=2) as world:
        submitted = (await world.submit({"steps": 1})).task
        async with world.executor(name="a", is_manual=True, heartbeats=False) as a:
            task = await begin(a)

            found = await ended(world, submitted.id, 5)
            late = work_pb.StepReport(
                task_id=task.task_id, lease_token=task.lease_token, started_step_index=1
            )

            assert found.failure.code == "EXECUTOR_LOST"
            assert await a.report(late) == STALE
            assert [(s.task_id, s.cancel) for s in a.stops] == [(task.task_id, False)]
            await a.heartbeat()
            await eventually(lambda: a.error)
            assert a.error is not None
            assert a.error.code == "unavailable"


async def test_deadline_is_enforced_when_the_executor_does_not(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2, "total": 0.5})).task
    async with world.executor(name="a", is_manual=True) as a:
        await begin(a)

        task = await ended(world, submitted.id, 3)

        assert (task.failure.code, task.failure.reason) == ("TIMEOUT", "TASK_TIMEOUT")
        assert task.failure.step_index == 1
        took = task.finished_at.ToDatetime() - task.execution_started_at.ToDatetime()
        assert 0.5 <= took.total_seconds() <= 2.5
        await eventually(lambda: a.stops)
        # Its slot is free in the same moment.
        free = await world.submit({"steps": 1})
        await eventually(lambda: len(a.assignments) == 2)
        assert a.assignments[1].task_id == free.task.id


async def test_scheduled_task_runs_when_it_is_due(world: SchedulerWorld) -> None:
    (row,) = await world.ask("SELECT now() + interval '1.2 s' AS at")
    async with world.executor() as executor:
        submitted = (await world.submit({"steps": 1}, scheduled_at=row["at"])).task
        waiting = (await world.get(submitted.id)).waiting
        task = await ended(world, submitted.id, 4)

    assert submitted.state == State.TASK_STATE_PLANNED
    assert waiting.reason == task_pb2.WAIT_REASON_SCHEDULED
    assert task.execution_started_at.ToDatetime() >= task.scheduled_at.ToDatetime()
    assert len(executor.ran) == 1


async def test_end_of_a_task_lets_the_next_of_its_tenant_in_elsewhere(
    world: SchedulerWorld, keys: KeyRing, tmp_path: Path
) -> None:
    one_at_a_time: Any = {"limits": TierLimits(max_concurrent_tasks=1)}
    assert TIERS["free"].max_concurrent_tasks == 2
    (tmp_path / "b").mkdir()
    elsewhere = scheduler_world(world.database, keys, tmp_path / "b")
    async with (
        elsewhere as other,
        world.executor(name="a", slots=1, is_manual=True) as a,
    ):
        first = (await world.submit({"steps": 1}, token=one_at_a_time)).task
        await assigned(a)
        async with other.executor(name="b", slots=1) as b:
            second = (await world.submit({"steps": 1}, token=one_at_a_time)).task
            await eventually(lambda: _reason(world, second.id, task_pb2.WAIT_REASON_TENANT_LIMIT))
            await world.cancel(first.id)

            task = await ended(world, second.id, 3)

    assert task.state == State.TASK_STATE_SUCCEEDED
    assert [t for t, _ in b.ran] == [second.id] or len(a.assignments) == 2


async def _reason(
    world: SchedulerWorld, task_id: str, reason: task_pb2.WaitReason.ValueType
) -> bool:
    return (await world.get(task_id)).waiting.reason == reason


async def test_silent_executor_gets_no_work_and_wakes_nobody_for_it(
    world: SchedulerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_session, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(scheduler_world_module, "HEARTBEAT_SECONDS", 0.1)
    silent = world.executor(name="silent", slots=8, heartbeats=False, is_manual=True)
    async with silent as a, world.executor(name="b", slots=1) as b:
        await asyncio.sleep(0.6)

        task = (await world.submit({"steps": 1}, wait_seconds=5)).task
        assert task.state == State.TASK_STATE_SUCCEEDED
        assert [task_id for task_id, _ in b.ran] == [task.id]

        await a.heartbeat()
        again = (await world.submit({"steps": 1})).task
        assert (await assigned(a)).task_id == again.id


async def test_work_beyond_the_room_of_one_executor_goes_to_the_next_at_once(
    world: SchedulerWorld,
) -> None:
    large = world.executor(name="large", slots=2, is_manual=True)
    small = world.executor(name="small", slots=1, is_manual=True)
    async with large as a, small as b:
        connecting = psycopg.AsyncConnection.connect(world.database.owner_dsn)
        async with await connecting as connection:
            # No claim ends before all three tasks wait: each of them wakes the larger executor.
            await connection.execute("SELECT pg_advisory_xact_lock(5206, 1)")
            for _ in range(3):
                await world.submit({"steps": 1})

        await eventually(lambda: len(a.assignments) + len(b.assignments) == 3)
        assert (len(a.assignments), len(b.assignments)) == (2, 1)


# ---------------------------------------------------------------- what dead executors leave behind


async def judge_boots(
    world: SchedulerWorld, *boot_ids: str, service: str = "executor"
) -> work_pb.JudgeBootsResponse:
    """As an executor asks."""
    tokens = ServiceTokens(service, world.keys.private[service])
    channel = RpcChannel(world.channel.target, audience="scheduler", tokens=tokens)
    try:
        stub: Any = channel.stub(WorkServiceStub)
        answer = await stub.JudgeBoots(work_pb.JudgeBootsRequest(boot_ids=boot_ids))
        assert isinstance(answer, work_pb.JudgeBootsResponse)
        return answer
    finally:
        await channel.close()


async def test_an_executor_learns_which_boots_are_over(world: SchedulerWorld) -> None:
    nobody = "01930000-0000-7000-8000-000000000001"
    async with world.executor(name="a") as a, world.executor(name="b") as b:
        both = (str(a.boot_id), str(b.boot_id))
        before = await judge_boots(world, *both, nobody)
        await a.leave()

        async def is_over() -> bool:
            return list((await judge_boots(world, *both)).ended) == [str(a.boot_id)]

        await eventually(is_over)

    assert (list(before.ended), list(before.unknown)) == ([], [nobody])


async def test_only_executors_may_ask_about_boots_and_only_about_boots(
    world: SchedulerWorld,
) -> None:
    with pytest.raises(PawlError) as refused:
        await judge_boots(world, service="planner")
    with pytest.raises(PawlError) as unreadable:
        await judge_boots(world, "01930000-0000-7000-8000-000000000001", "no-boot")
    with pytest.raises(PawlError) as too_many:
        await judge_boots(world, *["01930000-0000-7000-8000-000000000001"] * 1001)

    assert refused.value.code == "permission_denied"
    assert [error.field for error in unreadable.value.errors] == ["boot_ids[1]"]
    assert [error.field for error in too_many.value.errors] == ["boot_ids"]
