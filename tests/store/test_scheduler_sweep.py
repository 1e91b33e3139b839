"""Dead executors, leases, tasks that are due: judged by the database's clock, carried out once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from libs.core.lifecycle import TaskState
from services.scheduler.judgement import Settlement, judge_due, judge_lost
from services.scheduler.model import Renewal, Stream, Verdict
from services.scheduler.sweep_store import JudgedBoots
from tests.scheduler_world import MATH, OTHER_TENANT, TENANT, WAIT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, scheduler_stores

pytestmark = pytest.mark.db

FRESH = "UPDATE scheduler.sweep SET last = now(), previous = now()"


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """Stores of a scheduler that has swept a moment ago."""
    async with scheduler_stores(database) as stores:
        await stores.ask(FRESH)
        yield stores


async def lapse(stores: Stores, stream: Stream) -> None:
    """Let the lease of a stream's boot run out."""
    await stores.ask(
        "UPDATE scheduler.executors SET lease_until = now() - interval '1 ms' WHERE boot_id = %s",
        (stream.boot_id,),
    )


async def settle_lost(stores: Stores) -> dict[UUID, TaskState]:
    """Judge what boots that have ended held."""
    tasks = await stores.sweeps.lost_tasks()
    return await stores.sweeps.settle([judge_lost(task) for task in tasks])


async def settle_due(stores: Stores) -> dict[UUID, TaskState]:
    """Judge what is due."""
    tasks = await stores.sweeps.due_tasks()
    return await stores.sweeps.settle([judge_due(task) for task in tasks])


# ---------------------------------------------------------------- who is dead


async def test_living_boot_is_left_alone(stores: Stores) -> None:
    stream, _ = await stores.start(begun=1)

    swept = await stores.sweeps.sweep()

    assert (swept.ended, swept.is_unsettled, swept.was_paused) == ((), False, False)
    assert await stores.work.renew(stream) is Renewal.IN_TIME


async def test_boot_whose_lease_ran_out_ends_and_stays_so(stores: Stores) -> None:
    stream, _ = await stores.start(begun=1)
    await lapse(stores, stream)

    swept = await stores.sweeps.sweep()

    assert swept.ended == (stream.boot_id,)
    assert swept.is_unsettled
    assert await stores.work.renew(stream) is Renewal.REFUSED
    assert await stores.work.hello(stream) is None
    await stores.insert_task()
    assert await stores.claim(stream) == ()


async def test_boots_are_judged_by_whether_they_can_ever_hold_a_lease_again(stores: Stores) -> None:
    living, ended = await stores.connect(), await stores.connect(executor_id="other")
    await stores.work.end_boot(ended)
    unknown = uuid4()

    judged = await stores.sweeps.judge_boots([living.boot_id, ended.boot_id, unknown])

    assert (judged.ended, judged.unknown) == ((ended.boot_id,), (unknown,))
    assert await stores.sweeps.judge_boots([]) == JudgedBoots(ended=(), unknown=())


async def test_boot_without_a_stream_has_three_seconds(stores: Stores) -> None:
    stream, _ = await stores.start()
    await stores.work.end_stream(stream)
    assert (await stores.sweeps.sweep()).ended == ()

    await stores.ask(
        "UPDATE scheduler.executors SET stream_ended_at = stream_ended_at - interval '3.1 s'"
    )

    assert (await stores.sweeps.sweep()).ended == (stream.boot_id,)


async def test_boot_that_came_back_in_time_lives_on(stores: Stores) -> None:
    stream, _ = await stores.start()
    await stores.work.end_stream(stream)
    again = await stores.connect(boot_id=stream.boot_id, executor_id=stream.executor_id)
    # What is said of the older stream comes late.
    await stores.work.end_stream(stream)
    await stores.ask(
        "UPDATE scheduler.executors SET stream_ended_at = stream_ended_at - interval '9 s'"
    )

    assert (await stores.sweeps.sweep()).ended == ()
    assert await stores.work.renew(again) is Renewal.IN_TIME


