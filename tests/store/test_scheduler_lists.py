"""Lists of tasks against real PostgreSQL: filters, pages, what is promised while tasks change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from bench.many_tasks import AGENTS, fill, tidy
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from services.scheduler.batch_model import Entry
from services.scheduler.list_model import BEGINNING, Place, TaskFilter
from services.scheduler.list_store import PAGE_BYTES, QUERIES, ListStore, list_parameters
from services.scheduler.model import Agent, StoredTask
from services.scheduler.replay_model import ReplayOf
from services.scheduler.rows import submit_parameters
from services.scheduler.store import QUERIES as TASK_QUERIES
from tests.scheduler_world import OTHER_TENANT, TENANT
from tests.servers import Database
from tests.store.scheduler_rows import BROKE, Stores, make_task, scheduler_stores

pytestmark = pytest.mark.db

AGENT, OTHER_AGENT = UUID(int=1), UUID(int=2)
SUCCEEDED = TaskState.SUCCEEDED


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


@pytest.fixture
def lists(stores: Stores) -> ListStore:
    """The store of lists, on the other pool."""
    return ListStore(stores.tasks._pool)


async def walk(
    lists: ListStore, wanted: TaskFilter | None = None, *, page_size: int = 3
) -> list[StoredTask]:
    """Every task of the tenant's list, page by page."""
    found: list[StoredTask] = []
    after = BEGINNING
    while True:
        page = await lists.page(TENANT, wanted or TaskFilter(), after=after, page_size=page_size)
        found += page.tasks
        assert len(page.tasks) <= page_size
        if page.is_last:
            return found
        after = Place(page.tasks[-1].created_at, page.tasks[-1].id)


def agent(agent_id: UUID) -> Agent:
    return Agent(agent_id=agent_id, max_concurrent_tasks=None)


def replay_of(task: StoredTask) -> ReplayOf:
    return ReplayOf(task_id=task.id, clock_at=task.created_at, recorded_tools=None)


async def one_of_each_state(stores: Stores, **changes: Any) -> None:
    """A task of each state, the newest cancelled."""
    await stores.insert_task(planned=False, **changes)
    await stores.tasks.submit_failed(make_task(planned=False, **changes), BROKE)
    ended = await stores.insert_task(steps=1, **changes)
    await stores.insert_task(steps=1, **changes)
    stream = await stores.connect()
    for task in await stores.claim(stream, slots=2):
        await stores.report(stream, task, begins=1)
        if task.task_id == ended.id:
            await stores.report(stream, task, closes=1, ends=SUCCEEDED)
    await stores.insert_task(scheduled_at=datetime.now(UTC) + timedelta(hours=1), **changes)
    await stores.insert_task(**changes)
    cancelled = await stores.insert_task(**changes)
    await stores.tasks.cancel(TENANT, cancelled.id)


def every_filter(times: list[datetime], original: UUID) -> Iterator[TaskFilter]:
    """All combinations of some values of every filter."""
    states = [frozenset(TaskState), *(frozenset({state}) for state in TaskState)]
    states.append(frozenset({TaskState.FAILED, TaskState.CANCELLED}))
    agents: list[frozenset[UUID] | None] = [
        None,
        frozenset({AGENT}),
        frozenset({OTHER_AGENT}),
        frozenset({AGENT, OTHER_AGENT}),
        frozenset(),
    ]
    bounds = [(None, None), (times[5], times[20]), (times[9], None), (None, times[9])]
    for which, agent_ids, of, mode, (begin, end) in product(
        states, agents, [None, original, uuid4()], [None, "live", "test"], bounds
    ):
        yield TaskFilter(
            states=which,
            agent_ids=agent_ids,
            replay_of=of,
            mode=mode,
            created_from=begin,
            created_before=end,
        )


def matches(task: StoredTask, wanted: TaskFilter) -> bool:
    """What a filter means, said once more."""
    return (
        task.state in wanted.states
        and (wanted.mode is None or task.mode == wanted.mode)
        and (wanted.created_from is None or task.created_at >= wanted.created_from)
        and (wanted.created_before is None or task.created_at < wanted.created_before)
        and (
            wanted.agent_ids is None
            or (task.agent is not None and task.agent.agent_id in wanted.agent_ids)
        )
        and (
            wanted.replay_of is None
            or (task.replay is not None and task.replay.task_id == wanted.replay_of)
        )
    )


