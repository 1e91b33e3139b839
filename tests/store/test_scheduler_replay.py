"""Replays against real PostgreSQL: their rows, their guards, and what is read for a comparison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from services.scheduler.model import StoredTask
from services.scheduler.replay_comparison import compare_with_original
from services.scheduler.replay_model import Recall, ReplayMode, ReplayOf
from tests.scheduler_world import MATH, OTHER_TENANT, TENANT, WAIT
from tests.servers import Database
from tests.store.scheduler_rows import Stores, make_task, scheduler_stores

pytestmark = pytest.mark.db

CLOCK = datetime(2026, 2, 27, 11, 18, 1, 127894, tzinfo=UTC)


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


async def ended(stores: Stores, *, replay: ReplayOf | None = None) -> StoredTask:
    """A task of one step that has succeeded."""
    task = await stores.insert_task(steps=1, replay=replay)
    stream = await stores.connect(tools=(MATH, WAIT))
    (assigned,) = await stores.claim(stream)
    await stores.report(stream, assigned, begins=1)
    await stores.report(stream, assigned, closes=1, ends=TaskState.SUCCEEDED)
    found = await stores.tasks.get(TENANT, task.id)
    assert found is not None
    assert found.state is TaskState.SUCCEEDED
    return found


def make_replay(original: StoredTask, *recorded: str, live: bool = False) -> ReplayOf:
    tools = None if live else frozenset(recorded)
    return ReplayOf(task_id=original.id, clock_at=CLOCK, recorded_tools=tools)


@pytest.mark.parametrize(
    ("recorded", "mode", "needed"),
    [
        (None, ReplayMode.LIVE, (MATH,)),
        (frozenset[str](), ReplayMode.RECORDED, (MATH,)),
        (frozenset({"math"}), ReplayMode.RECORDED, ()),
    ],
)
async def test_a_replay_is_stored_with_its_clock_and_what_it_does_not_call(
    stores: Stores, recorded: frozenset[str] | None, mode: ReplayMode, needed: tuple[object, ...]
) -> None:
    original = await ended(stores)
    replay = replace(make_replay(original), recorded_tools=recorded)

    stored = await stores.insert_task(steps=1, replay=replay)

    assert stored.replay == replay
    assert stored.replay.mode is mode
    assert stored.clock_at == CLOCK
    assert stored.created_at > original.created_at
    assert stored.tool_set == (MATH,)
    rows = await stores.ask("SELECT tools FROM scheduler.tasks WHERE id = %s", (stored.id,))
    assert rows[0]["tools"] == [tool.offer for tool in needed if tool is MATH]
    assert await stores.tasks.get(TENANT, stored.id) == stored


async def test_a_claim_says_the_clock_and_what_is_answered_from_the_record(stores: Stores) -> None:
    original = await ended(stores)
    await stores.insert_task(steps=1, replay=make_replay(original, "math"))
    stream = await stores.connect(executor_id="ex-2", tools=(WAIT,))

    (claimed,) = await stores.claim(stream)
    (held,) = await stores.work.held(stream.boot_id)

    assert claimed.clock_at == held.clock_at == CLOCK
    assert claimed.recorded_tools == held.recorded_tools == {"math"}
    assert original.clock_at == original.created_at


async def test_who_offers_nothing_takes_no_replay_that_calls_nothing(stores: Stores) -> None:
    await stores.insert_task(steps=1, replay=make_replay(await ended(stores), "math"))
    leaving = await stores.connect(executor_id="ex-2", tools=())

    assert await stores.claim(leaving) == ()
    assert len(await stores.claim(await stores.connect(executor_id="ex-3", tools=(WAIT,)))) == 1


async def test_a_recall_needs_the_lease_of_a_running_recorded_replay(stores: Stores) -> None:
    original = await ended(stores)
    await stores.insert_task(steps=1, replay=make_replay(original, "math"))
    stream = await stores.connect(executor_id="ex-2")
    (task,) = await stores.claim(stream)
    asked = Recall(task_id=task.task_id, lease_token=1, step_index=1, input_sha256="")

    answer = await stores.work.recall(asked)
    stale = await stores.work.recall(replace(asked, lease_token=2))
    original_itself = await stores.work.recall(replace(asked, task_id=original.id))
    await stores.work.end_boot(stream)
    await stores.report(stream, task, begins=1)
    await stores.report(stream, task, closes=1, ends=TaskState.SUCCEEDED)
    late = await stores.work.recall(asked)

    assert answer is not None
    assert (answer.of_task_id, answer.output) == (original.id, '{"result":1}')
    assert stale is original_itself is late is None


async def test_hashes_are_read_for_the_tenant_alone(stores: Stores) -> None:
    original = await ended(stores)
    replay = await ended(stores, replay=make_replay(original, live=True))

    mine = await stores.tasks.step_hashes(TENANT, (original.id, replay.id))
    theirs = await stores.tasks.step_hashes(OTHER_TENANT, (original.id,))

    assert mine == {original.id: [f"{1:064x}"], replay.id: [f"{1:064x}"]}
    assert theirs == {original.id: []}


async def test_a_comparison_is_of_what_the_row_had_come_to(stores: Stores) -> None:
    original = await ended(stores)
    waiting = await stores.insert_task(steps=1, replay=make_replay(original, live=True))

    open_yet = await compare_with_original(stores.tasks, waiting)
    foreign = replace(waiting, replay=replace(make_replay(original), task_id=new_id()))

    assert open_yet is not None
    assert open_yet.matches is None
    assert await compare_with_original(stores.tasks, original) is None
    assert await compare_with_original(stores.tasks, foreign) is None


@pytest.mark.parametrize("column", ["clock_at = now()", "recorded_tools = '{}'"])
async def test_what_a_replay_is_never_changes(stores: Stores, column: str) -> None:
    original = await ended(stores)
    replay = await stores.insert_task(steps=1, replay=make_replay(original))

    with pytest.raises(psycopg.errors.CheckViolation, match="tasks_fixed"):
        await stores.ask(f"UPDATE scheduler.tasks SET {column} WHERE id = %s", (replay.id,))


async def test_a_replay_without_a_plan_is_refused(stores: Stores) -> None:
    original = await ended(stores)

    with pytest.raises(psycopg.errors.CheckViolation, match="tasks_replay_as_a_whole"):
        await stores.tasks.submit(make_task(planned=False, replay=make_replay(original)))