async def test_boot_that_says_it_is_over_ends_at_once(stores: Stores) -> None:
    stream, task = await stores.start()
    await stores.work.end_boot(stream)

    assert (await stores.sweeps.sweep()).is_unsettled
    assert await settle_lost(stores) == {task.task_id: TaskState.RUNNING}


@pytest.mark.parametrize("ago", ["5.5 s", "20 s", "-1 hour"])
async def test_after_a_gap_nobody_is_dead_and_leases_last_one_period(
    stores: Stores, ago: str
) -> None:
    stream, _ = await stores.start(begun=1)
    await lapse(stores, stream)
    await stores.work.end_stream(stream)
    await stores.ask(
        "UPDATE scheduler.executors SET stream_ended_at = stream_ended_at - interval '9 s'"
    )
    await stores.ask("UPDATE scheduler.sweep SET last = now() - %s::interval", (ago,))

    swept = await stores.sweeps.sweep()

    assert swept.was_paused
    assert swept.ended == ()
    (left,) = await stores.ask(
        "SELECT extract(epoch FROM lease_until - now())::float8 AS s FROM scheduler.executors"
    )
    assert 9 < left["s"] <= 10
    again = await stores.sweeps.sweep()
    assert (again.was_paused, again.ended) == (False, ())


@pytest.mark.parametrize("ago", ["2.5 s", "4.5 s"])
async def test_after_a_short_gap_a_boot_without_a_stream_has_its_time_again(
    stores: Stores, ago: str
) -> None:
    stream, _ = await stores.start(begun=1)
    await stores.work.end_stream(stream)
    gone = await stores.connect(executor_id="gone")
    await lapse(stores, gone)
    await stores.ask(
        "UPDATE scheduler.executors SET stream_ended_at = stream_ended_at - interval '4 s'"
    )
    await stores.ask("UPDATE scheduler.sweep SET last = now() - %s::interval", (ago,))

    swept = await stores.sweeps.sweep()

    assert (swept.was_paused, swept.ended) == (False, (gone.boot_id,))
    await stores.ask(
        "UPDATE scheduler.executors SET stream_ended_at = stream_ended_at - interval '3.1 s'"
    )
    assert (await stores.sweeps.sweep()).ended == (stream.boot_id,)


async def test_eight_sweeps_at_once_after_a_pause_end_nobody(stores: Stores) -> None:
    streams = [await stores.connect(executor_id=f"ex-{n}") for n in range(5)]
    for _ in range(30):
        await stores.ask("UPDATE scheduler.executors SET lease_until = now() - interval '1 s'")
        await stores.ask("UPDATE scheduler.sweep SET last = now() - interval '20 s'")
        swept = await asyncio.gather(*(stores.sweeps.sweep() for _ in range(8)))
        assert [one.ended for one in swept] == [()] * 8

    for stream in streams:
        assert await stores.work.renew(stream) is Renewal.IN_TIME


# ---------------------------------------------------------------- what becomes of its tasks


async def test_open_step_is_lost_and_never_free(stores: Stores) -> None:
    stream, task = await stores.start(begun=2)
    await stores.work.end_boot(stream)

    assert await settle_lost(stores) == {task.task_id: TaskState.FAILED}

    found = await stores.tasks.get(TENANT, task.task_id)
    assert found is not None
    assert found.failure is not None
    assert (found.failure.code, found.failure.step_index) == ("EXECUTOR_LOST", 2)
    assert "Step 1 of 3 ran, step 2 failed; step 3 did not run." in found.failure.message
    assert (await stores.history(task.task_id))[-1] == "status_transition:failed"
    assert await stores.report(stream, task, closes=2, begins=3) is Verdict.STALE_LEASE
    assert await stores.claim(await stores.connect(executor_id="b")) == ()