async def test_every_combination_of_filters_lists_what_it_says(
    stores: Stores, lists: ListStore
) -> None:
    await one_of_each_state(stores)
    await one_of_each_state(stores, agent=agent(OTHER_AGENT))
    original = await stores.insert_task(agent=agent(AGENT))
    replayed = {"agent": agent(AGENT), "replay": replay_of(original)}
    for mode in ("live", "test", "live", "test"):
        await stores.insert_task(mode=mode, **replayed)
    cancelled = await stores.insert_task(**replayed)
    await stores.tasks.cancel(TENANT, cancelled.id)
    await stores.insert_task(tenant_id=OTHER_TENANT, agent=agent(AGENT))
    rows = await stores.ask("SELECT id FROM scheduler.tasks WHERE tenant_id = %s", (TENANT,))
    tasks = [await stores.tasks.get(TENANT, row["id"]) for row in rows]
    newest_first = sorted(
        (task for task in tasks if task is not None),
        key=lambda task: (task.created_at, task.id),
        reverse=True,
    )
    assert {task.state for task in newest_first} == set(TaskState)
    times = [task.created_at for task in reversed(newest_first)]

    hits = 0
    for wanted in every_filter([*times, *times], original.id):
        listed = await walk(lists, wanted, page_size=5)
        expected = [task.id for task in newest_first if matches(task, wanted)]
        assert [task.id for task in listed] == expected, wanted
        hits += bool(expected)

    assert hits > 150


async def test_a_listed_task_is_the_task_without_its_plan(stores: Stores, lists: ListStore) -> None:
    await one_of_each_state(stores, agent=agent(AGENT))

    for listed in await walk(lists):
        task = await stores.tasks.get(TENANT, listed.id)
        assert task is not None
        assert listed == replace(task, plan=None, planner_note=None, tool_set=())
    assert [t.result for t in await walk(lists) if t.state is SUCCEEDED] == ['{"result":1}']


async def test_another_tenant_sees_nothing(stores: Stores, lists: ListStore) -> None:
    task = await stores.insert_task(agent=agent(AGENT))
    await stores.insert_task(agent=agent(AGENT), replay=replay_of(task))

    for wanted in (
        TaskFilter(),
        TaskFilter(agent_ids=frozenset({AGENT})),
        TaskFilter(replay_of=task.id),
    ):
        page = await lists.page(OTHER_TENANT, wanted, page_size=9)
        assert (page.tasks, page.is_last) == ((), True)
    assert (await lists.count(OTHER_TENANT)).waiting == 0


async def test_tasks_of_one_moment_keep_the_order_of_their_batch(
    stores: Stores, lists: ListStore
) -> None:
    ids = sorted(new_id() for _ in range(20))
    entries = [Entry(task=make_task(id=one), failure=None) for one in ids]

    stored = await stores.tasks.submit_batch(entries)

    assert stored is not None
    assert len({task.created_at for task in stored}) == 1
    assert [task.id for task in await walk(lists)] == list(reversed(ids))


async def test_what_comes_meanwhile_is_on_no_page_that_follows(
    stores: Stores, lists: ListStore
) -> None:
    """Whatever clock made its id: the order is that of the database's clock."""
    before = [(await stores.insert_task()).id for _ in range(9)]
    first = await lists.page(TENANT, TaskFilter(), page_size=3)
    for unix_ms in (0, 2**47):
        await stores.insert_task(id=new_id(unix_ms=unix_ms))
    last = first.tasks[-1]
    place = Place(last.created_at, last.id)

    rest = await lists.page(TENANT, TaskFilter(), after=place, page_size=50)

    assert [task.id for task in (*first.tasks, *rest.tasks)] == list(reversed(before))
    assert rest.is_last


