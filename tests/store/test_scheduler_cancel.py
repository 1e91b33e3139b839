"""A cancel and a finish race; the first to commit wins, and everything agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.core.hashing import task_hash
from libs.core.lifecycle import TaskState
from services.scheduler.judgement import judge_due
from services.scheduler.model import Assigned, Stream, Verdict
from tests.scheduler_world import OTHER_TENANT, TENANT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, scheduler_stores

pytestmark = pytest.mark.db


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """Stores of a scheduler."""
    async with scheduler_stores(database) as stores:
        yield stores


async def test_queued_task_is_cancelled_at_once(stores: Stores) -> None:
    queued = await stores.insert_task()

    cancelled = await stores.tasks.cancel(TENANT, queued.id)

    assert cancelled is not None
    assert (cancelled.state, cancelled.seq) == (TaskState.CANCELLED, 5)
    assert cancelled.finished_at == cancelled.cancel_requested_at
    assert (await stores.history(queued.id))[3:] == [
        "cancel_requested:queued",
        "status_transition:cancelled",
    ]
    assert await stores.claim(await stores.connect()) == ()


async def test_planned_task_is_cancelled_at_once_and_never_queued(stores: Stores) -> None:
    (soon,) = await stores.ask("SELECT now() + interval '1 hour' AS at")
    planned = await stores.insert_task(scheduled_at=soon["at"])

    cancelled = await stores.tasks.cancel(TENANT, planned.id)

    assert cancelled is not None
    assert cancelled.state is TaskState.CANCELLED
    assert await stores.sweeps.queue_due() == []


async def test_task_between_steps_is_cancelled_at_once_with_its_hash(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.report(stream, task, closes=1)

    cancelled = await stores.tasks.cancel(TENANT, task.task_id)

    assert cancelled is not None
    assert cancelled.state is TaskState.CANCELLED
    expected = task_hash(
        task.plan_hash, step_hashes=[f"{1:064x}"], state=TaskState.CANCELLED, failure_code=None
    )
    assert cancelled.task_hash == expected
    assert await stores.report(stream, task, begins=2) is Verdict.TERMINAL


async def test_open_step_keeps_a_cancelled_task_running_until_it_is_dead(stores: Stores) -> None:
    stream, task = await stores.start(begun=2)

    asked = await stores.tasks.cancel(TENANT, task.task_id)

    assert asked is not None
    assert (asked.state, asked.finished_at) == (TaskState.RUNNING, None)
    assert (await stores.history(task.task_id))[-1] == "cancel_requested:running"
    assert await stores.report(stream, task, ends=TaskState.CANCELLED) is Verdict.LATE
    found = await stores.tasks.get(TENANT, task.task_id)
    assert found is not None
    assert (found.state, found.steps_begun, found.steps_closed) == (TaskState.CANCELLED, 2, 1)
    assert found.failure is None
    assert await stores.report(stream, task, ends=TaskState.CANCELLED) is Verdict.SEEN


async def test_nobody_cancels_without_being_asked(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    before = await stores.dump()

    verdict = await stores.report(stream, task, ends=TaskState.CANCELLED)

    assert verdict is Verdict.STALE_LEASE
    assert await stores.dump() == before


async def test_step_that_closed_by_itself_is_recorded(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    await stores.tasks.cancel(TENANT, task.task_id)

    verdict = await stores.report(stream, task, closes=2, ends=TaskState.SUCCEEDED)

    assert verdict is Verdict.LATE
    found = await stores.tasks.get(TENANT, task.task_id)
    assert found is not None
    assert (found.state, found.steps_closed) == (TaskState.CANCELLED, 2)


async def test_step_that_does_not_die_is_cancelled_after_the_grace(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.tasks.cancel(TENANT, task.task_id)
    (due,) = await stores.ask(
        "SELECT extract(epoch FROM due_at - cancel_requested_at)::float8 AS s FROM scheduler.tasks"
    )
    assert due["s"] == 5
    await stores.ask("UPDATE scheduler.tasks SET due_at = now()")

    (judged,) = await stores.sweeps.due_tasks()
    settled = await stores.sweeps.settle([judge_due(judged)])

    assert settled == {task.task_id: TaskState.CANCELLED}
    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.STALE_LEASE


async def test_asked_again_changes_nothing(stores: Stores) -> None:
    _, task = await stores.start(begun=1)
    await stores.tasks.cancel(TENANT, task.task_id)
    before = await stores.dump()

    assert await stores.tasks.cancel(TENANT, task.task_id) is None
    assert await stores.dump() == before


async def test_ended_task_and_another_tenants_cannot_be_cancelled(stores: Stores) -> None:
    stream, task = await stores.start(steps=1, begun=1)
    other = await stores.insert_task(tenant_id=OTHER_TENANT)
    await stores.report(stream, task, closes=1, ends=TaskState.SUCCEEDED)
    before = await stores.dump()

    assert await stores.tasks.cancel(TENANT, task.task_id) is None
    assert await stores.tasks.cancel(TENANT, other.id) is None
    assert await stores.dump() == before


async def test_step_that_closes_while_a_cancel_waits_is_in_the_hash(stores: Stores) -> None:
    """The cancel's snapshot is older than the step: it must not end the task without its hash."""
    for _ in range(25):
        stream, task = await stores.start(begun=1)

        verdict, asked = await asyncio.gather(
            stores.report(stream, task, closes=1), stores.tasks.cancel(TENANT, task.task_id)
        )

        assert asked is not None
        if asked.state is TaskState.RUNNING and verdict is Verdict.OK:
            (judged,) = await stores.sweeps.due_tasks()
            await stores.sweeps.settle([judge_due(judged)])
        found = await stores.tasks.get(TENANT, task.task_id)
        assert found is not None
        assert found.state is TaskState.CANCELLED
        assert found.task_hash == task_hash(
            task.plan_hash, step_hashes=[f"{1:064x}"], state=TaskState.CANCELLED, failure_code=None
        )