async def test_task_between_steps_is_taken_over_with_a_new_token(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    assert await stores.report(stream, task, closes=1) is Verdict.OK
    await stores.work.end_boot(stream)
    assert await settle_lost(stores) == {task.task_id: TaskState.RUNNING}
    before = await stores.history(task.task_id)

    (taken,) = await stores.claim(await stores.connect(executor_id="b"))

    assert taken.lease_token == task.lease_token + 2
    assert taken.closed_outputs == ('{"result":1}',)
    assert taken.last_step_hash == f"{1:064x}"
    assert await stores.history(task.task_id) == before
    assert await stores.report(stream, task, begins=2) is Verdict.STALE_LEASE


async def test_judgement_on_a_task_that_has_moved_on_is_void(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.work.end_boot(stream)
    (judged,) = await stores.sweeps.lost_tasks()
    # A report that was on its way is still good: the lease is taken away only by the settlement.
    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.OK

    assert await stores.sweeps.settle([judge_lost(judged)]) == {}
    assert await settle_lost(stores) == {task.task_id: TaskState.FAILED}


async def test_two_schedulers_settle_once(stores: Stores) -> None:
    stream, _ = await stores.start(begun=1)
    for _ in range(40):
        await stores.insert_task()
    await stores.claim(stream, slots=40)
    await stores.work.end_boot(stream)
    settlements = [judge_lost(task) for task in await stores.sweeps.lost_tasks()]

    done = await asyncio.gather(*(stores.sweeps.settle(settlements) for _ in range(4)))

    assert sorted(len(one) for one in done) == [0, 0, 0, 41]
    tokens = await stores.ask("SELECT DISTINCT lease_token AS n FROM scheduler.tasks")
    assert tokens == [{"n": 2}]


async def test_boot_is_settled_when_nothing_is_left_that_it_held(stores: Stores) -> None:
    stream, _ = await stores.start(begun=1)
    await stores.work.end_boot(stream)
    await stores.sweeps.settle_boots()
    assert (await stores.sweeps.sweep()).is_unsettled

    await settle_lost(stores)
    await stores.sweeps.settle_boots()

    assert not (await stores.sweeps.sweep()).is_unsettled
    await stores.ask("UPDATE scheduler.executors SET settled_at = now() - interval '8 days'")
    await stores.sweeps.forget_boots()
    assert await stores.ask("SELECT FROM scheduler.executors") == []


async def test_task_that_was_to_be_cancelled_before_the_loss_is_cancelled(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.tasks.cancel(TENANT, task.task_id)
    await stores.work.end_boot(stream)

    assert await settle_lost(stores) == {task.task_id: TaskState.CANCELLED}


async def test_task_that_was_to_be_cancelled_after_the_loss_is_lost(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.work.end_stream(stream)
    await stores.tasks.cancel(TENANT, task.task_id)
    await stores.work.end_boot(stream)

    # What the open step did nobody knows: that is said rather than that it was cancelled.
    assert await settle_lost(stores) == {task.task_id: TaskState.FAILED}


# ---------------------------------------------------------------- what is due


async def test_deadline_ends_a_task_that_its_executor_does_not(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    (due,) = await stores.ask("SELECT due_at - deadline_at AS grace FROM scheduler.tasks")
    assert due["grace"].total_seconds() == 0.75
    swept = await stores.sweeps.sweep()
    assert swept.due_in_seconds is not None
    assert 44 < swept.due_in_seconds < 46
    assert await settle_due(stores) == {}
    await stores.ask("UPDATE scheduler.tasks SET due_at = now(), deadline_at = now()")

    assert await settle_due(stores) == {task.task_id: TaskState.FAILED}

    found = await stores.tasks.get(TENANT, task.task_id)
    assert found is not None
    assert found.failure is not None
    assert (found.failure.code, found.failure.reason) == ("TIMEOUT", "TASK_TIMEOUT")
    assert found.failure.message.startswith("TASK_TIMEOUT: the task took longer than 45 s.")
    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.STALE_LEASE
    assert (await stores.sweeps.sweep()).due_in_seconds is None


@pytest.mark.parametrize(
    ("tools", "code"),
    [((MATH,), "TIMEOUT"), ((WAIT,), "TOOL_UNAVAILABLE"), ((), "TOOL_UNAVAILABLE")],
)
async def test_task_that_waited_too_long(stores: Stores, tools: tuple[object], code: str) -> None:
    await stores.connect(tools=tools)
    queued = await stores.insert_task()
    await stores.ask("UPDATE scheduler.tasks SET due_at = now()")

    assert await settle_due(stores) == {queued.id: TaskState.FAILED}

    found = await stores.tasks.get(TENANT, queued.id)
    assert found is not None
    assert found.failure is not None
    assert (found.failure.code, found.failure.reason) == (code, "QUEUE_TIMEOUT")
    assert found.failure.message.endswith("No step was executed.")


async def test_task_waits_as_planned_until_it_is_due(stores: Stores) -> None:
    soon = await stores.ask("SELECT now() + interval '1 hour' AS at")
    planned = await stores.insert_task(scheduled_at=soon[0]["at"])
    stream = await stores.connect()

    assert (planned.state, planned.seq) == (TaskState.PLANNED, 2)
    assert await stores.claim(stream) == ()
    assert await stores.sweeps.queue_due() == []

    await stores.ask("UPDATE scheduler.tasks SET due_at = now()")
    assert await stores.sweeps.queue_due() == [planned.id]

    (task,) = await stores.claim(stream)
    assert task.task_id == planned.id
    assert await stores.history(planned.id) == [
        "status_transition:created",
        "status_transition:planned",
        "status_transition:queued",
        "status_transition:running",
    ]


async def test_due_time_that_has_passed_queues_at_once(stores: Stores) -> None:
    past = await stores.ask("SELECT now() - interval '1 hour' AS at")
    queued = await stores.insert_task(scheduled_at=past[0]["at"])

    assert (queued.state, queued.seq) == (TaskState.QUEUED, 3)
    (left,) = await stores.ask(
        "SELECT extract(epoch FROM due_at - created_at)::float8 AS s FROM scheduler.tasks"
    )
    assert left["s"] == 3600


async def test_tasks_due_together_are_queued_in_turn_across_tenants(stores: Stores) -> None:
    (now,) = await stores.ask("SELECT now() + interval '1 hour' AS at")
    mine = [(await stores.insert_task(scheduled_at=now["at"])).id for _ in range(3)]
    theirs = [
        (await stores.insert_task(scheduled_at=now["at"], tenant_id=OTHER_TENANT)).id
        for _ in range(2)
    ]
    await stores.ask("UPDATE scheduler.tasks SET due_at = now()")
    assert sorted(await stores.sweeps.queue_due()) == sorted(mine + theirs)
    stream = await stores.connect()

    order = [(await stores.claim(stream))[0].tenant_id for _ in range(5)]

    assert {order[0], order[1]} == {order[2], order[3]} == {TENANT, OTHER_TENANT}
    assert order[4] == TENANT


async def test_two_schedulers_queue_each_once(stores: Stores) -> None:
    (now,) = await stores.ask("SELECT now() + interval '1 hour' AS at")
    ids = {(await stores.insert_task(scheduled_at=now["at"])).id for _ in range(60)}
    await stores.ask("UPDATE scheduler.tasks SET due_at = now()")

    queued = await asyncio.gather(*(stores.sweeps.queue_due() for _ in range(4)))

    assert sorted(one for some in queued for one in some) == sorted(ids)
    ranks = await stores.ask("SELECT count(DISTINCT rank) AS n FROM scheduler.tasks")
    assert ranks[0]["n"] >= 15


async def test_settlement_of_an_ended_task_changes_nothing(stores: Stores) -> None:
    stream, task = await stores.start(steps=1, begun=1)
    await stores.report(stream, task, closes=1, ends=TaskState.SUCCEEDED)
    (row,) = await stores.ask("SELECT seq, lease_token FROM scheduler.tasks")
    before = await stores.dump()
    settlement = Settlement(
        task_id=task.task_id, seq=row["seq"], lease_token=row["lease_token"], end=None
    )

    assert await stores.sweeps.settle([settlement]) == {}
    assert await stores.dump() == before
