"""The scheduler's statements against real PostgreSQL: submit, claim, report, read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest
from google.protobuf import json_format

from libs.core.canonical import canonical_text
from libs.core.errors import Failure, FailureCode
from libs.core.hashing import task_hash
from libs.core.ids import new_id
from libs.core.lifecycle import TaskState
from libs.core.tool_spec import ToolRef
from libs.db.engine import Connection, open_pool
from libs.pb.pawl.events.v1.events_pb2 import TaskEventData
from services.scheduler.judgement import judge_lost
from services.scheduler.model import Renewal, Verdict
from services.scheduler.reports import Progress, broken_form
from services.scheduler.store import TaskStore
from services.scheduler.sweep_store import SweepStore
from services.scheduler.work_store import WorkStore
from tests.scheduler_world import MATH, OTHER_TENANT, TENANT, WAIT
from tests.servers import Database
from tests.store.scheduler_rows import (
    BROKE,
    Stores,
    make_stream,
    make_task,
    row,
    scheduler_stores,
)

pytestmark = pytest.mark.db

SUCCEEDED, FAILED = TaskState.SUCCEEDED, TaskState.FAILED


@pytest.fixture
async def stores(database: Database) -> AsyncIterator[Stores]:
    """The stores on a fresh database."""
    async with scheduler_stores(database) as stores:
        yield stores


async def step_hashes(stores: Stores, task_id: UUID) -> list[str]:
    rows = await stores.ask(
        "SELECT step_hash FROM scheduler.steps WHERE task_id = %s ORDER BY step_index", (task_id,)
    )
    return [row["step_hash"] for row in rows]


# ---------------------------------------------------------------- submit


async def test_submit_stores_task_with_three_events_and_one_outbox_row(stores: Stores) -> None:
    task = make_task(steps=2)

    stored = await stores.tasks.submit(task)

    assert stored is not None
    assert (stored.state, stored.seq, stored.tool_set) == (TaskState.QUEUED, 3, (MATH,))
    assert stored.plan is not None
    assert task.frozen is not None
    assert stored.plan == canonical_text(task.frozen.plan.as_json())
    assert await stores.history(task.id) == [
        "status_transition:created",
        "status_transition:planned",
        "status_transition:queued",
    ]
    outbox = await stores.ask("SELECT task_id, first_seq, last_seq FROM scheduler.outbox")
    assert outbox == [{"task_id": task.id, "first_seq": 1, "last_seq": 3}]
    assert await stores.tasks.get(TENANT, task.id) == stored


async def test_submit_without_key_writes_no_key(stores: Stores) -> None:
    await stores.insert_task()

    assert await stores.ask("SELECT * FROM scheduler.idempotency") == []


async def test_fifty_submits_with_one_key_make_one_task(stores: Stores) -> None:
    tasks = [make_task(key="k") for _ in range(50)]

    stored = await asyncio.gather(*(stores.tasks.submit(task) for task in tasks))

    (winner,) = [one for one in stored if one is not None]
    assert await stores.ask("SELECT id FROM scheduler.tasks") == [{"id": winner.id}]
    assert await stores.ask("SELECT count(*) AS n FROM scheduler.task_events") == [{"n": 3}]
    found = await stores.tasks.read_key(TENANT, "live", "k")
    assert found is not None
    assert found.task_ids == (winner.id,)


async def test_key_of_another_tenant_is_another_key(stores: Stores) -> None:
    await stores.insert_task(key="k")

    other = await stores.tasks.submit(make_task(key="k", tenant_id=OTHER_TENANT))

    assert other is not None
    assert await stores.tasks.read_key(TENANT, "live", "k") != await stores.tasks.read_key(
        OTHER_TENANT, "live", "k"
    )


async def test_expired_key_makes_exactly_one_new_task(stores: Stores) -> None:
    first = await stores.insert_task(key="k")
    await stores.ask(
        "UPDATE scheduler.idempotency SET created_at = now() - interval '24 hours 1 second'"
    )

    expired = await stores.tasks.read_key(TENANT, "live", "k")
    second = await stores.tasks.submit(make_task(key="k"))
    third = await stores.tasks.submit(make_task(key="k"))

    assert expired is None
    assert second is not None
    assert second.id != first.id
    assert third is None


async def test_unplannable_task_is_created_and_failed_at_once(stores: Stores) -> None:
    task = make_task(planned=False, key="k")
    failure = Failure(code=FailureCode.PLANNER_UNAVAILABLE, message="no. No step was executed.")

    stored = await stores.tasks.submit_failed(task, failure)
    again = await stores.tasks.submit_failed(make_task(planned=False, key="k"), failure)

    assert stored is not None
    assert (stored.state, stored.seq, stored.plan, stored.failure) == (FAILED, 2, None, failure)
    assert stored.task_hash == task_hash(
        "", step_hashes=[], state="failed", failure_code="PLANNER_UNAVAILABLE"
    )
    assert await stores.history(task.id) == [
        "status_transition:created",
        "status_transition:failed",
    ]
    assert again is None
    assert len(await stores.ask("SELECT * FROM scheduler.tasks")) == 1


# ---------------------------------------------------------------- claim


async def test_claim_gives_each_task_to_one_executor(stores: Stores) -> None:
    ids = {(await stores.insert_task()).id for _ in range(40)}
    streams = [await stores.connect(executor_id=f"ex-{n}") for n in range(8)]

    claimed = await asyncio.gather(*(stores.claim_apart(s, slots=5) for s in streams))

    got = [task.task_id for one in claimed for task in one.tasks]
    assert len(got) == len(set(got))
    rest = [task for s in streams for task in await stores.claim(s, slots=40)]
    assert set(got) | {task.task_id for task in rest} == ids


async def test_claim_says_all_that_the_executor_needs(stores: Stores) -> None:
    queued = await stores.insert_task(steps=2, traceparent="00-a", mode="test")
    stream = await stores.connect()

    (task,) = await stores.claim(stream, slots=5)

    assert (task.task_id, task.tenant_id, task.lease_token) == (queued.id, TENANT, 1)
    assert (task.mode, task.traceparent, task.request_id) == ("test", "00-a", "req_test")
    assert canonical_text(task.plan.as_json()) == queued.plan
    assert (task.closed_outputs, task.last_step_hash) == ((), "")
    assert 40 < task.seconds_left <= 45
    assert (await stores.history(queued.id))[3:] == ["status_transition:running"]


async def test_claim_takes_only_tasks_whose_exact_tools_are_offered(stores: Stores) -> None:
    newer = ToolRef("math", "2.0", "a" * 64)
    forged = ToolRef("math", "1.0", "c" * 64)
    wanted = await stores.insert_task(tool=WAIT)
    await stores.insert_task(tool=newer)
    await stores.insert_task(tool=forged)
    stream = await stores.connect(tools=(MATH, WAIT))

    claimed = await stores.claim(stream, slots=9)

    assert [task.task_id for task in claimed] == [wanted.id]


async def test_claim_goes_by_priority_then_in_turn_across_tenants(stores: Stores) -> None:
    mine = [(await stores.insert_task()).id for _ in range(4)]
    theirs = [(await stores.insert_task(tenant_id=OTHER_TENANT)).id for _ in range(2)]
    urgent = (await stores.insert_task(priority=5)).id
    stream = await stores.connect()

    order = [(await stores.claim(stream, slots=1))[0].task_id for _ in range(7)]

    assert order == [urgent, mine[0], theirs[0], mine[1], theirs[1], mine[2], mine[3]]


async def test_older_stream_of_a_boot_claims_nothing(stores: Stores) -> None:
    old = await stores.connect()
    new = await stores.connect(boot_id=old.boot_id)
    await stores.insert_task()

    assert await stores.claim(old, slots=1) == ()
    assert await stores.work.renew(old) is Renewal.REFUSED
    assert await stores.work.renew(new) is Renewal.IN_TIME
    assert len(await stores.claim(new, slots=1)) == 1


async def test_executor_whose_lease_ran_out_claims_nothing_until_it_renews(stores: Stores) -> None:
    stream = await stores.connect()
    await stores.insert_task()
    await stores.ask("UPDATE scheduler.executors SET lease_until = now() - interval '1 s'")

    assert await stores.claim(stream, slots=1) == ()
    assert await stores.work.renew(stream) is Renewal.AFTER_LAPSE
    assert len(await stores.claim(stream, slots=1)) == 1


async def test_new_boot_of_an_executor_ends_the_former_for_good(stores: Stores) -> None:
    former = await stores.connect(executor_id="ex")
    await stores.connect(executor_id="other")
    await stores.connect(executor_id="ex")
    await stores.insert_task()

    assert await stores.claim(former, slots=1) == ()
    assert await stores.work.renew(former) is Renewal.REFUSED
    again = make_stream(executor_id="ex", boot_id=former.boot_id)
    assert await stores.work.hello(again) is None
    ended = await stores.ask("SELECT count(*) AS n FROM scheduler.executors WHERE ended_at IS NULL")
    assert ended == [{"n": 2}]


# ---------------------------------------------------------------- report


async def test_verdicts_along_the_life_of_a_task(stores: Stores) -> None:
    stream, task = await stores.start(steps=2)

    async def report(**parts: object) -> str:
        return (await stores.report(stream, task, **parts)).value

    told = [
        await report(begins=2),
        await report(begins=1),
        await report(begins=1),
        await report(closes=1, begins=2, token=0),
        await report(closes=2, begins=3),
        await report(ends=SUCCEEDED),
        await report(closes=1, begins=2),
        await report(closes=1, begins=2),
        await report(closes=1),
        await report(closes=2, begins=3),
        await report(closes=2, ends=SUCCEEDED),
        await report(closes=2, ends=SUCCEEDED),
        await report(ends=SUCCEEDED),
        await report(begins=2),
        await report(begins=1, token=2),
    ]

    assert told == [
        "STALE_LEASE",
        "OK",
        "SEEN",
        "STALE_LEASE",
        "STALE_LEASE",
        "STALE_LEASE",
        "OK",
        "SEEN",
        "SEEN",
        "STALE_LEASE",
        "OK",
        "SEEN",
        "SEEN",
        "TERMINAL",
        "STALE_LEASE",
    ]
    assert (await stores.history(task.task_id))[3:] == [
        "status_transition:running",
        "step_started:running",
        "step_finished:running",
        "step_started:running",
        "step_finished:running",
        "status_transition:succeeded",
    ]


@pytest.mark.parametrize("how", ["token", "boot"])
async def test_stale_report_writes_nothing(stores: Stores, how: str) -> None:
    stream, task = await stores.start(begun=1)
    before = await stores.dump()

    if how == "token":
        verdict = await stores.report(stream, task, closes=1, begins=2, token=task.lease_token - 1)
    else:
        verdict = await stores.report(make_stream(), task, closes=1, begins=2)

    assert verdict is Verdict.STALE_LEASE
    assert await stores.dump() == before


async def test_report_sent_again_is_seen_and_writes_nothing(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.OK
    before = await stores.dump()

    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.SEEN
    assert await stores.dump() == before


async def test_one_statement_judges_many_reports_each_for_itself(stores: Stores) -> None:
    for _ in range(4):
        await stores.insert_task()
    stream = await stores.connect()
    good, again, stale, late = await stores.claim(stream, slots=4)
    await stores.report(stream, again, begins=1)
    await stores.ask(
        "UPDATE scheduler.tasks SET cancel_requested_at = now() WHERE id = %s", (late.task_id,)
    )
    unknown = new_id()

    fates = await stores.work.report(
        [
            row(stream, good, begins=1),
            row(stream, again, begins=1),
            row(stream, stale, begins=1, token=7),
            row(stream, late, begins=1),
        ]
    )

    assert {task_id: fate.verdict.value for task_id, fate in fates.items()} == {
        good.task_id: "OK",
        again.task_id: "SEEN",
        stale.task_id: "STALE_LEASE",
        late.task_id: "LATE",
    }
    assert unknown not in fates


async def test_cancel_that_was_committed_first_wins(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    await stores.ask(
        "UPDATE scheduler.tasks SET cancel_requested_at = now() WHERE id = %s", (task.task_id,)
    )

    verdict = await stores.report(stream, task, closes=2, ends=SUCCEEDED)

    assert verdict is Verdict.LATE
    stored = await stores.tasks.get(TENANT, task.task_id)
    assert stored is not None
    assert (stored.state, stored.failure, stored.result) == (TaskState.CANCELLED, None, None)
    hashes = await step_hashes(stores, task.task_id)
    assert len(hashes) == 2
    assert stored.task_hash == task_hash(
        stored.plan_hash, step_hashes=hashes, state="cancelled", failure_code=None
    )


async def test_report_after_the_end_records_nothing(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    ended = broken_form(task, boot_id=stream.boot_id, progress=Progress(begun=1, closed=0))
    await stores.work.report([ended])

    assert await stores.report(stream, task, closes=1, begins=2) is Verdict.TERMINAL
    assert await step_hashes(stores, task.task_id) == []


async def test_report_cannot_pass_a_guard(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    before = await stores.dump()

    with pytest.raises(psycopg.errors.CheckViolation, match="steps_hash_is_sha256"):
        await stores.report(stream, task, closes=1, begins=2, step_hash="none")
    with pytest.raises(psycopg.errors.CheckViolation, match="tasks_forward"):
        await stores.report(stream, task, closes=1, ends=TaskState.QUEUED)

    assert await stores.dump() == before


async def test_times_of_a_task_never_go_back_though_the_clock_does(stores: Stores) -> None:
    stream, task = await stores.start(begun=1)
    await stores.ask(
        "UPDATE scheduler.tasks SET changed_at = now() + interval '1 hour' WHERE id = %s",
        (task.task_id,),
    )

    await stores.report(stream, task, closes=1, begins=2)

    rows = await stores.ask(
        "SELECT e.at, e.data FROM scheduler.task_events e WHERE task_id = %s ORDER BY seq",
        (task.task_id,),
    )
    times = [row["at"] for row in rows]
    assert times == sorted(times)
    assert (times[-1] - times[0]).total_seconds() > 3000


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("ends", [SUCCEEDED, FAILED])
async def test_task_hash_of_the_statement_is_that_of_the_library(
    stores: Stores, steps: int, ends: TaskState
) -> None:
    stream, task = await stores.start(steps=steps, begun=steps)
    failure = BROKE if ends is FAILED else None

    await stores.report(stream, task, closes=steps, ends=ends, failure=failure)

    stored = await stores.tasks.get(TENANT, task.task_id)
    assert stored is not None
    assert stored.task_hash == task_hash(
        stored.plan_hash,
        step_hashes=await step_hashes(stores, task.task_id),
        state=ends.value,
        failure_code="TOOL_ERROR" if failure else None,
    )


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
@pytest.mark.parametrize("hashes", [[], ["a" * 64], ["a" * 64, "b" * 64]])
@pytest.mark.parametrize("plan", ["", "c" * 64])
async def test_hash_function_equals_the_library(
    stores: Stores, state: str, hashes: list[str], plan: str
) -> None:
    code = "TIMEOUT" if state == "failed" else None

    rows = await stores.ask(
        "SELECT scheduler.task_hash(%s, %s::text[], %s, %s) AS hash", (plan, hashes, state, code)
    )

    assert rows[0]["hash"] == task_hash(plan, step_hashes=hashes, state=state, failure_code=code)


async def test_every_event_carries_its_row_as_task_event_data(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    await stores.report(stream, task, closes=2, ends=FAILED, failure=BROKE)

    rows = await stores.ask("SELECT * FROM scheduler.task_events ORDER BY seq")

    events = [json_format.Parse(row["data"], TaskEventData()) for row in rows]
    for row_, event in zip(rows, events, strict=True):
        assert (event.task_id, event.tenant_id) == (str(task.task_id), str(TENANT))
        assert (event.seq, event.to_state, event.mode) == (row_["seq"], row_["to_state"], "live")
        assert (event.from_state or None) == row_["from_state"]
        assert event.at == f"{row_['at']:%Y-%m-%dT%H:%M:%S.%f}Z"
    finished, end = events[-2], events[-1]
    assert (finished.step_index, finished.tool, finished.status) == (2, "math", "failed")
    assert (finished.step_hash, finished.failure_code) == (f"{2:064x}", "TOOL_ERROR")
    stored = await stores.tasks.get(TENANT, task.task_id)
    assert stored is not None
    assert (end.failure_code, end.task_hash) == ("TOOL_ERROR", stored.task_hash)
    assert "step_index" not in json.loads(rows[0]["data"])


# ---------------------------------------------------------------- read


async def test_result_is_the_last_output_and_only_of_a_task_that_succeeded(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    running = await stores.tasks.get(TENANT, task.task_id)

    await stores.report(stream, task, closes=2, ends=SUCCEEDED)

    ended = await stores.tasks.get(TENANT, task.task_id)
    assert running is not None
    assert ended is not None
    assert (running.result, ended.result) == (None, '{"result":2}')
    assert (running.cost_usd, ended.cost_usd) == (0.25, 0.5)


async def test_failed_step_keeps_its_failure(stores: Stores) -> None:
    stream, task = await stores.start(steps=1, begun=1)
    await stores.report(stream, task, closes=1, ends=FAILED, failure=BROKE)

    ended = await stores.tasks.get(TENANT, task.task_id)
    assert ended is not None
    ((step, tool),) = await stores.tasks.steps(ended, first=1, last=1)

    assert (ended.failure, step.failure, step.output, tool) == (BROKE, BROKE, None, "math")


async def test_another_tenant_sees_nothing(stores: Stores) -> None:
    stream, task = await stores.start(steps=2, begun=2)
    await stores.report(stream, task, closes=2, ends=SUCCEEDED)
    mine = await stores.tasks.get(TENANT, task.task_id)
    assert mine is not None
    theirs = type(mine)(
        **{n: getattr(mine, n) for n in mine.__slots__} | {"tenant_id": OTHER_TENANT}
    )

    assert await stores.tasks.get(OTHER_TENANT, task.task_id) is None
    assert await stores.tasks.events(OTHER_TENANT, task.task_id, after=0, limit=10) == []
    assert await stores.tasks.step_sizes(theirs) == []
    assert await stores.tasks.steps(theirs, first=1, last=9) == []


async def test_held_says_what_a_boot_runs_with_what_is_closed(stores: Stores) -> None:
    stream, task = await stores.start(begun=2)

    (held,) = await stores.work.held(stream.boot_id)

    assert (held.task_id, held.lease_token, held.is_step_open) == (task.task_id, 1, True)
    assert held.closed_outputs == ('{"result":1}',)
    assert held.last_step_hash == f"{1:064x}"


async def test_hot_statements_reach_rows_by_index_on_empty_tables(stores: Stores) -> None:
    """A plan that was cached while tables were empty must still be right when they are full."""
    for table in ("tasks", "task_events", "steps", "outbox", "executors", "idempotency"):
        await stores.ask(f"VACUUM ANALYZE scheduler.{table}")
    one = await open_pool(
        stores.database.dsn("scheduler"), name="one", min_size=1, max_size=1, hot=True
    )
    try:
        work = WorkStore(one, lease_seconds=10)
        # One connection, so that it has prepared all of them.
        work._writing = (work._claiming,)
        tasks = TaskStore(hot=one, pool=one)
        lone = replace(
            stores,
            tasks=tasks,
            work=work,
            sweeps=SweepStore(one, lease_seconds=10),
        )
        stream, task = await lone.start(begun=2)
        await lone.report(stream, task, closes=2, begins=3)
        await work.close()
        await lone.tasks.get(TENANT, task.task_id)
        await tasks.close()
        await lone.tasks.queue_view(TENANT, task.task_id)
        await lone.tasks.cancel(TENANT, task.task_id)
        await lone.work.end_stream(stream)
        await lone.work.end_boot(stream)
        await lone.sweeps.sweep()
        await lone.sweeps.queue_due()
        await lone.sweeps.due_tasks()
        await lone.sweeps.settle([judge_lost(one) for one in await lone.sweeps.lost_tasks()])
        await lone.sweeps.settle_boots()
        async with one.connection() as connection:
            plans = await _plans(connection)
    finally:
        await one.close()

    assert len(plans) >= 15
    for statement, plan in plans.items():
        assert "Seq Scan on" not in plan, statement
        assert "Hash Join" not in plan, statement
        assert "Merge Join" not in plan, statement


async def _plans(connection: Connection) -> dict[str, str]:
    """The plan of every statement on tasks that this connection has prepared."""
    cursor = await connection.execute(
        "SELECT name, statement, cardinality(parameter_types) AS parameters"
        " FROM pg_prepared_statements WHERE statement LIKE '%scheduler.%'"
    )
    plans = {}
    for one in await cursor.fetchall():
        nulls = f"({', '.join(['NULL'] * one['parameters'])})" if one["parameters"] else ""
        rows = await connection.execute(f"EXPLAIN EXECUTE {one['name']} {nulls}".encode())
        plans[one["statement"]] = "\n".join(r["QUERY PLAN"] for r in await rows.fetchall())
    return plans