async def test_five_hundred_races_of_cancel_and_finish_have_one_winner_each(
    stores: Stores,
) -> None:
    winners = [
        winner for number in range(10) for winner in await race(stores, 50, finish_first=number % 2)
    ]

    assert {"cancel", "finish"} == set(winners)
    assert len(winners) == 500


async def race(stores: Stores, count: int, *, finish_first: int) -> list[str]:
    """Who won each of so many races; everything must agree with it."""
    for _ in range(count):
        await stores.insert_task(steps=1)
    stream = await stores.connect(slots=count)
    tasks = await stores.claim(stream, slots=count)
    assert len(tasks) == count
    for task in tasks:
        await stores.report(stream, task, begins=1)
    return list(
        await asyncio.gather(
            *(_one_race(stores, stream, task, finish_first=finish_first) for task in tasks)
        )
    )


async def _one_race(stores: Stores, stream: Stream, task: Assigned, *, finish_first: int) -> str:
    finish = stores.report(stream, task, closes=1, ends=TaskState.SUCCEEDED)
    cancel = stores.tasks.cancel(TENANT, task.task_id)
    if finish_first:
        verdict, asked = await asyncio.gather(finish, cancel)
    else:
        asked, verdict = await asyncio.gather(cancel, finish)
    found = await stores.tasks.get(TENANT, task.task_id)
    assert found is not None
    is_cancelled = found.state is TaskState.CANCELLED
    assert verdict is (Verdict.LATE if is_cancelled else Verdict.OK)
    assert (asked is not None) == is_cancelled
    history = await stores.history(task.task_id)
    assert history[-1] == f"status_transition:{found.state.value}"
    assert ("cancel_requested:running" in history) == is_cancelled
    return "cancel" if is_cancelled else "finish"
