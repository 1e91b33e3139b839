"""The Work stream over real gRPC: claims, reports, acks, reconnects, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1 import work_service_pb2_grpc as work_grpc
from libs.rpc.client import RpcChannel, caller_token
from libs.rpc.tokens import KeyRing, ServiceTokens
from tests.scheduler_world import (
    MATH,
    OTHER_TENANT,
    WAIT,
    FakeExecutor,
    SchedulerWorld,
    State,
    closed_step,
    scheduler_world,
)
from tests.servers import Database
from tests.waiting import eventually

pytestmark = pytest.mark.db

OK = work_pb.ACK_STATUS_OK
SEEN = work_pb.ACK_STATUS_SEEN
STALE = work_pb.ACK_STATUS_STALE_LEASE
LATE = work_pb.ACK_STATUS_LATE
TERMINAL = work_pb.ACK_STATUS_TERMINAL


@pytest.fixture
async def world(database: Database, keys: KeyRing, tmp_path: Path) -> AsyncIterator[SchedulerWorld]:
    """A scheduler on a fresh database."""
    async with scheduler_world(database, keys, tmp_path) as world:
        yield world


async def assigned(executor: FakeExecutor, count: int = 1) -> work_pb.Assignment:
    """The newest of so many assignments."""
    await eventually(lambda: len(executor.assignments) >= count)
    return executor.assignments[count - 1]


def begins(assignment: work_pb.Assignment, step: int, **changes: Any) -> work_pb.StepReport:
    """The report that a step begins."""
    fields: dict[str, Any] = {
        "task_id": assignment.task_id,
        "lease_token": assignment.lease_token,
        "started_step_index": step,
    }
    return work_pb.StepReport(**fields | changes)


def closes(
    assignment: work_pb.Assignment, step: int, *, previous: str, ends: bool = False
) -> work_pb.StepReport:
    """The report that a step closed well, and that the next begins or the task ended."""
    report = work_pb.StepReport(task_id=assignment.task_id, lease_token=assignment.lease_token)
    report.finished.CopyFrom(closed_step(assignment, step, previous=previous))
    if ends:
        report.end.state = State.TASK_STATE_SUCCEEDED
    else:
        report.started_step_index = step + 1
    return report


async def open_raw(world: SchedulerWorld, service: str = "executor") -> tuple[RpcChannel, Any]:
    """A stream that has said nothing yet."""
    tokens = ServiceTokens(service, world.keys.private[service])
    channel = RpcChannel(world.channel.target, audience="scheduler", tokens=tokens)
    stub: Any = channel.stub(work_grpc.WorkServiceStub)
    return channel, stub.Work(timeout=20)


# ---------------------------------------------------------------- whole lives


async def test_executor_runs_tasks_to_their_end(world: SchedulerWorld) -> None:
    async with world.executor(slots=4) as executor:
        answers = await asyncio.gather(
            *(world.submit({"steps": 3}, wait_seconds=20) for _ in range(20))
        )

    assert {answer.task.state for answer in answers} == {State.TASK_STATE_SUCCEEDED}
    assert sorted(executor.ran) == sorted((a.task.id, k) for a in answers for k in (1, 2, 3))
    hashes = {answer.task.task_hash for answer in answers}
    assert len(hashes) == 1


async def test_two_executors_share_the_work_and_run_each_step_once(world: SchedulerWorld) -> None:
    async with world.executor(name="a", slots=2) as a, world.executor(name="b", slots=2) as b:
        answers = await asyncio.gather(
            *(world.submit({"steps": 3}, wait_seconds=20) for _ in range(30))
        )

    assert {answer.task.state for answer in answers} == {State.TASK_STATE_SUCCEEDED}
    ran = a.ran + b.ran
    assert len(ran) == len(set(ran)) == 90
    assert a.ran
    assert b.ran


async def test_executors_of_two_schedulers_share_the_queue(
    world: SchedulerWorld, keys: KeyRing, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    elsewhere = scheduler_world(world.database, keys, tmp_path / "b")
    async with (
        elsewhere as other,
        world.executor(name="a", slots=1) as a,
        other.executor(name="b", slots=1) as b,
    ):
        answers = await asyncio.gather(
            *(world.submit({"steps": 4}, wait_seconds=20) for _ in range(20))
        )

    assert {answer.task.state for answer in answers} == {State.TASK_STATE_SUCCEEDED}
    assert len(set(a.ran + b.ran)) == len(a.ran + b.ran) == 80
    assert b.ran


async def test_no_more_tasks_at_once_than_slots(world: SchedulerWorld) -> None:
    ids = [(await world.submit({"steps": 1})).task.id for _ in range(5)]
    async with world.executor(slots=2, is_manual=True) as executor:
        await assigned(executor, 2)
        waiting = await world.ask(
            "SELECT count(*) AS n FROM scheduler.tasks WHERE state = 'queued'"
        )
        await executor.run_task(executor.assignments[0])
        await assigned(executor, 3)

        assert waiting == [{"n": 3}]
        assert len(executor.assignments) == 3
        assert [one.task_id for one in executor.assignments] == ids[:3]


async def test_task_waits_for_an_executor_with_its_exact_tools(world: SchedulerWorld) -> None:
    async with world.executor(name="a", tools=[MATH]) as a:
        queued = await world.submit({"steps": 1, "tool": "wait"}, wait_seconds=0.3)
        async with world.executor(name="b", tools=[WAIT]) as b:
            task = await world.get(queued.task.id, wait_seconds=10)

    assert queued.task.state == State.TASK_STATE_QUEUED
    assert task.state == State.TASK_STATE_SUCCEEDED
    assert (len(a.ran), len(b.ran)) == (0, 1)


async def test_assignment_says_all_that_a_step_needs(world: SchedulerWorld) -> None:
    submitted = (await world.submit({"steps": 2}, mode="test")).task
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)

    assert assignment.plan == submitted.plan
    assert (assignment.task_input_json, assignment.mode) == ('{"steps":2}', "test")
    assert (assignment.plan_hash, assignment.lease_token) == (submitted.plan_hash, 1)
    assert [(t.name, t.version, t.digest) for t in assignment.tool_set] == [
        (MATH.name, MATH.version, MATH.digest)
    ]
    assert 30 < assignment.seconds_left <= 45
    assert assignment.created_at == submitted.created_at
    assert assignment.request_id.startswith("req_")
    assert not assignment.closed_output_json


# ---------------------------------------------------------------- reports


async def test_started_is_committed_before_its_ack(world: SchedulerWorld) -> None:
    await world.submit({"steps": 2})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)

        status = await executor.report(begins(assignment, 1))

        (row,) = await world.ask("SELECT steps_begun, steps_closed FROM scheduler.tasks")
        events = await world.ask("SELECT type FROM scheduler.task_events ORDER BY seq DESC LIMIT 1")
        assert (status, row) == (OK, {"steps_begun": 1, "steps_closed": 0})
        assert events == [{"type": "step_started"}]


async def test_report_sent_again_is_seen(world: SchedulerWorld) -> None:
    await world.submit({"steps": 1})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)
        last = closes(assignment, 1, previous=assignment.plan_hash, ends=True)

        told = [
            await executor.report(begins(assignment, 1, report_id=1)),
            await executor.report(begins(assignment, 1, report_id=1)),
            await executor.report(last),
            await executor.report(last),
            await executor.report(begins(assignment, 1)),
        ]

    assert told == [OK, SEEN, OK, SEEN, TERMINAL]


async def test_stale_token_unknown_task_and_wrong_step_are_refused(world: SchedulerWorld) -> None:
    await world.submit({"steps": 2})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)

        told = [
            await executor.report(begins(assignment, 1, lease_token=9)),
            await executor.report(begins(assignment, 1, task_id=str(uuid4()))),
            await executor.report(begins(assignment, 1, task_id="no id")),
            await executor.report(begins(assignment, 2)),
        ]

    assert told == [STALE] * 4
    rows = await world.ask("SELECT max(seq) AS seq FROM scheduler.task_events")
    assert rows == [{"seq": 4}]


async def test_task_of_another_executor_cannot_be_reported(world: SchedulerWorld) -> None:
    await world.submit({"steps": 2})
    async with world.executor(name="a", is_manual=True) as a:
        assignment = await assigned(a)
        async with world.executor(name="b") as b:
            assert await b.report(begins(assignment, 1)) == STALE
            assert await a.report(begins(assignment, 1)) == OK


async def test_cancelled_task_is_late(world: SchedulerWorld) -> None:
    await world.submit({"steps": 2})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)
        await executor.report(begins(assignment, 1))
        await world.ask("UPDATE scheduler.tasks SET cancel_requested_at = now()")

        status = await executor.report(closes(assignment, 1, previous=assignment.plan_hash))

    assert status == LATE
    task = await world.get(assignment.task_id)
    assert task.state == State.TASK_STATE_CANCELLED


def _no_hash(report: work_pb.StepReport) -> None:
    report.finished.step_hash = "abc"


def _no_output(report: work_pb.StepReport) -> None:
    report.finished.ClearField("output_json")


def _bad_code(report: work_pb.StepReport) -> None:
    report.finished.failure.code = "OH_NO"


def _bad_end(report: work_pb.StepReport) -> None:
    report.ClearField("started_step_index")
    report.end.state = State.TASK_STATE_QUEUED


def _too_early_success(report: work_pb.StepReport) -> None:
    report.ClearField("started_step_index")
    report.end.state = State.TASK_STATE_SUCCEEDED


def _raw_nul(report: work_pb.StepReport) -> None:
    report.finished.output_json = '"\x00"'


def _nothing(report: work_pb.StepReport) -> None:
    report.ClearField("finished")
    report.ClearField("started_step_index")


@pytest.mark.parametrize(
    "spoil", [_no_hash, _no_output, _bad_code, _bad_end, _too_early_success, _raw_nul, _nothing]
)
async def test_malformed_report_ends_its_task_and_no_other(
    world: SchedulerWorld, spoil: Any
) -> None:
    bad_id = (await world.submit({"steps": 3})).task.id
    good_id = (await world.submit({"steps": 3})).task.id
    async with world.executor(is_manual=True, slots=2) as executor:
        await assigned(executor, 2)
        bad = next(one for one in executor.assignments if one.task_id == bad_id)
        good = next(one for one in executor.assignments if one.task_id == good_id)
        await executor.report(begins(bad, 1))
        report = closes(bad, 1, previous=bad.plan_hash)
        spoil(report)

        status, _ = await asyncio.gather(executor.report(report), executor.run_task(good))

        assert status == TERMINAL
        assert executor.error is None
    task = await world.get(bad_id)
    assert (task.state, task.failure.code) == (State.TASK_STATE_FAILED, "INTERNAL")
    assert task.failure.message.endswith("Step 1 of 3 began and failed; steps 2 to 3 did not run.")
    assert (await world.get(good_id)).state == State.TASK_STATE_SUCCEEDED
    steps = [step for page in await world.trace(bad_id) for step in page.steps]
    assert [step.status for step in steps] == [4]  # interrupted


async def test_tools_words_may_hold_anything(world: SchedulerWorld) -> None:
    await world.submit({"steps": 1})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)
        await executor.report(begins(assignment, 1))
        report = work_pb.StepReport(task_id=assignment.task_id, lease_token=1)
        report.finished.CopyFrom(closed_step(assignment, 1, previous=assignment.plan_hash))
        report.finished.ClearField("output_json")
        for failure in (report.finished.failure, report.end.failure):
            failure.code = "TOOL_ERROR"
            failure.message = 'a NUL \x00 and "quotes" \\u0000 ' + "x" * 9000
            failure.reason = "\x00"
        report.end.state = State.TASK_STATE_FAILED

        assert await executor.report(report) == OK

    task = await world.get(assignment.task_id)
    assert task.failure.message.startswith('a NUL \ufffd and "quotes" \\u0000 xxx')
    assert task.failure.message.endswith("… Step 1 of 1 began and failed; no step was left.")
    assert len(task.failure.message) <= 4000


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("service", ["gateway", "planner", "scheduler"])
async def test_only_executors_may_work(world: SchedulerWorld, service: str) -> None:
    channel, stream = await open_raw(world, service)

    with pytest.raises(PawlError) as refused:
        await stream.read()

    assert refused.value.code == "permission_denied"
    await channel.close()


async def test_callers_may_not_work(world: SchedulerWorld) -> None:
    with caller_token(world.token()):
        channel, stream = await open_raw(world)

    with pytest.raises(PawlError) as refused:
        await stream.read()

    assert refused.value.code == "permission_denied"
    await channel.close()


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (work_pb.WorkRequest(heartbeat=work_pb.Heartbeat()), "validation_failed"),
        (work_pb.WorkRequest(hello=work_pb.Hello(executor_id="x")), "validation_failed"),
        (
            work_pb.WorkRequest(
                hello=work_pb.Hello(executor_id="a\0", boot_id=str(uuid4()), slots=1)
            ),
            "validation_failed",
        ),
        (
            work_pb.WorkRequest(
                hello=work_pb.Hello(executor_id="x", boot_id=str(uuid4()), slots=1001)
            ),
            "validation_failed",
        ),
        (
            work_pb.WorkRequest(hello=work_pb.Hello(boot_id=str(uuid4()), slots=1)),
            "validation_failed",
        ),
    ],
)
async def test_stream_needs_a_whole_hello_first(
    world: SchedulerWorld, first: work_pb.WorkRequest, code: str
) -> None:
    channel, stream = await open_raw(world)
    await stream.write(first)

    with pytest.raises(PawlError) as refused:
        await stream.read()

    assert refused.value.code == code
    await channel.close()


async def test_hello_tells_the_lease_and_heartbeats_renew_it(world: SchedulerWorld) -> None:
    async with world.executor() as executor:
        assert executor.hello.lease_seconds == 10
        await world.ask("UPDATE scheduler.executors SET lease_until = now()")

        await executor.heartbeat()

        async def is_renewed() -> bool:
            rows = await world.ask(
                "SELECT lease_until > now() + interval '9 s' AS yes FROM scheduler.executors"
            )
            return bool(rows[0]["yes"])

        await eventually(is_renewed)


async def test_lapsed_lease_gets_work_again_with_the_next_heartbeat(world: SchedulerWorld) -> None:
    async with world.executor() as executor:
        await world.ask("UPDATE scheduler.executors SET lease_until = now() - interval '1 s'")
        queued = await world.submit({"steps": 1}, wait_seconds=0.3)

        await executor.heartbeat()

        task = await world.get(queued.task.id, wait_seconds=5)
    assert queued.task.state == State.TASK_STATE_QUEUED
    assert task.state == State.TASK_STATE_SUCCEEDED


async def test_reconnect_keeps_what_runs_and_stops_what_does_not(world: SchedulerWorld) -> None:
    boot_id = uuid4()
    async with world.executor(boot_id=boot_id, is_manual=True, slots=2) as executor:
        mine = (await world.submit({"steps": 2})).task.id
        assignment = await assigned(executor)
        await executor.report(begins(assignment, 1))
    gone = str(uuid4())

    running = [(mine, 1), (gone, 1)]
    async with world.executor(boot_id=boot_id, is_manual=True, running=running) as again:
        assert list(again.hello.keep_task_ids) == [mine]
        assert list(again.hello.stop_task_ids) == [gone]
        status = await again.report(closes(assignment, 1, previous=assignment.plan_hash))
        assert status == OK
        assert again.assignments == []


async def test_assignment_that_was_lost_on_the_way_is_sent_again(world: SchedulerWorld) -> None:
    boot_id = uuid4()
    async with world.executor(boot_id=boot_id, is_manual=True) as executor:
        await world.submit({"steps": 2})
        lost = await assigned(executor)

    async with world.executor(boot_id=boot_id) as again:
        task = await world.get(lost.task_id, wait_seconds=10)

    assert task.state == State.TASK_STATE_SUCCEEDED
    assert [one.lease_token for one in again.assignments] == [lost.lease_token]


async def test_open_step_that_its_executor_forgot_is_lost_and_not_run_again(
    world: SchedulerWorld,
) -> None:
    boot_id = uuid4()
    async with world.executor(boot_id=boot_id, is_manual=True) as executor:
        await world.submit({"steps": 2})
        assignment = await assigned(executor)
        await executor.report(begins(assignment, 1))

    async with world.executor(boot_id=boot_id) as again:
        task = await world.get(assignment.task_id, wait_seconds=10)

    assert (task.state, task.failure.code) == (State.TASK_STATE_FAILED, "EXECUTOR_LOST")
    assert (task.failure.step, task.failure.step_index) == ("math", 1)
    assert again.ran == []


async def test_newer_stream_of_a_boot_ends_the_older(world: SchedulerWorld) -> None:
    boot_id = uuid4()
    async with world.executor(boot_id=boot_id) as old, world.executor(boot_id=boot_id) as new:
        await eventually(lambda: old.error)
        task = (await world.submit({"steps": 1}, wait_seconds=10)).task

    assert old.error is not None
    assert old.error.code == "unavailable"
    assert task.state == State.TASK_STATE_SUCCEEDED
    assert (len(old.ran), len(new.ran)) == (0, 1)


async def test_newer_boot_of_an_executor_ends_the_older_for_good(world: SchedulerWorld) -> None:
    old_boot = uuid4()
    async with world.executor(boot_id=old_boot) as old, world.executor():
        await old.heartbeat()
        await eventually(lambda: old.error)
    assert old.error is not None
    assert old.error.code == "unavailable"

    with pytest.raises(PawlError) as refused:
        async with world.executor(boot_id=old_boot):
            pass

    assert refused.value.code == "conflict"


async def test_reports_are_written_while_the_database_comes_back(world: SchedulerWorld) -> None:
    await world.submit({"steps": 2})
    async with world.executor(is_manual=True) as executor:
        assignment = await assigned(executor)
        await world.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'pawl_scheduler' AND datname = current_database()"
        )

        await executor.run_task(assignment)

    task = await world.get(assignment.task_id, wait_seconds=5)
    assert task.state == State.TASK_STATE_SUCCEEDED
    rows = await world.ask("SELECT count(*) AS n FROM scheduler.task_events")
    assert rows == [{"n": 9}]


async def test_steps_of_a_report_that_is_only_seen_are_counted(world: SchedulerWorld) -> None:
    boot_id = uuid4()
    await world.submit({"steps": 3})
    async with world.executor(boot_id=boot_id, is_manual=True) as executor:
        assignment = await assigned(executor)
        await executor.report(begins(assignment, 1))
        report = closes(assignment, 1, previous=assignment.plan_hash)
        with psycopg.connect(world.database.owner_dsn) as owner:
            owner.execute("SELECT FROM scheduler.tasks FOR UPDATE")
            unanswered = asyncio.create_task(executor.report(report))
            await eventually(lambda: waits_for_a_lock(world))
            running = [(assignment.task_id, 1)]
            async with world.executor(boot_id=boot_id, is_manual=True, running=running) as again:
                owner.rollback()
                end = begins(assignment, 0, report_id=9)
                end.ClearField("started_step_index")
                end.end.state = State.TASK_STATE_FAILED
                end.end.failure.code, end.end.failure.message = "INTERNAL", "it broke."

                told = [await again.report(report), await again.report(end)]
        await asyncio.gather(unanswered, return_exceptions=True)

    assert told == [SEEN, OK]
    task = await world.get(assignment.task_id)
    assert task.failure.message == ("it broke. Step 1 of 3 ran, step 2 failed; step 3 did not run.")


async def waits_for_a_lock(world: SchedulerWorld) -> bool:
    return bool(
        await world.ask(
            "SELECT 1 AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND usename = 'pawl_scheduler' AND datname = current_database()"
        )
    )


async def test_drain_gives_no_more_work_and_acknowledges_what_has_come(
    database: Database, keys: KeyRing, tmp_path: Path
) -> None:
    async with scheduler_world(database, keys, tmp_path) as world:
        await world.submit({"steps": 2})
        async with (
            world.executor(is_manual=True) as executor,
            await psycopg.AsyncConnection.connect(database.owner_dsn) as owner,
        ):
            assignment = await assigned(executor)
            await owner.execute("SELECT FROM scheduler.tasks FOR UPDATE")
            reporting = asyncio.create_task(executor.report(begins(assignment, 1)))
            await eventually(lambda: is_waiting_for_a_lock(world))

            world.stop.set()
            await eventually(lambda: executor.drained)
            await owner.rollback()

            assert await asyncio.wait_for(reporting, 5) == OK
            await asyncio.wait_for(asyncio.shield(world.serving), 10)
            await eventually(lambda: executor.error)
            assert executor.error is not None
            assert executor.error.code == "unavailable"
            assert len(executor.assignments) == 1


async def is_waiting_for_a_lock(world: SchedulerWorld) -> bool:
    rows = await world.ask(
        "SELECT count(*) AS n FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(rows[0]["n"])


async def test_one_tenant_does_not_starve_another(world: SchedulerWorld) -> None:
    mine = [(await world.submit({"steps": 1})).task.id for _ in range(20)]
    theirs = [(await world.submit({"steps": 1}, tenant_id=OTHER_TENANT)).task.id for _ in range(3)]
    async with world.executor(slots=1) as executor:
        for task_id in theirs:
            await world.get(task_id, tenant_id=OTHER_TENANT, wait_seconds=10)
        for task_id in mine:
            await world.get(task_id, wait_seconds=10)

    order = [task_id for task_id, _ in executor.ran]
    assert {order.index(task_id) for task_id in theirs} == {1, 3, 5}


async def test_events_of_every_commit_reach_the_bus_in_order(world: SchedulerWorld) -> None:
    async with world.executor(slots=8):
        answers = await asyncio.gather(
            *(world.submit({"steps": 2}, wait_seconds=20) for _ in range(10))
        )

    async def published() -> list[dict[str, Any]]:
        rows = await world.ask(
            "SELECT key, headers::json->>'ce_sequence' AS seq FROM bus.records ORDER BY position"
        )
        return rows if len(rows) == 90 else []

    rows = await eventually(published)
    for answer in answers:
        seqs = [int(row["seq"]) for row in rows if UUID(row["key"]) == UUID(answer.task.id)]
        assert seqs == list(range(1, 10))