async def test_a_late_commit_moves_nobody(stores: Stores, lists: ListStore) -> None:
    """One that was being stored when the first page was read is on one page or on none."""
    before = [(await stores.insert_task()).id for _ in range(4)]
    late = make_task()
    async with stores.hot.connection() as connection, connection.transaction():
        await connection.execute("SELECT now()")
        before += [(await stores.insert_task()).id for _ in range(4)]
        first = await lists.page(TENANT, TaskFilter(), page_size=3)
        await connection.execute(TASK_QUERIES["submit"], submit_parameters(late))
    last = first.tasks[-1]
    place = Place(last.created_at, last.id)

    rest = await lists.page(TENANT, TaskFilter(), after=place, page_size=50)

    found = [task.id for task in (*first.tasks, *rest.tasks)]
    assert [one for one in found if one != late.id] == list(reversed(before))
    assert found.count(late.id) == 1


async def test_cancels_while_a_list_is_read_skip_and_repeat_nobody(
    stores: Stores, lists: ListStore
) -> None:
    ids = [(await stores.insert_task()).id for _ in range(60)]

    async def cancel_all() -> None:
        for one in ids:
            await stores.tasks.cancel(TENANT, one)

    cancelling = asyncio.create_task(cancel_all())
    walks = [await walk(lists, page_size=7) for _ in range(5)]
    await cancelling

    for found in walks:
        assert [task.id for task in found] == list(reversed(ids))
    assert {task.state for task in await walk(lists)} == {TaskState.CANCELLED}


async def test_a_page_ends_early_when_its_texts_are_large(stores: Stores, lists: ListStore) -> None:
    sizes = [10, 10, PAGE_BYTES + 5, PAGE_BYTES // 3, PAGE_BYTES // 3, PAGE_BYTES // 3, 10, 10, 10]
    ids = [
        (await stores.insert_task(task_input=json.dumps({"x": "y" * size}))).id for size in sizes
    ]

    found: list[int] = []
    after, seen = BEGINNING, []
    while True:
        page = await lists.page(TENANT, TaskFilter(), after=after, page_size=50)
        found.append(len(page.tasks))
        seen += [task.id for task in page.tasks]
        if page.is_last:
            break
        after = Place(page.tasks[-1].created_at, page.tasks[-1].id)

    # The one that passes the bound is the last of its page; what is larger stands alone or last.
    assert found == [6, 1, 2]
    assert seen == list(reversed(ids))


async def test_what_has_not_ended_is_counted(stores: Stores, lists: ListStore) -> None:
    await one_of_each_state(stores)
    await stores.insert_task(mode="test")

    counts = await lists.count(TENANT)

    assert (counts.waiting, counts.running) == (4, 1)


async def test_no_filter_reads_much_more_than_its_page(database: Database) -> None:
    """Of a tenant with 20,000 tasks among others, also when it finds nothing."""
    filled = await asyncio.to_thread(fill, database.owner_dsn, tenant_id=TENANT, count=20_000)
    await asyncio.to_thread(fill, database.owner_dsn, tenant_id=OTHER_TENANT, count=5_000)
    await asyncio.to_thread(tidy, database.owner_dsn)
    oldest = datetime.now(UTC) - timedelta(days=29)
    blocks = {}
    async with await psycopg.AsyncConnection.connect(database.dsn("scheduler")) as connection:
        for which, agent_id, of, mode, before in product(
            [frozenset(TaskState), *(frozenset({state}) for state in TaskState)],
            [None, AGENTS[0], AGENTS[2], AGENTS[3]],
            [None, filled.replayed_id, uuid4()],
            [None, "test"],
            [None, oldest],
        ):
            wanted = TaskFilter(
                states=which,
                agent_ids=None if agent_id is None else frozenset({agent_id}),
                replay_of=of,
                mode=mode,
                created_before=before,
            )
            bound = list_parameters(TENANT, wanted, after=BEGINNING, page_size=50)
            blocks[wanted] = await _blocks_of(connection, bound)

    worst = max(blocks, key=lambda wanted: blocks[wanted])
    assert blocks[worst] < 1_500, worst


async def _blocks_of(connection: Any, bound: dict[str, object]) -> int:
    """How many pages of tables and indexes the statement touches; none in a sequence."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {QUERIES['list_tasks']}"
    cursor = await connection.execute(explain, bound)
    row = await cursor.fetchone()
    assert "Seq Scan" not in json.dumps(row[0])
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
